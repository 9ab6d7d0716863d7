"""Which points of one label hang together?"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyproj2d3d import cluster, reference

NATIVE_AND_REFERENCE = pytest.mark.parametrize("found", [cluster, reference.cluster], ids=["native", "reference"])


def on_a_line(*x: float, dtype=torch.float32, device=None) -> Tensor:
    points = torch.zeros(len(x), 3, dtype=dtype, device=device)
    points[:, 1] = torch.tensor(x, dtype=dtype)
    return points


def ones(points: Tensor) -> Tensor:
    return torch.ones(len(points), dtype=torch.int64, device=points.device)


def some_cloud(n: int, dtype=torch.float32, seed: int = 0, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    """Half at random, half on a grid of eighths, some twice; labels from -1 to 2; a few are not finite."""
    rng = torch.Generator().manual_seed(seed)
    points = spread * torch.rand(n, 3, generator=rng, dtype=torch.float64)
    points[::2] = (8 * points[::2]).round() / 8
    points[n // 2 :: 5] = points[: len(points[n // 2 :: 5])]
    points[7::90, 1], points[8::90, 2] = math.nan, math.inf
    return points.to(dtype), torch.randint(-1, 3, (n,), generator=rng)


def by_flooding(points: Tensor, labels: Tensor, radius: float, min_size: int = 1) -> Tensor:
    """From each point that has no cluster yet to all that can be reached, one after the other."""
    p, dtype = points.numpy(), points.numpy().dtype.type
    good = np.isfinite(p).all(1) & (labels.numpy() >= 0)
    found, number = np.full(len(p), -1), 0
    seen = ~good
    for start in range(len(p)):
        if seen[start]:
            continue
        seen[start] = True
        members = [start]
        for i in members:
            with np.errstate(invalid="ignore", over="ignore"):
                x, y, z = (p - p[i]).T
                near = ((x * x + y * y) + z * z < dtype(radius) * dtype(radius)) & (labels == labels[i]).numpy() & ~seen
            seen |= near
            members += np.flatnonzero(near).tolist()
        if len(members) >= min_size:
            found[members] = number
            number += 1
    return torch.from_numpy(found)


@NATIVE_AND_REFERENCE
def test_steps_lead_from_one_end_to_the_other(found, device, dtype):
    points = on_a_line(0, 0.75, 1.5, 2.25, 4, 4.5, dtype=dtype, device=device)
    clusters = found(points, ones(points), 1.0)
    assert clusters.tolist() == [0, 0, 0, 0, 1, 1]
    assert clusters.dtype == torch.int64
    assert clusters.device.type == device.type


@NATIVE_AND_REFERENCE
def test_points_exactly_the_radius_apart_are_not_joined(found, device, dtype):
    points = torch.tensor([[0, 0, 0], [3, 4, 0]], dtype=dtype, device=device)
    assert found(points, ones(points), 5.0).tolist() == [0, 1]
    assert found(points, ones(points), 5.001).tolist() == [0, 0]


@NATIVE_AND_REFERENCE
def test_another_label_is_no_bridge(found, device, dtype):
    points = on_a_line(0, 0.75, 1.5, dtype=dtype, device=device)
    for labels, wanted in (([5, 5, 5], [0, 0, 0]), ([5, 6, 5], [0, 1, 2]), ([5, -1, 5], [0, -1, 1])):
        assert found(points, torch.tensor(labels, device=device), 1.0).tolist() == wanted


@NATIVE_AND_REFERENCE
def test_points_in_one_place_are_one_cluster_for_each_label(found, device, dtype):
    points = torch.full((5, 3), 0.3, dtype=dtype, device=device)
    labels = torch.tensor([7, 0, 7, 2**31 - 2, 0], device=device)
    assert found(points, labels, 1e-6).tolist() == [0, 1, 0, 2, 1]


@NATIVE_AND_REFERENCE
def test_points_of_a_negative_label_are_in_none(found, device, dtype):
    points = torch.zeros(4, 3, dtype=dtype, device=device)
    labels = torch.tensor([-1, 3, -(2**63), 3], device=device)
    assert found(points, labels, 1.0).tolist() == [-1, 0, -1, 0]
    assert found(points, torch.full_like(labels, -1), 1.0).tolist() == [-1] * 4


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_points_that_are_not_finite_are_in_none(found, odd, device, dtype):
    points = on_a_line(0, odd, 0.5, odd, dtype=dtype, device=device)
    assert found(points, ones(points), 1.0).tolist() == [0, -1, 0, -1]
    assert found(points[1::2], ones(points[1::2]), 1.0).tolist() == [-1, -1]


@NATIVE_AND_REFERENCE
def test_clusters_are_numbered_by_their_lowest_points(found, device, dtype):
    points = on_a_line(9, 5, 0, 5.5, 9.5, 0.5, dtype=dtype, device=device)
    assert found(points, ones(points), 1.0).tolist() == [0, 1, 2, 1, 0, 2]


@NATIVE_AND_REFERENCE
def test_too_small_a_cluster_is_none_and_takes_no_number(found, device, dtype):
    points = on_a_line(0, 5, 5.5, 9, 9.5, 9.75, dtype=dtype, device=device)
    for min_size, wanted in (
        (1, [0, 1, 1, 2, 2, 2]),
        (2, [-1, 0, 0, 1, 1, 1]),
        (3, [-1, -1, -1, 0, 0, 0]),
        (4, [-1] * 6),
        (2**70, [-1] * 6),
    ):
        assert found(points, ones(points), 1.0, min_size=min_size).tolist() == wanted


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("n", [0, 1])
def test_no_point_and_one_point(found, n, device, dtype):
    points = torch.zeros(n, 3, dtype=dtype, device=device)
    assert found(points, ones(points), 1.0).tolist() == [0] * n
    assert found(points, ones(points), 1.0, min_size=2).tolist() == [-1] * n


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("axes", [(1, 0, 0), (0, -1, 0), (0, 0, 1), (1, 1, 0), (1, 0, -1), (-1, 1, 1), (1, -1, 1)])
def test_neighbours_in_any_direction_are_found(found, axes, device, dtype):
    """Up to the radius and no farther, from wherever in its cell a point lies: 200 pairs, each of its own label."""
    step = torch.tensor(axes, dtype=torch.float64)
    start = 10 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(200).repeat(2).to(device)
    for length, last in ((0.9999, 199), (1.0001, 399)):
        points = torch.cat((start, start + length * step / step.norm())).to(device, dtype)
        assert found(points, labels, 1.0).max() == last


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("radius", "min_size"), [(0.1, 1), (0.25, 3), (0.4, 1), (0.125, 2), (5.0, 10)])
def test_equals_flooding_from_point_to_point(found, radius, min_size, seed, dtype):
    points, labels = some_cloud(300, dtype, seed)
    wanted = by_flooding(points, labels, radius, min_size)
    assert torch.equal(found(points, labels, radius, min_size=min_size), wanted)


@pytest.mark.parametrize("radius", [0.02, 0.08, 0.12, 0.125, 0.3])
def test_large_clouds_equal_the_reference(radius, device, dtype):
    points, labels = (t.to(device) for t in some_cloud(6000, dtype))
    found = cluster(points, labels, radius)
    assert torch.equal(found, reference.cluster(points, labels, radius))
    assert found.max() > 2


@pytest.mark.parametrize("far", [1e3, 1e6, -3e7])
def test_far_from_the_origin_as_well(far, device, dtype):
    """Where float32 cannot tell neighbouring cells apart; the radius is a few steps between its numbers."""
    points, labels = (t.to(device) for t in some_cloud(800, dtype))
    step = abs(far) * torch.finfo(dtype).eps
    points = points * max(1.0, 30 * step) + far
    for radius in (0.2, 0.5):
        radius *= max(1.0, 30 * step)
        assert torch.equal(cluster(points, labels, radius), reference.cluster(points, labels, radius))


@pytest.mark.parametrize("radius", [1.1e-19, 1e-6, 1e18])
def test_radii_of_any_size(radius, device):
    points, labels = (t.to(device) for t in some_cloud(300))
    points = points * (3 * radius)
    assert torch.equal(cluster(points, labels, radius), reference.cluster(points, labels, radius))


def test_the_order_of_the_points_does_not_matter(device, dtype):
    """Where PointGroup's depends on it: far more than 1000 neighbours each."""
    rng = torch.Generator().manual_seed(0)
    centres = 0.2 * torch.randint(6, (5000, 3), generator=rng)
    points = (centres + 0.01 * torch.randn(5000, 3, generator=rng)).to(device, dtype)
    labels = torch.randint(2, (5000,), generator=rng).to(device)
    found = cluster(points, labels, 0.12, min_size=5)
    order = torch.randperm(5000, generator=rng).to(device)
    shuffled = cluster(points[order], labels[order], 0.12, min_size=5)
    pairs = torch.stack((found[order], shuffled), dim=1).unique(dim=0)
    assert len(pairs) == len(found.unique()) == len(shuffled.unique())
    assert found.max() > 2


