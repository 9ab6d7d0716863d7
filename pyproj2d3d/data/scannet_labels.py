"""What do ScanNet's labels mean? Its class lists and ids, label images of both encodings, and objects by segments."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .images import UNKNOWN, check_label_mode, decoded_image, mapped
from .json_file import brief, read_json
from .nyu40 import NYU40

LABEL_MAP = "scannetv2-labels.combined.tsv"

SCANNET20_IDS = (*range(1, 13), 14, 16, 24, 28, 33, 34, 36, 39)  # VALID_CLASS_IDS of the benchmark's evaluation
CLASSES = {"scannet20": tuple(NYU40[i - 1] for i in SCANNET20_IDS), "nyu40": NYU40}

# Ids in labels.ply that are none: 50 in scene0270_00 and scene0270_02, 149 in scene0384_00 (ScanNet issues 20 and 86).
NOT_NYU40 = (50, 149)


def class_of_nyu40(labels: str) -> np.ndarray:
    """(150,) int64, the class of each NYU40 id; -1 for 0 and what the class list drops; as labels.ply has them."""
    table = np.full(max(NOT_NYU40) + 1, UNKNOWN, np.int64)
    table[: len(NYU40) + 1] = -1
    table[list(NOT_NYU40)] = -1
    ids = SCANNET20_IDS if labels == "scannet20" else range(1, len(NYU40) + 1)
    table[list(ids)] = np.arange(len(ids))
    return table


@dataclass(frozen=True, eq=False)
class LabelMap:
    """``scannetv2-labels.combined.tsv``: NYU40 ids of ScanNet's own ids and of the names that annotators gave."""

    path: Path
    of_id: np.ndarray  # int64, 0 for 0, UNKNOWN for ids that are not in the file
    of_name: dict[str, int]


def read_label_map(path: Path) -> LabelMap:
    """The table. Of rows with one id the last counts, as in ScanNet's own ``util.py``: 549 ids stand for 607 names, and
    107, 188 and 385 ("pipe" and "pipes") for names with different NYU40 ids.

    Raises:
        FileNotFoundError, ValueError: the text names the file, and what was wanted.
    """
    columns = ("id", "raw_category", "nyu40id")
    try:
        lines = [*csv.reader(path.read_text(encoding="utf-8").splitlines(), delimiter="\t")]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file, NYU40 ids of labels were looked for there") from None
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: must be a table with tabs between its columns ({error})") from None
    header = lines[0] if lines else []
    if not set(columns) <= set(header):
        raise ValueError(f"{path}: must have columns {', '.join(columns)}, got {', '.join(header)[:200] or 'nothing'}")
    places = [header.index(name) for name in columns]
    of_name: dict[str, int] = {}
    of_id = np.full(1 << 16, UNKNOWN, np.int64)
    of_id[0], last = 0, 0
    for number, row in enumerate(lines[1:], 2):
        try:
            stored, name, nyu40 = (row[place] for place in places)
            i, n = int(stored), int(nyu40)
        except (ValueError, IndexError):
            raise ValueError(f"{path}: line {number} must have an id, a name and an NYU40 id") from None
        if not (0 < i < len(of_id) and 0 < n <= len(NYU40)):
            raise ValueError(f"{path}: line {number} must have an id below 65536 and one of NYU40, got {i} and {n}")
        of_id[i] = of_name[name] = n
        last = max(last, i)
    return LabelMap(path, of_id[: last + 1].copy(), of_name)


@dataclass(frozen=True, eq=False)
class Tables:
    """What turns stored ids into classes; shared by the frames of a scene."""

    of_nyu40: np.ndarray
    of_id: np.ndarray | None  # of ScanNet's own ids; None where there is no label map
    label_map: Path


@dataclass(frozen=True, eq=False)
class LabelImage:
    """Classes of an image. Its depth tells what the ids are: in 16 bits ScanNet's own, in 8 bits NYU40's.

    The released archives (``_2d-label.zip``, ``_2d-label-filt.zip``) have the former; what ScanNet's
    ``convert_scannet_label_image.py`` writes, and so ``scannet_frames_25k``, has the latter.
    """

    path: Path
    tables: Tables

    def __call__(self) -> np.ndarray:
        ids, bits = _ids(self.path)
        if bits == 8:
            return mapped(ids, self.tables.of_nyu40, self.path)
        if self.tables.of_id is None:
            raise FileNotFoundError(
                f"{self.tables.label_map}: there is no such file, what the ids in {self.path} mean was looked for there"
            )
        return mapped(ids, self.tables.of_id, self.path)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class InstanceImage:
    """Objects of an image, -1 for none.

    Its depth tells what the ids are: in 8 bits, as in the released archives, the objectId of the scan plus 1. In 16
    bits, as ``convert_scannet_instance_image.py`` writes them, 1000 times the NYU40 id plus a number that counts anew
    in every image, and may be 0 for walls, floors and ceilings, which then are no objects; those ids stay as they are.
    """

    path: Path

    def __call__(self) -> np.ndarray:
        ids, bits = _ids(self.path)
        return ids - 1 if bits == 8 else np.where((ids < 1000) | (ids % 1000 == 0), -1, ids)

    def __str__(self) -> str:
        return str(self.path)


