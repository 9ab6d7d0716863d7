"""voxelize: which voxel is each point in? Two million points in one room, and in rooms kilometres apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import Voxels, reference

from . import peers, peers_clouds
from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .workloads import far_rooms, room_cloud

FULL, TINY = {"points": 2_000_000}, {"points": 2_000}
FAR, TINY_FAR = {"points": 2_000_000, "rooms": 8}, {"points": 2_000, "rooms": 3}
TWO_CENTIMETRES, ONE_CENTIMETRE = 0.02, 0.01
UNIQUE, SORTED, BY_ROW = "torch.unique (packed keys)", "torch best (sort of packed keys)", "torch.unique(dim=0)"
NUMPY, SPCONV = "torchsparse's manner (np.unique)", "spconv PointToVoxel (any order)"


def one_room(device: torch.device, points: int) -> dict[str, Contender | str]:
    """voxelize at 2 cm."""
    cloud, _ = room_cloud(device, points)
    found = len(pyproj2d3d.voxelize(cloud, TWO_CENTIMETRES))
    in_numpy = cloud.cpu().numpy()
    return {
        OURS: lambda: pyproj2d3d.voxelize(cloud, TWO_CENTIMETRES),
        UNIQUE: lambda: peers_clouds.packed_unique(cloud, TWO_CENTIMETRES),
        SORTED: lambda: peers_clouds.sorted_voxels(cloud, TWO_CENTIMETRES),
        NUMPY: peers.on_cpu(device, lambda: peers_clouds.numpy_unique(in_numpy, TWO_CENTIMETRES)),
        SPCONV: peers_clouds.spconv_voxels(cloud, TWO_CENTIMETRES, found, per_voxel=1),  # it keeps no more here
    }


def bench_voxelize(timed: Timed) -> None:
    goals = {UNIQUE: 2.0, SORTED: 2.0, NUMPY: 5.0}
    results = timed(one_room, full=FULL, tiny=TINY, moved=moved_by_voxels, goals=goals, memory=True)
    if (theirs := results.pop(SPCONV, None)) is not None:
        results[SPCONV] = in_our_order(theirs)
    assert_same_voxels(results)
    placed = int(results[OURS].counts.sum())
    size = TINY if timed.quick else FULL
    timed.goal("voxelize: no point is dropped", f"{size['points'] - placed} dropped", placed == size["points"])


def by_rows(device: torch.device, points: int) -> dict[str, Contender | str]:
    """voxelize at 2 cm, beside what sorts rows."""
    cloud, _ = room_cloud(device, points)
    return {
        OURS: lambda: pyproj2d3d.voxelize(cloud, TWO_CENTIMETRES),
        "plain torch": lambda: reference.voxelize(cloud, TWO_CENTIMETRES),
        BY_ROW: lambda: peers_clouds.unique_rows(cloud, TWO_CENTIMETRES),
    }


def bench_voxelize_and_rows(timed: Timed) -> None:
    results = timed(by_rows, full=FULL, tiny=TINY, moved=moved_by_voxels, goals={BY_ROW: 50.0}, rounds=1)
    assert_same_voxels(results)


def rooms_far_apart(device: torch.device, points: int, rooms: int) -> dict[str, Contender | str]:
    """voxelize at 1 cm, rooms as far as 10 km along each axis."""
    cloud, batch = far_rooms(device, points, rooms)
    return {
        OURS: lambda: pyproj2d3d.voxelize(cloud, ONE_CENTIMETRE, batch=batch),
        BY_ROW: lambda: peers_clouds.unique_rows(cloud, ONE_CENTIMETRE, batch),
        "torch best (unique twice)": lambda: peers_clouds.unique_twice(cloud, ONE_CENTIMETRE, batch),
    }


def bench_voxelize_rooms_far_apart(timed: Timed) -> None:
    assert_same_voxels(timed(rooms_far_apart, full=FAR, tiny=TINY_FAR, rounds=1))


def bench_voxelize_same_bits_in_20_runs(timed: Timed) -> None:
    near = one_room(timed.device, **(TINY if timed.quick else FULL))[OURS]
    far = rooms_far_apart(timed.device, **TINY_FAR | ({} if timed.quick else {"points": 200_000}))[OURS]
    timed.same_bits("voxelize", lambda: tensors_of(near()), lambda: tensors_of(far()))


def moved_by_voxels(voxels: Voxels, size: dict[str, int]) -> int:
    """Points in; coordinates, inverse, counts, ptr and order out."""
    return 12 * size["points"] + nbytes(*tensors_of(voxels))


def tensors_of(voxels: Voxels) -> tuple[Tensor, ...]:
    return voxels.coords, voxels.inverse, voxels.counts, voxels.ptr, voxels.order


def in_our_order(spconv: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Coordinates and inverse, which spconv gives in the order of first points, z first. Not part of what is timed."""
    _, coords, _, inverse = spconv
    coords, number = coords.flip(1).unique(dim=0, return_inverse=True)
    return coords, number[inverse]


def assert_same_voxels(results: dict[str, Any]) -> None:
    """Coordinates without batch or with it, inverse, and whatever else they have, to the last integer."""
    ours = tensors_of(results[OURS])
    for name, theirs in results.items():
        columns = tensors_of(theirs) if isinstance(theirs, Voxels) else [torch.as_tensor(t) for t in theirs]
        assert torch.equal(columns[0], ours[0][:, -columns[0].shape[1] :]), name
        for mine, other in zip(ours[1:], columns[1:], strict=False):
            assert torch.equal(mine, other), name
