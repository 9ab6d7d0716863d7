"""farthest_point_sample, ball_query and three_nn again in plain torch: see :mod:`pyproj2d3d.reference`."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def farthest_point_sample(points: Tensor, n: int, *, ptr: Tensor | None = None, start: int = 0) -> Tensor:
    bounds = [0, len(points)] if ptr is None else ptr.tolist()
    out = torch.full((len(bounds) - 1, n), -1, device=points.device)
    for cloud, (begin, end) in enumerate(pairwise(bounds)):
        p = points[begin:end].detach()
        finite = p.isfinite().all(1)
        distance = torch.where(finite, torch.inf, -1.0).to(p.dtype)
        for s in range(min(n, int(finite.sum()))):
            chosen = start if s == 0 and finite[start] else int(distance.argmax())  # the first of several
            out[cloud, s] = begin + chosen
            distance = torch.minimum(distance, torch.where(finite, squared_length(p[chosen] - p), -1))
            distance[chosen] = -1
    return out.flatten()


def squared_length(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    return (x * x + y * y) + z * z


def ball_query(points: Tensor, queries: Tensor, radius: float, k: int) -> tuple[Tensor, Tensor]:
    r = points.new_tensor(radius)
    inside = squared_length(queries.detach()[:, None] - points.detach()) < r * r  # (Q, N)
    query, point = inside.nonzero(as_tuple=True)
    place = inside.cumsum(1)[query, point] - 1
    index = torch.full((len(queries), k), -1, device=points.device)
    index[query[place < k], place[place < k]] = point[place < k]
    return index, inside.sum(1)


def three_nn(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    distance = squared_length(queries.detach()[:, None] - points.detach())  # (Q, N)
    nearest, index = torch.where(distance.isnan(), torch.inf, distance).sort(dim=1, stable=True)
    nearest, index = (torch.nn.functional.pad(t[:, :3], (0, max(0, 3 - len(points)))) for t in (nearest, index))
    found = (nearest < torch.inf) & (torch.arange(3, device=points.device) < len(points))
    index = torch.where(found, index, -1)
    padded = torch.cat((points, points.new_zeros(1, 3)))  # row -1
    difference = torch.where(found[..., None], queries[:, None] - padded[index], 0)
    return torch.where(found, squared_length(difference), torch.inf), index
