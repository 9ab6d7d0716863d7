"""Are the rooms of S3DIS read as they lie on the disk, and is everything wrong with them named?"""

import pickle
import random
import re
import shutil

import numpy as np
import pytest
import torch
from s3dis_by_hand import (
    CHAIR,
    FLOOR,
    STAIRS,
    office,
    outcome,
    says,
    three_rooms,
    write_room,
)

from pyproj2d3d.data.s3dis import KNOWN_FAULTS, S3DIS, read_points, read_room
from pyproj2d3d.data.stanford2d3ds import CLASSES


@pytest.fixture
def root(tmp_path):
    return three_rooms(tmp_path)


def test_a_room_is_its_annotations_one_after_the_other(root):
    cloud = S3DIS(root)["Area_1_office_2"].cloud
    assert cloud.points.dtype == torch.float32
    assert cloud.points.tolist() == [[1.5, 2.25, 0.5], [1.5, 2.25, 1], [0, 0, 0], [4, 0, 0], [4, 3, 0], [3, 3, 3]]
    assert cloud.colors.dtype == torch.uint8
    assert cloud.colors[[0, 2, 5]].tolist() == [[10, 20, 30], [255, 0, 7], [100, 101, 102]]
    assert cloud.semantic.tolist() == [8, 8, 1, 1, 1, 12]  # chair, floor, and stairs are clutter
    assert cloud.instance.tolist() == [0, 0, 1, 1, 1, 2]
    assert cloud.semantic.dtype == cloud.instance.dtype == torch.int64


def test_rooms_are_listed_by_area_and_name_and_know_what_they_are(root):
    dataset = S3DIS(root)
    assert dataset.names == ("Area_1_office_10", "Area_1_office_2", "Area_5_hallway_1")
    assert dataset.classes == CLASSES
    assert [scene.scene_type for scene in dataset] == ["office", "office", "hallway"]
    assert repr(dataset) == f"S3DIS({str(root)!r}, split=None): 3 scenes"
    assert [str(root / f"Area_{i}") + ": not there" in dataset.missing for i in (1, 2, 3, 4, 5, 6)] == [
        False,
        *[True] * 3,
        False,
        True,
    ]


def test_area_5_is_the_validation_split_and_areas_choose_any_other_fold(root):
    assert S3DIS(root, "val").names == ("Area_5_hallway_1",)
    assert S3DIS(root, "train").names == ("Area_1_office_10", "Area_1_office_2")
    assert S3DIS(root, areas=(5, 1)).names == ("Area_5_hallway_1", "Area_1_office_10", "Area_1_office_2")
    assert S3DIS(root, areas=[5]).areas == (5,)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({"split": "test"}, 'split must be "train", "val" \\(Area 5\\) or None, got \'test\''),
        ({"split": "val", "areas": (1,)}, "split and areas must not both be given, got 'val' and \\(1,\\)"),
        ({"areas": (1, 7)}, "areas must be some of 1 to 6, each once, got \\(1, 7\\)"),
        ({"areas": (1, 1)}, "each once, got \\(1, 1\\)"),
        ({"areas": ()}, "areas must be some of 1 to 6, each once, got \\(\\)"),
        ({"areas": 5}, "areas must be some of 1 to 6, each once, got 5"),
        ({"area_5b": "ignore"}, 'area_5b must be "as stored", "moved" or "left out", got \'ignore\''),
    ],
)
def test_an_unknown_choice_is_an_error(root, arguments, wanted):
    with pytest.raises(ValueError, match=wanted):
        S3DIS(root, **arguments)


