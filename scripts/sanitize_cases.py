"""Runs every operation once forward and backward on small CUDA inputs, for compute-sanitizer to watch.

    compute-sanitizer --tool memcheck python scripts/sanitize_cases.py [DEVICE]

The cases are those of the tests; the results are compared with the CPU's, integers to the bit.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cases import CASES, gradients
from scenes import assert_close, make_scene, tensors_of


def main() -> None:
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cuda")
    for n, views in ((700, 3), (0, 2)):  # more than two tiles of points, and none
        here, there = (make_scene(n, views, device=d, finite=True) for d in (torch.device("cpu"), device))
        for case in CASES:
            assert_close(tuple(t.cpu() for t in tensors_of(case(there))), case(here))
            if case.differentiable:
                gradients(case.call(), case.arguments(there))
            print(f"{case}, {n} points: done", flush=True)


if __name__ == "__main__":
    main()
