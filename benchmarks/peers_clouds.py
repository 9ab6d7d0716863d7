"""How would one lift pixels and fill voxels without this library? The peers of back_project, voxelize and scatter.

Written as peers.py is: from descriptions, for these benchmarks; each function says where its result is not quite ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyproj2d3d import Camera

from .peers import if_installed, import_open3d, on_cpu

RowsAt = Callable[[Tensor, Tensor, tuple[int, int]], Tensor]  # maps (B, C, h, w) at pixels (M,): (M, C)


class Lifted(NamedTuple):
    """Without ptr and valid."""

    points: Tensor  # (M, 3) world
    features: Tensor | None  # (M, C)
    at: Tensor  # (M,) int64 into the flattened (B, H, W)


# Back-projection in torch.


def lifted(
    depth: Tensor, camera: Camera, maps: Tensor | None = None, rows: RowsAt | None = None, normalize: bool = False
) -> Lifted:
    """All valid pixels: points for every pixel, then the valid ones of them; features by one of the ways below."""
    at = ((depth > 0) & (depth < torch.inf)).flatten().nonzero()[:, 0]
    points = world_points(depth, camera).view(-1, 3).index_select(0, at)
    return Lifted(points, _features(maps, rows, at, camera.size, normalize), at)


def lifted_pixels(depth: Tensor, camera: Camera, pixels: Tensor, maps: Tensor, rows: RowsAt) -> Lifted:
    """The chosen pixels alone, all of which have valid depth."""
    height, width = camera.size
    image, v, u = pixels // (height * width), pixels // width % height, pixels % width
    k, t, z = camera.intrinsics[image], camera.world_from_camera[image], depth.flatten()[pixels]
    in_camera = torch.stack(((u - k[:, 0, 2]) / k[:, 0, 0] * z, (v - k[:, 1, 2]) / k[:, 1, 1] * z, z), dim=-1)
    points = torch.baddbmm(t[:, :3, 3:], t[:, :3, :3], in_camera[..., None])[..., 0]
    return Lifted(points, rows(maps, pixels, camera.size), pixels)


def world_points(depth: Tensor, camera: Camera) -> Tensor:
    """(B, H, W, 3): along each axis a ray is a sum of what its row and its column say; other order of arithmetic."""
    height, width = camera.size
    k, t = camera.intrinsics, camera.world_from_camera
    x = (torch.arange(width, device=depth.device) - k[:, 0, 2:]) / k[:, 0, :1]  # (B, W)
    y = (torch.arange(height, device=depth.device) - k[:, 1, 2:]) / k[:, 1, 1:2]  # (B, H)
    points = depth.new_empty(*depth.shape, 3)
    for i in range(3):
        ray = (t[:, i, 1:2] * y + t[:, i, 2:3])[:, :, None] + (t[:, i, :1] * x)[:, None]  # (B, H, W)
        torch.addcmul(t[:, i, 3, None, None], ray, depth, out=points[..., i])
    return points


def _features(
    maps: Tensor | None, rows: RowsAt | None, at: Tensor, size: tuple[int, int], normalize: bool
) -> Tensor | None:
    if maps is None or rows is None:
        return None
    found = rows(maps, at, size)
    return F.normalize(found, dim=1) if normalize else found


def upsampled_rows(maps: Tensor, at: Tensor, size: tuple[int, int]) -> Tensor:
    """What everybody writes: the maps upsampled as they are, in NCHW, and then the pixels."""
    height, width = size
    image, v, u = at // (height * width), at // width % height, at % width
    return F.interpolate(maps, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)[image, v, u]


def channels_last_rows(maps: Tensor, at: Tensor, size: tuple[int, int]) -> Tensor:
    """The same in channels_last, where a pixel is a row already."""
    maps = maps.contiguous(memory_format=torch.channels_last)
    image = F.interpolate(maps, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    return image.reshape(-1, maps.shape[1]).index_select(0, at)


def embedded_rows(maps: Tensor, at: Tensor, size: tuple[int, int]) -> Tensor:
    """No map is upsampled: each pixel is a bag of four weighted cells, summed by torch's kernel for embeddings."""
    height, width = size
    views, channels, h, w = maps.shape
    image, v, u = at // (height * width), at // width % height, at % width
    y0, y1, fy = (t[v] for t in _taps(h, height, maps))
    x0, x1, fx = (t[u] for t in _taps(w, width, maps))
    top, bottom = (image * h + y0) * w, (image * h + y1) * w
    cells = torch.stack((top + x0, top + x1, bottom + x0, bottom + x1), dim=1)
    weights = torch.stack(((1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx), dim=1)
    table = maps.permute(0, 2, 3, 1).reshape(views * h * w, channels)
    return F.embedding_bag(cells, table, per_sample_weights=weights, mode="sum")


def _taps(n: int, full: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each of ``full`` pixels the two of n cells that it lies between, and how far beyond the first."""
    x = ((torch.arange(full, device=like.device, dtype=like.dtype) + 0.5) * (n / full) - 0.5).clamp(0, n - 1)
    x0 = x.long()
    return x0, (x0 + 1).clamp(max=n - 1), x - x0


def grid_sampled_rows(maps: Tensor, at: Tensor, size: tuple[int, int]) -> Tensor:
    """F.grid_sample at the pixels, image by image."""
    height, width = size
    image, order = (at // (height * width)).sort()
    v, u = at[order] // width % height, at[order] % width
    grid = torch.stack(((2 * u + 1) / width - 1, (2 * v + 1) / height - 1), dim=-1).to(maps.dtype)
    rows, begin = maps.new_empty(len(at), maps.shape[1]), 0
    for i, n in enumerate(torch.bincount(image, minlength=len(maps)).tolist()):
        here = slice(begin, begin + n)
        found = F.grid_sample(maps[i : i + 1], grid[None, None, here], padding_mode="border", align_corners=False)
        rows[order[here]] = found[0, :, 0].T
        begin += n
    return rows


def open3d_lifting(depth: Tensor, camera: Camera, depth_scale: float = 1.0) -> Callable[[], list[Any]] | str:
    """A call that gives a tensor cloud for each image, its points in no fixed order; or why there is none."""
    for reason in (if_installed("open3d", list), on_cpu(depth.device, list)):
        if isinstance(reason, str):
            return reason
    o3d = import_open3d()
    images = [o3d.t.geometry.Image(o3d.core.Tensor.from_numpy(d.numpy())) for d in depth]
    intrinsics = [o3d.core.Tensor(k.double().numpy()) for k in camera.intrinsics]
    extrinsics = [o3d.core.Tensor(t.double().inverse().numpy()) for t in camera.world_from_camera]
    lift = o3d.t.geometry.PointCloud.create_from_depth_image

    def call() -> list[Any]:
        return [lift(d, k, t, depth_scale, 100.0) for d, k, t in zip(images, intrinsics, extrinsics, strict=True)]

    return call


def kornia_lifting(depth: Tensor, camera: Camera) -> Tensor:
    """(B, H, W, 3) in the frame of each camera, for every pixel, valid or not."""
    from kornia.geometry import depth_to_3d_v2

    return depth_to_3d_v2(depth, camera.intrinsics)


# Voxels: coordinates, inverse and counts. One integer for each cell, as wide as it has to be.


def packed_unique(points: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor]:
    """torch.unique of packed keys: coords (M, 3), inverse and counts; no CSR order."""
    key, low, cells = _packed(points, size)
    found, inverse, counts = torch.unique(key, return_inverse=True, return_counts=True)
    return _unpacked(found, low, cells), inverse, counts


def sorted_voxels(points: Tensor, size: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All that Voxels holds, by one stable sort (a radix sort for int32 on the CPU): also ptr and order."""
    key, low, cells = _packed(points, size)
    key, order = key.sort(stable=True)
    found, number, counts = torch.unique_consecutive(key, return_inverse=True, return_counts=True)
    inverse = torch.empty_like(number).scatter_(0, order, number)
    return _unpacked(found, low, cells), inverse, counts, torch.cat((counts.new_zeros(1), counts.cumsum(0))), order


def _packed(points: Tensor, size: float) -> tuple[Tensor, Tensor, list[int]]:
    cell = torch.floor(points / size).int()
    low, high = cell.aminmax(dim=0)
    x, y, z = (high - low + 1).tolist()
    cell = (cell - low) if x * y * z < 2**31 else (cell - low).long()
    return (cell[:, 0] * y + cell[:, 1]) * z + cell[:, 2], low, [x, y, z]


def _unpacked(key: Tensor, low: Tensor, cells: list[int]) -> Tensor:
    _, y, z = cells
    return torch.stack((key // (y * z), key // z % y, key % z), dim=1).int() + low


def unique_rows(points: Tensor, size: float, batch: Tensor | None = None) -> tuple[Tensor, ...]:
    """torch.unique(dim=0): coords (M, 3), or (M, 4) with a batch."""
    cell = torch.floor(points / size).int()
    rows = cell if batch is None else torch.cat((batch[:, None].int(), cell), dim=1)
    return torch.unique(rows, dim=0, return_inverse=True, return_counts=True)


def unique_twice(points: Tensor, size: float, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where one key does not hold all: batch, x and y in a first, the number of that and z in a second."""
    cell = torch.floor(points / size).long()
    low, high = cell.aminmax(dim=0)
    cell -= low
    _, y, z = (high - low + 1).tolist()
    column, of_column = torch.unique(
        (batch * (high[0] - low[0] + 1) + cell[:, 0]) * y + cell[:, 1], return_inverse=True
    )
    found, inverse, counts = torch.unique(of_column * z + cell[:, 2], return_inverse=True, return_counts=True)
    column, x = column[found // z], high[0] - low[0] + 1
    place = torch.stack((column // y % x, column % y, found % z), dim=1) + low
    return torch.cat((column[:, None] // (x * y), place), dim=1).int(), inverse, counts


def numpy_unique(points: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """torchsparse's manner: cells ravelled to one uint64, np.unique of it. Coords and inverse; no counts."""
    cell = np.floor(points / points.dtype.type(size)).astype(np.int32)
    shifted = (cell - cell.min(axis=0)).astype(np.uint64)
    extent = shifted.max(axis=0) + 1
    key = (shifted[:, 0] * extent[1] + shifted[:, 1]) * extent[2] + shifted[:, 2]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return cell[first], inverse


def spconv_voxels(points: Tensor, size: float, voxels: int, per_voxel: int) -> Callable[[], Any] | str:
    """A call of PointToVoxel, or why there is none: rows (M, per_voxel, 3 + C), coords z, y, x, counts, inverse.

    Its voxels come in the order of their first points. Of a voxel's points it keeps the first ``per_voxel``; the rest
    it neither keeps nor counts. Its grid and its buffers are made outside the call, for as many voxels as there are;
    the points (N, 3 + C) lie in the positive octant.
    """
    for reason in (if_installed("spconv", list), on_cpu(points.device, list)):
        if isinstance(reason, str):
            return reason
    from spconv.pytorch.utils import PointToVoxel

    most = (points[:, :3].amax(0) + size).tolist()
    grid = PointToVoxel([size] * 3, [0.0, 0.0, 0.0, *most], points.shape[1], voxels, per_voxel)
    return lambda: grid.generate_voxel_with_id(points)


# What the points of a voxel say together.


def added_mean(rows: Tensor, inverse: Tensor, counts: Tensor) -> Tensor:
    """index_add and a division."""
    return rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, inverse, rows) / counts[:, None]


def embedded_mean(rows: Tensor, order: Tensor, ptr: Tensor) -> Tensor:
    """A voxel is a bag of points in CSR order: torch's kernel for embeddings takes its mean, a voxel to one worker."""
    return F.embedding_bag(order, rows, ptr, mode="mean", include_last_offset=True)


def reduced_max(rows: Tensor, inverse: Tensor, voxels: int) -> tuple[Tensor, Tensor]:
    """scatter_reduce of the values, then of the points that have them, so that the lowest of several wins."""
    channels = rows.shape[1]
    best = rows.new_full((voxels, channels), -torch.inf)
    best = best.scatter_reduce(0, inverse[:, None].expand_as(rows), rows, "amax")
    point, channel = (rows == best[inverse]).nonzero(as_tuple=True)
    arg = torch.full((voxels * channels,), len(rows), device=rows.device)
    arg.scatter_reduce_(0, inverse[point] * channels + channel, point, "amin")
    return best, arg.view(voxels, channels)


def torch_scatter_max(rows: Tensor, inverse: Tensor, voxels: int) -> tuple[Tensor, Tensor]:
    """Of several equal maxima any."""
    import torch_scatter

    return torch_scatter.scatter_max(rows, inverse, dim=0, dim_size=voxels)


def counted_mode(labels: Tensor, inverse: Tensor, voxels: int, classes: int) -> Tensor:
    """One count for each voxel and class: for a known number of classes, and labels that are not negative."""
    count = torch.zeros(voxels * classes, dtype=torch.int32, device=labels.device)
    count.scatter_add_(0, inverse * classes + labels, count.new_ones(1).expand(len(labels)))
    return count.view(voxels, classes).argmax(1)


def sorted_mode(labels: Tensor, inverse: Tensor, voxels: int, classes: int) -> Tensor:
    """torch.unique of voxel and label with its counts, then the largest of each voxel; smaller labels win ties."""
    key = inverse * classes + labels
    pair, count = torch.unique(key.int() if voxels * classes < 2**31 else key, return_counts=True)
    rank = count * classes + (classes - 1 - pair % classes)
    best = rank.new_zeros(voxels).scatter_reduce_(0, (pair // classes).long(), rank, "amax")
    return classes - 1 - best % classes


def open3d_downsampling(points: Tensor, rows: Tensor, size: float) -> Callable[[], Any] | str:
    """A call that gives the cloud of means, in no fixed order and without coordinates or inverse; or why not."""
    for reason in (if_installed("open3d", list), on_cpu(points.device, list)):
        if isinstance(reason, str):
            return reason
    o3d = import_open3d()
    cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor.from_numpy(points.numpy()))
    cloud.point["features"] = o3d.core.Tensor.from_numpy(rows.numpy())
    return lambda: cloud.voxel_down_sample(size)
