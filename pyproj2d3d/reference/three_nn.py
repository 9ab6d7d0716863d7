"""The three nearest points, from all distances."""

from __future__ import annotations

import torch
from torch import Tensor

from ._shared import squared_length


def three_nn(points: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    distance = squared_length(queries.detach()[:, None] - points.detach())  # (Q, N)
    nearest, index = torch.where(distance.isnan(), torch.inf, distance).sort(dim=1, stable=True)
    nearest, index = (torch.nn.functional.pad(t[:, :3], (0, max(0, 3 - len(points)))) for t in (nearest, index))
    found = (nearest < torch.inf) & (torch.arange(3, device=points.device) < len(points))
    index = torch.where(found, index, -1)
    padded = torch.cat((points, points.new_zeros(1, 3)))  # row -1
    difference = torch.where(found[..., None], queries[:, None] - padded[index], 0)
    return torch.where(found, squared_length(difference), torch.inf), index