def test_a_root_that_is_none_is_an_error(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=says(tmp_path / "none", "must be the folder of S3DIS.*there is none")):
        S3DIS(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=says(tmp_path / "file", "must be the folder of S3DIS.*got a file")):
        S3DIS(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match=says(tmp_path, "no rooms: looked for Area_N/ROOM/Annotations/")):
        S3DIS(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no rooms: .* in areas 2, 3$"):
        S3DIS(root, areas=(2, 3))
    with pytest.raises(FileNotFoundError, match=says(tmp_path / "file", "images must be the folder of 2D-3D-S")):
        S3DIS(root, images=tmp_path / "file")


def test_opening_reads_no_points_and_no_pixels(root):
    for path in root.rglob("*.txt"):
        if "alignment" not in path.name:
            path.write_text("broken")
    for path in root.rglob("*.png"):
        path.write_bytes(b"broken")
    scenes = list(S3DIS(root))
    with pytest.raises(ValueError, match="line 1"):
        _ = scenes[0].cloud
    with pytest.raises(OSError, match="cannot be opened as an image"):
        _ = scenes[1].frames


def test_a_scene_can_be_sent_to_another_process(root):
    scene = pickle.loads(pickle.dumps(S3DIS(root)["Area_1_office_2"]))
    assert len(scene.cloud.points) == 6
    assert len(scene.frames) == 2


# Files of points, and their faults.


def test_a_room_without_annotations_is_left_out_and_said(root):
    shutil.rmtree(office(root) / "Annotations")
    dataset = S3DIS(root)
    assert "Area_1_office_2" not in dataset.names
    assert f"{office(root) / 'Annotations'}: not there, the room is left out" in dataset.missing


def test_an_empty_room_is_an_error(root):
    for path in (office(root) / "Annotations").iterdir():
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=says(office(root) / "Annotations", "no objects: looked for CLASS_N.txt")
    ):
        _ = S3DIS(root)["Area_1_office_2"].cloud


def test_hidden_and_other_files_are_no_objects(root):
    for name in (".DS_Store", "._chair_1.txt", "Icon\r", "chair_9.npy"):
        (office(root) / "Annotations" / name).write_bytes(b"\x00\x05")
    assert len(read_room(office(root)).points) == 6


def test_a_copy_of_an_object_is_left_out_and_said(root):
    copy = shutil.copy(office(root) / "Annotations" / "chair_1.txt", office(root) / "Annotations" / "chair_1 (1).txt")
    with pytest.warns(UserWarning, match=says(copy, "is left out, as a copy of chair_1.txt")):
        assert read_room(office(root)).instance.tolist() == [0, 0, 1, 1, 1, 2]


def test_a_room_file_with_another_number_of_points_is_said(root):
    path = office(root) / "office_2.txt"
    path.write_text(CHAIR + "1 2 3 4 5 6")
    with pytest.warns(UserWarning, match=says(path, "has 3 points, the 3 files of Annotations/ have 6; these are")):
        assert len(read_room(office(root)).points) == 6
    path.unlink()
    assert len(read_room(office(root)).points) == 6


def test_a_room_file_of_another_name_is_counted_too(root):
    (office(root) / "office_2.txt").rename(office(root) / "offi_ce_2.txt")
    assert len(read_room(office(root)).points) == 6
    (office(root) / "offi_ce_2.txt").write_text("")
    with pytest.warns(UserWarning, match="has 0 points"):
        read_room(office(root))


@pytest.mark.parametrize("newline", ["\n", "\r\n", " \n", "\n\n"])
def test_lines_may_end_in_any_way_and_numbers_be_written_in_any(tmp_path, newline):
    path = tmp_path / "wall_1.txt"
    path.write_bytes(newline.join(["-1.5 +2 .25 0 127.4 255", "1e-2  2.\t3 4.000000 5 6"]).encode())
    points, colors = read_points(path)
    assert points.tolist() == [[-1.5, 2, 0.25], [np.float32(0.01), 2, 3]]
    assert colors.tolist() == [[0, 127, 255], [4, 5, 6]]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("1 2 3 4 5", "got 5 numbers: b'1 2 3 4 5'"),
        ("1 2 3 4 5 6 7", "got 7 numbers"),
        ("1 2 3 4 5 6x", "got a character of no number: b'1 2 3 4 5 6x'"),
        ("1 2 nan 4 5 6", "got a character of no number"),
        ("1 2 3 4 5\x006 7", "got a character of no number"),
        ("1 2 3 4 5 1-6", "got what is no number"),
        ("1 2 3 4 1.5.5 6", "got what is no number"),
        ("1 2 1e39 4 5 6", "got a place that is not finite in float32"),
        ("1 2 1e999 4 5 6", "got a place that is not finite in float32"),
        ("1 2 3 4 5 256", "got a colour beyond 0 to 255"),
        ("1 2 3 -1 5 6", "got a colour beyond 0 to 255"),
        ("1 2 3 4 5 1e999", "got a colour beyond 0 to 255"),
    ],
)
def test_a_broken_line_is_named_with_its_text(root, line, wanted):
    path = office(root) / "Annotations" / "floor_1.txt"
    path.write_text(FLOOR + line + "\n" + FLOOR)
    with pytest.raises(ValueError, match=says(path, "line 4: x y z r g b were wanted, ") + re.escape(wanted)):
        _ = S3DIS(root)["Area_1_office_2"].cloud


