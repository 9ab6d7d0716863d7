"""The nearest point of each pixel, by two minima."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Matches
from .project import nearest_pixel


def zbuffer(
    uvz: Tensor, size: tuple[int, int], *, radius: int = 0, stride: int = 1, matches: Matches | None = None
) -> tuple[Tensor, Tensor]:
    """Two minima over all points and footprint offsets: of z, then of the index among those at that z."""
    views, n = uvz.shape[:2]
    height, width = size
    inside, pixel = nearest_pixel(uvz.detach(), size)
    z = uvz.detach()[..., 2]
    inside &= (z > 0) & (z < torch.inf)
    if matches is not None:
        chosen = torch.zeros_like(inside)
        chosen[matches.view.long(), matches.point.long()] = True
        inside &= chosen
    nearest = z.new_full((views, height * width + 1), torch.inf)  # the last cell takes what falls outside
    index = torch.full(nearest.shape, n, device=z.device)
    cells = []
    for dv in range(-radius, radius + 1):
        for du in range(-radius, radius + 1):
            u, v = pixel % width + du, pixel // width + dv
            ok = inside & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            cells.append(torch.where(ok, v * width + u, height * width))
    for cell in cells:
        nearest.scatter_reduce_(1, cell, z, "amin")
    points = torch.arange(n, device=z.device).expand(views, n)
    for cell in cells:
        wins = z == nearest.gather(1, cell)
        index.scatter_reduce_(1, cell, torch.where(wins, points, n), "amin")
    index = index[:, :-1].reshape(views, height, width)[:, ::stride, ::stride]
    empty = index == n
    if n == 0:
        return torch.full_like(index, -1), uvz.new_zeros(index.shape)
    depth = uvz[..., 2].gather(1, torch.where(empty, 0, index).flatten(1)).view(index.shape)
    return torch.where(empty, -1, index), torch.where(empty, 0, depth)
