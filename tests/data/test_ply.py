"""Do clouds survive the way through a file, and are broken files named?"""

import numpy as np
import pytest

from pyproj2d3d.data.ply import read_mesh_ply, read_ply, write_mesh_ply, write_ply


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


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (header(*XYZ, count=10**15), "1000000000000000 vertices of 12 bytes were wanted, the file ends after 0"),
        (header(*XYZ, count=-1), "element vertex must have a count, got -1"),
        (header(*XYZ, count="9" * 30), "element vertex must have a count, got 9999"),
        (header(*XYZ, "float x") + bytes(99), "vertex properties must have names of their own, got"),
        (b"ply\nformat binary_little_endian 1.0\nend_header\n", "must have a format and vertices"),
        (b"ply\n" + b"x" * 10_000_000, "has no end_header"),
    ],
)
def test_a_header_that_lies_is_named_before_anything_is_allocated(tmp_path, content, text):
    (tmp_path / "broken.ply").write_bytes(content)
    with pytest.raises(ValueError, match=text) as error:
        read_ply(tmp_path / "broken.ply")
    assert str(error.value).startswith(str(tmp_path / "broken.ply"))


LIST = ("element face 1", "property list uchar int vertex_indices")
ONE_FACE = b"\x03" + np.array([2, 0, 1], "<i4").tobytes()


def test_a_mesh_comes_back_as_it_was_written(tmp_path):
    random = np.random.default_rng(0)
    vertices = np.zeros(20, dtype=[("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("label", "<u2")])
    vertices["y"], vertices["label"] = random.normal(size=20), random.integers(0, 65536, 20)
    faces = random.integers(0, 20, (30, 3))
    write_mesh_ply(tmp_path / "a.ply", vertices, faces)
    read, triangles = read_mesh_ply(tmp_path / "a.ply")
    assert read.dtype == vertices.dtype
    assert (read == vertices).all()
    assert triangles.dtype == np.int64
    assert (triangles == faces).all()
    assert (read_ply(tmp_path / "a.ply") == vertices).all()


@pytest.mark.parametrize(("order", "sign"), [("binary_little_endian", "<"), ("binary_big_endian", ">")])
def test_a_mesh_packed_by_hand_is_read(tmp_path, order, sign):
    text = header(*XYZ, order=order, count=3, more=("element face 2", "property list uchar uint vertex_index"))
    faces = b"".join(b"\x03" + np.array(f, sign + "u4").tobytes() for f in ([0, 1, 2], [2, 1, 0]))
    (tmp_path / "a.ply").write_bytes(text + np.arange(9, dtype=sign + "f4").tobytes() + faces)
    vertices, triangles = read_mesh_ply(tmp_path / "a.ply")
    assert vertices["y"].tolist() == [1, 4, 7]
    assert triangles.tolist() == [[0, 1, 2], [2, 1, 0]]


def test_a_cloud_has_no_faces_and_a_mesh_may_have_none(tmp_path):
    (tmp_path / "a.ply").write_bytes(header(*XYZ) + bytes(24))
    assert read_mesh_ply(tmp_path / "a.ply")[1] is None
    write_mesh_ply(tmp_path / "b.ply", np.zeros(0, [(n, "<f4") for n in "xyz"]), np.zeros((0, 3)))
    assert read_mesh_ply(tmp_path / "b.ply")[1].shape == (0, 3)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (header(*XYZ, count=3, more=LIST) + bytes(36) + ONE_FACE[:-1], "1 faces of 13 bytes were wanted.*after 12"),
        (header(*XYZ, count=2, more=LIST) + bytes(24) + ONE_FACE, "faces must be of its 2 vertices, got 0 to 2"),
        (
            header(*XYZ, count=2, more=LIST) + bytes(24) + b"\x03" + b"\xff" * 12,
            "faces must be of its 2 vert.*-1 to -1",
        ),
        (header(*XYZ, count=3, more=LIST) + bytes(36) + b"\x04" + bytes(16), "triangles, face 0 has 4 vertices"),
        (
            header(*XYZ, more=("element edge 1", "property int vertex1")) + bytes(99),
            "behind the vertices must come faces with a list vertex_indices .*, got edge with int vertex1",
        ),
        (
            header(*XYZ, more=("element face 1", "property list uchar float vertex_indices")) + bytes(99),
            "indices of faces must be integers, got float",
        ),
        (header(*XYZ, more=("element face 1",)) + bytes(99), "got face with nothing"),
    ],
)
def test_broken_faces_are_named(tmp_path, content, text):
    (tmp_path / "broken.ply").write_bytes(content)
    with pytest.raises(ValueError, match=text) as error:
        read_mesh_ply(tmp_path / "broken.ply")
    assert str(error.value).startswith(str(tmp_path / "broken.ply"))


def test_every_cut_of_a_mesh_is_an_error_that_names_it(tmp_path):
    data = header(*XYZ, count=3, more=LIST) + bytes(36) + ONE_FACE
    for n in range(len(data)):
        (tmp_path / "cut.ply").write_bytes(data[:n])
        with pytest.raises(ValueError, match=r"cut\.ply: "):
            read_mesh_ply(tmp_path / "cut.ply")