def test_dense_clouds_cost_no_more_than_sparse_ones(device, dtype):
    """100,000 points within a radius, and two such crowds that are a little too far apart: 10**10 pairs each."""
    rng = torch.Generator().manual_seed(0)
    crowd = (0.1 * torch.rand(100_000, 3, generator=rng)).to(device, dtype)
    assert cluster(crowd, ones(crowd), 1.0).max() == 0
    two = torch.cat((crowd, crowd + torch.tensor([1.11, 0, 0], dtype=dtype, device=device)))
    found = cluster(two, ones(two), 1.0)
    assert torch.equal(found, torch.arange(2, device=device).repeat_interleave(100_000))


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_any_number_of_threads_finds_the_same(threads, set_threads, dtype):
    points, labels = some_cloud(40_000, dtype)
    set_threads(1)
    alone = cluster(points, labels, 0.06)
    set_threads(threads)
    for _ in range(5):
        assert torch.equal(cluster(points, labels, 0.06), alone)


def test_points_that_ask_for_a_gradient_are_clustered_all_the_same(device):
    points, labels = (t.to(device) for t in some_cloud(100))
    wanted = cluster(points, labels, 0.4)
    found = cluster(points.requires_grad_(), labels, 0.4)
    assert torch.equal(found, wanted)
    assert not found.requires_grad
    assert torch.equal(reference.cluster(points, labels, 0.4), wanted)


