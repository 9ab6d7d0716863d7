"""Which dataset is in this folder? Told by the names that each layout has, and by nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from .nyuv2 import NYUv2
from .posed_folder import PosedFolders
from .s3dis import S3DIS
from .scannet import ScanNet
from .scene import SceneDataset
from .sunrgbd import SUNRGBD
from .sunrgbd_votenet import SUNRGBDVoteNet

_SUN_SENSORS = {"kv1", "kv2", "realsense", "xtion"}


def open_dataset(root: str | os.PathLike[str], split: str | None = None) -> SceneDataset:
    """The dataset below a folder, by the reader whose names are found there, with that reader's defaults.

    Looked for, in this order: ScanNet (``scans/``, ``scans_test/``, ``scannet_frames_25k/`` or ``sceneXXXX_YY/``),
    S3DIS (``Area_1/`` to ``Area_6/``), NYU Depth v2 (``nyu_depth_v2_labeled.mat``), SUN RGB-D (``kv1/``, ``kv2/``,
    ``realsense/``, ``xtion/``), VoteNet's SUN RGB-D (``sunrgbd_trainval/``, or ``depth/`` and ``calib/``), and posed
    folders.

    Raises:
        FileNotFoundError: there is no such folder, or none of these is in it.
        ValueError: a split that the dataset does not have.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: must be the folder of a dataset, {'got a file' if folder.exists() else 'there is none'}"
        )
    names = set(os.listdir(folder))
    for is_there, reader in _READERS:
        if is_there(names):
            return reader(folder, split)
    try:
        return PosedFolders(folder, split)
    except FileNotFoundError:
        found = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
        raise FileNotFoundError(
            f"{folder}: must hold ScanNet (scans/), S3DIS (Area_1/), NYU Depth v2 (nyu_depth_v2_labeled.mat), "
            f"SUN RGB-D (kv1/, kv2/, ...), sunrgbd_trainval/ or posed RGB-D folders, got {found or 'an empty folder'}"
        ) from None


def _scannet(names: set[str]) -> bool:
    scene = re.compile(r"scene\d{4}_\d{2}")
    return bool(names & {"scans", "scans_test", "scannet_frames_25k"}) or any(scene.fullmatch(name) for name in names)


_READERS: tuple[tuple[Callable[[set[str]], bool], type[SceneDataset]], ...] = (
    (_scannet, ScanNet),
    (lambda names: any(f"Area_{i}" in names for i in range(1, 7)), S3DIS),
    (lambda names: "nyu_depth_v2_labeled.mat" in names, NYUv2),
    (lambda names: bool(_SUN_SENSORS & names), SUNRGBD),
    (lambda names: "sunrgbd_trainval" in names or {"depth", "calib"} <= names, SUNRGBDVoteNet),
)
