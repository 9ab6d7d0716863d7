"""Does a feature cache give back what was put in, frame by frame, to anyone and in any process?"""

import json
import multiprocessing
import os
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from cached_frames import Frames
from scenes import assert_close, assert_same_bits, make_scene, simple_camera
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader

from pyproj2d3d import Camera, reference
from pyproj2d3d.cache import FeatureCache

STORED = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
HEIGHT, WIDTH = 5, 7  # of the images; every second pixel makes a grid of 3 x 4
CAMERA = simple_camera((HEIGHT, WIDTH), dtype=torch.float32)
EMPTY = torch.full((3, 4), -1)
INDEX = torch.tensor([[-1, 4, -1, -1], [2, -1, -1, -1], [-1, -1, -1, 0]])  # (3, 4)
FEATURES = torch.arange(15.0).view(5, 3)  # of 5 points


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scene.safetensors"


def write(path, frames=(("a", CAMERA, INDEX, FEATURES), ("b", CAMERA, EMPTY, FEATURES)), **keywords):
    with FeatureCache.create(path, len(frames), **{"stride": 2} | keywords) as cache:
        for frame in frames:
            cache.add(*frame)
    return FeatureCache.open(path)


def view(scene, i):
    """One view of a scene of the tests: its camera, and its points' pixels."""
    return scene.camera[i], scene.uvz[i : i + 1]


def test_a_frame_has_the_rows_of_the_points_its_pixels_see(path):
    frame = write(path)["a"]
    assert frame.pixel.tolist() == [1, 4, 11]
    assert frame.point.tolist() == [4, 2, 0]
    assert frame.features.tolist() == [[12, 13, 14], [6, 7, 8], [0, 1, 2]]
    assert frame.coverage == 3 / 12
    assert frame.size == (5, 7)
    assert [t.dtype for t in (frame.pixel, frame.point, frame.features)] == [torch.int32, torch.int32, torch.float16]


def test_dense_puts_the_rows_at_their_pixels(path):
    dense, mask = write(path)["a"].dense()
    assert dense.dtype == torch.float16
    assert dense[1].tolist() == [[0, 13, 0, 0], [7, 0, 0, 0], [0, 0, 0, 1]]
    assert dense.shape == (3, 3, 4)
    assert torch.equal(mask, INDEX >= 0)


def test_a_map_is_read_at_every_stride_th_pixel(path):
    """A map of the image's size is read as it is: pixels (0, 2), (2, 0) and (4, 6) of the image."""
    image = torch.arange(35.0).view(1, HEIGHT, WIDTH)
    frame = write(path, [("a", CAMERA, INDEX, image)])[0]
    assert frame.features.flatten().tolist() == [2, 14, 34]
    assert frame.point.tolist() == [4, 2, 0]


def test_a_frame_may_see_nothing(path):
    frame = write(path)["b"]
    assert (len(frame.pixel), len(frame.point), tuple(frame.features.shape)) == (0, 0, (0, 3))
    assert frame.coverage == 0
    dense, mask = frame.dense()
    assert dense.shape == (3, 3, 4)
    assert not dense.any()
    assert not mask.any()


def test_a_cache_may_have_no_frames(path):
    cache = write(path, [])
    assert (len(cache), list(cache), cache.names) == (0, [], ())
    assert safetensors.torch.load_file(path)["ptr"].tolist() == [0]


def test_frames_are_found_by_number_and_by_name(path):
    cache = write(path)
    assert len(cache) == 2
    assert cache.names == ("a", "b")
    assert [frame.name for frame in cache] == ["a", "b"]
    assert [cache[0].name, cache[-1].name, cache["b"].name, cache[torch.tensor(1)].name] == ["a", "b", "b", "b"]
    assert "a" in cache
    assert "c" not in cache


def test_what_was_said_on_creation_is_there(path):
    metadata = {"depth_rule": {"tolerance": [0.05, 0, 0]}, "network": 'é " \\ \udc80', "more": [1, None, 2.5]}
    cache = write(path, [("a", CAMERA, INDEX[:2, :3], FEATURES)], stride=3, radius=2, metadata=metadata)
    assert (cache.stride, cache.radius, cache.dtype, cache.channels) == (3, 2, torch.float16, 3)
    assert cache.metadata == metadata
    assert write(path).metadata == {}


