"""Do clouds survive the way through a file, and are broken files named?"""

import numpy as np
import pytest

from pyproj2d3d.data.ply import read_ply, write_ply


def header(*properties, count=2, order="binary_little_endian", more=()):
    lines = ["ply", f"format {order} 1.0", "comment by hand", f"element vertex {count}"]
    return "\n".join([*lines, *(f"property {p}" for p in properties), *more, "end_header", ""]).encode()


def test_a_cloud_comes_back_as_it_was_written(tmp_path):
    random = np.random.default_rng(0)
    points = random.normal(size=(50, 3)).astype(np.float32)
    colors, labels = random.integers(0, 256, (50, 3)).astype(np.uint8), random.integers(0, 65536, 50)
    write_ply(tmp_path / "a.ply", points, colors, labels)
    vertices = read_ply(tmp_path / "a.ply")
    assert (np.stack([vertices[n] for n in "xyz"], axis=1) == points).all()
    assert (np.stack([vertices[n] for n in ("red", "green", "blue")], axis=1) == colors).all()
    assert (vertices["label"] == labels).all()


def test_an_empty_cloud_comes_back_empty(tmp_path):
    write_ply(tmp_path / "a.ply", np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0))
    assert len(read_ply(tmp_path / "a.ply")) == 0


@pytest.mark.parametrize(("order", "sign"), [("binary_little_endian", "<"), ("binary_big_endian", ">")])
def test_other_properties_types_byte_orders_and_faces_do_not_disturb(tmp_path, order, sign):
    vertices = np.array([(1, 2, 3, 7), (4, 5, 6, 8)], dtype=[(n, sign + "f8") for n in "xyz"] + [("nx", sign + "i2")])
    text = header(
        *(f"double {n}" for n in "xyz"),
        *("short nx",),
        order=order,
        more=("element face 1", "property list uchar int vertex_indices"),
    )
    (tmp_path / "a.ply").write_bytes(text + vertices.tobytes() + b"\x03" + bytes(12))
    read = read_ply(tmp_path / "a.ply")
    assert [tuple(row) for row in read.tolist()] == [(1, 2, 3, 7), (4, 5, 6, 8)]


XYZ = ("float x", "float y", "float z")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"PK\x03\x04", "must be a PLY file"),
        (header(*XYZ, order="ascii"), "must be a binary PLY, got format ascii"),
        (header(*XYZ) + bytes(23), "2 vertices of 12 bytes were wanted, the file ends after 23"),
        (header("float x", "float y"), r"vertices must have x, y and z, got \['x', 'y'\]"),
        (header("float x", "real y", "float z"), "property y has the unknown type real"),
        (header(*XYZ, "list uchar int n"), "vertex properties must be scalars, got 'property list uchar int n'"),
        (b"ply\nformat binary_little_endian 1.0\nelement face 3\n", "the first element must be vertex, got face"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 3\n", "has no end_header"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, text):
    (tmp_path / "broken.ply").write_bytes(content)
    with pytest.raises(ValueError, match=text) as error:
        read_ply(tmp_path / "broken.ply")
    assert str(tmp_path / "broken.ply") in str(error.value)
