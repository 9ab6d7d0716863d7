"""The smallest images that a network can learn to tell apart: striped, dotted and plain things in front of grey walls.

A process that is started anew imports this file, which is beside conftest.py, and not the test.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from pyproj2d3d import Camera
from pyproj2d3d.data import Frames, Scene, SceneDataset
from pyproj2d3d.data.scene import Frame

TRAIN, VAL, FRAMES, SIZE = 4, 2, 4, (48, 64)
CLASSES = ("wall", "striped", "dotted", "plain")


class Images(SceneDataset):
    """``Images("train")``. Of what ``without`` names the frames have nothing: "semantic", "instance" or "things"."""

    def __init__(self, split: str | None = None, *, without: str = "", classes: tuple[str, ...] = CLASSES):
        n = {"train": TRAIN, "val": VAL, None: TRAIN + VAL}[split]
        object.__setattr__(self, "root", Path("images"))
        object.__setattr__(self, "split", split)
        object.__setattr__(self, "names", tuple(f"{split}{i}" for i in range(n)))
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "without", without)

    is_in = None

    def _open(self, name):
        return Scene(name, partial(frames_of, name, self.without))


def frames_of(name: str, without: str = "") -> Frames:
    camera = Camera(torch.tensor([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]), torch.eye(4), SIZE)
    frames = []
    for i in range(FRAMES):
        read = {of: partial(_read, name, i, without, of) for of in ("color", "semantic", "instance")}
        ids = {f"read_{of}": None if of == without else read[of] for of in ("semantic", "instance")}
        depth = partial(np.full, SIZE, 2.0, np.float32)
        frames.append(Frame(f"frame{i}", camera, camera, None, depth, read["color"], **ids))
    return Frames(frames)


def _read(name: str, frame: int, without: str, of: str) -> np.ndarray:
    return painted(name, frame, without)[of]


def painted(name: str, frame: int, without: str = "") -> dict[str, np.ndarray]:
    """Three things of one class each, somewhere in their third of the image; the wall is an object without a number."""
    rng = np.random.default_rng([sum(map(ord, name)), frame])
    color = rng.integers(100, 130, (*SIZE, 3)).astype(np.uint8)
    semantic, instance = np.zeros(SIZE, np.int64), np.full(SIZE, -1, np.int64)
    for third in range(3) if without != "things" else ():
        label, side = int(rng.integers(1, 4)), int(rng.integers(14, 20))
        top, left = int(rng.integers(0, SIZE[0] - side)), 21 * third + int(rng.integers(0, 21 - side + 1))
        v, u = np.indices((side, side))
        shown = {1: u // 2 % 2, 2: (u // 3 + v // 3) % 2, 3: np.ones_like(u)}[label]
        inside = slice(top, top + side), slice(left, left + side)
        color[inside] = (shown[..., None] * rng.integers(150, 256, 3)).astype(np.uint8)
        semantic[inside], instance[inside] = label, 10 * third + 7
    return {"color": color, "semantic": semantic, "instance": instance}
