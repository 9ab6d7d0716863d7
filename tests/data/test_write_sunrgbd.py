"""Do rooms come back from SUN RGB-D's layout: depth, labels, tilt and boxes, from all four sensors?"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pyproj2d3d import back_project
from pyproj2d3d.data.images import ENCODINGS, decoded_depth
from pyproj2d3d.data.mat import cell_texts, read_mat
from pyproj2d3d.data.sunrgbd import CLASSES, SENSORS, SUNRGBD
from pyproj2d3d.data.synth import RoomOptions, SynthRoom
from pyproj2d3d.data.synth.write_sunrgbd import finish, write

OPTIONS = RoomOptions(frames=2, size=(48, 64), noise=True, holes=True)
ROOMS = 5  # one of each sensor, and one in the test split


@pytest.fixture(scope="module")
def rooms():
    return [SynthRoom(seed, OPTIONS) for seed in range(ROOMS)]


@pytest.fixture(scope="module")
def written(tmp_path_factory, rooms):
    root = tmp_path_factory.mktemp("sunrgbd")
    for number, room in enumerate(rooms):
        write(root, room, number)
    finish(root, ROOMS)
    return root


@pytest.fixture(scope="module")
def images(written, rooms):
    """Of each image of the first four rooms: the room, its number, the view, the scene, and what is seen there."""
    dataset = SUNRGBD(written)
    found = []
    for number, room in enumerate(rooms[:4]):
        names = [name for name in dataset.names if f"{number:06d}" in name and name.startswith(SENSORS[number])]
        assert len(names) == OPTIONS.frames
        for view, name in enumerate(names):
            scene = dataset[name]
            camera = scene.frames[0].camera
            seen = type(camera)(camera.intrinsics, room.camera().world_from_camera[view], camera.size)
            found.append((room, number, view, scene, room.render(seen, 0)))
    return found


def test_every_sensor_has_a_room_and_its_own_image_size(written):
    dataset = SUNRGBD(written)
    assert len(dataset) == ROOMS * OPTIONS.frames
    assert dataset.missing == ()
    sizes = {scene.name.split("/")[0]: scene.frames[0].camera.size for scene in dataset}
    assert sizes == {"kv1": (43, 56), "kv2": (53, 73), "realsense": (53, 68), "xtion": (44, 59)}
    assert not list(written.glob(".*"))


def test_every_fifth_room_is_in_the_test_split_which_comes_first(written):
    train, test = SUNRGBD(written, "train"), SUNRGBD(written, "test")
    assert (len(train), len(test)) == (8, 2)
    assert test.names == ("kv1/NYUdata/NYU000004_0000", "kv1/NYUdata/NYU000004_0001")
    split = read_mat(written / "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat")
    assert cell_texts(split["alltest"])[0] == "/n/fs/sun3d/data/SUNRGBD/kv1/NYUdata/NYU000004_0000"
    classes = read_mat(written / "SUNRGBDtoolbox/Metadata/seg37list.mat")["seg37list"]
    assert cell_texts(classes) == CLASSES


def test_semantic_labels_come_back_to_the_bit(images):
    for room, _, _, scene, seen in images:
        nyu40 = torch.from_numpy(room.nyu40[seen.object])
        wanted = torch.where(nyu40 <= 37, nyu40 - 1, -1)
        assert scene.frames[0].semantic().equal(wanted)
        assert scene.scene_type == room.scene_type.replace(" ", "_")


def test_instances_are_the_objects_of_the_room(images):
    """Numbered anew, one number for each object."""
    for _, _, _, scene, seen in images:
        pairs = np.unique(np.stack([scene.frames[0].instance().numpy().ravel(), seen.object.ravel()]), axis=1)
        assert len(pairs.T) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))
        assert pairs[0].min() >= 0


def test_depth_comes_back_to_the_millimetre_where_the_sensor_had_a_reading(images, written):
    for _, _, _, scene, seen in images:
        exact = torch.from_numpy(np.floor(1000 * seen.depth + 0.5).astype(np.int64))
        raw = scene.frames[0].depth().long()
        bfx = SUNRGBD(written, depth="bfx")[scene.name].frames[0].depth().long()
        assert (bfx > 0).all()
        assert bfx[raw > 0].equal(raw[raw > 0])
        assert bfx[raw == 0].equal(exact[raw == 0])
        assert (raw - exact)[raw > 0].abs().median() < 40  # noise


def test_without_noise_and_holes_depth_is_exact_to_the_millimetre(tmp_path):
    room = SynthRoom(7, RoomOptions(frames=1, size=(48, 64)))
    write(tmp_path, room, 0)
    finish(tmp_path, 1)
    frame = SUNRGBD(tmp_path)[0].frames[0]
    seen = room.render(
        type(frame.camera)(frame.camera.intrinsics, room.camera().world_from_camera, frame.camera.size), 0
    )
    assert frame.depth().long().equal(torch.from_numpy(np.floor(1000 * seen.depth + 0.5).astype(np.int64)))
    assert SUNRGBD(tmp_path, depth="bfx")[0].frames[0].depth().equal(frame.depth())


def test_files_hold_what_the_sensors_files_hold(written):
    folder = written / "kv2/kinect2data/000001_2014-05-26_14-23-37_rgbf000000-resize"
    stored = np.array(Image.open(folder / "depth_bfx" / "0000000.png"))
    assert stored.dtype == np.uint16
    assert (stored & 7 == 0).all()  # below 8.192 m nothing wraps round
    assert decoded_depth(stored, ENCODINGS["sunrgbd"]).max() < 8192
    matlab = np.loadtxt(folder / "intrinsics.txt")
    assert matlab[0, 2] == pytest.approx(73 / 2 + 0.5, abs=1)
    tilt = np.loadtxt(folder / "extrinsics" / "20150101000000.txt")
    assert tilt.shape == (3, 4)
    assert (tilt[:, 3] == 0).all()
    assert tilt[0, 2] == pytest.approx(tilt[2, 0], abs=1e-6)  # no turn about the vertical, as in the dataset
    of_nyu, of_kv2 = read_mat(written / "kv1/NYUdata/NYU000000_0000/seg.mat"), read_mat(folder / "seg.mat")
    assert of_nyu["names"].shape[1] == of_kv2["names"].shape[0] == 1
    assert set(of_nyu) - set(of_kv2) == {"seginstances"}
    assert json.loads((folder / "annotation3Dfinal" / "index.json").read_text()).keys() == {"name", "objects"}


def test_tilt_is_that_of_the_room_to_a_millionth(images):
    """Up in the camera is up in the room; the turn about it is lost."""
    for room, _, view, scene, _ in images:
        pose = scene.frames[0].camera.world_from_camera[0]
        assert (pose[2, :3] - room.camera().world_from_camera[view, 2, :3]).abs().max() < 1e-6
        assert (pose[:3, 3] == 0).all()
        assert pose[1, 2] > 0  # it looks forward
        turn = pose[:3, :3] @ torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
        assert abs(turn[0, 1] - turn[1, 0]) < 1e-6


def upright_from_room(room, view, scene):
    pose = room.camera().world_from_camera[view]
    upright = scene.frames[0].camera.world_from_camera[0]
    return upright @ torch.linalg.inv(pose)


def test_boxes_are_those_of_the_room_seen_from_the_camera(images):
    """Every box of the annotation is one of the room, moved; both versions agree."""
    checked = 0
    for room, _, view, scene, _ in images:
        move = upright_from_room(room, view, scene)
        centre = torch.from_numpy(room.boxes[:, :3]) @ move[:3, :3].T + move[:3, 3]
        ahead = torch.from_numpy(
            np.stack([np.cos(room.boxes[:, 6]), np.sin(room.boxes[:, 6]), 0 * room.boxes[:, 6]], 1)
        )
        ahead = ahead @ move[:3, :3].T
        boxes = scene.boxes
        for box, label in zip(boxes.box.double(), boxes.label, strict=True):
            apart = (centre - box[:3]).norm(dim=1)
            o = apart.argmin().item()
            assert apart[o] < 1e-5
            assert (torch.from_numpy(room.boxes[o, 3:6]) - box[3:6]).abs().max() < 1e-6
            assert (torch.stack([box[6].cos(), box[6].sin()]) - ahead[o, :2]).abs().max() < 1e-5
            assert CLASSES[room.nyu40[o] - 1] == SUNRGBD.box_classes[label]
            checked += 1
    assert checked > 2


def test_both_versions_of_boxes_and_tilt_agree(written):
    first, second = SUNRGBD(written, labels="v1"), SUNRGBD(written, labels="v2")
    for a, b in zip(first, second, strict=True):
        assert a.boxes.label.equal(b.boxes.label)
        assert (a.boxes.box - b.boxes.box).abs().max() < 1e-5 if len(a.boxes.label) else True
        assert a.frames[0].camera.world_from_camera.equal(b.frames[0].camera.world_from_camera)


def test_the_points_of_an_object_are_in_its_box(images):
    checked = 0
    for room, _, view, scene, seen in images:
        frame = scene.frames[0]
        points = back_project(torch.from_numpy(seen.depth)[None], frame.camera).points
        move = upright_from_room(room, view, scene)
        centre = torch.from_numpy(room.boxes[:, :3]) @ move[:3, :3].T + move[:3, 3]
        for box in scene.boxes.box.double():
            o = (centre - box[:3]).norm(dim=1).argmin().item()
            away = points[torch.from_numpy((seen.object == o).ravel())] - box[:3]
            cos, sin = box[6].cos(), box[6].sin()
            own = torch.stack([cos * away[:, 0] + sin * away[:, 1], cos * away[:, 1] - sin * away[:, 0], away[:, 2]], 1)
            assert (own.abs() <= box[3:6] / 2 + 1e-4).all()
            checked += len(own)
    assert checked > 100


def test_two_writes_give_equal_bytes(written, rooms, tmp_path):
    for number in reversed(range(ROOMS)):
        write(tmp_path, rooms[number], number)
    finish(tmp_path, ROOMS)
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert [f for f in files if (written / f).read_bytes() != (tmp_path / f).read_bytes()] == []


def test_a_single_room_is_all_in_the_train_split(tmp_path):
    write(tmp_path, SynthRoom(1, RoomOptions(frames=1, size=(24, 32))), 0)
    finish(tmp_path, 1)
    assert len(SUNRGBD(tmp_path, "train")) == 1
    with pytest.raises(FileNotFoundError, match="no images of test are there"):
        SUNRGBD(tmp_path, "test")


def test_a_room_without_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"frames must be 1 or more, .*, got 0"):
        write(tmp_path, SynthRoom(1, RoomOptions(frames=0)), 3)
    assert not list(tmp_path.iterdir())
