"""Maps read at pixels, corner by corner."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Matches
from ._shared import accumulated
from .project import nearest_pixel


def sample(
    maps: Tensor,
    matches_or_uv: Matches | Tensor,
    size: tuple[int, int],
    *,
    mode: str = "bilinear",
    align_corners: bool = False,
    normalize: bool = False,
) -> Tensor:
    if isinstance(matches_or_uv, Matches):
        view, pixel = matches_or_uv.view.long(), matches_or_uv.pixel
        uv = pixel_centres(pixel, size[1], accumulated(maps).dtype)  # (M, 2)
    else:
        uv = matches_or_uv
        view = torch.arange(len(maps), device=maps.device)[:, None].expand(uv.shape[:2])
    return read_maps(maps, view, uv, size, mode, align_corners, normalize)


def pixel_centres(pixel: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    return torch.stack((pixel % width, pixel // width), dim=-1).to(dtype)


def read_maps(
    maps: Tensor, view: Tensor, uv: Tensor, size: tuple[int, int], mode: str, align_corners: bool, normalize: bool
) -> Tensor:
    """Map ``view`` (...) read at pixel ``uv`` (..., 2): (..., C)."""
    h, w = maps.shape[2:]
    height, width = size
    rows = accumulated(maps).permute(0, 2, 3, 1)  # (V, h, w, C)
    inside, _ = nearest_pixel(uv.detach(), size)
    uv = torch.where(inside[..., None], uv, 0)
    x, y = (_cell(uv[..., i], n, full, align_corners) for i, n, full in ((0, w, width), (1, h, height)))
    if mode == "nearest":
        found = rows[view, torch.floor(y + 0.5).long(), torch.floor(x + 0.5).long()]
    else:
        x0, y0 = x.detach().floor().long(), y.detach().floor().long()
        x1, y1 = (x0 + 1).clamp(max=w - 1), (y0 + 1).clamp(max=h - 1)
        fx, fy = (x - x0)[..., None].to(rows.dtype), (y - y0)[..., None].to(rows.dtype)
        found = ((1 - fy) * (1 - fx)) * rows[view, y0, x0] + ((1 - fy) * fx) * rows[view, y0, x1]
        found = found + (fy * (1 - fx)) * rows[view, y1, x0] + (fy * fx) * rows[view, y1, x1]
    if normalize:
        found = found / found.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return torch.where(inside[..., None], found, 0).to(maps.dtype)


def _cell(u: Tensor, n: int, full: int, align_corners: bool) -> Tensor:
    """Coordinate in an image of ``full`` pixels to that in a map of ``n`` cells, held to the centres of its cells."""
    if align_corners:
        x = u * ((n - 1) / (full - 1) if full > 1 else 0.0)
    else:
        x = (u + 0.5) * (n / full) - 0.5
    return torch.where((x > 0) & (x < n - 1), x, x.detach().clamp(0, n - 1))  # no slope where it is held
