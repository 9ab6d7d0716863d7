"""Which frames does a folder of posed RGB-D images hold? 7-Scenes naming and ScanNet-export naming, read lazily."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from .ply import read_ply
from .scene import Frame, Scene, check_depth_mode, check_label_mode, ids_from_stored

Files = dict[str, dict[str, Path]]  # by frame, then by what the file holds: depth, color, pose, label

_SEVEN_SCENES = re.compile(r"(frame-\d+)\.(?:(color)\.(?:png|jpe?g)|(depth)\.png|(pose)\.txt|(label)\.png)")
_SCANNET = {"depth": r"(\d+)\.png", "color": r"(\d+)\.(?:png|jpe?g)", "pose": r"(\d+)\.txt", "label": r"(\d+)\.png"}


def read_posed_folder(path: str | os.PathLike[str], *, depth_scale: float = 1000.0) -> Scene:
    """The frames of a folder of posed RGB-D images, in numeric order; no pixels are decoded before they are asked for.

    Two layouts are known by their names:

    * 7-Scenes: ``frame-000000.color.png`` (or jpg), ``.depth.png``, ``.pose.txt``, for labels ``.label.png``; one 3x3
      or 4x4 matrix for depth and colour in ``camera-intrinsics.txt``, or in the only ``*intrinsics*.txt``, there or one
      folder up.
    * ScanNet export: ``color/0.jpg`` (or png), ``depth/0.png``, ``pose/0.txt``, for labels ``label/0.png``; 3x3 or 4x4
      matrices in ``intrinsic/intrinsic_depth.txt`` and ``intrinsic_color.txt``.

    Depth is 16-bit, metres = value / depth_scale. A pose file holds ``world_from_camera``: 4x4 numbers, metres.
    Labels are 8 or 16-bit and of the colour image's size; a stored 0 is no label.

    A cloud is read from ``points.ply`` and from no other name: binary PLY with x, y, z in the world of the poses and,
    where they are there, red, green, blue (uchar) and label (integer, 0 for none). Clouds under other names are often
    in the frame of some camera, which nothing in the file tells.

    A frame whose pose is not finite (tracking was lost) is left out: a warning says how many, ``Scene.skipped`` which.

    Raises:
        FileNotFoundError: the folder, its frames, its intrinsics, or the depth, colour or pose of a frame are missing.
        ValueError: a pose or intrinsics that are no such matrices, depth that is not 16-bit of one channel, images
            whose sizes disagree, both layouts at once, or no frame with a finite pose.
        OSError: an image that cannot be opened. Cut off later than its header, it says so when it is decoded.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: must be a folder of posed RGB-D frames, there is none")
    if not 0 < depth_scale < float("inf"):
        raise ValueError(f"depth_scale must be positive and finite, got {depth_scale}")
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

    depth_size = _common_size(files, "depth", check_depth_mode)
    color_size = _common_size(files, "color", lambda path, mode: None)
    if scannet:
        depth_intrinsics = folder / "intrinsic" / "intrinsic_depth.txt"
        color_intrinsics = folder / "intrinsic" / "intrinsic_color.txt"
    else:
        depth_intrinsics = color_intrinsics = _seven_scenes_intrinsics(folder)
        if depth_size != color_size:
            color = next(iter(files.values()))["color"]
            raise ValueError(f"{color}: colour must have the size of depth, {depth_size} (H, W), got {color_size}")
    _check_label_sizes(files, color_size)

    kept, skipped = {}, []
    for name, of_frame in files.items():
        pose = _pose(of_frame["pose"])
        if np.isfinite(pose).all():
            kept[name] = pose
        else:
            skipped.append(f"{name}: pose is not finite")
    if not kept:
        raise ValueError(f"{folder}: none of the {len(files)} frames has a finite pose")
    if skipped:
        warnings.warn(
            f"{folder}: {len(skipped)} of {len(files)} frames are left out, their pose is not finite: "
            + ", ".join(line.split(":")[0] for line in skipped[:5])
            + (", ..." if len(skipped) > 5 else ""),
            stacklevel=2,
        )

    cameras = _cameras(depth_intrinsics, kept, files, depth_size)
    color_cameras = cameras
    if scannet:
        color_cameras = _cameras(color_intrinsics, kept, files, color_size)
    frames = tuple(
        Frame(
            name,
            cameras[i],
            color_cameras[i],
            depth_scale,
            files[name]["depth"],
            files[name]["color"],
            files[name].get("label"),
        )
        for i, name in enumerate(kept)
    )
    return Scene(folder.resolve().name, frames, tuple(skipped), *_cloud(folder / "points.ply"))


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


