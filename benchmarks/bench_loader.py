"""The loader: how long do batches of RGB-D frames take beside decoding their files alone, in as many workers?

Frames are 640x480, colour as JPEG and depth as PNG, in 7-Scenes' naming, in the page cache. Decoding alone is the same
DataLoader over Pillow's decoders, whose pixels are dropped in the worker: nothing is turned into tensors, collated or
sent. The plain loader sends them too, as colour in bytes and depth in metres, with torch's own collate; neither reads
poses, checks sizes, or has a camera. The workers live on from pass to pass.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pyproj2d3d.data import PosedFolders, Room, write_room
from pyproj2d3d.data.datamodule import SceneDataModule
from pyproj2d3d.data.samples import Batch

from .conftest import OURS, Timed
from .measuring import Contender

FULL, TINY = {"frames": 96, "height": 480, "width": 640}, {"frames": 8, "height": 48, "width": 64}
WORKERS, BATCH = 2, 4
DECODING = "decoding alone, in as many workers"
PLAIN = "a plain torch loader of the same pixels"
_made: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def recording(frames: int, height: int, width: int) -> Path:
    """A folder of so many frames, of which eight differ."""
    _made.append(tempfile.TemporaryDirectory(prefix="pyproj2d3d_loader_"))
    folder = Path(_made[-1].name)
    write_room(folder, frames=8, points=0, noise=0.003, size=(height, width))
    for path in sorted(folder.glob("*.color.png")):
        Image.open(path).save(path.with_suffix(".jpg"), quality=90)
        path.unlink()
    for i in range(8, frames):
        for path in sorted(folder.glob(f"frame-{i % 8:06d}.*")):
            if "label" not in path.name:
                shutil.copy(path, folder / path.name.replace(f"{i % 8:06d}", f"{i:06d}"))
    for path in folder.glob("*.label.png"):
        path.unlink()
    return folder


class Decoded(Dataset[Any]):
    """Decodes an image pair, and drops it."""

    def __init__(self, folder: Path):
        self.pairs = list(zip(sorted(folder.glob("*.color.jpg")), sorted(folder.glob("*.depth.png")), strict=True))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> Any:
        for path in self.pairs[i]:
            with Image.open(path) as image:
                image.load()
        return 1


class Plain(Decoded):
    """Colour (H, W, 3) uint8 and depth (H, W) float32."""

    def __getitem__(self, i: int) -> Any:
        color, depth = (Image.open(path) for path in self.pairs[i])
        return np.array(color), np.array(depth).astype(np.float32) / 1000


def epoch(device: torch.device, frames: int, height: int, width: int) -> dict[str, Contender | str]:
    """A pass over all frames, batches of 4, 2 workers."""
    folder = recording(frames, height, width)
    module = SceneDataModule(lambda split: PosedFolders(folder), batch_size=BATCH, workers=WORKERS)
    ours = module.val_dataloader()
    bare, plain = (
        DataLoader(samples, BATCH, num_workers=WORKERS, persistent_workers=True)
        for samples in (Decoded(folder), Plain(folder))
    )
    return {
        OURS: lambda: list_of_ends(ours),
        DECODING: lambda: sum(len(batch) for batch in bare),
        PLAIN: lambda: sum(len(color) for color, _ in plain),
    }


def list_of_ends(loader: DataLoader[Batch]) -> tuple[int, Batch]:
    """How many frames there were, and the last batch."""
    total = 0
    for batch in loader:
        total += len(batch)
    return total, batch


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
def bench_loader(timed: Timed) -> None:
    if timed.device.type != "cpu":
        pytest.skip("decoding is for the host only")
    results = timed(epoch, full=FULL, tiny=TINY, goals={DECODING: 0.8}, rounds=2)
    size = TINY if timed.quick else FULL
    total, last = results[OURS]
    assert total == results[DECODING] == results[PLAIN] == size["frames"]
    depth = Room(0).depth(Room(0).path(8).resized((size["height"], size["width"])))
    for i, name in enumerate(last.frames):
        number = int(name.removeprefix("frame-")) % 8
        noise = (last.depth[i] - depth[number]).abs()
        assert (noise / depth[number] ** 2).median() < 0.003
        assert len(np.unique(last.color[i].numpy())) > 10
