"""Connected components of the radius graph, pair by pair."""

from __future__ import annotations

import torch
from torch import Tensor


def cluster(points: Tensor, labels: Tensor, radius: float, *, min_size: int = 1) -> Tensor:
    """Every point takes the lowest number among its neighbours, from pair to pair, until nothing changes."""
    n = len(points)
    points, square = points.detach(), points.new_tensor(radius) * points.new_tensor(radius)
    clustered = points.isfinite().all(1) & (labels >= 0)
    rows = max(1, 2**22 // max(n, 1))  # so many at a time: all distances at once may not fit
    pairs = []
    for first in range(0, n, rows):
        some = slice(first, first + rows)
        x, y, z = (points[some, None] - points).unbind(dim=2)
        joined = ((x * x + y * y) + z * z < square) & (labels[some, None] == labels) & clustered[some, None] & clustered
        pairs.append(joined.nonzero() + torch.tensor([first, 0], device=points.device))
    p, q = torch.cat([labels.new_zeros(0, 2), *pairs]).T
    lowest = before = torch.arange(n, device=points.device)
    while True:
        lowest = lowest.scatter_reduce(0, p, lowest[q], "amin")
        lowest = lowest[lowest]
        if torch.equal(lowest, before):
            break
        before = lowest
    size = torch.bincount(lowest, minlength=n)
    kept = clustered & (size[lowest] >= min(min_size, n + 1))
    found = torch.full_like(labels, -1)
    found[kept] = lowest[kept].unique(return_inverse=True)[1]
    return found
