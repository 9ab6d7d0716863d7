"""What did VoteNet make of SUN RGB-D? One upright cloud per image, with its camera, its boxes and its depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from .images import ColorFile, image_header
from .mat import read_mat
from .posed_images import read_matrix
from .scene import Boxes, Cloud, Frame, Frames, Scene, SceneDataset
from .sunrgbd import UPRIGHT_FROM_CAMERA, upright_camera
from .sunrgbd_boxes import BOX_CLASSES, boxes_of, chosen_boxes

_SPLITS = {"train": "train_data_idx.txt", "val": "val_data_idx.txt"}
_LABELS = {"v1": "label_v1", "v2": "label"}
_OFF_CENTRE = 0.1  # pixels; calib has five digits, which is about 0.003 pixels


@dataclass(frozen=True, eq=False, repr=False)
class SUNRGBDVoteNet(SceneDataset):
    """Fetch SUN RGB-D and run VoteNet's ``sunrgbd/matlab/extract_*.m`` on it; give ``sunrgbd_trainval/`` or its parent.

    Read are ``depth/000001.mat`` (the cloud), ``image/000001.jpg``, ``calib/000001.txt``, ``label_v1/000001.txt`` or
    ``label/000001.txt``, and for splits ``train_data_idx.txt`` and ``val_data_idx.txt``. An image is a scene, named by
    its number, with a cloud, boxes, and one frame. "train" and "val" are the train and test splits of SUN RGB-D.

    World: x right, y forward, z up, metres, the camera at the origin, as :class:`SUNRGBD` has it. The cloud has one
    point for each pixel with (filled) depth, down the columns of the image, farther than 8 m at 8 m, with the colour of
    the pixel. The frame's camera projects every point onto that pixel.

    There is no depth image in this form. ``depth()`` is made of the points: float32 metres, each at the pixel that it
    came from, 0 elsewhere. Pixels are exact; metres are within 0.05 mm of SUN's whole millimetres, because ``calib``
    has five digits.

    Boxes: of VoteNet's ten ``classes``, or those of ``box_classes``; other names are left out. ``labels="v1"`` is
    VoteNet's default, "v2" SUN's later annotation. No labels of pixels or points.

    Traps: both rows of ``calib`` (the tilt, then the intrinsics) are 3x3 in column order, and the intrinsics count
    pixels from 1. A label holds half sizes, first across and then along the orientation.

    Sources: ``sunrgbd/matlab/extract_rgbd_data_v2.m``, ``extract_split.m`` and ``sunrgbd_utils.py`` of
    facebookresearch/votenet.

    Raises:
        FileNotFoundError: no ``depth/*.mat`` there, or a split without its file.
        ValueError: another split or labels than said here, or a split file that holds no numbers.
    """

    TITLE: ClassVar[str] = "SUN RGB-D as VoteNet has it"
    SPLITS: ClassVar[Mapping[str, str | None]] = {"fit": "train", "validate": "val", "test": "val"}

    labels: str = "v1"
    box_classes: tuple[str, ...] = BOX_CLASSES

    def __post_init__(self) -> None:
        root = Path(self.root)
        for argument, given, allowed in (
            ("split", self.split, (None, *_SPLITS)),
            ("labels", self.labels, tuple(_LABELS)),
        ):
            if given not in allowed:
                raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, got {given!r}")
        if (root / "sunrgbd_trainval").is_dir():
            root = root / "sunrgbd_trainval"
        names = sorted(path.stem for path in (root / "depth").glob("*.mat") if path.stem.isdecimal())
        missing = [f"{_LABELS[self.labels]}/: no boxes"] if not (root / _LABELS[self.labels]).is_dir() else []
        if self.split is not None:
            wanted, here = _numbered(root / _SPLITS[self.split]), set(names)
            names = [name for name in wanted if name in here]
            if len(names) < len(wanted):
                missing.append(f"{len(wanted) - len(names)} of the {len(wanted)} images of {self.split} are not there")
        if not names:
            of_split = f" of {self.split}" if self.split else ""
            raise FileNotFoundError(f"{root}: must hold depth/000001.mat and so on{of_split}, there is none")
        for name, value in (
            ("root", root),
            ("names", tuple(names)),
            ("classes", tuple(self.box_classes)),
            ("box_classes", tuple(self.box_classes)),
            ("missing", tuple(missing)),
        ):
            object.__setattr__(self, name, value)

    @staticmethod
    def is_in(names: set[str]) -> bool:
        return "sunrgbd_trainval" in names or {"depth", "calib"} <= names

    def _open(self, name: str) -> Scene:
        labels = self.root / _LABELS[self.labels]
        return Scene(
            name,
            partial(_read_frames, self.root, name),
            partial(_read_cloud, self.root / "depth" / f"{name}.mat"),
            partial(_read_boxes, labels / f"{name}.txt", self.box_classes) if labels.is_dir() else None,
        )


def _numbered(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the split is read from there, there is no such file")
    lines = path.read_text(errors="replace").split()
    for line in lines:
        if not (line.isdecimal() and len(line) < 10):
            raise ValueError(f"{path}: a number per line, of up to 9 digits, was wanted, got {line[:40]!r}")
    return [f"{int(line):06d}" for line in lines]


def _read_frames(root: Path, name: str) -> Frames:
    image, calib, points = (
        root / "image" / f"{name}.jpg",
        root / "calib" / f"{name}.txt",
        root / "depth" / f"{name}.mat",
    )
    size, _ = image_header(image)
    tilt, intrinsics = read_matrix(calib, "two rows of 9 numbers, tilt and intrinsics,", (2, 9)).reshape(2, 3, 3)
    camera = upright_camera(calib, intrinsics.T, calib, tilt.T @ UPRIGHT_FROM_CAMERA, size)
    depth = DepthOfPoints(points, camera.intrinsics[0].numpy(), camera.world_from_camera[0, :3, :3].numpy(), size)
    return Frames([Frame(name, camera, camera, None, depth, ColorFile(image))])


@dataclass(frozen=True, eq=False)
class DepthOfPoints:
    """(H, W) float32 metres: the depth of each point at the pixel that it came from, 0 where there is no point."""

    path: Path
    intrinsics: np.ndarray  # (3, 3) float64, pixels counted from 0
    upright_from_camera: np.ndarray  # (3, 3) float64
    size: tuple[int, int]

    def __call__(self) -> np.ndarray:
        xyz = _instance(self.path)[:, :3].astype(np.float64)
        x, y, z = np.linalg.solve(self.upright_from_camera, xyz.T)
        if not (z > 0).all():
            raise ValueError(f"{self}: points in front of the camera were wanted, {int((z <= 0).sum())} are not")
        pixel = self.intrinsics[:2, :2] @ [x / z, y / z] + self.intrinsics[:2, 2:]
        u, v = np.floor(pixel + 0.5)
        height, width = self.size
        wrong = (np.abs(pixel - [u, v]) > _OFF_CENTRE).any(0) | (u < 0) | (u >= width) | (v < 0) | (v >= height)
        if wrong.any():
            raise ValueError(
                f"{self}: points on the pixel centres of an image of {self.size} (H, W) were wanted, "
                f"{int(wrong.sum())} of {len(xyz)} are not: does its calib belong to it?"
            )
        depth = np.full((height, width), np.inf, dtype=np.float32)
        np.minimum.at(depth, (v.astype(np.int64), u.astype(np.int64)), z.astype(np.float32))
        return np.where(np.isinf(depth), np.float32(0), depth)

    def __str__(self) -> str:
        return str(self.path)


def _instance(path: Path) -> np.ndarray:
    """(N, 6) x, y, z and RGB from 0 to 1."""
    points = read_mat(path, "instance")["instance"]
    if points.ndim != 2 or points.shape[1] != 6 or points.dtype.kind != "f" or not np.isfinite(points).all():
        raise ValueError(f"{path}: instance must be (N, 6) finite floats, got {points.dtype} {points.shape}")
    if points.size and not 0 <= points[:, 3:].min() <= points[:, 3:].max() <= 1:
        raise ValueError(f"{path}: colours must be from 0 to 1, got {points[:, 3:].min()} to {points[:, 3:].max()}")
    return points


def _read_cloud(path: Path) -> Cloud:
    points = _instance(path)
    colors = np.floor(255 * points[:, 3:] + 0.5).astype(np.uint8)
    return Cloud(torch.from_numpy(points[:, :3].astype(np.float32)), torch.from_numpy(colors))


def _read_boxes(path: Path, box_classes: tuple[str, ...]) -> Boxes:
    """Of lines: name, 2D box (4), centre (3), half sizes (3), orientation (2). No line where there is no object."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the boxes are read from there, there is no such file")
    names, numbers = [], []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if line.strip():
            name, *values = line.rsplit(maxsplit=12)
            try:
                numbers.append([float(value) for value in values])
            except ValueError:
                numbers.append([])
            if len(numbers[-1]) != 12 or not np.isfinite(numbers[-1]).all():
                raise ValueError(f"{path}: line {number} must be a name and 12 finite numbers, got {line[:200]!r}")
            names.append(name)
    rows = np.array(numbers, dtype=np.float64).reshape(-1, 12)
    return chosen_boxes(boxes_of(rows[:, 4:7], rows[:, 7:10], rows[:, 10:12]), names, box_classes)
