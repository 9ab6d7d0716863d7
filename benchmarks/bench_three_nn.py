"""three_nn: which three points are nearest? 40,000 points asked, 40,000 asking, or both; and the gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import reference

from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .workloads import room_cloud

ASKED, TINY = {"points": 40_000, "queries": 2_048}, {"points": 1_000, "queries": 64}
ASKING, TINY_ASKING = {"points": 2_048, "queries": 40_000}, {"points": 64, "queries": 1_000}
BOTH, TINY_BOTH = {"points": 40_000, "queries": 40_000}, {"points": 1_000, "queries": 1_000}
LARGE = {"points": 400_000, "queries": 400_000}
CDIST, CHUNK = "torch (cdist and topk)", 1024


def nearest(device: torch.device, points: int, queries: int) -> dict[str, Contender | str]:
    """three_nn."""
    cloud, asking = clouds(device, points, queries)
    contenders: dict[str, Contender | str] = {
        OURS: lambda: pyproj2d3d.three_nn(cloud, asking),
        CDIST: lambda: by_topk(cloud, asking),
    }
    if points * queries <= 10**8:
        contenders["plain torch"] = lambda: reference.three_nn(cloud, asking)
    return contenders


def clouds(device: torch.device, points: int, queries: int) -> tuple[Tensor, Tensor]:
    both, _ = room_cloud(device, points + queries)
    return both[:points], both[points:]


def bench_three_nn(timed: Timed) -> None:
    assert_same(timed(nearest, full=ASKED, tiny=TINY, moved=moved, goals={CDIST: 20.0}, memory=True, rounds=2))


def bench_three_nn_of_few_points(timed: Timed) -> None:
    assert_same(timed(nearest, full=ASKING, tiny=TINY_ASKING, moved=moved, goals={CDIST: 20.0}, memory=True, rounds=2))


def bench_three_nn_of_many_points_and_queries(timed: Timed) -> None:
    assert_same(timed(nearest, full=BOTH, tiny=TINY_BOTH, moved=moved, goals={CDIST: 20.0}, memory=True, rounds=1))


def alone(device: torch.device, points: int, queries: int) -> dict[str, Contender | str]:
    """three_nn of ten times the points."""
    return {OURS: nearest(device, points, queries)[OURS]}


def bench_three_nn_takes_memory_linear_in_the_points(timed: Timed) -> None:
    timed(alone, full=LARGE, tiny=TINY_BOTH, moved=moved, memory=True, rounds=1)
    if not timed.quick:
        beside = timed.peak_of_ours() / LARGE["points"]
        timed.goal("three_nn: at most 200 bytes a point", f"{beside:.0f}", beside <= 200)


def forward_and_backward(device: torch.device, points: int, queries: int) -> dict[str, Contender | str]:
    """three_nn and its gradient to points and queries."""
    leaves = [t.clone().requires_grad_() for t in clouds(device, points, queries)]

    def gradient(ask: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(ask(*leaves)[0].sum(), leaves)

    return {
        OURS: lambda: gradient(pyproj2d3d.three_nn),
        CDIST: lambda: gradient(gathered),
    }


def bench_three_nn_gradient(timed: Timed) -> None:
    results = timed(forward_and_backward, full=ASKING, tiny=TINY_ASKING, goals={CDIST: 10.0}, rounds=2)
    for mine, theirs in zip(results[OURS], results[CDIST], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


def bench_three_nn_same_bits_in_20_runs(timed: Timed) -> None:
    size = TINY_ASKING if timed.quick else ASKING
    gradient = forward_and_backward(timed.device, **size)[OURS]
    timed.same_bits("three_nn", nearest(timed.device, **size)[OURS], gradient)


def moved(found: tuple[Tensor, Tensor], size: dict[str, int]) -> int:
    """Points and queries in, distances and index out."""
    return 12 * (size["points"] + size["queries"]) + nbytes(*found)


def by_topk(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """In chunks: all at once 40,000 queries of 40,000 points would take 6.4 GB."""
    found = [
        torch.cdist(some, points, compute_mode="donot_use_mm_for_euclid_dist").topk(3, largest=False)
        for some in queries.split(CHUNK)
    ]
    distance, index = zip(*found, strict=True)
    return torch.cat(distance).square(), torch.cat(index)


def gathered(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Searched without a graph, so that nothing of (Q, N) is kept."""
    with torch.no_grad():
        _, index = by_topk(points, queries)
    return (queries[:, None] - points[index]).square().sum(-1), index


def assert_same(results: dict[str, tuple[Tensor, Tensor]]) -> None:
    """But for equal distances, of which topk takes any."""
    distance, index = results[OURS]
    for name, (theirs, their_index) in results.items():
        torch.testing.assert_close(theirs, distance, rtol=1e-4, atol=1e-6, msg=name)
        assert (index != their_index).any(1).sum() <= max(1, len(index) // 100), name
