"""scatter: what do the points of a voxel say together? With voxelize before it, and alone; and the gradient back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy.spatial import cKDTree
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import Voxels, reference

from . import peers, peers_clouds
from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .peers_clouds import added_mean, embedded_mean, packed_unique, reduced_max, sorted_voxels
from .workloads import CLASSES, features, room_cloud

FULL, TINY = {"points": 2_000_000, "channels": 32}, {"points": 2_000, "channels": 4}
LABELS, TINY_LABELS = {"points": 2_000_000}, {"points": 2_000}
SIZE = 0.02  # metres
FEW = 5  # points of a voxel that spconv keeps in the configurations that people use
UNIQUE, SORTED = "torch (unique, index_add)", "torch best (sort, embedding_bag)"
ADDED, EMBEDDED = "torch (index_add)", "torch best (embedding_bag)"
SPCONV_FEW, SPCONV_ALL = f"spconv (keeps {FEW} of a voxel), mean", "spconv (keeps all), mean"
OPEN3D = "Open3D voxel_down_sample"
REDUCED, TORCH_SCATTER = "torch (unique, scatter_reduce)", "torch.unique and torch_scatter"


def ours(cloud: Tensor, rows: Tensor) -> Tensor:
    return pyproj2d3d.scatter(rows, pyproj2d3d.voxelize(cloud, SIZE))


def unique_mean(cloud: Tensor, rows: Tensor) -> Tensor:
    _, inverse, counts = packed_unique(cloud, SIZE)
    return added_mean(rows, inverse, counts)


def sorted_mean(cloud: Tensor, rows: Tensor) -> Tensor:
    *_, ptr, order = sorted_voxels(cloud, SIZE)
    return embedded_mean(rows, order, ptr)


def mean_by_spconv(cloud: Tensor, rows: Tensor, voxels: int, per_voxel: int) -> Callable[[], Any] | str:
    """A call that gives means (M, C), coordinates and counts in spconv's order, or why there is none."""
    call = peers_clouds.spconv_voxels(torch.cat((cloud, rows), dim=1), SIZE, voxels, per_voxel)
    if isinstance(call, str):
        return call

    def mean() -> tuple[Tensor, Tensor, Tensor]:
        kept, coords, counts, _ = call()
        return kept.sum(1)[:, 3:] / counts[:, None], coords, counts

    return mean


