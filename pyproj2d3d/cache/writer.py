"""How does a feature cache come to be? Rows go to disk as frames are added; the file takes its place once whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..camera import Camera, Matches
from ..ops._check import FEATURES, check_camera, check_int, check_tensor
from ..ops.sample import sample
from .container import Arrays, PendingFile, header, write_at

__all__ = ["FORMAT", "STORED", "VERSION", "CacheWriter", "check_stored", "grid_of", "read_map"]

FORMAT, VERSION = "pyproj2d3d.FeatureCache", "1"
STORED = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}  # features in a file


def grid_of(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """How many rows and columns of an image's pixels are kept."""
    return -(-size[0] // stride), -(-size[1] // stride)


def check_stored(stride: int, radius: int, dtype: torch.dtype) -> tuple[int, int]:
    if dtype not in STORED.values():
        raise TypeError(f"dtype must be {' or '.join(STORED)}, got {dtype}")
    return check_int("stride", stride, 1), check_int("radius", radius, 0)


def read_map(features: Tensor, pixel: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """A map (C, h', w') that covers an image, at pixels of its K-grid, (M, C)."""
    width = grid_of(size, stride)[1]
    at = stride * (pixel // width * size[1] + pixel % width)  # in the image
    ptr, order = torch.tensor([0, len(at)]), torch.arange(len(at), dtype=torch.int32)
    matches = Matches(ptr, order, at.to(torch.int32), len(at), size)
    return sample(features[None], matches.to(features.device), size)


class _Frame(NamedTuple):
    """What memory keeps of a frame. Python numbers: small tensors would lie between the large ones that come and go,
    whose memory then falls into pieces that fit no other frame."""

    size: tuple[int, int]
    dtype: torch.dtype
    intrinsics: list[list[float]]
    world_from_camera: list[list[float]]
    end: int  # rows so far


class CacheWriter:
    """What :meth:`FeatureCache.create` gives: see there. For a with-block."""

    def __init__(
        self,
        path: Path,
        frames: int,
        stride: int,
        radius: int,
        dtype: torch.dtype,
        metadata: Mapping[str, Any] | None,
    ):
        self._path, self._frames = path.absolute(), check_int("frames", frames, 0)
        self._stride, self._radius = check_stored(stride, radius, dtype)
        self._dtype, self._metadata = dtype, _as_json({} if metadata is None else metadata)
        self._added: dict[str, _Frame] = {}
        self._channels = self._start = 0  # of the features, and their first byte in the file; the first frame says both
        self._whole = False
        if path.is_dir():
            raise IsADirectoryError(f"{path}: is a folder; give the name of a file in it")
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"{path}: its folder is not there; make it first")
        self._file = PendingFile(self._path)
        with self._file.or_give_up():
            self._pixel, self._point = self._file.spool(), self._file.spool()

    def add(self, name: str, camera: Camera, index: Tensor, features: Tensor) -> None:
        """One more frame.

        Args:
            name: of the frame; each may come once.
            camera: of the frame, V = 1; with the size (H, W) that ``index`` was made for.
            index: (h, w) or (1, h, w) int64 with h = ceil(H / stride): the point that each kept pixel sees, -1 for
                none. What ``zbuffer(..., camera.size, radius=radius, stride=stride, matches=...)[0]`` returns.
            features: (N, C) of the scene's points; those in ``index`` are taken. Or a map (C, h', w') of any resolution
                that covers the image: read at the kept pixels as upsampling it (bilinear, ``align_corners=False``)
                would give, and never upsampled. float16, bfloat16, float32 or float64; stored in the cache's dtype.

        Raises:
            TypeError, ValueError: an argument of another type, shape or range than said here, a name given before,
                another number of channels than before, a feature too large for the cache's dtype, one frame too many.
                The cache is as it was.
            OSError: the disk is full, or cannot be written. The cache is given up and leaves nothing behind.
        """
        if not self._file.open:
            raise ValueError(f"{self._path}: this cache is closed, {name!r} cannot be added")
        if len(self._added) == self._frames:
            raise ValueError(f"{self._path}: all of the {self._frames} frames are there, {name!r} is one too many")
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r}")
        if name in self._added:
            raise ValueError(f"name must be another for each frame, {name!r} is in the cache already")
        check_camera("camera", camera)
        if len(camera) != 1:
            raise ValueError(f"camera must be of one view, got {len(camera)}")
        pixel, point = self._kept(index, camera.size)
        rows = self._rows(pixel, point, features, camera.size)
        if self._added and rows.shape[1] != self._channels:
            raise ValueError(
                f"features must have the {self._channels} channels of the frames before, got {rows.shape[1]}"
            )
        rows = self._stored(name, rows)

        if not self._added:
            self._begin(name, rows.shape[1])
        at = self._rows_so_far()
        if len(rows):
            with self._file.or_give_up():
                if rows.numel():
                    self._file.write(rows.view(torch.uint8).numpy(), self._start + at * rows[0].nbytes)
                write_at(self._pixel, pixel.to(torch.int32).numpy(), 4 * at)
                write_at(self._point, point.to(torch.int32).numpy(), 4 * at)
        matrices = camera.intrinsics[0].tolist(), camera.world_from_camera[0].tolist()
        self._added[name] = _Frame(camera.size, camera.dtype, *matrices, at + len(rows))

    def close(self) -> None:
        """Puts the file in its place, which the end of a with-block does. ValueError where frames are missing."""
        if self._whole:
            return
        if not self._file.open:
            raise ValueError(f"{self._path}: this cache was given up, nothing was written")
        try:
            self._finish()
        finally:
            self.discard()
        self._whole = True

    def discard(self) -> None:
        """Leaves nothing behind, which a with-block that ends in an exception does."""
        self._file.discard()

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _kept(self, index: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The pixels of the K-grid that see a point, ascending, and the points."""
        if isinstance(index, Tensor) and index.ndim == 3 and len(index) == 1:
            index = index[0]
        check_tensor("index", index, (torch.int64,), *grid_of(size, self._stride))
        index = index.cpu().flatten()
        pixel = (index >= 0).nonzero()[:, 0]
        low, high = (n.item() for n in index.aminmax())
        if low < -1 or high >= 2**31:
            raise ValueError(f"index must be -1 or a point below 2**31, got {low if low < -1 else high}")
        return pixel, index.index_select(0, pixel)

    def _rows(self, pixel: Tensor, point: Tensor, features: Tensor, size: tuple[int, int]) -> Tensor:
        """(M, C), the features of the kept pixels."""
        axes = features.ndim if isinstance(features, Tensor) else 2
        if axes not in (2, 3):
            raise ValueError(f"features must have shape (N, C) or (C, h, w), got {tuple(features.shape)}")
        check_tensor("features", features, FEATURES, *axes * (None,))
        if axes == 2:
            if len(point) and point.max() >= len(features):
                raise ValueError(f"index must hold points below {len(features)}, as features has, got {point.max()}")
            return features.detach().index_select(0, point.to(features.device))
        if 0 in features.shape[1:]:
            raise ValueError(f"features must have at least one cell, got {tuple(features.shape)}")
        return read_map(features.detach(), pixel, size, self._stride)

    def _stored(self, name: str, rows: Tensor) -> Tensor:
        """On the CPU, in the dtype of the file; NaN and infinity stay what they are."""
        stored = rows.to(self._dtype)
        if stored.dtype != rows.dtype:
            lost = stored.isinf() & rows.isfinite()
            if lost.any():
                raise ValueError(
                    f"features of {name!r} must fit in {_name_of(self._dtype)}, got {rows[lost][0].item():g}; "
                    "choose another dtype for the cache"
                )
        return stored.cpu()

    def _begin(self, name: str, channels: int) -> None:
        """Leaves room for the header, as if all names were about as long as the first."""
        self._channels = channels
        names = [name + "0000"] * self._frames
        self._start = len(header(self._metadata_of(names), self._arrays(2**40 + 1, torch.float64)))

    def _finish(self) -> None:
        names, frames, rows = list(self._added), list(self._added.values()), self._rows_so_far()
        if len(names) != self._frames:
            raise ValueError(
                f"{self._path}: {self._frames} frames were announced, {len(names)} were added; nothing was written"
            )
        geometry = torch.float64 if any(frame.dtype == torch.float64 for frame in frames) else torch.float32
        small = [
            torch.tensor([0, *(frame.end for frame in frames)]),
            torch.tensor([frame.intrinsics for frame in frames], dtype=geometry),
            torch.tensor([frame.world_from_camera for frame in frames], dtype=geometry),
            torch.tensor([frame.size for frame in frames], dtype=torch.int32),
        ]
        arrays = self._arrays(rows, geometry)
        head = header(self._metadata_of(names), arrays, self._start)
        features = rows * self._channels * self._dtype.itemsize  # bytes
        padding = bytes(arrays["padding"][1][0]) if "padding" in arrays else b""
        with self._file.or_give_up():
            if features and len(head) > self._start:  # later names were longer
                self._file.move(self._start, self._start + features, len(head) - self._start)
            self._file.write(head, 0)
            end = self._file.write(b"".join([padding, *(t.numpy().tobytes() for t in small)]), len(head) + features)
            end = self._file.append(self._pixel, 4 * rows, end)
            end = self._file.append(self._point, 4 * rows, end)
        self._file.publish(end)

    def _rows_so_far(self) -> int:
        return next(reversed(self._added.values())).end if self._added else 0

    def _arrays(self, rows: int, geometry: torch.dtype) -> Arrays:
        """In the order of the file. Each begins at a multiple of its item's size: after features padding sees to it."""
        frames, channels = self._frames, self._channels
        arrays: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {"features": (self._dtype, (rows, channels))}
        if padding := -(rows * channels * self._dtype.itemsize) % 8:
            arrays["padding"] = (torch.uint8, (padding,))
        return arrays | {
            "ptr": (torch.int64, (frames + 1,)),
            "intrinsics": (geometry, (frames, 3, 3)),
            "world_from_camera": (geometry, (frames, 4, 4)),
            "sizes": (torch.int32, (frames, 2)),
            "pixel": (torch.int32, (rows,)),
            "point": (torch.int32, (rows,)),
        }

    def _metadata_of(self, names: Sequence[str]) -> dict[str, str]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "stride": str(self._stride),
            "radius": str(self._radius),
            "dtype": _name_of(self._dtype),
            "frames": json.dumps(names),
            "metadata": self._metadata,
        }


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _as_json(metadata: Mapping[str, Any]) -> str:
    wanted = "metadata must be a dict with string keys that JSON can hold"
    if not isinstance(metadata, Mapping):
        raise TypeError(f"{wanted}, got {type(metadata).__name__}")
    if not all(isinstance(key, str) for key in metadata):
        raise TypeError(f"{wanted}, got keys {list(metadata)}")
    try:
        return json.dumps(dict(metadata), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{wanted}: {error}") from None
