"""Are .mat files read as MATLAB wrote them, and is whatever is wrong with one an error that names it?"""

import io
import pickle
import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from pyproj2d3d.data.mat import (
    cell_texts,
    create_mat73,
    dataset73,
    mat_version,
    open_mat73,
    read_mat,
    texts73,
    write_mat,
    write_texts73,
)

SCIPYS = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"  # files that MATLAB wrote, if scipy has its tests


def element(kind, data, order="<"):
    return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, *parts, name=b"", flags=0, order="<"):
    head = element(6, struct.pack(order + "II", kind | flags, 0), order)
    sizes = element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, head + sizes + element(1, name, order) + b"".join(parts), order)


def write(path, *elements, order="<"):
    version = struct.pack(order + "HH", 0x0100, 0x4D49)
    path.write_bytes(b"MATLAB 5.0 MAT-file, by hand".ljust(124) + version + b"".join(elements))
    return path


def numbers(*values):
    """A row of doubles, without a name."""
    return matrix(6, (1, len(values)), element(9, struct.pack(f"<{len(values)}d", *values)))


def same(found, wanted):
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype.newbyteorder("=")
    if found.dtype.names:
        assert all(same(found[name], wanted[name]) for name in found.dtype.names)
    elif found.dtype == object:
        assert all(same(a, b) for a, b in zip(found.ravel(), wanted.ravel(), strict=True))
    else:
        assert np.array_equal(found, wanted, equal_nan=found.dtype.kind == "f")
    return True


@pytest.fixture
def variables():
    cell = np.empty((2, 2), dtype=object)
    cell[:] = [["a", "b c"], ["", np.array([[1, 2]], np.uint8)]]
    return {
        "number": np.array([[7.5]]),
        "table": np.arange(12, dtype=np.int16).reshape(3, 4),
        "solid": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "complex": np.array([[1 + 2j, 3]]),
        "text": "words of it",
        "cell": cell,
        "struct": {"x": np.array([[1.0, 2.0]]), "inner": {"y": "z", "cell": cell}},
        "list": np.array([(1, "a"), (2, "b")], dtype=[("id", object), ("name", object)]),
        "nothing": np.zeros((0, 0)),
    }


# Version 5 and 7.


@pytest.mark.parametrize("order", ["<", ">"])
def test_bytes_by_hand_are_the_numbers_they_say(tmp_path, order):
    doubles = element(9, struct.pack(order + "6d", 1, 2, 3, 4, 5, 6), order)
    within_the_tag = struct.pack(order + "HH", *((3, 2) if order == "<" else (2, 3)))  # 2 bytes of int16
    small = within_the_tag + struct.pack(order + "h", -5) + bytes(2)
    path = write(
        tmp_path / "a.mat",
        matrix(6, (2, 3), doubles, name=b"columns_first", order=order),
        matrix(10, (1, 1), small, name=b"s", order=order),
        order=order,
    )
    found = read_mat(path)
    assert list(found) == ["columns_first", "s"]
    assert found["columns_first"].tolist() == [[1, 3, 5], [2, 4, 6]]
    assert found["s"].tolist() == [[-5]]
    assert found["s"].dtype == np.int16


@pytest.mark.parametrize("compressed", [False, True])
def test_files_of_another_writer_are_read_as_another_reader_reads_them(tmp_path, variables, compressed):
    scipy.io.savemat(tmp_path / "a.mat", variables, do_compression=compressed)
    wanted = scipy.io.loadmat(tmp_path / "a.mat")
    found = read_mat(tmp_path / "a.mat")
    assert list(found) == list(variables)
    for name in variables:
        assert same(found[name], wanted[name])
    assert found["text"].tolist() == ["words of it"]
    assert found["struct"]["inner"][0, 0]["y"][0, 0].tolist() == ["z"]


def test_files_that_matlab_wrote_are_read_as_another_reader_reads_them():
    """All that scipy reads whole and that holds nothing but numbers, text, cells and structs."""
    paths = [p for p in sorted(SCIPYS.glob("test*_[67].*.mat")) if not re.search("object|func|sparse|hdf5", p.name)]
    if not paths:
        pytest.skip("this scipy came without its tests")
    assert len(paths) > 40
    for path in paths:
        found = read_mat(path)
        wanted = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
        assert found.keys() == wanted.keys()
        assert all(same(found[name], wanted[name]) for name in wanted)


def test_only_the_variables_asked_for_are_returned(tmp_path, variables):
    scipy.io.savemat(tmp_path / "a.mat", variables, do_compression=True)
    assert list(read_mat(tmp_path / "a.mat", "text", "number")) == ["number", "text"]


