"""zbuffer and splat: features of points as images, and the gradient back; the mean of all matches of a pixel."""

from __future__ import annotations

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import reference

from . import peers
from .conftest import OURS, Timed
from .measuring import Contender
from .workloads import IMAGE, features, points_in_frame, room_matches, seen_room

FULL = {"points": 1_000_000, "channels": 32}
TINY = {"points": 2_000, "channels": 4}


def ours(uvz: Tensor, rows: Tensor) -> Tensor:
    return pyproj2d3d.splat(rows, pyproj2d3d.zbuffer(uvz, IMAGE)[0])


def plain(uvz: Tensor, rows: Tensor) -> Tensor:
    return reference.splat(rows, reference.zbuffer(uvz, IMAGE)[0])


def best(uvz: Tensor, rows: Tensor) -> Tensor:
    return peers.splat_by_index(rows, peers.packed_zbuffer(uvz, IMAGE)[0])


def forward(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """zbuffer and splat."""
    uvz, rows = points_in_frame(device, points, 1), features(device, points, channels)
    compiled = peers.compiled(plain)
    return {
        OURS: lambda: ours(uvz, rows),
        "plain torch": lambda: plain(uvz, rows),
        "torch best": lambda: best(uvz, rows),
        "torch.compile": lambda: compiled(uvz, rows),
    }


def bench_zbuffer_and_splat(timed: Timed) -> None:
    goals = {"plain torch": 1.2, "torch best": 1.2}
    results = timed(forward, full=FULL, tiny=TINY, moved=moved_by_splat, goals=goals, memory=True)
    for name, theirs in results.items():
        assert torch.equal(theirs, results[OURS]), name


def moved_by_splat(image: Tensor, size: dict[str, int]) -> int:
    """u, v, z and the rows of the winners in, as many rows out."""
    return 12 * size["points"] + 2 * image.nbytes


def forward_and_backward(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """zbuffer and splat, and the gradient to the features."""
    uvz, rows = points_in_frame(device, points, 1), features(device, points, channels).requires_grad_()
    grad = features(device, 1, channels, *IMAGE).to(memory_format=torch.channels_last)
    compiled = peers.compiled(plain)
    return {
        OURS: lambda: torch.autograd.grad(ours(uvz, rows), rows, grad)[0],
        "plain torch": lambda: torch.autograd.grad(plain(uvz, rows), rows, grad)[0],
        "torch best": lambda: torch.autograd.grad(best(uvz, rows), rows, grad)[0],
        "torch.compile": lambda: torch.autograd.grad(compiled(uvz, rows), rows, grad)[0],
    }


def bench_zbuffer_and_splat_and_gradient(timed: Timed) -> None:
    goals = {"plain torch": 2.0, "torch best": 2.0}
    results = timed(forward_and_backward, full=FULL, tiny=TINY, goals=goals, memory=True)
    for name, theirs in results.items():
        assert torch.equal(theirs, results[OURS]), name


def bench_same_bits_in_20_runs(timed: Timed) -> None:
    size = TINY if timed.quick else FULL
    calls = forward_and_backward(timed.device, **size)[OURS], forward(timed.device, **size)[OURS]
    first = [call() for call in calls]
    threads = torch.get_num_threads()
    same = 0
    try:
        for run in range(20):
            torch.set_num_threads(1 + run % 2)
            same += all(
                torch.equal(call().view(torch.int32), bits.view(torch.int32))
                for call, bits in zip(calls, first, strict=True)
            )
    finally:
        torch.set_num_threads(threads)
    timed.goal(
        "zbuffer and splat, image and gradient: the same bits over 20 runs with 1 and 2 threads",
        f"{same} of 20",
        same == 20,
    )
    assert same == 20


def three_channels(device: torch.device, points: int, views: int) -> dict[str, Contender | str]:
    """project, zbuffer and splat of three channels."""
    cloud, camera, _ = seen_room(device, points, views)
    rows = features(device, points, 3).abs().clamp(max=1)
    return {
        OURS: lambda: ours(pyproj2d3d.project(cloud, camera), rows),
        "plain torch": lambda: plain(reference.project(cloud, camera), rows),
        "torch best": lambda: best(peers.matrix_project(cloud, camera), rows),
        # two nearest points at one depth: the one it saw last, not the lower index
        "Open3D": peers.open3d_projection(cloud, camera, rows),
    }


def bench_splat_of_colours(timed: Timed) -> None:
    full, tiny = {"points": 1_000_000, "views": 1}, {"points": 2_000, "views": 2}
    results = timed(three_channels, full=full, tiny=tiny, goals={"Open3D": 1.0}, memory=True)
    mine = results[OURS].permute(0, 2, 3, 1)
    for name, theirs in results.items():
        if name == "Open3D":
            theirs = torch.stack([torch.from_numpy(image.color.as_tensor().numpy()) for image in theirs])
        else:
            theirs = theirs.permute(0, 2, 3, 1)
        differs = ((mine - theirs).abs() > 1e-3).any(-1).sum()  # where a projection rounds to the pixel beside
        assert differs <= max(3, 1e-3 * (mine != 0).any(-1).sum()), name


def mean_of_matches(device: torch.device, points: int, views: int, channels: int) -> dict[str, Contender | str]:
    """splat of the mean of all matches."""
    matches, rows = room_matches(device, points, views), features(device, points, channels)
    return {
        OURS: lambda: pyproj2d3d.splat(rows, matches, IMAGE),
        "plain torch": lambda: reference.splat(rows, matches, IMAGE),
    }


def bench_splat_of_matches(timed: Timed) -> None:
    full, tiny = {"points": 200_000, "views": 8, "channels": 32}, {"points": 500, "views": 2, "channels": 4}
    results = timed(mean_of_matches, full=full, tiny=tiny, moved=lambda image, size: image.nbytes, memory=True)
    torch.testing.assert_close(results["plain torch"], results[OURS], rtol=1e-5, atol=1e-5)
