#!/usr/bin/env bash
# Does the project hold on the GPU at hand? Builds with CUDA for it, then runs the tests, the benchmarks and
# compute-sanitizer there. Needs no network.
#
#   scripts/gpu_check.sh [OUT] [build|test|bench|sanitize]
#
# OUT (default build/gpu_check/out) gets a log of each stage, bench.md and bench.json: six files at most. Without a
# stage all run in turn. Each takes under 8 minutes, and one that finds no build makes it first. A compute-sanitizer that
# is absent or does not work on this device is reported and fails nothing.
#
# PYTHON (default python3) has a CUDA build of torch, numpy, scikit-build-core, pybind11, pytest, pytest-timeout and
# hypothesis; wheels of what it lacks may lie in the folder WHEELS. nvcc is on PATH, in CUDA_HOME or in /usr/local/cuda.
# Everything is installed into build/gpu_check and nothing into PYTHON. Peers and real data that are not there are
# skipped by name. DEVICE=cpu CUDAARCHS=90 tries the script itself on a machine without a GPU.
set -euo pipefail

stages="build test bench sanitize"
root=$(cd "$(dirname "$0")/.." && pwd)
work="$root/build/gpu_check"
out="$work/out"
if [ $# -gt 0 ] && ! [[ " $stages " == *" $1 "* ]]; then
  out=$1
  shift
fi
if [ $# -gt 1 ] || ! [[ " $stages " == *" ${1:-build} "* ]]; then
  echo "usage: gpu_check.sh [OUT] [build|test|bench|sanitize]" >&2
  exit 2
fi
chosen=${1:-$stages}

python=${PYTHON:-python3}
device=${DEVICE:-cuda}
limit=470 # seconds of a stage
mkdir -p "$out" "$work"
out=$(cd "$out" && pwd)
export PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin"
export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}:$root" # the last for spawned workers, which import tests
cd "$work" # where no folder is called pyproj2d3d: the checkout has no native core

describe() {
  "$python" - "$device" <<'PYTHON'
import sys, torch
print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, CUDA {torch.version.cuda}", end=", ")
if sys.argv[1] == "cuda":
    if not torch.cuda.is_available():
        sys.exit("but no CUDA device that torch can use")
    print(f"{torch.cuda.get_device_name()}, compute capability {'.'.join(map(str, torch.cuda.get_device_capability()))}")
else:
    print("on the CPU")
PYTHON
}

build() {
  rm -rf "$work/site"
  if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$WHEELS"/*.whl
  fi
  timeout "$limit" "$python" -m pip install -q --no-index --no-build-isolation --no-deps --no-compile --target "$work/new" \
    --upgrade -C build-dir="$work/cmake" -C cmake.define.PYPROJ2D3D_CUDA=ON \
    -C cmake.define.CMAKE_CUDA_ARCHITECTURES="${CUDAARCHS:-native}" "$root"
  mkdir -p "$work/site"
  cp -r "$work/new/." "$work/site/"
  rm -rf "$work/new"
  "$python" -c 'from pyproj2d3d.cli import main; main(["info"])'
}

built() {
  [ -d "$work/site/pyproj2d3d" ] || build
}

run_pytest() {
  timeout "$limit" "$python" -m pytest -c "$root/pyproject.toml" --rootdir "$root" -p no:cacheprovider \
    --device="$device" "$@"
}

run_tests() {
  built
  run_pytest -q --durations=10 "$root/tests"
}

run_benchmarks() {
  built
  run_pytest -q --save "$out/bench.md" "$root/benchmarks"
}

run_sanitizer() {
  built
  if ! command -v compute-sanitizer >/dev/null; then
    echo "REPORTED: there is no compute-sanitizer on PATH, in CUDA_HOME or in /usr/local/cuda"
    return
  fi
  compute-sanitizer --version | tail -n 2
  # torch's caching allocator would hide an access beyond a tensor that stays within its pool
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  if ! timeout 60 compute-sanitizer --error-exitcode 99 "$python" -c \
    "import torch; assert torch.zeros(1, device='$device').item() == 0"; then
    echo "REPORTED: compute-sanitizer does not work on this device, even for torch.zeros(1)"
    return
  fi
  local failed=0 tool
  for tool in memcheck racecheck initcheck; do
    echo "-- $tool"
    timeout 130 compute-sanitizer --tool "$tool" --error-exitcode 99 --print-limit 20 \
      "$python" "$root/scripts/sanitize_cases.py" "$device" || failed=1
  done
  return "$failed"
}

run() {
  describe
  case $1 in
    build) build ;;
    test) run_tests ;;
    bench) run_benchmarks ;;
    sanitize) run_sanitizer ;;
  esac
}

failed=0
for stage in $chosen; do
  started=$SECONDS
  echo "== $stage"
  set +e # and on again inside, which in the condition of an if it could not be
  (set -e; run "$stage") 2>&1 | tee "$out/$stage.log"
  status=${PIPESTATUS[0]}
  set -e
  echo "== $stage: status $status after $((SECONDS - started)) s" | tee -a "$out/$stage.log"
  if [ "$status" -ne 0 ]; then
    failed=1
    [ "$stage" != build ] || break
  fi
done
exit "$failed"
