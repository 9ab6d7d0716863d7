"""Which clouds are hard for whoever looks for neighbours?"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def random_cloud(n: int, dtype: torch.dtype, device: torch.device | str = "cpu", seed: int = 0) -> Tensor:
    """(N, 3): a third on a grid, so that distances are equal; some in one place; some far; some not finite."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    points = torch.where(torch.rand(n, 1, generator=rng) < 0.35, (2 * points).round() / 2, points)
    points[3::17] = points[:1]
    for i, odd in enumerate((math.nan, math.inf, -math.inf, 1e30, -1e7)):
        points[5 + i :: 97, i % 3] = odd
    return points.to(device, dtype)


def shapes_of_clouds(n: int = 3000) -> dict[str, Tensor]:
    """Float32 clouds (N, 3) on which a structure over space may be slow or wrong."""
    rng = torch.Generator().manual_seed(1)
    box = torch.rand(n, 3, generator=rng)
    astray = box.clone()
    astray[::100] *= 1e6
    return {
        "a box": box,
        "a plane": box * torch.tensor([1.0, 1.0, 0.0]),
        "a line": box * torch.tensor([0.0, 1.0, 0.0]),
        "one place": box[:1].expand(n, 3),
        "far from the origin": box + 1000,
        "two rooms far apart": box + 5000 * (torch.arange(n) % 2)[:, None],
        "points astray": astray,
        "tiny": box * 1e-20,
        "huge": (box - 0.5) * 3e38,
        "no finite point": torch.full((n, 3), math.nan),
    }
