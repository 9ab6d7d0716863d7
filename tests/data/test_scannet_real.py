"""Do real recordings come back from files in ScanNet's layout? Needs the folder named by ``PYPROJ2D3D_REAL_DATA``."""

import json
import shutil

import numpy as np
import pytest
import torch
from scannet_by_hand import DEPTH, NAME, K, depth_of, write_text_matrix

from pyproj2d3d import Camera, project, visibility
from pyproj2d3d.data import ScanNet, read_posed_folder
from pyproj2d3d.data.ply import write_mesh_ply
from pyproj2d3d.data.scannet_labels import LABEL_MAP, read_label_map
from pyproj2d3d.data.sens import write_sens


def test_scannets_own_label_map_is_read(real_data):
    table = read_label_map(real_data(f"label_tables/{LABEL_MAP}"))
    assert len(table.of_name) == 607
    assert (table.of_name["wall"], table.of_name["office chair"], table.of_name["furnace"]) == (1, 5, 39)
    assert (table.of_id > 0).sum() == 549
    assert table.of_id[[0, 1, 2, 50]].tolist() == [0, 1, 5, 40]
    assert (table.of_name["pipe"], table.of_name["pipes"], table.of_id[107]) == (40, 38, 38)  # id 107 is both


def test_scannets_own_splits_have_their_scenes(tmp_path, real_data):
    for split, count in (("train", 1201), ("val", 312), ("test", 100)):
        listed = real_data(f"label_tables/scannetv2_{split}.txt")
        for name in listed.read_text().split():
            (tmp_path / ("scans_test" if split == "test" else "scans") / name).mkdir(parents=True)
        shutil.copy(listed, tmp_path)
        assert len(ScanNet(tmp_path, split)) == count
    assert len(ScanNet(tmp_path)) == 1613
    assert not set(ScanNet(tmp_path, "train").names) & set(ScanNet(tmp_path, "val").names)


@pytest.fixture(scope="module")
def scene0000(tmp_path_factory, real_data):
    """Vertices, labels, instances and images of the real scene0000_00 in files as ScanNet has them.

    The arrays are aligned; here the mesh is in the world of the poses again. There is no depth in them.
    """
    source, root = real_data("scannet_scene0000_00"), tmp_path_factory.mktemp("real")
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
    names = {n: name for name, n in read_label_map(real_data(f"label_tables/{LABEL_MAP}")).of_name.items()}
    groups = [
        {"id": i, "objectId": i, "segments": first[instance[first] == i + 1].tolist(), "label": names[max(1, n)]}
        for i in range(instance.max())
        for n in [int(nyu40[instance == i + 1][0])]
    ]
    (folder / f"{mesh}.0.010000.segs.json").write_text(json.dumps({"segIndices": first[segment].tolist()}))
    (folder / "scene0000_00.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    numbers = " ".join(map(repr, aligned_from_world.ravel().tolist()))
    (folder / "scene0000_00.txt").write_text(f"axisAlignment = {numbers}\nsceneType = Apartment\n")
    shutil.copy(real_data(f"label_tables/{LABEL_MAP}"), root)
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


def test_real_boxes_are_those_of_another_program(scene0000, real_data):
    """Its boxes are aligned and of 18 classes; each is one of ours, that is turned back."""
    scene, theirs = scene0000[0], np.load(real_data("scannet_scene0000_00") / "scene0000_00_bbox.npy")
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


def test_a_real_kitchen_is_the_same_from_a_recording_and_from_a_folder(tmp_path, real_data):
    frames = read_posed_folder(real_data("redkitchen_7scenes")).frames[:6]
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
