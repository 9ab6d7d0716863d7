"""What the views say of each point: all of it gathered, then reduced."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Matches
from ._shared import accumulated
from .sample import sample


def fuse_views(
    maps: Tensor,
    matches: Matches,
    n_points: int,
    size: tuple[int, int],
    *,
    reduce: str = "mean",
    mode: str = "bilinear",
    align_corners: bool = False,
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    wide = accumulated(maps)
    found = sample(wide, matches, size, mode=mode, align_corners=align_corners, normalize=normalize)  # (M, C)
    point = matches.point.long()
    count = torch.bincount(point, minlength=n_points)
    if reduce == "mean":
        fused = found.new_zeros(n_points, found.shape[1]).index_add(0, point, found) / count.clamp(min=1)[:, None]
    else:
        fused = found.new_full((n_points, found.shape[1]), -torch.inf)
        fused = fused.scatter_reduce(0, point[:, None].expand_as(found), found, "amax")
        fused = torch.where(count[:, None] > 0, fused, 0)
    return fused.to(maps.dtype), count.int()
