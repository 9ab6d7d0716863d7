"""sample: feature maps read at matched pixels and at float pixels, and the gradient back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import reference

from . import peers
from .conftest import OURS, Timed
from .measuring import Contender
from .workloads import IMAGE, feature_maps, features, points_in_frame, room_matches

FULL = {"points": 200_000, "views": 8, "channels": 64}
TINY = {"points": 500, "views": 2, "channels": 4}
MAP = (120, 160)


def at_matches(device: torch.device, points: int, views: int, channels: int) -> dict[str, Contender | str]:
    """sample at matches."""
    maps, matches = feature_maps(device, views, channels, *MAP), room_matches(device, points, views)
    compiled = peers.compiled(reference.sample)
    return {
        OURS: lambda: pyproj2d3d.sample(maps, matches, IMAGE),
        "plain torch": lambda: reference.sample(maps, matches, IMAGE),
        "torch best (grid_sample)": lambda: torch.cat(peers.grid_sampled(maps, matches, IMAGE)),
        "torch.compile": lambda: compiled(maps, matches, IMAGE),
    }


def bench_sample_at_matches(timed: Timed) -> None:
    assert_close_to_ours(timed(at_matches, full=FULL, tiny=TINY, moved=moved_by_sample, memory=True))


def moved_by_sample(rows: Tensor, size: dict[str, int]) -> int:
    """Maps in, rows out."""
    return 4 * size["views"] * size["channels"] * MAP[0] * MAP[1] + rows.nbytes


def gradient(device: torch.device, points: int, views: int, channels: int) -> dict[str, Contender | str]:
    """sample at matches and the gradient to the maps."""
    maps = feature_maps(device, views, channels, *MAP).requires_grad_()
    matches = room_matches(device, points, views)
    grad = features(device, len(matches.point), channels)

    def with_gradient(sample) -> Contender:  # type: ignore[no-untyped-def]
        return lambda: torch.autograd.grad(sample(maps, matches, IMAGE), maps, grad)[0]

    return {
        OURS: with_gradient(pyproj2d3d.sample),
        "plain torch": with_gradient(reference.sample),
        "torch best (grid_sample)": with_gradient(lambda *inputs: torch.cat(peers.grid_sampled(*inputs))),
        "torch.compile": with_gradient(peers.compiled(reference.sample)),
    }


def bench_sample_and_gradient(timed: Timed) -> None:
    assert_close_to_ours(timed(gradient, full=FULL, tiny=TINY))


def at_float_pixels(device: torch.device, points: int, views: int, channels: int) -> dict[str, Contender | str]:
    """sample at float pixels."""
    maps = feature_maps(device, views, channels, *MAP)
    uv = points_in_frame(device, points, views)[..., :2].contiguous()
    size = torch.tensor([IMAGE[1], IMAGE[0]], device=device)

    def grid_sample() -> Tensor:
        grid = ((2 * uv + 1) / size - 1)[:, None]
        return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)[:, :, 0].mT

    return {
        OURS: lambda: pyproj2d3d.sample(maps, uv, IMAGE),
        "plain torch": lambda: reference.sample(maps, uv, IMAGE),
        "torch best (grid_sample)": grid_sample,
    }


def bench_sample_at_float_pixels(timed: Timed) -> None:
    full = FULL | {"points": 50_000}
    assert_close_to_ours(timed(at_float_pixels, full=full, tiny=TINY, moved=moved_by_sample))


def assert_close_to_ours(results: dict[str, Tensor]) -> None:
    for name, theirs in results.items():
        torch.testing.assert_close(theirs, results[OURS], rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")
