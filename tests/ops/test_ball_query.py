"""Which points are within a radius, and is none forgotten or made up?"""

import math

import pytest
import torch
from clouds import random_cloud, shapes_of_clouds
from scenes import assert_same_bits

from pyproj2d3d import ball_query, reference

NATIVE_AND_REFERENCE = pytest.mark.parametrize("asked", [ball_query, reference.ball_query], ids=["native", "reference"])
SHAPES = shapes_of_clouds()


def on_a_line(*x, dtype=torch.float32, device="cpu"):
    return torch.tensor([[float(v), 0.0, 0.0] for v in x], dtype=dtype, device=device).reshape(-1, 3)


@NATIVE_AND_REFERENCE
def test_points_of_a_ball_come_in_index_order(asked, device, dtype):
    points = on_a_line(3, 1, 0, 2, 9, dtype=dtype, device=device)
    index, count = asked(points, on_a_line(0, 2.5, dtype=dtype, device=device), 2.5, 4)
    assert index.tolist() == [[1, 2, 3, -1], [0, 1, 3, -1]]
    assert count.tolist() == [3, 3]
    assert index.dtype == count.dtype == torch.int64


@NATIVE_AND_REFERENCE
def test_the_first_of_many_are_returned_and_all_are_counted(asked, device, dtype):
    """Not the nearest: point 3 is where the query is."""
    points = on_a_line(0.5, 0.4, 0.3, 0, 0.1, dtype=dtype, device=device)
    index, count = asked(points, points[3:4], 1.0, 2)
    assert index.tolist() == [[0, 1]]
    assert count.tolist() == [5]


@NATIVE_AND_REFERENCE
def test_a_point_on_the_sphere_is_outside(asked, device, dtype):
    points = on_a_line(
        -1, 1, math.nextafter(1, 0) if dtype == torch.float64 else 1 - 2**-24, dtype=dtype, device=device
    )
    assert asked(points, on_a_line(0, dtype=dtype, device=device), 1.0, 3)[0].tolist() == [[2, -1, -1]]


@NATIVE_AND_REFERENCE
def test_an_empty_ball_has_no_neighbour(asked, device, dtype):
    """PointNet++'s kernel returns point 0."""
    index, count = asked(on_a_line(0, dtype=dtype, device=device), on_a_line(5, dtype=dtype, device=device), 1.0, 3)
    assert index.tolist() == [[-1, -1, -1]]
    assert count.tolist() == [0]


@NATIVE_AND_REFERENCE
def test_points_in_one_place_are_all_found(asked, device, dtype):
    points = torch.ones(30, 3, device=device, dtype=dtype)
    index, count = asked(points, points[:1], 0.1, 40)
    assert index.tolist() == [[*range(30), *[-1] * 10]]
    assert count.tolist() == [30]


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_neighbour_and_is_none(asked, bad, device, dtype):
    points = on_a_line(0, bad, 0.5, dtype=dtype, device=device)
    points[2, 1] = bad
    index, count = asked(points, points, 1e3, 3)
    assert index.tolist() == [[0, -1, -1], [-1] * 3, [-1] * 3]
    assert count.tolist() == [1, 0, 0]


@NATIVE_AND_REFERENCE
def test_no_points_and_no_queries_have_empty_answers(asked, device, dtype):
    none, some = on_a_line(dtype=dtype, device=device), on_a_line(1, 2, dtype=dtype, device=device)
    index, count = asked(none, some, 1.0, 3)
    assert (index.tolist(), count.tolist()) == ([[-1] * 3] * 2, [0, 0])
    index, count = asked(some, none, 1.0, 3)
    assert (index.shape, count.shape) == ((0, 3), (0,))
    assert asked(none, none, 1.0, 3)[0].shape == (0, 3)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 65, 513, 5000])
@pytest.mark.parametrize("radius", [0.01, 0.4, 3.0, 1e10])
def test_large_clouds_equal_the_reference(n, radius, device, dtype):
    points = random_cloud(n, dtype, device)
    queries = torch.cat((points[:150], random_cloud(150, dtype, device, seed=1)))
    for k in (1, 3, 64, n):
        assert_same_bits(ball_query(points, queries, radius, k), reference.ball_query(points, queries, radius, k))


@pytest.mark.parametrize("shape", SHAPES)
def test_clouds_of_any_shape_equal_the_reference(shape, device):
    points = SHAPES[shape].to(device)
    for radius in (1e-18, 0.05, 2.0, 1e10):
        arguments = (points, points[::9], radius, 20)
        assert_same_bits(ball_query(*arguments), reference.ball_query(*arguments))


def test_what_is_found_does_not_depend_on_the_order_of_the_points(device, dtype):
    points = random_cloud(2000, dtype, device)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0)).to(device)
    index, count = ball_query(points, points, 0.3, 2000)
    shuffled, same_count = ball_query(points[order], points, 0.3, 2000)
    back = torch.where(shuffled >= 0, order[shuffled], 2000).sort(1).values
    assert torch.equal(torch.where(back == 2000, -1, back), index)
    assert torch.equal(same_count, count)


def test_points_that_ask_for_a_gradient_are_searched_all_the_same(device):
    points = random_cloud(100, torch.float32, device)
    wanted = ball_query(points, points, 0.5, 4)
    found = ball_query(points.clone().requires_grad_(), points.clone().requires_grad_(), 0.5, 4)
    assert_same_bits(found, wanted)
    assert not any(t.requires_grad for t in found)


# Errors.

P = torch.zeros(4, 3)
RADIUS = r"radius must be positive, and neither 0 nor infinite when squared in float32, got "
BAD = {
    "points of two numbers": ((P[:, :2], P, 1.0, 2), ValueError, r"points must have shape \(\*, 3\), got \(4, 2\)"),
    "points of integers": ((P.int(), P, 1.0, 2), TypeError, r"points must be float32 or float64, got int32"),
    "points as a list": (([[0.0] * 3], P, 1.0, 2), TypeError, r"points must be a tensor, got list"),
    "queries of two numbers": ((P, P[:, :2], 1.0, 2), ValueError, r"queries must have shape \(\*, 3\), got \(4, 2\)"),
    "other queries": ((P, P.double(), 1.0, 2), TypeError, r"queries must be float32, got float64"),
    "queries elsewhere": ((P, P.to("meta"), 1.0, 2), ValueError, r"queries must be on cpu like points, got meta"),
    "no radius": ((P, P, None, 2), TypeError, r"radius must be a number, got None"),
    "a radius of NaN": ((P, P, math.nan, 2), ValueError, r"radius must be a number, got NaN"),
    "a radius of 0": ((P, P, 0.0, 2), ValueError, RADIUS + "0.0"),
    "a negative radius": ((P, P, -1.0, 2), ValueError, RADIUS + "-1.0"),
    "an infinite radius": ((P, P, math.inf, 2), ValueError, RADIUS + "inf"),
    "a radius whose square is 0": ((P, P, 1e-20, 2), ValueError, RADIUS + "1e-20"),
    "a radius whose square is infinite": ((P, P, 1e20, 2), ValueError, RADIUS + r"1e\+20"),
    "no neighbours": ((P, P, 1.0, 0), ValueError, r"k must be at least 1, got 0"),
    "half a neighbour": ((P, P, 1.0, 0.5), TypeError, r"k must be an integer, got 0.5"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD.keys())
def test_ball_query_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        ball_query(*arguments)