def whole_mean(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """voxelize at 2 cm and scatter, mean."""
    (cloud, _), rows = room_cloud(device, points), features(device, points, channels)
    voxels = pyproj2d3d.voxelize(cloud, SIZE)
    return {
        OURS: lambda: ours(cloud, rows),
        UNIQUE: lambda: unique_mean(cloud, rows),
        SORTED: lambda: sorted_mean(cloud, rows),
        SPCONV_FEW: mean_by_spconv(cloud, rows, len(voxels), FEW),
        SPCONV_ALL: mean_by_spconv(cloud, rows, len(voxels), int(voxels.counts.max())),
    }


def bench_voxelize_and_mean(timed: Timed) -> None:
    goals = {UNIQUE: 3.0, SORTED: 3.0, SPCONV_FEW: 9.0, SPCONV_ALL: 9.0}
    results = timed(whole_mean, full=FULL, tiny=TINY, moved=moved_by_mean, goals=goals, memory=True, rounds=3)
    size = TINY if timed.quick else FULL
    voxels = pyproj2d3d.voxelize(room_cloud(timed.device, size["points"])[0], SIZE)
    for name, keeps in ((SPCONV_FEW, FEW), (SPCONV_ALL, int(voxels.counts.max()))):
        if (theirs := results.pop(name, None)) is None:
            continue
        means, coords, counts = theirs
        _, order = coords.flip(1).unique(dim=0, return_inverse=True)  # the number that we give each of its voxels
        assert torch.equal(counts, voxels.counts[order].clamp(max=keeps)), name
        whole = counts == voxels.counts[order]  # where it dropped some its mean is that of others
        torch.testing.assert_close(means[whole], results[OURS][order[whole]], rtol=1e-4, atol=1e-4)
        dropped = size["points"] - int(counts.sum())
        text = f"no goal: points that {name} leaves out; ours none"
        timed.goal(text, f"{dropped:,} of {size['points']:,} ({100 * dropped / size['points']:.1f} %)", None)
    assert_close_to_ours(results)


def slow_mean(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """voxelize at 2 cm and scatter, mean, beside Open3D."""
    (cloud, _), rows = room_cloud(device, points), features(device, points, channels)
    return {
        OURS: lambda: ours(cloud, rows),
        "plain torch": lambda: reference.scatter(rows, reference.voxelize(cloud, SIZE)),
        OPEN3D: peers_clouds.open3d_downsampling(cloud, rows, SIZE),
    }


def bench_voxelize_and_mean_and_open3d(timed: Timed) -> None:
    results = timed(slow_mean, full=FULL, tiny=TINY, moved=moved_by_mean, goals={OPEN3D: 25.0}, rounds=1)
    if (theirs := results.pop(OPEN3D, None)) is not None:
        cloud, _ = room_cloud(timed.device, (TINY if timed.quick else FULL)["points"])
        at, means = (torch.from_numpy(theirs.point[name].numpy()) for name in ("positions", "features"))
        _, found = cKDTree(ours(cloud, cloud.double()).numpy()).query(at.numpy())  # by the mean of the points
        assert sorted(found) == list(range(len(results[OURS])))
        torch.testing.assert_close(means, results[OURS][torch.from_numpy(found)], rtol=1e-4, atol=1e-4)
    assert_close_to_ours(results)


def whole_gradient(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """voxelize at 2 cm and scatter, mean, and the gradient to the features."""
    (cloud, _), rows = room_cloud(device, points), features(device, points, channels).requires_grad_()
    grad = features(device, len(pyproj2d3d.voxelize(cloud, SIZE)), channels)

    def with_gradient(mean: Callable[[Tensor, Tensor], Tensor]) -> Contender:
        return lambda: torch.autograd.grad(mean(cloud, rows), rows, grad)[0]

    def sorted_and_added(cloud: Tensor, rows: Tensor) -> Tensor:
        _, inverse, counts, *_ = sorted_voxels(cloud, SIZE)
        return added_mean(rows, inverse, counts)

    return {
        OURS: with_gradient(ours),
        UNIQUE: with_gradient(unique_mean),
        "torch best (sort, index_add)": with_gradient(sorted_and_added),
        SORTED: with_gradient(sorted_mean),
    }


def bench_voxelize_and_mean_and_gradient(timed: Timed) -> None:
    goals = {UNIQUE: 1.5, "torch best (sort, index_add)": 1.5, SORTED: 1.5}
    assert_close_to_ours(timed(whole_gradient, full=FULL, tiny=TINY, goals=goals, rounds=3))


def whole_max(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """voxelize at 2 cm and scatter, max and which point has it."""
    (cloud, _), rows = room_cloud(device, points), features(device, points, channels)

    def composed(maximum: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]) -> Contender:
        def call() -> tuple[Tensor, Tensor]:
            found, inverse, _ = packed_unique(cloud, SIZE)
            return maximum(rows, inverse, len(found))

        return call

    return {
        OURS: lambda: pyproj2d3d.scatter(rows, pyproj2d3d.voxelize(cloud, SIZE), "max", return_arg=True),
        REDUCED: composed(reduced_max),
        TORCH_SCATTER: peers.if_installed("torch_scatter", composed(peers_clouds.torch_scatter_max)),
    }


def bench_voxelize_and_max(timed: Timed) -> None:
    results = timed(whole_max, full=FULL, tiny=TINY, goals={REDUCED: 10.0, TORCH_SCATTER: 10.0}, memory=True, rounds=2)
    best, arg = results[OURS]
    rows = features(timed.device, *(TINY if timed.quick else FULL).values())
    for name, (theirs, of) in results.items():
        assert torch.equal(theirs, best), name
        assert torch.equal(of, arg) if name != TORCH_SCATTER else torch.equal(rows.gather(0, of), best), name


def mean_alone(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """scatter, mean."""
    rows, voxels = features(device, points, channels), room_voxels(device, points)
    compiled = peers.compiled(reference.scatter)
    return {
        OURS: lambda: pyproj2d3d.scatter(rows, voxels),
        "plain torch": lambda: reference.scatter(rows, voxels),
        ADDED: lambda: added_mean(rows, voxels.inverse, voxels.counts),
        EMBEDDED: lambda: embedded_mean(rows, voxels.order, voxels.ptr),
        "torch.compile": lambda: compiled(rows, voxels),
    }


def bench_mean(timed: Timed) -> None:
    assert_close_to_ours(timed(mean_alone, full=FULL, tiny=TINY, moved=moved_by_scatter))


def gradient_alone(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """scatter, mean, and the gradient to the features."""
    rows, voxels = features(device, points, channels).requires_grad_(), room_voxels(device, points)
    grad = features(device, len(voxels), channels)

    def with_gradient(mean: Callable[[], Tensor]) -> Contender:
        return lambda: torch.autograd.grad(mean(), rows, grad)[0]

    compiled = peers.compiled(reference.scatter)
    return {
        OURS: with_gradient(lambda: pyproj2d3d.scatter(rows, voxels)),
        "plain torch": with_gradient(lambda: reference.scatter(rows, voxels)),
        ADDED: with_gradient(lambda: added_mean(rows, voxels.inverse, voxels.counts)),
        EMBEDDED: with_gradient(lambda: embedded_mean(rows, voxels.order, voxels.ptr)),
        "torch.compile": with_gradient(lambda: compiled(rows, voxels)),
    }


def bench_mean_and_gradient(timed: Timed) -> None:
    assert_close_to_ours(timed(gradient_alone, full=FULL, tiny=TINY, rounds=3))


def max_alone(device: torch.device, points: int, channels: int) -> dict[str, Contender | str]:
    """scatter, max and which point has it."""
    rows, voxels = features(device, points, channels), room_voxels(device, points)
    return {
        OURS: lambda: pyproj2d3d.scatter(rows, voxels, "max", return_arg=True),
        "plain torch": lambda: reference.scatter(rows, voxels, "max", return_arg=True),
        "torch best (scatter_reduce)": lambda: reduced_max(rows, voxels.inverse, len(voxels)),
    }


def bench_max(timed: Timed) -> None:
    results = timed(max_alone, full=FULL, tiny=TINY, rounds=2)
    for name, theirs in results.items():
        assert all(map(torch.equal, theirs, results[OURS])), name


def mode_alone(device: torch.device, points: int) -> dict[str, Contender | str]:
    """scatter, the most frequent label."""
    voxels, (_, labels) = room_voxels(device, points), room_cloud(device, points)
    inverse, n = voxels.inverse, len(voxels)
    return {
        OURS: lambda: pyproj2d3d.scatter(labels, voxels, "mode"),
        "plain torch": lambda: reference.scatter(labels, voxels, "mode"),
        f"torch best ({CLASSES} counts)": lambda: peers_clouds.counted_mode(labels, inverse, n, CLASSES),
        "torch best (unique)": lambda: peers_clouds.sorted_mode(labels, inverse, n, CLASSES),
    }


def bench_mode(timed: Timed) -> None:
    def moved(out: Tensor, size: dict[str, int]) -> int:
        return 16 * size["points"] + 8 * len(out) + out.nbytes  # labels and order, ptr in; labels out

    results = timed(mode_alone, full=LABELS, tiny=TINY_LABELS, moved=moved)
    for name, theirs in results.items():
        assert torch.equal(theirs, results[OURS]), name


def bench_scatter_same_bits_in_20_runs(timed: Timed) -> None:
    size = TINY if timed.quick else FULL
    mean, gradient = (make(timed.device, **size)[OURS] for make in (mean_alone, gradient_alone))
    maximum = max_alone(timed.device, **size)[OURS]
    timed.same_bits("scatter, mean, its gradient and max", lambda: [mean()], lambda: [gradient()], maximum)


def room_voxels(device: torch.device, points: int) -> Voxels:
    return pyproj2d3d.voxelize(room_cloud(device, points)[0], SIZE)


def moved_by_scatter(out: Tensor, size: dict[str, int]) -> int:
    """Rows, order and ptr in, a row for each voxel out."""
    return (8 + 4 * size["channels"]) * size["points"] + 8 * len(out) + out.nbytes


def moved_by_mean(out: Tensor, size: dict[str, int]) -> int:
    """Points and rows in; coordinates, inverse and a row for each voxel out."""
    return (12 + 8 + 4 * size["channels"]) * size["points"] + 16 * len(out) + nbytes(out)


def assert_close_to_ours(results: dict[str, Tensor]) -> None:
    for name, theirs in results.items():
        torch.testing.assert_close(theirs, results[OURS], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
