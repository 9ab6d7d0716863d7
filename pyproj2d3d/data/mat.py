"""How are MATLAB's files read safely? Versions 5 and 7 byte by byte, and 7.3, which is HDF5, through h5py."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

_HDF5 = b"\x89HDF\r\n\x1a\n"
_DEFLATE = 1032  # no byte of what gzip packed makes more than these many

# Version 5 (MathWorks, MAT-File Format): types of elements, and the classes of those that are matrices.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_MATRIX, _COMPRESSED = 14, 15
_TAG = {order: struct.Struct(order + "II").unpack_from for order in "<>"}
_CELL, _STRUCT, _CHAR, _OPAQUE = 1, 2, 4, 17
_REFUSED = {3: "an object", 5: "a sparse matrix", 16: "a function", _OPAQUE: "an object"}


def read_mat(path: str | os.PathLike[str], *names: str, fields: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The named variables of a .mat file of version 5 or 7; all of them where none is named.

    Of structs, however deep, only the named ``fields`` are decoded, where they are given; the others are left out.

    Arrays have MATLAB's shapes: a number is (1, 1), a list (1, N) or (N, 1), text an array of one str ((0,) if empty),
    a cell array an array of objects, a struct array a structured array whose fields are objects; all as ``loadmat`` of
    scipy gives them. Numbers have the type they are stored in, so doubles that are whole may be integers. The format
    has no code in it. Objects and functions of MATLAB, and sparse matrices, are refused.

    This does not use ``loadmat``: scipy 1.17 dies of broken files (segmentation faults within a thousand changed bytes)
    and allocates what a header asks for. Here nothing is allocated that the file does not hold.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another version, no MATLAB file, a cut or corrupted one, or one without a variable of that name.
    """
    path = Path(path)
    if mat_version(path) != 5:
        raise ValueError(f"{path}: must be a .mat file of version 5 or 7, got one of version 7.3 (HDF5)")
    found: dict[str, np.ndarray] = {}
    there = []
    with named_errors(path, "cannot be read as a .mat file"):
        data = memoryview(path.read_bytes())
        order = "<" if data[126:128] == b"IM" else ">"
        for kind, element in _elements(data[128:], order):
            head = element
            if kind == _COMPRESSED:
                head = memoryview(zlib.decompressobj().decompress(element, 4096))
                kind, head = struct.unpack_from(order + "I", head)[0], head[8:]
            if kind != _MATRIX:
                raise ValueError(f"a matrix was wanted, got an element of type {kind}")
            name = _name(head, order)
            there.append(name)
            if name and (not names or name in names):  # what has no name is the workspace of functions
                if head is not element:
                    ((_, element),) = _elements(memoryview(zlib.decompress(element)), order)
                found[name] = _value(element, order, 0, fields)
    for name in names:
        if name not in found:
            raise ValueError(f"{path}: must have a variable {name}, got {', '.join(filter(None, there)) or 'none'}")
    return found


def write_mat(path: Path, variables: dict[str, Any]) -> None:
    """A .mat file of version 7 with equal bytes whenever it is written: the date in its header is fixed."""
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, variables, do_compression=True, oned_as="column")
    path.write_bytes(_header("MATLAB 5.0 MAT-file") + file.getvalue()[116:])


def cell_texts(cell: np.ndarray) -> tuple[str, ...]:
    """The texts of a cell array of :func:`read_mat`, in MATLAB's order.

    Raises:
        ValueError: it is no cell array, or one of something else than text.
    """
    texts = []
    for value in cell.ravel(order="F") if cell.dtype == object else [cell]:
        if not isinstance(value, np.ndarray) or value.dtype.kind != "U" or value.size > 1 or cell.dtype != object:
            raise ValueError(f"must be a cell array of texts, got {cell.dtype} with {str(value)[:50]}")
        texts.append(str(value[0]) if value.size else "")
    return tuple(texts)


