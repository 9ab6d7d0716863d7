"""Does a synthetic room come back from the layout of S3DIS as it was made?"""

import hashlib
import json

import numpy as np
import pytest
import torch

from pyproj2d3d import project
from pyproj2d3d.data.s3dis import S3DIS
from pyproj2d3d.data.stanford2d3ds import CLASSES
from pyproj2d3d.data.synth import RoomOptions, SynthRoom, write_s3dis

OPTIONS = RoomOptions(frames=3, size=(48, 64), spacing=0.2)
NUMBERS = range(5)


@pytest.fixture(scope="module")
def rooms():
    return [SynthRoom(20 + number, OPTIONS) for number in NUMBERS]


@pytest.fixture(scope="module")
def meshes(rooms):
    return [room.mesh() for room in rooms]


@pytest.fixture(scope="module")
def written(rooms, tmp_path_factory):
    """Not to be changed."""
    out = tmp_path_factory.mktemp("s3dis")
    for number in (3, 0, 1, 4, 2):  # as processes may
        write_s3dis.write(out, rooms[number], number)
    write_s3dis.finish(out, len(rooms))
    return out


@pytest.fixture(scope="module")
def scenes(rooms, written):
    """The scene of each room."""
    places = [write_s3dis.room_name(number, rooms[number].scene_type) for number in NUMBERS]
    dataset = S3DIS(written)
    return [dataset[f"Area_{area}_{name}"] for area, name in places]


def class_of_object(room):
    return np.array([CLASSES.index(write_s3dis.CLASS_OF_NYU40.get(i, "clutter")) for i in room.nyu40.tolist()])


def objects_in_order(room, mesh):
    """Those with vertices, as their files are sorted by name, class and number."""
    names = []
    for i in np.unique(mesh.object).tolist():
        kind = CLASSES[class_of_object(room)[i]]
        names.append((f"{kind}_{sum(name.startswith(kind) for name, _ in names) + 1}.txt", i))
    return [i for _, i in sorted(names)]


@pytest.mark.parametrize("number", NUMBERS)
def test_points_colours_and_labels_come_back_to_the_bit(rooms, meshes, scenes, number):
    mesh, cloud, order = meshes[number], scenes[number].cloud, objects_in_order(rooms[number], meshes[number])
    rows = np.concatenate([np.flatnonzero(mesh.object == i) for i in order])
    assert len(rows) == len(mesh.vertices) > 1000
    assert np.array_equal(cloud.points.numpy(), mesh.vertices[rows].astype(np.float32))
    assert np.array_equal(cloud.colors.numpy(), mesh.colors[rows])
    assert np.array_equal(cloud.semantic.numpy(), class_of_object(rooms[number])[mesh.object[rows]])
    assert np.array_equal(np.array(order)[cloud.instance.numpy()], mesh.object[rows])


def test_the_points_of_a_room_are_also_in_one_file(rooms, meshes, written):
    area, name = write_s3dis.room_name(2, rooms[2].scene_type)
    lines = np.loadtxt(written / f"Area_{area}" / name / f"{name}.txt")
    assert np.array_equal(lines[:, :3].astype(np.float32), meshes[2].vertices.astype(np.float32))


@pytest.mark.parametrize("number", NUMBERS)
def test_views_come_back(rooms, meshes, scenes, number):
    room, frames, order = rooms[number], scenes[number].frames, objects_in_order(rooms[number], meshes[number])
    camera, first = room.camera(), 1 + write_s3dis.BLOCK * number
    index = np.full(len(room.nyu40), -1)
    index[order] = first + np.arange(len(order))
    semantic = np.where(index < 0, -1, class_of_object(room))
    assert len(frames) == len(camera) == 3
    for view, frame in enumerate(frames):
        seen = room.render(camera, view)
        assert torch.equal(frame.camera.world_from_camera[0], camera.world_from_camera[view])
        assert torch.allclose(frame.camera.intrinsics[0], camera.intrinsics[view], rtol=1e-15, atol=0)
        assert np.array_equal(frame.depth().numpy(), np.floor(512 * seen.depth + 0.5))
        assert np.array_equal(frame.color().numpy(), seen.color)
        assert np.array_equal(frame.semantic().numpy(), semantic[seen.object])
        assert np.array_equal(frame.instance().numpy(), index[seen.object])
        assert (frame.semantic() >= 0).double().mean() > 0.95


def test_depth_lifts_the_floor_to_the_floor(scenes):
    floor = 0
    for frame in (frame for scene in scenes for frame in scene.frames):
        k, pose = frame.camera.intrinsics[0], frame.camera.world_from_camera[0]
        v, u = (frame.semantic() == CLASSES.index("floor")).nonzero(as_tuple=True)
        z = frame.metres()[v, u].double()
        xyz = torch.stack([(u - k[0, 2]) * z / k[0, 0], (v - k[1, 2]) * z / k[1, 1], z], dim=1)
        height = xyz @ pose[2, :3] + pose[2, 3]
        assert (height.abs() < 0.002).all()  # half of 1/512 m along the axis
        floor += len(height)
    assert floor > 500


