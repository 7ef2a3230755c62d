#!/usr/bin/env bash
# Makes an environment of `make test-matrix`, .cache/matrix/NAME: install.sh NAME PYTHON REQUIREMENTS [horovod]. There the package is a
# wheel, installed without an index, anew each time; the rest stays until its requirements change. Called by tests/matrix.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=$1
interpreter=$2
requirements=$3
has_horovod=${4:-}
folder=.cache/matrix/$name
python=$folder/bin/python
say() { printf 'matrix: %s\n' "$*"; }
fail() { printf 'matrix: %s\n' "$*" >&2; exit 2; }
uv=.venv/bin/uv
[ -x $uv ] || fail "expected $uv, found none; run make setup"
export PIP_DISABLE_PIP_VERSION_CHECK=1

. requirements/horovod.sh
digest=$(cat "$requirements" requirements/horovod.* requirements/matrix/install.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat "$folder/.installed" 2>/dev/null)" != "$digest" ] || ! "$python" -c '' 2>/dev/null; then
  say "making $folder"
  $uv venv -q --clear --python "$interpreter" "$folder"
  $uv pip install -q --no-deps --require-hashes --compile-bytecode --python "$python" -r "$requirements"
  if [ -n "$has_horovod" ]; then
    compiler=${CXX:-$(command -v g++ || command -v clang++ || true)}
    [ -n "$compiler" ] || fail "expected a C++ compiler to build Horovod, found none (Debian and Ubuntu: apt install g++)"
    if command -v mpicxx >/dev/null; then
      kind=(-mpi HOROVOD_WITH_MPI=1)
    else
      say "Horovod without MPI: there is no mpicxx (Debian and Ubuntu: apt install libopenmpi-dev)"
      kind=("" HOROVOD_WITHOUT_MPI=1)
    fi
    PATH="$PWD/$folder/bin:$PATH" horovod_wheel "$python" "$compiler" "$folder/horovod-build.log" "${kind[@]}"
    $uv pip install -q --no-deps --no-cache --reinstall-package horovod --python "$python" "$horovod"
  fi
  echo "$digest" >"$folder/.installed"
fi

rm -rf "$folder/wheel"
$uv build -q --wheel --no-build-isolation --python .venv/bin/python --no-create-gitignore -o "$folder/wheel" .
# without an index: everything that the package needs came with TensorFlow
$uv pip install -q --no-index --reinstall-package hetero-tfdata --python "$python" "$folder"/wheel/*.whl
