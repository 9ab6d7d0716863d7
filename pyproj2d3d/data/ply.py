"""How are point clouds and meshes kept in a file? Binary PLY with colours and labels, which every viewer opens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
_NAMES = {"u1": "uchar", "u2": "ushort", "i4": "int", "f4": "float", "f8": "double"}
_BYTE_ORDER = {"binary_little_endian": "<", "binary_big_endian": ">"}
_CLOUD = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("label", "u2")]
_LONGEST_LINE = 4096  # of a header


def write_ply(path: Path, points: np.ndarray, colors: np.ndarray, labels: np.ndarray) -> None:
    """(N, 3) points kept in float32, (N, 3) uint8 colours and (N,) labels of 0 to 65535, as a binary PLY."""
    vertices = np.empty(len(points), dtype=[(name, "<" + kind) for name, kind in _CLOUD])
    for column, name in enumerate("xyz"):
        vertices[name] = points[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertices[name] = colors[:, column]
    vertices["label"] = labels
    path.write_bytes(_header_of(vertices) + b"end_header\n" + vertices.tobytes())


def write_mesh_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """A structured array of vertices, little-endian, and (F, 3) triangles, as a binary PLY."""
    rows = np.empty(len(faces), dtype=_triangle("<", "u1", "i4"))
    rows["n"], rows["vertex"] = 3, faces
    header = f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    path.write_bytes(_header_of(vertices) + header.encode() + vertices.tobytes() + rows.tobytes())


def read_ply(path: Path) -> np.ndarray:
    """The vertices of a binary PLY as a structured array, one field per property. Faces behind them are not read.

    Raises:
        ValueError: no binary PLY whose first element is ``vertex`` with x, y, z, or one that ends too early.
    """
    with open(path, "rb") as file:
        order, elements = _header(path, file)
        return _vertices(path, file, order, elements[0])


def read_mesh_ply(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The vertices as :func:`read_ply` gives them, and the triangles (F, 3) int64; None where no faces are declared.

    Raises:
        ValueError: what :func:`read_ply` says of vertices; faces that are no list of triangles, or not of these
            vertices.
    """
    with open(path, "rb") as file:
        order, elements = _header(path, file)
        vertices = _vertices(path, file, order, elements[0])
        if len(elements) == 1:
            return vertices, None
        element, count, properties = elements[1]
        match properties:
            case [["list", length, kind, "vertex_indices" | "vertex_index"]] if element == "face":
                for part in (length, kind):
                    if _TYPES.get(part, "f")[0] == "f":
                        raise ValueError(f"{path}: indices of faces must be integers, got {part}")
            case _:
                raise ValueError(
                    f"{path}: behind the vertices must come faces with a list vertex_indices and nothing else, got "
                    f"{element} with {', '.join(' '.join(p) for p in properties) or 'nothing'}"
                )
        faces = _rows(path, file, "faces", count, _triangle(order, _TYPES[length], _TYPES[kind]))
    if (faces["n"] != 3).any():
        bad = int((faces["n"] != 3).argmax())
        raise ValueError(f"{path}: faces must be triangles, face {bad} has {faces['n'][bad]} vertices")
    triangles = faces["vertex"].astype(np.int64)
    if len(triangles) and not 0 <= triangles.min() <= triangles.max() < len(vertices):
        raise ValueError(
            f"{path}: faces must be of its {len(vertices)} vertices, got {triangles.min()} to {triangles.max()}"
        )
    return vertices, triangles


def xyz_of(vertices: np.ndarray) -> np.ndarray:
    """(N, 3) float32."""
    return np.stack([vertices[name] for name in "xyz"], axis=1).astype(np.float32)


def colors_of(path: Path, vertices: np.ndarray) -> np.ndarray | None:
    """(N, 3) uint8; None where there are none.

    Raises:
        ValueError: red, green and blue are there but not uchar.
    """
    names = ("red", "green", "blue")
    if not set(names) <= set(vertices.dtype.names or ()):
        return None
    if any(vertices.dtype[name] != np.uint8 for name in names):
        raise ValueError(f"{path}: red, green and blue must be uchar, got {vertices.dtype['red']}")
    return np.stack([vertices[name] for name in names], axis=1)


def _triangle(order: str, length: str, kind: str) -> np.dtype:
    return np.dtype([("n", order + length), ("vertex", order + kind, (3,))])


def _header_of(vertices: np.ndarray) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property {_NAMES[vertices.dtype[n].str[1:]]} {n}" for n in vertices.dtype.names or ()]
    return "\n".join([*lines, ""]).encode()


_Element = tuple[str, int, list[list[str]]]  # name, count, and the words of each property


def _header(path: Path, file: BinaryIO) -> tuple[str, list[_Element]]:
    """The byte order and the elements, the first of them vertices."""
    if file.readline(_LONGEST_LINE).strip() != b"ply":
        raise ValueError(f"{path}: must be a PLY file, its first line is not 'ply'")
    order, elements = "", list[_Element]()
    for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
        match line.decode("ascii", "replace").split():
            case ["format", kind, *_]:
                if kind not in _BYTE_ORDER:
                    raise ValueError(f"{path}: must be a binary PLY, got format {kind}")
                order = _BYTE_ORDER[kind]
            case ["element", name, number]:
                if not elements and name != "vertex":
                    raise ValueError(f"{path}: the first element must be vertex, got {name}")
                if not (number.isascii() and number.isdigit() and len(number) < 19):
                    raise ValueError(f"{path}: element {name} must have a count, got {number[:40]}")
                elements.append((name, int(number), []))
            case ["property", *words] if elements:
                elements[-1][2].append(words)
            case ["end_header"]:
                if not elements or not order:
                    raise ValueError(f"{path}: the PLY header must have a format and vertices, got {order or 'none'}")
                return order, elements
    raise ValueError(f"{path}: the PLY header has no end_header")


def _vertices(path: Path, file: BinaryIO, order: str, element: _Element) -> np.ndarray:
    _, count, properties = element
    fields: list[tuple[str, str]] = []
    for words in properties:
        match words:
            case [kind, name]:
                if kind not in _TYPES:
                    raise ValueError(f"{path}: property {name} has the unknown type {kind}")
                fields.append((name, order + _TYPES[kind]))
            case _:
                raise ValueError(f"{path}: vertex properties must be scalars, got {' '.join(['property', *words])!r}")
    names = [name for name, _ in fields]
    if not {"x", "y", "z"} <= set(names):
        raise ValueError(f"{path}: vertices must have x, y and z, got {names}")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: vertex properties must have names of their own, got {names}")
    return _rows(path, file, "vertices", count, np.dtype(fields))


def _rows(path: Path, file: BinaryIO, what: str, count: int, dtype: np.dtype) -> np.ndarray:
    """The next rows of the file, which is long enough for them, or nothing is read."""
    left = os.fstat(file.fileno()).st_size - file.tell()
    if left < count * dtype.itemsize:
        raise ValueError(f"{path}: {count} {what} of {dtype.itemsize} bytes were wanted, the file ends after {left}")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)
