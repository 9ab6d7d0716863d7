"""How much of a step of PPKT is geometry? Lifting, voxels, pairs and their pixels' features, beside plain torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

pytest.importorskip("lightning", reason="the extra train is not installed")

from pyproj2d3d import Camera
from pyproj2d3d.data.samples import Batch
from pyproj2d3d.nn.voxel_input import voxel_tensor
from pyproj2d3d.papers.ppkt import PPKT, lifted

from . import peers_clouds
from .conftest import OURS, Timed
from .measuring import Contender
from .peers_clouds import RowsAt
from .workloads import IMAGE, features, room_depth

FULL = {"images": 2, "pairs": 4096, "channels": 128, "millimetres": 25}
TINY = {"images": 1, "pairs": 64, "channels": 4, "millimetres": 200}
STEP, TINY_STEP = FULL | {"unet": 34, "resnet": 50}, TINY | {"unet": 18, "resnet": 18}
MAP = (15, 20)  # cells of the teacher's last map: a 32nd of the image
PLAIN = "plain torch (map upsampled, unique(dim=0))"
KEYS = "plain torch (map upsampled, unique of keys)"
LATE = "torch (map upsampled, length 1 of the pairs alone, unique of keys)"
SMALL = "torch best (small map by embedding_bag, unique of keys)"
AUGMENTED, WHOLE = "the step's augmentation", "the whole step"


class Geometry(NamedTuple):
    """The network's input, and both features of the pairs."""

    coords: Tensor  # (M, 4) int32 of the voxels: image, x, y, z
    colors: Tensor  # (M, 3), their means
    pixel: Tensor  # (P, D) of length 1
    point: Tensor  # (P, D)


Unique = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]  # coords (M, 4), inverse and counts


def room_batch(device: torch.device, images: int) -> Batch:
    """Frames of the room in colours without meaning; every pixel has depth."""
    camera, depth = room_depth(torch.device("cpu"), images)
    color = torch.randint(0, 256, (images, *IMAGE, 3), dtype=torch.uint8, generator=Generator().manual_seed(0))
    each, none = torch.arange(images + 1), torch.zeros(images + 1, dtype=torch.int64)
    names = tuple(f"room{i}" for i in range(images))
    return Batch(names, ("0",) * images, each, none, camera=camera, color=color, depth=depth).to(device)


def model_of(device: torch.device, pairs: int, channels: int, millimetres: int, unet: int, resnet: int) -> PPKT:
    """Its teacher has random weights, which takes as long."""
    torch.manual_seed(0)
    net, size = f"sr_unet{unet}", millimetres / 1000
    return PPKT(net, resnet, "random", embedding=channels, pairs=pairs, voxel_size=size).to(device)