def test_a_broken_variable_that_is_not_asked_for_does_no_harm(tmp_path):
    sparse = matrix(5, (9, 9), name=b"sparse")
    path = write(tmp_path / "a.mat", sparse, matrix(6, (1, 1), element(9, struct.pack("<d", 3)), name=b"good"))
    assert read_mat(path, "good")["good"].tolist() == [[3]]


def test_what_is_written_comes_back_and_has_the_same_bytes_at_any_time(tmp_path, variables, monkeypatch):
    write_mat(tmp_path / "a.mat", variables)
    monkeypatch.setattr("time.asctime", lambda *_: "Fri Feb 30 25:61:61 2099")
    write_mat(tmp_path / "b.mat", variables)
    assert (tmp_path / "a.mat").read_bytes() == (tmp_path / "b.mat").read_bytes()
    assert same(read_mat(tmp_path / "b.mat")["cell"], scipy.io.loadmat(tmp_path / "a.mat")["cell"])


def test_texts_of_a_cell_come_in_the_order_of_matlab(tmp_path):
    cell = np.array([["a", "c"], ["b", ""]], dtype=object)
    write_mat(tmp_path / "a.mat", {"cell": cell})
    assert cell_texts(read_mat(tmp_path / "a.mat")["cell"]) == ("a", "b", "c", "")


@pytest.mark.parametrize("other", [np.array([["text"]]), np.array([[1.0]]), [["a", np.zeros((1, 1))]]])
def test_what_is_no_cell_of_texts_is_an_error(other):
    with pytest.raises(ValueError, match="must be a cell array of texts"):
        cell_texts(np.array(other) if isinstance(other, np.ndarray) else np.array(other, dtype=object))


def test_the_real_tables_of_nyu_are_read(real_data):
    tables = real_data("label_tables")
    mapping = read_mat(tables / "nyu_classMapping40.mat")
    assert cell_texts(mapping["className"])[:3] == ("wall", "floor", "cabinet")
    assert mapping["mapClass"].shape == (1, 894)
    assert len(cell_texts(mapping["allClassName"])) == 894
    of_13 = read_mat(tables / "nyu_class13Mapping.mat", "classMapping13")["classMapping13"]
    assert cell_texts(of_13["classNames"][0, 0])[::12] == ("bed", "window")


def test_of_structs_only_the_fields_that_are_wanted_are_decoded(tmp_path):
    """However deep they are."""
    path = tmp_path / "a.mat"
    write_mat(path, {"struct": {"x": np.array([[1.0, 2.0]]), "inner": {"y": "z", "x": "w"}, "other": "words"}})
    found = read_mat(path, "struct", fields=("x", "inner"))["struct"][0, 0]
    assert found.dtype.names == ("x", "inner")
    assert found["x"].tolist() == [[1, 2]]
    assert found["inner"].dtype.names == ("x",)
    assert found["inner"]["x"][0, 0].tolist() == ["w"]
    assert read_mat(path, "struct", fields=())["struct"].shape == (1, 1)


@pytest.mark.parametrize(
    "error", [MemoryError("too much"), PermissionError(13, "Permission denied"), OSError(5, "Input/output error")]
)
def test_what_is_no_fault_of_a_file_stays_what_it_is(tmp_path, monkeypatch, error):
    write(tmp_path / "a.mat", numbers(1))

    def broken(self):
        raise error

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(type(error)) as raised:
        read_mat(tmp_path / "a.mat")
    assert raised.value is error


# What is wrong with a file of version 5.


def says(path, text):
    return re.escape(str(path)) + ".*" + re.escape(text)


def test_a_missing_file_a_folder_and_a_foreign_file_are_errors(tmp_path):
    for read in (read_mat, open_mat73):
        with pytest.raises(FileNotFoundError, match=says(tmp_path / "a.mat", "must be a .mat file, there is none")):
            read(tmp_path / "a.mat")
        with pytest.raises(FileNotFoundError, match=says(tmp_path, "must be a .mat file, got a folder")):
            read(tmp_path)
        for foreign in (b"", b"PK\x03\x04", pickle.dumps({"a": np.zeros(3)}), bytes(600)):
            (tmp_path / "b.mat").write_bytes(foreign)
            with pytest.raises(ValueError, match=says(tmp_path / "b.mat", "must be a .mat file of MATLAB, got a file")):
                read(tmp_path / "b.mat")


def test_each_version_says_that_it_is_not_the_other(tmp_path):
    write_mat(tmp_path / "5.mat", {"a": 1})
    create_mat73(tmp_path / "73.mat").close()
    assert (mat_version(tmp_path / "5.mat"), mat_version(tmp_path / "73.mat")) == (5, 7.3)
    with pytest.raises(
        ValueError, match=says(tmp_path / "73.mat", "must be a .mat file of version 5 or 7, got one of")
    ):
        read_mat(tmp_path / "73.mat")
    with pytest.raises(
        ValueError, match=says(tmp_path / "5.mat", "must be a .mat file of version 7.3 (HDF5), got one")
    ):
        open_mat73(tmp_path / "5.mat")


