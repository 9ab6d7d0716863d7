"""How is a point cloud kept in a file? Binary PLY of points with colours and labels, which every viewer opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4"},
    **{"double": "f8", "float64": "f8"},
}
_BYTE_ORDER = {"binary_little_endian": "<", "binary_big_endian": ">"}
_CLOUD = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("label", "u2")]


def write_ply(path: Path, points: np.ndarray, colors: np.ndarray, labels: np.ndarray) -> None:
    """(N, 3) points kept in float32, (N, 3) uint8 colours and (N,) labels of 0 to 65535, as a binary PLY."""
    vertices = np.empty(len(points), dtype=[(name, "<" + kind) for name, kind in _CLOUD])
    for column, name in enumerate("xyz"):
        vertices[name] = points[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertices[name] = colors[:, column]
    vertices["label"] = labels
    names = {"f4": "float", "u1": "uchar", "u2": "ushort"}
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property {names[kind]} {name}" for name, kind in _CLOUD] + ["end_header", ""]
    path.write_bytes("\n".join(header).encode() + vertices.tobytes())


def read_ply(path: Path) -> np.ndarray:
    """The vertices of a binary PLY as a structured array, one field per property. Faces behind them are not read.

    Raises:
        ValueError: no binary PLY whose first element is ``vertex`` with x, y, z, or one that ends too early.
    """
    with open(path, "rb") as file:
        if file.readline().strip() != b"ply":
            raise ValueError(f"{path}: must be a PLY file, its first line is not 'ply'")
        order, count, fields, element = "", -1, [], ""
        for line in file:
            match line.decode("ascii", "replace").split():
                case ["format", kind, *_]:
                    if kind not in _BYTE_ORDER:
                        raise ValueError(f"{path}: must be a binary PLY, got format {kind}")
                    order = _BYTE_ORDER[kind]
                case ["element", name, number]:
                    if not element and name != "vertex":
                        raise ValueError(f"{path}: the first element must be vertex, got {name}")
                    element = name
                    count = int(number) if name == "vertex" else count
                case ["property", kind, name] if element == "vertex":
                    if kind not in _TYPES:
                        raise ValueError(f"{path}: property {name} has the unknown type {kind}")
                    fields.append((name, order + _TYPES[kind]))
                case ["property", *_] if element == "vertex":
                    raise ValueError(f"{path}: vertex properties must be scalars, got {line.decode().strip()!r}")
                case ["end_header"]:
                    break
        else:
            raise ValueError(f"{path}: the PLY header has no end_header")
        if not {"x", "y", "z"} <= {name for name, _ in fields} or not order:
            raise ValueError(f"{path}: vertices must have x, y and z, got {[name for name, _ in fields]}")
        dtype = np.dtype(fields)
        data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ValueError(
            f"{path}: {count} vertices of {dtype.itemsize} bytes were wanted, the file ends after {len(data)}"
        )
    return np.frombuffer(data, dtype)
