"""fuse_views: one feature for each point, the mean over all views that see it, and the gradient back."""

from __future__ import annotations

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import reference

from . import peers
from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .workloads import FIVE_CENTIMETRES, IMAGE, feature_maps, features, room_matches, seen_room

FULL = {"points": 200_000, "views": 8, "channels": 64}
TINY = {"points": 500, "views": 2, "channels": 4}
MAP = (120, 160)


def mean(device: torch.device, points: int, views: int, channels: int) -> dict[str, Contender | str]:
    """fuse_views, mean."""
    maps, matches = feature_maps(device, views, channels, *MAP), room_matches(device, points, views)
    compiled = peers.compiled(reference.fuse_views)
    return {
        OURS: lambda: pyproj2d3d.fuse_views(maps, matches, points, IMAGE),
        "plain torch": lambda: reference.fuse_views(maps, matches, points, IMAGE),
        "torch best (grid_sample)": lambda: peers.grid_fused(maps, matches, points, IMAGE),
        "torch.compile": lambda: compiled(maps, matches, points, IMAGE),
    }


def bench_fuse_views(timed: Timed) -> None:
    size = TINY if timed.quick else FULL
    results = timed(
        mean,
        full=FULL,
        tiny=TINY,
        moved=moved_by_fusion,
        goals={"plain torch": 3.0, "torch best (grid_sample)": 3.0},
        memory=True,
    )
    assert_close_to_ours(results)
    beyond = timed.peak_of_ours() - nbytes(*results[OURS])
    matched = 4 * size["channels"] * len(room_matches(timed.device, size["points"], size["views"]).point)
    text = "fuse_views: no (matches x channels) intermediate: peak memory beyond the output below a quarter of one"
    timed.goal(text, f"{beyond / 1e6:.1f} MB, it would take {matched / 1e6:.1f} MB", beyond < matched / 4)


def moved_by_fusion(fused: tuple[Tensor, ...], size: dict[str, int]) -> int:
    """Maps in, features and count out."""
    return 4 * size["views"] * size["channels"] * MAP[0] * MAP[1] + nbytes(*fused)


def gradient(device: torch.device, points: int, views: int, channels: int) -> dict[str, Contender | str]:
    """fuse_views, mean, and the gradient to the maps."""
    maps = feature_maps(device, views, channels, *MAP).requires_grad_()
    matches = room_matches(device, points, views)
    grad = features(device, points, channels)

    def with_gradient(fuse) -> Contender:  # type: ignore[no-untyped-def]
        return lambda: torch.autograd.grad(fuse(maps, matches, points, IMAGE)[0], maps, grad)

    return {
        OURS: with_gradient(pyproj2d3d.fuse_views),
        "plain torch": with_gradient(reference.fuse_views),
        "torch best (grid_sample)": with_gradient(peers.grid_fused),
        "torch.compile": with_gradient(peers.compiled(reference.fuse_views)),
    }


def bench_fuse_views_and_gradient(timed: Timed) -> None:
    assert_close_to_ours(timed(gradient, full=FULL, tiny=TINY, memory=True))


def full_size_maps(device: torch.device, points: int, views: int, channels: int) -> dict[str, Contender | str]:
    """visibility and fuse_views of maps as large as the images."""
    cloud, camera, depth = seen_room(device, points, views)
    maps = feature_maps(device, views, channels, *IMAGE)
    in_numpy = (t.double().cpu().numpy() for t in (cloud, camera.intrinsics, camera.world_from_camera, depth))
    numpy_inputs, numpy_maps = tuple(in_numpy), maps.permute(0, 2, 3, 1).cpu().numpy()

    def fused(library) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        matches = library.visibility(cloud, camera, depth, tolerance=FIVE_CENTIMETRES)
        return library.fuse_views(maps, matches, points, IMAGE, mode="nearest")

    def numpy_fused() -> tuple[Tensor, Tensor]:
        features, count = peers.numpy_fusion(numpy_maps, peers.numpy_mappings(*numpy_inputs, FIVE_CENTIMETRES[0]))
        return torch.from_numpy(features), torch.from_numpy(count)

    return {
        OURS: lambda: fused(pyproj2d3d),
        "plain torch": lambda: fused(reference),
        "OpenScene's manner (NumPy)": peers.on_cpu(device, numpy_fused),
    }


def bench_fuse_full_size_maps(timed: Timed) -> None:
    results = timed(full_size_maps, full=FULL, tiny=TINY, memory=True)
    features, count = results[OURS]
    for name, (theirs, their_count) in results.items():
        other = (count != their_count) | ((features - theirs).abs() > 1e-4).any(1)
        assert other.sum() <= max(2, 1e-3 * len(count)), name  # points on the edge of a pixel or of the tolerance


def assert_close_to_ours(results: dict[str, tuple[Tensor, ...]]) -> None:
    for name, theirs in results.items():
        for mine, other in zip(results[OURS], theirs, strict=True):
            torch.testing.assert_close(
                other, mine, rtol=1e-3, atol=2e-4, check_dtype=False, msg=lambda m, n=name: f"{n}: {m}"
            )