def _common_size(files: Files, kind: str, check_mode: Callable[[Path, str], None]) -> tuple[int, int]:
    """(H, W) that the headers of all images of a kind agree on."""
    size: tuple[int, int] | None = None
    for of_frame in files.values():
        here, mode = _header(of_frame[kind])
        check_mode(of_frame[kind], mode)
        size = size or here
        if here != size:
            raise ValueError(f"{of_frame[kind]}: {kind} must have size {size} (H, W) as in the first frame, got {here}")
    assert size is not None
    return size


def _check_label_sizes(files: Files, size: tuple[int, int]) -> None:
    for of_frame in files.values():
        if path := of_frame.get("label"):
            here, mode = _header(path)
            check_label_mode(path, mode)
            if here != size:
                raise ValueError(f"{path}: labels must have the size of the colour image, {size} (H, W), got {here}")


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """(H, W) and Pillow's mode, without decoding a pixel."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.mode
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"{path}: cannot be opened as an image, is it truncated? ({error})") from error


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


def _numbers(path: Path, wanted: str, shapes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """The matrix in a text file."""
    try:
        rows = [[float(x) for x in line.replace(",", " ").split()] for line in path.read_text().splitlines()]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file, {wanted} was looked for there") from None
    except ValueError as error:
        raise ValueError(f"{path}: {wanted} was wanted, got text that is no number ({error})") from None
    rows = [row for row in rows if row]
    for shape in shapes:
        if [len(row) for row in rows] == [shape[1]] * shape[0]:
            return np.array(rows)
    raise ValueError(f"{path}: {wanted} was wanted, got rows of {[len(row) for row in rows]} numbers")


def _pose(path: Path) -> np.ndarray:
    pose = _numbers(path, "a pose of 4x4 numbers", ((4, 4), (1, 16))).reshape(4, 4)
    if np.isfinite(pose).all() and pose[3].tolist() != [0, 0, 0, 1]:
        raise ValueError(f"{path}: the last row of a pose must be 0 0 0 1, got {pose[3].tolist()}")
    return pose


def _cameras(intrinsics: Path, poses: dict[str, np.ndarray], files: Files, size: tuple[int, int]) -> Camera:
    """One camera with the views of all frames, float64 as the files are."""
    matrix = torch.from_numpy(
        _numbers(intrinsics, "a 3x3 or 4x4 matrix of intrinsics", ((3, 3), (4, 4)))[:3, :3].copy()
    )
    try:
        Camera(matrix, torch.eye(4, dtype=torch.float64), size)
    except ValueError as error:
        raise ValueError(f"{intrinsics}: {error}") from None
    for name, pose in poses.items():
        if np.linalg.det(pose[:3, :3]) == 0:
            raise ValueError(f"{files[name]['pose']}: the 3x3 part of a pose must be invertible, its determinant is 0")
    return Camera(matrix, torch.from_numpy(np.stack(list(poses.values()))), size)


def _cloud(path: Path) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Points, colours and labels, each None where the file has none of them."""
    if not path.is_file():
        return None, None, None
    vertices = read_ply(path)
    points = torch.from_numpy(np.stack([vertices[name] for name in "xyz"], axis=1).astype(np.float32))
    names = vertices.dtype.names or ()
    colors = labels = None
    if {"red", "green", "blue"} <= set(names):
        if any(vertices.dtype[name] != np.uint8 for name in ("red", "green", "blue")):
            raise ValueError(f"{path}: red, green and blue must be uchar, got {vertices.dtype['red']}")
        colors = torch.from_numpy(np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1))
    if "label" in names:
        if vertices.dtype["label"].kind not in "iu":
            raise ValueError(f"{path}: label must be an integer property, got {vertices.dtype['label']}")
        labels = ids_from_stored(vertices["label"])
    return points, colors, labels
