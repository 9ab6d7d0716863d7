#!/usr/bin/env bash
# One wheel, two torches: builds it once, without torch, and runs the tests beside torch 2.13.0 (CPU) and beside another
# (the newest by default, a CUDA build of several GB, whether or not there is a driver).
#
#   scripts/two_torches.sh [TORCH]     for example: scripts/two_torches.sh torch==2.14.1
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m pip wheel -q --no-deps -w "$scratch" .
wheel=$(ls "$scratch"/*.whl)
for torch in torch==2.13.0 "${1:-torch}"; do
  python3 -m venv --clear "$scratch/venv"
  "$scratch/venv/bin/pip" install -q "$torch"
  "$scratch/venv/bin/pip" install -q "${wheel}[test]"
  "$scratch/venv/bin/python" -c 'import torch; print("\n== torch", torch.__version__, "CUDA", torch.version.cuda)'
  "$scratch/venv/bin/pytest" -q
done
