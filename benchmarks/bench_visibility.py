"""visibility: which points does each view see? By sensor depth, by the points' own z-buffer, and how often wrongly."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import pyproj2d3d
from pyproj2d3d import Matches, reference
from pyproj2d3d.ops.visibility import DEFAULT_TOLERANCE

from . import peers
from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .visibility_truth import ABSOLUTE, mean_wrong_shares
from .visibility_truth import seen_room as room_with_truth
from .workloads import FIVE_CENTIMETRES, IMAGE, seen_room

WITHIN = FIVE_CENTIMETRES[0]
FULL = {"points": 200_000, "views": 8}
TINY = {"points": 500, "views": 2}
MANY = {"points": 1_000_000, "views": 64}
NUMPY = "OpenScene's manner (NumPy)"
OPEN3D = "Open3D z-buffer"  # takes no depth, says not which points are seen: what it offers for the question


def sensor_depth(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """visibility by sensor depth."""
    cloud, camera, depth = seen_room(device, points, views)
    compiled = peers.compiled(reference.visibility)
    compiled_best = peers.compiled(peers.batched_visibility)
    in_numpy = (t.double().cpu().numpy() for t in (cloud, camera.intrinsics, camera.world_from_camera, depth))
    numpy_inputs = tuple(in_numpy)
    return {
        OURS: lambda: pyproj2d3d.visibility(cloud, camera, depth, tolerance=WITHIN),
        "plain torch": lambda: reference.visibility(cloud, camera, depth, tolerance=FIVE_CENTIMETRES),
        "torch best": lambda: peers.batched_visibility(cloud, camera, depth, WITHIN),
        "torch.compile": lambda: compiled(cloud, camera, depth, tolerance=FIVE_CENTIMETRES),
        "torch.compile of torch best": lambda: compiled_best(cloud, camera, depth, WITHIN),
        "kornia and torch": peers.if_installed("kornia", lambda: peers.kornia_visibility(cloud, camera, depth, WITHIN)),
        NUMPY: peers.on_cpu(device, lambda: peers.numpy_mappings(*numpy_inputs, WITHIN)),
        OPEN3D: peers.open3d_projection(cloud, camera),
    }


def bench_visibility_by_sensor_depth(timed: Timed) -> None:
    results = timed(
        sensor_depth,
        full=FULL,
        tiny=TINY,
        moved=moved_by_visibility,
        goals={NUMPY: 8.0, "plain torch": 4.5, "torch.compile": 1.6, "torch.compile of torch best": 1.6, OPEN3D: 2.0},
        memory=True,
    )
    assert_same_depth(results.pop(OPEN3D, None), TINY if timed.quick else FULL)
    assert_same_matches(results)


def many_views(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """visibility by sensor depth, many views."""
    chosen = (OURS, "plain torch", NUMPY)
    return {name: call for name, call in sensor_depth(device, points, views).items() if name in chosen}


def bench_visibility_of_many_views(timed: Timed) -> None:
    results = timed(many_views, full=MANY, tiny=TINY, moved=moved_by_visibility, memory=True, rounds=1)
    assert_same_matches(results)
    ours = results[OURS]
    beyond = timed.peak_of_ours() - nbytes(ours.ptr, ours.point, ours.pixel)
    text = f"visibility, {MANY['points']:,} points, {MANY['views']} views: peak memory at most the output and 64 MB"
    timed.goal(text, f"output and {beyond / 1e6:.1f} MB", beyond <= 64e6)


def uint16_depth(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """visibility by depth in uint16 millimetres."""
    cloud, camera, depth = seen_room(torch.device("cpu"), points, views)
    millimetres = (1000 * depth).round().to(torch.uint16).to(device)
    cloud, camera = cloud.to(device), camera.to(device)
    rule = {"depth_scale": 1000.0, "tolerance": FIVE_CENTIMETRES}
    return {
        OURS: lambda: pyproj2d3d.visibility(cloud, camera, millimetres, **rule),
        "plain torch": lambda: reference.visibility(cloud, camera, millimetres, **rule),
    }


def bench_visibility_by_uint16_depth(timed: Timed) -> None:
    assert_same_matches(timed(uint16_depth, full=FULL, tiny=TINY, moved=partial(moved_by_visibility, depth_bytes=2)))


def own_zbuffer(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """visibility by the points' own z-buffer."""
    cloud, camera, _ = seen_room(device, points, views)
    rule = {"tolerance": FIVE_CENTIMETRES}
    return {
        OURS: lambda: pyproj2d3d.visibility(cloud, camera, "zbuffer", **rule),
        "plain torch": lambda: reference.visibility(cloud, camera, "zbuffer", **rule),
        "torch scatter_reduce": lambda: peers.zbuffer_visibility(cloud, camera, WITHIN),
        OPEN3D: peers.open3d_projection(cloud, camera),
    }


