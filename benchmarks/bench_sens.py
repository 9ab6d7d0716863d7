"""ScanNet: frames of a recording in random order, beside decoding alone and beside exported folders; opening a dataset.

The floor is Pillow's JPEG decoder and zlib on the same bytes, which lie in memory already: no file, no offsets, no
checks. Everybody returns arrays of their own that may be written to. The exported folder has the same JPEG bytes and
depth as PNG. A dataset of empty scene folders is opened beside the bare listing of its folders.
"""

from __future__ import annotations

import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyproj2d3d.data import Room
from pyproj2d3d.data.images import ENCODINGS, ColorFile, DepthFile
from pyproj2d3d.data.scannet import ScanNet
from pyproj2d3d.data.sens import SensFile, write_sens

from .conftest import OURS, Timed
from .measuring import Contender

FULL = {"frames": 12, "height": 480, "width": 640}
TINY = {"frames": 2, "height": 24, "width": 32}
BYTES, FOLDER = "JPEG and zlib of bytes in memory", "exported folder, JPEG and PNG"
LISTING = "listing its folders"


@pytest.fixture
def folder(device: torch.device) -> Iterator[Path]:
    if device.type != "cpu":
        pytest.skip("files are read by the host")
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@lru_cache(maxsize=1)
def recorded(frames: int, height: int, width: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pose, colour and depth of a walk through the room; depth has a Kinect's noise and compresses like it."""
    room, random = Room(0), np.random.default_rng(0)
    camera = room.path(frames, 0).resized((height, width))
    color_camera = camera.resized((2 * height + 8, 2 * width + 16))
    made = []
    for i in range(frames):
        z = room.depth(camera[i])[0].numpy()
        depth = (1000 * (z + 0.003 * random.standard_normal(z.shape) * z**2)).round().clip(0, 65534).astype(np.uint16)
        made.append((camera.world_from_camera[i].numpy(), room.render(color_camera[i])[2][0].numpy(), depth))
    return made


def bench_sens_read(timed: Timed, folder: Path) -> None:
    def read(device: torch.device, frames: int, height: int, width: int) -> dict[str, Contender | str]:
        """read the colour and depth of all frames of a .sens file in random order."""
        path = folder / "scene.sens"
        write_sens(
            path,
            recorded(frames, height, width),
            color_intrinsics=np.eye(3),
            depth_intrinsics=np.eye(3),
            color_size=(2 * height + 8, 2 * width + 16),
            depth_size=(height, width),
        )
        sens, data = SensFile(path), path.read_bytes()
        order = torch.randperm(frames, generator=torch.Generator().manual_seed(0)).tolist()
        ours = [(sens.color(i), sens.depth(i)) for i in order]
        stored = [tuple(data[s.offset : s.offset + s.nbytes] for s in pair) for pair in ours]
        files = []
        for (color, depth), (jpeg, _) in zip(ours, stored, strict=True):
            names = folder / f"{color.frame}.jpg", folder / f"{depth.frame}.png"
            names[0].write_bytes(jpeg)
            Image.fromarray(depth()).save(names[1])
            files.append((ColorFile(names[0]), DepthFile(names[1], ENCODINGS["millimetres"])))

        def decoded(jpeg: bytes, packed: bytes) -> tuple[np.ndarray, np.ndarray]:
            depth = np.frombuffer(bytearray(zlib.decompress(packed)), np.uint16)
            return np.array(Image.open(io.BytesIO(jpeg))), depth.reshape(height, width)

        return {
            OURS: lambda: [(color(), depth()) for color, depth in ours],
            BYTES: lambda: [decoded(*pair) for pair in stored],
            FOLDER: lambda: [(color(), depth()) for color, depth in files],
        }

    results = timed(read, full=FULL, tiny=TINY, goals={BYTES: 0.9})
    for name, theirs in results.items():
        for one, other in zip(results[OURS], theirs, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)), name


def bench_scannet_open(timed: Timed, folder: Path) -> None:
    def opened(device: torch.device, scenes: int) -> dict[str, Contender | str]:
        """open a ScanNet of that many scenes, or only list its folders."""
        for i in range(scenes):
            (folder / "scans" / f"scene{i // 2:04d}_{i % 2:02d}").mkdir(parents=True)

        def listed() -> tuple[str, ...]:
            os.listdir(folder)
            return tuple(sorted(os.listdir(folder / "scans")))

        return {OURS: lambda: ScanNet(folder).names, LISTING: listed}

    results = timed(opened, full={"scenes": 1500}, tiny={"scenes": 4}, goals={LISTING: 0.2}, rounds=50)
    assert results[OURS] == results[LISTING]
