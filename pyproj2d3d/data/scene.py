"""What is a scene? Posed RGB-D frames whose pixels are decoded only when asked for, and perhaps a point cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera


@dataclass(frozen=True, eq=False)
class Frame:
    """One posed RGB-D image. It holds paths, not pixels, and may be sent to DataLoader workers."""

    name: str
    camera: Camera  # of the depth image, V = 1
    color_camera: Camera  # of the colour image, V = 1; equal to camera where the two share one
    depth_scale: float  # metres = value / depth_scale
    depth_path: Path
    color_path: Path
    label_path: Path | None = None

    def depth(self) -> Tensor:
        """(H, W) uint16 as stored, of the size of ``camera``. 0 and 65535 are no reading."""
        pixels = _decoded(self.depth_path, self.camera.size)
        check_depth_mode(self.depth_path, pixels.mode)
        return torch.from_numpy(np.array(pixels, dtype=np.uint16))

    def color(self) -> Tensor:
        """(H, W, 3) uint8 RGB, of the size of ``color_camera``."""
        return torch.from_numpy(np.array(_decoded(self.color_path, self.color_camera.size).convert("RGB")))

    def labels(self) -> Tensor | None:
        """(H, W) int64 semantic ids, of the size of ``color_camera``; None where the scene has none.

        Ids are as stored, except that the stored 0, no label, is -1 here.
        """
        if self.label_path is None:
            return None
        pixels = _decoded(self.label_path, self.color_camera.size)
        check_label_mode(self.label_path, pixels.mode)
        return ids_from_stored(np.array(pixels))

    def __getstate__(self) -> dict[str, object]:
        """Cameras travel as arrays: a tensor sent to a spawned worker takes a file descriptor, and scenes are long."""
        state = dict(self.__dict__)
        for name in ("camera", "color_camera"):
            camera = state[name]
            state[name] = (camera.intrinsics.numpy(), camera.world_from_camera.numpy(), camera.size)
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        for name in ("camera", "color_camera"):
            intrinsics, world_from_camera, size = state[name]  # type: ignore[misc]
            state[name] = Camera(torch.from_numpy(intrinsics), torch.from_numpy(world_from_camera), size)  # type: ignore[has-type]
        self.__dict__.update(state)


@dataclass(frozen=True, eq=False)
class Scene:
    """Posed frames of one place, and its point cloud in world coordinates where there is one."""

    name: str
    frames: Sequence[Frame]
    skipped: tuple[str, ...] = ()  # a readable line for each frame that was left out
    points: Tensor | None = None  # (N, 3) float32, metres
    colors: Tensor | None = None  # (N, 3) uint8
    labels: Tensor | None = None  # (N,) int64, -1 where there is none


def ids_from_stored(stored: np.ndarray) -> Tensor:
    """Stored label values to int64 ids: 0, which stands for no label, becomes -1."""
    ids = torch.from_numpy(stored.astype(np.int64))
    return torch.where(ids == 0, -1, ids)


def check_depth_mode(path: Path, mode: str) -> None:
    """16-bit grey is called I;16 by Pillow, and I by its older versions."""
    if mode not in ("I;16", "I;16B", "I"):
        raise ValueError(f"{path}: depth must be a 16-bit image of one channel, got Pillow mode {mode}")


def check_label_mode(path: Path, mode: str) -> None:
    if mode not in ("L", "P", "I;16", "I;16B", "I"):
        raise ValueError(f"{path}: labels must be an 8 or 16-bit image of one channel, got Pillow mode {mode}")


def _decoded(path: Path, size: tuple[int, int]):  # type: ignore[no-untyped-def]  # a PIL image; PIL is imported lazily
    """The decoded image, or an error that names the file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises depends on where a file is broken
        raise OSError(f"{path}: cannot be decoded, is it truncated? ({error})") from error
    if (image.height, image.width) != size:
        raise ValueError(f"{path}: must have size {size} (H, W), got {(image.height, image.width)}")
    return image
