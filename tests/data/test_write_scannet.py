"""Does a room come back from ScanNet's layout as it is, from a recording and from both kinds of folders?"""

import csv
import json
import re

import numpy as np
import pytest
import torch

from pyproj2d3d.data.scannet import ScanNet
from pyproj2d3d.data.scannet_labels import LABEL_MAP, SCANNET20_IDS
from pyproj2d3d.data.synth import RoomOptions, SynthRoom
from pyproj2d3d.data.synth.furniture_scenes import NYU40_OF_NAME
from pyproj2d3d.data.synth.write_scannet import (
    SCANNET_IDS,
    aligned_from_world,
    finish,
    scene_name,
    world_from_camera,
    write,
)

OPTIONS = RoomOptions(frames=3, size=(24, 32), spacing=0.25)
KINDS = ("sens", "export", "frames_25k")


@pytest.fixture(scope="module")
def rooms():
    return [SynthRoom(seed, OPTIONS) for seed in (5, 6, 7, 8, 9)]


@pytest.fixture(scope="module")
def root(rooms, tmp_path_factory):
    """A dataset whose first three scenes have frames of each kind, not to be changed."""
    root = tmp_path_factory.mktemp("scannet")
    for number, room in enumerate(rooms):
        write(root, room, number, frames=KINDS[number % 3])
    finish(root, len(rooms))
    return root


@pytest.fixture(params=range(3), ids=KINDS)
def number(request):
    return request.param


def of_class(nyu40):
    """Classes of the benchmark of NYU40 ids."""
    return torch.tensor([SCANNET20_IDS.index(i) if i in SCANNET20_IDS else -1 for i in range(41)])[nyu40]


def test_labels_instances_and_depth_come_back_exactly(root, rooms, number):
    room, scene = rooms[number], ScanNet(root)[number]
    camera = room.camera()
    large = camera.resized((56, 80))
    assert [frame.name for frame in scene.frames] == (
        ["000000", "000001", "000002"] if number == 2 else ["0", "1", "2"]
    )
    for i, frame in enumerate(scene.frames):
        seen = torch.from_numpy(room.render(large, i).object)
        assert torch.equal(frame.semantic(), of_class(torch.from_numpy(room.nyu40)[seen]))
        millimetres = np.floor(1000 * room.render(camera, i).depth + 0.5)
        assert (frame.depth().numpy() == millimetres).all()
        assert frame.depth_scale == 1000
        if number < 2:
            assert torch.equal(frame.instance(), seen)


