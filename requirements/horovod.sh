# Sourced by install.sh and toolkit/install.sh. Horovod publishes no wheels, so it is built, once per TensorFlow version,
# interpreter and kind (with MPI or without). pip's and uv's own wheel caches know a wheel by its source alone and would hand
# one built for another TensorFlow on: they are not used. Expects: say, fail, the environment's bin first on PATH.

# horovod_wheel PYTHON COMPILER LOG [SUFFIX [VARIABLE=VALUE ...]]: the built wheel's path in $horovod.
horovod_wheel() {
  local python=$1 compiler=$2 log=$3 suffix=${4:-} tensorflow version wheels building build seconds
  shift 3
  [ $# -eq 0 ] || shift
  tensorflow=$("$python" -c 'from importlib.metadata import version as v; print(v("tensorflow-cpu"))')
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  wheels=${XDG_CACHE_HOME:-$HOME/.cache}/hetero-tfdata/horovod-tf$tensorflow-py$version-$(uname -m)$suffix
  horovod=$(ls "$wheels"/horovod-*.whl 2>/dev/null | head -1 || true)
  [ -z "$horovod" ] || return 0
  mkdir -p "$wheels"
  building=$(mktemp -d "$wheels/building.XXXXXX")
  trap "rm -rf '$building'" EXIT
  env HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1 "$@" CXX="$compiler" \
    MAKEFLAGS="-j$(nproc)" "$python" -m pip wheel --no-deps --no-build-isolation --no-cache-dir --require-hashes \
    -r requirements/horovod.txt -w "$building" >"$log" 2>&1 &
  build=$!
  seconds=0
  while kill -0 $build 2>/dev/null; do
    [ $((seconds % 20)) = 0 ] && say "building Horovod for TensorFlow $tensorflow$suffix, $seconds s (2 to 5 minutes on 2 cores, once; log: $log)"
    sleep 1
    seconds=$((seconds + 1))
  done
  wait $build || { tail -25 "$log" >&2; fail "Horovod did not build: the end of $log stands above"; }
  mv "$building"/horovod-*.whl "$wheels/"
  rm -rf "$building"
  horovod=$(ls "$wheels"/horovod-*.whl | head -1)
}
