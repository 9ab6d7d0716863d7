"""Segments of a graph, one edge after the other."""

from __future__ import annotations

import torch
from torch import Tensor


def superpoints(points: Tensor, normals: Tensor, edges: Tensor, *, k: float, min_size: int) -> Tensor:
    """One edge after the other, in Python."""
    p, q = edges.T
    n, m, step = normals.detach()[p], normals.detach()[q], (points[q] - points[p]).detach()
    turn = 1 - ((n[:, 0] * m[:, 0] + n[:, 1] * m[:, 1]) + n[:, 2] * m[:, 2])
    rise = (m[:, 0] * step[:, 0] + m[:, 1] * step[:, 1]) + m[:, 2] * step[:, 2]
    weight = torch.where(rise > 0, turn * turn, turn).clamp(min=0)
    weight, order = torch.where(weight.isnan(), torch.inf, weight).sort(stable=True)
    share = points.new_tensor(k) / torch.arange(len(points) + 1).to(points.dtype)  # k / size, in the points' dtype

    parent, size = list(range(len(points))), [1] * len(points)  # the lowest point of a segment stands for it
    threshold = [points.new_tensor(k).item()] * len(points)

    def segment_of(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(a: int, b: int) -> int:
        low, high = min(a, b), max(a, b)
        parent[high] = low
        size[low] += size[high]
        return low

    ends = edges[order].tolist()
    for w, (i, j) in zip(weight, ends, strict=True):
        a, b = segment_of(i), segment_of(j)
        if a != b and w <= min(threshold[a], threshold[b]):
            low = join(a, b)
            threshold[low] = (w + share[size[low]]).item()
    for i, j in ends:
        a, b = segment_of(i), segment_of(j)
        if a != b and min(size[a], size[b]) < min_size:
            join(a, b)
    found = torch.tensor([segment_of(i) for i in range(len(points))], dtype=torch.int64)
    return found.unique(return_inverse=True)[1]
