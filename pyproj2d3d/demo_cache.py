"""Which pixels of the frames does a strided cache keep, and what does it take on disk?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import Camera, FeatureCache, Matches, zbuffer
from .report import CacheFacts

FILE = "features.safetensors"
STRIDE, RADIUS = 8, 1


@dataclass
class Kept:
    """What the cache will keep of a frame; small, for a recording has many frames."""

    name: str
    camera: Camera  # of the colour image
    dilated: Tensor  # (h, w) int32: the point seen at each kept pixel where points are dilated; -1 for none
    plain_coverage: float  # 0 to 1; without dilation


def kept_pixels(uvz: Tensor, size: tuple[int, int], seen: Matches, radius: int) -> Tensor:
    """(h, w) int64: the nearest of the points that are really seen, at every STRIDE-th row and column; -1 for none."""
    return zbuffer(uvz, size, radius=radius, stride=STRIDE, matches=seen)[0][0]


def choose_pixels(name: str, camera: Camera, uvz: Tensor, seen: Matches) -> Kept:
    plain, dilated = (kept_pixels(uvz, camera.size, seen, radius) for radius in (0, RADIUS))
    return Kept(name, camera, dilated.to(torch.int32), (plain >= 0).double().mean().item())


def write_cache(path: Path, frames: list[Kept], features: Tensor) -> None:
    """Features (N, C) of the points, for every frame where it sees them."""
    said = {"features": "fused colour, 0 to 255", "depth_rule": "visibility with its default tolerance"}
    with FeatureCache.create(
        path, len(frames), stride=STRIDE, radius=RADIUS, dtype=torch.float16, metadata=said
    ) as cache:
        for frame in frames:
            cache.add(frame.name, frame.camera, frame.dilated.long(), features)


def cache_facts(cache: FeatureCache, frames: list[Kept]) -> CacheFacts:
    pixels = sum(math.prod(frame.camera.size) for frame in frames)
    return CacheFacts(
        file=cache.path.name,
        stride=cache.stride,
        radius=cache.radius,
        channels=cache.channels,
        dtype=str(cache.dtype).removeprefix("torch."),
        rows=sum(len(frame.features) for frame in cache),
        size=cache.path.stat().st_size,
        dense_size=pixels * cache.channels * cache.dtype.itemsize,
        coverage={frame.name: [frame.plain_coverage, cache[frame.name].coverage] for frame in frames},
    )


def kept_picture(image: Tensor, features: Tensor, mask: Tensor) -> Tensor:
    """Colours (3, h, w) where mask (h, w), each as the STRIDE x STRIDE pixels it stands for, over the dimmed image."""
    height, width = image.shape[:2]
    drawn, covered = (
        tensor.repeat_interleave(STRIDE, -2).repeat_interleave(STRIDE, -1)[..., :height, :width]
        for tensor in (features.float(), mask)
    )
    return torch.where(covered[..., None], drawn.permute(1, 2, 0), dimmed(image)).to(torch.uint8)


def dimmed(image: Tensor) -> Tensor:
    """(H, W, 3) uint8 to (H, W, 1), dark and grey: what is drawn over it stands out."""
    return 0.3 * image.float().mean(-1, keepdim=True)
