"""Every point against every view and its depth, at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Camera, Matches
from .project import nearest_pixel, project
from .zbuffer import zbuffer


def visibility(
    points: Tensor,
    camera: Camera,
    depth: Tensor | str | None = None,
    *,
    depth_scale: float | None = None,
    tolerance: tuple[float, float, float],
    border: int = 0,
    z_min: float = 0.01,
    z_max: float = float("inf"),
    radius: int = 0,
) -> Matches:
    """As the operation, but without a default tolerance."""
    uvz = project(points.detach(), camera.to(points.device))
    z = uvz[..., 2]
    seen, pixel = nearest_pixel(uvz, camera.size, border)
    seen &= (z > z_min) & (z < z_max)
    if isinstance(depth, str):
        depth = zbuffer(uvz, camera.size, radius=radius)[1]
    if depth is not None:
        at = metres(depth, depth_scale, points.dtype).flatten(1).gather(1, pixel)  # (V, N)
        a, b, c = (torch.tensor(t, dtype=points.dtype) for t in tolerance)
        seen &= (at > 0) & (at < torch.inf) & ((at - z).abs() <= (a + b * z) + (c * z) * z)
    view, point = seen.nonzero(as_tuple=True)
    ptr = torch.cat((view.new_zeros(1), seen.sum(1).cumsum(0)))
    return Matches(ptr, point.int(), pixel[seen].int(), len(points), camera.size)


def metres(depth: Tensor, depth_scale: float | None, dtype: torch.dtype) -> Tensor:
    """Depth in ``dtype``; uint16 decoded, with 0 for its two values that are no reading."""
    if depth.dtype != torch.uint16:
        return depth.to(dtype)
    values = depth.to(torch.int32)
    return torch.where(values == 65535, 0, values).to(dtype) / torch.tensor(depth_scale, dtype=dtype)
