"""How does a safetensors file come to be whole or not at all, and how is one mapped without touching its arrays?

The format (github.com/huggingface/safetensors): 8 bytes with the length of the header, the header as JSON padded with
spaces, then the arrays, without holes. Nothing here knows what the arrays mean.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import math
import mmap
import os
import re
import secrets
import stat
import struct
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

DTYPES = {
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.uint8: "U8",
    torch.int32: "I32",
    torch.int64: "I64",
}
_LONGEST_HEADER = 100_000_000  # safetensors reads no longer one
_ALIGN = 64  # of the first array; later ones are aligned to what their items need, by their order
_CHUNK = 1 << 20  # bytes that are copied at a time
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Python has it from 3.13 on
_BEHIND = 8 << 20  # bytes after which the disk may begin

_AHEAD = 64 << 20  # bytes for which room on disk is found at a time

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *3 * (ctypes.c_int,), ctypes.c_int64)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)  # Python's would write zeros

Buffer = Any  # what memoryview takes
Arrays = Mapping[str, tuple[torch.dtype, Sequence[int]]]


def header(metadata: Mapping[str, str], arrays: Arrays, room: int = 0) -> bytes:
    """All that comes before the first array, at least ``room`` bytes of it. Arrays lie in the order given."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in arrays.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    total = max(8 + len(text), room)
    total += -total % _ALIGN
    if total > _LONGEST_HEADER:
        raise ValueError(f"names and metadata must fit in {_LONGEST_HEADER} bytes, got {total}")
    return struct.pack("<Q", total - 8) + text.ljust(total - 8)