def test_a_missing_variable_says_which_there_are(tmp_path):
    write_mat(tmp_path / "a.mat", {"one": 1, "two": 2})
    with pytest.raises(ValueError, match=says(tmp_path / "a.mat", "must have a variable three, got one, two")):
        read_mat(tmp_path / "a.mat", "one", "three")


OPAQUE = element(14, element(6, struct.pack("<II", 17, 0)) + element(1, b"a") + element(1, b"MCOS") + numbers(1))


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        (matrix(3, (1, 1), name=b"a"), "an object"),
        (matrix(5, (1, 1), name=b"a"), "a sparse matrix"),
        (matrix(16, (1, 1), name=b"a"), "a function"),
        (OPAQUE, "an object"),
        (matrix(1, (1, 1), matrix(16, (1, 1)), name=b"a"), "a function"),
        (matrix(1, (1, 1), OPAQUE, name=b"a"), "an object"),
    ],
)
@pytest.mark.parametrize("names", [(), ("a",)])
def test_objects_functions_and_sparse_matrices_are_refused(tmp_path, stored, what, names):
    path = write(tmp_path / "a.mat", stored)
    with pytest.raises(ValueError, match=says(path, f"{what} is not read, only numbers, text, cells and structs are")):
        read_mat(path, *names)


def struct_array(shape, count):
    names = b"".join(b"field%d\0" % i for i in range(count))
    return matrix(2, shape, element(5, struct.pack("<i", 7)), element(1, names), name=b"a")


