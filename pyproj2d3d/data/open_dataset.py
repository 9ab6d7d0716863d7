"""Which dataset is in this folder? Told by the names that each layout has, and by nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from .nyuv2 import MAT, NYUv2
from .posed_folder import PosedFolders
from .s3dis import S3DIS
from .scannet import ScanNet
from .scene import SceneDataset
from .sunrgbd import SUNRGBD
from .sunrgbd_votenet import SUNRGBDVoteNet

_READERS: tuple[type[SceneDataset], ...] = (ScanNet, S3DIS, NYUv2, SUNRGBD, SUNRGBDVoteNet)


def open_dataset(root: str | os.PathLike[str], split: str | None = None) -> SceneDataset:
    """The dataset below a folder, by the reader whose names are found there, with that reader's defaults.

    Looked for, in this order: ScanNet (``scans/``, ``scannet_frames_25k/``, ``sceneXXXX_YY/`` and others), S3DIS
    (``Area_1/`` to ``Area_6/``), NYU Depth v2 (``nyu_depth_v2_labeled.mat``, or that file itself), SUN RGB-D (``kv1/``,
    ``kv2/``, ``realsense/``, ``xtion/``, ``SUNRGBD/``), VoteNet's form of it (``sunrgbd_trainval/``, or ``depth/`` and
    ``calib/``), and posed folders, whose depth is taken to be millimetres: for another encoding make
    :class:`PosedFolders` yourself.

    Raises:
        FileNotFoundError: there is no such folder, or none of these is in it.
        ValueError: a split that the dataset does not have.
    """
    folder = Path(root)
    if folder.name == MAT and folder.is_file():
        return NYUv2(folder, split)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: must be the folder of a dataset, {'got a file' if folder.exists() else 'there is none'}"
        )
    names = set(os.listdir(folder))
    for reader in _READERS:
        if reader.is_in(names):
            return reader(folder, split)
    try:
        return PosedFolders(folder, split)
    except FileNotFoundError:
        found = ", ".join(sorted(names)[:5]) + (", ..." if len(names) > 5 else "")
        raise FileNotFoundError(
            f"{folder}: must hold ScanNet (scans/), S3DIS (Area_1/), NYU Depth v2 ({MAT}), "
            f"SUN RGB-D (kv1/, kv2/, ...), sunrgbd_trainval/ or posed RGB-D folders, got {found or 'an empty folder'}"
        ) from None