# Errors.

POINTS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2e9, 0]])
LABELS = torch.tensor([0, 0, 1])
BAD = {
    "points of two numbers": ((POINTS[:, :2], LABELS, 1.0), {}, ValueError, r"points must have shape \(\*, 3\), got"),
    "points of integers": ((POINTS.int(), LABELS, 1.0), {}, TypeError, r"points must be float32 or .*got int32"),
    "points in half": ((POINTS.half(), LABELS, 1.0), {}, TypeError, r"points must be float32 or .*got float16"),
    "points as a list": (([[0.0] * 3], LABELS, 1.0), {}, TypeError, r"points must be a tensor, got list"),
    "points too far": ((POINTS, LABELS, 1.0), {}, ValueError, r"points must have .* below 1.2\S+ .*got 2e\+09"),
    "too few labels": ((POINTS, LABELS[:2], 1.0), {}, ValueError, r"labels must have shape \(3\), got \(2,\)"),
    "labels of int32": ((POINTS, LABELS.int(), 1.0), {}, TypeError, r"labels must be int64, got int32"),
    "floating labels": ((POINTS, LABELS.float(), 1.0), {}, TypeError, r"labels must be int64, got float32"),
    "a large label": ((POINTS, LABELS + 2**31 - 2, 1e3), {}, ValueError, r"labels must be at most 2147483646"),
    "the largest label": ((POINTS, LABELS + 2**63 - 2, 1.0), {}, ValueError, r"labels must be at most .*got 92233"),
    "labels elsewhere": ((POINTS, LABELS.to("meta"), 1.0), {}, ValueError, r"labels must be on cpu .*, got meta"),
    "a radius of 0": ((POINTS, LABELS, 0), {}, ValueError, r"radius must be positive.*in float32, got 0"),
    "a negative radius": ((POINTS, LABELS, -1.0), {}, ValueError, r"radius must be positive.*in float32, got -1.0"),
    "a radius too small": ((POINTS, LABELS, 1e-20), {}, ValueError, r"radius must .* normal in float32, got"),
    "a radius too large": ((POINTS, LABELS, 1e20), {}, ValueError, r"radius must .* normal in float32, got"),
    "no radius for float64": ((POINTS.double(), LABELS, 1e-200), {}, ValueError, r"radius must .*normal in float64"),
    "an infinite radius": ((POINTS, LABELS, math.inf), {}, ValueError, r"radius must be positive.*, got inf"),
    "a radius of NaN": ((POINTS, LABELS, math.nan), {}, ValueError, r"radius must be a number, got NaN"),
    "a radius as text": ((POINTS, LABELS, "1"), {}, TypeError, r"radius must be a number, got '1'"),
    "min_size of 0": ((POINTS, LABELS, 1e3), {"min_size": 0}, ValueError, r"min_size must be at least 1, got 0"),
    "min_size as float": ((POINTS, LABELS, 1e3), {"min_size": 2.0}, TypeError, r"min_size must be an integer, got 2.0"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_cluster_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        cluster(*arguments, **keywords)
