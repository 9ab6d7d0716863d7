"""What do the tests of transforms start from? Small views and clouds in which every pixel and point is its own."""

from __future__ import annotations

import torch
from torch import Tensor

from pyproj2d3d import Camera
from pyproj2d3d.data.points import Points
from pyproj2d3d.data.scene import Cloud
from pyproj2d3d.data.views import View


def camera_of(size: tuple[int, int], seed: int = 0) -> Camera:
    """Anywhere, with pixels that are not square and a centre that is not the middle; float64."""
    rng = torch.Generator().manual_seed(seed)
    height, width = size
    intrinsics = torch.eye(3, dtype=torch.float64)
    intrinsics[0, 0], intrinsics[1, 1] = 0.9 * width, 1.1 * width
    intrinsics[0, 2], intrinsics[1, 2] = 0.45 * width, 0.52 * height
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64))[0]
    pose[:3, 3] = torch.randn(3, generator=rng, dtype=torch.float64)
    return Camera(intrinsics, pose, size)


def make_view(size: tuple[int, int] = (6, 8), seed: int = 0) -> View:
    """No two pixels have the same depth, class or object; a tenth of the depth is no reading. Numbered."""
    rng = torch.Generator().manual_seed(seed)
    n = size[0] * size[1]
    depth = 1 + torch.randperm(n, generator=rng) / n
    depth[torch.rand(n, generator=rng) < 0.1] = 0
    color = torch.randint(256, (*size, 3), generator=rng, dtype=torch.uint8)
    ids = [torch.randperm(n, generator=rng).view(size) for _ in range(2)]
    return View(color, depth.view(size), camera_of(size, seed), *ids).numbered()


def lifted(u: Tensor, v: Tensor, z: Tensor, camera: Camera) -> Tensor:
    """(N, 3) the places that pixels u, v of one view see at depth z."""
    k, pose = camera.intrinsics[0], camera.world_from_camera[0]
    x = torch.stack(((u - k[0, 2]) / k[0, 0] * z, (v - k[1, 2]) / k[1, 1] * z, z), dim=1)
    return x @ pose[:3, :3].T + pose[:3, 3]


def make_cloud(n: int = 50, seed: int = 0, dtype: torch.dtype = torch.float64) -> Cloud:
    """Points within a few metres, with all that a cloud may know; every instance is of one point."""
    rng = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng, dtype=torch.float64), dim=1)
    return Cloud(
        (4 * torch.rand(n, 3, generator=rng, dtype=torch.float64) - 1).to(dtype),
        torch.randint(256, (n, 3), generator=rng, dtype=torch.uint8),
        normals.to(dtype),
        torch.randint(-1, 20, (n,), generator=rng),
        torch.randperm(n, generator=rng),
        torch.randint(5, (n,), generator=rng),
    )


def make_points(n: int = 50, seed: int = 0, dtype: torch.dtype = torch.float64) -> Points:
    return Points.of(make_cloud(n, seed, dtype))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
