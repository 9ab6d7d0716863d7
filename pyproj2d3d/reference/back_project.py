"""All pixels lifted, then those with depth kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Camera
from ..results import PointCloud
from ._shared import accumulated
from .sample import pixel_centres, read_maps
from .visibility import metres


def back_project(
    depth: Tensor,
    camera: Camera,
    features: Tensor | None = None,
    *,
    pixels: Tensor | None = None,
    align_corners: bool = False,
    normalize: bool = False,
    depth_scale: float | None = None,
) -> PointCloud:
    dtype = camera.dtype if depth.dtype == torch.uint16 else depth.dtype
    height, width = camera.size
    z = metres(depth, depth_scale, dtype).flatten(1)  # (B, H W)
    valid = (z > 0) & (z < torch.inf)
    z = torch.where(valid, z, 1)
    u, v = pixel_centres(torch.arange(height * width, device=depth.device), width, dtype).T
    k = camera.intrinsics.to(dtype)[:, :, :, None]
    t = camera.world_from_camera.to(dtype)[:, :, :, None]
    x, y = ((u - k[:, 0, 2]) / k[:, 0, 0]) * z, ((v - k[:, 1, 2]) / k[:, 1, 1]) * z
    points = torch.stack([((t[:, i, 0] * x + t[:, i, 1] * y) + t[:, i, 2] * z) + t[:, i, 3] for i in range(3)], dim=-1)
    points = torch.where(valid[..., None], points, torch.nan)  # (B, H W, 3)
    ptr = None
    if pixels is None:
        view, pixel = valid.nonzero(as_tuple=True)
        ptr = torch.cat((view.new_zeros(1), valid.sum(1).cumsum(0)))
    else:
        view, pixel = pixels // (height * width), pixels % (height * width)
    rows = None
    if features is not None:
        uv = pixel_centres(pixel, width, accumulated(features).dtype)
        rows = read_maps(features, view, uv, camera.size, "bilinear", align_corners, normalize)
    return PointCloud(points[view, pixel], rows, pixel.int(), ptr, valid[view, pixel])