def bench_visibility_by_own_zbuffer(timed: Timed) -> None:
    results = timed(own_zbuffer, full=FULL, tiny=TINY, goals={OPEN3D: 2.0}, memory=True)
    assert_same_depth(results.pop(OPEN3D, None), TINY if timed.quick else FULL)
    assert_same_matches(results)


def bench_visibility_truth(timed: Timed) -> None:
    size = TINY if timed.quick else FULL
    rooms = [room_with_truth(seed, size["points"], size["views"]) for seed in range(5)]
    default, absolute = (mean_wrong_shares(rooms, rule, noisy=False) for rule in (DEFAULT_TOLERANCE, ABSOLUTE))
    for what, ours, theirs in zip(("false-visible", "missed"), default, absolute, strict=True):
        assert 0 <= ours < 0.1, what
        text = f"default tolerance, mean of 5 rooms: {what} at most that of the absolute 5 cm rule"
        timed.goal(text, f"{100 * ours:.3f} %, absolute {100 * theirs:.3f} %", ours <= theirs)


def moved_by_visibility(matches: Matches, size: dict[str, int], depth_bytes: int = 4) -> int:
    """Points and depth in, matches out."""
    depth = depth_bytes * size["views"] * IMAGE[0] * IMAGE[1]
    return 12 * size["points"] + depth + nbytes(matches.ptr, matches.point, matches.pixel)


def assert_same_depth(images: list[Any] | None, size: dict[str, int]) -> None:
    """Open3D's depth images beside our z-buffer; it rounds half-way pixels the other way."""
    if images is None:
        return
    cloud, camera, _ = seen_room(torch.device("cpu"), **size)
    _, ours = pyproj2d3d.zbuffer(pyproj2d3d.project(cloud, camera), IMAGE)
    theirs = torch.stack([torch.from_numpy(image.as_tensor().numpy())[..., 0] for image in images])
    assert ((ours - theirs).abs() > 1e-3).sum() <= max(3, 1e-3 * (ours > 0).sum())


def assert_same_matches(results: dict[str, object]) -> None:
    """All but those that hang on the last bits of a projection done in another order or precision."""
    ours = results[OURS]
    mine = _keys(ours.view, ours.point, ours.pixel)
    for name, theirs in results.items():
        if isinstance(theirs, list):
            theirs = peers.mappings_as_matches(theirs, IMAGE)
        columns = (theirs.view, theirs.point, theirs.pixel) if isinstance(theirs, Matches) else theirs
        other = _keys(*columns)
        _, found = torch.cat((mine, other)).unique(return_counts=True)
        # The reference has our arithmetic; others project in float64 or in another order, and differ on the verge of a
        # pixel or of the tolerance.
        differing = 0 if name == "plain torch" else max(2, 1e-3 * len(mine))
        assert (found == 1).sum() <= differing, name


def _keys(view: torch.Tensor, point: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """One int64 for each match."""
    return (view.long() << 54) | (point.long() << 27) | pixel.long()