def geometry(
    device: torch.device, images: int, pairs: int, channels: int, millimetres: int
) -> dict[str, Contender | str]:
    """PPKT's geometry: lift, fill voxels, draw pairs, read both features, and gradients."""
    batch, model = room_batch(device, images), model_of(device, pairs, channels, millimetres, 18, 18)
    frames = lifted(batch)
    seeds = [rng.initial_seed() for rng in model.draws(frames, 0)]
    _, voxels = voxel_tensor(frames.points, frames.colors, model.voxel_size, frames.ptr)
    small = features(device, images, channels, *MAP).requires_grad_()  # in NCHW, as a 1x1 convolution leaves it
    of_voxels = features(device, len(voxels), channels).requires_grad_()
    of_pairs = features(device, 2, images * (pairs // images), channels)  # gradients

    def step(forward: Callable[[Tensor, Tensor], Geometry]) -> Contender:
        def call() -> tuple[Geometry, Sequence[Tensor]]:
            found = forward(small, of_voxels)
            return found, torch.autograd.grad([found.pixel, found.point], [small, of_voxels], list(of_pairs))

        return call

    def plain(unique: Unique, rows: RowsAt) -> Contender:
        return step(partial(in_torch, batch, model.voxel_size, pairs, seeds, unique, rows))

    return {
        OURS: step(partial(by_ours, model, batch)),
        PLAIN: plain(unique_rows, unit_map_rows),
        KEYS: plain(unique_keys, unit_map_rows),
        LATE: plain(unique_keys, unit_rows(peers_clouds.channels_last_rows)),
        SMALL: plain(unique_keys, unit_rows(peers_clouds.embedded_rows)),
    }


def whole_step(
    device: torch.device, images: int, pairs: int, channels: int, millimetres: int, unet: int, resnet: int
) -> dict[str, Contender | str]:
    """PPKT's geometry beside the whole step: networks, augmentation, loss and SGD."""
    batch, model = room_batch(device, images), model_of(device, pairs, channels, millimetres, unet, resnet)
    frames = lifted(batch)
    learned = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=1e-4, momentum=model.momentum, weight_decay=model.weight_decay)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = model.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return {
        OURS: geometry(device, images, pairs, channels, millimetres)[OURS],
        AUGMENTED: lambda: model.varied(frames, model.draws(frames, 0)),
        WHOLE: step,
    }


def by_ours(model: PPKT, batch: Batch, small: Tensor, of_voxels: Tensor) -> Geometry:
    """What the step of the paper's file calls, without its networks and augmentation."""
    frames = lifted(batch)
    x, voxels = voxel_tensor(frames.points, frames.colors, model.voxel_size, frames.ptr)
    row = torch.cat(model.choose(model.pairs // len(frames.names), frames, voxels, model.draws(frames, 0)))
    pixel = model.pixel_features(frames, small, frames.at[row])
    return Geometry(voxels.coords, x.features, pixel, of_voxels[voxels.inverse[row]])


def in_torch(
    batch: Batch, size: float, pairs: int, seeds: list[int], unique: Unique, rows: RowsAt, small: Tensor,
    of_voxels: Tensor,
) -> Geometry:  # fmt: skip
    assert batch.camera is not None
    assert batch.color is not None
    assert batch.depth is not None
    at = ((batch.depth > 0) & (batch.depth < torch.inf)).flatten().nonzero()[:, 0]
    points = world_points(batch.depth, batch.camera).index_select(0, at)
    colors = batch.color.view(-1, 3).index_select(0, at).float() / 127.5 - 1
    image = at // batch.depth[0].numel()
    coords, inverse, counts = unique(points, image, size)
    means = peers_clouds.added_mean(colors, inverse, counts)
    chosen, begin = [], 0
    for n, seed in zip(torch.bincount(image, minlength=len(seeds)).tolist(), seeds, strict=True):
        some = torch.randperm(n, generator=Generator().manual_seed(seed))[: pairs // len(seeds)]
        chosen.append(begin + some.to(image.device))
        begin += n
    row = torch.cat(chosen)
    pixel = rows(small, at[row], batch.camera.size)
    return Geometry(coords, means, pixel, of_voxels[inverse[row]])


def world_points(depth: Tensor, camera: Camera) -> Tensor:
    """(V H W, 3) in the order of arithmetic that ours has, so that all find the same voxels."""
    height, width = camera.size
    k, t = camera.intrinsics[..., None], camera.world_from_camera[..., None, None]
    x = ((torch.arange(width, device=depth.device) - k[:, 0, 2]) / k[:, 0, 0])[:, None] * depth
    y = ((torch.arange(height, device=depth.device) - k[:, 1, 2]) / k[:, 1, 1])[..., None] * depth
    rows = [((t[:, i, 0] * x + t[:, i, 1] * y) + t[:, i, 2] * depth) + t[:, i, 3] for i in range(3)]
    return torch.stack(rows, dim=-1).view(-1, 3)


def unique_rows(points: Tensor, image: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor]:
    coords, inverse, counts = peers_clouds.unique_rows(points, size, image)
    return coords, inverse, counts


def unique_keys(points: Tensor, image: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor]:
    """One int64 for image and cell: wide enough for any frames of rooms."""
    cell = torch.floor(points / size).long()
    low, high = cell.aminmax(dim=0)
    (x, y, z), cell = (high - low + 1).tolist(), cell - low
    key = ((image * x + cell[:, 0]) * y + cell[:, 1]) * z + cell[:, 2]
    key, inverse, counts = torch.unique(key, return_inverse=True, return_counts=True)
    place = torch.stack((key // (y * z) % x, key // z % y, key % z), 1) + low
    return torch.cat((key[:, None] // (x * y * z), place), 1).int(), inverse, counts


def unit_map_rows(maps: Tensor, at: Tensor, size: tuple[int, int]) -> Tensor:
    """As the paper and SLidR's code have it: upsampled, then all of it to length 1, then the pixels."""
    height, width = size
    image, v, u = at // (height * width), at // width % height, at % width
    built = F.normalize(F.interpolate(maps, size, mode="bilinear", align_corners=False), dim=1)
    return built.permute(0, 2, 3, 1)[image, v, u]


def unit_rows(rows: RowsAt) -> RowsAt:
    return lambda maps, at, size: F.normalize(rows(maps, at, size), dim=1)


def bench_ppkt_geometry(timed: Timed) -> None:
    goals = {PLAIN: 20.0, KEYS: 20.0, LATE: 20.0}
    results = timed(geometry, full=FULL, tiny=TINY, goals=goals, memory=True, rounds=2)
    for name in goals:
        if (theirs := timed.peak_of(name)) is not None:
            text = f"PPKT's geometry: a 50th of the peak memory of {name}"
            less = theirs / timed.peak_of_ours()
            timed.goal(text, f"{less:.0f}x less", less >= 50)
    assert_close_to_ours(results)


def bench_ppkt_step(timed: Timed) -> None:
    results = timed(whole_step, full=STEP, tiny=TINY_STEP, rounds=2)
    assert bool(results[WHOLE].isfinite())
    mine, augmented, whole = (row.median for row in timed.table.rows[-3:])
    timed.goal("PPKT's geometry: less than 5 % of the step", f"{100 * mine / whole:.1f} %", mine < 0.05 * whole)
    timed.goal("no goal: share of the augmentation in PPKT's step", f"{100 * augmented / whole:.1f} %", None)


def assert_close_to_ours(results: dict[str, tuple[Geometry, Sequence[Tensor]]]) -> None:
    """The same voxels and pairs; a gradient of the small map is a sum over some of the pairs, in another order."""
    ours, grads = results[OURS]
    for name, (theirs, their_grads) in results.items():
        assert torch.equal(theirs.coords, ours.coords), name
        assert torch.equal(theirs.point, ours.point), name
        for mine, other in ((ours.colors, theirs.colors), (ours.pixel, theirs.pixel)):
            torch.testing.assert_close(other, mine, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        for mine, other in zip(grads, their_grads, strict=True):
            assert (other - mine).norm() <= 1e-5 * mine.norm(), name