def test_instances_of_the_subset_are_those_of_the_room_by_another_name(root, rooms):
    room, scene = rooms[2], ScanNet(root, labels="nyu40")[2]
    large = room.camera().resized((56, 80))
    for i, frame in enumerate(scene.frames):
        seen, instance = room.render(large, i).object, frame.instance().numpy()
        assert ((instance == -1) == np.isin(room.nyu40[seen], (1, 2, 22))).all()
        there = instance >= 0
        assert (instance[there] // 1000 == room.nyu40[seen[there]]).all()
        pairs = {*zip(instance[there].tolist(), seen[there].tolist(), strict=True)}
        assert len(pairs) == len(np.unique(instance[there])) == len(np.unique(seen[there]))


def test_poses_and_intrinsics_come_back_to_the_bit(root, rooms, number):
    room, scene = rooms[number], ScanNet(root)[number]
    camera = room.camera()
    for i, frame in enumerate(scene.frames):
        kind = torch.float32 if number == 0 else torch.float64  # a recording has float32
        pose = torch.from_numpy(world_from_camera(room, number, camera.world_from_camera[i].numpy())).to(kind).double()
        assert torch.equal(frame.camera.world_from_camera[0], pose)
        assert torch.equal(frame.color_camera.world_from_camera[0], pose)
        assert torch.equal(frame.camera.intrinsics, camera[i].intrinsics.to(kind).double())
        assert torch.equal(frame.color_camera.intrinsics, camera[i].resized((56, 80)).intrinsics.to(kind).double())
        assert (frame.camera.size, frame.color_camera.size) == ((24, 32), (56, 80))


def test_colour_is_that_of_the_room_but_for_jpeg(root, rooms, number):
    frame = ScanNet(root)[number].frames[1]
    wanted = rooms[number].render(rooms[number].camera().resized((56, 80)), 1).color
    assert np.abs(frame.color().numpy().astype(int) - wanted).mean() < 8


def test_the_mesh_comes_back_with_labels_and_objects(root, rooms, number):
    room, cloud = rooms[number], ScanNet(root, labels="nyu40")[number].cloud
    mesh = room.mesh()
    assert torch.equal(cloud.faces, torch.from_numpy(mesh.faces))
    assert torch.equal(cloud.colors, torch.from_numpy(mesh.colors))
    assert torch.equal(cloud.instance, torch.from_numpy(mesh.object))
    assert torch.equal(cloud.semantic, torch.from_numpy(room.nyu40[mesh.object] - 1))


def test_the_world_is_not_aligned_and_alignment_makes_it_the_room(root, rooms, number):
    scene, mesh = ScanNet(root)[number], rooms[number].mesh()
    aligned = scene.aligned_from_world
    assert torch.equal(aligned, torch.from_numpy(aligned_from_world(rooms[number], number)))
    points = scene.points.double()
    assert (points @ aligned[:3, :3].T + aligned[:3, 3] - torch.from_numpy(mesh.vertices)).abs().max() < 1e-6
    assert (points - torch.from_numpy(mesh.vertices)).abs().max() > 0.5
    turned = [aligned_from_world(rooms[0], i)[0, 0] for i in range(6)]
    assert len(set(turned)) >= 3


def test_points_lie_where_depth_says(root, number):
    """Mesh and frames are in one world: of what is lifted most lies near a vertex."""
    scene = ScanNet(root)[number]
    frame = scene.frames[1]
    z = frame.metres().double()
    v, u = (z > 0).nonzero(as_tuple=True)
    k, pose = frame.camera.intrinsics[0], frame.camera.world_from_camera[0]
    rays = torch.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], torch.ones_like(u)], dim=1)
    lifted = (rays * z[v, u, None]) @ pose[:3, :3].T + pose[:3, 3]
    nearest = torch.cdist(lifted, scene.points.double()).min(dim=1).values
    assert nearest.median() < 0.12  # half of a diagonal of the squares of 25 cm that the mesh has is 18 cm
    assert nearest.max() < 0.5


def test_segments_are_within_objects_and_fewer_than_vertices(root, number):
    cloud = ScanNet(root)[number].cloud
    pairs = torch.stack([cloud.superpoint, cloud.instance], dim=1).unique(dim=0)
    segments = int(cloud.superpoint.max()) + 1
    assert len(pairs) == segments
    assert len(cloud.instance.unique()) < segments < len(cloud.points) / 5


def test_labels_of_the_mesh_are_those_of_its_objects_names(root, rooms, number, tmp_path):
    whole = ScanNet(root)[number].cloud.semantic
    scene = root / "scans" / scene_name(number)
    copy = tmp_path / "scans" / scene.name
    copy.mkdir(parents=True)
    for path in scene.iterdir():
        if path.is_file() and not path.name.endswith((".labels.ply", ".sens")):
            (copy / path.name).symlink_to(path)
    (tmp_path / LABEL_MAP).symlink_to(root / LABEL_MAP)
    derived = ScanNet(tmp_path)[0].cloud
    assert torch.equal(derived.semantic, whole)


def test_every_fifth_scene_is_of_the_validation_split(root):
    assert ScanNet(root, "val").names == ("scene0004_00",)
    assert ScanNet(root, "train").names == tuple(f"scene000{i}_00" for i in range(4))
    assert ScanNet(root).missing == ()


