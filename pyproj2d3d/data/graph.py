"""Which points are neighbours, and which way does a surface face there? What :func:`superpoints` takes."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops._check import GEOMETRY, check_device, check_int, check_tensor
from ..ops._register import sort_keys, sum_by_key

__all__ = ["knn_edges", "mesh_edges", "vertex_normals"]


def mesh_edges(faces: Tensor) -> Tensor:
    """The sides of triangles, each once.

    Args:
        faces: (F, 3) int64, vertices from 0 to 2**31 - 1.

    Returns:
        (E, 2) int64: the lower vertex first, in ascending order of both. A side from a vertex to itself is left out.

    Raises:
        TypeError, ValueError: faces of another type, shape or range.

    ScanNet's Segmentator has a side that two faces share twice, once in each direction, and so the lower of two
    weights. Its own segments, but for how it sorts equal weights, come of these edges and its normals::

        edges = faces[:, [0, 1, 0, 2, 2, 1]].view(-1, 2)
        superpoints(vertices, vertex_normals(vertices, faces, mean=True), edges, k=0.01, min_size=20)

    >>> mesh_edges(torch.tensor([[0, 1, 2], [2, 1, 3]])).tolist()
    [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]
    """
    check_tensor("faces", faces, (torch.int64,), None, 3)
    if not len(faces):
        return faces.new_empty(0, 2)
    _check_range(faces, 2**31)
    return _unique(faces.T.flatten(), faces.T.roll(-1, 0).flatten())


def knn_edges(points: Tensor, k: int) -> Tensor:
    """Every point with its k nearest others, each pair once.

    Host only; needs SciPy, whose tree takes torch's number of threads.

    Args:
        points: (N, 3) float32 or float64, finite.
        k: neighbours of a point, itself not among them; all others where there are fewer.

    Returns:
        (E, 2) int64: the lower point first, in ascending order of both; the same for any number of threads. Of several
        points that are equally far away SciPy chooses which still are among the k.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here.

    >>> knn_edges(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]), 1).tolist()
    [[0, 1], [1, 2]]
    """
    from scipy.spatial import cKDTree

    check_tensor("points", points, GEOMETRY, None, 3)
    k = check_int("k", k, 1)
    if points.device.type != "cpu":
        raise ValueError(f"points must be on the host: knn_edges runs on the CPU only, got {points.device}")
    points = points.detach()
    if not bool(points.isfinite().all()):
        raise ValueError("points must be finite")
    n = len(points)
    k = min(k, n - 1)
    if k < 1:
        return torch.empty(0, 2, dtype=torch.int64)
    tree = cKDTree(points.double().numpy())
    _, found = tree.query(tree.data, k + 1, workers=torch.get_num_threads())  # (N, k + 1), the nearest first
    other = torch.from_numpy(found).long()
    point = torch.arange(n)[:, None].expand_as(other)
    itself = other == point
    itself[:, -1] |= ~itself.any(dim=1)  # it is not among the found where more than k others stand in its place
    return _unique(point[~itself], other[~itself])


def vertex_normals(vertices: Tensor, faces: Tensor, *, mean: bool = False) -> Tensor:
    """Normals of a mesh at its vertices: those of the faces around, weighted by their areas, to length 1.

    Args:
        vertices: (N, 3) float32 or float64.
        faces: (F, 3) int64; seen from where a normal points to, the vertices of a face go counter-clockwise.
        mean: instead the plain mean of the faces' unit normals, faces without area left out. It is shorter than 1 where
            they differ, and is left so: ScanNet's Segmentator takes these, which makes creases and noise weigh more.

    Returns:
        (N, 3) like ``vertices``, computed in float64; the same for any number of threads. 0 where a vertex has no face
        with an area, and where they cancel; NaN where a vertex of one of them is not finite. Not differentiable.

    Raises:
        TypeError, ValueError: an argument of another type or shape, or a face of a vertex that is not there.

    >>> vertex_normals(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([[0, 1, 2]]))[0]
    tensor([0., 0., 1.])
    """
    check_tensor("vertices", vertices, GEOMETRY, None, 3)
    check_tensor("faces", faces, (torch.int64,), None, 3)
    check_device("faces", faces, "vertices", vertices)
    if not len(faces):
        return torch.zeros_like(vertices)
    _check_range(faces, len(vertices))
    corner = vertices.detach().double()[faces]  # (F, 3, 3)
    normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])  # twice the area long
    if mean:
        normal = _unit(normal)
    face = torch.arange(len(faces), device=faces.device).repeat_interleave(3)
    total = sum_by_key(normal, face, faces.flatten(), len(vertices))  # (N, 3)
    if mean:
        has_area = (normal != 0).any(dim=1)  # NaN too
        count = torch.bincount(faces[has_area].flatten(), minlength=len(vertices))
        return (total / count.clamp(min=1)[:, None]).to(vertices.dtype)
    return _unit(total).to(vertices.dtype)


def _unit(rows: Tensor) -> Tensor:
    """(N, 3) to length 1; 0 stays 0."""
    x, y, z = rows.T
    length = ((x * x + y * y) + z * z).sqrt()[:, None]
    return torch.where(length == 0, 0, rows / length)


def _unique(one: Tensor, other: Tensor) -> Tensor:
    """Pairs (P,) of numbers below 2**31 to those of different ones, each once, the lower first, in ascending order."""
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    low, high = low[low != high], high[low != high]
    n = int(high.max()) + 1 if len(high) else 1
    key = sort_keys(low * n + high, n * n)[0].unique_consecutive()
    return torch.stack((key // n, key % n), dim=1)


def _check_range(faces: Tensor, n: int) -> None:
    low, high = (int(end) for end in faces.aminmax())
    if low < 0 or high >= n:
        bad = int(((faces < 0) | (faces >= n)).any(dim=1).nonzero()[0])
        raise ValueError(f"faces must be of vertices from 0 to {n - 1}, face {bad} is {faces[bad].tolist()}")
