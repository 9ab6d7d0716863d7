"""Which frames does a folder of posed RGB-D images hold? 7-Scenes naming and ScanNet-export naming, read lazily."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from .images import DepthEncoding, depth_encoding, image_header
from .ply import colors_of, read_ply, xyz_of
from .posed_images import Files, posed_frames
from .scene import Cloud, Frames, Scene, SceneDataset

_SEVEN_SCENES = re.compile(r"(frame-\d+)\.(?:(color)\.(?:png|jpe?g)|(depth)\.png|(pose)\.txt|(label)\.png)")
_SCANNET = {"depth": r"(\d+)\.png", "color": r"(\d+)\.(?:png|jpe?g)", "pose": r"(\d+)\.txt", "label": r"(\d+)\.png"}


def read_posed_folder(path: str | os.PathLike[str], *, depth: str | float = "millimetres") -> Scene:
    """The frames of a folder of posed RGB-D images, in numeric order; no pixels are decoded before they are asked for.

    Two layouts are known by their names:

    * 7-Scenes: ``frame-000000.color.png`` (or jpg), ``.depth.png``, ``.pose.txt``, for labels ``.label.png``; one 3x3
      or 4x4 matrix for depth and colour in ``camera-intrinsics.txt``, or in the only ``*intrinsics*.txt``, there or one
      folder up.
    * ScanNet export: ``color/0.jpg`` (or png), ``depth/0.png``, ``pose/0.txt``, for labels ``label/0.png``; 3x3 or 4x4
      matrices in ``intrinsic/intrinsic_depth.txt`` and ``intrinsic_color.txt``.

    Depth is 16-bit; ``depth`` says how metres are kept in it: a name of :data:`pyproj2d3d.data.images.ENCODINGS`
    ("millimetres", "tum", "kinect_raw", ...) or a scale, metres = value / scale. A pose file holds
    ``world_from_camera``: 4x4 numbers, metres. Labels are 8 or 16-bit and of the colour image's size; a stored 0 is no
    label.

    A cloud is read from ``points.ply`` and from no other name: binary PLY with x, y, z in the world of the poses and,
    where they are there, red, green, blue (uchar) and label (integer, 0 for none). Clouds under other names are often
    in the frame of some camera, which nothing in the file tells.

    A frame whose pose is not finite (tracking was lost) is left out: a warning says how many, ``Scene.frames.skipped``
    which.

    Raises:
        FileNotFoundError: the folder, its frames, its intrinsics, or the depth, colour or pose of a frame are missing.
        ValueError: a pose or intrinsics that are no such matrices, depth that is not 16-bit of one channel, images
            whose sizes disagree, both layouts at once, or no frame with a finite pose.
        OSError: an image that cannot be opened. Cut off later than its header, it says so when it is decoded.
    """
    scene = _scene(Path(path), depth_encoding(depth))
    _ = scene.frames  # what is wrong with them is said here
    return scene


def _scene(folder: Path, coding: DepthEncoding) -> Scene:
    cloud = folder / "points.ply"
    read_cloud = partial(read_points, cloud) if cloud.is_file() else None
    return Scene(folder.resolve().name, partial(_read_frames, folder, coding), read_cloud)


def _read_frames(folder: Path, coding: DepthEncoding) -> Frames:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: must be a folder of posed RGB-D frames, there is none")
    seven_scenes, scannet = _seven_scenes_files(folder), _scannet_files(folder)
    if seven_scenes and scannet:
        raise ValueError(f"{folder}: must have one layout, got both frame-*.* files and folders depth/, color/, pose/")
    files = seven_scenes or scannet
    if not files:
        raise FileNotFoundError(f"{folder}: no frames: looked for frame-NNNNNN.depth.png and for depth/N.png")
    for name, of_frame in files.items():
        for kind in ("depth", "color", "pose"):
            if kind not in of_frame:
                raise FileNotFoundError(
                    f"{_missing(folder, name, kind, bool(scannet))}: frame {name} has no {kind} file"
                )

    if scannet:
        depth_intrinsics = folder / "intrinsic" / "intrinsic_depth.txt"
        color_intrinsics = folder / "intrinsic" / "intrinsic_color.txt"
    else:
        depth_intrinsics = color_intrinsics = _seven_scenes_intrinsics(folder)
        _check_common_size(next(iter(files.values())))
    return posed_frames(folder, files, depth_intrinsics, color_intrinsics, coding)


@dataclass(frozen=True, eq=False, repr=False)
class PosedFolders(SceneDataset):
    """Fetch any posed RGB-D recording, as :func:`read_posed_folder` reads it: one folder, or a folder of such folders.

    There is one scene per folder, called as the folder is; no class names, so ids stay as they are stored, and no
    splits. ``depth`` is that of :func:`read_posed_folder`, for all of them.
    """

    TITLE: ClassVar[str] = "Posed RGB-D folders"
    SPLITS: ClassVar[Mapping[str, str | None]] = {"fit": None, "validate": None, "test": None}

    depth: str | float = "millimetres"

    def __post_init__(self) -> None:
        root = Path(self.root)
        depth_encoding(self.depth)
        if self.split is not None:
            raise ValueError(f"{root}: posed folders have no splits, got split={self.split!r}")
        if is_posed_folder(root):
            names = [root.resolve().name]
        elif not (names := sorted(path.name for path in root.iterdir() if is_posed_folder(path))):
            raise FileNotFoundError(f"{root}: must be a posed RGB-D folder or a folder of such folders")
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "names", tuple(names))

    @staticmethod
    def is_in(names: set[str]) -> bool:
        """Always: :func:`open_dataset` asks it last, and it looks into the folders."""
        return True

    def _open(self, name: str) -> Scene:
        itself = name == self.root.resolve().name and is_posed_folder(self.root)
        return _scene(self.root if itself else self.root / name, depth_encoding(self.depth))


def is_posed_folder(path: Path) -> bool:
    """Whether a folder has depth, colour and poses that are named as :func:`read_posed_folder` wants them."""
    if not path.is_dir():
        return False
    found = _seven_scenes_files(path) or _scannet_files(path)
    return {"depth", "color", "pose"} <= {kind for of_frame in found.values() for kind in of_frame}


def _seven_scenes_files(folder: Path) -> Files:
    files: Files = {}
    for name in sorted(os.listdir(folder)):  # of two colour images the later name is kept: the png
        if found := _SEVEN_SCENES.fullmatch(name):
            frame, *kinds = found.groups()
            files.setdefault(frame, {})[next(filter(None, kinds))] = folder / name
    return _in_numeric_order(files)


def _scannet_files(folder: Path) -> Files:
    files: Files = {}
    for kind, pattern in _SCANNET.items():
        if (folder / kind).is_dir():
            for name in sorted(os.listdir(folder / kind)):
                if found := re.fullmatch(pattern, name):
                    files.setdefault(found[1], {})[kind] = folder / kind / name
    return _in_numeric_order(files)


def _in_numeric_order(files: Files) -> Files:
    return {name: files[name] for name in sorted(files, key=lambda name: (int(name.removeprefix("frame-")), name))}


def _missing(folder: Path, name: str, kind: str, scannet: bool) -> Path:
    """The file that should have been there."""
    ending = {"depth": "png", "color": "jpg" if scannet else "png", "pose": "txt"}[kind]
    return folder / kind / f"{name}.{ending}" if scannet else folder / f"{name}.{kind}.{ending}"


def _seven_scenes_intrinsics(folder: Path) -> Path:
    for place in (folder, folder.resolve().parent):
        named = place / "camera-intrinsics.txt"
        if named.is_file():
            return named
        found = sorted(place.glob("*intrinsics*.txt"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(
                f"{place}: must have one intrinsics file, got {names}; camera-intrinsics.txt would be taken"
            )
        if found:
            return found[0]
    raise FileNotFoundError(
        f"{folder}: no intrinsics: looked for camera-intrinsics.txt and *intrinsics*.txt, here and one up"
    )


def _check_common_size(first: dict[str, Path]) -> None:
    """In 7-Scenes' naming depth and colour share their intrinsics, and so their size."""
    depth_size, color_size = (image_header(first[kind])[0] for kind in ("depth", "color"))
    if depth_size != color_size:
        raise ValueError(f"{first['color']}: colour must have the size of depth, {depth_size} (H, W), got {color_size}")


def read_points(path: Path) -> Cloud:
    """The cloud in a PLY file with x, y, z and perhaps red, green, blue (uchar) and label (integer, 0 for none)."""
    vertices = read_ply(path)
    colors, labels = colors_of(path, vertices), None
    if "label" in (vertices.dtype.names or ()):
        if vertices.dtype["label"].kind not in "iu":
            raise ValueError(f"{path}: label must be an integer property, got {vertices.dtype['label']}")
        stored = torch.from_numpy(vertices["label"].astype(np.int64))
        labels = torch.where(stored == 0, -1, stored)
    return Cloud(
        torch.from_numpy(xyz_of(vertices)), None if colors is None else torch.from_numpy(colors), semantic=labels
    )