@pytest.mark.parametrize(
    "stored",
    [
        matrix(1, (2**31 - 1, 1), name=b"a"),
        matrix(1, (2**31 - 1, 2**31 - 1, 2**31 - 1), numbers(1), name=b"a"),
        matrix(1, (-1, -1), numbers(1), name=b"a"),
        struct_array((2**20, 2**10), 1),
        struct_array((2**31 - 1, 1), 2),
        matrix(4, (1, 3), element(9, bytes(24)), name=b"a"),
        matrix(4, (2, 2**30), element(16, b"abcd"), name=b"a"),
        matrix(4, (1, 2), element(16, b"\x80\xff"), name=b"a"),
        matrix(6, (2**31 - 1, 2**31 - 1), element(9, bytes(8)), name=b"a"),
        matrix(6, (1, 2), element(9, bytes(8)), name=b"a"),
        matrix(6, (1, 1), element(8, bytes(8)), name=b"a"),
        matrix(6, (1, 1), element(9, bytes(8)), name=b"a", flags=0x800),
        matrix(6, (1, 1), struct.pack("<II", 9, 2**32 - 1), name=b"a"),
        element(15, zlib.compress(struct.pack("<II", 14, 2**32 - 1) + matrix(6, (1, 1), numbers(1))[8:])),
        element(15, zlib.compress(matrix(6, (1, 1), element(9, bytes(8)), name=b"a"))[:-3]),
        element(15, zlib.compress(bytes(5000))),
        element(9, bytes(8)),
        b"\x0e\0\0",
    ],
)
def test_a_header_that_lies_is_an_error_before_anything_is_allocated(tmp_path, stored):
    path = write(tmp_path / "a.mat", stored)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=says(path, "cannot be read as a .mat file")):
            read_mat(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_cells_within_cells_without_end_are_an_error(tmp_path):
    stored = numbers(1)
    for depth in range(400):
        stored = matrix(1, (1, 1), stored, name=b"" if depth < 399 else b"a")
    path = write(tmp_path / "a.mat", stored)
    with pytest.raises(ValueError, match=says(path, "nested more than 50 deep")):
        read_mat(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_every_cut_of_a_file_is_an_error_or_leaves_whole_variables(tmp_path, variables, compressed):
    file, path = io.BytesIO(), tmp_path / "a.mat"
    scipy.io.savemat(file, variables, do_compression=compressed)
    data, harmless = file.getvalue(), 0
    for n in range(0, len(data), 3):
        path.write_bytes(data[:n])
        try:
            found = read_mat(path)
        except ValueError as error:
            said = str(error)
            assert said.startswith(str(path))
            continue
        assert all(same(found[name], scipy.io.loadmat(io.BytesIO(data))[name]) for name in found)
        harmless += 1
    assert harmless <= len(variables)


def test_changed_bytes_are_errors_or_other_values(tmp_path, variables):
    random, said, path = np.random.default_rng(0), [], tmp_path / "a.mat"
    for compressed in (False, True):
        file = io.BytesIO()
        scipy.io.savemat(file, variables, do_compression=compressed)
        for _ in range(600):
            data = bytearray(file.getvalue())
            for at in random.integers(128, len(data), 2):
                data[at] = random.choice([0, 1, 4, 14, 127, 255, data[at] ^ 1])
            path.write_bytes(data)
            try:
                assert all(isinstance(value, np.ndarray) for value in read_mat(path).values())
            except ValueError as error:
                said.append(str(error))
    assert all(text.startswith(str(path)) for text in said)
    assert len(said) > 600


# Version 7.3.


@pytest.fixture
def path(tmp_path):
    with create_mat73(tmp_path / "a.mat") as file:
        file.create_dataset("numbers", data=np.arange(6.0).reshape(2, 3), chunks=(1, 3), compression="gzip")
        write_texts73(file, "texts", ["one", "", "drei", "\N{GREEK SMALL LETTER ALPHA}"])
    return tmp_path / "a.mat"


def test_a_file_that_is_written_opens_and_begins_as_matlab_has_it(path):
    data = path.read_bytes()
    assert data.startswith(b"MATLAB 7.3 MAT-file, ")
    assert data[124:128] == b"\0\2IM"
    assert data[512:520] == b"\x89HDF\r\n\x1a\n"
    with open_mat73(path) as file:
        assert dataset73(file, "numbers")[1].tolist() == [3, 4, 5]
        assert texts73(file, "texts") == ("one", "", "drei", "\N{GREEK SMALL LETTER ALPHA}")


def test_a_missing_variable_of_version_7_3_says_which_there_are(path):
    with (
        open_mat73(path) as file,
        pytest.raises(ValueError, match=says(path, "must have a variable depths, got numbers, texts")),
    ):
        dataset73(file, "depths")


def test_what_lies_in_another_file_is_refused(path, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["a"] = np.arange(4.0)
    (tmp_path / "raw").write_bytes(bytes(32))
    layout = h5py.VirtualLayout((4,), np.float64)
    layout[:] = h5py.VirtualSource(str(secret), "a", shape=(4,))
    with h5py.File(path, "r+") as file:
        file["external link"] = h5py.ExternalLink(str(secret), "/a")
        file["soft link"] = h5py.SoftLink("/numbers")
        file["group"] = h5py.SoftLink("/#refs#")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (4,), np.float64, external=str(tmp_path / "raw"))
    with open_mat73(path) as file:
        for name in ("external link", "soft link", "group", "#refs#"):
            with pytest.raises(ValueError, match=says(path, f"{name} must be an array within the file, got a link or")):
                dataset73(file, name)
        for name in ("virtual", "raw"):
            with pytest.raises(ValueError, match=says(path, f"{name} must be an array within the file, got one that")):
                dataset73(file, name)


def test_an_array_of_fewer_bytes_than_its_shape_is_an_error(path):
    with h5py.File(path, "r+") as file:
        file.create_dataset("huge", (10**6, 10**6), np.float32, chunks=(1, 1000), compression="gzip")
        file["shapeless"] = h5py.Empty(np.float32)
    with open_mat73(path) as file:
        with pytest.raises(ValueError, match=says(path, "huge must hold (1000000, 1000000) values of float32, got 0")):
            dataset73(file, "huge")
        with pytest.raises(ValueError, match=says(path, "shapeless must be an array, got an empty one")):
            dataset73(file, "shapeless")


def test_a_cell_of_something_else_than_texts_is_an_error(path):
    with h5py.File(path, "r+") as file:
        references = np.empty((1, 1), dtype=h5py.ref_dtype)
        references[0, 0] = file["numbers"].ref
        file.create_dataset("cell", data=references, dtype=h5py.ref_dtype)
        file.create_dataset("table", data=np.tile(references, (2, 2)), dtype=h5py.ref_dtype)
        references[0, 0] = file["#refs#"].ref
        file.create_dataset("groups", data=references, dtype=h5py.ref_dtype)
        file.create_dataset("nowhere", (1, 1), dtype=h5py.ref_dtype, data=np.empty((1, 1), dtype=h5py.ref_dtype))
    with open_mat73(path) as file:
        for name in ("numbers", "table"):
            with pytest.raises(ValueError, match=says(path, f"{name} must be a cell array of one row")):
                texts73(file, name)
        with pytest.raises(ValueError, match=says(path, "a text was wanted, got float64 of shape (2, 3)")):
            texts73(file, "cell")
        for name in ("groups", "nowhere"):
            with pytest.raises(ValueError, match=says(path, f"{name} cannot be read")):
                texts73(file, name)


def test_every_cut_of_a_file_of_version_7_3_is_an_error(path, tmp_path):
    data = path.read_bytes()
    for n in range(0, len(data), 41):
        cut = tmp_path / f"{n}.mat"
        cut.write_bytes(data[:n])
        with pytest.raises(ValueError, match="^" + re.escape(str(cut))):
            open_mat73(cut)
