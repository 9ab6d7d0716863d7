"""ball_query: which points are within a radius? 2,048 balls of a room of 40,000 points, and one around each point."""

from __future__ import annotations

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import reference

from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .workloads import room_cloud

RADIUS, K = 0.2, 64  # of VoteNet's first layer
FULL, TINY = {"points": 40_000, "queries": 2_048}, {"points": 1_000, "queries": 64}
ALL, TINY_ALL = {"points": 40_000, "queries": 40_000}, {"points": 1_000, "queries": 1_000}
LARGE = {"points": 400_000, "queries": 400_000}
CDIST, CHUNK = "torch (cdist and topk of indices)", 1024
SPARSE = "torch best (cdist and nonzero)"


def balls(device: torch.device, points: int, queries: int) -> dict[str, Contender | str]:
    """ball_query, 0.2 m, k = 64."""
    cloud, _ = room_cloud(device, points)
    centres = cloud[torch.randperm(points, generator=torch.Generator().manual_seed(0))[:queries].to(device)]
    contenders: dict[str, Contender | str] = {
        OURS: lambda: pyproj2d3d.ball_query(cloud, centres, RADIUS, K),
        CDIST: lambda: in_chunks(lowest_by_topk, cloud, centres),
        SPARSE: lambda: in_chunks(lowest_by_nonzero, cloud, centres),
    }
    if queries <= 2_048:
        contenders["plain torch"] = lambda: reference.ball_query(cloud, centres, RADIUS, K)
    return contenders


def bench_ball_query(timed: Timed) -> None:
    goals = {CDIST: 20.0, SPARSE: 20.0}
    assert_same(timed(balls, full=FULL, tiny=TINY, moved=moved, goals=goals, memory=True))


def bench_ball_query_around_each_point(timed: Timed) -> None:
    goals = {CDIST: 20.0, SPARSE: 20.0}
    assert_same(timed(balls, full=ALL, tiny=TINY_ALL, moved=moved, goals=goals, memory=True, rounds=1))


def alone(device: torch.device, points: int, queries: int) -> dict[str, Contender | str]:
    """ball_query of ten times the points, 0.2 m, k = 64."""
    return {OURS: balls(device, points, queries)[OURS]}


def bench_ball_query_takes_memory_linear_in_the_points(timed: Timed) -> None:
    """Beside the result, which is most of it."""
    timed(alone, full=LARGE, tiny=TINY_ALL, moved=moved, memory=True, rounds=1)
    if not timed.quick:
        result = 8 * (K + 1) * LARGE["queries"]
        beside = (timed.peak_of_ours() - result) / LARGE["points"]
        timed.goal("ball_query: at most 200 bytes a point beside the result", f"{beside:.0f}", beside <= 200)


def bench_ball_query_same_bits_in_20_runs(timed: Timed) -> None:
    timed.same_bits("ball_query", balls(timed.device, **(TINY if timed.quick else FULL))[OURS])


def moved(found: tuple[Tensor, Tensor], size: dict[str, int]) -> int:
    """Points and queries in, index and count out."""
    return 12 * (size["points"] + size["queries"]) + nbytes(*found)


def in_chunks(ask, points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """All at once 40,000 queries would take 6.4 GB."""
    index, count = zip(*(ask(points, some) for some in queries.split(CHUNK)), strict=True)
    return torch.cat(index), torch.cat(count)


def distances(queries: Tensor, points: Tensor) -> Tensor:
    """From differences, not from products, whose rounding would put points on the wrong side of the sphere."""
    return torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist")


def lowest_by_topk(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    inside = distances(queries, points) < RADIUS
    number = torch.arange(len(points), dtype=torch.int32, device=points.device)
    lowest = torch.where(inside, number, len(points)).topk(min(K, len(points)), largest=False).values
    return torch.where(lowest < len(points), lowest, -1).long(), inside.sum(1)


def lowest_by_nonzero(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    inside = distances(queries, points) < RADIUS
    query, point = inside.nonzero(as_tuple=True)
    count = torch.bincount(query, minlength=len(queries))
    place = torch.arange(len(query), device=points.device) - (count.cumsum(0) - count)[query]
    index = torch.full((len(queries), K), -1, device=points.device)
    index[query[place < K], place[place < K]] = point[place < K]
    return index, count


def assert_same(results: dict[str, tuple[Tensor, Tensor]]) -> None:
    """But for balls that have a point so close to the sphere that the root decides."""
    index, count = results[OURS]
    for name, (theirs, their_count) in results.items():
        differ = (index != theirs).any(1) | (count != their_count)
        assert differ.sum() <= len(count) // 1000, name
        assert (count - their_count).abs().max() <= 1, name
