"""Which boxes do the annotations of SUN RGB-D hold? Two versions of them, in the upright axes of an image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .mat import named_errors, read_mat
from .scene import Boxes

BOX_CLASSES = (
    *("bed", "table", "sofa", "chair", "toilet"),
    *("desk", "dresser", "night_stand", "bookshelf", "bathtub"),
)  # VoteNet's ten


_OF_IMAGE = ("sequenceName", "Rtilt", "groundtruth3DBB")
_PLACE = ("centroid", "coeffs", "orientation")


def name_of(text: str) -> str:
    """``kv2/...`` of ``SUNRGBD/kv2/...``, whatever is before it."""
    _, _, name = f"/{text}".partition("/SUNRGBD/")
    if not name:
        raise ValueError(f"must hold paths below SUNRGBD/, got {text[:80]!r}")
    return name.rstrip("/")


@dataclass(frozen=True, eq=False)
class ImageV2:
    """What the metadata of v2 know of an image."""

    tilt: np.ndarray  # (3, 3) float64, Rtilt: upright from x right, y forward, z up of the camera
    names: tuple[str, ...]
    box: np.ndarray  # (K, 7) float64


def image_v2(path: Path, name: str) -> ImageV2:
    try:
        written = path.stat().st_mtime_ns
    except OSError:
        raise FileNotFoundError(f"{path}: there is no such file any more") from None
    images = _metadata(path, written)
    if name not in images:
        raise ValueError(
            f"{path}: must hold the image {name}, it is not among its {len(images)} (v1 is beside the image)"
        )
    image = images[name]
    if isinstance(image, str):
        raise ValueError(f"{path}: image {name}: {image}")
    return image


@lru_cache(maxsize=2)
def _metadata(path: Path, written: int) -> dict[str, ImageV2 | str]:
    """By name; a line of text for an image that cannot be read, so that it is an error where it is asked for."""
    meta = read_mat(path, "SUNRGBDMeta", fields={*_OF_IMAGE, "classname", *_PLACE})["SUNRGBDMeta"]
    if not set(_OF_IMAGE) <= set(meta.dtype.names or ()):
        raise ValueError(f"{path}: SUNRGBDMeta must have the fields {', '.join(_OF_IMAGE)}, got {meta.dtype.names}")
    images: dict[str, ImageV2 | str] = {}
    for record in meta.ravel():
        with named_errors(path, "sequenceName of SUNRGBDMeta"):
            name = name_of(str(record["sequenceName"].item()))
        try:
            tilt, objects = _numbers(record["Rtilt"], "Rtilt", 9).reshape(3, 3), record["groundtruth3DBB"].ravel()
            names = tuple(str(one["classname"].item()) for one in objects)
            parts = [[_numbers(one[part], part, 3) for part in _PLACE] for one in objects]
            images[name] = ImageV2(tilt, names, boxes_of(*np.array(parts).reshape(-1, 3, 3).transpose(1, 0, 2)))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            images[name] = f"fields of boxes and their numbers were wanted ({error})"
    return images


def _numbers(values: Any, what: str, count: int) -> np.ndarray:
    array = np.asarray(values)
    if array.size != count or array.dtype.kind not in "uif" or not np.isfinite(array).all():
        raise ValueError(f"{what} must be {count} finite numbers, got {array.dtype} {array.shape}")
    return array.astype(np.float64).reshape(array.shape if count == 9 else -1)


def boxes_of(centroid: np.ndarray, half: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """(K, 7) float64 as :mod:`pyproj2d3d.metrics` takes them, from SUN's centroid, coeffs and orientation (K, 3).

    The second of the half sizes lies along the orientation, the first across (``SUNObject3d`` of VoteNet's
    ``sunrgbd_utils.py`` calls them l and w). The heading is that of the orientation, counter-clockwise; VoteNet's
    ``heading_angle`` has the other sign.
    """
    heading = np.arctan2(orientation[:, 1], orientation[:, 0])
    return np.concatenate([centroid, 2 * np.abs(half[:, [1, 0, 2]]), heading[:, None]], axis=1)


def chosen_boxes(box: np.ndarray, names: Sequence[str], box_classes: tuple[str, ...]) -> Boxes:
    """Those whose name is a class."""
    kept = [i for i, name in enumerate(names) if name in box_classes]
    label = torch.tensor([box_classes.index(names[i]) for i in kept], dtype=torch.int64)
    return Boxes(torch.from_numpy(box[kept].astype(np.float32).reshape(-1, 7)), label)


def boxes_v2(path: Path, name: str, box_classes: tuple[str, ...]) -> Boxes:
    image = image_v2(path, name)
    return chosen_boxes(image.box, image.names, box_classes)


def boxes_v1(path: Path, box_classes: tuple[str, ...]) -> Boxes:
    """Of ``annotation3Dfinal/index.json``, as ``readframeSUNRGBD`` makes them; none where there is no file.

    An object is a rectangle seen from above, its corners X and Z in our x and y, and a height from -Ymin to -Ymax. Its
    front is the side between the first two corners. Of a name like ``chair:occluded`` the first part counts.
    """
    names, parts = [], []
    if path.is_file():
        with named_errors(path, "cannot be read as the annotation of an image"):
            found = json.loads(path.read_bytes())
            if not isinstance(found, dict) or not isinstance(found.get("objects"), list):
                raise ValueError("an object with a list `objects` was wanted")
            for number, one in enumerate(found["objects"]):
                one = one[0] if isinstance(one, list) and one else one
                if not one or not one.get("polygon"):
                    continue
                outline = one["polygon"][0]
                corners = np.array([outline["X"][:3], outline["Z"][:3]], dtype=np.float64).T
                low, high = -float(outline["Ymin"]), -float(outline["Ymax"])
                if corners.shape != (3, 2) or not np.isfinite([*corners.ravel(), low, high]).all():
                    raise ValueError(f"object {number} must have finite numbers, three or four of X and of Z")
                centre = (corners[0] + corners[2]) / 2
                across, along = np.linalg.norm(corners[1:] - corners[:2], axis=1)
                front = (corners[0] + corners[1]) / 2 - centre
                names.append(str(one["name"]).partition(":")[0].rstrip("_ "))
                parts.append([[*centre, (low + high) / 2], [across / 2, along / 2, (high - low) / 2], [*front, 0]])
    box = boxes_of(*np.array(parts, dtype=np.float64).reshape(-1, 3, 3).transpose(1, 0, 2))
    return chosen_boxes(box, names, box_classes)
