"""Is everything that is wrong with a scene in ScanNet's layout said, with the file that it is in?"""

import json
import re
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scannet_by_hand import COLOR, DEPTH, GROUPS, NAME, says, write_images, write_labels, write_mesh, write_scene

from pyproj2d3d.data import ScanNet
from pyproj2d3d.data.ply import write_mesh_ply
from pyproj2d3d.data.scannet_labels import LABEL_MAP, read_label_map


@pytest.fixture
def root(tmp_path):
    write_scene(tmp_path)
    return tmp_path


@pytest.fixture
def scene(root):
    """The folder of the only scene."""
    return root / "scans" / NAME


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"split": "all"}, "split must be one of None, 'train', 'val', 'test', got 'all'"),
        ({"labels": "scannet200"}, "labels must be one of 'scannet20', 'nyu40', got 'scannet200'"),
        ({"frames": "zip"}, "frames must be one of 'auto', 'sens', 'export', 'frames_25k', got 'zip'"),
    ],
)
def test_an_argument_that_is_none_of_its_values_is_an_error(root, arguments, text):
    with pytest.raises(ValueError, match=text):
        ScanNet(root, **arguments)


def test_a_root_that_is_none_is_named(tmp_path, root):
    with pytest.raises(FileNotFoundError, match=says(root / "none", "must be a folder, there is none")):
        ScanNet(root / "none")
    with pytest.raises(NotADirectoryError, match=says(root / LABEL_MAP, "must be a folder, got a file")):
        ScanNet(root / LABEL_MAP)
    with pytest.raises(FileNotFoundError, match=says(root / "scans" / NAME, "no scenes: looked for sceneXXXX_YY")):
        ScanNet(root / "scans" / NAME)
    shutil.rmtree(root / "scans")
    (root / "scans").write_text("")
    with pytest.raises(NotADirectoryError, match=says(root / "scans", "must be a folder, got a file")):
        ScanNet(root)


def test_a_list_of_a_split_that_is_none_is_named(root):
    path = root / "scannetv2_val.txt"
    with pytest.raises(FileNotFoundError, match=says(path, "there is no such file, the scenes of val were looked for")):
        ScanNet(root, "val")
    for content, text in (
        (b"scene1", "must name a scene sceneXXXX_YY on each line, got 'scene1'"),
        (b"\xff", "must be"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=says(path, text)):
            ScanNet(root, "val")
    path.write_text("scene0900_00")
    with pytest.raises(FileNotFoundError, match="none of the 1 scenes of val is there"):
        ScanNet(root, "val")


def test_a_scene_that_is_a_file_is_named(root):
    (root / "scans" / "scene0000_00").write_text("")
    with pytest.raises(NotADirectoryError, match=says(root / "scans" / "scene0000_00", "must be a folder, got a file")):
        ScanNet(root)["scene0000_00"]


def test_frames_that_were_asked_for_and_are_not_there_are_named(root, scene):
    (scene / f"{NAME}.sens").unlink()
    for kind, place in (("sens", scene / f"{NAME}.sens"), ("export", scene), ("frames_25k", root)):
        with pytest.raises(FileNotFoundError, match=re.escape(str(place))):
            _ = ScanNet(root, frames=kind)[0].frames
    assert ScanNet(root, frames="frames_25k").missing == ("scannet_frames_25k/: frames",)


def test_a_frame_that_lacks_a_file_is_named(root, scene):
    write_images(scene, "{}", "intrinsic/intrinsic_{}.txt")
    (scene / "pose" / "1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=says(scene / "pose", "frame 1 has no pose file")):
        _ = ScanNet(root, frames="export")[0].frames


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("axisAlignment = 1 2 3\n", "axisAlignment must have 16 numbers, got '1 2 3'"),
        ("axisAlignment = " + "one " * 16, "axisAlignment must have 16 numbers, got 'one one"),
        ("axisAlignment = " + "nan " * 16, "axisAlignment must be finite and end in 0 0 0 1"),
        ("axisAlignment = " + "0 " * 16, "axisAlignment must be finite and end in 0 0 0 1"),
        ("axisAlignment = " + "0 " * 15 + "1", "must be invertible"),
    ],
)
def test_an_alignment_that_is_none_is_named(root, scene, text, wanted):
    (scene / f"{NAME}.txt").write_text(text)
    one = ScanNet(root)[0]
    with pytest.raises(ValueError, match=says(scene / f"{NAME}.txt", wanted)):
        _ = one.aligned_from_world