def test_lines_that_are_all_too_short_are_an_error(tmp_path):
    path = tmp_path / "wall_1.txt"
    path.write_text("1 2 3\n4 5 6\n")
    with pytest.raises(ValueError, match=says(path, "line 1: .*got 3 numbers")):
        read_points(path)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_an_error(tmp_path, text):
    path = tmp_path / "wall_1.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=says(path, "must have lines x y z r g b, it is empty")):
        read_points(path)


@pytest.mark.parametrize(
    ("file", "broken", "mended"),
    [
        (KNOWN_FAULTS[0], b"22.350 6.692 3.048 185\x00187 182", [185, 187, 182]),
        (KNOWN_FAULTS[0], b"22.350 6.692 3.048 185\x10187 182", [185, 187, 182]),
        (KNOWN_FAULTS[1], b"22.35 6.692 3.048 103.0\x100000 105.000000 97.000000", [103, 105, 97]),
    ],
)
def test_the_known_broken_lines_are_mended_and_said(tmp_path, file, broken, mended):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_bytes(CHAIR.encode() + broken + b"\n" + CHAIR.encode())
    with pytest.warns(UserWarning, match=says(path, "line 3 has a broken byte, .* is read as b'22.35")):
        points, colors = read_points(path)
    assert points[2].tolist() == np.float32([22.35, 6.692, 3.048]).tolist()
    assert colors[[0, 2, 4]].tolist() == [[10, 20, 30], mended, [11, 21, 31]]


@pytest.mark.parametrize("more", [b"1 2 3 4\x10 5\n", b"1 2 3 4 5 6\n1 2 3 4\x105 6 7\n"])
def test_another_fault_in_a_known_file_is_an_error(tmp_path, more):
    path = tmp_path / KNOWN_FAULTS[0]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"22.350 6.692 3.048 185\x00187 182\n" + more)
    with (
        pytest.warns(UserWarning, match="line 1"),
        pytest.raises(ValueError, match=says(path, "line [23]: .*no number")),
    ):
        read_points(path)
    path.write_bytes(more)
    with pytest.raises(ValueError, match=says(path, "line [12]: .*no number")):  # nor is it mended, which would be said
        read_points(path)


def test_the_same_broken_line_elsewhere_is_an_error(root):
    path = office(root) / "Annotations" / "floor_1.txt"
    path.write_bytes(b"22.350 6.692 3.048 185\x00187 182\n")
    with pytest.raises(ValueError, match=says(path, "line 1: .*" + re.escape(r"185\x00187 182"))):
        read_room(office(root))


def test_the_bytes_of_a_file_of_points_can_be_anything(tmp_path):
    """Either the points come of it that Python reads in its lines, or an error that names the file."""
    path, draw, failed = tmp_path / "wall_1.txt", random.Random(3), 0
    for _ in range(600):
        data = bytearray((CHAIR + FLOOR + STAIRS).encode())
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] = draw.choice(b" \n\r\t.-+e019x#,\"'_\x00\x0b\x1c\x85\xff")
        data = data[: draw.choice([len(data), draw.randrange(len(data))])]
        path.write_bytes(bytes(data))
        found = outcome(path, lambda: read_points(path))
        if found is None:
            failed += 1
            continue
        wanted = [[float(word) for word in line.split()] for line in re.split(rb"[\r\n]", data) if line.strip()]
        assert np.array_equal(found[0], np.array(wanted)[:, :3].astype(np.float32))
        assert np.array_equal(found[1], np.rint(np.array(wanted)[:, 3:]))
    assert 200 < failed < 580


# The turn to the walls.


