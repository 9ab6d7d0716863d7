"""Which three points are nearest, and how do their distances change?"""

import math

import pytest
import torch
from clouds import random_cloud, shapes_of_clouds
from scenes import assert_same_bits

from pyproj2d3d import reference, three_nn

NATIVE_AND_REFERENCE = pytest.mark.parametrize("asked", [three_nn, reference.three_nn], ids=["native", "reference"])
SHAPES = shapes_of_clouds()
INF = math.inf


def on_a_line(*x, dtype=torch.float32, device="cpu"):
    return torch.tensor([[float(v), 0.0, 0.0] for v in x], dtype=dtype, device=device).reshape(-1, 3)


@NATIVE_AND_REFERENCE
def test_the_nearest_come_first_with_squared_distances(asked, device, dtype):
    points = on_a_line(9, 3, 0, 1, dtype=dtype, device=device)
    distance, index = asked(points, on_a_line(1, 8, dtype=dtype, device=device))
    assert distance.tolist() == [[0, 1, 4], [1, 25, 49]]
    assert index.tolist() == [[3, 2, 1], [0, 1, 3]]
    assert (distance.dtype, index.dtype) == (dtype, torch.int64)


@NATIVE_AND_REFERENCE
def test_of_equally_near_points_the_lowest_come_first(asked, device, dtype):
    points = on_a_line(1, -1, 1, -1, 0, dtype=dtype, device=device)
    assert asked(points, points[4:])[1].tolist() == [[4, 0, 1]]
    assert asked(points[:4], points[4:])[1].tolist() == [[0, 1, 2]]
    same = torch.ones(50, 3, dtype=dtype, device=device)
    assert asked(same, same[:2])[1].tolist() == [[0, 1, 2]] * 2


@NATIVE_AND_REFERENCE
def test_fewer_than_three_points_leave_places_empty(asked, device, dtype):
    """PointNet++'s kernel names point 0."""
    points = on_a_line(5, 2, dtype=dtype, device=device)
    distance, index = asked(points, points[:1])
    assert (distance.tolist(), index.tolist()) == ([[0, 9, INF]], [[0, 1, -1]])
    distance, index = asked(points[:0], points)
    assert (distance.tolist(), index.tolist()) == ([[INF] * 3] * 2, [[-1] * 3] * 2)
    distance, index = asked(points, points[:0])
    assert (distance.shape, index.shape) == ((0, 3), (0, 3))


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_neighbour_and_is_none(asked, bad, device, dtype):
    points = on_a_line(0, bad, 2, 1, dtype=dtype, device=device)
    points[2, 1] = bad
    distance, index = asked(points, points[:3])
    assert distance.tolist() == [[0, 1, INF], [INF] * 3, [INF] * 3]
    assert index.tolist() == [[0, 3, -1], [-1] * 3, [-1] * 3]


@NATIVE_AND_REFERENCE
def test_a_point_whose_squared_distance_is_infinite_is_nobodys_neighbour(asked, device):
    points = on_a_line(1e30, 1e18, 0, device=device)
    distance, index = asked(points, points[2:])
    assert index.tolist() == [[2, 1, -1]]
    assert distance[0, 2] == INF


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 64, 65, 513, 5000])
def test_large_clouds_equal_the_reference(n, device, dtype):
    points = random_cloud(n, dtype, device)
    queries = torch.cat((points[:150], random_cloud(150, dtype, device, seed=1)))
    assert_same_bits(three_nn(points, queries), reference.three_nn(points, queries))


@pytest.mark.parametrize("shape", SHAPES)
def test_clouds_of_any_shape_equal_the_reference(shape, device):
    points = SHAPES[shape].to(device)
    for queries in (points[::9], 1.5 * points[:30], SHAPES["a box"][:30].to(device)):
        assert_same_bits(three_nn(points, queries), reference.three_nn(points, queries))


def test_gradients_pull_both_ends(device, dtype):
    points = on_a_line(0, 1, 9, dtype=dtype, device=device).requires_grad_()
    queries = on_a_line(3, dtype=dtype, device=device).requires_grad_()
    distance, index = three_nn(points, queries)
    assert not index.requires_grad
    distance.backward(torch.tensor([[1.0, 10.0, 100.0]], dtype=dtype, device=device))  # of points 1, 0 and 2
    assert queries.grad[0, 0].item() == 2 * (1 * 2 + 10 * 3 - 100 * 6)
    assert points.grad[:, 0].tolist() == [-60, -4, 1200]
    assert (points.grad[:, 1:] == 0).all()


def test_gradcheck(device):
    rng = torch.Generator().manual_seed(0)
    points, queries = (torch.randn(n, 3, generator=rng, dtype=torch.float64).to(device) for n in (20, 30))
    torch.autograd.gradcheck(lambda p, q: three_nn(p, q)[0], (points.requires_grad_(), queries.requires_grad_()))
    torch.autograd.gradcheck(lambda p: three_nn(p[:2], queries.detach())[0][:, :2], (points,))
    torch.autograd.gradcheck(lambda q: three_nn(points.detach(), q)[0], (queries,))


def test_gradients_of_places_that_are_empty_are_0(device, dtype):
    """inf times whatever comes is NaN: it is left out."""
    points = on_a_line(0, math.nan, 5, dtype=dtype, device=device).requires_grad_()
    queries = on_a_line(1, math.nan, dtype=dtype, device=device).requires_grad_()
    three_nn(points, queries)[0].backward(torch.tensor([[1.0, 1.0, INF], [INF, 1.0, INF]], dtype=dtype, device=device))
    assert points.grad[:, 0].tolist() == [-2, 0, 8]
    assert queries.grad[:, 0].tolist() == [-6, 0]


def test_many_queries_of_one_point_sum_alike_with_any_number_of_threads(set_threads, dtype):
    points, queries = torch.randn(20_003, 3, generator=torch.Generator().manual_seed(0)).to(dtype).split((3, 20_000))
    grads = []
    for threads in (1, 2, 3):
        set_threads(threads)
        leaf = points.clone().requires_grad_()
        three_nn(leaf, queries)[0].sum().backward()
        grads.append(leaf.grad)
    assert_same_bits(grads[1], grads[0])
    assert_same_bits(grads[2], grads[0])
    leaf = points.double().requires_grad_()
    reference.three_nn(leaf, queries.double())[0].sum().backward()
    torch.testing.assert_close(grads[0].double(), leaf.grad, rtol=1e-4, atol=1e-4)


# Errors.

P = torch.zeros(4, 3)
BAD = {
    "points of two numbers": ((P[:, :2], P), ValueError, r"points must have shape \(\*, 3\), got \(4, 2\)"),
    "points of integers": ((P.int(), P), TypeError, r"points must be float32 or float64, got int32"),
    "points as a list": (([[0.0] * 3], P), TypeError, r"points must be a tensor, got list"),
    "queries of two numbers": ((P, P[:, :2]), ValueError, r"queries must have shape \(\*, 3\), got \(4, 2\)"),
    "other queries": ((P, P.double()), TypeError, r"queries must be float32, got float64"),
    "queries elsewhere": ((P, P.to("meta")), ValueError, r"queries must be on cpu like points, got meta"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD.keys())
def test_three_nn_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        three_nn(*arguments)
