"""Points into cameras; which pixel is nearest to where they fall."""

from __future__ import annotations

import torch
from torch import Tensor

from ..camera import Camera


def camera_from_world(world_from_camera: Tensor, dtype: torch.dtype) -> Tensor:
    """(V, 4, 4) poses to (V, 3, 4) inverses: by cofactors in float64, rounded once to ``dtype``."""
    a = world_from_camera.double()[:, :3, :3].permute(1, 2, 0)  # (3, 3, V)
    b = world_from_camera.double()[:, :3, 3].T  # (3, V)
    inverse = [[_cofactor(a, j, i) for j in range(3)] for i in range(3)]
    det = (a[0, 0] * inverse[0][0] + a[0, 1] * inverse[1][0]) + a[0, 2] * inverse[2][0]
    rows = []
    for cofactors in inverse:
        r = [c / det for c in cofactors]
        rows.append(torch.stack([*r, -((r[0] * b[0] + r[1] * b[1]) + r[2] * b[2])], dim=-1))
    return torch.stack(rows, dim=1).to(dtype)


def _cofactor(a: Tensor, i: int, j: int) -> Tensor:
    (r, s), (p, q) = ((i + 1) % 3, (i + 2) % 3), ((j + 1) % 3, (j + 2) % 3)  # cyclic, so that the sign is in the order
    return a[r, p] * a[s, q] - a[r, q] * a[s, p]


def project(points: Tensor, camera: Camera) -> Tensor:
    """(N, 3) points to (V, N, 3): u, v, z."""
    t = camera_from_world(camera.world_from_camera, points.dtype)[:, :, :, None]  # (V, 3, 4, 1)
    k = camera.intrinsics.to(points.dtype)[:, :, :, None]
    x, y, z = points.T
    x_c, y_c, z_c = (((t[:, i, 0] * x + t[:, i, 1] * y) + t[:, i, 2] * z) + t[:, i, 3] for i in range(3))  # (V, N)
    u = k[:, 0, 0] * (x_c / z_c) + k[:, 0, 2]
    v = k[:, 1, 1] * (y_c / z_c) + k[:, 1, 2]
    return torch.stack((u, v, z_c), dim=-1)


def nearest_pixel(uv: Tensor, size: tuple[int, int], border: int = 0) -> tuple[Tensor, Tensor]:
    """(..., 2 or more) float pixels: is each in the frame, and its v W + u (else 0); compared before any cast."""
    u, v = torch.floor(uv[..., 0] + 0.5), torch.floor(uv[..., 1] + 0.5)
    height, width = size
    inside = (u >= border) & (u < width - border) & (v >= border) & (v < height - border)
    pixel = torch.where(inside, v, 0).long() * width + torch.where(inside, u, 0).long()
    return inside, pixel
