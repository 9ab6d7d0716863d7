"""Which images of 2D-3D-S show a room of S3DIS? Posed frames with depth and labelled objects, read lazily.

The layout of the dataset, as its README and ``assets/utils.py`` have it (github.com/alexsax/2D-3D-Semantics):

* ``area_1/data/{rgb,depth,pose,semantic}/camera_UUID_ROOM_frame_N_domain_KIND.{png,json}``; Area 5 has two folders,
  ``area_5a`` and ``area_5b``.
* Depth is 16-bit, in 1/512 m, 65535 where it is missing, and along the optical axis. Only that of the panoramas
  (``pano/``, not read here) is the length of the ray.
* ``camera_rt_matrix`` is 3x4 (the README says 4x3) and takes the world to the camera: x right, y down, z forward, as in
  OpenCV. ``camera_location`` is the place of the camera. Metres.
* ``camera_k_matrix`` counts the corners of pixels: its centre is 540 in images of 1080 pixels. Half a pixel is taken
  off, for here pixel centres have the integers.
* Semantic images hold red 65536 + green 256 + blue, an index into ``semantic_labels.json``, where an object is called
  ``chair_7_office_2_1``: class, number within the area, room, area. 0x0D0D0D marks what no surface is behind.

The poses of ``area_5b`` are in the world of its own mesh and not in that of the points of Area 5 (issues 11 and 40
there, LogoSP issue 14). ``AREA_5_FROM_5B`` is the transform that Pointcept applies to that mesh; DeepViewAgg measured
the same quarter turn and a translation 2.4 cm from this one.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..camera import Camera
from .images import (
    ENCODINGS,
    ColorFile,
    DepthFile,
    check_color_mode,
    check_depth_mode,
    decoded_image,
    image_header,
    mapped,
)
from .json_file import brief, read_json
from .posed_images import Files, common_size, finite_poses
from .scene import Frame, Frames

CLASSES = (
    *("ceiling", "floor", "wall", "beam", "column", "window", "door"),
    *("table", "chair", "sofa", "bookcase", "board", "clutter"),
)
MISSING_COLOR = 0x0D0D0D
AREA_5_FROM_5B = np.array(
    [[0.0, 1.0, 0.0, -4.09703582], [-1.0, 0.0, 0.0, 6.22617759], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
_KINDS = {"rgb": "png", "depth": "png", "pose": "json", "semantic": "png"}
_FILE = re.compile(r"camera_([0-9A-Za-z]+)_+([^_].*)_frame_(\d+)_domain_+([a-z]+)\.([a-z]+)")
_ORTHONORMAL, _APART = 1e-3, 0.01  # what a rotation, and in metres what a place, may be off before it is called wrong


def class_of(name: str) -> int:
    """The class of an object called ``chair_7`` or ``chair_7_office_2_1``.

    -1 for <UNK>. A class that is none of the 13 ("stairs") is clutter, as in all published preprocessing.
    """
    first = name.split("_")[0]
    if first == "<UNK>":
        return -1
    return CLASSES.index(first) if first in CLASSES else CLASSES.index("clutter")


def area_folders(images: Path, area: int) -> tuple[Path, ...]:
    """Where the images of an area are, or should be."""
    return tuple(images / f"area_{area}{half}" / "data" for half in (("a", "b") if area == 5 else ("",)))


def labels_file(images: Path) -> Path:
    """``semantic_labels.json``, or where it should be: it comes with the repository, not with an area."""
    here = images / "semantic_labels.json"
    return here if here.is_file() else images / "assets" / "semantic_labels.json"


@dataclass(frozen=True, eq=False)
class IndexFile:
    """An RGB image whose colours are indices into a table."""

    path: Path
    table: np.ndarray  # of integers, what each index stands for, -1 for nothing

    def __call__(self) -> np.ndarray:
        pixels = decoded_image(self.path)
        _check_color_mode(self.path, pixels.mode)
        color = np.array(pixels)[:, :, :3].astype(np.int64)
        index = color[:, :, 0] << 16 | color[:, :, 1] << 8 | color[:, :, 2]
        missing = index == MISSING_COLOR
        return np.where(missing, -1, mapped(np.where(missing, 0, index), self.table, self.path))

    def __str__(self) -> str:
        return str(self.path)


def read_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The class (int8) and the object (int32) of each index of ``semantic_labels.json``; an object is its index.

    Raises:
        FileNotFoundError, ValueError: the text names the file.
    """
    names = read_json(path)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: must be a list of names such as chair_7_office_2_1, got {brief(names)}")
    semantic = np.array([class_of(name) for name in names], dtype=np.int8)  # small: every frame takes it along
    return semantic, np.where(semantic < 0, -1, np.arange(len(names))).astype(np.int32)


