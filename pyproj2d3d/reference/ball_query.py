"""The points within a radius, from all distances."""

from __future__ import annotations

import torch
from torch import Tensor

from ._shared import squared_length


def ball_query(points: Tensor, queries: Tensor, radius: float, k: int) -> tuple[Tensor, Tensor]:
    r = points.new_tensor(radius)
    inside = squared_length(queries.detach()[:, None] - points.detach()) < r * r  # (Q, N)
    query, point = inside.nonzero(as_tuple=True)
    place = inside.cumsum(1)[query, point] - 1
    index = torch.full((len(queries), k), -1, device=points.device)
    index[query[place < k], place[place < k]] = point[place < k]
    return index, inside.sum(1)
