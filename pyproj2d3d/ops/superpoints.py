"""Which points belong together for their shape alone? Felzenszwalb's over-segmentation of a graph, as in ScanNet."""

from __future__ import annotations

import torch
from torch import Tensor

from ._check import GEOMETRY, check_fewer, check_int, check_number, check_tensor
from ._register import contiguous, empty, native, on, register, sort_keys

__all__ = ["superpoints"]


def superpoints(points: Tensor, normals: Tensor, edges: Tensor, *, k: float, min_size: int) -> Tensor:
    """Segments of a mesh or a cloud that are about flat: the graph-based segmentation of Felzenszwalb and Huttenlocher
    (2004) with the weights of ScanNet's Segmentator, whose ``*_vh_clean_2.0.010000.segs.json`` have k = 0.01 and
    min_size = 20.

    An edge from p to q, with normals n and m, weighs 1 - n . m; where m . (q - p) > 0, so across a convex edge, the
    square of that. A weight below 0, as of normals longer than 1, is 0. Edges are visited by ascending weight, equal
    ones in the order given. One joins two segments if its weight w is at most the threshold of both: k for a single
    point, w + k / size for one joined by w. Then edges are visited again, in the same order, and join segments of which
    one has fewer than min_size points.

    Host only: tensors elsewhere are an error. The sort takes torch's threads, the joining one; the result is the same
    for any number of them.

    Args:
        points: (N, 3) float32 or float64, metres.
        normals: (N, 3) like ``points``, taken as they are: :func:`pyproj2d3d.data.vertex_normals` of a mesh.
        edges: (E, 2) int64, two points each: :func:`pyproj2d3d.data.mesh_edges` of a mesh,
            :func:`pyproj2d3d.data.knn_edges` of a cloud. An edge given twice, or from a point to itself, does no harm.
            Which end comes first matters only where the normals of the two disagree about whether the edge is convex.
        k: not negative; the larger, the larger the segments. It has the unit of the weights, from 0 to 2 (4 squared).
        min_size: in points, at least 1. A segment without edges to others stays smaller.

    Returns:
        (N,) int64, the segment of each point: 0 to S - 1, numbered by their lowest points. Not differentiable.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here, or an edge of a point
            that is not there.

    A normal of 0 makes its edges weigh 1. A weight that is NaN, as of a normal that is not finite, is infinite: such an
    edge joins nothing before segments are joined for their size.

    >>> points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 0.0, 2.0]])
    >>> normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    >>> superpoints(points, normals, torch.tensor([[0, 1], [1, 2], [2, 3]]), k=0.01, min_size=1)
    tensor([0, 0, 1, 1])
    """
    check_tensor("points", points, GEOMETRY, None, 3)
    check_tensor("normals", normals, (points.dtype,), len(points), 3)
    check_tensor("edges", edges, (torch.int64,), None, 2)
    for name, tensor in (("points", points), ("normals", normals), ("edges", edges)):
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} must be on the host: superpoints runs on the CPU only, got {tensor.device}")
    k = check_number("k", k)
    if not 0 <= k <= torch.finfo(points.dtype).max:
        raise ValueError(f"k must not be negative, and finite in {str(points.dtype).removeprefix('torch.')}, got {k}")
    min_size = min(check_int("min_size", min_size, 1), 2**63 - 1)
    return _superpoints(points.detach(), normals.detach(), edges, k, min_size)


def _run(points: Tensor, normals: Tensor, edges: Tensor, k: float, min_size: int) -> Tensor:
    n = len(points)
    check_fewer("edges", len(edges))
    _check_edges(edges, n)
    points, normals, edges = contiguous(points, normals, edges)
    weight, threshold = empty(points, len(edges)), empty(points, n)
    native.superpoints_weights(on(points), points, normals, edges, weight)
    key = weight.view(torch.int32 if weight.dtype == torch.float32 else torch.int64)
    key, order = sort_keys(key, torch.iinfo(key.dtype).max)  # no weight is negative, so their bits order as they do
    size, out = empty(edges, n), empty(edges, n)
    native.superpoints_merge(edges, key.view(weight.dtype), k, min_size, order, threshold, size, out)
    return out


def _check_edges(edges: Tensor, n: int) -> None:
    """Here, where torch.compile calls it too: memory that is not ours would be read and written."""
    if len(edges):
        low, high = edges.aminmax()
        if low < 0 or high >= n:
            bad = int(((edges < 0) | (edges >= n)).any(1).nonzero()[0])
            raise ValueError(f"edges must be of points from 0 to {n - 1}, edge {bad} is {edges[bad].tolist()}")


def _fake(points: Tensor, normals: Tensor, edges: Tensor, k: float, min_size: int) -> Tensor:
    return edges.new_empty(points.shape[0])


_superpoints = register(
    "superpoints(Tensor points, Tensor normals, Tensor edges, float k, int min_size) -> Tensor", _run, _fake
)