def read_pose_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(3, 3) intrinsics with pixel centres at the integers, and (4, 4) ``world_from_camera``, perhaps not finite.

    The rotation is the transpose of the stored one and the place is ``camera_location``, so both keep their bits.

    Raises:
        FileNotFoundError, ValueError: no such pose; the text names the file.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: must be a JSON object of one camera, got {brief(data)}")
    intrinsics = _matrix(path, data, "camera_k_matrix", (3, 3))
    camera_from_world = _matrix(path, data, "camera_rt_matrix", (3, 4))
    place = _matrix(path, data, "camera_location", (3,))
    shape = [intrinsics[0, 1], intrinsics[1, 0], *intrinsics[2]]
    if not np.isfinite(intrinsics).all() or shape != [0, 0, 0, 0, 1] or min(intrinsics[0, 0], intrinsics[1, 1]) <= 0:
        raise ValueError(
            f"{path}: camera_k_matrix must be finite, with positive focal lengths, no skew and a last row 0 0 1, "
            f"got {intrinsics.tolist()}"
        )
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = camera_from_world[:, :3].T, place
    if np.isfinite(pose).all() and np.isfinite(camera_from_world).all():
        _check_rigid(path, camera_from_world, place)
    else:
        pose[:3] = math.nan
    return intrinsics - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], pose


def read_frames(images: Path, area: int, room: str, area_5b: str = "as stored") -> Frames:
    """The frames whose camera stands in a room, by camera and number. No pixels are decoded, but every header is read.

    A frame without a semantic image, or all of them where there is no ``semantic_labels.json``, have no labels. A frame
    whose pose is not finite is left out and said, as :func:`posed_images.finite_poses` does.

    Raises:
        FileNotFoundError: the image, the depth or the pose of a frame is missing.
        ValueError: a pose that is none, images whose sizes disagree, depth that is not 16-bit of one channel.
        OSError: an image that cannot be opened.
    """
    files: Files = {}
    left_out: list[str] = []
    for data in area_folders(images, area):
        found = _files_of(data, room)
        if area_5b == "left out" and data.parent.name == "area_5b":
            left_out = [f"{name}: of area_5b, left out as asked" for name in found]
        else:
            files |= found
    if not files:
        return Frames((), left_out)
    size = common_size(files, "depth", check_depth_mode)
    color_size = common_size(files, "rgb", check_color_mode)
    if size != color_size:
        first = next(iter(files.values()))["rgb"]
        raise ValueError(f"{first}: colour must have the size of depth, {size} (H, W), got {color_size}")
    _check_semantic(files, size)
    cameras = {name: read_pose_file(of_frame["pose"]) for name, of_frame in files.items()}
    cameras = {name: (k, _moved(pose, files[name]["pose"], area_5b)) for name, (k, pose) in cameras.items()}
    kept, skipped = finite_poses(f"{images}, room {room} of area {area}", {n: pose for n, (_, pose) in cameras.items()})
    camera = Camera(
        torch.from_numpy(np.stack([cameras[name][0] for name in kept])),
        torch.from_numpy(np.stack(list(kept.values()))),
        size,
    )
    labels = labels_file(images)
    tables = read_labels(labels) if labels.is_file() else ()
    frames = []
    for i, name in enumerate(kept):
        of_frame = files[name]
        depth, color = DepthFile(of_frame["depth"], ENCODINGS["2d3ds"]), ColorFile(of_frame["rgb"])
        semantic = instance = None
        if tables and "semantic" in of_frame:
            semantic, instance = (IndexFile(of_frame["semantic"], table) for table in tables)
        frames.append(Frame(name, camera, camera, ENCODINGS["2d3ds"].scale, depth, color, semantic, instance, i))
    return Frames(frames, skipped + left_out)


