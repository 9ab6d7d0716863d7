"""Is a scene in ScanNet's layout read as its files say, lazily, and is everything wrong with it named?"""

import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyproj2d3d import Camera, project, visibility
from pyproj2d3d.data import read_posed_folder
from pyproj2d3d.data.ply import write_mesh_ply
from pyproj2d3d.data.scannet import ScanNet
from pyproj2d3d.data.scannet_labels import LABEL_MAP, read_label_map
from pyproj2d3d.data.sens import write_sens

NAME = "scene0007_01"
DEPTH, COLOR = (6, 8), (12, 16)
K = np.diag([10.0, 10, 1])
K_COLOR = np.diag([20.0, 20, 1])
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [1, 2, 0], [9, 9, 9]], np.float32)
TEXT = "axisAlignment = 0 -1 0 5 1 0 0 6 0 0 1 7 0 0 0 1\nnumDepthFrames = 3\nsceneType = Bedroom / Hotel\n"
GROUPS = [
    {"id": 0, "objectId": 4, "segments": [30, 7], "label": "office chair"},
    {"id": 1, "objectId": 2, "segments": [12], "label": "trash can"},
]
TSV = """id\traw_category\tcategory\tnyu40id
1\twall\twall\t1
10\toffice chair\tchair\t5
56\ttrash can\t\t39
300\tcup\tcup\t40
"""


def says(file, text):
    return re.escape(str(file)) + ".*" + text


def write_mesh(path, labels=None):
    fields = [(n, "<f4") for n in "xyz"] + [(n, "u1") for n in ("red", "green", "blue", "alpha")]
    vertices = np.zeros(len(VERTICES), fields + ([] if labels is None else [("label", "<u2")]))
    for i, axis in enumerate("xyz"):
        vertices[axis] = VERTICES[:, i]
    vertices["red"] = range(len(VERTICES))
    if labels is not None:
        vertices["label"] = labels
    write_mesh_ply(path, vertices, np.array([[0, 1, 2], [2, 1, 4]]))


def pose_at(x):
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def color_of(i):
    return np.full((*COLOR, 3), 20 * i, np.uint8)


def depth_of(i):
    return np.full(DEPTH, 1000 + i, np.uint16)


def write_text_matrix(path, matrix):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(map(str, row)) for row in matrix.tolist()))