@dataclass(frozen=True)
class Span:
    """Where an array lies in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


def parse_header(data: memoryview) -> tuple[dict[str, Any], int]:
    """The header of a file that lies in memory, and where it ends. ValueError says what is wrong with it."""
    if len(data) < 8:
        raise ValueError(f"it has {len(data)} bytes, too few for a header")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(len(data) - 8, _LONGEST_HEADER):
        raise ValueError(f"its header would be {length} bytes long, the file has {len(data)}")
    try:
        entries = json.loads(bytes(data[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is no JSON: {error}") from None
    if not isinstance(entries, dict):
        raise ValueError("its header is no JSON object")
    return entries, 8 + length


def spans(entries: Mapping[str, Any], start: int, size: int) -> dict[str, Span]:
    """Where the arrays lie, after the header that ends at ``start``: one after the other and up to ``size``."""
    found = {name: _span(name, entry, start) for name, entry in entries.items() if name != "__metadata__"}
    end = start
    for name, span in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if not span.begin == end <= span.end:
            raise ValueError(f"array {name!r} has bytes {span.begin} to {span.end}, the one before it ends at {end}")
        end = span.end
    if end != size:
        raise ValueError(f"its arrays end at byte {end}, the file has {size}")
    return found


def _span(name: str, entry: Any, start: int) -> Span:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"array {name!r} has no dtype, shape and data_offsets") from None
    if not isinstance(dtype, str) or any(not isinstance(n, int) or not 0 <= n < 2**63 for n in (*shape, begin, end)):
        raise ValueError(f"array {name!r} has a dtype, shape or data_offsets that cannot be")
    return Span(dtype, shape, start + begin, start + end)


class MappedFile:
    """A whole file in memory, read from disk where it is touched; unmapped when no tensor shows it any more.

    The mapping is private: what is written to a tensor stays in this process. It takes no file descriptor and reserves
    no memory, so that thousands of files may be open, and ones larger than memory. (Python's own mmap does the one,
    and torch.from_file the other.) Where another program shortens the file meanwhile, touching what is gone ends the
    process (SIGBUS), as with any mapping.
    """

    def __init__(self, path: Path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not waiting where it is a pipe
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "Is a directory, not a file", str(path))
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path}: must be a regular file")
            self.identity = (status.st_ino, status.st_size, status.st_mtime_ns)
            self.data = _mapped(fd, status.st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        finally:
            os.close(fd)

    def tensor(self, span: Span, dtype: torch.dtype, begin: int = 0, end: int | None = None) -> Tensor:
        """Rows ``begin`` to ``end`` of an array, in place.

        It has a storage of its own: sending or saving it takes these rows along, not the whole file.
        """
        rest = span.shape[1:]
        shape = ((span.shape[0] if end is None else end) - begin, *rest)
        width = math.prod(rest)
        if not shape[0] * width:
            return torch.empty(shape, dtype=dtype)
        at = span.begin + begin * width * dtype.itemsize
        return torch.frombuffer(self.data, dtype=dtype, count=shape[0] * width, offset=at).view(shape)


def _mapped(fd: int, size: int) -> memoryview:
    if not size:
        return memoryview(b"")
    address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _MAP_NORESERVE, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    whole = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(whole, _libc.munmap, address, size).atexit = False  # tensors may live longer than this module
    return memoryview(whole).cast("B")


class PendingFile:
    """A file that is written beside ``path`` under another name and takes its place, whole and on disk, when published.

    The other name is ``<name>.<16 hex digits>.part``. The file is locked (flock) while its writer lives; whoever begins
    to write the same path removes those of dead writers. Where the file system has no locks, they stay.
    """

    def __init__(self, path: Path):
        self.path = path
        self._sent = self._reserved = 0  # bytes
        self._spools = contextlib.ExitStack()
        with _naming(path):
            remove_abandoned(path)
            self._temporary, self._file = _create(path)

    @property
    def open(self) -> bool:
        return not self._file.closed

    @contextlib.contextmanager
    def or_give_up(self) -> Iterator[None]:
        """To be around whatever writes: an OSError leaves nothing behind, and names ``path``."""
        with _naming(self.path):
            try:
                yield
            except OSError:
                self.discard()
                raise

    def write(self, data: Buffer, at: int) -> int:
        """Where it ends."""
        end = write_at(self._file, data, at)
        if end - self._sent >= _BEHIND:  # two hints, that a file system may not know
            # The disk begins now, so that little is left for fsync. Pages on their way to it stay in memory.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._file.fileno(), self._sent, end - self._sent, os.POSIX_FADV_DONTNEED)
            self._sent = end
            if self._reserved < end + _BEHIND:  # room found at once costs less than page by page
                _libc.fallocate(self._file.fileno(), 0, end, _AHEAD)
                self._reserved = end + _AHEAD
        return end

    def spool(self) -> IO[bytes]:
        """A file for what comes later in this one; it has no name and goes when its process does."""
        return self._spools.enter_context(tempfile.TemporaryFile(dir=self.path.parent, buffering=0))

    def append(self, spool: IO[bytes], size: int, at: int) -> int:
        """Where it ends."""
        return _copy(spool, 0, self._file, at, size)

    def move(self, begin: int, end: int, by: int) -> None:
        """What was written from ``begin`` to ``end``, towards the end of the file."""
        while end > begin:
            last = max(begin, end - _CHUNK)
            _copy(self._file, last, self._file, last + by, end - last)
            end = last

    def publish(self, size: int) -> None:
        """Whole, at its path, and there after a power failure."""
        with self.or_give_up():
            self._file.truncate(size)
            os.fsync(self._file.fileno())
            os.replace(self._temporary, self.path)  # still locked: nobody takes it for abandoned
        self._close()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that has no such thing
                raise
        finally:
            os.close(folder)

    def discard(self) -> None:
        if self.open:
            self._temporary.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        self._spools.close()
        self._file.close()


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An OSError that names the file, whichever it came from."""
    try:
        yield
    except OSError as error:
        text = f"{error.strerror} while writing. Nothing is lost: what was here before is untouched, what was begun is "
        text += "removed. Mend the cause and write it again"
        raise OSError(error.errno, text, str(path)) from error


def _create(path: Path) -> tuple[Path, FileIO]:
    """A new file beside ``path``, locked."""
    while True:
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
        file = FileIO(temporary, "x+")
        if _lock(file) and os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()  # another writer took it for abandoned before it was locked
        temporary.unlink(missing_ok=True)


def write_at(file: IO[bytes] | FileIO, data: Buffer, at: int) -> int:
    """Where it ends."""
    rest = memoryview(data).cast("B")
    while rest:
        written = os.pwrite(file.fileno(), rest, at)
        rest, at = rest[written:], at + written
    return at


def _copy(source: IO[bytes] | FileIO, begin: int, target: FileIO, at: int, size: int) -> int:
    """Bytes of one file to another; where they end."""
    for done in range(0, size, _CHUNK):
        n = min(_CHUNK, size - done)
        data = os.pread(source.fileno(), n, begin + done)
        if len(data) != n:
            raise OSError(errno.EIO, "A temporary file became shorter")
        write_at(target, data, at + done)
    return at + size


def remove_abandoned(path: Path) -> None:
    """The temporary files of writers of this path that are no more."""
    theirs = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.part")
    for name in os.listdir(path.parent):
        if theirs.fullmatch(name):
            with contextlib.suppress(OSError), open(path.with_name(name), "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error where there are no locks: it stays
                os.unlink(path.with_name(name))


def _lock(file: FileIO) -> bool:
    """Whether the file is ours, as far as the file system has locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
