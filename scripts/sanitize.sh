#!/usr/bin/env bash
# Is the native core free of wrong accesses, undefined arithmetic and races? Builds tests/native, which runs every
# operation of csrc/ops.hpp on small and odd inputs, with g++'s sanitizers and runs it. No Python, no torch, no CUDA.
#
#   scripts/sanitize.sh [memory|threads]
#
# memory: address and undefined-behaviour sanitizers, threads by OpenMP. threads: the thread sanitizer, by std::thread.
# Without an argument both: about two minutes of processor time. CXX (default g++) is a compiler with these sanitizers;
# JOBS files (default: one per core) are compiled at a time, in up to 350 MB each.
set -euo pipefail
cd "$(dirname "$0")/.."

stages="memory threads"
if [ $# -gt 1 ] || ! [[ " $stages " == *" ${1:-memory} "* ]]; then
  echo "usage: sanitize.sh [memory|threads]" >&2
  exit 2
fi

# CMakeLists.txt's arithmetic; -O0 builds several times as fast as -O1 and takes no access away before it is looked at.
flags="-std=c++17 -O0 -g -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -Wextra -Werror -Icsrc -DP2D3D_ONE_ISA"
declare -A sanitizers=(
  [memory]="-fopenmp -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
  [threads]="-pthread -DP2D3D_STD_THREAD -fsanitize=thread"
)

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
for stage in ${1:-$stages}; do
  export COMPILE="${CXX:-g++} $flags ${sanitizers[$stage]}" OUT="$build/$stage"
  mkdir "$OUT"
  # shellcheck disable=SC2016 # for the inner shell; the largest first, so that no core waits for the last
  find csrc tests/native \( -name '*.cu' -o -path '*/native/*.cpp' \) -printf '%s %p\n' | sort -rn | cut -d ' ' -f 2 |
    xargs -P "${JOBS:-$(nproc)}" -n 1 sh -c '$COMPILE -x c++ -c "$0" -o "$OUT/$(basename "$0").o"'
  $COMPILE "$OUT"/*.o -o "$OUT/drive"
  echo "$stage: built after $SECONDS s"
  # Addresses that are randomized by more bits than gcc 12 expects stop its thread sanitizer.
  run=$(setarch -R true 2>/dev/null && echo "setarch -R" || true)
  OMP_WAIT_POLICY=passive TSAN_OPTIONS=halt_on_error=1 $run "$OUT/drive"
  echo "$stage: passed after $SECONDS s"
done
