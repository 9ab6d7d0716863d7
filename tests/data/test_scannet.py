"""Is a scene in ScanNet's layout read as its files say, and lazily?"""

import json
import os
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scannet_by_hand import (
    COLOR,
    DEPTH,
    GROUPS,
    K_COLOR,
    NAME,
    VERTICES,
    K,
    color_of,
    depth_of,
    pose_at,
    says,
    write_images,
    write_labels,
    write_mesh,
    write_recording,
    write_scene,
)

from pyproj2d3d.data import ScanNet
from pyproj2d3d.data.scannet_labels import LABEL_MAP


@pytest.fixture
def root(tmp_path):
    write_scene(tmp_path)
    return tmp_path


@pytest.fixture
def scene(root):
    """The folder of the only scene."""
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
