"""How does ScanNet keep a recording in one file? The .sens container, read frame by frame and written.

Version 4 of the format (``sensorData.h`` and ``SensorData.py`` of github.com/ScanNet/ScanNet): a header; then for each
frame its pose, two time stamps, two sizes, and the compressed colour and depth; then the readings of the inertial unit.
All numbers are little-endian. There is no table of contents: to know where the frames are, each frame's 96 bytes of
numbers are read once, and what lies between them is skipped.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ..camera import Camera
from .posed_images import check_invertible, finite_poses
from .scene import Frame, Frames

VERSION = 4
COLOR = {0: "raw", 1: "png", 2: "jpeg"}  # compression types; -1 is unknown
DEPTH = {0: "raw_ushort", 1: "zlib_ushort", 2: "occi_ushort"}
_MATRICES = struct.Struct("<64f")  # 4x4: intrinsics of colour, to the base frame; the same of depth
_FORMAT = struct.Struct("<iiIIIIfQ")  # compression of colour, of depth, sizes (W, H) of both, depth shift, frames
_FRAME = np.dtype([("pose", "<f4", (4, 4)), ("time", "<u8", (2,)), ("nbytes", "<u8", (2,))])  # of colour and depth
_NBYTES = struct.Struct("<QQ")
_IMU = 15 * 8 + 8  # bytes of a reading: five vectors and a time stamp
_BROKEN = (OSError, SyntaxError, ValueError)  # what Pillow raises where an image is
_LONGEST_NAME = 1 << 16
_MOST_PIXELS = 1 << 26


@dataclass(frozen=True, eq=False)
class SensHeader:
    """What is said once, before the frames."""

    sensor: str
    color_intrinsics: np.ndarray  # (4, 4) float32
    base_from_color: np.ndarray  # (4, 4) float32; the identity in ScanNet
    depth_intrinsics: np.ndarray
    base_from_depth: np.ndarray
    color_compression: str  # one of COLOR
    depth_compression: str  # one of DEPTH
    color_size: tuple[int, int]  # (H, W)
    depth_size: tuple[int, int]
    depth_scale: float  # metres = value / depth_scale
    frames: int
    nbytes: int  # of the header itself


@dataclass(frozen=True, eq=False)
class SensIndex:
    """Where each frame is, and when and from where it was taken."""

    world_from_camera: np.ndarray  # (F, 4, 4) float32, not finite where tracking was lost
    color_time: np.ndarray  # (F,) uint64, microseconds
    depth_time: np.ndarray
    offset: np.ndarray  # (F,) int64, of the colour in the file; depth follows it
    color_nbytes: np.ndarray  # (F,) int64
    depth_nbytes: np.ndarray


@dataclass(frozen=True, slots=True)
class SensColor:
    """The colour image of one frame."""

    path: Path
    frame: int
    offset: int
    nbytes: int
    size: tuple[int, int]
    compression: str

    def __call__(self) -> np.ndarray:
        data = _slice(self.path, self, self.offset, self.nbytes)
        if self.compression == "raw":
            if len(data) != 3 * self.size[0] * self.size[1]:
                raise ValueError(f"{self}: raw colour of size {self.size} (H, W) cannot have {len(data)} bytes")
            return np.frombuffer(bytearray(data), np.uint8).reshape(*self.size, 3)
        return _decoded(data, self, self.compression, self.size)

    def __str__(self) -> str:
        return f"{self.path}: colour of frame {self.frame}"


@dataclass(frozen=True, slots=True)
class SensDepth:
    """The depth image of one frame."""

    path: Path
    frame: int
    offset: int
    nbytes: int
    size: tuple[int, int]
    compression: str

    def __call__(self) -> np.ndarray:
        data, wanted = _slice(self.path, self, self.offset, self.nbytes), 2 * self.size[0] * self.size[1]
        if self.compression == "zlib_ushort":
            data = _inflated(data, self, wanted)
        if len(data) != wanted:
            raise ValueError(f"{self}: depth of size {self.size} (H, W) cannot have {len(data)} bytes")
        return np.frombuffer(bytearray(data), "<u2").reshape(self.size)

    def __str__(self) -> str:
        return f"{self.path}: depth of frame {self.frame}"


@dataclass(frozen=True, eq=False)
class SensFile:
    """A .sens file of version 4. Header and index are read when first asked for, and kept, but not sent to workers.

    Depth is ``zlib_ushort`` or ``raw_ushort``, colour ``jpeg``, ``png`` or ``raw``. ``occi_ushort`` is an error: only
    Occipital's own library decodes it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or its header, a frame's size or the number of frames do not fit its length; the
            text names the file. Nothing is allocated by what the file says before that has been checked.
    """

    path: Path

    def __len__(self) -> int:
        return self.header.frames

    @cached_property
    def header(self) -> SensHeader:
        with open(self.path, "rb") as file:
            return _read_header(self.path, file)

    @cached_property
    def index(self) -> SensIndex:
        with open(self.path, "rb", buffering=0) as file:
            return _read_index(self.path, file, self.header)

    def color(self, frame: int) -> SensColor:
        """Where the colour of a frame is; calling it gives (H, W, 3) uint8."""
        at, header = self.index, self.header
        offset, nbytes = int(at.offset[frame]), int(at.color_nbytes[frame])
        return SensColor(self.path, frame, offset, nbytes, header.color_size, header.color_compression)

    def depth(self, frame: int) -> SensDepth:
        """Where the depth of a frame is; calling it gives (H, W) uint16."""
        at, header = self.index, self.header
        offset, nbytes = int(at.offset[frame] + at.color_nbytes[frame]), int(at.depth_nbytes[frame])
        return SensDepth(self.path, frame, offset, nbytes, header.depth_size, header.depth_compression)

    def frames(self) -> Frames:
        """Its frames, called "0", "1", ..., as those of ScanNet's exporter are; those whose pose is not finite are left
        out with a warning. Colour has its own intrinsics and, as in ScanNet's own tools, the pose of depth.

        Raises:
            ValueError: see above; also for intrinsics or a pose that are no such matrices, or if no pose is finite.
        """
        poses = {str(i): pose.astype(np.float64) for i, pose in enumerate(self.index.world_from_camera)}
        kept, skipped = finite_poses(self.path, poses) if poses else ({}, [])
        for name, pose in kept.items():
            if pose[3].tolist() != [0, 0, 0, 1]:
                raise ValueError(f"{self.path}: the last row of pose {name} must be 0 0 0 1, got {pose[3].tolist()}")
            check_invertible(f"{self.path}: pose {name}", pose)
        camera = self._camera("depth", kept)
        color_camera = self._camera("color", kept)
        scale = self.header.depth_scale
        return Frames(
            [
                Frame(name, camera, color_camera, scale, self.depth(int(name)), self.color(int(name)), view=i)
                for i, name in enumerate(kept)
            ],
            skipped,
        )

    def _camera(self, kind: str, poses: dict[str, np.ndarray]) -> Camera:
        matrix = getattr(self.header, f"{kind}_intrinsics")[:3, :3].astype(np.float64)
        stacked = np.stack([*poses.values()]) if poses else np.zeros((0, 4, 4))
        try:
            return Camera(torch.from_numpy(matrix), torch.from_numpy(stacked), getattr(self.header, f"{kind}_size"))
        except ValueError as error:
            raise ValueError(f"{self.path}: {kind}: {error}") from None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path}


def write_sens(
    path: Path,
    frames: Iterable[tuple[np.ndarray, np.ndarray | bytes, np.ndarray]],
    *,
    color_intrinsics: np.ndarray,
    depth_intrinsics: np.ndarray,
    color_size: tuple[int, int],
    depth_size: tuple[int, int],
    color_compression: str = "jpeg",
    depth_compression: str = "zlib_ushort",
    depth_scale: float = 1000.0,
    sensor: str = "StructureSensor",
    quality: int = 90,
) -> None:
    """A .sens file of version 4, without readings of an inertial unit.

    Args:
        frames: (world_from_camera (4, 4), colour, depth (H, W) uint16) each. Colour is (H, W, 3) uint8, or bytes that
            are compressed already. Time stamps count 30 frames to the second.
        color_intrinsics, depth_intrinsics: (3, 3).
        quality: of JPEG.

    Poses and intrinsics are rounded to float32.

    Raises:
        ValueError: an image of another size, or a compression that cannot be written.
    """
    kinds = {name: code for code, name in COLOR.items()}, {name: code for code, name in DEPTH.items()}
    if color_compression not in kinds[0] or depth_compression not in ("raw_ushort", "zlib_ushort"):
        raise ValueError(f"{path}: cannot be written with colour {color_compression} and depth {depth_compression}")
    matrices = [_padded(color_intrinsics), np.eye(4), _padded(depth_intrinsics), np.eye(4)]
    name = sensor.encode()
    count = 0
    with open(path, "wb") as file:
        file.write(struct.pack("<IQ", VERSION, len(name)) + name)
        file.write(np.stack(matrices).astype("<f4").tobytes())
        at = file.tell()
        sizes = *color_size[::-1], *depth_size[::-1]
        form = partial(_FORMAT.pack, kinds[0][color_compression], kinds[1][depth_compression], *sizes, depth_scale)
        file.write(form(0))
        for pose, color, depth in frames:
            stored = _stored_color(path, color, color_compression, color_size, quality)
            if depth.shape != tuple(depth_size) or depth.dtype != np.uint16:
                raise ValueError(f"{path}: depth must be uint16 of size {depth_size}, got {depth.dtype} {depth.shape}")
            packed = depth.astype("<u2").tobytes()
            if depth_compression == "zlib_ushort":
                packed = zlib.compress(packed)
            time = 33_333 * count
            file.write(np.asarray(pose, "<f4").tobytes() + struct.pack("<4Q", time, time, len(stored), len(packed)))
            file.write(stored)
            file.write(packed)
            count += 1
        file.write(struct.pack("<Q", 0))
        file.seek(at)
        file.write(form(count))


def _padded(intrinsics: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsics
    return matrix


def _stored_color(
    path: Path, color: np.ndarray | bytes, compression: str, size: tuple[int, int], quality: int
) -> bytes:
    if isinstance(color, bytes):
        return color
    from PIL import Image

    if color.shape != (*size, 3) or color.dtype != np.uint8:
        raise ValueError(
            f"{path}: colour must be uint8 of size {size} with 3 channels, got {color.dtype} {color.shape}"
        )
    if compression == "raw":
        return color.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(color).save(buffer, compression, quality=quality)
    return buffer.getvalue()


def _read_header(path: Path, file: BinaryIO) -> SensHeader:
    size = os.fstat(file.fileno()).st_size
    version, length = _unpacked(path, file, struct.Struct("<IQ"), "version and name")
    if version != VERSION:
        raise ValueError(f"{path}: must be a .sens file of version {VERSION}, its first four bytes say {version}")
    if length > min(size - file.tell(), _LONGEST_NAME):
        raise ValueError(f"{path}: the name of the sensor cannot have {length} bytes in a file of {size}")
    name = file.read(length).decode("utf-8", "replace")
    matrices = np.array(_unpacked(path, file, _MATRICES, "calibration"), np.float32).reshape(4, 4, 4)
    color, depth, *sizes, shift, frames = _unpacked(path, file, _FORMAT, "sizes and compression")
    if color not in COLOR or depth not in DEPTH:
        raise ValueError(f"{path}: unknown compression, colour has type {color} and depth type {depth}")
    if DEPTH[depth] == "occi_ushort":
        raise ValueError(f"{path}: depth is compressed as occi_ushort, which only Occipital's own library decodes")
    color_width, color_height, depth_width, depth_height = sizes
    for what, height, width in (("colour", color_height, color_width), ("depth", depth_height, depth_width)):
        if not 0 < height * width <= _MOST_PIXELS:
            raise ValueError(f"{path}: {what} must have 1 to {_MOST_PIXELS} pixels, got size {(height, width)} (H, W)")
    if not 0 < shift < float("inf"):
        raise ValueError(f"{path}: the depth shift must be positive and finite, got {shift}")
    if frames > (size - file.tell()) // _FRAME.itemsize:
        raise ValueError(f"{path}: {frames} frames cannot be in a file of {size} bytes, is it truncated?")
    return SensHeader(
        name,
        matrices[0],
        matrices[1],
        matrices[2],
        matrices[3],
        COLOR[color],
        DEPTH[depth],
        (color_height, color_width),
        (depth_height, depth_width),
        shift,
        frames,
        file.tell(),
    )


def _read_index(path: Path, file: BinaryIO, header: SensHeader) -> SensIndex:
    rows, offset = bytearray(), []
    size, at = os.fstat(file.fileno()).st_size, header.nbytes
    for i in range(header.frames):
        file.seek(at)
        row = _read(path, file, _FRAME.itemsize, f"frame {i} of {header.frames}")
        color, depth = _NBYTES.unpack_from(row, _FRAME.itemsize - _NBYTES.size)
        at += _FRAME.itemsize
        if color + depth > size - at:
            raise ValueError(
                f"{path}: frame {i} of {header.frames} wants {color} and {depth} bytes from {at}, the file ends at "
                f"{size}: is it truncated?"
            )
        rows += row
        offset.append(at)
        at += color + depth
    _check_imu(path, file, at, size)
    table = np.frombuffer(rows, _FRAME)
    time, nbytes = table["time"], table["nbytes"].astype(np.int64)
    return SensIndex(table["pose"], time[:, 0], time[:, 1], np.array(offset, np.int64), nbytes[:, 0], nbytes[:, 1])


def _check_imu(path: Path, file: BinaryIO, at: int, size: int) -> None:
    """What follows the frames is whole; some programs write nothing there."""
    if at == size:
        return
    file.seek(at)
    (readings,) = _unpacked(path, file, struct.Struct("<Q"), "readings of the inertial unit")
    if readings * _IMU > size - at - 8:
        raise ValueError(
            f"{path}: {readings} readings of the inertial unit cannot be in {size - at - 8} bytes, is it truncated?"
        )


def _unpacked(path: Path, file: BinaryIO, form: struct.Struct, what: str) -> tuple[Any, ...]:
    return form.unpack(_read(path, file, form.size, what))


def _read(path: Path, file: BinaryIO, nbytes: int, what: str) -> bytes:
    data = file.read(nbytes)
    if len(data) < nbytes:
        raise ValueError(f"{path}: must be a .sens file, it ends within {what}")
    return data


def _slice(path: Path, what: object, offset: int, nbytes: int) -> bytes:
    """Bytes of a file that was that long when its index was read."""
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        data: bytes = file.read(nbytes)
    if len(data) < nbytes:
        raise OSError(f"{what}: {nbytes} bytes were wanted from {offset}, the file ends after {len(data)} of them")
    return data


def _inflated(data: bytes, what: object, wanted: int) -> bytes:
    """At most ``wanted`` bytes, however many there would be, and the end of the stream with its checksum."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, wanted)
        more = stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(f"{what}: cannot be decompressed ({error})") from None
    if more or not stream.eof or len(inflated) < wanted:
        got = "more" if more else f"{len(inflated)} and no end" if not stream.eof else f"{len(inflated)}"
        raise ValueError(f"{what}: {wanted} bytes were wanted when decompressed, got {got}")
    return inflated


def _decoded(data: bytes, what: object, compression: str, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8. The size in the image's own header is looked at before a pixel is."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=[compression]) as image:
            if (image.height, image.width) != size:
                raise ValueError(f"must have size {size} (H, W), got {(image.height, image.width)}")
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except (*_BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{what}: cannot be decoded as {compression} ({error})") from None
