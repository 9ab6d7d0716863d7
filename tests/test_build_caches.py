"""Is there a cache for every scene in the end, whatever stopped the building, and however it was shared out?"""

import errno
import json
import os
import re
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from scenes import assert_same_bits

from pyproj2d3d import reference
from pyproj2d3d.cache import FeatureCache, build_caches
from pyproj2d3d.data import read_posed_folder, write_room
from pyproj2d3d.ops.visibility import DEFAULT_TOLERANCE

SIZE = (48, 64)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Three rooms of two frames."""
    folders = [tmp_path_factory.mktemp("scenes") / f"room{i}" for i in range(3)]
    for i, folder in enumerate(folders):
        write_room(folder, frames=2, seed=i, points=4000, size=SIZE)
    return [read_posed_folder(folder) for folder in folders]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No launcher's variables."""
    for name in list(os.environ):
        if name in ("RANK", "WORLD_SIZE") or name.startswith("SLURM_"):
            monkeypatch.delenv(name)


class Network:
    """Features that tell the point, and which scenes were asked for."""

    def __init__(self, fails=(), error=None):
        self.asked, self.fails = [], fails
        self.error = ArithmeticError("no such luck") if error is None else error

    def __call__(self, scene):
        self.asked.append(scene.name)
        if scene.name in self.fails:
            raise self.error
        return torch.stack((torch.arange(len(scene.points)) % 1000, torch.ones(len(scene.points))), dim=1)


def files(folder):
    return sorted(os.listdir(folder))


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


ALL = ["room0.safetensors", "room1.safetensors", "room2.safetensors"]


def test_a_frame_keeps_the_nearest_of_the_points_that_pass_the_depth_test(scenes, tmp_path):
    done = build_caches(scenes, tmp_path, Network(), stride=4, radius=1, tolerance=(0.03, 0.01, 0), dtype=torch.float32)
    assert done.built == tuple(tmp_path / name for name in ALL)
    assert done.skipped == ()
    for scene in scenes:
        cache = FeatureCache.open(tmp_path / f"{scene.name}.safetensors")
        assert (cache.stride, cache.radius, cache.dtype) == (4, 1, torch.float32)
        assert cache.metadata["depth_rule"]["tolerance"] == [0.03, 0.01, 0]
        assert cache.names == tuple(frame.name for frame in scene.frames)
        features = Network()(scene)
        for frame, there in zip(scene.frames, cache, strict=True):
            depth = frame.depth()[None]
            seen = reference.visibility(
                scene.points, frame.camera, depth, depth_scale=frame.depth_scale, tolerance=(0.03, 0.01, 0)
            )
            uvz = reference.project(scene.points, frame.camera)
            index = reference.zbuffer(uvz, SIZE, radius=1, matches=seen)[0][0, ::4, ::4]
            dense, mask = there.dense()
            assert 0.2 < there.coverage < 1
            assert torch.equal(mask, index >= 0)
            assert_same_bits(dense.permute(1, 2, 0)[mask], features[index[mask]])
            assert there.point.tolist() == index[mask].tolist()
            assert_same_bits(there.camera, frame.camera)


def test_the_default_tolerance_is_that_of_visibility(scenes, tmp_path):
    build_caches(scenes[:1], tmp_path, Network())
    cache = FeatureCache.open(tmp_path / ALL[0])
    assert (cache.stride, cache.radius, cache.dtype) == (8, 1, torch.float16)
    assert cache.metadata["depth_rule"]["tolerance"] == list(DEFAULT_TOLERANCE)
    assert build_caches(scenes[:1], tmp_path, Network(), tolerance=DEFAULT_TOLERANCE).built == ()


def test_depth_in_float_metres_needs_no_scale(scenes, tmp_path):
    class InMetres:
        def __init__(self, frame):
            self.name, self.camera, self.frame = frame.name, frame.camera, frame

        def depth(self):
            return self.frame.depth().float() / self.frame.depth_scale

    metres = [replace(scenes[0], read_frames=lambda: [InMetres(frame) for frame in scenes[0].frames])]
    build_caches(metres, tmp_path / "metres", Network())
    build_caches(scenes[:1], tmp_path / "millimetres", Network())
    assert contents(tmp_path / "metres") == contents(tmp_path / "millimetres")


