"""Do few points cover a cloud, and always the same ones?"""

import math
from itertools import pairwise

import pytest
import torch
from clouds import random_cloud, shapes_of_clouds

from pyproj2d3d import farthest_point_sample, reference
from pyproj2d3d.ops import _register

NATIVE_AND_REFERENCE = pytest.mark.parametrize(
    "sampled", [farthest_point_sample, reference.farthest_point_sample], ids=["native", "reference"]
)
SHAPES = shapes_of_clouds()


def on_a_line(*x, dtype=torch.float32, device="cpu"):
    return torch.tensor([[float(v), 0.0, 0.0] for v in x], dtype=dtype, device=device).reshape(-1, 3)


def by_hand(points, n, start=0):
    """Every distance to every chosen point, each time anew."""
    p, chosen = points.double().tolist(), [start]
    while len(chosen) < n:
        far = [min(math.dist(a, p[c]) for c in chosen) for a in p]
        chosen.append(max((i for i in range(len(p)) if i not in chosen), key=lambda i: (far[i], -i)))
    return chosen


@NATIVE_AND_REFERENCE
def test_each_point_is_the_farthest_from_those_before_it(sampled, device, dtype):
    points = on_a_line(0, 1, 4, 9, dtype=dtype, device=device)
    assert sampled(points, 4).tolist() == [0, 3, 2, 1]
    assert sampled(points, 3, start=2).tolist() == [2, 3, 0]
    assert sampled(points, 1).dtype == torch.int64


@NATIVE_AND_REFERENCE
def test_of_equally_far_points_the_lowest_is_chosen(sampled, device, dtype):
    points = on_a_line(0, 2, -2, 2, -2, dtype=dtype, device=device)
    assert sampled(points, 3).tolist() == [0, 1, 2]
    assert sampled(points.flip(0), 3, start=4).tolist() == [4, 0, 1]


@NATIVE_AND_REFERENCE
def test_no_point_is_chosen_twice_though_all_lie_in_one_place(sampled, device, dtype):
    points = torch.ones(40, 3, device=device, dtype=dtype)
    assert sampled(points, 40, start=5).tolist() == [5, *(i for i in range(40) if i != 5)]


@NATIVE_AND_REFERENCE
def test_points_near_the_origin_are_points_like_others(sampled, device, dtype):
    """PointNet++'s kernel never chooses one within 3 cm of it."""
    points = on_a_line(5, 0, 0.01, 4.9, dtype=dtype, device=device)
    assert sampled(points, 4).tolist() == [0, 1, 3, 2]


@NATIVE_AND_REFERENCE
def test_clouds_are_sampled_each_for_itself(sampled, device, dtype):
    points = on_a_line(0, 1, 5, 100, 101, 103, 107, dtype=dtype, device=device)
    ptr = torch.tensor([0, 3, 7], device=device)
    assert sampled(points, 3, ptr=ptr).tolist() == [0, 2, 1, 3, 6, 5]
    assert sampled(points, 2, ptr=ptr, start=2).tolist() == [2, 0, 5, 6]
    assert sampled(points[:3], 2, ptr=ptr[:2]).tolist() == [0, 2]


@NATIVE_AND_REFERENCE
def test_no_clouds_have_no_samples(sampled, device, dtype):
    found = sampled(
        torch.zeros(0, 3, device=device, dtype=dtype), 5, ptr=torch.zeros(1, dtype=torch.int64, device=device)
    )
    assert found.shape == (0,)
    assert found.dtype == torch.int64


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_point_that_is_not_finite_is_never_chosen(sampled, bad, device, dtype):
    points = on_a_line(bad, 1, 4, bad, 9, dtype=dtype, device=device)
    points[3] = torch.tensor([0, 0, bad])
    assert sampled(points, 5).tolist() == [1, 4, 2, -1, -1]
    assert sampled(points, 2, start=3).tolist() == [1, 4]
    assert sampled(points[:1], 1).tolist() == [-1]


@NATIVE_AND_REFERENCE
def test_distances_beyond_the_dtype_are_equal(sampled, device):
    points = on_a_line(0, 1, 1e30, -1e30, 3e38, device=device)
    assert sampled(points, 5).tolist() == [0, 2, 3, 4, 1]


