"""Points to images: gathered by index, or summed by match."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Matches
from ._shared import accumulated


def splat(
    features: Tensor, index: Tensor | Matches, size: tuple[int, int] | None = None, reduce: str = "mean"
) -> Tensor:
    if isinstance(index, Matches):
        assert size is not None
        return _splat_matches(features, index, size, reduce)
    empty = (index < 0)[..., None]
    rows = features[index.clamp(min=0)] if len(features) else features.new_zeros(*index.shape, features.shape[1])
    return torch.where(empty, 0, rows).permute(0, 3, 1, 2)  # (V, C, H, W), channels_last


def _splat_matches(features: Tensor, matches: Matches, size: tuple[int, int], reduce: str) -> Tensor:
    height, width = size
    cell = matches.view.long() * (height * width) + matches.pixel.long()
    wide = accumulated(features)
    out = wide.new_zeros(len(matches) * height * width, wide.shape[1]).index_add(0, cell, wide[matches.point.long()])
    if reduce == "mean":
        out = out / torch.bincount(cell, minlength=len(out)).clamp(min=1)[:, None]
    return out.to(features.dtype).view(len(matches), height, width, wide.shape[1]).permute(0, 3, 1, 2)