def test_the_scene_type_is_worded_as_in_scannet(root, rooms):
    for room, scene in zip(rooms, ScanNet(root), strict=True):
        words = re.split(r"[ /]+", scene.scene_type.lower())
        assert room.scene_type.split()[0] in words


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_one_room_gives_the_same_files_twice(tmp_path, kind):
    options = RoomOptions(frames=2, size=(24, 32), spacing=0.25, noise=True, holes=True)
    for name in ("a", "b"):
        write(tmp_path / name, SynthRoom(5, options), 5, frames=kind)
        finish(tmp_path / name, 6)
    one, other = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    assert len(one) > 8
    assert one == other


def test_noise_and_holes_are_in_the_depth(tmp_path):
    options = RoomOptions(frames=2, size=(48, 64), spacing=0.3, noise=True, holes=True)
    room = SynthRoom(5, options)
    write(tmp_path, room, 0)
    depth = ScanNet(tmp_path)[0].frames[0].depth().numpy().astype(int)
    exact = 1000 * room.render(room.camera(), 0).depth
    assert 0.005 < (depth == 0).mean() < 0.9
    assert 0.5 < np.median(np.abs(depth - exact)[depth > 0]) < 100


def test_a_room_without_frames_is_a_mesh(tmp_path):
    for i, kind in enumerate(KINDS):
        write(tmp_path, SynthRoom(5, RoomOptions(frames=0, size=(24, 32), spacing=0.3)), i, frames=kind)
    for scene in ScanNet(tmp_path):
        assert len(scene.frames) == 0
        assert len(scene.points) > 100


def test_names_have_six_digits():
    assert [scene_name(i) for i in (0, 42, 9999, 10_000, 999_999)] == [
        *("scene0000_00", "scene0042_00", "scene9999_00", "scene0000_01", "scene9999_99"),
    ]
    for number in (-1, 1_000_000):
        with pytest.raises(ValueError, match=f"number must be from 0 to 999,999, .* got {number}"):
            scene_name(number)


def test_what_cannot_be_written_is_said(tmp_path, rooms):
    with pytest.raises(ValueError, match='frames must be "sens", "export" or "frames_25k", got \'zip\''):
        write(tmp_path, rooms[0], 0, frames="zip")
    room = SynthRoom(5, OPTIONS)
    room.nyu40 = np.full(255, 5)
    with pytest.raises(ValueError, match="room must have at most 254 objects, instances have 8 bits, got 255"):
        write(tmp_path, room, 0)
    assert not any(tmp_path.iterdir())


def test_json_files_have_the_keys_that_scannets_have(root):
    scene = root / "scans" / "scene0000_00"
    segments = json.loads((scene / "scene0000_00_vh_clean_2.0.010000.segs.json").read_text())
    assert segments.keys() == {"params", "sceneId", "segIndices"}
    objects = json.loads((scene / "scene0000_00.aggregation.json").read_text())
    assert objects.keys() == {"sceneId", "appId", "segGroups", "segmentsFile"}
    assert objects["segGroups"][0].keys() == {"id", "objectId", "segments", "label"}


def test_every_category_of_the_rooms_has_an_id():
    assert SCANNET_IDS.keys() == NYU40_OF_NAME.keys()
    assert len({*SCANNET_IDS.values()}) == len(SCANNET_IDS)


def test_ids_columns_and_classes_are_those_of_scannets_label_map(root, real_data):
    with open(real_data("label_tables") / LABEL_MAP, newline="") as real, open(root / LABEL_MAP) as ours:
        real, ours = csv.DictReader(real, delimiter="\t"), csv.DictReader(ours, delimiter="\t")
        assert real.fieldnames == ours.fieldnames
        real = {row["raw_category"]: row for row in real}
        for row in ours:
            wanted = real[row["raw_category"]]
            assert (row["id"], row["nyu40id"]) == (wanted["id"], wanted["nyu40id"])
            assert row["nyu40class"] == wanted["nyu40class"].replace("refridgerator", "refrigerator")
