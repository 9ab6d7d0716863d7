"""In what order do neighbours in space come side by side, and which tree stands on it? Shared by what asks for them."""

from __future__ import annotations

import torch
from torch import Tensor

from ._check import GEOMETRY, check_device, check_tensor
from ._register import empty, native, on, sort_keys

__all__ = ["along_curve", "curve_frame", "neighbour_tree"]

SAMPLE = 1024  # points that say where the cloud is


def check_points_and_queries(points: Tensor, queries: Tensor) -> None:
    """(N, 3) and (Q, 3) of one dtype and device."""
    check_tensor("points", points, GEOMETRY, None, 3)
    check_tensor("queries", queries, (points.dtype,), None, 3)
    check_device("queries", queries, "points", points)


def curve_frame(points: Tensor) -> Tensor:
    """A corner and an edge (4,), of the cells that a space-filling curve numbers.

    Most points decide, not the extreme ones: a few that are astray would leave all others in one cell. Nothing but the
    time of an operation depends on it.
    """
    some = points[:: max(1, len(points) // SAMPLE)].detach()
    known = some.isfinite().all(1, keepdim=True)
    ordered = torch.where(known, some, torch.inf).sort(0).values
    last = (known.sum() - 1).clamp(min=0)
    low, high = (ordered.index_select(0, at.view(1))[0] for at in (last // 64, last - last // 64))
    width = high - low
    edge = (1.25 * width.amax() / 2 ** (native.CURVE_BITS // 3)).nan_to_num(1.0)
    return torch.cat((low - width / 8, torch.where(edge > 0, edge, 1.0).view(1)))


def along_curve(points: Tensor, frame: Tensor) -> Tensor:
    """(N,) int64, the points in the order of the curve; in one cell ascending."""
    key = empty(points, len(points), dtype=torch.int64)
    native.curve_keys(on(points), points, frame, key)
    return sort_keys(key, 1 << native.CURVE_BITS)[1]


def neighbour_tree(points: Tensor, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leaves, nodes and order of the tree over dense points (N, 3): see csrc/core/neighbour_tree.hpp."""
    n, order = len(points), along_curve(points, frame)
    leaves = empty(points, -(-n // native.BRANCH), 3, native.BRANCH)
    nodes = empty(points, native.neighbour_tree_nodes(n), 6, native.BRANCH)
    native.neighbour_tree(on(points), points, order, leaves, nodes)
    return leaves, nodes, order
