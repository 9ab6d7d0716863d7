"""back_project: depth to points, with features from small maps, their gradient, and of chosen pixels alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import Camera, PointCloud, reference

from . import peers, peers_clouds
from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .peers_clouds import Lifted, lifted, lifted_pixels
from .workloads import IMAGE, features, room_depth

FULL, TINY = {"images": 2, "channels": 128}, {"images": 1, "channels": 4}
CHOSEN = {"images": 24, "channels": 128, "pixels": 4096}
TINY_CHOSEN = {"images": 2, "channels": 4, "pixels": 64}
MAP = (15, 20)  # cells of a map: a 32nd of the image
PIXELS = IMAGE[0] * IMAGE[1]
OPEN3D, KORNIA = "Open3D (in any order)", "kornia (dense, camera frame)"
DEFAULT, LAST = "torch default (interpolate)", "torch best (interpolate, channels_last)"
EMBEDDED, SAMPLED = "torch best (embedding_bag)", "torch best (grid_sample)"
COMPILED, COMPILED_BEST = "torch.compile", "torch.compile of embedding_bag"


def points_alone(device: torch.device, images: int) -> dict[str, Contender | str]:
    """back_project, points alone."""
    camera, depth = room_depth(device, images)
    compiled = peers.compiled(reference.back_project)
    return {
        OURS: lambda: pyproj2d3d.back_project(depth, camera),
        "plain torch": lambda: reference.back_project(depth, camera),
        "torch best": lambda: lifted(depth, camera),
        COMPILED: lambda: compiled(depth, camera),
        OPEN3D: peers_clouds.open3d_lifting(depth, camera),
        KORNIA: peers.if_installed("kornia", lambda: peers_clouds.kornia_lifting(depth, camera)),
    }


def bench_back_project_points(timed: Timed) -> None:
    goals = {OPEN3D: 1.0, KORNIA: 1.5}
    results = timed(points_alone, full={"images": 2}, tiny={"images": 1}, moved=moved_by_lifting, goals=goals)
    mine = in_one_order(results[OURS])
    camera, _ = room_depth(timed.device, len(results[OURS].ptr) - 1)
    if (theirs := results.pop(OPEN3D, None)) is not None:
        assert_same_points(theirs, mine, camera)
    if (theirs := results.pop(KORNIA, None)) is not None:
        pose = camera.world_from_camera[mine.at // PIXELS]
        in_camera = ((mine.points - pose[:, :3, 3])[:, None] @ pose[:, :3, :3])[:, 0]
        torch.testing.assert_close(theirs.view(-1, 3)[mine.at], in_camera, rtol=1e-4, atol=1e-4)
    assert_close_to_ours(results)


def uint16_depth(device: torch.device, images: int) -> dict[str, Contender | str]:
    """back_project, points alone, of depth in uint16 millimetres."""
    camera, depth = room_depth(torch.device("cpu"), images)
    millimetres = (1000 * depth).round().to(torch.uint16).to(device)
    camera = camera.to(device)
    return {
        OURS: lambda: pyproj2d3d.back_project(millimetres, camera, depth_scale=1000.0),
        "plain torch": lambda: reference.back_project(millimetres, camera, depth_scale=1000.0),
        "torch best": lambda: lifted(reference.metres(millimetres, 1000.0, torch.float32), camera),
        OPEN3D: peers_clouds.open3d_lifting(millimetres, camera, 1000.0),
    }


def bench_back_project_points_of_uint16_depth(timed: Timed) -> None:
    moved = partial(moved_by_lifting, depth_bytes=2)
    results = timed(uint16_depth, full={"images": 2}, tiny={"images": 1}, moved=moved, goals={OPEN3D: 1.0})
    if (theirs := results.pop(OPEN3D, None)) is not None:
        camera, _ = room_depth(timed.device, len(results[OURS].ptr) - 1)
        assert_same_points(theirs, in_one_order(results[OURS]), camera)
    assert_close_to_ours(results)


def ways_with_features(
    device: torch.device, images: int, normalize: bool
) -> dict[str, Callable[[Tensor], PointCloud | Lifted]]:
    """What takes maps in NCHW, as most networks leave them; whoever wants another layout brings them there itself."""
    camera, depth = room_depth(device, images)

    def composed(rows: peers_clouds.RowsAt) -> Callable[[Tensor], Lifted]:
        return lambda maps: lifted(depth, camera, maps, rows, normalize)

    compiled = peers.compiled(reference.back_project)
    return {
        OURS: lambda maps: pyproj2d3d.back_project(depth, camera, maps, normalize=normalize),
        "plain torch": lambda maps: reference.back_project(depth, camera, maps, normalize=normalize),
        DEFAULT: composed(peers_clouds.upsampled_rows),
        LAST: composed(peers_clouds.channels_last_rows),
        EMBEDDED: composed(peers_clouds.embedded_rows),
        COMPILED: lambda maps: compiled(depth, camera, maps, normalize=normalize),
        COMPILED_BEST: peers.compiled(composed(peers_clouds.embedded_rows)),
    }


def with_features(
    device: torch.device, images: int, channels: int, normalize: bool = False
) -> dict[str, Contender | str]:
    """back_project with features."""
    maps = features(device, images, channels, *MAP)
    return {name: partial(way, maps) for name, way in ways_with_features(device, images, normalize).items()}


def bench_back_project_with_features(timed: Timed) -> None:
    goals = {DEFAULT: 10.0, LAST: 6.0, EMBEDDED: 6.0}
    results = timed(with_features, full=FULL, tiny=TINY, moved=moved_by_lifting, goals=goals, memory=True, rounds=3)
    assert_close_to_ours(results)
    ours = results[OURS]
    output = nbytes(ours.points, ours.features, ours.pixel, ours.ptr, ours.valid)
    share = timed.peak_of_ours() / output
    timed.goal("back_project with features: peak memory at most 1.15x its output", f"{share:.3f}x", share <= 1.15)


def with_unit_features(device: torch.device, images: int, channels: int) -> dict[str, Contender | str]:
    """back_project with features of length 1."""
    return with_features(device, images, channels, normalize=True)


def bench_back_project_with_unit_features(timed: Timed) -> None:
    goals = {COMPILED: 10.0, COMPILED_BEST: 10.0}
    results = timed(with_unit_features, full=FULL, tiny=TINY, moved=moved_by_lifting, goals=goals, rounds=3)
    assert_close_to_ours(results)


def gradient(device: torch.device, images: int, channels: int, normalize: bool = False) -> dict[str, Contender | str]:
    """back_project with features, and the gradient to the maps."""
    maps = features(device, images, channels, *MAP).requires_grad_()
    grad = features(device, images * PIXELS, channels)

    def with_gradient(way: Callable[[Tensor], Any]) -> Contender:
        return lambda: torch.autograd.grad(way(maps).features, maps, grad)[0]

    return {name: with_gradient(way) for name, way in ways_with_features(device, images, normalize).items()}


def bench_back_project_and_gradient(timed: Timed) -> None:
    results = timed(gradient, full=FULL, tiny=TINY, goals={LAST: 6.0, EMBEDDED: 6.0}, rounds=2)
    assert_close_gradients(results)


def gradient_of_unit_features(device: torch.device, images: int, channels: int) -> dict[str, Contender | str]:
    """back_project with features of length 1, and the gradient to the maps."""
    ways = gradient(device, images, channels, normalize=True)
    return {name: ways[name] for name in (OURS, DEFAULT, LAST, EMBEDDED)}


def bench_back_project_of_unit_features_and_gradient(timed: Timed) -> None:
    results = timed(gradient_of_unit_features, full=FULL, tiny=TINY, goals={LAST: 10.0, EMBEDDED: 10.0}, rounds=2)
    assert_close_gradients(results)


def chosen_pixels(device: torch.device, images: int, channels: int, pixels: int) -> dict[str, Contender | str]:
    """back_project of chosen pixels."""
    camera, depth = room_depth(device, images)
    maps = features(device, images, channels, *MAP)
    chosen = torch.randint(images * PIXELS, (pixels,), generator=torch.Generator().manual_seed(0)).to(device)
    compiled = peers.compiled(reference.back_project)
    return {
        OURS: lambda: pyproj2d3d.back_project(depth, camera, maps, pixels=chosen),
        "plain torch": lambda: reference.back_project(depth, camera, maps, pixels=chosen),
        SAMPLED: lambda: lifted_pixels(depth, camera, chosen, maps, peers_clouds.grid_sampled_rows),
        EMBEDDED: lambda: lifted_pixels(depth, camera, chosen, maps, peers_clouds.embedded_rows),
        COMPILED: lambda: compiled(depth, camera, maps, pixels=chosen),
        DEFAULT: lambda: lifted_pixels(depth, camera, chosen, maps, peers_clouds.upsampled_rows),
    }


def fair_chosen_pixels(device: torch.device, images: int, channels: int, pixels: int) -> dict[str, Contender | str]:
    """back_project of chosen pixels, beside what reads these pixels alone."""
    made = chosen_pixels(device, images, channels, pixels)
    del made[DEFAULT]
    return made


def bench_back_project_of_chosen_pixels(timed: Timed) -> None:
    assert_close_to_ours(timed(fair_chosen_pixels, full=CHOSEN, tiny=TINY_CHOSEN))


def upsampled_first(device: torch.device, images: int, channels: int, pixels: int) -> dict[str, Contender | str]:
    """back_project of chosen pixels, beside maps upsampled first."""
    made = chosen_pixels(device, images, channels, pixels)
    return {name: made[name] for name in (OURS, DEFAULT)}


def bench_back_project_of_chosen_pixels_and_upsampling(timed: Timed) -> None:
    full, tiny = CHOSEN, TINY_CHOSEN
    results = timed(upsampled_first, full=full, tiny=tiny, goals={DEFAULT: 100.0}, memory=True, rounds=1)
    assert_close_to_ours(results)
    if (theirs := timed.peak_of(DEFAULT)) is not None:
        mine = max(timed.peak_of_ours(), nbytes(results[OURS].points, results[OURS].features))
        text = f"back_project of chosen pixels: a 500th of the peak memory of {DEFAULT}"
        timed.goal(text, f"{theirs / mine:.0f}x less", theirs >= 500 * mine)


def bench_back_project_same_bits_in_20_runs(timed: Timed) -> None:
    size = TINY if timed.quick else FULL
    forward = with_features(timed.device, **size)[OURS]
    backward = gradient(timed.device, **size)[OURS]
    timed.same_bits(
        "back_project, points, features and gradient", lambda: in_one_order(forward()), lambda: [backward()]
    )


def moved_by_lifting(cloud: PointCloud, size: dict[str, int], depth_bytes: int = 4) -> int:
    """Depth and maps in, points, their pixels and features out."""
    maps = 4 * size["images"] * size.get("channels", 0) * MAP[0] * MAP[1]
    rows = 0 if cloud.features is None else cloud.features.nbytes
    return depth_bytes * size["images"] * PIXELS + maps + nbytes(cloud.points, cloud.pixel) + rows


def in_one_order(cloud: PointCloud | Lifted) -> Lifted:
    """With the place of each point among all pixels, for the comparison of answers."""
    if isinstance(cloud, Lifted):
        return cloud
    at = cloud.pixel.long()
    if cloud.ptr is not None:
        at += PIXELS * torch.repeat_interleave(torch.arange(len(cloud.ptr) - 1, device=at.device), cloud.ptr.diff())
    return Lifted(cloud.points, cloud.features, at)


def assert_close_to_ours(results: dict[str, PointCloud | Lifted]) -> None:
    mine = in_one_order(results[OURS])
    for name, cloud in results.items():
        theirs = in_one_order(cloud)
        # Of chosen pixels the cloud names the pixel inside its image, the peers that among all.
        assert torch.equal(theirs.at % PIXELS, mine.at % PIXELS), name
        for one, other in zip(mine[:2], theirs[:2], strict=True):
            if one is not None:
                torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def assert_same_points(clouds: list[Any], mine: Lifted, camera: Camera) -> None:
    """Open3D's rows come in any order: by the pixels that they project to they are ours."""
    found = [torch.from_numpy(cloud.point.positions.numpy()) for cloud in clouds]
    at = []
    for view, points in enumerate(found):
        uvz = reference.project(points.double(), camera[view].to(torch.float64))
        inside, pixel = reference.nearest_pixel(uvz[0], IMAGE)
        assert inside.all()
        at.append(view * PIXELS + pixel)
    at, order = torch.cat(at).sort()
    assert torch.equal(at, mine.at)
    torch.testing.assert_close(torch.cat(found)[order], mine.points, rtol=1e-4, atol=1e-4)


def assert_close_gradients(results: dict[str, Tensor]) -> None:
    """Each is a sum over some thousand pixels, in another order."""
    for name, theirs in results.items():
        assert (theirs - results[OURS]).norm() <= 1e-4 * results[OURS].norm(), name
