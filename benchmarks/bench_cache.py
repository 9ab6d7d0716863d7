"""The feature cache: written, a frame read, some pixels read, and taken from a map; beside what features are kept in.

All stores get the same rows. Ours keeps pixels, points and cameras too, the others features alone, which favours them.
Each has its best settings that we know: right sizes given beforehand, no compression (features are noise to it), chunks
of a frame, handles open where there is one file. **Writing ends on the disk for all**: LMDB syncs when it commits; the
others do not by themselves, so here every file and folder that they wrote is fsynced. Each write goes to a new folder;
a row of its own removes the old ones, so that freeing their pages is in nobody's time.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from pyproj2d3d import Camera
from pyproj2d3d.cache import FeatureCache
from pyproj2d3d.cache.writer import read_map

from . import peers
from .conftest import OURS, Timed
from .measuring import Contender, nbytes
from .workloads import features

FULL = {"frames": 128, "pixels": 4800, "channels": 96}
TINY = {"frames": 4, "pixels": 240, "channels": 8}
STRIDE, COLUMNS = 8, 80
SOME = 512  # pixels of a frame
LMDB, WRITEMAP = "LMDB", "LMDB (writemap)"
PER_FRAME, ONE_FILE = "safetensors per frame", "safetensors, one file"


def frames_of(frames: int, pixels: int, channels: int) -> list[Tensor]:
    """A tensor (pixels, channels) float16 for each frame; of its own, for torch.save saves all that a view is of."""
    return [rows.half() for rows in features(torch.device("cpu"), frames, pixels, channels)]


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


class Store(ABC):
    """One way to keep frames in a folder. ``open`` comes before reading; what is read lies in the store or is new."""

    fresh = False  # whether ``read`` gives a tensor of its own

    def __init__(self, home: Path, rows: list[Tensor]):
        self.home, self.rows = home, rows
        self.written = 0

    @property
    def folder(self) -> Path:
        return self.home / str(self.written)

    def write(self) -> None:
        self.written += 1
        self.folder.mkdir(parents=True)
        self.save()

    def remove_old(self) -> None:
        for folder in self.home.iterdir():
            if folder != self.folder:
                shutil.rmtree(folder)

    @abstractmethod
    def save(self) -> None: ...

    def sync_all(self) -> None:
        for path in (*self.folder.rglob("*"), self.folder):
            sync(path)

    def open(self) -> None:  # noqa: B027  # some have nothing to open
        pass

    @abstractmethod
    def read(self, frame: int) -> Tensor: ...

    def some(self, frame: int, pixels: Tensor) -> Tensor:
        return self.read(frame)[pixels]


class Ours(Store):
    def save(self) -> None:
        pixels = len(self.rows[0])
        camera = Camera(torch.eye(3), torch.eye(4), (STRIDE * pixels // COLUMNS, STRIDE * COLUMNS))
        index = torch.arange(pixels).view(-1, COLUMNS)
        with FeatureCache.create(self.folder / "scene.safetensors", len(self.rows)) as cache:
            for i, rows in enumerate(self.rows):
                cache.add(f"frame-{i:06d}", camera, index, rows)

    def open(self) -> None:
        self.cache = FeatureCache.open(self.folder / "scene.safetensors")

    def read(self, frame: int) -> Tensor:
        return self.cache[frame].features


class RawFile(Store):
    """The rows one after the other, and nothing else: what the disk and memory allow."""

    def save(self) -> None:
        with open(self.folder / "rows", "wb", buffering=0) as file:
            for rows in self.rows:
                file.write(rows.numpy())
        self.sync_all()

    def open(self) -> None:
        with open(self.folder / "rows", "rb") as file:
            self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def read(self, frame: int) -> Tensor:
        shape = self.rows[0].shape
        start = frame * self.rows[0].nbytes
        found = torch.frombuffer(self.mapped, dtype=torch.float16, count=shape.numel(), offset=start)
        return found.view(shape)


class Lmdb(Store):
    writemap = False

    def save(self) -> None:
        import lmdb

        size = 2 * nbytes(*self.rows) + (1 << 20)
        with lmdb.open(str(self.folder), map_size=size, writemap=self.writemap) as store:
            with store.begin(write=True) as transaction:
                for i, rows in enumerate(self.rows):
                    transaction.put(b"%06d" % i, memoryview(rows.numpy()).cast("B"), append=True)
            store.sync(True)
        sync(self.folder)

    def open(self) -> None:
        import lmdb

        self.store = lmdb.open(str(self.folder), readonly=True, lock=False)
        self.transaction = self.store.begin(buffers=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the buffer is not writable, as torch says once
            self.read(0)

    def read(self, frame: int) -> Tensor:
        found = torch.frombuffer(self.transaction.get(b"%06d" % frame), dtype=torch.float16)
        return found.view(self.rows[0].shape)


class LmdbWritemap(Lmdb):
    writemap = True


class SafetensorsPerFrame(Store):
    def path(self, frame: int) -> Path:
        return self.folder / f"{frame:06d}.safetensors"

    def save(self) -> None:
        from safetensors.torch import save_file

        for i, rows in enumerate(self.rows):
            save_file({"features": rows}, self.path(i))
        self.sync_all()

    def read(self, frame: int) -> Tensor:
        from safetensors import safe_open

        with safe_open(self.path(frame), framework="pt") as file:
            return file.get_tensor("features")


class SafetensorsInOne(Store):
    def save(self) -> None:
        from safetensors.torch import save_file

        save_file({f"{i:06d}": rows for i, rows in enumerate(self.rows)}, self.folder / "scene.safetensors")
        self.sync_all()

    def open(self) -> None:
        from safetensors import safe_open

        self.file = safe_open(self.folder / "scene.safetensors", framework="pt").__enter__()

    def read(self, frame: int) -> Tensor:
        return self.file.get_tensor(f"{frame:06d}")


class Array(Store):
    """One array (frames * pixels, channels) that NumPy's slices read."""

    fresh = True
    array: Any

    def read(self, frame: int) -> Tensor:
        pixels = len(self.rows[0])
        return torch.from_numpy(self.array[frame * pixels : (frame + 1) * pixels])

    def shape(self) -> tuple[int, int]:
        return len(self.rows) * len(self.rows[0]), self.rows[0].shape[1]

    def fill(self, array: Any) -> None:
        pixels = len(self.rows[0])
        for i, rows in enumerate(self.rows):
            array[i * pixels : (i + 1) * pixels] = rows.numpy()