@pytest.mark.parametrize("seed", range(5))
def test_equals_distances_computed_anew_each_time(seed, device):
    rng = torch.Generator().manual_seed(seed)
    points = torch.randint(-3, 4, (60, 3), generator=rng).double().to(device)  # many are equally far
    assert farthest_point_sample(points, 60, start=seed).tolist() == by_hand(points, 60, seed)


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 500, 5000])
def test_large_clouds_equal_the_reference(n, device, dtype):
    points = random_cloud(n, dtype, device)
    for samples in {1, n // 3 + 1, min(n, 700)}:
        found = farthest_point_sample(points, samples, start=n // 2)
        assert torch.equal(found, reference.farthest_point_sample(points, samples, start=n // 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_clouds_of_any_shape_equal_the_reference(shape, device):
    points = SHAPES[shape].to(device)
    assert torch.equal(farthest_point_sample(points, 300), reference.farthest_point_sample(points, 300))


@pytest.mark.parametrize("lengths", [[40, 300, 33, 32, 1000], [64] * 20])
def test_clouds_of_any_lengths_equal_those_alone(lengths, device, dtype):
    points = random_cloud(sum(lengths), dtype, device)
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    found = farthest_point_sample(points, 32, ptr=ptr.to(device), start=3)
    alone = [farthest_point_sample(points[a:b], 32, start=3) for a, b in pairwise(ptr.tolist())]
    wanted = [torch.where(f >= 0, f + a, f) for f, a in zip(alone, ptr[:-1].to(device), strict=True)]
    assert torch.equal(found, torch.cat(wanted))


def test_the_rounds_of_cuda_choose_alike(dtype, monkeypatch):
    points = random_cloud(3000, dtype)
    ptr = torch.tensor([0, 1000, 1700, 3000])
    wanted = farthest_point_sample(points, 500, ptr=ptr, start=7)
    monkeypatch.setattr(_register, "rehearse_cuda", True)
    assert torch.equal(farthest_point_sample(points, 500, ptr=ptr, start=7), wanted)


def test_points_that_ask_for_a_gradient_are_sampled_all_the_same(device):
    points = random_cloud(100, torch.float32, device)
    found = farthest_point_sample(points.requires_grad_(), 10)
    assert not found.requires_grad
    assert torch.equal(found, reference.farthest_point_sample(points, 10))


# Errors.

POINTS, PTR = torch.zeros(6, 3), torch.tensor([0, 2, 6])
BAD = {
    "points of two numbers": ((POINTS[:, :2], 2), {}, ValueError, r"points must have shape \(\*, 3\), got \(6, 2\)"),
    "points of integers": ((POINTS.int(), 2), {}, TypeError, r"points must be float32 or float64, got int32"),
    "points as a list": (([[0.0] * 3], 1), {}, TypeError, r"points must be a tensor, got list"),
    "no samples": ((POINTS, 0), {}, ValueError, r"n must be at least 1, got 0"),
    "half a sample": ((POINTS, 0.5), {}, TypeError, r"n must be an integer, got 0.5"),
    "more samples than points": ((POINTS, 7), {}, ValueError, r"n must be at most the 6 points, got 7"),
    "samples of no point": ((POINTS[:0], 1), {}, ValueError, r"n must be at most the 0 points, got 1"),
    "a start beyond": ((POINTS, 2), {"start": 6}, ValueError, r"start must be below the 6 points, got 6"),
    "a negative start": ((POINTS, 2), {"start": -1}, ValueError, r"start must be at least 0, got -1"),
    "a start of two": ((POINTS, 2), {"start": (0, 1)}, TypeError, r"start must be an integer, got \(0, 1\)"),
    "ptr of int32": ((POINTS, 2), {"ptr": PTR.int()}, TypeError, r"ptr must be int64, got int32"),
    "ptr of two axes": ((POINTS, 2), {"ptr": PTR[None]}, ValueError, r"ptr must have shape \(\*\), got \(1, 3\)"),
    "ptr as a list": ((POINTS, 2), {"ptr": [0, 6]}, TypeError, r"ptr must be a tensor, got list"),
    "no ptr": ((POINTS, 2), {"ptr": PTR[:0]}, ValueError, r"ptr must have B \+ 1 entries, got none"),
    "ptr elsewhere": ((POINTS, 2), {"ptr": PTR.to("meta")}, ValueError, r"ptr must be on cpu like points, got meta"),
    "ptr from 1": ((POINTS, 2), {"ptr": PTR + 1}, ValueError, r"ptr must ascend from 0 to 6, got \[1, 3, 7\]"),
    "ptr that ends early": ((POINTS, 2), {"ptr": PTR[:2]}, ValueError, r"ptr must ascend from 0 to 6, got \[0, 2\]"),
    "ptr that falls": ((POINTS, 2), {"ptr": torch.tensor([0, 7, 6])}, ValueError, r"ptr must ascend .*\[0, 7, 6\]"),
    "a cloud too short": ((POINTS, 3), {"ptr": PTR}, ValueError, r"n must be .* each cloud, 2 in cloud 0, got 3"),
    "a cloud without start": ((POINTS, 1), {"ptr": PTR, "start": 2}, ValueError, r"start must .*2 in cloud 0, got 2"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_farthest_point_sample_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        farthest_point_sample(*arguments, **keywords)