def write_images(folder, stem, intrinsics, frames=3):
    for i in range(frames):
        for kind, pixels in (("color", color_of(i)), ("depth", depth_of(i))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{stem.format(i)}.{'jpg' if kind == 'color' else 'png'}")
        write_text_matrix(folder / "pose" / f"{stem.format(i)}.txt", pose_at(i))
    for kind, matrix in (("depth", K), ("color", K_COLOR)):
        square = np.eye(4)
        square[:3, :3] = matrix
        write_text_matrix(folder / intrinsics.format(kind), square)


def write_recording(path, poses=(0, 1, 2)):
    frames = [
        (pose_at(x) if np.isfinite(x) else np.full((4, 4), -np.inf), color_of(i), depth_of(i))
        for i, x in enumerate(poses)
    ]
    sizes = {"color_size": COLOR, "depth_size": DEPTH, "color_intrinsics": K_COLOR, "depth_intrinsics": K}
    write_sens(path, frames, **sizes)


def write_labels(folder, dtype, name="0"):
    ids = np.zeros(COLOR, dtype)
    ids[0, :4] = (1, 10, 5, 39) if dtype == np.uint8 else (1, 10, 56, 300)
    folder.mkdir(parents=True)
    Image.fromarray(ids).save(folder / f"{name}.png")


@pytest.fixture
def root(tmp_path):
    """One scene with all that belongs to it, made by hand, and the tables beside."""
    scene = tmp_path / "scans" / NAME
    scene.mkdir(parents=True)
    write_mesh(scene / f"{NAME}_vh_clean_2.ply")
    write_mesh(scene / f"{NAME}_vh_clean_2.labels.ply", [5, 5, 39, 5, 40, 0])
    segments = {"sceneId": NAME, "segIndices": [30, 30, 12, 7, 99, 98]}
    (scene / f"{NAME}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
    (scene / f"{NAME}.aggregation.json").write_text(json.dumps({"sceneId": NAME, "segGroups": GROUPS}))
    (scene / f"{NAME}.txt").write_text(TEXT)
    write_recording(scene / f"{NAME}.sens")
    (tmp_path / LABEL_MAP).write_text(TSV)
    (tmp_path / "scannetv2_train.txt").write_text(f"{NAME}\n")
    return tmp_path


@pytest.fixture
def scene(root):
    """Its folder."""
    return root / "scans" / NAME


def test_the_classes_are_the_benchmarks_20(root):
    assert ScanNet(root).classes == (
        *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
        *("counter", "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink", "bathtub"),
        *("otherfurniture",),
    )


def test_a_mesh_made_by_hand_is_read(root):
    dataset = ScanNet(root)
    cloud = dataset[NAME].cloud
    assert cloud.points.dtype == torch.float32
    assert (cloud.points.numpy() == VERTICES).all()
    assert cloud.colors[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert cloud.faces.tolist() == [[0, 1, 2], [2, 1, 4]]
    chair, other = dataset.classes.index("chair"), dataset.classes.index("otherfurniture")
    assert (chair, other) == (4, 19)
    assert cloud.semantic.tolist() == [chair, chair, other, chair, -1, -1]
    assert cloud.instance.tolist() == [4, 4, 2, 4, -1, -1]
    assert cloud.superpoint.tolist() == [0, 0, 1, 2, 3, 4]


def test_nyu40_keeps_what_the_benchmark_drops(root):
    dataset = ScanNet(root, labels="nyu40")
    assert len(dataset.classes) == 40
    assert [dataset.classes[i] for i in dataset[0].cloud.semantic[:5]] == [
        *("chair", "chair", "otherfurniture", "chair", "otherprop"),
    ]


def test_without_labels_on_the_mesh_they_come_from_the_objects_names(root, scene):
    (scene / f"{NAME}_vh_clean_2.labels.ply").unlink()
    assert ScanNet(root)[0].cloud.semantic.tolist() == [4, 4, 19, 4, -1, -1]


@pytest.mark.parametrize("labels", ["scannet20", "nyu40"])
def test_the_two_ids_that_nyu40_does_not_have_are_no_label(root, scene, labels):
    write_mesh(scene / f"{NAME}_vh_clean_2.labels.ply", [50, 149, 50, 5, 0, 0])
    assert ScanNet(root, labels=labels)[0].cloud.semantic.tolist() == [-1, -1, -1, 4, -1, -1]


def test_what_a_scene_lacks_is_none(root, scene):
    for path in scene.iterdir():
        if not path.name.endswith("_vh_clean_2.ply"):
            path.unlink()
    one = ScanNet(root)[0]
    assert len(one.frames) == 0
    assert one.cloud.semantic is one.cloud.instance is one.cloud.superpoint is None
    assert one.boxes is one.aligned_from_world is one.scene_type is None
    (scene / f"{NAME}_vh_clean_2.ply").unlink()
    assert ScanNet(root)[0].cloud is None


def test_segments_without_objects_are_superpoints(root, scene):
    (scene / f"{NAME}.aggregation.json").unlink()
    cloud = ScanNet(root)[0].cloud
    assert cloud.superpoint.tolist() == [0, 0, 1, 2, 3, 4]
    assert cloud.instance is None


def test_the_aggregation_of_the_full_mesh_is_not_read(root, scene):
    (scene / f"{NAME}_vh_clean.aggregation.json").write_text("not even JSON")
    assert ScanNet(root)[0].cloud.instance.tolist() == [4, 4, 2, 4, -1, -1]


def test_of_objects_that_are_named_twice_the_second_ones_count(root, scene):
    again = [{**group, "objectId": 31 + group["objectId"]} for group in GROUPS]
    (scene / f"{NAME}.aggregation.json").write_text(json.dumps({"segGroups": GROUPS + again}))
    assert ScanNet(root)[0].cloud.instance.tolist() == [35, 35, 33, 35, -1, -1]


def test_alignment_is_data_and_changes_nothing(root):
    one = ScanNet(root)[0]
    assert one.aligned_from_world.tolist() == [[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]]
    assert (one.points.numpy() == VERTICES).all()
    assert one.frames[1].camera.world_from_camera[0].tolist() == pose_at(1).tolist()
    assert one.scene_type == "Bedroom / Hotel"


def test_boxes_are_tight_along_the_aligned_axes_and_lie_in_the_world(root):
    """The chair's vertices span 1 x 0 x 3; aligned, x and y are swapped, and the box is turned back by -90 degrees."""
    boxes = ScanNet(root)[0].boxes
    assert boxes.label.tolist() == [19, 4]  # in the order of the objectIds 2 and 4
    wanted = torch.tensor([[0, 2, 0, 0, 0, 0, -torch.pi / 2], [0.5, 0, 1.5, 0, 1, 3, -torch.pi / 2]])
    torch.testing.assert_close(boxes.box, wanted)


def test_walls_floors_and_ceilings_have_no_box(root, scene):
    write_mesh(scene / f"{NAME}_vh_clean_2.labels.ply", [2, 2, 22, 2, 0, 0])
    assert ScanNet(root, labels="nyu40")[0].boxes.box.shape == (0, 7)


# Frames.


def test_frames_of_a_recording_are_read(root):
    frames = ScanNet(root)[0].frames
    assert [frame.name for frame in frames] == ["0", "1", "2"]
    assert (frames[2].depth().numpy() == depth_of(2)).all()
    assert (frames[2].color().numpy() == color_of(2)).all()
    assert frames[1].metres()[0, 0] == 1001 / torch.tensor(1000.0)
    assert (frames[0].camera.size, frames[0].color_camera.size) == (DEPTH, COLOR)
    assert (frames[0].camera.intrinsics[0].numpy() == K).all()
    assert (frames[0].color_camera.intrinsics[0].numpy() == K_COLOR).all()
    assert frames[0].semantic() is frames[0].instance() is None


@pytest.mark.parametrize("kind", ["export", "frames_25k"])
def test_frames_of_folders_are_read(root, scene, kind):
    if kind == "export":
        write_images(scene, "{}", "intrinsic/intrinsic_{}.txt", frames=11)
    else:
        write_images(root / "scannet_frames_25k" / NAME, "{:06d}", "intrinsics_{}.txt", frames=11)
    frames = ScanNet(root, frames=kind)[0].frames
    assert [int(frame.name) for frame in frames] == list(range(11))
    assert frames[10].name == ("10" if kind == "export" else "000010")
    assert (frames[3].depth().numpy() == depth_of(3)).all()
    assert np.abs(frames[3].color().numpy().astype(int) - color_of(3)).max() <= 2
    assert (frames[0].camera.intrinsics[0].numpy() == K).all()
    assert (frames[0].color_camera.intrinsics[0].numpy() == K_COLOR).all()
    assert frames[5].color_camera.world_from_camera[0, 0, 3] == 5


def test_auto_takes_the_recording_then_the_folder_then_the_subset(root, scene):
    write_images(scene, "{}", "intrinsic/intrinsic_{}.txt", frames=2)
    write_images(root / "scannet_frames_25k" / NAME, "{:06d}", "intrinsics_{}.txt", frames=1)
    assert len(ScanNet(root)[0].frames) == 3
    (scene / f"{NAME}.sens").unlink()
    assert len(ScanNet(root)[0].frames) == 2
    shutil.rmtree(scene / "color")
    assert len(ScanNet(root)[0].frames) == 1
    shutil.rmtree(root / "scannet_frames_25k")
    assert len(ScanNet(root)[0].frames) == 0


@pytest.mark.parametrize("folder", ["scannet_frames_25k", "scannet_frames_test", "tasks/scannet_frames_25k"])
def test_the_subset_alone_is_a_dataset(tmp_path, folder):
    write_images(tmp_path / folder / NAME, "{:06d}", "intrinsics_{}.txt")
    dataset = ScanNet(tmp_path)
    assert dataset.names == (NAME,)
    assert len(dataset[0].frames) == 3
    assert dataset[0].cloud is dataset[0].boxes is dataset[0].scene_type is None
    assert dataset.missing == (f"{LABEL_MAP}: what the names and ids of labels mean",)


@pytest.mark.parametrize(("dtype", "wanted"), [(np.uint16, [0, 4, 19, -1]), (np.uint8, [0, 9, 4, 19])])
@pytest.mark.parametrize("folder", ["label-filt", "label"])
def test_label_images_of_16_bits_have_scannets_ids_and_those_of_8_bits_nyu40s(root, scene, dtype, wanted, folder):
    write_labels(scene / folder, dtype)
    frames = ScanNet(root)[0].frames
    semantic = frames[0].semantic()
    assert semantic.dtype == torch.int64
    assert semantic[0, :4].tolist() == wanted
    assert (semantic[1:] == -1).all()
    assert frames[1].semantic() is None


def test_the_filtered_labels_come_first(root, scene):
    write_labels(scene / "label-filt", np.uint16)
    write_labels(scene / "label", np.uint8)
    assert ScanNet(root)[0].frames[0].semantic()[0, 2] == 19


def test_instance_images_name_the_objects_of_the_mesh(root, scene):
    """In 8 bits; in 16 bits they count in each image, and walls and what has no class are no objects."""
    ids = np.zeros(COLOR, np.uint8)
    ids[0, :2] = (5, 3)
    (scene / "instance-filt").mkdir()
    Image.fromarray(ids).save(scene / "instance-filt" / "2.png")
    instance = ScanNet(root)[0].frames[2].instance()
    assert instance[0, :3].tolist() == [4, 2, -1]
    ids = np.zeros(COLOR, np.uint16)
    ids[0, :4] = (5001, 1000, 39012, 1)
    Image.fromarray(ids).save(scene / "instance-filt" / "2.png")
    assert ScanNet(root)[0].frames[2].instance()[0, :5].tolist() == [5001, -1, 39012, -1, -1]


def test_frames_without_a_finite_pose_are_left_out_and_said(root, scene):
    write_recording(scene / f"{NAME}.sens", (0, np.inf, 2, np.inf))
    one = ScanNet(root)[0]
    with pytest.warns(UserWarning, match=says(scene / f"{NAME}.sens", "2 of 4 frames are left out")):
        frames = one.frames
    assert [frame.name for frame in frames] == ["0", "2"]
    assert frames.skipped == ("1: pose is not finite", "3: pose is not finite")


def test_scenes_and_frames_survive_pickling(root, scene):
    write_labels(scene / "label-filt", np.uint16)
    one = ScanNet(root)[0]
    whole = len(pickle.dumps(one))
    assert len(one.frames) == 3
    assert one.cloud is not None
    assert len(pickle.dumps(one)) == whole  # what was read is not sent
    copy = pickle.loads(pickle.dumps(one))
    assert torch.equal(copy.frames[0].semantic(), one.frames[0].semantic())
    assert torch.equal(copy.cloud.instance, one.cloud.instance)
    assert torch.equal(copy.boxes.box, one.boxes.box)
    assert torch.equal(copy.aligned_from_world, one.aligned_from_world)
    frame = pickle.loads(pickle.dumps(one.frames[0]))
    assert torch.equal(frame.semantic(), one.frames[0].semantic())
    dataset = pickle.loads(pickle.dumps(ScanNet(root)))
    assert len(dataset[0].frames) == 3


# The dataset.


def test_scenes_are_found_in_all_folders_and_sorted(tmp_path):
    for path in ("scans/scene0003_00", "scans_test/scene0707_00", "scene0001_02", "scannet_frames_25k/scene0002_00"):
        (tmp_path / path).mkdir(parents=True)
    for path in ("scans/scene0003_00_old", "scans/tools", "other/scene0009_00"):
        (tmp_path / path).mkdir(parents=True)
    dataset = ScanNet(tmp_path)
    assert dataset.names == ("scene0001_02", "scene0002_00", "scene0003_00", "scene0707_00")
    assert [scene.name for scene in dataset] == [*dataset.names]
    with pytest.raises(KeyError, match="there is no scene 'scene0009_00' among 4"):
        dataset["scene0009_00"]
    with pytest.raises(KeyError, match="there is no scene 'scene0009_00' among 4"):
        dataset.open("scene0009_00")
    assert repr(dataset) == f"ScanNet({str(tmp_path)!r}, split=None): 4 scenes"


def test_a_split_is_read_from_its_list_and_what_is_not_there_is_counted(root):
    (root / "scans" / "scene0001_00").mkdir()
    listed = "\n".join(["scene0900_00", NAME, *(f"scene08{i:02d}_00" for i in range(40))])
    (root / "scannetv2_val.txt").write_text(listed)
    dataset = ScanNet(root, "val")
    assert dataset.names == (NAME,)
    assert dataset.missing == ("41 of the 42 scenes of val: scene0800_00, scene0801_00, scene0802_00, ...",)
    assert ScanNet(root, "train").missing == ()
    assert ScanNet(root).names == ("scene0001_00", NAME)


OPENED = []  # what was opened and listed while a test listens
LISTENING = []


def listen(event, arguments):
    if LISTENING and event in ("open", "os.listdir", "os.scandir"):
        OPENED.append((event, str(arguments[0])))


@pytest.fixture(scope="module", autouse=True)
def hook():
    sys.addaudithook(listen)  # for good, so it is cheap while nobody listens


def opened_by(call):
    OPENED.clear()
    LISTENING.append(True)
    try:
        call()
    finally:
        LISTENING.clear()
    return list(OPENED)


def test_opening_a_dataset_lists_its_folders_once_and_looks_at_no_scene(root, monkeypatch):
    for i in range(300):
        (root / "scans" / f"scene{i:04d}_00").mkdir()
    (root / "scans_test" / "scene0707_00").mkdir(parents=True)
    looked = []
    for name in ("stat", "lstat"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, *a, real=real, **k: looked.append(path) or real(path, *a, **k))
    opened = opened_by(lambda: ScanNet(root, "train"))
    assert sorted(opened) == sorted(
        [("os.listdir", str(p)) for p in (root, root / "scans", root / "scans_test")]
        + [("open", str(root / "scannetv2_train.txt"))]
    )
    assert len(looked) == 0
    assert len(ScanNet(root)) == 302


def test_opening_a_scene_reads_its_text_and_frames_read_no_pixels(root, scene):
    write_images(scene, "{}", "intrinsic/intrinsic_{}.txt")
    dataset = ScanNet(root)
    assert opened_by(lambda: dataset[0]) == [("os.listdir", str(scene)), ("open", str(scene / f"{NAME}.txt"))]
    one = dataset[0]
    recording = scene / f"{NAME}.sens"
    assert {path for event, path in opened_by(lambda: one.frames) if event == "open"} == {str(recording)}
    broken = bytearray(recording.read_bytes())
    at = one.frames[1].read_color.offset
    broken[at : at + one.frames[1].read_color.nbytes] = bytes(one.frames[1].read_color.nbytes)
    recording.write_bytes(broken)
    assert len(ScanNet(root)[0].frames) == 3


# What is wrong is said, and where.


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
        (SEGS, "[1]", "must be a JSON object, got list of 1"),
        (SEGS, "{}", "segIndices must be whole numbers, got None"),
        (SEGS, '{"segIndices": [1, 2.5, 3, 4, 5, 6]}', "segIndices must be whole numbers, got list of 6"),
        (SEGS, '{"segIndices": [1, [2], 3, 4, 5, 6]}', "segIndices must be whole numbers, got list of 6"),
        (SEGS, '{"segIndices": [1, "2", 3, 4, 5, 6]}', "segIndices must be whole numbers, got list of 6"),
        (SEGS, '{"segIndices": [1, 2, 3, 4, 5, 1' + "0" * 40 + "]}", "segIndices must be whole numbers, got list of 6"),
        (SEGS, '{"segIndices": [1, 2, 3, 4, 5, 1' + "0" * 9000 + "]}", "must be JSON, is it truncated"),
        (SEGS, '{"segIndices": [1, 2, 3]}', "segIndices must have one entry per vertex, 6, got 3"),
        (OBJECTS, "{}", "must have a list segGroups, got None"),
        (OBJECTS, '{"segGroups": [4]}', r"segGroups\[0\] must have a label, got 4"),
        (OBJECTS, group(label=None), r"segGroups\[0\] must have a label, got dict of 4"),
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


# Real recordings.

REAL_DATA = os.environ.get("PYPROJ2D3D_REAL_DATA")
with_real_data = pytest.mark.skipif(not REAL_DATA, reason="PYPROJ2D3D_REAL_DATA is not set: no real recordings")


def real(name):
    folder = Path(REAL_DATA) / name
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder


@with_real_data
def test_scannets_own_label_map_is_read():
    table = read_label_map(real(f"label_tables/{LABEL_MAP}"))
    assert len(table.of_name) == 607
    assert (table.of_name["wall"], table.of_name["office chair"], table.of_name["furnace"]) == (1, 5, 39)
    assert (table.of_id > 0).sum() == 549
    assert table.of_id[[0, 1, 2, 50]].tolist() == [0, 1, 5, 40]
    assert (table.of_name["pipe"], table.of_name["pipes"], table.of_id[107]) == (40, 38, 38)  # id 107 is both


@with_real_data
def test_scannets_own_splits_have_their_scenes(tmp_path):
    for split, count in (("train", 1201), ("val", 312), ("test", 100)):
        listed = real(f"label_tables/scannetv2_{split}.txt")
        for name in listed.read_text().split():
            (tmp_path / ("scans_test" if split == "test" else "scans") / name).mkdir(parents=True)
        shutil.copy(listed, tmp_path)
        assert len(ScanNet(tmp_path, split)) == count
    assert len(ScanNet(tmp_path)) == 1613
    assert not set(ScanNet(tmp_path, "train").names) & set(ScanNet(tmp_path, "val").names)


@pytest.fixture(scope="module")
def scene0000(tmp_path_factory):
    """Vertices, labels, instances and images of the real scene0000_00 in files as ScanNet has them.

    The arrays are aligned; here the mesh is in the world of the poses again. There is no depth in them.
    """
    source, root = real("scannet_scene0000_00"), tmp_path_factory.mktemp("real")
    folder = root / "scans" / "scene0000_00"
    folder.mkdir(parents=True)
    rows = np.load(source / "scene0000_00_vert_all.npy")
    nyu40 = np.load(source / "scene0000_00_sem_label_all.npy").astype(np.int64)
    instance = np.load(source / "scene0000_00_ins_label_all.npy").astype(np.int64)  # 0 for none
    aligned_from_world = np.loadtxt(source / "axis_align_matrix.txt")
    back = np.linalg.inv(aligned_from_world)
    world = rows[:, :3].astype(np.float64) @ back[:3, :3].T + back[:3, 3]
    fields = [(n, "<f4") for n in "xyz"] + [(n, "u1") for n in ("red", "green", "blue", "alpha")]
    vertices = np.zeros(len(rows), [*fields, ("label", "<u2")])
    for column, name in enumerate("xyz"):
        vertices[name] = world[:, column]
    for column, name in enumerate(("red", "green", "blue"), 3):
        vertices[name] = rows[:, column]
    vertices["label"] = nyu40
    mesh = "scene0000_00_vh_clean_2"
    write_mesh_ply(folder / f"{mesh}.labels.ply", vertices, np.zeros((0, 3)))
    write_mesh_ply(folder / f"{mesh}.ply", vertices[[n for n, _ in fields]].astype(fields), np.zeros((0, 3)))
    _, first, segment = np.unique(nyu40 * 1000 + instance, return_index=True, return_inverse=True)
    names = {n: name for name, n in read_label_map(real(f"label_tables/{LABEL_MAP}")).of_name.items()}
    groups = [
        {"id": i, "objectId": i, "segments": first[instance[first] == i + 1].tolist(), "label": names[max(1, n)]}
        for i in range(instance.max())
        for n in [int(nyu40[instance == i + 1][0])]
    ]
    (folder / f"{mesh}.0.010000.segs.json").write_text(json.dumps({"segIndices": first[segment].tolist()}))
    (folder / "scene0000_00.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    numbers = " ".join(map(repr, aligned_from_world.ravel().tolist()))
    (folder / "scene0000_00.txt").write_text(f"axisAlignment = {numbers}\nsceneType = Apartment\n")
    shutil.copy(real(f"label_tables/{LABEL_MAP}"), root)
    intrinsics = np.loadtxt(source / "intrinsic" / "intrinsic_color.txt")[:3, :3]
    images = ("00000", "00011", "00102")
    write_sens(
        folder / "scene0000_00.sens",
        [
            (np.loadtxt(source / "pose" / f"{i}.txt"), (source / "color" / f"{i}.jpg").read_bytes(), depth_of(0))
            for i in images
        ],
        color_intrinsics=intrinsics,
        depth_intrinsics=K,
        color_size=(968, 1296),
        depth_size=DEPTH,
    )
    return ScanNet(root, labels="nyu40")["scene0000_00"], rows, nyu40, instance


@with_real_data
def test_a_real_mesh_comes_back_with_labels_and_instances(scene0000):
    scene, rows, nyu40, instance = scene0000
    cloud = scene.cloud
    assert len(cloud.points) == 81_369
    assert (cloud.semantic.numpy() == nyu40 - 1).all()
    assert (cloud.instance.numpy() == instance - 1).all()
    assert (cloud.colors.numpy() == rows[:, 3:]).all()
    aligned = cloud.points.double() @ scene.aligned_from_world[:3, :3].T + scene.aligned_from_world[:3, 3]
    assert (aligned.numpy() - rows[:, :3]).max() < 1e-5
    assert scene.scene_type == "Apartment"


@with_real_data
def test_real_boxes_are_those_of_another_program(scene0000):
    """Its boxes are aligned and of 18 classes; each is one of ours, that is turned back."""
    scene, theirs = scene0000[0], np.load(real("scannet_scene0000_00") / "scene0000_00_bbox.npy")
    box, label = scene.boxes.box.double().numpy(), scene.boxes.label.numpy() + 1
    turn, shift = scene.aligned_from_world[:3, :3].numpy(), scene.aligned_from_world[:3, 3].numpy()
    aligned = np.concatenate([box[:, :3] @ turn.T + shift, box[:, 3:6]], axis=1)
    angle = np.arctan2(turn[1, 0], turn[0, 0])
    assert np.abs(box[:, 6] + angle).max() < 1e-6
    assert len(theirs) == 27
    for wanted in theirs:
        apart = np.abs(aligned - wanted[:6]).max(axis=1)
        assert apart.min() < 1e-4
        assert label[apart.argmin()] == wanted[6]
    assert np.isin(label, theirs[:, 6]).sum() >= len(theirs)


@with_real_data
@pytest.mark.parametrize(("frame", "correlation"), [(0, 0.81), (1, 0.80), (2, 0.75)])
def test_real_vertices_have_the_colours_of_the_images_but_not_when_aligned(scene0000, frame, correlation):
    scene = scene0000[0]
    one = scene.frames[frame]
    camera, image = one.color_camera, one.color().numpy().astype(np.float64)
    points, aligned_from_world = scene.points.double(), scene.aligned_from_world

    def colors_of_seen(points):
        coarse = Camera(camera.intrinsics, camera.world_from_camera, camera.size).resized((121, 162))
        seen = visibility(points, coarse, "zbuffer", tolerance=(0.05, 0.0, 0.0), radius=1).point.long()
        u, v, z = project(points[seen], camera)[0].T
        u, v = (u + 0.5).floor().long(), (v + 0.5).floor().long()
        inside = (z > 0) & (u >= 0) & (u < 1296) & (v >= 0) & (v < 968)
        return scene.cloud.colors[seen[inside]].double().numpy(), image[v[inside], u[inside]]

    cloud, photo = colors_of_seen(points)
    assert len(cloud) > 2000
    assert abs(np.corrcoef(cloud.mean(axis=1), photo.mean(axis=1))[0, 1] - correlation) < 0.04
    cloud, photo = colors_of_seen(points @ aligned_from_world[:3, :3].T + aligned_from_world[:3, 3])
    assert len(cloud) < 100 or np.corrcoef(cloud.mean(axis=1), photo.mean(axis=1))[0, 1] < 0.3


@with_real_data
def test_a_real_kitchen_is_the_same_from_a_recording_and_from_a_folder(tmp_path):
    frames = read_posed_folder(real("redkitchen_7scenes")).frames[:6]
    intrinsics = frames[0].camera.intrinsics[0].numpy()
    scene = tmp_path / "scans" / NAME
    for kind in ("color", "depth", "pose"):
        (scene / kind).mkdir(parents=True)
    for i, frame in enumerate(frames):
        shutil.copy(frame.read_color.path, scene / "color" / f"{i}.jpg")
        shutil.copy(frame.read_depth.path, scene / "depth" / f"{i}.png")
        write_text_matrix(scene / "pose" / f"{i}.txt", frame.camera.world_from_camera[0].numpy())
    for kind in ("depth", "color"):
        write_text_matrix(scene / "intrinsic" / f"intrinsic_{kind}.txt", intrinsics)
    write_sens(
        scene / f"{NAME}.sens",
        [(f.camera.world_from_camera[0].numpy(), f.read_color.path.read_bytes(), f.depth().numpy()) for f in frames],
        color_intrinsics=intrinsics,
        depth_intrinsics=intrinsics,
        color_size=(480, 640),
        depth_size=(480, 640),
    )
    recorded, exported = (ScanNet(tmp_path, frames=kind)[0].frames for kind in ("sens", "export"))
    for one, other, wanted in zip(recorded, exported, frames, strict=True):
        assert torch.equal(one.depth(), wanted.depth())
        assert torch.equal(other.depth(), wanted.depth())
        assert torch.equal(one.color(), wanted.color())
        assert torch.equal(other.color(), wanted.color())
        assert torch.equal(other.camera.world_from_camera, wanted.camera.world_from_camera)
        pose = wanted.camera.world_from_camera
        assert torch.equal(one.camera.world_from_camera, pose.float().double())
