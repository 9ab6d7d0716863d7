"""farthest_point_sample: which few points cover a cloud? 2,048 of a room, and of each of eight clouds."""

from __future__ import annotations

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import reference

from .conftest import OURS, Timed
from .measuring import Contender
from .workloads import room_cloud

FULL, TINY = {"points": 40_000, "samples": 2_048}, {"points": 1_000, "samples": 64}
MANY, TINY_MANY = FULL | {"clouds": 8}, TINY | {"clouds": 3}
LARGE = {"points": 1_000_000, "samples": 2_048}
TORCH, NORM = "torch best (squares summed)", "torch, as PointNet++ has it (batched)"


def one_cloud(device: torch.device, points: int, samples: int) -> dict[str, Contender | str]:
    """farthest_point_sample of a room."""
    cloud, _ = room_cloud(device, points)
    return {
        OURS: lambda: pyproj2d3d.farthest_point_sample(cloud, samples),
        "plain torch": lambda: reference.farthest_point_sample(cloud, samples),
        TORCH: lambda: rounds(cloud, samples),
        NORM: lambda: batched_rounds(cloud[None], samples)[0],
    }


def bench_farthest_point_sample(timed: Timed) -> None:
    goals = {"plain torch": 3.0, TORCH: 3.0, NORM: 3.0}
    results = timed(one_cloud, full=FULL, tiny=TINY, moved=moved, goals=goals, memory=True, rounds=2)
    for name, found in results.items():
        assert torch.equal(found, results[OURS]), name


def large_cloud(device: torch.device, points: int, samples: int) -> dict[str, Contender | str]:
    """farthest_point_sample of a large cloud."""
    cloud, _ = room_cloud(device, points)
    return {
        OURS: lambda: pyproj2d3d.farthest_point_sample(cloud, samples),
        TORCH: lambda: rounds(cloud, samples),
    }


def bench_farthest_point_sample_of_a_large_cloud(timed: Timed) -> None:
    results = timed(large_cloud, full=LARGE, tiny=TINY, moved=moved, goals={TORCH: 3.0}, memory=True, rounds=1)
    assert torch.equal(results[TORCH], results[OURS])


def many_clouds(device: torch.device, points: int, samples: int, clouds: int) -> dict[str, Contender | str]:
    """farthest_point_sample of packed clouds."""
    packed, _ = room_cloud(device, points * clouds)
    ptr = torch.arange(clouds + 1, device=device) * points
    return {
        OURS: lambda: pyproj2d3d.farthest_point_sample(packed, samples, ptr=ptr),
        NORM: lambda: (batched_rounds(packed.view(clouds, points, 3), samples) + ptr[:-1, None]).flatten(),
    }


def bench_farthest_point_sample_of_many_clouds(timed: Timed) -> None:
    results = timed(many_clouds, full=MANY, tiny=TINY_MANY, goals={NORM: 3.0}, rounds=1)
    assert torch.equal(results[NORM], results[OURS])


def bench_farthest_point_sample_same_bits_in_20_runs(timed: Timed) -> None:
    ours = many_clouds(timed.device, **(TINY_MANY if timed.quick else MANY))[OURS]
    timed.same_bits("farthest_point_sample", lambda: (ours(),))


def moved(found: Tensor, size: dict[str, int]) -> int:
    """Points in, samples out: what one look at the cloud takes."""
    return 12 * size["points"] + found.nbytes


def rounds(points: Tensor, samples: int) -> Tensor:
    """Nothing waits for a number: the chosen point stays where it is."""
    x, y, z = (c.contiguous() for c in points.T)
    distance = torch.full_like(x, torch.inf)
    chosen = torch.zeros(samples, dtype=torch.int64, device=points.device)
    for s in range(1, samples):
        at = chosen[s - 1 : s]
        a, b, c = x - x[at], y - y[at], z - z[at]
        torch.minimum(distance, a.square_().add_(b.square_()).add_(c.square_()), out=distance)
        chosen[s] = distance.argmax()
    return chosen


def batched_rounds(points: Tensor, samples: int) -> Tensor:
    """(B, N, 3) to (B, samples), in the manner of public PointNet++ code in torch."""
    batch = torch.arange(len(points), device=points.device)
    distance = torch.full(points.shape[:2], torch.inf, device=points.device)
    chosen = torch.zeros(len(points), samples, dtype=torch.int64, device=points.device)
    farthest = chosen[:, 0]
    for s in range(samples):
        chosen[:, s] = farthest
        x, y, z = (points[batch, farthest][:, None] - points).unbind(-1)
        distance = torch.minimum(distance, (x * x + y * y) + z * z)
        farthest = distance.argmax(1)
    return chosen