def test_defaults_are_every_eighth_pixel_and_float16(path):
    with FeatureCache.create(str(path), 1) as cache:
        cache.add("a", CAMERA, torch.tensor([[1]]), FEATURES)
    cache = FeatureCache.open(str(path))
    assert (cache.stride, cache.radius, cache.dtype) == (8, 1, torch.float16)


@pytest.mark.parametrize("geometry", [torch.float32, torch.float64], ids=str)
def test_cameras_come_back_to_the_bit(path, geometry):
    scene = make_scene(10, 3, geometry)
    index = torch.full((24, 32), -1)
    cache = write(path, [(str(i), scene.camera[i], index, scene.features) for i in range(3)])
    for i in range(3):
        assert cache[i].camera.size == scene.camera.size
        assert_same_bits(cache[i].camera, scene.camera[i])


def test_cameras_may_differ_in_size_and_dtype(path):
    """The file has one dtype: the wider. No bit is lost by that."""
    large = simple_camera((6, 4), focal=1 / 3)
    cache = write(path, [("a", CAMERA, INDEX, FEATURES), ("b", large, torch.tensor([[0, 1]] * 3), FEATURES)])
    assert [frame.size for frame in cache] == [(5, 7), (6, 4)]
    assert [frame.coverage for frame in cache] == [0.25, 1]
    assert_same_bits(cache["a"].camera, CAMERA.to(torch.float64))
    assert_same_bits(cache["b"].camera, large)


def test_a_camera_changed_after_adding_stays_as_it_was(path):
    intrinsics = CAMERA.intrinsics.clone()
    with FeatureCache.create(path, 1, stride=2) as cache:
        cache.add("a", Camera(intrinsics, torch.eye(4), CAMERA.size), INDEX, FEATURES)
        intrinsics.zero_()
    assert_same_bits(FeatureCache.open(path)[0].camera.intrinsics, CAMERA.intrinsics)


@pytest.mark.parametrize("radius", [0, 1])
@pytest.mark.parametrize("stride", [1, 3, 8, 100])
def test_the_cache_equals_extraction_by_hand_from_the_full_size_result(path, stride, radius):
    scene = make_scene(600, 3, channels=4)
    cells = []
    with FeatureCache.create(path, 3, stride=stride, radius=radius, dtype=torch.float32) as cache:
        for i in range(3):
            camera, uvz = view(scene, i)
            matches = scene.matches[i]
            full, _ = reference.zbuffer(uvz, camera.size, radius=radius, matches=matches)
            cells.append(full[0, ::stride, ::stride])
            index = reference.zbuffer(uvz, camera.size, radius=radius, stride=stride, matches=matches)[0]
            cache.add(f"frame {i}", camera, index, scene.features)
    assert any((c >= 0).any() for c in cells) or stride == 100  # which keeps one pixel
    for frame, index in zip(FeatureCache.open(path), cells, strict=True):
        seen = index >= 0
        dense, mask = frame.dense()
        assert torch.equal(mask, seen)
        by_hand = torch.where(seen, scene.features[index].permute(2, 0, 1), 0)
        assert_same_bits(dense, by_hand)
        assert_same_bits(frame.features, scene.features[index[seen]])
        assert frame.coverage == seen.double().mean().item()


@pytest.mark.parametrize("cells", [(1, 1), (5, 9), (48, 64), (60, 80)], ids=str)
@pytest.mark.parametrize("stride", [1, 8, 7])
def test_a_map_is_read_as_if_upsampled_and_sliced(path, stride, cells):
    scene = make_scene(500, 1, cells=cells, channels=6)
    camera, uvz = view(scene, 0)
    index = reference.zbuffer(uvz, camera.size, radius=1, stride=stride)[0]
    frame = write(path, [("a", camera, index, scene.maps[0])], stride=stride, dtype=torch.float32)[0]
    full = interpolate(scene.maps, camera.size, mode="bilinear", align_corners=False)
    sliced = full[0, :, ::stride, ::stride]
    assert_close(frame.features, sliced[:, index[0] >= 0].T)
    assert_close(frame.dense()[0], torch.where(index >= 0, sliced, 0))