def test_a_text_that_is_none_is_named(root, scene):
    path = scene / f"{NAME}.txt"
    for content, text in (
        (b"sceneType", "must have lines key = value, got 'sceneType'"),
        (b"\xff\xfe", "must be text"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=says(path, text)):
            ScanNet(root)[0]


def test_boxes_need_an_alignment_about_z(root, scene):
    (scene / f"{NAME}.txt").write_text("axisAlignment = 1 0 0 0 0 0 -1 0 0 1 0 0 0 0 0 1")
    with pytest.raises(ValueError, match=says(scene / f"{NAME}.txt", "axisAlignment must turn about z alone")):
        _ = ScanNet(root)[0].boxes


@pytest.mark.parametrize(
    ("labels", "text"),
    [([5, 41, 0, 0, 0, 0], "unknown label id 41"), ([5, 700, 0, 0, 0, 0], "unknown label id 700, .* are below 150")],
)
def test_an_id_on_the_mesh_that_nyu40_does_not_have_is_named(root, scene, labels, text):
    path = scene / f"{NAME}_vh_clean_2.labels.ply"
    write_mesh(path, labels)
    with pytest.raises(ValueError, match=says(path, text)):
        _ = ScanNet(root)[0].cloud


def test_labels_of_another_mesh_are_named(root, scene):
    path = scene / f"{NAME}_vh_clean_2.labels.ply"
    vertices = np.zeros(4, [(n, "<f4") for n in "xyz"] + [("label", "<u2")])
    write_mesh_ply(path, vertices, np.zeros((0, 3)))
    with pytest.raises(ValueError, match=says(path, "must have the 6 vertices of .*, got 4")):
        _ = ScanNet(root)[0].cloud
    write_mesh(path)
    with pytest.raises(ValueError, match=says(path, "vertices must have an integer property label, got")):
        _ = ScanNet(root)[0].cloud


SEGS, OBJECTS = f"{NAME}_vh_clean_2.0.010000.segs.json", f"{NAME}.aggregation.json"


def group(**changes):
    return json.dumps({"segGroups": [GROUPS[0] | changes]})


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        (SEGS, '{"segIndices": [1, 2', "must be JSON, is it truncated"),
        (SEGS, "[" * 100_000, "must be JSON, is it truncated"),
        (SEGS, "[1]", r"must be a JSON object, got \[1\]"),
        (SEGS, "{}", "segIndices must be whole numbers, got None"),
        (SEGS, '{"segIndices": [1, 2.5, 3, 4, 5, 6]}', r"segIndices must be whole numbers, got \[1, 2.5, 3, 4, 5, 6\]"),
        (SEGS, '{"segIndices": [1, [2], 3, 4, 5, 6]}', r"segIndices must be whole numbers, got \[1, \[2\], 3"),
        (SEGS, '{"segIndices": [1, "2", 3, 4, 5, 6]}', r"segIndices must be whole numbers, got \[1, '2', 3"),
        (
            SEGS,
            '{"segIndices": [1, 2, 3, 4, 5, 1' + "0" * 40 + "]}",
            r"segIndices must be whole numbers, got \[1, 2, 3",
        ),
        (SEGS, '{"segIndices": [1, 2, 3, 4, 5, 1' + "0" * 9000 + "]}", "must be JSON, is it truncated"),
        (SEGS, '{"segIndices": [1, 2, 3]}', "segIndices must have one entry per vertex, 6, got 3"),
        (OBJECTS, "{}", "must have a list segGroups, got None"),
        (OBJECTS, '{"segGroups": [4]}', r"segGroups\[0\] must have a label, got 4"),
        (OBJECTS, group(label=None), r"segGroups\[0\] must have a label, got {.*'label': None"),
        (OBJECTS, group(objectId=None), r"objectId of segGroups\[0\] must be whole numbers, got"),
        (OBJECTS, group(objectId=-3), r"objectId of segGroups\[0\] must be 0 or more, got -3"),
        (OBJECTS, group(segments="all"), r"segments of segGroups\[0\] must be whole numbers, got 'all'"),
        (OBJECTS, group(segments=[30, 31]), r"segment 31 of segGroups\[0\] is not in .*segs.json"),
        (OBJECTS, group(segments=[100]), r"segment 100 of segGroups\[0\] is not in .*segs.json"),
        (OBJECTS, b"\x80\x04\x95", "must be JSON, is it truncated"),
    ],
)
def test_json_that_is_none_or_lacks_a_key_is_named(root, scene, name, content, text):
    (scene / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=says(scene / name, text)):
        _ = ScanNet(root)[0].cloud


def test_objects_without_segments_are_no_error(root, scene):
    (scene / OBJECTS).write_text(group(segments=[]))
    assert (ScanNet(root)[0].cloud.instance == -1).all()
    assert ScanNet(root)[0].boxes.box.shape == (0, 7)


def test_a_name_that_the_label_map_does_not_have_is_named(root, scene):
    (scene / f"{NAME}_vh_clean_2.labels.ply").unlink()
    (scene / OBJECTS).write_text(group(label="unicorn"))
    with pytest.raises(ValueError, match=says(scene / OBJECTS, "unknown label 'unicorn', it is not a raw_category of")):
        _ = ScanNet(root)[0].cloud