def test_what_is_there_is_skipped_and_not_computed(scenes, tmp_path):
    build_caches(scenes[1:2], tmp_path, Network())
    before = contents(tmp_path)
    network = Network()
    done = build_caches(scenes, tmp_path, network)
    assert network.asked == ["room0", "room2"]
    assert [path.name for path in done.built] == [ALL[0], ALL[2]]
    assert [path.name for path in done.skipped] == [ALL[1]]
    assert contents(tmp_path).items() >= before.items()
    again = build_caches(scenes, tmp_path, network)
    assert again.built == ()
    assert len(network.asked) == 2


def test_a_scene_that_fails_does_not_lose_the_others(scenes, tmp_path):
    network = Network(fails=["room0", "room2"])
    with pytest.raises(RuntimeError, match=r"2 scenes failed; 1 of 3 were built") as caught:
        build_caches(scenes, tmp_path, network)
    assert re.search(r"room0: ArithmeticError: no such luck\n  room2: ArithmeticError", str(caught.value))
    assert isinstance(caught.value.__cause__, ArithmeticError)
    assert files(tmp_path) == [ALL[1]]
    network = Network()
    build_caches(scenes, tmp_path, network)
    assert network.asked == ["room0", "room2"]
    assert files(tmp_path) == ALL


def test_an_interruption_stops_at_once_and_building_goes_on_from_there(scenes, tmp_path):
    network = Network(fails=["room1"], error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        build_caches(scenes, tmp_path, network)
    assert files(tmp_path) == [ALL[0]]
    assert [path.name for path in build_caches(scenes, tmp_path, Network()).built] == ALL[1:]


def test_a_full_disk_stops_the_building(scenes, tmp_path):
    """The features of the other scenes would be computed for nothing."""
    network = Network(fails=["room1"], error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(RuntimeError, match=r"1 scenes failed; 1 of 3 were built.*\n  room1: OSError.*No space left"):
        build_caches(scenes, tmp_path, network)
    assert network.asked == ["room0", "room1"]
    assert files(tmp_path) == [ALL[0]]


@pytest.mark.parametrize("kept", [100, 2000, -1])
def test_a_truncated_cache_is_built_again(scenes, tmp_path, kept):
    build_caches(scenes, tmp_path, Network())
    before = contents(tmp_path)
    (tmp_path / ALL[1]).write_bytes(before[ALL[1]][:kept])
    done = build_caches(scenes, tmp_path, Network())
    assert [path.name for path in done.built] == [ALL[1]]
    assert contents(tmp_path) == before


FOREIGN = {
    "text": b"My notes about room 1.",
    "other safetensors": safetensors.torch.save({"a": torch.ones(3)}),
    "an empty file": b"",
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_file_is_not_overwritten(scenes, tmp_path, data):
    (tmp_path / ALL[1]).write_bytes(data)
    network = Network()
    with pytest.raises(ValueError, match=r"room1.safetensors: is no feature cache"):
        build_caches(scenes, tmp_path, network)
    assert contents(tmp_path) == {ALL[1]: data}
    assert network.asked == []  # found before any work


def test_a_cache_of_another_version_is_not_overwritten(scenes, tmp_path):
    build_caches(scenes[:1], tmp_path, Network())
    data = (tmp_path / ALL[0]).read_bytes().replace(b'"version":"1"', b'"version":"2"')
    (tmp_path / ALL[0]).write_bytes(data)
    with pytest.raises(ValueError, match=r"room0.safetensors: .*of version '2'"):
        build_caches(scenes[:1], tmp_path, Network())
    assert (tmp_path / ALL[0]).read_bytes() == data


OTHER = {
    "stride": ({"stride": 4}, "stride 8 instead of 4"),
    "radius": ({"radius": 0}, "radius 1 instead of 0"),
    "dtype": ({"dtype": torch.float32}, "dtype torch.float16 instead of torch.float32"),
    "tolerance": ({"tolerance": 0.05}, r"tolerance \[.*\] instead of \[0.05, 0.0, 0.0\]"),
}


@pytest.mark.parametrize(("keywords", "message"), OTHER.values(), ids=OTHER.keys())
def test_a_cache_built_with_other_settings_says_which(scenes, tmp_path, keywords, message):
    build_caches(scenes[:1], tmp_path, Network())
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"room0.safetensors: was built with {message}. Remove it, or give another"):
        build_caches(scenes, tmp_path, Network(), **keywords)
    assert contents(tmp_path) == before


def test_a_cache_of_other_frames_says_so(scenes, tmp_path):
    build_caches(scenes[:1], tmp_path, Network())
    fewer = replace(scenes[0], read_frames=lambda: scenes[0].frames[:1])
    with pytest.raises(ValueError, match=r"room0.safetensors: .*2 frames that are not the 1 of the scene"):
        build_caches([fewer], tmp_path, Network())


def test_a_cache_without_a_depth_rule_is_of_other_settings(scenes, tmp_path):
    with FeatureCache.create(tmp_path / ALL[0], 0):
        pass
    with pytest.raises(ValueError, match="tolerance None instead of"):
        build_caches(scenes[:1], tmp_path, Network())


@pytest.mark.parametrize("rule", ["|d - z| < 0.05", [0.05], {"tolerance": 0.05}])
def test_a_depth_rule_of_another_form_is_another_setting(scenes, tmp_path, rule):
    with FeatureCache.create(tmp_path / ALL[0], 0, metadata={"depth_rule": rule}):
        pass
    with pytest.raises(ValueError, match=r"room0.safetensors: .*tolerance .* instead of"):
        build_caches(scenes[:1], tmp_path, Network())


SHARES = {
    "arguments": ({}, {"shard": 1, "shards": 2}, [1]),
    "arguments before variables": ({"RANK": "0", "WORLD_SIZE": "2"}, {"shard": 1, "shards": 2}, [1]),
    "torchrun": ({"RANK": "0", "WORLD_SIZE": "2"}, {}, [0, 2]),
    "torchrun before Slurm": (
        {"RANK": "1", "WORLD_SIZE": "2", "SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "9"},
        {},
        [1],
    ),
    "Slurm": ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"}, {}, [2]),
    "Slurm from 5": ({"SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "2"}, {}, [1]),
    "Slurm by 10": (
        {f"SLURM_ARRAY_TASK_{k}": v for k, v in {"ID": "15", "MIN": "5", "STEP": "10", "COUNT": "2"}.items()},
        {},
        [1],
    ),
    "more shards than scenes": ({}, {"shard": 7, "shards": 8}, []),
    "half a launcher": ({"RANK": "1", "SLURM_ARRAY_TASK_ID": "1"}, {}, [0, 1, 2]),
}


@pytest.mark.parametrize(("variables", "keywords", "expected"), SHARES.values(), ids=SHARES.keys())
def test_scenes_are_shared_out(scenes, tmp_path, monkeypatch, variables, keywords, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = build_caches(scenes, tmp_path, Network(), **keywords)
    assert [path.name for path in done.built] == files(tmp_path) == [ALL[i] for i in expected]


def test_all_shards_together_make_all_caches(scenes, tmp_path):
    for shard in range(2):
        build_caches(scenes, tmp_path / "shards", Network(), shard=shard, shards=2)
    build_caches(scenes, tmp_path / "one", Network())
    assert contents(tmp_path / "shards") == contents(tmp_path / "one")


NOT_SHARED = {
    "shard alone": ({}, {"shard": 1}, ValueError, "shard and shards must be given together, got 1 and None"),
    "shards alone": ({}, {"shards": 1}, ValueError, "shard and shards must be given together, got None and 1"),
    "shard too high": ({}, {"shard": 2, "shards": 2}, ValueError, "shard must be below .*got 2 of 2"),
    "shard below 0": ({}, {"shard": -1, "shards": 2}, ValueError, "shard must be at least 0, got -1"),
    "no shards": ({}, {"shard": 0, "shards": 0}, ValueError, "shards must be at least 1, got 0"),
    "shard of a half": ({}, {"shard": 0.5, "shards": 2}, TypeError, "shard must be an integer, got 0.5"),
    "RANK too high": ({"RANK": "3", "WORLD_SIZE": "3"}, {}, ValueError, "RANK must be below .*got 3 of 3"),
    "RANK as a word": ({"RANK": "one", "WORLD_SIZE": "3"}, {}, ValueError, "RANK in the environment .*got 'one'"),
    "Slurm with gaps": (
        {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "3"},
        {},
        ValueError,
        "SLURM_ARRAY_TASK_ID, less _MIN .*must be below .*got 6 of 3",
    ),
    "Slurm by 0": (
        {f"SLURM_ARRAY_TASK_{k}": v for k, v in {"ID": "1", "STEP": "0", "COUNT": "2"}.items()},
        {},
        ValueError,
        "SLURM_ARRAY_TASK_STEP must be at least 1, got 0",
    ),
}


@pytest.mark.parametrize(("variables", "keywords", "error", "message"), NOT_SHARED.values(), ids=NOT_SHARED.keys())
def test_a_share_that_cannot_be_says_so(scenes, tmp_path, monkeypatch, variables, keywords, error, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=message):
        build_caches(scenes, tmp_path, Network(), **keywords)
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", ".hidden", "a\0b", "a\nb", "x" * 250])
def test_a_scene_needs_a_name_fit_for_a_file(scenes, tmp_path, name):
    with pytest.raises(ValueError, match="the name of a scene must be fit for a file, got " + re.escape(repr(name))):
        build_caches([scenes[0], replace(scenes[1], name=name)], tmp_path, Network())
    assert files(tmp_path) == []


def test_names_of_scenes_differ_and_are_strings(scenes, tmp_path):
    with pytest.raises(ValueError, match="the names of scenes must differ, 2 are called 'room0'"):
        build_caches([*scenes, scenes[0]], tmp_path, Network(), shard=1, shards=4)
    with pytest.raises(TypeError, match="the name of a scene must be a string, got 3"):
        build_caches([replace(scenes[0], name=3)], tmp_path, Network())


WRONG = {
    "fewer rows": (lambda scene: torch.ones(len(scene.points) - 1, 4), {}, r"ValueError: features\(scene\) must have"),
    "a map": (lambda scene: torch.ones(4, 5, 5), {}, r"ValueError: features\(scene\) must have shape \(4000, \*\)"),
    "integers": (lambda scene: torch.ones(4000, 4).long(), {}, r"TypeError: features\(scene\) must be float16 or"),
    "nothing": (lambda scene: None, {}, r"TypeError: features\(scene\) must be a tensor, got NoneType"),
    "no points": (Network(), {"read_cloud": None}, r"ValueError: points of scene 'room1' must be there"),
}


@pytest.mark.parametrize(("features", "changes", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_cached_is_named_with_its_scene(scenes, tmp_path, features, changes, message):
    with pytest.raises(RuntimeError, match="room1: " + message):
        build_caches([replace(scenes[1], **changes)], tmp_path, features)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ({"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        ({"dtype": torch.float64}, TypeError, "dtype must be float16 or .*got torch.float64"),
        ({"tolerance": (1, 2)}, ValueError, r"tolerance must be .*got \(1, 2\)"),
        ({"tolerance": float("inf")}, ValueError, "tolerance must be finite.*got inf"),
    ],
)
def test_build_caches_says_what_is_wrong(scenes, tmp_path, keywords, error, message):
    with pytest.raises(error, match=message):
        build_caches(scenes, tmp_path / "new", Network(), **keywords)
    assert not (tmp_path / "new").exists()


def test_the_same_input_makes_the_same_bytes(scenes, tmp_path):
    for name in ("one", "two"):
        build_caches(scenes, tmp_path / name, Network())
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_the_depth_rule_stands_in_the_metadata_for_anyone(scenes, tmp_path):
    build_caches(scenes[:1], tmp_path, Network(), tolerance=0.05)
    with safetensors.safe_open(tmp_path / ALL[0], framework="pt") as file:
        rule = json.loads(file.metadata()["metadata"])["depth_rule"]
    assert rule["tolerance"] == [0.05, 0, 0]
