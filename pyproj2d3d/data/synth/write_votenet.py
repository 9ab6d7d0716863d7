"""How do rooms become what VoteNet makes of SUN RGB-D? By way of SUN RGB-D itself, as its scripts do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ..images import ENCODINGS, decoded_depth
from ..mat import write_mat
from . import write_sunrgbd
from .options import RoomOptions
from .room import SynthRoom
from .split import is_validation

_FARTHEST = 8.0  # metres: read3dPoints cuts depth there
_FILES = {"depth": "mat", "image": "jpg", "calib": "txt", "label": "txt", "label_v1": "txt"}


def check(scenes: int, options: RoomOptions) -> None:
    """Raises ValueError where so many rooms, or such ones, cannot be written; before any is made."""
    write_sunrgbd.check(scenes, options)


def write(root: Path, room: SynthRoom, number: int) -> None:
    """The images of one room as ``extract_rgbd_data_v2.m`` makes them, in ``sunrgbd_trainval/``.

    They are those of :mod:`write_sunrgbd`, with filled depth. Both versions of the labels are equal. Until
    :func:`finish` files are named by room and view.

    Raises:
        ValueError: a room without frames.
    """
    out, raw = root / "sunrgbd_trainval", root / f".room_{number:06d}"
    for folder in _FILES:
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_sunrgbd.write(raw, room, number)
    with np.load(write_sunrgbd.part_of(raw, number), allow_pickle=False) as part:
        for view, record in enumerate(write_sunrgbd.records_of(part)):
            _write_image(out, f".{number:06d}_{view:06d}", raw, record)
    shutil.rmtree(raw)


def finish(root: Path, scenes: int) -> None:
    """Numbers the images from 1, those of the test split first, and writes the splits, as ``extract_split.m`` does."""
    out = root / "sunrgbd_trainval"
    names = sorted(path.stem for path in (out / "calib").iterdir())
    tests = {name for name in names if is_validation(int(name[1:7]))}
    for i, name in enumerate(sorted(names, key=lambda name: (name not in tests, name)), start=1):
        for folder, ending in _FILES.items():
            (out / folder / f"{name}.{ending}").rename(out / folder / f"{i:06d}.{ending}")
    for split, images in (("val", range(1, len(tests) + 1)), ("train", range(len(tests) + 1, len(names) + 1))):
        (out / f"{split}_data_idx.txt").write_text("".join(f"{i}\n" for i in images))


def _write_image(out: Path, name: str, raw: Path, record: dict[str, Any]) -> None:
    """Depth is down the columns, pixels are counted from 1, matrices are in column order."""
    from PIL import Image

    place, stem = raw / record["folder"], record["stem"]
    shutil.copyfile(place / "image" / f"{stem}.jpg", out / "image" / f"{name}.jpg")
    color = np.array(Image.open(place / "image" / f"{stem}.jpg"))
    stored = np.array(Image.open(place / "depth_bfx" / f"{stem}.png"), dtype=np.uint16)
    z = np.minimum(decoded_depth(stored, ENCODINGS["sunrgbd"]) / 1000, _FARTHEST).T.ravel()
    column, row = (axis.ravel() + 1 for axis in np.indices(stored.T.shape))
    (fx, _, cx), (_, fy, cy) = record["intrinsics"][:2]
    points = np.stack([(column - cx) * z / fx, z, -(row - cy) * z / fy], axis=1) @ record["tilt"].T
    points = np.concatenate([points, color.transpose(1, 0, 2).reshape(-1, 3) / 255], axis=1)[z > 0]
    write_mat(out / "depth" / f"{name}.mat", {"instance": points.astype(np.float32)})
    matrices = (record["tilt"], record["intrinsics"])
    calib = "".join(" ".join(f"{value:.5g}" for value in matrix.T.ravel()) + "\n" for matrix in matrices)
    (out / "calib" / f"{name}.txt").write_text(calib)
    labels = ""
    for of, box in zip(record["names"], record["boxes"], strict=True):
        numbers = (*box["centroid"][0], *box["coeffs"][0], *box["orientation"][0, :2])
        labels += " ".join([of, *(f"{v:.0f}" for v in box["flat"]), *(f"{v:.6f}" for v in numbers)]) + "\n"
    for folder in ("label", "label_v1"):
        (out / folder / f"{name}.txt").write_text(labels)