def _ids(path: Path) -> tuple[np.ndarray, int]:
    pixels = decoded_image(path)
    check_label_mode(path, pixels.mode)
    return np.array(pixels).astype(np.int64), 8 if pixels.mode in ("L", "P") else 16


@dataclass(frozen=True, eq=False)
class Objects:
    """What an aggregation and the segments that it names say of the vertices of a mesh."""

    superpoint: np.ndarray  # (N,) int64: segments, numbered from 0 in the order in which the vertices name them
    instance: np.ndarray | None = None  # (N,) int64 objectId, -1 for none
    group: np.ndarray | None = None  # (N,) int64, place of the object in ``labels``, -1 for none
    labels: tuple[str, ...] = ()  # the annotators' name of each object


def read_objects(segments: Path, aggregation: Path | None, n: int) -> Objects:
    """Objects of a mesh of n vertices, from ``*_vh_clean_2.0.010000.segs.json`` and ``*.aggregation.json``.

    A segment that is in several objects belongs to the last one.

    Raises:
        ValueError: no such JSON, keys that are missing or hold something else, another number of vertices, or a segment
            that no vertex has; the text names the file.
    """
    of_vertex = _integers(segments, _object(segments).get("segIndices"), "segIndices")
    if len(of_vertex) != n:
        raise ValueError(f"{segments}: segIndices must have one entry per vertex, {n}, got {len(of_vertex)}")
    ids, first, inverse = np.unique(of_vertex, return_index=True, return_inverse=True)
    rank = np.empty(len(ids), np.int64)
    rank[np.argsort(first)] = np.arange(len(ids))
    superpoint = rank[inverse]
    if aggregation is None:
        return Objects(superpoint)
    groups = _object(aggregation).get("segGroups")
    if not isinstance(groups, list):
        raise ValueError(f"{aggregation}: must have a list segGroups, got {brief(groups)}")
    instance, group = np.full(len(ids), -1), np.full(len(ids), -1)
    labels = []
    for number, one in enumerate(groups):
        what = f"segGroups[{number}]"
        if not isinstance(one, dict) or not isinstance(one.get("label"), str):
            raise ValueError(f"{aggregation}: {what} must have a label, got {brief(one)}")
        objects = _integers(aggregation, [one.get("objectId")], f"objectId of {what}")
        if objects[0] < 0:
            raise ValueError(f"{aggregation}: objectId of {what} must be 0 or more, got {objects[0]}")
        named = _integers(aggregation, one.get("segments"), f"segments of {what}")
        place = np.searchsorted(ids, named)
        known = place < len(ids)
        known[known] = ids[place[known]] == named[known]
        if not known.all():
            raise ValueError(f"{aggregation}: segment {named[~known][0]} of {what} is not in {segments}")
        instance[place], group[place] = objects[0], number
        labels.append(one["label"])
    return Objects(superpoint, instance[inverse], group[inverse], tuple(labels))


def nyu40_of_objects(objects: Objects, label_map: LabelMap, aggregation: Path) -> np.ndarray:
    """(N,) int64 NYU40 id of each vertex, 0 for none.

    Raises:
        ValueError: a name that is not in the label map.
    """
    for name in objects.labels:
        if name not in label_map.of_name:
            raise ValueError(f"{aggregation}: unknown label {name!r}, it is not a raw_category of {label_map.path}")
    of_group = np.array([*(label_map.of_name[name] for name in objects.labels), 0], np.int64)
    assert objects.group is not None
    return of_group[objects.group]


def _object(path: Path) -> dict[str, Any]:
    read = read_json(path)
    if not isinstance(read, dict):
        raise ValueError(f"{path}: must be a JSON object, got {brief(read)}")
    return read


def _integers(path: Path, read: Any, what: str) -> np.ndarray:
    """(n,) int64."""
    try:
        numbers = np.array(read) if isinstance(read, list) else None
    except (ValueError, OverflowError):
        numbers = None
    if numbers is None or numbers.ndim != 1 or (len(numbers) and numbers.dtype != np.int64):
        raise ValueError(f"{path}: {what} must be whole numbers, got {brief(read)}")
    return numbers.astype(np.int64)