def test_points_have_the_class_of_the_pixels_that_see_them(scenes):
    agree = []
    for scene in scenes:
        for frame in scene.frames:
            uvz = project(scene.points.double(), frame.camera)[0]
            u, v = torch.floor(uvz[:, 0] + 0.5), torch.floor(uvz[:, 1] + 0.5)
            inside = (uvz[:, 2] > 0) & (u >= 0) & (u < 64) & (v >= 0) & (v < 48)
            u, v = u[inside].long(), v[inside].long()
            seen = (uvz[inside, 2] - frame.metres()[v, u]).abs() < 0.02
            agree.append(scene.cloud.semantic[inside][seen] == frame.semantic()[v, u][seen])
    agree = torch.cat(agree).double()
    assert len(agree) > 5000
    assert agree.mean() > 0.9  # all but those on an edge: the corners of the room have many vertices


def test_rooms_are_in_the_areas_that_their_split_wants(written, rooms):
    from pyproj2d3d.data.synth.split import is_validation

    for number in range(30):
        assert (write_s3dis.room_name(number, "office")[0] == 5) == is_validation(number)
    assert len({write_s3dis.room_name(number, "office") for number in range(1000)}) == 1000
    assert {write_s3dis.room_name(number, "office")[0] for number in range(7)} == {1, 2, 3, 4, 5, 6}
    assert len(S3DIS(written, "train")) == 4
    assert S3DIS(written, "val").names == (f"Area_5_{write_s3dis.room_name(4, rooms[4].scene_type)[1]}",)
    assert write_s3dis.room_name(0, "bathroom") == (1, "WC_1")
    assert write_s3dis.room_name(6, "bedroom") == (1, "office_2")


def test_a_pose_file_has_what_those_of_the_dataset_have(rooms, written):
    area, name = write_s3dis.room_name(0, rooms[0].scene_type)
    path = sorted((written / "2D-3D-S" / f"area_{area}" / "data" / "pose").glob(f"camera_*_{name}_frame_0_*"))[1]
    pose = json.loads(path.read_text())
    assert pose["room"] == f"{name}_{area}"
    assert path.name == f"camera_{pose['camera_uuid']}_{name}_frame_0_domain_pose.json"
    assert pose["camera_k_matrix"][0][2] == 32  # in the middle of 64 pixels, counted by their corners
    assert np.shape(pose["camera_rt_matrix"]) == (3, 4)
    x, y, z = pose["final_camera_rotation"]
    turns = [np.eye(3) for _ in range(3)]
    for axis, angle in enumerate((x, y, z)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turns[axis][[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    ours = rooms[0].camera().world_from_camera[1, :3, :3].numpy()
    assert np.allclose(turns[2] @ turns[1] @ turns[0], ours * [1, -1, -1], atol=1e-8)  # Blender's axes


def test_no_room_is_turned_and_every_label_names_its_object(written, scenes, rooms):
    assert torch.equal(scenes[0].aligned_from_world, torch.eye(4, dtype=torch.float64))
    labels = json.loads((written / "2D-3D-S" / "assets" / "semantic_labels.json").read_text())
    assert len(labels) == 1 + write_s3dis.BLOCK * len(rooms)
    area, name = write_s3dis.room_name(3, rooms[3].scene_type)
    files = sorted(path.stem for path in (written / f"Area_{area}" / name / "Annotations").iterdir())
    first = 1 + write_s3dis.BLOCK * 3
    assert labels[first : first + len(files)] == [f"{file}_{name}_{area}" for file in files]
    assert set(labels[first + len(files) : first + write_s3dis.BLOCK]) == {"<UNK>_0_<UNK>_0_0"}


def test_a_sensor_has_holes_and_noise_within_the_quantum(tmp_path):
    options = RoomOptions(frames=1, size=(48, 64), spacing=0.2, noise=True, holes=True)
    room = SynthRoom(8, options)
    write_s3dis.write(tmp_path, room, 0)
    write_s3dis.finish(tmp_path, 1)
    (frame,) = S3DIS(tmp_path)[0].frames
    depth, exact = frame.metres().double().numpy(), room.render(room.camera(), 0).depth
    missing = depth == 0
    assert 0 < missing.mean() < 0.9
    assert (frame.depth().numpy()[missing] == 65535).all()
    error = (depth - exact)[~missing]
    assert 0.002 < np.abs(error).mean() < 0.1


def hashes(out):
    return {p.relative_to(out): hashlib.sha256(p.read_bytes()).hexdigest() for p in out.rglob("*") if p.is_file()}


def test_the_same_room_is_written_twice_with_equal_bytes(written, rooms, tmp_path):
    write_s3dis.write(tmp_path, SynthRoom(20, OPTIONS), 0)
    once, again = hashes(written), hashes(tmp_path)
    assert len(again) > 20
    assert again.items() <= once.items()


def test_what_has_no_place_in_the_labels_cannot_be_written(tmp_path, rooms, monkeypatch):
    with pytest.raises(ValueError, match=r"scenes must be at most 3341, .* got 3342"):
        write_s3dis.write(tmp_path, rooms[0], 3341)
    assert (
        1 + write_s3dis.BLOCK * write_s3dis.MAX_ROOMS - 1
        < 0x0D0D0D
        < 1 + write_s3dis.BLOCK * (write_s3dis.MAX_ROOMS + 1)
    )
    monkeypatch.setattr(write_s3dis, "BLOCK", 3)
    with pytest.raises(ValueError, match="room must have at most 3 objects, got"):
        write_s3dis.write(tmp_path, rooms[0], 0)
