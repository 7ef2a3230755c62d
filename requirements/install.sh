#!/usr/bin/env bash
# Makes .venv from the hashed requirements. Idempotent: does nothing while its inputs are unchanged.
# PYTHON chooses the interpreter (3.10 or 3.11). Called by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 2; }

inputs_digest() { cat requirements/*.txt requirements/install.sh pyproject.toml | sha256sum | cut -d' ' -f1; }
digest=$(inputs_digest)
if [ "$(cat $venv/.installed 2>/dev/null)" = "$digest" ] && [ -x $venv/bin/hetero-tfdata ] && $venv/bin/python -c '' 2>/dev/null; then
  exit 0
fi

# --- what a stranger's machine may lack, before anything is downloaded ---
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
python=""
seen=""
for candidate in ${PYTHON:-python3.11 python3.10 python3}; do
  version=$(version_of "$candidate") || continue
  seen="$seen $candidate=$version"
  case $version in 3.10 | 3.11) python=$candidate; break ;; esac
done
[ -n "$python" ] || fail "expected Python 3.10 or 3.11 (Horovod and TensorFlow Addons support no newer one), found:${seen:- none}. Install one and run: make setup PYTHON=/path/to/python3.11"
compiler=${CXX:-$(command -v g++ || command -v clang++ || true)}
[ -n "$compiler" ] && command -v "$compiler" >/dev/null 2>&1 || fail "expected a C++ compiler to build Horovod, found ${CXX:-none}. Install one (Debian and Ubuntu: apt install g++) and run make setup again"
command -v make >/dev/null 2>&1 || fail "expected make to build Horovod, found none. Install it (Debian and Ubuntu: apt install make)"

# --- the environment ---
rm -f $venv/.installed
if [ "$(version_of $venv/bin/python || true)" != "$version" ]; then
  rm -rf $venv
  say "creating $venv with Python $version"
  "$python" -m venv $venv >/dev/null || { rm -rf $venv; fail "$python can't create a virtual environment (Debian and Ubuntu: apt install python$version-venv)"; }
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PATH="$PWD/$venv/bin:$PATH" VIRTUAL_ENV="$PWD/$venv"
$venv/bin/python -m pip install -q --require-hashes -r requirements/bootstrap.txt
say "installing TensorFlow and the tools (about 2 GB on disk)"
# Compiled once: where PYTHONDONTWRITEBYTECODE is set, importing TensorFlow would take 10 s instead of 3 in every process.
$venv/bin/uv pip install -q --no-deps --require-hashes --compile-bytecode -r requirements/dev.txt

# --- Horovod: no wheels are published, so it is built here, once per TensorFlow version and interpreter. pip's and uv's own
# wheel caches know a wheel by its source alone and would hand one built for another TensorFlow on: they are not used. ---
tensorflow=$($venv/bin/python -c 'from importlib.metadata import version as v; print(v("tensorflow-cpu"))')
wheels=${XDG_CACHE_HOME:-$HOME/.cache}/hetero-tfdata/horovod-tf$tensorflow-py$version-$(uname -m)
built=$(ls "$wheels"/horovod-*.whl 2>/dev/null | head -1 || true)
if [ -z "$built" ]; then
  mkdir -p "$wheels"
  building=$(mktemp -d "$wheels/building.XXXXXX")
  trap 'rm -rf "$building"' EXIT
  log=$venv/horovod-build.log
  HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 CXX="$compiler" \
    MAKEFLAGS="-j$(nproc)" $venv/bin/python -m pip wheel --no-deps --no-build-isolation --no-cache-dir --require-hashes \
    -r requirements/horovod.txt -w "$building" >"$log" 2>&1 &
  build=$!
  seconds=0
  while kill -0 $build 2>/dev/null; do
    [ $((seconds % 20)) = 0 ] && say "building Horovod for TensorFlow $tensorflow, $seconds s (2 to 5 minutes on 2 cores, once; log: $log)"
    sleep 1
    seconds=$((seconds + 1))
  done
  wait $build || { tail -25 "$log" >&2; fail "Horovod did not build: the end of $log stands above"; }
  mv "$building"/horovod-*.whl "$wheels/"
  built=$(ls "$wheels"/horovod-*.whl | head -1)
fi
$venv/bin/uv pip install -q --no-deps --no-cache --reinstall-package horovod "$built"
$venv/bin/uv pip install -q --no-deps --no-build-isolation -e .
echo "$digest" >$venv/.installed
say "done: Python $version, TensorFlow $tensorflow, $(basename "$built")"
