"""Is a feature cache whole or not there, whatever happens to its writer, and does its reader survive any file?

A short run every time; with ``PYPROJ2D3D_FUZZ=long`` a hundred killed writers and thousands of broken files (minutes)::

    PYPROJ2D3D_FUZZ=long pytest tests/test_cache_faults.py
"""

import errno
import fcntl
import json
import math
import multiprocessing
import os
import random
import re
import resource
import signal
import struct
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from scenes import simple_camera

from pyproj2d3d.cache import BrokenCacheError, FeatureCache

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

LONG = os.environ.get("PYPROJ2D3D_FUZZ") == "long"
fuzz = hypothesis.settings(
    max_examples=3000 if LONG else 60, derandomize=not LONG, deadline=None, database=None, print_blob=True
)
pytestmark = [
    pytest.mark.timeout(3600 if LONG else 120),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

CAMERA = simple_camera((19, 30), dtype=torch.float32)
INDEX = torch.arange(12).view(3, 4)  # every eighth pixel
INDEX[1] = -1


def write(path: Path, number: int = 0, frames: int = 3, points: int = 12, channels: int = 5, **keywords: Any) -> None:
    """A cache whose every value is ``number``, which its metadata tell."""
    features = torch.full((points, channels), float(number))
    with FeatureCache.create(path, frames, metadata={"number": number}, dtype=torch.float32, **keywords) as cache:
        for i in range(frames):
            cache.add(f"frame {i}", CAMERA, INDEX, features)


def number_of(path: Path) -> int:
    """Of a cache that is whole."""
    cache = FeatureCache.open(path)
    assert len(cache) == 3
    for frame in cache:
        assert frame.pixel.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
        assert (frame.features == cache.metadata["number"]).all()
    return cache.metadata["number"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scene.safetensors"


def says(path: Path, text: str) -> str:
    """The file and then the text, as a pattern."""
    return re.escape(str(path)) + ".*" + text


def in_child(work: Callable[[], str]) -> str:
    """What ``work`` returns in a forked process."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            os.write(into, work().encode())
        except BaseException:
            os.write(into, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(into)
    with open(out) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


# Writing: nothing, or all of it.


def write_until(path: Path, error: type[BaseException]) -> None:
    """A block that ends in an exception."""
    with FeatureCache.create(path, 2) as cache:
        cache.add("a", CAMERA, INDEX, torch.ones(12, 3))
        assert any(name.endswith(".part") for name in os.listdir(path.parent))
        raise error


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_block_leaves_nothing(path, error):
    with pytest.raises(error):
        write_until(path, error)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_block_leaves_the_old_file(path, error):
    write(path, 1)
    with pytest.raises(error):
        write_until(path, error)
    assert os.listdir(path.parent) == [path.name]
    assert number_of(path) == 1


def test_too_few_frames_are_an_error_and_leave_nothing(path):
    with (
        pytest.raises(ValueError, match=says(path, "2 frames were announced, 1 were added; nothing was written")),
        FeatureCache.create(path, 2) as cache,
    ):
        cache.add("a", CAMERA, INDEX, torch.ones(12, 3))
    assert os.listdir(path.parent) == []


def test_the_file_has_its_name_only_when_it_is_whole_and_on_disk(path, monkeypatch):
    synced = []
    fsync = os.fsync

    def noted(fd):
        synced.append((os.fstat(fd).st_ino, path.exists()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    write(path)
    file, folder = path.stat().st_ino, path.parent.stat().st_ino
    assert synced == [(file, False), (folder, True)]


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_disk_that_fails_leaves_nothing_and_names_the_file(path, monkeypatch, swallowed):
    write(path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    message = r"No space left on device while writing. Nothing is lost.*write it again: .*scene.safetensors"
    cache = FeatureCache.create(path, 2)
    cache.add("a", CAMERA, INDEX, torch.ones(12, 3))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match=message) as caught:
        cache.add("b", CAMERA, INDEX, torch.ones(12, 3))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    monkeypatch.undo()
    assert os.listdir(path.parent) == [path.name]
    assert number_of(path) == 1
    with pytest.raises(ValueError, match=says(path, "closed")):
        cache.add("b", CAMERA, INDEX, torch.ones(12, 3))
    with pytest.raises(ValueError, match=says(path, "given up")):
        cache.close()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_at_the_very_end_leaves_the_old_file(path, monkeypatch, function):
    write(path, 1)

    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, function, broken)
    with pytest.raises(OSError, match=r"Input/output error while writing.*scene.safetensors"):
        write(path, 2)
    monkeypatch.undo()
    assert os.listdir(path.parent) == [path.name]
    assert number_of(path) == 1


def test_wherever_the_disk_is_full_nothing_is_lost(path):
    """A limit on the size of files stands for a full disk; every write beyond it fails, wherever it comes."""
    write(path, 1)
    size = path.stat().st_size

    def work(limit: int) -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            write(path, 2)
        except OSError as error:
            return f"{errno.errorcode[error.errno]} {error}"
        return "written"

    for limit in sorted({0, 1, 64, 100, *range(0, size, 97), size - 1}):
        told = in_child(lambda limit=limit: work(limit))
        assert re.fullmatch(r"EFBIG .*File too large while writing. Nothing is lost.*scene.safetensors'", told), told
        assert os.listdir(path.parent) == [path.name]
        assert number_of(path) == 1
    assert in_child(lambda: work(size)) == "written"
    assert number_of(path) == 2


# Several writers, dead ones among them.


@pytest.mark.parametrize("last", [0, 1])
def test_of_two_writers_the_last_to_close_has_its_file_there(path, last):
    writers = [FeatureCache.create(path, 3, metadata={"number": n}, dtype=torch.float32) for n in (0, 1)]
    for i in range(3):
        for n, writer in enumerate(writers):
            writer.add(str(i), CAMERA, INDEX, torch.full((12, 2), float(n)))
    writers[1 - last].close()
    assert number_of(path) == 1 - last
    writers[last].close()
    assert number_of(path) == last
    assert os.listdir(path.parent) == [path.name]


def test_processes_that_write_one_path_never_show_half_a_file(path):
    write(path)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(path, n)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(number_of(path))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert seen <= {0, 1, 2}
    assert os.listdir(path.parent) == [path.name]


def write_many(path: Path, number: int, times: int = 200 if LONG else 40) -> None:
    torch.set_num_threads(1)
    for _ in range(times):
        write(path, number)


def test_a_killed_writer_leaves_nothing_that_is_read_as_a_cache(path):
    """Killed at any moment while it writes file after file: what is there is whole, and of the last that it said was
    done, or of the one after."""
    chance, killed, half_written = random.Random(0), 0, 0
    while killed < (100 if LONG else 8) or (half_written == 0 and killed < 200):
        out, into = os.pipe()
        killed, first = killed + 1, 1000 * killed
        child = os.fork()
        if child == 0:
            try:
                torch.set_num_threads(1)
                for n in range(first, first + 1000):
                    write(path, n, points=12 + n % 3, channels=5 + 1000 * (n % 5))
                    os.write(into, struct.pack("<q", n))
            finally:
                os._exit(1)
        os.close(into)
        with open(out, "rb") as done:
            said = done.read(8)  # it is at work
            time.sleep(chance.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            said += done.read()
        os.waitpid(child, 0)
        (last,) = struct.unpack("<q", said[len(said) // 8 * 8 - 8 : len(said) // 8 * 8])
        assert number_of(path) in (last, last + 1)
        left = set(os.listdir(path.parent)) - {path.name}
        assert len(left) <= 1  # the next writer removes what the one before left
        assert all(re.fullmatch(r"scene\.safetensors\.[0-9a-f]{16}\.part", name) for name in left)
        half_written += len(left)
    assert half_written > 0
    write(path, 7)
    assert os.listdir(path.parent) == [path.name]
    assert number_of(path) == 7


def test_only_what_dead_writers_of_this_very_path_left_is_removed(path):
    folder = path.parent
    dead = folder / f"{path.name}.0123456789abcdef.part"
    alive = folder / f"{path.name}.aaaaaaaaaaaaaaaa.part"
    others = [
        folder / "another.safetensors.0123456789abcdef.part",
        folder / f"{path.name}.0123456789abcdef.part.txt",
        folder / f"{path.name}.notes.part",
        folder / f"my {path.name}.0123456789abcdef.part",
    ]
    for file in (dead, alive, *others):
        file.write_text("text")
    with open(alive, "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write(path)
        assert set(folder.iterdir()) == {path, alive, *others}
    write(path)
    assert set(folder.iterdir()) == {path, *others}


def test_a_file_system_without_locks_will_do(path, monkeypatch):
    """Then nobody knows who is dead, and nothing is removed."""
    left = path.parent / f"{path.name}.0123456789abcdef.part"
    left.write_text("text")

    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    write(path, 3)
    assert number_of(path) == 3
    assert left.exists()


def test_a_writer_whose_new_file_is_taken_for_abandoned_begins_another(path, monkeypatch):
    """Between the making of the file and its lock another writer may come and remove it."""
    flock, times = fcntl.flock, []

    def robbed(file, how):
        times.append(how)
        if len(times) == 1:
            os.unlink(file.name)
        if len(times) == 2:
            raise BlockingIOError
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", robbed)
    write(path, 3)
    assert len(times) == 3
    assert number_of(path) == 3
    assert os.listdir(path.parent) == [path.name]


# Reading: whatever the file is.


def test_a_file_that_is_not_there(path):
    with pytest.raises(FileNotFoundError, match=r"scene\.safetensors"):
        FeatureCache.open(path)


def test_a_folder_and_a_pipe(tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        FeatureCache.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=says(tmp_path / "pipe", "must be a regular file")):
        FeatureCache.open(tmp_path / "pipe")


FOREIGN = {
    "an empty file": b"",
    "seven bytes": b"1234567",
    "text": b"This is a text, and not a short one. " * 100,
    "a header of zero bytes": bytes(100),
    "a header that is no JSON": struct.pack("<Q", 20) + b"{" * 40,
    "a list for a header": struct.pack("<Q", 2) + b"[]",
    "a header deeper than Python goes": struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
    "a header that is longer than memory": b"\xff" * 7 + b"\x7f" + b"{}" * 50,
    "safetensors": safetensors.torch.save({"a": torch.ones(3)}),
    "safetensors of another format": safetensors.torch.save({"a": torch.ones(3)}, {"format": "pt"}),
    "metadata that are no object": struct.pack("<Q", 19) + b'{"__metadata__":[]}',
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_that_is_no_cache_is_named(path, data):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=says(path, r"is no feature cache \(.*FeatureCache.create")) as caught:
        FeatureCache.open(path)
    assert not isinstance(caught.value, BrokenCacheError)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a cache."""
    path = tmp_path_factory.mktemp("whole") / "scene.safetensors"
    write(path)
    return path.read_bytes()


def header_of(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length])


def with_header(data: bytes, header: Any) -> bytes:
    """Our bytes behind another header."""
    (length,) = struct.unpack_from("<Q", data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(len(text) + -len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def changed(data: bytes, *where: Any, to: Any) -> bytes:
    """With another value at one place of the header."""
    header = header_of(data)
    *steps, last = where
    at = header
    for step in steps:
        at = at[step]
    at[last] = to
    return with_header(data, header)


def test_a_truncated_cache_is_named_wherever_it_ends(path, whole):
    for size in range(10, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(BrokenCacheError, match=says(path, "truncated or damaged.*Build it again")):
            FeatureCache.open(path)


def test_a_cache_with_bytes_behind_it_is_named(path, whole):
    path.write_bytes(whole + b"\0")
    with pytest.raises(BrokenCacheError, match=says(path, "truncated or damaged.*the file has")):
        FeatureCache.open(path)


@pytest.mark.parametrize("version", ["2", "", "1.0", None, 1])
def test_a_cache_of_another_version_is_named(path, whole, version):
    """Also where its arrays are others, or where it was truncated: nothing more is known of it."""
    header = header_of(whole)
    header["__metadata__"]["version"] = version
    del header["ptr"]
    path.write_bytes(with_header(whole, header)[:-5])
    with pytest.raises(ValueError, match=says(path, f"of version {version!r}.*reads version '1'")) as caught:
        FeatureCache.open(path)
    assert not isinstance(caught.value, BrokenCacheError)


def renamed(header: dict[str, Any], name: str) -> dict[str, Any]:
    return {("other" if key == name else key): value for key, value in header.items()}


INCONSISTENT = {
    "no stride": ("__metadata__", "stride", ""),
    "a stride of 0": ("__metadata__", "stride", "0"),
    "a stride of half": ("__metadata__", "stride", "0.5"),
    "a radius below 0": ("__metadata__", "radius", "-1"),
    "an unknown dtype": ("__metadata__", "dtype", "int8"),
    "another dtype": ("__metadata__", "dtype", "float16"),
    "fewer names": ("__metadata__", "frames", '["a", "b"]'),
    "a name twice": ("__metadata__", "frames", '["a", "b", "a"]'),
    "a name that is none": ("__metadata__", "frames", '["a", "b", []]'),
    "names in an object": ("__metadata__", "frames", '{"a": 1}'),
    "deep names": ("__metadata__", "frames", "[" * 100_000 + "]" * 100_000),
    "other metadata": ("__metadata__", "metadata", "[]"),
    "a number for a string": ("__metadata__", "dtype", 3),
    "a list for a string": ("__metadata__", "dtype", []),
    "features of another shape": ("features", "shape", [24, 6]),
    "features of one axis": ("features", "shape", [120]),
    "features of more rows": ("features", "shape", [120, 1]),
    "features of another dtype": ("features", "dtype", "I32"),
    "pixels of floats": ("pixel", "dtype", "F32"),
    "cameras of another shape": ("intrinsics", "shape", [3, 9]),
    "a negative axis": ("features", "shape", [-24, -5]),
    "an axis of NaN": ("features", "shape", [math.nan, 5]),
    "an axis of infinity": ("features", "shape", [math.inf, 5]),
    "an axis of a half": ("features", "shape", [24.0, 5]),
    "an axis of truth": ("sizes", "shape", [3, True]),
    "an axis beyond 64 bits": ("features", "shape", [2**64, 0]),
    "no axes": ("features", "shape", None),
    "offsets of a string": ("features", "data_offsets", "ab"),
    "offsets below 0": ("features", "data_offsets", [-8, 472]),
    "offsets beyond the file": ("point", "data_offsets", [1000, 2**62]),
    "offsets the wrong way round": ("point", "data_offsets", [1000, 900]),
    "three offsets": ("point", "data_offsets", [1000, 1096, 1200]),
    "overlapping arrays": ("point", "data_offsets", [480, 576]),
    "an array that is a number": ("point", None, 3),
    "an array more": ("more", None, {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}),
}


@pytest.mark.parametrize(("key", "part", "value"), INCONSISTENT.values(), ids=INCONSISTENT.keys())
def test_a_header_that_does_not_fit_is_named(path, whole, key, part, value):
    path.write_bytes(changed(whole, key, to=value) if part is None else changed(whole, key, part, to=value))
    with pytest.raises(BrokenCacheError, match=says(path, "truncated or damaged")):
        FeatureCache.open(path)


@pytest.mark.parametrize("name", ["ptr", "pixel", "point", "features", "intrinsics", "world_from_camera", "sizes"])
def test_a_missing_array_is_named(path, whole, name):
    header = header_of(whole)
    path.write_bytes(with_header(whole, renamed(header, name)))
    with pytest.raises(BrokenCacheError, match=says(path, f"'{name}' is not there")):
        FeatureCache.open(path)


def test_offsets_that_run_backwards_do_not_reach_beyond_the_file(path, whole):
    """One array beyond the end, and a second that brings the sum back."""
    size = len(whole) - 8 - struct.unpack_from("<Q", whole)[0]
    header = header_of(whole)
    header["point"]["data_offsets"][1] = size + 4096
    header["point"]["shape"] = [24 + 1024]
    header["more"] = {"dtype": "U8", "shape": [0], "data_offsets": [size + 4096, size]}
    path.write_bytes(with_header(whole, header))
    with pytest.raises(BrokenCacheError, match=says(path, "array 'more' has bytes")):
        FeatureCache.open(path)


def test_an_array_that_is_not_aligned_is_named(path, whole):
    """A header of another length moves them all."""
    (length,) = struct.unpack_from("<Q", whole)
    path.write_bytes(struct.pack("<Q", length + 1) + whole[8 : 8 + length] + b" " + whole[8 + length :])
    with pytest.raises(BrokenCacheError, match=says(path, "array 'ptr' has shape .4,. in bytes")):
        FeatureCache.open(path)


def in_array(data: bytes, name: str, dtype: str, item: int, value: float) -> bytes:
    """With another value in an array."""
    at = 8 + struct.unpack_from("<Q", data)[0] + header_of(data)[name]["data_offsets"][0]
    size = struct.calcsize(dtype)
    return data[: at + size * item] + struct.pack("<" + dtype, value) + data[at + size * (item + 1) :]


ARRAYS = {
    "ptr does not begin with 0": ("ptr", "q", 0, 1),
    "ptr goes back": ("ptr", "q", 1, 17),
    "ptr goes below 0": ("ptr", "q", 1, -1),
    "ptr goes far": ("ptr", "q", 2, 2**62),
    "ptr ends early": ("ptr", "q", 3, 20),
    "ptr ends late": ("ptr", "q", 3, 2**63 - 1),
    "more rows than pixels": ("ptr", "q", 1, 13),
    "an image without rows": ("sizes", "i", 0, 0),
    "an image of negative width": ("sizes", "i", 1, -5),
    "an image that is huge": ("sizes", "i", 2, 2**31 - 1),
    "a camera of NaN": ("intrinsics", "f", 0, math.nan),
    "a camera without focal length": ("intrinsics", "f", 9, 0),
    "a pose of infinity": ("world_from_camera", "f", 3, math.inf),
    "a pose without its last row": ("world_from_camera", "f", 15, 2),
}


@pytest.mark.parametrize(("name", "dtype", "item", "value"), ARRAYS.values(), ids=ARRAYS.keys())
def test_a_small_array_that_cannot_be_is_named_on_opening(path, whole, name, dtype, item, value):
    path.write_bytes(in_array(whole, name, dtype, item, value))
    with pytest.raises(BrokenCacheError, match=says(path, "truncated or damaged")):
        FeatureCache.open(path)


@pytest.mark.parametrize(("item", "value"), [(8, -1), (15, 12), (15, 2**31 - 1), (10, 1), (10, 3), (9, -(2**31))])
def test_pixels_that_cannot_be_are_named_when_they_are_read(path, whole, item, value):
    """Those of the second frame; the others are read as before."""
    path.write_bytes(in_array(whole, "pixel", "i", item, value))
    cache = FeatureCache.open(path)
    for read in (lambda frame: frame.pixel, lambda frame: frame.dense()):
        with pytest.raises(BrokenCacheError, match=says(path, "pixels of frame 'frame 1' are damaged. Build it again")):
            read(cache[1])
        read(cache[0])


def test_points_that_cannot_be_are_named_when_they_are_read(path, whole):
    path.write_bytes(in_array(whole, "point", "i", 8, -2))
    cache = FeatureCache.open(path)
    with pytest.raises(BrokenCacheError, match=says(path, "points of frame 'frame 1' are damaged. Build it again")):
        _ = cache[1].point
    assert cache[0].point.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


def test_a_cache_saved_again_by_safetensors_is_still_one(path, whole):
    """Its arrays then lie in another order."""
    path.write_bytes(whole)
    arrays, said = safetensors.torch.load_file(path), header_of(whole)["__metadata__"]
    safetensors.torch.save_file({key: arrays[key] for key in sorted(arrays)}, path, said)
    assert path.read_bytes() != whole
    assert number_of(path) == 0


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return tmp_path_factory.mktemp("broken") / "scene.safetensors"


def named_or_sane(path: Path) -> bool:
    """An error that names the file; or a cache of which everything can be read, and every index is in its bounds."""
    try:
        look_at(FeatureCache.open(path))
    except (ValueError, OSError) as error:
        return str(path) in str(error)
    return True


def look_at(cache: FeatureCache) -> None:
    assert len(cache.names) == len(cache) == len(set(cache.names))
    assert isinstance(cache.metadata, dict)
    rows = 0
    for frame in cache:
        h, w = (-(-n // cache.stride) for n in frame.size)
        assert frame.camera.intrinsics.isfinite().all()
        assert 0 <= frame.coverage <= 1
        assert frame.features.shape == (len(frame.pixel), cache.channels)
        assert frame.features.dtype == cache.dtype
        frame.features.view(torch.uint8).sum()  # every byte is there
        assert len(frame.point) == len(frame.pixel)
        rows += len(frame.pixel)
        if len(frame.pixel):
            assert frame.pixel.min() >= 0
            assert frame.pixel.max() < h * w
            assert frame.point.min() >= 0
        if h * w * max(1, cache.channels) < 1_000_000:
            assert frame.dense()[1].sum() == len(frame.pixel)
    assert rows * cache.channels * cache.dtype.itemsize < cache.path.stat().st_size


@fuzz
@hypothesis.given(st.data())
def test_any_frames_come_back(broken, data):
    """Of any sizes, names and numbers; rows or maps; read by this library and by safetensors alike."""
    stride, channels = data.draw(st.integers(1, 9)), data.draw(st.integers(0, 9))
    names = data.draw(st.lists(st.text(max_size=12) | st.text("abc", max_size=300), max_size=5, unique=True))
    dtype = data.draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
    random = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    added = []
    with FeatureCache.create(broken, len(names), stride=stride, dtype=dtype) as cache:
        for name in names:
            size = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
            geometry = data.draw(st.sampled_from([torch.float32, torch.float64]))
            grid = tuple(-(-n // stride) for n in size)
            index = torch.randint(-1, data.draw(st.integers(0, 30)), grid, generator=random)
            features = torch.randn(30, channels, generator=random)
            added.append((name, simple_camera(size, focal=1 / 3, dtype=geometry), index, features))
            cache.add(*added[-1])
    there, arrays = FeatureCache.open(broken), safetensors.torch.load_file(broken)
    assert there.names == tuple(names)
    ptr = arrays["ptr"].tolist()
    for i, (frame, (name, camera, index, features)) in enumerate(zip(there, added, strict=True)):
        seen = index >= 0
        dense, mask = frame.dense()
        assert torch.equal(mask, seen)
        assert torch.equal(dense.permute(1, 2, 0)[seen], features[index[seen]].to(dtype))
        assert frame.name == name
        assert torch.equal(frame.camera.intrinsics, camera.intrinsics.to(frame.camera.dtype))
        rows = slice(ptr[i], ptr[i + 1])
        for array in ("pixel", "point", "features"):
            assert torch.equal(arrays[array][rows], getattr(frame, array))


@fuzz
@hypothesis.given(st.data())
def test_any_bytes_changed_anywhere(broken, whole, data):
    places = st.integers(0, len(whole) - 1) | st.integers(0, 1200)  # the header and the small arrays more often
    changes = data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8))
    changed_bytes = bytearray(whole)
    for at, byte in changes:
        changed_bytes[at] = byte
    cut = data.draw(st.none() | st.integers(0, len(whole)))
    broken.write_bytes(bytes(changed_bytes[:cut]) + data.draw(st.just(b"") | st.binary(max_size=20)))
    assert named_or_sane(broken)


ODD = st.sampled_from([0, 1, -1, 3, 5, 24, 120, 2**31, 2**32 + 1, 2**62, 2**63, 2**64, -(2**63), 10**400, math.nan])
scalars = ODD | st.sampled_from([math.inf, 0.5, True, None, "", "0", "8", "F32", "I64", "nonsense", "[]", "{}"])
values = scalars | st.recursive(
    scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=3), v, max_size=3), max_leaves=6
)


@fuzz
@hypothesis.given(st.data())
def test_any_value_in_any_place_of_the_header(broken, whole, data):
    """The header stays JSON, so that what comes after its parsing has to stand it."""
    header = header_of(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = header
        while True:
            key = data.draw(st.sampled_from(list(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
            if isinstance(at[key], dict | list) and len(at[key]) and data.draw(st.integers(0, 3)):
                at = at[key]
                continue
            at[key] = data.draw(values)
            break
    broken.write_bytes(with_header(whole, header))
    assert named_or_sane(broken)


@fuzz
@hypothesis.given(st.integers(0, 2**64 - 1) | st.integers(0, 4000), st.binary(max_size=300) | st.text(max_size=200))
def test_any_bytes_for_a_header(broken, length, text):
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    broken.write_bytes(struct.pack("<Q", length) + body)
    with pytest.raises(ValueError, match=re.escape(str(broken))):
        FeatureCache.open(broken)


@fuzz
@hypothesis.given(st.data())
def test_any_values_in_the_small_arrays(broken, whole, data):
    changed_bytes = whole
    for _ in range(data.draw(st.integers(1, 4))):
        name, dtype, items = data.draw(
            st.sampled_from([("ptr", "q", 4), ("sizes", "i", 6), ("pixel", "i", 24), ("point", "i", 24)])
        )
        bound = 2**63 if dtype == "q" else 2**31
        value = data.draw(st.integers(-bound, bound - 1) | st.integers(-3, 30))
        changed_bytes = in_array(changed_bytes, name, dtype, data.draw(st.integers(0, items - 1)), value)
    broken.write_bytes(changed_bytes)
    assert named_or_sane(broken)


def test_a_file_larger_than_memory_can_be_opened(path, whole):
    """Here a sparse one of 1 TB, most of which is of no meaning. What is mapped must not count as memory taken."""
    header, size = header_of(whole), 2**40
    end = header["point"]["data_offsets"][1]
    header["more"] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
    path.write_bytes(with_header(whole, header))
    os.truncate(path, path.stat().st_size + size)
    assert number_of(path) == 0