def _files_of(data: Path, room: str) -> Files:
    """By camera and then by number."""
    written = tuple((data / kind).stat().st_mtime_ns if (data / kind).is_dir() else None for kind in _KINDS)
    found: dict[tuple[str, int], dict[str, Path]] = {}
    for kind, uuid, number, name in _listed(data, written).get(room, ()):
        found.setdefault((uuid, number), {})[kind] = data / kind / name
    files = {f"{uuid}_frame_{number}": found[uuid, number] for uuid, number in sorted(found)}
    for name, of_frame in files.items():
        for kind in ("rgb", "depth", "pose"):
            if kind not in of_frame:
                got = next(iter(of_frame.values())).name
                raise FileNotFoundError(f"{data / kind}: frame {name} has no {kind} file, but there is {got}")
    return files


@lru_cache(maxsize=7)  # the folders of all areas: an area has tens of thousands of files, and dozens of rooms
def _listed(data: Path, written: tuple[int | None, ...]) -> dict[str, list[tuple[str, str, int, str]]]:
    """Of each room the files: kind, camera, number and name. ``written`` is when the folders of the kinds changed."""
    rooms: dict[str, list[tuple[str, str, int, str]]] = {}
    for (kind, ending), when in zip(_KINDS.items(), written, strict=True):
        for name in os.listdir(data / kind) if when is not None else ():
            match = _FILE.fullmatch(name)
            if match and (match[4], match[5]) == (kind, ending):
                rooms.setdefault(match[2], []).append((kind, match[1], int(match[3]), name))
    return rooms


def _moved(pose: np.ndarray, path: Path, area_5b: str) -> np.ndarray:
    return AREA_5_FROM_5B @ pose if area_5b == "moved" and path.parents[2].name == "area_5b" else pose


def _check_semantic(files: Files, size: tuple[int, int]) -> None:
    for of_frame in files.values():
        if path := of_frame.get("semantic"):
            here, mode = image_header(path)
            _check_color_mode(path, mode)
            if here != size:
                raise ValueError(f"{path}: labels must have the size of the colour image, {size} (H, W), got {here}")


def _check_color_mode(path: Path, mode: str) -> None:
    if mode not in ("RGB", "RGBA"):
        raise ValueError(f"{path}: semantic images must be RGB, got Pillow mode {mode}")


def _check_rigid(path: Path, camera_from_world: np.ndarray, place: np.ndarray) -> None:
    rotation, shift = camera_from_world[:, :3], camera_from_world[:, 3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > _ORTHONORMAL or np.linalg.det(rotation) < 0:
        raise ValueError(f"{path}: camera_rt_matrix must hold a rotation, got {rotation.tolist()}")
    apart = np.linalg.norm(rotation @ place + shift)
    if apart > _APART:
        raise ValueError(
            f"{path}: camera_rt_matrix must take camera_location to the camera's origin, got a point {apart:.3g} m off"
        )


def _matrix(path: Path, data: dict[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key not in data:
        raise ValueError(f"{path}: {key} is missing, the keys are {', '.join(map(str, data)) or 'none'}")
    rows = data[key] if len(shape) == 2 else [data[key]]
    wanted = [shape[-1]] * (shape[0] if len(shape) == 2 else 1)
    if not isinstance(rows, list) or [len(row) if isinstance(row, list) else -1 for row in rows] != wanted:
        raise ValueError(f"{path}: {key} must have shape {shape}, got {brief(data[key])}")
    if any(type(x) not in (int, float) for row in rows for x in row):
        raise ValueError(f"{path}: {key} must hold numbers, got {brief(data[key])}")
    try:
        return np.array(rows, dtype=np.float64).reshape(shape)
    except OverflowError:
        raise ValueError(f"{path}: {key} must hold numbers of float64, got {brief(data[key])}") from None
