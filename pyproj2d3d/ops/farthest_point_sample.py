"""Which few points cover a cloud? Each the farthest from all those before it."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from . import _register
from ._check import GEOMETRY, check_device, check_fewer, check_int, check_tensor
from ._neighbours import along_curve, curve_frame
from ._register import contiguous, empty, native, on, register

__all__ = ["farthest_point_sample"]


def farthest_point_sample(points: Tensor, n: int, *, ptr: Tensor | None = None, start: int = 0) -> Tensor:
    """Points that cover a cloud: after the first, each is the one farthest from all those before it, the lowest of
    several.

    Distances are squared ones, ((x^2 + y^2) + z^2) of the differences in the points' dtype. No point is chosen twice,
    so among duplicates the lowest go first. Unlike in the kernels of PointNet++, points near the origin are points like
    others.

    Args:
        points: (N, 3) float32 or float64; one cloud, or with ``ptr`` several, one after the other.
        n: how many, at least 1, of each cloud.
        ptr: (B + 1,) int64, where each cloud begins, ascending from 0 to N. None: one cloud.
        start: the first one's place in its cloud.

    Returns:
        (n,) or with ``ptr`` (B n,) int64, the points chosen, in the order in which they were; they index ``points``, of
        all clouds. Not differentiable; ``points[...]`` of it is.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here, or a cloud that has
            fewer than ``n`` points or none at ``start``. On CUDA looking into ``ptr`` would synchronise: there such a
            cloud has the result below, and a ``ptr`` that does not ascend from 0 to N stops the kernel.

    A point that is not finite is never chosen. Where ``start`` is such a point the first is the lowest finite one;
    where a cloud runs out of finite points its last entries are -1.

    >>> points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [4.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    >>> farthest_point_sample(points, 3)
    tensor([0, 3, 2])
    >>> farthest_point_sample(points, 1, ptr=torch.tensor([0, 1, 4]), start=0)
    tensor([0, 1])
    """
    check_tensor("points", points, GEOMETRY, None, 3)
    n, start = check_int("n", n, 1), check_int("start", start, 0)
    check_fewer("n", n)
    check_fewer("start", start)
    if ptr is not None:
        check_tensor("ptr", ptr, (torch.int64,), None)
        check_device("ptr", ptr, "points", points)
        if len(ptr) == 0:
            raise ValueError("ptr must have B + 1 entries, got none")
    return _farthest_point_sample(points.detach(), ptr, n, start)


def _check_ptr(ptr: Tensor, points: Tensor, n: int, start: int) -> None:
    """Here, where torch.compile calls it too: memory that is not ours would be read and written."""
    length = ptr.diff()
    if ptr[0] != 0 or ptr[-1] != len(points) or bool((length < 0).any()):
        raise ValueError(f"ptr must ascend from 0 to {len(points)}, got {ptr.tolist()}")
    if bool((length < n).any()):
        cloud = int((length < n).nonzero()[0])
        raise ValueError(f"n must be at most the points of each cloud, {length[cloud]} in cloud {cloud}, got {n}")
    if bool((length <= start).any()):
        cloud = int((length <= start).nonzero()[0])
        raise ValueError(f"start must be below the points of each cloud, {length[cloud]} in cloud {cloud}, got {start}")


def _run(points: Tensor, ptr: Tensor | None, n: int, start: int) -> Tensor:
    check_fewer("points", len(points))
    if ptr is None:
        if n > len(points):
            raise ValueError(f"n must be at most the {len(points)} points, got {n}")
        if start >= len(points):
            raise ValueError(f"start must be below the {len(points)} points, got {start}")
        ptr = torch.arange(2, device=points.device) * len(points)
    elif not points.is_cuda:
        _check_ptr(ptr, points, n, start)
    points, ptr = contiguous(points, ptr)
    clouds = len(ptr) - 1
    out = empty(ptr, clouds * n)
    if points.is_cuda or _register.rehearse_cuda:
        native.farthest_point_sample(on(points), points, ptr, start, n, empty(points, len(points)), out)
        return out
    size = native.farthest_point_sample_bucket(len(points))
    buckets = len(points) // size + clouds
    sorted_points, point = empty(points, 4, len(points)), empty(points, len(points), dtype=torch.int32)
    bucket, farthest = empty(points, 7, buckets), empty(points, buckets, dtype=torch.int32)
    native.farthest_point_sample_buckets(
        on(points), points, ptr, _along_curve(points, ptr), start, n, size, sorted_points, point, bucket, farthest, out
    )
    return out


def _along_curve(points: Tensor, ptr: Tensor) -> Tensor:
    """The points of each cloud in the order of a curve of its own."""
    orders = [ptr.new_empty(0)]
    for begin, end in pairwise(ptr.tolist()):
        if end > begin:
            cloud = points[begin:end]
            orders.append(along_curve(cloud, curve_frame(cloud)) + begin)
    return torch.cat(orders)


def _fake(points: Tensor, ptr: Tensor | None, n: int, start: int) -> Tensor:
    clouds = 1 if ptr is None else ptr.shape[0] - 1
    return points.new_empty(clouds * n, dtype=torch.int64)


_farthest_point_sample = register(
    "farthest_point_sample(Tensor points, Tensor? ptr, SymInt n, SymInt start) -> Tensor", _run, _fake
)
