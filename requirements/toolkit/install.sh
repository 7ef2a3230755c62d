#!/usr/bin/env bash
# Makes the environments of `make test-toolkit` under .cache/toolkit: 5, the development environment with mpi4py and a Horovod
# that has MPI; 4.9, sagemaker-training 4.9 with mpi4py, without TensorFlow. Idempotent. Called by `make setup-toolkit`.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv
folder=.cache/toolkit
say() { printf 'setup-toolkit: %s\n' "$*"; }
fail() { printf 'setup-toolkit: %s\n' "$*" >&2; exit 2; }

# --- what a stranger's machine may lack: Open MPI with its headers, an ssh server, ip ---
missing=()
needs() { [ -n "$(PATH="$PATH:${SBIN-/usr/sbin:/sbin}" command -v "$1" || true)" ] || missing+=("$2"); }
needs mpirun openmpi-bin
needs mpicxx libopenmpi-dev
needs sshd openssh-server
needs ssh-keygen openssh-client
needs ip iproute2
[ ${#missing[@]} = 0 ] || fail "missing Debian packages; install them: apt install ${missing[*]}"
compiler=${CXX:-$(command -v g++ || command -v clang++ || true)}
[ -n "$compiler" ] || fail "expected a C++ compiler to build Horovod, found none (Debian and Ubuntu: apt install g++)"

. requirements/horovod.sh
export PIP_DISABLE_PIP_VERSION_CHECK=1

# install NAME REQUIREMENTS...: .cache/toolkit/NAME, unless it is there with the same ones.
install() {
  local name=$1 python=$folder/$1/bin/python digest
  shift
  digest=$(cat "$@" requirements/horovod.* requirements/toolkit/install.sh | sha256sum | cut -d' ' -f1)
  [ "$(cat "$folder/$name/.installed" 2>/dev/null)" = "$digest" ] && "$python" -c '' 2>/dev/null && return 0
  say "making $folder/$name"
  $venv/bin/uv venv -q --clear --python "$($venv/bin/python -c 'import sys; print(sys._base_executable)')" "$folder/$name"
  $venv/bin/uv pip install -q --no-deps --require-hashes --compile-bytecode --python "$python" "${@/#/-r}"
  if [ "$name" = 5 ]; then
    PATH="$PWD/$folder/$name/bin:$PATH" horovod_wheel "$python" "$compiler" "$folder/$name/horovod-build.log" -mpi HOROVOD_WITH_MPI=1
    $venv/bin/uv pip install -q --no-deps --no-cache --reinstall-package horovod --python "$python" "$horovod"
  fi
  $venv/bin/uv pip install -q --no-deps --no-build-isolation --python "$python" -e .
  echo "$digest" >"$folder/$name/.installed"
  say "done: $folder/$name, sagemaker-training $("$python" -c 'from importlib.metadata import version as v; print(v("sagemaker-training"))')"
}
install 5 requirements/dev.txt requirements/toolkit/5.txt
install 4.9 requirements/toolkit/4.9.txt
