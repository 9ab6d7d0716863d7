"""kernel_map: which input does each offset of a kernel read for each output? The voxels of a room."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

import pyproj2d3d
from pyproj2d3d import KernelMap, reference

from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .workloads import room_cloud

FULL, TINY = {"voxels": 500_000}, {"voxels": 500}
SEARCH, HALF = "torch (sorted keys, searchsorted)", "torch best (half of the offsets, turned round)"
SPCONV = "spconv (its pairs, z first, any order)"
Found = tuple[Tensor, Tensor, Tensor]  # ptr, input, output


def room_voxels(device: torch.device, voxels: int) -> Tensor:
    """(M, 4) int32 in ascending order: so many of a room, four points to each or so."""
    cloud, _ = room_cloud(device, 6 * voxels)
    edge = 0.0155 * (500_000 / voxels) ** 0.5
    coords = pyproj2d3d.voxelize(cloud - cloud.amin(0), edge).coords
    assert len(coords) >= voxels
    return coords[:voxels].contiguous()


def submanifold(device: torch.device, voxels: int) -> dict[str, Contender | str]:
    """kernel_map 3 x 3 x 3, submanifold."""
    coords = room_voxels(device, voxels)
    return {
        OURS: lambda: pyproj2d3d.kernel_map(coords, 3),
        SEARCH: lambda: searched(coords, half=False),
        HALF: lambda: searched(coords, half=True),
        SPCONV: spconv_pairs(coords, 3, 1, 1, submanifold=True),
    }


def mixed(device: torch.device, voxels: int) -> dict[str, Contender | str]:
    """kernel_map 3 x 3 x 3, submanifold, voxels in no order."""
    coords = room_voxels(device, voxels)
    coords = coords[torch.randperm(len(coords), generator=torch.Generator().manual_seed(0)).to(device)]
    return {
        OURS: lambda: pyproj2d3d.kernel_map(coords, 3),
        SEARCH: lambda: searched(coords, half=False),
        HALF: lambda: searched(coords, half=True),
    }


def halves(device: torch.device, voxels: int) -> dict[str, Contender | str]:
    """kernel_map 2 x 2 x 2, stride 2."""
    coords = room_voxels(device, voxels)
    return {
        OURS: lambda: pyproj2d3d.kernel_map(coords, 2, stride=2),
        "torch best (unique parents)": lambda: parents(coords),
        SPCONV: spconv_pairs(coords, 2, 2, 0, submanifold=False),
    }


def plain(device: torch.device, voxels: int) -> dict[str, Contender | str]:
    """kernel_map 3 x 3 x 3, stride 2, padding 1."""
    coords = room_voxels(device, voxels)
    return {
        OURS: lambda: pyproj2d3d.kernel_map(coords, 3, stride=2, padding=1),
        "plain torch": lambda: reference.kernel_map(coords, 3, stride=2, padding=1),
        SPCONV: spconv_pairs(coords, 3, 2, 1, submanifold=False),
    }


def bench_kernel_map(timed: Timed) -> None:
    goals = {SEARCH: 3.0, HALF: 3.0}
    assert_same_pairs(timed(submanifold, full=FULL, tiny=TINY, moved=moved_by_map, goals=goals, memory=True))


def bench_kernel_map_of_mixed_voxels(timed: Timed) -> None:
    goals = {SEARCH: 3.0, HALF: 3.0}
    assert_same_pairs(timed(mixed, full=FULL, tiny=TINY, moved=moved_by_map, goals=goals, memory=True))


def bench_kernel_map_halves(timed: Timed) -> None:
    assert_same_pairs(timed(halves, full=FULL, tiny=TINY, moved=moved_by_map, memory=True))


def bench_kernel_map_with_a_stride(timed: Timed) -> None:
    results = timed(plain, full={"voxels": 50_000}, tiny=TINY, moved=moved_by_map, rounds=1)
    assert_same_pairs(results)


def bench_kernel_map_same_bits_in_20_runs(timed: Timed) -> None:
    size = TINY if timed.quick else FULL
    calls = [make(timed.device, **size)[OURS] for make in (submanifold, mixed, halves)]
    timed.same_bits("kernel_map", *[lambda call=call: parts_of(call()) for call in calls])


def searched(coords: Tensor, *, half: bool) -> Found:
    """3 x 3 x 3: the keys of all neighbours looked up among those of all voxels; of half of them, or of all."""
    low = coords.amin(0).long() - 1
    length = coords.amax(0).long() + 2 - low
    step = torch.stack((length[1:].prod(), length[2:].prod(), length[3], length.new_ones(())))
    key, order = ((coords.long() - low) * step).sum(1).sort()
    pairs = []
    for offset in list(itertools.product((-1, 0, 1), repeat=3))[: 13 if half else 27]:
        wanted = key + (step[1:] * torch.tensor(offset, device=step.device)).sum()
        at = torch.searchsorted(key, wanted).clamp_(max=len(key) - 1)
        there = (key[at] == wanted).nonzero()[:, 0]
        pairs.append((order[at[there]], order[there]))
    if half:
        pairs += [(order, order), *((target, source) for source, target in reversed(pairs))]
    ptr = torch.tensor([0, *itertools.accumulate(len(p) for p, _ in pairs)], device=coords.device)
    source, target = (torch.cat(parts).int() for parts in zip(*pairs, strict=True))
    return ptr, source, target


def parents(coords: Tensor) -> tuple[Tensor, ...]:
    """2 x 2 x 2 at stride 2: the parent of each voxel among the unique ones, voxels sorted by slot and parent."""
    scale = coords.new_tensor([1, 2, 2, 2])
    parent = coords.div(scale, rounding_mode="floor").long()
    low = parent.amin(0)
    length = parent.amax(0) + 1 - low
    step = torch.stack((length[1:].prod(), length[2:].prod(), length[3], length.new_ones(())))
    known, target = ((parent - low) * step).sum(1).unique(return_inverse=True)
    slot = ((coords % 2)[:, 1:] * coords.new_tensor([4, 2, 1])).sum(1)
    source = (slot * len(known) + target).argsort()
    ptr = torch.cat((known.new_zeros(1), torch.bincount(slot, minlength=8).cumsum(0)))
    return ptr, source.int(), target[source].int(), (known[:, None] // step % length + low).int()


def spconv_pairs(coords: Tensor, size: int, stride: int, padding: int, *, submanifold: bool) -> Contender | str:
    try:
        from spconv.core import ConvAlgo
        from spconv.pytorch import ops
    except ImportError:
        return "skipped: spconv is not installed"
    if coords.is_cuda:
        return "skipped: the pairs of spconv's native algorithm, timed on the CPU"
    extent = [n + 4 - n % 2 for n in coords[:, 1:].amax(0).tolist()]
    rule = [[n] * 3 for n in (size, stride, padding, 1, 0)]
    return lambda: ops.get_indice_pairs(coords, 1, extent, ConvAlgo.Native, *rule, submanifold)


def parts_of(found: KernelMap) -> tuple[Tensor, ...]:
    return found.ptr, found.input, found.output, found.coords


def moved_by_map(found: KernelMap, size: dict[str, int]) -> int:
    """Voxels in; ptr, pairs and, where they are new, outputs out."""
    return 16 * size["voxels"] + nbytes(*parts_of(found)[:3])


def assert_same_pairs(results: dict[str, Any]) -> None:
    """ptr, input, output and, where there are some, the outputs, to the last integer; of spconv their numbers."""
    ours = results[OURS]
    for name, theirs in results.items():
        if name == SPCONV:
            out, _, count = theirs
            assert len(out) == len(ours.coords)
            some = slice(len(count) // 2 if count[-1] == 0 else None)  # half the offsets of a submanifold map
            assert torch.equal(ours.ptr.diff()[some], count[some].long()), name
        else:
            columns = parts_of(theirs) if isinstance(theirs, KernelMap) else theirs
            assert all(torch.equal(a, b) for a, b in zip(parts_of(ours), columns, strict=False)), name