@STORED
@pytest.mark.parametrize("as_map", [False, True], ids=["rows", "map"])
def test_features_of_any_dtype_are_rounded_once_to_that_of_the_cache(path, dtype, feature_dtype, as_map):
    generator = torch.Generator().manual_seed(0)
    shape = (16, HEIGHT, WIDTH) if as_map else (5, 16)
    features = torch.randn(shape, generator=generator, dtype=torch.float64).to(feature_dtype)
    frame = write(path, [("a", CAMERA, INDEX, features)], dtype=dtype)[0]
    rows = features[:, [0, 2, 4], [2, 0, 6]].T if as_map else features[[4, 2, 0]]
    assert_same_bits(frame.features, rows.to(dtype))


def test_nan_and_infinity_stay_what_they_are(path):
    features = torch.tensor([[torch.nan], [0], [torch.inf], [0], [-torch.inf]])
    frame = write(path, [("a", CAMERA, INDEX, features)])[0]
    assert_same_bits(frame.features, torch.tensor([[-torch.inf], [torch.inf], [torch.nan]]).half())


@pytest.mark.parametrize("channels", [0, 1, 3])
@STORED
def test_any_number_of_channels_and_rows_leaves_every_array_aligned(path, dtype, channels):
    """So that it can be read in place by anything: safetensors has no holes, so padding has to see to it."""
    for points in range(5):
        index = torch.where(points > INDEX, INDEX, -1)
        cache = write(path, [("a", CAMERA, index, FEATURES[:, :channels])], dtype=dtype)
        assert_same_bits(cache[0].features, FEATURES[index[index >= 0], :channels].to(dtype))
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                bits = int(re.search(r"\d+$", entry["dtype"]).group())
                assert (8 + length + entry["data_offsets"][0]) % (bits // 8) == 0, name
        with safetensors.safe_open(path, framework="pt") as file:
            assert_same_bits(file.get_tensor("features"), cache[0].features)
            assert file.get_tensor("pixel").tolist() == cache[0].pixel.tolist()


def test_inputs_that_are_strided_or_ask_for_gradients(path):
    features = torch.zeros(5, 6)
    features[:, ::2] = FEATURES
    index = torch.zeros(4, 3, dtype=torch.int64).T.copy_(INDEX)
    camera = Camera(CAMERA.intrinsics.clone().requires_grad_(), CAMERA.world_from_camera, CAMERA.size)
    frame = write(path, [("a", camera, index[None], features.requires_grad_()[:, ::2])])[0]
    assert frame.features.tolist() == FEATURES[[4, 2, 0]].tolist()
    assert not frame.camera.intrinsics.requires_grad


@pytest.mark.parametrize("names", [("a", "b" * 20_000), ("a" * 20_000, "b"), ('é\n"\\', "\udc80"), ("", "a")])
def test_any_names_find_room_in_the_header(path, names):
    """Room is left for names like the first; where the later ones need more, the features make way."""
    many = torch.arange(750_000.0).view(2500, 300)  # 3 MB
    index = torch.arange(2500).view(50, 50)
    camera = simple_camera((99, 99))
    cache = write(path, [(name, camera, index, many + i) for i, name in enumerate(names)], dtype=torch.float32)
    assert cache.names == names
    for i, name in enumerate(names):
        assert_same_bits(cache[name].features, many + i)
        assert cache[name].pixel.tolist() == list(range(2500))
    assert_same_bits(safetensors.torch.load_file(path)["features"], torch.cat([many, many + 1]))


def overhead(path):
    """Bytes beyond those of the arrays that have a meaning."""
    arrays = safetensors.torch.load_file(path)
    return path.stat().st_size - sum(t.nbytes for name, t in arrays.items() if name != "padding")


def test_the_file_is_hardly_larger_than_its_arrays(path):
    camera, features = simple_camera((480, 640)), torch.zeros(4800, 96)
    frames = [(f"frame-{i:06d}", camera, torch.arange(4800).view(60, 80), features) for i in range(4)]
    write(path, frames, stride=8)
    assert overhead(path) < 0.001 * path.stat().st_size


def test_the_header_of_a_small_file_has_little_room_to_spare(path):
    write(path)
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    spare = length - len(data[8 : 8 + length].rstrip(b" "))
    assert spare < 256
    assert path.stat().st_size < 2048


def test_writing_a_feature_in_place_changes_neither_the_file_nor_other_processes(path):
    cache = write(path)
    before = path.read_bytes()
    cache[0].features.fill_(7)
    cache[0].pixel.fill_(3)
    del cache
    assert path.read_bytes() == before
    assert FeatureCache.open(path)[0].features.tolist() == FEATURES[[4, 2, 0]].tolist()


def test_tensors_outlive_the_cache_and_the_file(path):
    features = write(path)[0].features
    path.unlink()
    assert features.tolist() == FEATURES[[4, 2, 0]].tolist()


def test_features_are_a_view_of_their_own_rows_alone(path):
    """What is sent to another process, or saved, is a tensor's whole storage: it must not be the whole file."""
    frame = write(path)[0]
    assert frame.features.data_ptr() == frame.features.data_ptr()
    assert frame.features.untyped_storage().nbytes() == frame.features.nbytes == 18


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc on this system")
def test_an_open_cache_takes_no_file_descriptor(path):
    """A data set has more scenes than a process may have files."""
    write(path)
    before = len(os.listdir("/proc/self/fd"))
    caches = [FeatureCache.open(path) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert sum(frame.features.sum().item() for cache in caches for frame in cache) == 20 * (39 + 21 + 3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_some_pixels_of_a_frame_cost_only_their_rows(path):
    """Of a frame of 20 MB; what is mapped is counted where it was touched."""

    def mapped():
        return int(re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1))

    camera, index = simple_camera((480, 640)), torch.arange(4800).view(60, 80)
    frame = write(path, [("a", camera, index, torch.ones(4800, 2048))], stride=8)[0]
    before = mapped()
    assert frame.features[torch.tensor([7, 2000, 4799])].sum() == 3 * 2048
    assert mapped() - before < 8_000  # some of it code of torch
    assert frame.features.sum(dtype=torch.float64) == 4800 * 2048
    assert mapped() - before > 15_000  # the measure sees it


def test_a_reader_of_a_replaced_file_goes_on_reading_the_old_one(path):
    old = write(path)
    new = write(path, [("a", CAMERA, INDEX, FEATURES + 1)])
    assert old[0].features.tolist() == FEATURES[[4, 2, 0]].tolist()
    assert new[0].features.tolist() == (FEATURES[[4, 2, 0]] + 1).tolist()


def test_memory_stays_bounded_while_writing(path):
    """100 MB of features pass through; what stays is a name and a camera for each frame."""
    code = f"""
import re, torch
from pathlib import Path
from pyproj2d3d import Camera
from pyproj2d3d.cache import FeatureCache
torch.set_num_threads(1)
camera = Camera(torch.eye(3), torch.eye(4), (480, 640))
index, features = torch.arange(4800).view(60, 80), torch.ones(4800, 104)

def high_water_mark():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1))

with FeatureCache.create({str(path)!r}, 100) as cache:
    for i in range(100):
        cache.add(str(i), camera, index, features)
        if i == 4:
            before = high_water_mark()
print(high_water_mark() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size > 99e6
    assert int(done.stdout) < 30_000  # kB: what the allocator keeps of a few frames


DOCS = Path(__file__).parent.parent / "docs" / "cache.md"


def test_the_code_in_the_docs_reads_a_frame_with_safetensors_alone(path, tmp_path):
    scene = make_scene(3000, 2, channels=4)
    index = reference.zbuffer(scene.uvz, scene.camera.size, radius=1, stride=8)[0]
    frames = [(f"frame {i}", scene.camera[i], index[i], scene.features) for i in range(2)]
    cache = write(path, frames, stride=8, dtype=torch.bfloat16)
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    out = tmp_path / "dense.pt"
    program = f"""
import sys
sys.modules["pyproj2d3d"] = None  # importing it is an error
path, name = {str(path)!r}, "frame 1"
{code}
torch.save([dense, file_of_points(path)], {str(out)!r})
"""
    program = program.replace("file_of_points(path)", 'safe_open(path, "pt").get_tensor("point")')
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    dense, point = torch.load(out, weights_only=True)
    assert dense.any()
    assert_same_bits(dense, cache["frame 1"].dense()[0])
    assert torch.equal(point, torch.cat([frame.point for frame in cache]))


def test_the_arrays_and_metadata_are_those_of_the_docs(path):
    write(path, metadata={"x": 1})
    named = set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE))
    with safetensors.safe_open(path, framework="pt") as file:
        assert set(file.keys()) | set(file.metadata()) == named


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader_read_what_the_parent_does(path, start):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} on this system")
    scene = make_scene(500, 5, channels=33)
    index = reference.zbuffer(scene.uvz, scene.camera.size, radius=1, stride=2)[0]
    cache = write(path, [(str(i), scene.camera[i], index[i], scene.features) for i in range(5)])
    ours = [*Frames(cache)]  # the parent has touched all of it, with its threads
    how = {"num_workers": 2, "multiprocessing_context": start, "timeout": 60, "persistent_workers": True}
    loader = DataLoader(Frames(cache), batch_size=None, **how)
    for _ in range(2):
        for theirs, mine in zip(loader, ours, strict=True):
            assert_same_bits(theirs, mine)


def test_a_cache_and_a_frame_can_be_pickled_and_are_opened_again(path, monkeypatch):
    cache = write(path)
    monkeypatch.chdir(path.parent)
    for sent in (pickle.dumps(cache), pickle.dumps(FeatureCache.open(path.name))):
        monkeypatch.chdir("/")  # the receiver may work elsewhere
        there = pickle.loads(sent)
        assert there.names == cache.names
        assert_same_bits(there[0].features, cache[0].features)
    assert len(pickle.dumps(cache)) < 1000
    frame = pickle.loads(pickle.dumps(cache["a"]))
    assert frame.name == "a"
    assert_same_bits(frame.features, cache["a"].features)


def test_a_pickled_cache_whose_file_was_replaced_says_so(path):
    sent = pickle.dumps(write(path))
    write(path)
    with pytest.raises(ValueError, match=re.escape(str(path)) + ".*replaced.*Open it again"):
        pickle.loads(sent)


def test_what_it_prints_names_the_file_and_the_frame(path):
    cache = write(path)
    assert re.match(r"FeatureCache\('.*scene.safetensors': 2 frames, 3 rows, 3 channels", repr(cache))
    assert repr(cache[0]) == "CachedFrame('a', size=(5, 7), M=3)"


def test_the_file_is_readable_to_others_as_the_umask_has_it(path):
    before = os.umask(0o027)
    try:
        write(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


CREATE = {
    "frames below 0": ((-1,), {}, ValueError, r"frames must be at least 0, got -1"),
    "frames as a list": (([],), {}, TypeError, r"frames must be an integer, got \[\]"),
    "stride 0": ((1,), {"stride": 0}, ValueError, r"stride must be at least 1, got 0"),
    "radius below 0": ((1,), {"radius": -1}, ValueError, r"radius must be at least 0, got -1"),
    "float64": ((1,), {"dtype": torch.float64}, TypeError, r"dtype must be float16 or .*got torch.float64"),
    "metadata as a list": ((1,), {"metadata": [1]}, TypeError, r"metadata must be a dict .*got list"),
    "metadata with other keys": ((1,), {"metadata": {1: 2}}, TypeError, r"metadata must .*got keys \[1\]"),
    "metadata with a tensor": ((1,), {"metadata": {"a": FEATURES}}, TypeError, r"metadata must .*type Tensor is not"),
    "metadata with NaN": ((1,), {"metadata": {"a": float("nan")}}, TypeError, r"metadata must .*not JSON compliant"),
}


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), CREATE.values(), ids=CREATE.keys())
def test_create_says_what_is_wrong(path, arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        FeatureCache.create(path, *arguments, **keywords)
    assert os.listdir(path.parent) == []


def test_create_says_where_it_cannot_write(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.scene.*folder is not there"):
        FeatureCache.create(tmp_path / "nowhere" / "scene", 1)
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path)) + ": is a folder"):
        FeatureCache.create(tmp_path, 1)
    assert os.listdir(tmp_path) == []


ADD = {
    "a name twice": (("a", CAMERA, INDEX, FEATURES), ValueError, "name must be another .*'a'"),
    "a name of bytes": ((b"b", CAMERA, INDEX, FEATURES), TypeError, "name must be a string, got b'b'"),
    "no camera": (("b", None, INDEX, FEATURES), TypeError, "camera must be a Camera, got NoneType"),
    "two views": (("b", Camera.cat([CAMERA] * 2), INDEX, FEATURES), ValueError, "camera must be of one view, got 2"),
    "another grid": (("b", CAMERA, INDEX.T, FEATURES), ValueError, r"index must have shape \(3, 4\), got \(4, 3\)"),
    "two grids": (("b", CAMERA, INDEX.expand(2, -1, -1), FEATURES), ValueError, r"index must .*got \(2, 3, 4\)"),
    "an index of int32": (("b", CAMERA, INDEX.int(), FEATURES), TypeError, "index must be int64, got int32"),
    "an index as a list": (("b", CAMERA, INDEX.tolist(), FEATURES), TypeError, "index must be a tensor, got list"),
    "an index below -1": (("b", CAMERA, INDEX - 1, FEATURES), ValueError, "index must be -1 or .*got -2"),
    "a point too high": (("b", CAMERA, INDEX, FEATURES[:4]), ValueError, "index must hold points below 4.*got 4"),
    "points beyond int32": (("b", CAMERA, INDEX + 2**31, FEATURES), ValueError, r"index must .*below 2\*\*31"),
    "other channels": (("b", CAMERA, INDEX, FEATURES[:, :2]), ValueError, "features must have the 3 channels .*got 2"),
    "a map of other channels": (("b", CAMERA, INDEX, torch.ones(4, 2, 2)), ValueError, "features must .* 3 .*got 4"),
    "integers": (("b", CAMERA, INDEX, FEATURES.long()), TypeError, "features must be float16 .*got int64"),
    "one axis": (("b", CAMERA, INDEX, FEATURES[0]), ValueError, r"features must have shape .*got \(3,\)"),
    "features as a list": (("b", CAMERA, INDEX, FEATURES.tolist()), TypeError, "features must be a tensor, got list"),
    "a map without cells": (("b", CAMERA, INDEX, torch.ones(3, 0, 4)), ValueError, "features must .*at least one cell"),
    "a value too large": (("b", CAMERA, INDEX, FEATURES * 1e4), ValueError, "features of 'b' must fit in float16, got"),
}


@pytest.mark.parametrize(("frame", "error", "message"), ADD.values(), ids=ADD.keys())
def test_add_says_what_is_wrong_and_the_cache_goes_on(path, frame, error, message):
    with FeatureCache.create(path, 2, stride=2) as cache:
        cache.add("a", CAMERA, INDEX, FEATURES)
        with pytest.raises(error, match=message):
            cache.add(*frame)
        cache.add("b", CAMERA, INDEX, FEATURES + 1)
    there = FeatureCache.open(path)
    assert there.names == ("a", "b")
    assert there["b"].features.tolist() == (FEATURES[[4, 2, 0]] + 1).tolist()


def test_one_frame_too_many_is_an_error(path):
    with FeatureCache.create(path, 1, stride=2) as cache:
        cache.add("a", CAMERA, INDEX, FEATURES)
        with pytest.raises(ValueError, match=re.escape(str(path)) + ".*all of the 1 frames.*'b' is one too many"):
            cache.add("b", CAMERA, INDEX, FEATURES)
    with pytest.raises(ValueError, match=re.escape(str(path)) + ".*closed, 'b' cannot be added"):
        cache.add("b", CAMERA, INDEX, FEATURES)
    assert FeatureCache.open(path).names == ("a",)


def test_a_frame_that_is_not_there_is_named_with_those_that_are(path):
    cache = write(path)
    with pytest.raises(IndexError, match=re.escape(str(path)) + ": has 2 frames, got number 2"):
        cache[2]
    with pytest.raises(IndexError, match="got number -3"):
        cache[-3]
    with pytest.raises(KeyError, match=r"scene.safetensors: has no frame 'c'; it has 2: 'a', 'b'"):
        cache["c"]
    with pytest.raises(TypeError, match=r"frame must be a number or a name, got 1.5"):
        cache[1.5]