class Hdf5(Array):
    def save(self) -> None:
        import h5py

        with h5py.File(self.folder / "scene.h5", "w") as file:
            self.fill(file.create_dataset("features", self.shape(), np.float16))
        self.sync_all()

    def open(self) -> None:
        import h5py

        self.array = h5py.File(self.folder / "scene.h5", "r")["features"]


class Zarr(Array):
    def save(self) -> None:
        import zarr

        chunks = tuple(self.rows[0].shape)
        self.fill(zarr.create_array(self.folder / "z", shape=self.shape(), chunks=chunks, dtype="f2", compressors=None))
        self.sync_all()

    def open(self) -> None:
        import zarr

        self.array = zarr.open_array(self.folder / "z", mode="r")


class TorchSave(Store):
    fresh = True

    def path(self, frame: int) -> Path:
        return self.folder / f"{frame:06d}.pt"

    def save(self) -> None:
        for i, rows in enumerate(self.rows):
            torch.save(rows, self.path(i))
        self.sync_all()

    def read(self, frame: int) -> Tensor:
        return torch.load(self.path(frame), weights_only=True)

    def some(self, frame: int, pixels: Tensor) -> Tensor:
        return torch.load(self.path(frame), weights_only=True, mmap=True)[pixels]


STORES: dict[str, tuple[str, type[Store]]] = {
    OURS: ("torch", Ours),
    LMDB: ("lmdb", Lmdb),
    WRITEMAP: ("lmdb", LmdbWritemap),
    PER_FRAME: ("safetensors", SafetensorsPerFrame),
    ONE_FILE: ("safetensors", SafetensorsInOne),
    "HDF5": ("h5py", Hdf5),
    "zarr": ("zarr", Zarr),
    "torch.save per frame": ("torch", TorchSave),
    "raw file, no format": ("torch", RawFile),
}


@pytest.fixture
def folder(device: torch.device) -> Iterator[Path]:
    if device.type != "cpu":
        pytest.skip("the cache lives on the host")
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def contenders(folder: Path, rows: list[Tensor], call: Callable[[Store], Contender]) -> dict[str, Contender | str]:
    """The same call for every store that is installed."""
    made: dict[str, Contender | str] = {}
    for name, (module, kind) in STORES.items():
        if isinstance(missing := peers.if_installed(module, list), str):
            made[name] = missing
        else:
            made[name] = call(kind(folder / kind.__name__, rows))
    return made


