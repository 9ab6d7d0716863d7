"""Which points of one label hang together? Connected components of the radius graph, however dense the cloud is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._check import GEOMETRY, check_device, check_fewer, check_int, check_number, check_tensor
from ._register import empty, native, on, register
from .voxelize import occupied_voxels

__all__ = ["cluster"]

# The edge of a cell in radii: its diagonal is shorter than the radius by much more than all roundings come to, so that
# the points of a cell are one cluster without looking at them.
_EDGE = (1 - 2.0**-16) / math.sqrt(3)


def cluster(points: Tensor, labels: Tensor, radius: float, *, min_size: int = 1) -> Tensor:
    """Groups of points that hang together: two of equal label less than ``radius`` apart are in one cluster, and so is
    whatever such steps lead to. These are PointGroup's clusters without its limit of 1000 neighbours, which makes what
    it finds in a dense cloud depend on the order of the points; here the order only numbers them.

    Args:
        points: (N, 3) float32 or float64, metres, in any order: of one scene.
        labels: (N,) int64 up to 2**31 - 2, such as predicted classes. A point of a negative label (-1 is ignored
            everywhere) is in no cluster and joins nothing: give it to what should not be clustered, as wall and floor.
        radius: metres. Points exactly that far apart are not joined by it, as in PointGroup: (x x + y y) + z z of the
            differences must be less than radius * radius, in the points' dtype.
        min_size: in points, at least 1. A smaller cluster is none.

    Returns:
        (N,) int64, the cluster of each point, numbered from 0 by their lowest points; -1 for a point in none: of a
        negative label, not finite, or of too small a group. The same on every device. Not differentiable.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here, or a finite point
            farther than about 10**9 radii from the origin.

    Points are put into cells of edge radius / sqrt(3), which are of one cluster each, and cells are joined by the first
    pair of points that is near enough. Memory is in proportion to the points, not to their neighbours. On CUDA it
    synchronises once, for the number of cells; where 63 bits do not number those within the extent, once more.

    >>> points = torch.tensor([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.9, 0.0, 0.0], [1.8, 0.0, 0.0], [2.7, 0.0, 0.0]])
    >>> cluster(points, torch.tensor([3, 3, 3, 3, 1]), 1.0)
    tensor([0, 1, 0, 0, 2])
    >>> cluster(points, torch.tensor([3, 3, 3, 3, -1]), 1.0, min_size=2)
    tensor([ 0, -1,  0,  0, -1])
    """
    check_tensor("points", points, GEOMETRY, None, 3)
    check_tensor("labels", labels, (torch.int64,), len(points))
    check_device("labels", labels, "points", points)
    radius = check_number("radius", radius)
    smallest, largest = (math.sqrt(limit) for limit in (_finfo(points).tiny, _finfo(points).max))
    if not smallest < radius < largest:
        raise ValueError(f"radius must be positive, and its square finite and normal in {_name(points)}, got {radius}")
    return _cluster(points.detach(), labels, radius, min(check_int("min_size", min_size, 1), 2**63 - 1))


def _finfo(points: Tensor) -> torch.finfo:
    return torch.finfo(points.dtype)


def _name(points: Tensor) -> str:
    return str(points.dtype).removeprefix("torch.")


def _run(points: Tensor, labels: Tensor, radius: float, min_size: int) -> Tensor:
    check_fewer("points", len(points))
    coords, inverse, counts, ptr, order = _cells(points, labels, radius)
    if len(coords) == 0:
        return torch.full_like(labels, -1)
    root = empty(ptr, len(coords))  # the lowest cell that each hangs together with
    native.cluster_cells(on(points), coords, ptr, points.index_select(0, order), radius, root)
    size = torch.zeros_like(root).index_add_(0, root, counts)
    lowest = order[ptr[:-1]]  # point of each cell, and then of all that hang together
    lowest = lowest.scatter_reduce(0, root, lowest, "amin")[root]
    kept = size[root] >= min_size
    begins = torch.zeros_like(order).scatter_(0, lowest, kept.long())  # all cells of a cluster write the same
    number = torch.where(kept, begins.cumsum(0)[lowest] - 1, -1)
    numbers = torch.cat((number.new_full((1,), -1), number))  # the first is of points in no cell
    return numbers.index_select(0, inverse + 1)


def _cells(points: Tensor, labels: Tensor, radius: float) -> tuple[Tensor, ...]:
    """The voxels of what can be clustered, by label and place; in float64, so that far from the origin too a cell is no
    larger than it says."""
    clustered = points.double().masked_fill((labels < 0)[:, None], torch.nan)
    edge = _EDGE * radius
    try:
        return occupied_voxels(clustered, labels.clamp(min=0), clustered.new_zeros(3), edge, edge, edge)
    except ValueError:  # in the words of voxelize
        worst = int(labels.max())
        if worst > native.LAST_BATCH:
            raise ValueError(f"labels must be at most {native.LAST_BATCH}, got {worst}") from None
        farthest = clustered[clustered.isfinite().all(1)].abs().max().item()
        raise ValueError(
            f"points must have coordinates below {edge * 2**31:g} for a radius of {radius:g}, got {farthest:g}"
        ) from None


def _fake(points: Tensor, labels: Tensor, radius: float, min_size: int) -> Tensor:
    return labels.new_empty(labels.shape[0])


_cluster = register("cluster(Tensor points, Tensor labels, float radius, int min_size) -> Tensor", _run, _fake)
