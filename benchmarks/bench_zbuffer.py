"""zbuffer: the nearest point in every pixel."""

from __future__ import annotations

import torch

import pyproj2d3d
from pyproj2d3d import reference

from . import peers
from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .workloads import IMAGE, points_in_frame, seen_room

FULL = {"points": 1_000_000, "views": 1}
TINY = {"points": 2_000, "views": 2}


def dense_cloud(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """zbuffer of points all in the image."""
    uvz = points_in_frame(device, points, views)
    compiled = peers.compiled(peers.packed_zbuffer)
    return {
        OURS: lambda: pyproj2d3d.zbuffer(uvz, IMAGE),
        "plain torch": lambda: reference.zbuffer(uvz, IMAGE),
        "torch, two scatter_reduce": lambda: peers.two_minima_zbuffer(uvz, IMAGE),
        "torch, packed scatter_reduce": lambda: peers.packed_zbuffer(uvz, IMAGE),
        "torch.compile of packed": lambda: compiled(uvz, IMAGE),
    }


def bench_zbuffer(timed: Timed) -> None:
    results = timed(dense_cloud, full=FULL, tiny=TINY, moved=moved_by_zbuffer, memory=True)
    assert_same_images(results)


def footprint(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """zbuffer with a footprint of 3 x 3 pixels."""
    uvz = points_in_frame(device, points, views)
    return {
        OURS: lambda: pyproj2d3d.zbuffer(uvz, IMAGE, radius=1),
        "plain torch": lambda: reference.zbuffer(uvz, IMAGE, radius=1),
    }


def bench_zbuffer_with_footprint(timed: Timed) -> None:
    assert_same_images(timed(footprint, full=FULL, tiny=TINY, moved=moved_by_zbuffer))


def projected_room(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """project and zbuffer."""
    cloud, camera, _ = seen_room(device, points, views)
    return {
        OURS: lambda: pyproj2d3d.zbuffer(pyproj2d3d.project(cloud, camera), IMAGE),
        "plain torch": lambda: reference.zbuffer(reference.project(cloud, camera), IMAGE),
        "torch, packed scatter_reduce": lambda: peers.packed_zbuffer(peers.matrix_project(cloud, camera), IMAGE),
        "Open3D": peers.open3d_projection(cloud, camera),  # no index
    }


def bench_project_and_zbuffer(timed: Timed) -> None:
    results = timed(projected_room, full={"points": 200_000, "views": 8}, tiny=TINY)
    _, ours = results[OURS]
    for name, theirs in results.items():
        if name == "Open3D":
            depth = torch.stack([torch.from_numpy(image.as_tensor().numpy())[..., 0] for image in theirs])
        else:
            depth = theirs[1]
        # a projection in another order of operations moves a point that lies between two pixels
        assert ((ours - depth).abs() > 1e-3).sum() <= max(3, 1e-3 * (ours > 0).sum()), name


def moved_by_zbuffer(result: tuple[torch.Tensor, torch.Tensor], size: dict[str, int]) -> int:
    """u, v, z in, index and depth out."""
    return 12 * size["views"] * size["points"] + nbytes(*result)


def assert_same_images(results: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    for name, (index, depth) in results.items():
        assert torch.equal(index, results[OURS][0]), name
        assert torch.equal(depth, results[OURS][1]), name
