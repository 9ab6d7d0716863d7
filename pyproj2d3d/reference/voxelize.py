"""Cells made unique row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..results import Voxels


def voxelize(
    points: Tensor,
    size: float | Sequence[float],
    *,
    batch: Tensor | None = None,
    origin: Tensor | Sequence[float] | None = None,
) -> Voxels:
    edges = points.new_tensor(size if isinstance(size, Sequence) else [size] * 3)
    origin = (0.0, 0.0, 0.0) if origin is None else origin
    corner = origin.to(points) if isinstance(origin, Tensor) else points.new_tensor(origin)
    finite = points.isfinite().all(1)
    cell = torch.floor((points.detach()[finite] - corner) / edges).long()
    first = cell.new_zeros(len(cell)) if batch is None else batch[finite].long()
    coords, number = torch.cat((first[:, None], cell), 1).unique(dim=0, return_inverse=True)  # (M, 4) in their order
    inverse = number.new_full((len(points),), -1)
    inverse[finite] = number
    counts = torch.bincount(number, minlength=len(coords))
    ptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    order = torch.argsort(torch.where(finite, inverse, len(coords)), stable=True)
    return Voxels(coords.int(), inverse, counts, ptr, order)
