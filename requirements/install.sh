#!/usr/bin/env bash
# Makes .venv from the hashed requirements. Idempotent: does nothing while its inputs are unchanged.
# PYTHON chooses the interpreter (3.10 or 3.11). Called by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 2; }

inputs_digest() { cat requirements/*.txt requirements/*.sh pyproject.toml | sha256sum | cut -d' ' -f1; }
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

# --- Horovod: no wheels are published ---
. requirements/horovod.sh
horovod_wheel $venv/bin/python "$compiler" $venv/horovod-build.log "" HOROVOD_WITHOUT_MPI=1
$venv/bin/uv pip install -q --no-deps --no-cache --reinstall-package horovod "$horovod"
$venv/bin/uv pip install -q --no-deps --no-build-isolation -e .
echo "$digest" >$venv/.installed
say "done: Python $version, TensorFlow $($venv/bin/python -c 'from importlib.metadata import version as v; print(v("tensorflow-cpu"))'), $(basename "$horovod")"
