"""How do pixels lie on the disk? Image files, the encodings of depth, and labels by table."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..ops._check import check_number

UNKNOWN = -2  # in a table of labels: an id that the dataset does not have
_GREY_16 = ("I;16", "I;16B", "I")  # how Pillow and its older versions call 16-bit grey


@dataclass(frozen=True)
class DepthEncoding:
    """How the 16 stored bits of a pixel stand for metres. The known ones are in ``ENCODINGS``, by name.

    Unpacking is done in the order of the fields; after it metres = value / scale. With ``disparity`` the value is the
    11-bit disparity of the first Kinect, metres = 351.3 / (1092.5 - value) (``depth_rel2depth_abs`` of the NYU Depth
    toolbox); what is negative or beyond 10 m is no reading.
    """

    scale: float | None  # None: unpacked to float32 metres
    byteswapped: bool = False
    rotated: bool = False  # by 3 bits to the left: value = d >> 3 | d << 13
    disparity: bool = False


ENCODINGS = {
    "millimetres": DepthEncoding(1000.0),  # ScanNet, 7-Scenes, NYU's synchronised frames
    "nyu": DepthEncoding(10000.0),  # 0.1 mm, as NYU Depth v2 is commonly exported to PNG
    "tum": DepthEncoding(5000.0),  # the TUM RGB-D benchmark
    "2d3ds": DepthEncoding(512.0),  # 2D-3D-S; 65535 is missing
    "sunrgbd": DepthEncoding(1000.0, rotated=True),  # millimetres, the low 3 bits first (SUNRGBDtoolbox, read3dPoints)
    "kinect_raw": DepthEncoding(None, byteswapped=True, disparity=True),  # NYU Depth v2's raw dump
}


def depth_encoding(encoding: str | float | DepthEncoding) -> DepthEncoding:
    """The encoding of that name, or a plain one by its scale: metres = value / scale.

    Raises:
        ValueError: an unknown name, or a scale that is not positive and finite.
    """
    if isinstance(encoding, DepthEncoding):
        return encoding
    if isinstance(encoding, str):
        if encoding not in ENCODINGS:
            raise ValueError(f"depth encoding must be one of {', '.join(ENCODINGS)}, or a scale, got {encoding!r}")
        return ENCODINGS[encoding]
    if not 0 < check_number("depth_scale", encoding) < float("inf"):
        raise ValueError(f"depth_scale must be positive and finite, got {encoding}")
    return DepthEncoding(float(encoding))


def decoded_depth(stored: np.ndarray, encoding: DepthEncoding) -> np.ndarray:
    """(H, W) uint16 as stored to uint16 values; to float32 metres (0: no reading) where the encoding has no scale."""
    value = stored.byteswap() if encoding.byteswapped else stored
    if encoding.rotated:
        value = value >> 3 | value << 13
    if encoding.disparity:
        metres = 351.3 / np.where(value < 1092.5, 1092.5 - value, np.inf)
        return np.where(metres <= 10, metres, 0).astype(np.float32)
    return value


def encoded_depth(value: np.ndarray, encoding: DepthEncoding) -> np.ndarray:
    """The inverse of :func:`decoded_depth`, for encodings that have a scale."""
    assert not encoding.disparity
    stored = value << 3 | value >> 13 if encoding.rotated else value
    return stored.byteswap() if encoding.byteswapped else stored


def mapped(ids: np.ndarray, table: np.ndarray, where: object) -> np.ndarray:
    """Stored ids through a table (int64, the class of each id, -1 for none) to int64 classes.

    Raises:
        ValueError: an id beyond the table or one that it calls ``UNKNOWN``; the text begins with ``where``.
    """
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(table):
        bad = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise ValueError(f"{where}: unknown label id {bad}, the known ones are below {len(table)}")
    classes = table[ids]
    if (classes == UNKNOWN).any():
        raise ValueError(f"{where}: unknown label id {int(ids[classes == UNKNOWN].flat[0])}")
    return classes


@dataclass(frozen=True, slots=True)
class DepthFile:
    """A 16-bit image of depth."""

    path: Path
    encoding: DepthEncoding

    def __call__(self) -> np.ndarray:
        pixels = decoded_image(self.path)
        check_depth_mode(self.path, pixels.mode)
        stored = np.array(pixels)
        if pixels.mode == "I":  # 32 bits, of which 16 may be meant
            if stored.size and not 0 <= stored.min() <= stored.max() <= 65535:
                raise ValueError(f"{self.path}: depth must be of 16 bits, got {stored.min()} to {stored.max()}")
            stored = stored.astype(np.uint16)
        return decoded_depth(stored.astype(np.uint16, copy=False), self.encoding)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class ColorFile:
    """A colour image of 8 bits a channel, of any format that Pillow reads; grey becomes RGB."""

    path: Path

    def __call__(self) -> np.ndarray:
        pixels = decoded_image(self.path)
        check_color_mode(self.path, pixels.mode)
        return np.array(pixels if pixels.mode == "RGB" else pixels.convert("RGB"))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, eq=False, slots=True)
class LabelFile:
    """An 8 or 16-bit image of ids. Without a table they stay as they are, except that the stored 0 becomes -1."""

    path: Path
    table: np.ndarray | None = None  # int64, the class of each stored id

    def __call__(self) -> np.ndarray:
        pixels = decoded_image(self.path)
        check_label_mode(self.path, pixels.mode)
        ids = np.array(pixels).astype(np.int64)
        return np.where(ids == 0, -1, ids) if self.table is None else mapped(ids, self.table, self.path)

    def __str__(self) -> str:
        return str(self.path)


def decoded_image(path: Path) -> Any:
    """A PIL image with its pixels.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be decoded; the text names the file.
    """
    from PIL import Image

    try:
        # All of it at once: of a file Pillow would ask for as many bytes as a chunk says that it has.
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow raises where it breaks
        raise OSError(f"{path}: cannot be decoded, is it truncated? ({error})") from error
    return image


def image_header(path: Path) -> tuple[tuple[int, int], str]:
    """(H, W) and Pillow's mode, without decoding a pixel.

    Raises:
        OSError: the file is not there or no image; the text names it.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.mode
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(f"{path}: cannot be opened as an image, is it truncated? ({error})") from error


def check_depth_mode(path: Path, mode: str) -> None:
    if mode not in _GREY_16:
        raise ValueError(f"{path}: depth must be a 16-bit image of one channel, got Pillow mode {mode}")


def check_color_mode(path: Path, mode: str) -> None:
    """Grey of more than 8 bits would come out white."""
    if mode == "F" or mode.startswith("I"):
        raise ValueError(f"{path}: colour must be an image of 8 bits a channel, got Pillow mode {mode}")


def check_label_mode(path: Path, mode: str) -> None:
    if mode not in ("L", "P", *_GREY_16):
        raise ValueError(f"{path}: labels must be an 8 or 16-bit image of one channel, got Pillow mode {mode}")
