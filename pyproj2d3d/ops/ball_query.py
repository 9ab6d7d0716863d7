"""Which points are within a radius? The first of them in index order, and how many there are."""

from __future__ import annotations

import torch
from torch import Tensor

from ._check import check_fewer, check_int, check_number
from ._neighbours import along_curve, check_points_and_queries, curve_frame, neighbour_tree
from ._register import contiguous, empty, native, on, register

__all__ = ["ball_query"]


def ball_query(points: Tensor, queries: Tensor, radius: float, k: int) -> tuple[Tensor, Tensor]:
    """The points in a ball around each query.

    A point is in it where its squared distance, ((x^2 + y^2) + z^2) of the differences, is below radius^2, both in the
    points' dtype: one exactly on the sphere is not, as in the kernels of PointNet++. Unlike there, the ball of which a
    query is the only point holds that point alone, and an empty one nothing: the rest is -1.

    Args:
        points: (N, 3) float32 or float64, in any order.
        queries: (Q, 3) like ``points``, of which they need not be.
        radius: positive, and neither 0 nor infinite when squared in the points' dtype.
        k: how many points to return at most, at least 1.

    Returns:
        index: (Q, k) int64, the k lowest points of each ball, ascending, and -1 where there are fewer.
        count: (Q,) int64, how many points the ball has, beyond k too: ``count > k`` where some are not in ``index``.
        Not differentiable; ``points[index]`` is, where ``index`` is not -1.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here.

    A point that is not finite is in no ball, and the ball of a query that is not finite is empty. The result is exact:
    the tree over the points, which takes memory linear in their number, decides the time alone.

    >>> points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    >>> index, count = ball_query(points, points, 1.5, 2)
    >>> index.tolist(), count.tolist()
    ([[0, 1], [0, 1], [1, 2]], [2, 3, 2])
    """
    check_points_and_queries(points, queries)
    radius, k = check_number("radius", radius), check_int("k", k, 1)
    check_fewer("k", k)
    known = torch.finfo(points.dtype)
    if not (radius > 0 and known.tiny <= radius * radius <= known.max):
        name = str(points.dtype).removeprefix("torch.")
        raise ValueError(f"radius must be positive, and neither 0 nor infinite when squared in {name}, got {radius}")
    return _ball_query(points.detach(), queries.detach(), radius, k)


def _run(points: Tensor, queries: Tensor, radius: float, k: int) -> tuple[Tensor, Tensor]:
    check_fewer("points", len(points))
    check_fewer("queries", len(queries))
    points, queries = contiguous(points, queries)
    index, count = (empty(queries, *shape, dtype=torch.int64) for shape in ((len(queries), k), (len(queries),)))
    if len(points) == 0:
        return index.fill_(-1), count.zero_()
    frame = curve_frame(points)
    tree, turn = neighbour_tree(points, frame), along_curve(queries, frame)
    native.ball_query(on(points), *tree, queries, turn, radius, index, count)
    return index, count


def _fake(points: Tensor, queries: Tensor, radius: float, k: int) -> tuple[Tensor, Tensor]:
    n = queries.shape[0]
    return queries.new_empty(n, k, dtype=torch.int64), queries.new_empty(n, dtype=torch.int64)


_ball_query = register(
    "ball_query(Tensor points, Tensor queries, float radius, SymInt k) -> (Tensor, Tensor)", _run, _fake
)