def mat_version(path: Path) -> float:
    """5 or 7.3, by the first bytes. The version 7 of MATLAB is 5 with compression; 7.3 is HDF5."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: must be a .mat file, {'got a folder' if path.is_dir() else 'there is none'}")
    with open(path, "rb") as file:
        head = file.read(128)
        file.seek(512)
        if head.startswith(_HDF5) or file.read(8) == _HDF5:
            return 7.3
    if len(head) == 128 and head[126:128] in (b"IM", b"MI"):
        return 5
    raise ValueError(f"{path}: must be a .mat file of MATLAB, got a file that begins with {head[:16]!r}")


def _header(kind: str, schema: str = "") -> bytes:
    return f"{kind}, Platform: any, Created on: Thu Jan  1 00:00:00 1970{schema}".encode().ljust(116)


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The type and the bytes of each element of a file, or of a matrix, which is a row of elements itself."""
    position = 0
    while position < len(data):
        kind, size = _TAG[order](data, position)
        start, after = position + 8, position + 8 + (size if kind == _COMPRESSED else (size + 7) // 8 * 8)
        if kind >> 16:  # up to 4 bytes lie within the tag
            kind, size, start, after = kind & 0xFFFF, kind >> 16, position + 4, position + 8
        if size > (4 if start == position + 4 else len(data) - start):
            raise ValueError(f"an element of {size} bytes was wanted, there are {len(data) - start}")
        yield kind, data[start : start + size]
        position = after


def _name(matrix: memoryview, order: str) -> str:
    if not len(matrix):
        return ""
    head = [part for _, part in islice(_elements(matrix, order), 3)]  # flags, sizes, name; what is opaque has no sizes
    return bytes(head[1 if _class(head[0], order) == _OPAQUE else 2]).decode("latin1")


def _class(flags: memoryview, order: str) -> int:
    return struct.unpack_from(order + "I", flags)[0] & 0xFF


def _value(matrix: memoryview, order: str, depth: int, fields: Collection[str] | None) -> np.ndarray:
    if not len(matrix):  # how an empty one may be written
        return np.zeros((0, 0))
    if depth > 50:
        raise ValueError("cells and structs are nested more than 50 deep")
    (_, flags), *parts = _elements(matrix, order)
    kind = _class(flags, order)
    if kind in _REFUSED:
        raise ValueError(f"{_REFUSED[kind]} is not read, only numbers, text, cells and structs are")
    (_, sizes), _, *parts = parts  # the second is the name
    shape = struct.unpack_from(f"{order}{len(sizes) // 4}i", sizes)
    if kind == _CELL:
        return _objects(parts, order, depth, fields).reshape(shape, order="F")
    if kind == _STRUCT:
        (_, length), (_, text), *parts = parts
        width = struct.unpack_from(order + "i", length)[0]
        names = [bytes(text[i : i + width]).split(b"\0")[0].decode("latin1") for i in range(0, len(text), width)]
        count = math.prod(shape)
        if len(parts) != len(names) * count:
            raise ValueError(f"{len(names)} fields of {count} structs were wanted, got {len(parts)} elements")
        wanted = [name for name in names if fields is None or name in fields]
        array = np.empty(count, dtype=[(name, object) for name in wanted])
        for name in wanted:
            array[name] = _objects(parts[names.index(name) :: len(names)], order, depth, fields)
        return array.reshape(shape, order="F")
    stored, data = parts[0]
    if kind == _CHAR:
        return _text(bytes(data).decode(_TEXTS[stored] + {"<": "-le", ">": "-be"}[order] * (stored in (4, 17))), shape)
    numbers = _numbers(stored, data, order)
    if struct.unpack_from(order + "I", flags)[0] & 0x800:
        numbers = numbers + 1j * _numbers(*parts[1], order)
    return numbers.reshape(shape, order="F")


def _numbers(stored: int, data: memoryview, order: str) -> np.ndarray:
    dtype = np.dtype(order + _NUMBERS[stored])
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))


def _objects(
    parts: Sequence[tuple[int, memoryview]], order: str, depth: int, fields: Collection[str] | None
) -> np.ndarray:
    values = np.empty(len(parts), dtype=object)
    for i, (kind, part) in enumerate(parts):
        if kind != _MATRIX:
            raise ValueError(f"a matrix was wanted, got an element of type {kind}")
        values[i] = _value(part, order, depth + 1, fields)
    return values


