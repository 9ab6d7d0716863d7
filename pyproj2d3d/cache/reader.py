"""What does a feature cache hold? Its file mapped and checked, and its frames."""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..camera import Camera
from .container import DTYPES, MappedFile, Span, parse_header, spans
from .writer import FORMAT, STORED, VERSION, CacheWriter, grid_of

__all__ = ["BrokenCacheError", "CachedFrame", "FeatureCache"]

_BEGINS = f'{{"__metadata__":{{"format":"{FORMAT}","version":"{VERSION}",'.encode()  # behind 8 bytes, as we write it


class BrokenCacheError(ValueError):
    """The file was a feature cache of this version, and has been truncated or damaged."""


class _OtherVersionError(ValueError):
    """Says all there is to say."""


class FeatureCache:
    """The features of a scene at some pixels of its frames, mapped from the file that :meth:`create` has written.

    ``FeatureCache.open(path)`` gives one. ``cache[i]`` and ``cache["name"]`` are a :class:`CachedFrame`; ``len``,
    iteration and ``"name" in cache`` go by frames. Opening reads the header and the small arrays; features are read
    from disk where they are used.

    It works in forked workers, and may be sent to spawned ones, which open the file again (and say so if it is another
    by now). It takes no file descriptor. While it is open no program may shorten or overwrite the file in place:
    the process would end. :meth:`create` does neither; who holds the file that it replaces goes on reading that.

    Attributes:
        path: of the file.
        names: of the frames, in order.
        stride, radius: of the z-buffer that chose the points.
        dtype, channels: of the features.
        metadata: what was given to :meth:`create`.
    """

    path: Path
    names: tuple[str, ...]
    stride: int
    radius: int
    dtype: torch.dtype
    channels: int
    metadata: dict[str, Any]

    @staticmethod
    def create(
        path: str | os.PathLike[str],
        frames: int,
        *,
        stride: int = 8,
        radius: int = 1,
        dtype: torch.dtype = torch.float16,
        metadata: Mapping[str, Any] | None = None,
    ) -> CacheWriter:
        """A writer, for a with-block that calls :meth:`CacheWriter.add` for each frame.

        At the end of the block the file is whole, on disk, and in the place of any that was at ``path`` before. An
        exception in the block, or fewer than ``frames`` frames, leaves nothing behind. Of two writers of one path the
        last to end has its file there, whole. A writer that is killed leaves ``<name>.<16 hex digits>.part``: nothing
        reads it, and the next writer of this path removes it.

        Args:
            path: of the file, in a folder that is there.
            frames: how many there will be.
            stride, radius: as given to :func:`zbuffer`.
            dtype: float16, bfloat16 or float32, of the features in the file.
            metadata: a dict with string keys of what JSON can hold. By convention "depth_rule" says which points
                counted as visible; :func:`build_caches` writes its tolerance there.

        Raises:
            TypeError, ValueError: an argument of another type or range than said here.
            OSError: no such folder, a folder at ``path``, or a file that cannot be written.
        """
        return CacheWriter(Path(path), frames, stride, radius, dtype, metadata)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> FeatureCache:
        """The cache in a file.

        Raises:
            OSError: there is no such file, or it cannot be read.
            ValueError: it is truncated, damaged, of another version, or no feature cache. Damage to pixels and points
                shows when a frame's are asked for; to features, which have no checksum, it does not show.
        """
        return cls(path)

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(os.path.abspath(path))
        self._file = MappedFile(self.path)
        try:
            self._read()
        except _OtherVersionError:
            raise
        except ValueError as error:
            head = bytes(self._file.data[8 : 8 + len(_BEGINS)])
            if head and _BEGINS.startswith(head):
                text = f"{self.path}: is a feature cache, but truncated or damaged ({error}). Build it again"
                raise BrokenCacheError(text) from None
            text = f"{self.path}: is no feature cache ({error}). Give a file that FeatureCache.create has written"
            raise ValueError(text) from None

    def _read(self) -> None:
        """All but pixel, point and features. ValueError says what is wrong."""
        entries, start = parse_header(self._file.data)
        said = entries.get("__metadata__")
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise ValueError(f"its metadata do not say format {FORMAT}")
        if said.get("version") != VERSION:
            raise _OtherVersionError(
                f"{self.path}: is a feature cache of version {said.get('version')!r}; this library reads version "
                f"{VERSION!r}. Update it, or build the cache again under another name"
            )
        if not all(isinstance(value, str) for value in said.values()):
            raise ValueError("its metadata are not strings")
        self._spans = spans(entries, start, len(self._file.data))
        self.stride, self.radius = _said(said, "stride", int), _said(said, "radius", int)
        self.names, self.metadata = tuple(_said(said, "frames", list)), _said(said, "metadata", dict)
        if self.stride < 1 or self.radius < 0 or said.get("dtype") not in STORED:
            raise ValueError(f"stride {self.stride}, radius {self.radius} or dtype {said.get('dtype')!r} cannot be")
        self._number = {name: i for i, name in enumerate(self.names) if isinstance(name, str)}
        if len(self._number) != len(self.names):
            raise ValueError("the names of its frames are not different strings")

        frames = len(self.names)
        ptr = self._array("ptr", torch.int64, frames + 1)
        rows = int(ptr[-1])
        self.dtype = STORED[said["dtype"]]
        self.channels = self._span("features", self.dtype, rows, None).shape[1]
        for name in ("pixel", "point"):
            self._span(name, torch.int32, rows)
        wide = "intrinsics" in self._spans and self._spans["intrinsics"].dtype == DTYPES[torch.float64]
        geometry = torch.float64 if wide else torch.float32
        self._intrinsics = self._array("intrinsics", geometry, frames, 3, 3).clone()
        self._world_from_camera = self._array("world_from_camera", geometry, frames, 4, 4).clone()
        Camera(self._intrinsics, self._world_from_camera, (1, 1))  # checks them

        sizes = self._array("sizes", torch.int32, frames, 2).long()
        cells = ((sizes - 1) // min(self.stride, 2**31) + 1).prod(dim=1)
        if (sizes < 1).any() or (sizes.prod(dim=1) >= 2**31).any() or self.channels >= 2**31:
            raise ValueError("the sizes of its images or the number of its channels cannot be")
        if ptr[0] != 0 or (ptr.diff() < 0).any() or (ptr.diff() > cells).any():
            raise ValueError("ptr does not ascend from 0 by what fits into each frame")
        self._ptr: list[int] = ptr.tolist()
        self._sizes: list[list[int]] = sizes.tolist()

    def _span(self, name: str, dtype: torch.dtype, *shape: int | None) -> Span:
        span = self._spans.get(name)
        if span is None or span.dtype != DTYPES[dtype] or len(span.shape) != len(shape):
            raise ValueError(f"array {name!r} is not there as {DTYPES[dtype]} of {len(shape)} axes")
        if any(n is not None and n != m for n, m in zip(shape, span.shape, strict=True)):
            raise ValueError(f"array {name!r} has shape {span.shape}, which does not fit the others")
        if span.end - span.begin != math.prod(span.shape) * dtype.itemsize or span.begin % dtype.itemsize:
            raise ValueError(f"array {name!r} has shape {span.shape} in bytes {span.begin} to {span.end}")
        return span

    def _array(self, name: str, dtype: torch.dtype, *shape: int) -> Tensor:
        return self._file.tensor(self._span(name, dtype, *shape), dtype)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[CachedFrame]:
        return (CachedFrame(self, i) for i in range(len(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._number

    def __getitem__(self, frame: int | str) -> CachedFrame:
        """A frame by number, which may count from the end, or by name."""
        if isinstance(frame, str):
            if frame not in self._number:
                some = ", ".join(map(repr, self.names[:5])) + (", ..." if len(self) > 5 else "")
                raise KeyError(f"{self.path}: has no frame {frame!r}; it has {len(self)}: {some}")
            return CachedFrame(self, self._number[frame])
        try:
            i = operator.index(frame)
        except TypeError:
            raise TypeError(f"frame must be a number or a name, got {frame!r}") from None
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.path}: has {len(self)} frames, got number {i}")
        return CachedFrame(self, i % len(self))

    def __repr__(self) -> str:
        size = f"{len(self)} frames, {self._ptr[-1]} rows, {self.channels} channels, {self.dtype}"
        return f"FeatureCache({str(self.path)!r}: {size}, stride {self.stride})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (self.path, self._file.identity)


def _opened_again(path: Path, identity: tuple[int, ...]) -> FeatureCache:
    cache = FeatureCache(path)
    if cache._file.identity != identity:
        raise ValueError(f"{path}: has been replaced since the cache that is sent here was opened. Open it again")
    return cache


def _said(metadata: dict[str, Any], key: str, kind: type) -> Any:
    """An entry of the header's metadata, which are strings that hold JSON."""
    try:
        value = json.loads(metadata[key])
    except (KeyError, TypeError, ValueError, RecursionError):
        value = None
    if type(value) is not kind:
        raise ValueError(f"its metadata say nothing that can be read of {key!r}")
    return value


class CachedFrame:
    """One frame of a :class:`FeatureCache`, with M of its pixels kept. Tensors are made at each access.

    ``features``, ``pixel`` and ``point`` lie in the file: some of their rows, ``frame.features[rows]``, cost no more
    than those. They outlive the cache. Writing to them does not change the file, but changes what this process reads
    from it: ``clone()`` first.
    """

    def __init__(self, cache: FeatureCache, i: int):
        self._cache, self._i = cache, i
        self._begin, self._end = cache._ptr[i], cache._ptr[i + 1]

    @property
    def name(self) -> str:
        return self._cache.names[self._i]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width (H, W) of the image."""
        height, width = self._cache._sizes[self._i]
        return height, width

    @property
    def camera(self) -> Camera:
        """Of the image, V = 1: in float64 where any frame's was given so, else in float32."""
        one = slice(self._i, self._i + 1)
        parts = (self._cache._intrinsics[one].clone(), self._cache._world_from_camera[one].clone())
        return Camera._of(*parts, self.size)  # checked when the file was opened

    @property
    def features(self) -> Tensor:
        """(M, C) in the cache's dtype."""
        return self._rows("features", self._cache.dtype)

    @property
    def pixel(self) -> Tensor:
        """(M,) int32, ascending: i w + j for pixel (i K, j K) of the image, where w = ceil(W / K)."""
        pixel = self._rows("pixel", torch.int32)
        if len(pixel) and not (pixel[0] >= 0 and pixel[-1] < self._cells and (pixel[1:] > pixel[:-1]).all()):
            raise BrokenCacheError(f"{self._cache.path}: pixels of frame {self.name!r} are damaged. Build it again")
        return pixel

    @property
    def point(self) -> Tensor:
        """(M,) int32, the point of the scene that each pixel sees."""
        point = self._rows("point", torch.int32)
        if (point < 0).any():
            raise BrokenCacheError(f"{self._cache.path}: points of frame {self.name!r} are damaged. Build it again")
        return point

    @property
    def coverage(self) -> float:
        """Which part of the kept pixels sees a point, 0 to 1."""
        return (self._end - self._begin) / self._cells

    def dense(self) -> tuple[Tensor, Tensor]:
        """The features as a map.

        Returns:
            map: (C, h, w) in the cache's dtype, channels last in memory; 0 where no point is seen.
            mask: (h, w) bool, where one is.
        """
        height, width = grid_of(self.size, self._cache.stride)
        pixel, features = self.pixel.long(), self.features
        dense = features.new_zeros(height * width, features.shape[1]).index_copy_(0, pixel, features)
        mask = torch.zeros(height * width, dtype=torch.bool).index_fill_(0, pixel, True)
        return dense.view(height, width, -1).permute(2, 0, 1), mask.view(height, width)

    @property
    def _cells(self) -> int:
        return math.prod(grid_of(self.size, self._cache.stride))

    def _rows(self, name: str, dtype: torch.dtype) -> Tensor:
        return self._cache._file.tensor(self._cache._spans[name], dtype, self._begin, self._end)

    def __repr__(self) -> str:
        return f"CachedFrame({self.name!r}, size={self.size}, M={self._end - self._begin})"

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.getitem, (self._cache, self._i)
