"""What must hold of the files of a posed RGB-D sequence? Poses, intrinsics and headers, checked and put together."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..camera import Camera
from .images import (
    ColorFile,
    DepthEncoding,
    DepthFile,
    LabelFile,
    check_color_mode,
    check_depth_mode,
    check_label_mode,
    image_header,
)
from .scene import Frame, Frames

Files = dict[str, dict[str, Path]]  # by frame, then by what the file holds: depth, color, pose, label, instance


def posed_frames(
    folder: Path,
    files: Files,
    depth_intrinsics: Path,
    color_intrinsics: Path,
    encoding: DepthEncoding,
    semantic_table: np.ndarray | None = None,
) -> Frames:
    """The frames of files that are all there, in their order. No pixels are decoded, but every header is read.

    Labels have the size of the colour image; through ``semantic_table`` they become classes (:func:`images.mapped`).
    A frame whose pose is not finite (tracking was lost) is left out: a warning says how many, ``Frames.skipped`` which.

    Raises:
        FileNotFoundError: an intrinsics file is missing.
        ValueError: a pose or intrinsics that are no such matrices, depth that is not 16-bit of one channel, images of
            one kind whose sizes disagree, or no frame with a finite pose.
        OSError: an image that cannot be opened.
    """
    depth_size = common_size(files, "depth", check_depth_mode)
    color_size = common_size(files, "color", check_color_mode)
    for kind in ("label", "instance"):
        _check_label_sizes(files, kind, color_size)
    kept, skipped = finite_poses(folder, {name: read_pose(of_frame["pose"]) for name, of_frame in files.items()})
    for name, pose in kept.items():
        check_invertible(files[name]["pose"], pose)
    cameras = color_cameras = cameras_of(depth_intrinsics, kept, depth_size)
    if (color_intrinsics, color_size) != (depth_intrinsics, depth_size):
        color_cameras = cameras_of(color_intrinsics, kept, color_size)
    frames = []
    for i, name in enumerate(kept):
        of_frame = files[name]
        frames.append(
            Frame(
                name,
                cameras,
                color_cameras,
                encoding.scale,
                DepthFile(of_frame["depth"], encoding),
                ColorFile(of_frame["color"]),
                LabelFile(of_frame["label"], semantic_table) if "label" in of_frame else None,
                LabelFile(of_frame["instance"]) if "instance" in of_frame else None,
                i,
            )
        )
    return Frames(frames, skipped)


def common_size(files: Files, kind: str, check_mode: Callable[[Path, str], None]) -> tuple[int, int]:
    """(H, W) that the headers of all images of a kind agree on."""
    size: tuple[int, int] | None = None
    for of_frame in files.values():
        here, mode = image_header(of_frame[kind])
        check_mode(of_frame[kind], mode)
        size = size or here
        if here != size:
            raise ValueError(f"{of_frame[kind]}: {kind} must have size {size} (H, W) as in the first frame, got {here}")
    assert size is not None
    return size


def _check_label_sizes(files: Files, kind: str, size: tuple[int, int]) -> None:
    for of_frame in files.values():
        if path := of_frame.get(kind):
            here, mode = image_header(path)
            check_label_mode(path, mode)
            if here != size:
                raise ValueError(f"{path}: labels must have the size of the colour image, {size} (H, W), got {here}")


def finite_poses(place: object, poses: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The poses (4, 4) that are finite, and a line for each other one, which a warning counts.

    Raises:
        ValueError: there is none; the text names ``place``.
    """
    kept = {name: pose for name, pose in poses.items() if np.isfinite(pose).all()}
    skipped = [f"{name}: pose is not finite" for name in poses if name not in kept]
    if not kept:
        raise ValueError(f"{place}: none of the {len(poses)} frames has a finite pose")
    if skipped:
        warnings.warn(
            f"{place}: {len(skipped)} of {len(poses)} frames are left out, their pose is not finite: "
            + ", ".join(line.split(":")[0] for line in skipped[:5])
            + (", ..." if len(skipped) > 5 else ""),
            stacklevel=4,
        )
    return kept, skipped


def read_matrix(path: Path, wanted: str, *shapes: tuple[int, int]) -> np.ndarray:
    """The matrix in a text file, of one of the shapes, float64.

    Raises:
        FileNotFoundError, ValueError: the text names the file and what was wanted.
    """
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
    got = f"rows of {[len(row) for row in rows]} numbers" if rows else "an empty file"
    raise ValueError(f"{path}: {wanted} was wanted, got {got}")


def read_pose(path: Path) -> np.ndarray:
    """(4, 4) float64, perhaps not finite."""
    pose = read_matrix(path, "a pose of 4x4 numbers", (4, 4), (1, 16)).reshape(4, 4)
    if np.isfinite(pose).all() and pose[3].tolist() != [0, 0, 0, 1]:
        raise ValueError(f"{path}: the last row of a pose must be 0 0 0 1, got {pose[3].tolist()}")
    return pose


def check_invertible(place: object, pose: np.ndarray) -> None:
    if np.linalg.det(pose[:3, :3]) == 0:
        raise ValueError(f"{place}: the 3x3 part of a pose must be invertible, its determinant is 0")


def cameras_of(intrinsics: Path, poses: dict[str, np.ndarray], size: tuple[int, int]) -> Camera:
    """One camera with the views of all poses, float64 as the files are."""
    matrix = torch.from_numpy(
        read_matrix(intrinsics, "a 3x3 or 4x4 matrix of intrinsics", (3, 3), (4, 4))[:3, :3].copy()
    )
    try:
        Camera(matrix, torch.eye(4, dtype=torch.float64), size)
    except ValueError as error:
        raise ValueError(f"{intrinsics}: {error}") from None
    return Camera(matrix, torch.from_numpy(np.stack(list(poses.values()))), size)