def _text(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """One text, or one for each row of a table of characters."""
    if not text:
        return np.zeros(0, dtype="U1")
    if shape[0] == 1:
        return np.array([text])
    return np.array(["".join(row) for row in np.array(list(text)).reshape(shape, order="F").tolist()])


def open_mat73(path: str | os.PathLike[str]) -> Any:
    """An ``h5py.File`` of a .mat file of version 7.3, to be closed by the caller. Axes are those of MATLAB reversed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another version, no MATLAB file, or one that is cut or whose superblock is corrupted.
    """
    import h5py

    path = Path(path)
    if mat_version(path) != 7.3:
        raise ValueError(f"{path}: must be a .mat file of version 7.3 (HDF5), got one of version 5 or 7")
    with named_errors(path, "cannot be opened as HDF5, is it truncated?"):
        return h5py.File(path, "r")


def dataset73(file: Any, name: str) -> Any:
    """The ``h5py.Dataset`` of that name, its values within the file itself, and as many as its shape says.

    Raises:
        ValueError: there is none, it is a link or kept in other files, or the file holds too few bytes for its shape.
    """
    import h5py

    path = file.filename
    with named_errors(path, f"{name} cannot be read, is the file truncated?"):
        if name not in file:
            there = ", ".join(key for key in file if not key.startswith("#"))
            raise ValueError(f"{path}: must have a variable {name}, got {there or 'none'}")
        if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
            raise ValueError(f"{path}: {name} must be an array within the file, got a link or a group")
        dataset = file[name]
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"{path}: {name} must be an array within the file, got one that is kept in other files")
        if dataset.shape is None:
            raise ValueError(f"{path}: {name} must be an array, got an empty one without a shape")
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > _DEFLATE * stored:
            raise ValueError(f"{path}: {name} must hold {dataset.shape} values of {dataset.dtype}, got {stored} bytes")
        return dataset


def texts73(file: Any, name: str) -> tuple[str, ...]:
    """The texts of a cell array (N x 1 or 1 x N), in order.

    Raises:
        ValueError: there is no such variable, or it is no cell array of texts.
    """
    import h5py

    cell = dataset73(file, name)
    if cell.dtype != h5py.ref_dtype or sorted(cell.shape)[:-1] != [1] * (cell.ndim - 1):
        raise ValueError(f"{file.filename}: {name} must be a cell array of one row, got {cell.dtype} of {cell.shape}")
    texts = []
    with named_errors(file.filename, f"{name} cannot be read, is the file truncated?"):
        for reference in cell[()].ravel():
            text = h5py.h5r.dereference(reference, file.id)  # the low level: there are thousands, each its own array
            if h5py.h5a.exists(text, b"MATLAB_empty"):  # the values are the sizes then
                texts.append("")
                continue
            if text.dtype != np.uint16 or math.prod(text.shape) > 10_000:
                raise ValueError(f"a text was wanted, got {text.dtype} of shape {text.shape}")
            units = np.empty(text.shape, dtype="<u2")
            text.read(h5py.h5s.ALL, h5py.h5s.ALL, units)
            texts.append(units.tobytes().decode("utf-16-le", "replace"))
    return tuple(texts)


def create_mat73(path: Path) -> Any:
    """A new .mat file of version 7.3, an ``h5py.File`` to be closed by the caller: equal content gives equal bytes."""
    import h5py

    head = _header("MATLAB 7.3 MAT-file", " HDF5 schema 1.00 .") + bytes(8) + struct.pack("<HH", 0x0200, 0x4D49)
    with h5py.File(path, "w", userblock_size=512, libver=("earliest", "v108")):
        pass
    with open(path, "r+b") as file:
        file.write(head)
    return h5py.File(path, "r+", libver=("earliest", "v108"))


def write_texts73(file: Any, name: str, texts: Sequence[str]) -> None:
    """A cell array (N x 1) of texts, each an array of its own below ``#refs#``, as MATLAB has it."""
    import h5py

    shelf = file.require_group("#refs#")
    references = np.empty((1, len(texts)), dtype=h5py.ref_dtype)
    for i, text in enumerate(texts):
        units = np.frombuffer(text.encode("utf-16-le"), dtype="<u2")
        one = shelf.create_dataset(
            f"{name}{i}", data=units[:, None] if text else np.zeros(2, np.uint64), track_times=False
        )
        one.attrs["MATLAB_class"] = np.bytes_("char")
        if text:
            one.attrs["MATLAB_int_decode"] = np.int32(2)
        else:
            one.attrs["MATLAB_empty"] = np.uint8(1)  # the values are the sizes then
        references[0, i] = one.ref
    cell = file.create_dataset(name, data=references, dtype=h5py.ref_dtype, track_times=False)
    cell.attrs["MATLAB_class"] = np.bytes_("cell")


@contextmanager
def named_errors(path: object, what: str) -> Iterator[None]:
    """Parsers and h5py raise what their parts raise (zlib.error, KeyError, RuntimeError, ...): all become ValueError.

    Not so what is no fault of the file's content: memory that ran out, and what the system says (an OSError with its
    number, such as a PermissionError; those of h5py about content have none).
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if str(error).startswith(str(path)) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise ValueError(f"{path}: {what} ({str(error) or type(error).__name__})") from error