def bench_cache_write(timed: Timed, folder: Path) -> None:
    stores: list[Store] = []

    def write(device: torch.device, frames: int, pixels: int, channels: int) -> dict[str, Contender | str]:
        """write a cache, to the disk."""

        def call(store: Store) -> Contender:
            stores.append(store)
            return store.write

        made = contenders(folder, frames_of(frames, pixels, channels), call)
        made["(removing the old folders of all)"] = lambda: [store.remove_old() for store in stores]
        return made

    goals = {LMDB: 3.0, WRITEMAP: 3.0, PER_FRAME: 1.2}
    timed(write, full=FULL, tiny=TINY, moved=moved_by_frames, goals=goals)
    for store in stores:
        store.open()
        for i, rows in enumerate(store.rows):
            assert torch.equal(store.read(i), rows), type(store).__name__
    path = stores[0].cache.path
    arrays = sum(array.nbytes for name, array in load_file(path).items() if name != "padding")
    over = 100 * (path.stat().st_size / arrays - 1)
    timed.goal("the file of a cache: at most 1 % over the bytes of its arrays", f"{over:.3f} %", over <= 1)


def bench_cache_read(timed: Timed, folder: Path) -> None:
    def read(device: torch.device, frames: int, pixels: int, channels: int) -> dict[str, Contender | str]:
        """read all frames in random order, each into a fresh tensor, and sum it."""
        order = torch.randperm(frames, generator=torch.Generator().manual_seed(0)).tolist()

        def call(store: Store) -> Contender:
            store.write()
            store.open()
            return lambda: [summed(store.read(i) if store.fresh else store.read(i).clone()) for i in order]

        return contenders(folder, frames_of(frames, pixels, channels), call)

    goals = {LMDB: 0.8, PER_FRAME: 1.2, "HDF5": 3.0, "zarr": 8.0}
    assert_same_sums(timed(read, full=FULL, tiny=TINY, moved=moved_by_frames, goals=goals))


def bench_cache_read_some_pixels(timed: Timed, folder: Path) -> None:
    def some(device: torch.device, frames: int, pixels: int, channels: int) -> dict[str, Contender | str]:
        """read 512 random pixels of every frame into a fresh tensor, and sum it."""
        random = torch.Generator().manual_seed(0)
        order = torch.randperm(frames, generator=random).tolist()
        chosen = [torch.randperm(pixels, generator=random)[:SOME] for _ in range(frames)]

        def call(store: Store) -> Contender:
            store.write()
            store.open()
            return lambda: [summed(store.some(i, chosen[i])) for i in order]

        return contenders(folder, frames_of(frames, pixels, channels), call)

    assert_same_sums(timed(some, full=FULL, tiny=TINY, goals={PER_FRAME: 2.0}))


def summed(rows: Tensor) -> float:
    return rows.sum(dtype=torch.float32).item()


def moved_by_frames(_: Any, size: dict[str, int]) -> int:
    """Rows in, rows out."""
    return 2 * 2 * size["frames"] * size["pixels"] * size["channels"]


def assert_same_sums(results: dict[str, list[float]]) -> None:
    for name, sums in results.items():
        assert sums == pytest.approx(results[OURS], rel=1e-5, abs=1e-2), name


def extract(device: torch.device, height: int, width: int, channels: int) -> dict[str, Contender | str]:
    """the pixels that a cache keeps of a frame, out of a map of an eighth of its size."""
    size = (height, width)
    h, w = -(-height // STRIDE), -(-width // STRIDE)
    map_ = features(device, channels, h, w)
    pixel = torch.rand(h * w, generator=torch.Generator().manual_seed(0)).argsort()[: h * w // 2].sort().values

    def upsampled() -> Tensor:
        image = F.interpolate(map_[None], size, mode="bilinear", align_corners=False)
        return image[0, :, ::STRIDE, ::STRIDE].flatten(1).T[pixel]

    def upsampled_channels_last() -> Tensor:
        last = map_[None].contiguous(memory_format=torch.channels_last)
        image = F.interpolate(last, size, mode="bilinear", align_corners=False)
        return image[0, :, ::STRIDE, ::STRIDE].flatten(1).T[pixel]

    def sampled() -> Tensor:
        u, v = STRIDE * (pixel % w), STRIDE * (pixel // w)
        grid = torch.stack(((2 * u + 1) / width - 1, (2 * v + 1) / height - 1), dim=-1)[None, None]
        return F.grid_sample(map_[None], grid, padding_mode="border", align_corners=False)[0, :, 0].T.contiguous()

    return {
        OURS: lambda: read_map(map_, pixel, size, STRIDE),
        "upsample and slice": upsampled,
        "upsample and slice (channels_last)": upsampled_channels_last,
        "torch best (grid_sample)": sampled,
    }


def bench_cache_extraction(timed: Timed, folder: Path) -> None:
    full, tiny = {"height": 480, "width": 640, "channels": 96}, {"height": 48, "width": 64, "channels": 8}
    goals = {"upsample and slice": 10.0, "upsample and slice (channels_last)": 10.0}
    results = timed(extract, full=full, tiny=tiny, goals=goals)
    for name, theirs in results.items():
        torch.testing.assert_close(theirs, results[OURS], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