def test_alignment_turns_a_room_about_its_middle_and_is_not_applied(root):
    scene = S3DIS(root)["Area_1_office_2"]  # from 0 0 0 to 4 3 3, and 90 degrees
    aligned = scene.cloud.points.double() @ scene.aligned_from_world[:3, :3].T + scene.aligned_from_world[:3, 3]
    assert aligned[2].tolist() == [0.5, 3.5, 0]  # the corner at the origin
    assert aligned[3].tolist() == [0.5, -0.5, 0]  # the corner at x = 4
    assert scene.cloud.points[3].tolist() == [4, 0, 0]
    assert torch.equal(S3DIS(root)["Area_1_office_10"].aligned_from_world, torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize(
    ("line", "got"), [("office_10 0", "none"), ("office_2 ninety", "ninety"), ("office_2", "none")]
)
def test_a_room_without_its_angle_is_an_error(root, line, got):
    path = root / "Area_1" / "Area_1_alignmentAngle.txt"
    path.write_text(f"## Global ##\n{line}\n")
    with pytest.raises(ValueError, match=says(path, f"must have a line 'office_2 DEGREES', got {got}")):
        _ = S3DIS(root)["Area_1_office_2"].aligned_from_world


def test_rooms_that_are_aligned_have_no_frames_and_that_is_said(root):
    (root / "Area_1" / "Area_1_alignmentAngle.txt").unlink()
    with pytest.warns(UserWarning, match=says(root, "the rooms of areas 1 are given without frames")):
        dataset = S3DIS(root)
    assert any("without frames" in line for line in dataset.missing)
    assert len(dataset["Area_1_office_2"].frames) == 0
    assert dataset["Area_1_office_2"].aligned_from_world is None
    assert len(dataset["Area_1_office_2"].cloud.points) == 6


def test_the_name_of_the_aligned_version_is_believed_too(root):
    aligned = root.rename(root.with_name("Stanford3dDataset_v1.2_Aligned_Version"))
    with pytest.warns(UserWarning, match="the rooms of areas 1, 5 are given without frames"):
        assert len(S3DIS(aligned)["Area_1_office_2"].frames) == 0


# What is known of the dataset itself.


def test_the_classes_are_those_of_the_published_list(real_data):
    assert real_data("label_tables/s3dis_class_names.txt").read_text().split() == list(CLASSES)


def test_all_rooms_of_the_published_list_are_found(tmp_path, real_data):
    places = real_data("label_tables/s3dis_anno_paths.txt").read_text().split()
    for place in places:
        (tmp_path / place).mkdir(parents=True)
    assert len(S3DIS(tmp_path)) == len(places) == 272
    assert len(S3DIS(tmp_path, "val")) == 68
    assert set(S3DIS(tmp_path).names) == {"_".join(place.split("/")[:2]) for place in places}
    kinds = {scene.scene_type for scene in S3DIS(tmp_path)}
    assert {"office", "hallway", "WC", "conferenceRoom", "copyRoom"} < kinds
    assert len(kinds) == 11


def test_real_points_written_as_text_come_back_to_the_bit(tmp_path, real_data):
    folder = real_data("mmdet3d_tiny/s3dis")
    points = np.fromfile(folder / "points" / "Area_1_office_2.bin", np.float32).reshape(-1, 6)
    semantic = np.fromfile(folder / "semantic_mask" / "Area_1_office_2.bin", np.int64)
    instance = np.fromfile(folder / "instance_mask" / "Area_1_office_2.bin", np.int64)
    objects = {}
    for i in np.unique(instance).tolist():
        rows = points[instance == i]
        name = f"{CLASSES[semantic[instance == i][0]]}_{i}"
        objects[name] = "".join("{:.9g} {:.9g} {:.9g} {:.0f} {:.0f} {:.0f}\n".format(*row) for row in rows)
    write_room(tmp_path / "Area_1" / "office_2", **objects)
    cloud = S3DIS(tmp_path)["Area_1_office_2"].cloud
    order = np.concatenate([np.flatnonzero(instance == int(name.split("_")[1])) for name in sorted(objects)])
    assert len(order) == 100
    assert np.array_equal(cloud.points.numpy(), points[order, :3])
    assert np.array_equal(cloud.colors.numpy(), points[order, 3:])
    assert np.array_equal(cloud.semantic.numpy(), semantic[order])
    assert len(np.unique(cloud.instance)) == len(objects)