def test_a_label_map_that_is_not_there_is_missed_when_it_is_needed(root, scene):
    write_labels(scene / "label-filt", np.uint16)
    (root / LABEL_MAP).unlink()
    dataset = ScanNet(root)
    assert dataset.missing == (f"{LABEL_MAP}: what the names and ids of labels mean",)
    assert dataset[0].cloud.semantic is not None
    frame = dataset[0].frames[0]
    with pytest.raises(
        FileNotFoundError, match=says(root / LABEL_MAP, "there is no such file, what the ids in .* mean")
    ):
        frame.semantic()
    (scene / f"{NAME}_vh_clean_2.labels.ply").unlink()
    with pytest.raises(FileNotFoundError, match=says(root / LABEL_MAP, "there is no such file, NYU40 ids of labels")):
        _ = ScanNet(root)[0].cloud


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "must have columns id, raw_category, nyu40id, got nothing"),
        (b"id\tname\n", "must have columns id, raw_category, nyu40id, got id, name"),
        (b"id\traw_category\tnyu40id\n1\twall\n", "line 2 must have an id, a name and an NYU40 id"),
        (b"id\traw_category\tnyu40id\n1\twall\tone\n", "line 2 must have an id, a name and an NYU40 id"),
        (b"id\traw_category\tnyu40id\n99999999999\twall\t1\n", "line 2 must have an id below 65536 and one of NYU40"),
        (
            b"id\traw_category\tnyu40id\n1\twall\t41\n",
            "line 2 must have an id below 65536 and one of NYU40, got 1 and 41",
        ),
        (b"\xff\xfe", "must be a table with tabs"),
    ],
)
def test_a_label_map_that_is_none_is_named(tmp_path, content, text):
    (tmp_path / LABEL_MAP).write_bytes(content)
    with pytest.raises(ValueError, match=says(tmp_path / LABEL_MAP, text)):
        read_label_map(tmp_path / LABEL_MAP)


@pytest.mark.parametrize(("dtype", "bad"), [(np.uint16, 11), (np.uint16, 4000), (np.uint8, 41), (np.uint8, 200)])
def test_an_id_in_a_label_image_that_nobody_knows_is_named(root, scene, dtype, bad):
    (scene / "label-filt").mkdir()
    path = scene / "label-filt" / "0.png"
    Image.fromarray(np.full(COLOR, bad, dtype)).save(path)
    frame = ScanNet(root)[0].frames[0]
    with pytest.raises(ValueError, match=says(path, f"unknown label id {bad}")):
        frame.semantic()


def test_label_images_of_another_size_or_cut_off_are_named(root, scene):
    (scene / "label-filt").mkdir()
    path = scene / "label-filt" / "0.png"
    Image.fromarray(np.zeros(DEPTH, np.uint8)).save(path)
    frame = ScanNet(root)[0].frames[0]
    with pytest.raises(ValueError, match=says(path, r"must have size \(12, 16\) \(H, W\), got \(6, 8\)")):
        frame.semantic()
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(OSError, match=says(path, "cannot be decoded, is it truncated")):
        frame.semantic()


def test_an_image_that_claims_gigabytes_takes_no_memory(root, scene):
    write_labels(scene / "label-filt", np.uint16)
    path = scene / "label-filt" / "0.png"
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT")
    data[at - 4 : at] = (2_500_000_000).to_bytes(4, "big")
    path.write_bytes(data)
    frame = ScanNet(root)[0].frames[0]
    tracemalloc.start()
    try:
        assert frame.semantic()[0, 1] == 4  # the pixels are all there
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_bytes_flipped_anywhere_are_an_error_that_names_a_file_or_another_scene(root, scene):
    write_labels(scene / "label-filt", np.uint16)
    (scene / f"{NAME}_vh_clean_2.labels.ply").rename(root / "labels.ply")
    files = [*sorted(path for path in scene.rglob("*") if path.is_file()), root / LABEL_MAP]
    random, said, read = np.random.default_rng(0), [], 0
    for i in range(500):
        path = files[i % len(files)]
        whole = path.read_bytes()
        broken = bytearray(whole)
        for at in random.integers(0, len(broken), random.integers(1, 4)):
            broken[at] = random.integers(0, 256)
        path.write_bytes(broken[: random.integers(1, len(broken))] if i % 3 == 0 else broken)
        try:
            one = ScanNet(root)[0]
            cloud, _ = one.cloud, one.boxes
            assert cloud.points.shape == (len(cloud.instance), 3)
            one.frames[0].semantic(), one.frames[0].depth(), one.frames[0].color(), one.aligned_from_world
            read += 1
        except (ValueError, OSError, UserWarning) as error:  # the warning is of a pose that is no longer finite
            said.append(str(error))
        path.write_bytes(whole)
    assert read > 20
    assert len(said) > 100
    assert [text for text in said if not text.startswith(str(root))] == []
