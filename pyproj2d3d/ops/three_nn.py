"""Which three points are nearest? Their squared distances, with gradients, and their indices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._check import check_fewer
from ._neighbours import along_curve, check_points_and_queries, curve_frame, neighbour_tree
from ._register import contiguous, empty, native, on, register, sum_by_key

__all__ = ["three_nn"]


def three_nn(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """The three points nearest to each query, nearest first, of equally near ones the lowest.

    Args:
        points: (N, 3) float32 or float64, in any order.
        queries: (Q, 3) like ``points``.

    Returns:
        squared_distance: (Q, 3) like ``points``, ((x^2 + y^2) + z^2) of the differences: its root is the distance,
            which is what the kernels of PointNet++ return. Differentiable in points and queries.
        index: (Q, 3) int64.

    Raises:
        TypeError, ValueError: an argument of another type, shape or device than said here.

    Where there are fewer than three the rest is inf and -1, so that weights 1 / (d + eps) are 0 there. A point that is
    not finite, or so far that its squared distance is not, is nobody's neighbour; a query that is not finite has none.
    The result is exact: the tree over the points, which takes memory linear in their number, decides the time alone.

    >>> points = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    >>> squared_distance, index = three_nn(points, torch.tensor([[2.0, 0.0, 0.0]]))
    >>> squared_distance.tolist(), index.tolist()
    ([[1.0, 4.0, inf]], [[1, 0, -1]])
    """
    check_points_and_queries(points, queries)
    return _three_nn(points, queries)


def _run(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    check_fewer("points", len(points))
    check_fewer("queries", len(queries))
    points, queries = contiguous(points, queries)
    distance, index = empty(queries, len(queries), 3), empty(queries, len(queries), 3, dtype=torch.int64)
    if len(points) == 0:
        return distance.fill_(torch.inf), index.fill_(-1)
    frame = curve_frame(points)
    tree, turn = neighbour_tree(points, frame), along_curve(queries, frame)
    native.three_nn(on(points), *tree, queries, turn, distance, index)
    return distance, index


def _fake(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], 3)
    return queries.new_empty(shape), queries.new_empty(shape, dtype=torch.int64)


def _run_grad(points: Tensor, queries: Tensor, index: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    pull, of_queries = empty(queries, index.numel(), 3), empty(queries, len(queries), 3)
    points, queries, index, grad = contiguous(points, queries, index, grad)
    native.three_nn_grad(on(points), points, queries, index, grad, pull, of_queries)
    row = torch.arange(index.numel(), device=index.device)
    return sum_by_key(pull, row, index.flatten(), len(points)), of_queries


def _fake_grad(points: Tensor, queries: Tensor, index: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    return points.new_empty(points.shape), queries.new_empty(queries.shape)


_three_nn_grad = register(
    "three_nn_grad(Tensor points, Tensor queries, Tensor index, Tensor grad) -> (Tensor, Tensor)", _run_grad, _fake_grad
)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    return _three_nn_grad(*ctx.saved_tensors, grad)


_three_nn = register(
    "three_nn(Tensor points, Tensor queries) -> (Tensor, Tensor)", _run, _fake, save=_save, backward=_backward
)
