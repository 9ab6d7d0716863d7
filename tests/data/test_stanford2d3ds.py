"""Are the images of 2D-3D-S read as they lie on the disk, and is everything wrong with them named?"""

import json
import os
import random

import numpy as np
import pytest
import torch
from PIL import Image
from s3dis_by_hand import (
    LABELS,
    SIZE,
    outcome,
    pose_file,
    says,
    three_rooms,
    write_frame,
)

from pyproj2d3d.data.s3dis import S3DIS
from pyproj2d3d.data.stanford2d3ds import AREA_5_FROM_5B, CLASSES, MISSING_COLOR, class_of, read_labels, read_pose_file


@pytest.fixture
def root(tmp_path):
    return three_rooms(tmp_path)


def test_classes_have_their_usual_order_and_what_is_none_is_clutter():
    assert (len(CLASSES), CLASSES[0], CLASSES[8], CLASSES[12]) == (13, "ceiling", "chair", "clutter")
    assert [class_of(name) for name in ("board_3", "stairs_1_office_2_1", "<UNK>_0_<UNK>_0_0")] == [11, 12, -1]


def test_frames_of_a_room_are_those_with_its_name_in_the_order_of_their_numbers(root):
    dataset = S3DIS(root)
    assert [frame.name for frame in dataset["Area_1_office_2"].frames] == ["ab12_frame_9", "ab12_frame_10"]
    assert [frame.name for frame in dataset["Area_1_office_10"].frames] == ["ab12_frame_3"]
    assert len(dataset["Area_5_hallway_1"].frames) == 0


def test_a_frame_is_read_as_it_is_stored(root):
    frame = S3DIS(root)["Area_1_office_2"].frames[0]
    assert frame.metres().tolist() == [[0, *[2.0] * 5], *[[2.0] * 6] * 3]
    assert frame.depth()[0, 0] == 65535
    assert frame.color().flatten().tolist() == list(range(72))
    assert frame.semantic().tolist() == [
        [8, 8, 8, 1, 1, 1],
        [8, -1, 8, 1, 1, 1],
        [8, 8, -1, 1, 1, 1],
        [8, 8, 8, 12, 1, 1],
    ]
    assert frame.instance()[:, [1, 2, 3]].tolist() == [[1, 1, 2], [-1, 1, 2], [1, -1, 2], [1, 1, 3]]


def test_the_pose_is_that_of_the_camera_in_the_world_and_pixels_have_centres(root):
    camera = S3DIS(root)["Area_1_office_2"].frames[0].camera
    assert camera.world_from_camera[0].tolist() == [[0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 1.5], [0, 0, 0, 1]]
    assert camera.intrinsics[0].tolist() == [[5, 0, 2.5], [0, 5, 1.5], [0, 0, 1]]  # of 6 x 4 pixels
    assert camera.size == SIZE
    ahead = camera.world_from_camera[0] @ torch.tensor([0, 0, 2, 1], dtype=torch.float64)
    assert ahead.tolist() == [3, 2, 1.5, 1]


def test_images_may_lie_elsewhere_and_lack_labels(root, tmp_path):
    elsewhere = (root / "2D-3D-S").rename(tmp_path / "images")
    (elsewhere / "assets" / "semantic_labels.json").unlink()
    dataset = S3DIS(root, images=elsewhere)
    frame = dataset["Area_1_office_2"].frames[1]
    assert frame.semantic() is None
    assert frame.instance() is None
    assert f"{elsewhere / 'assets' / 'semantic_labels.json'}: not there" in dataset.missing
    (elsewhere / "semantic_labels.json").write_text(json.dumps(LABELS))
    assert S3DIS(root, images=elsewhere)["Area_1_office_2"].frames[1].semantic()[0, 0] == 8
    assert any("there are no images" in line for line in S3DIS(root).missing)
    assert len(S3DIS(root)["Area_1_office_2"].frames) == 0


def test_panoramas_and_frames_without_semantics_do_no_harm(root):
    data = root / "2D-3D-S" / "area_1" / "data"
    (data / "rgb" / "camera_ab12_office_2_frame_equirectangular_domain_rgb.png").write_bytes(b"")
    next((data / "semantic").glob("*office_2_frame_9_*")).unlink()
    frames = S3DIS(root)["Area_1_office_2"].frames
    assert [frame.semantic() is None for frame in frames] == [True, False]


@pytest.fixture
def with_5b(root):
    write_frame(root / "2D-3D-S", "5a", "hallway_1", 0, uuid="aa")
    write_frame(root / "2D-3D-S", "5b", "hallway_1", 0, uuid="bb")
    return root


def test_the_poses_of_area_5b_are_said_to_be_in_another_world(with_5b):
    with pytest.warns(UserWarning, match=r"area_5b.*not in the world of the points of Area 5; area_5b=\"moved\" moves"):
        scene = S3DIS(with_5b)["Area_5_hallway_1"]
    assert [frame.name for frame in scene.frames] == ["aa_frame_0", "bb_frame_0"]
    assert torch.equal(scene.frames[0].camera.world_from_camera, scene.frames[1].camera.world_from_camera)
    assert len(S3DIS(with_5b, areas=(1,))) == 2  # and nothing is said where none of its rooms is wanted


def test_the_poses_of_area_5b_are_moved_or_left_out_when_asked(with_5b):
    first, second = S3DIS(with_5b, area_5b="moved")["Area_5_hallway_1"].frames
    assert first.camera.world_from_camera[0, :3, 3].tolist() == [1, 2, 1.5]
    assert second.camera.world_from_camera[0, :3, 3].tolist() == [2 - 4.09703582, -1 + 6.22617759, 1.5]
    assert second.camera.world_from_camera[0, :3, 2].tolist() == [0, -1, 0]  # what looked along x
    assert np.allclose(AREA_5_FROM_5B[:3, :3] @ AREA_5_FROM_5B[:3, :3].T, np.eye(3))
    frames = S3DIS(with_5b, "val", area_5b="left out")["Area_5_hallway_1"].frames
    assert [frame.name for frame in frames] == ["aa_frame_0"]
    assert frames.skipped == ("bb_frame_0: of area_5b, left out as asked",)


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    "lost", [{"camera_location": [1, float("nan"), 2]}, {"camera_rt_matrix": [[float("inf")] * 4] * 3}]
)
def test_a_frame_whose_pose_is_not_finite_is_left_out_and_said(root, lost):
    change(pose_file(root), **lost)
    with pytest.warns(UserWarning, match="room office_2 of area 1: 1 of 2 frames are left out.*: ab12_frame_9"):
        frames = S3DIS(root)["Area_1_office_2"].frames
    assert [frame.name for frame in frames] == ["ab12_frame_10"]
    assert frames.skipped == ("ab12_frame_9: pose is not finite",)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"camera_k_matrix": [[5, 0, 3], [0, 5, 2]]}, r"camera_k_matrix must have shape \(3, 3\), got \[\[5, 0, 3\]"),
        ({"camera_k_matrix": 7}, r"camera_k_matrix must have shape \(3, 3\), got 7"),
        ({"camera_k_matrix": [[5, 1, 3], [0, 5, 2], [0, 0, 1]]}, "camera_k_matrix must be finite, .* no skew"),
        ({"camera_k_matrix": [[5, 0, 3], [0, -5, 2], [0, 0, 1]]}, "with positive focal lengths"),
        ({"camera_k_matrix": [[5, 0, float("nan")], [0, 5, 2], [0, 0, 1]]}, "camera_k_matrix must be finite"),
        ({"camera_rt_matrix": np.eye(4)[:, :3].tolist()}, r"camera_rt_matrix must have shape \(3, 4\)"),
        ({"camera_rt_matrix": [[1, 0, 0, "0"], [0, 1, 0, 0], [0, 0, 1, 0]]}, "camera_rt_matrix must hold numbers"),
        ({"camera_rt_matrix": [[True, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "camera_rt_matrix must hold numbers"),
        ({"camera_rt_matrix": [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "camera_rt_matrix must hold a rotation"),
        ({"camera_rt_matrix": [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}, "camera_rt_matrix must hold a rotation"),
        ({"camera_location": [1, 2]}, r"camera_location must have shape \(3,\), got \[1, 2\]"),
        ({"camera_location": [10**400, 2, 1]}, "camera_location must hold numbers of float64"),
        ({"camera_location": [1, 2, 1.6]}, "must take camera_location to the camera's origin, got a point 0.1 m off"),
    ],
)
def test_a_pose_that_is_none_is_an_error(root, fields, wanted):
    change(pose_file(root), **fields)
    with pytest.raises(ValueError, match=says(pose_file(root), wanted)):
        _ = S3DIS(root)["Area_1_office_2"].frames


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("\udcff", "must be JSON"),
        ("[]", "must be a JSON object of one camera, got"),
        ('{"camera_k_matrix": []}', r"camera_k_matrix must have shape"),
        ("{}", "camera_k_matrix is missing, the keys are none"),
    ],
)
def test_a_pose_file_that_is_none_is_an_error(root, text, wanted):
    pose_file(root).write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=says(pose_file(root), wanted)):
        _ = S3DIS(root)["Area_1_office_2"].frames


def test_every_cut_of_a_pose_file_is_an_error(root):
    path = pose_file(root)
    whole = path.read_bytes()
    for n in range(0, len(whole), 7):
        path.write_bytes(whole[:n])
        with pytest.raises(ValueError, match=says(path, "must be JSON")):
            _ = S3DIS(root)["Area_1_office_2"].frames


def test_the_bytes_of_a_pose_file_can_be_anything(root):
    """Either a rigid pose comes of it, or one that is not finite, or an error that names the file."""
    path, draw, failed = pose_file(root), random.Random(5), 0
    whole = path.read_bytes()
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 2)):
            data[draw.randrange(len(data))] = draw.choice(b' "[]{},:.-e0159nNI\x00\xff')
        path.write_bytes(bytes(data))
        found = outcome(path, lambda: read_pose_file(path))
        if found is None:
            failed += 1
            continue
        intrinsics, pose = found
        assert intrinsics.shape == (3, 3)
        assert np.isfinite(intrinsics).all()
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=2e-3) or np.isnan(pose[:3]).all()
    assert 300 < failed < 590


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", '["chair_1_office_2_1", 3]'])
def test_labels_that_are_no_list_of_names_are_an_error(root, text):
    path = root / "2D-3D-S" / "assets" / "semantic_labels.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says(path, "must be a list of names such as chair_7_office_2_1, got")):
        _ = S3DIS(root)["Area_1_office_2"].frames


def test_an_index_beyond_the_labels_is_an_error(root):
    path = root / "2D-3D-S" / "assets" / "semantic_labels.json"
    path.write_text(json.dumps(LABELS[:2]))
    frame = S3DIS(root)["Area_1_office_2"].frames[0]
    with pytest.raises(
        ValueError, match=says(frame.read_semantic.path, "unknown label id 3, the known ones are below 2")
    ):
        frame.semantic()


@pytest.mark.parametrize("kind", ["rgb", "depth", "pose"])
def test_a_frame_that_lacks_a_file_is_an_error(root, kind):
    folder = root / "2D-3D-S" / "area_1" / "data" / kind
    next(folder.glob("*office_2_frame_9_*")).unlink()
    with pytest.raises(FileNotFoundError, match=says(folder, f"frame ab12_frame_9 has no {kind} file, but there is")):
        _ = S3DIS(root)["Area_1_office_2"].frames


@pytest.mark.parametrize(
    ("kind", "pixels", "wanted"),
    [
        ("depth", np.zeros((*SIZE, 3), np.uint8), "depth must be a 16-bit image of one channel, got Pillow mode RGB"),
        ("depth", np.zeros((2, 2), np.uint16), "depth must have size .* as in the first frame"),
        ("semantic", np.zeros(SIZE, np.uint8), "semantic images must be RGB, got Pillow mode L"),
        ("semantic", np.zeros((2, 2, 3), np.uint8), r"labels must have the size of the colour image, \(4, 6\)"),
        ("rgb", np.zeros((2, 2, 3), np.uint8), "rgb must have size .* as in the first frame"),
    ],
)
def test_an_image_of_another_kind_or_size_is_an_error(root, kind, pixels, wanted):
    path = next((root / "2D-3D-S" / "area_1" / "data" / kind).glob("*office_2_frame_9_*"))
    Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match=wanted):
        _ = S3DIS(root)["Area_1_office_2"].frames


def test_colour_of_another_size_than_depth_is_an_error(root):
    for path in (root / "2D-3D-S" / "area_1" / "data" / "rgb").glob("*office_2*"):
        Image.new("RGB", (12, 8)).save(path)
    with pytest.raises(ValueError, match=r"colour must have the size of depth, \(4, 6\) \(H, W\), got \(8, 12\)"):
        _ = S3DIS(root)["Area_1_office_2"].frames


def test_every_cut_of_a_semantic_image_is_an_error_or_does_no_harm(root):
    frame = S3DIS(root)["Area_1_office_2"].frames[0]
    whole, path = frame.semantic(), frame.read_semantic.path
    data, harmless = path.read_bytes(), 0
    for n in range(len(data)):
        path.write_bytes(data[:n])
        labels = outcome(path, frame.semantic)
        assert labels is None or torch.equal(labels, whole)
        harmless += labels is not None
    assert harmless < 40  # the checksums behind the last pixel


# What is known of the dataset itself.


def test_every_published_label_has_a_class(real_data):
    semantic, instance = read_labels(real_data("label_tables/2d3ds_semantic_labels.json"))
    assert len(semantic) == 9816 < MISSING_COLOR
    assert np.flatnonzero(semantic < 0).tolist() == [0]  # <UNK>
    assert np.bincount(semantic[1:]).tolist() == [385, 284, 1546, 159, 254, 168, 543, 455, 1363, 55, 584, 137, 3882]
    assert instance[[0, 1, 9815]].tolist() == [-1, 1, 9815]


def test_a_frame_that_comes_later_is_found_too(root):
    """What an area's folders hold is kept for as long as they do not change."""
    assert len(S3DIS(root)["Area_1_office_10"].frames) == 1
    write_frame(root / "2D-3D-S", "1", "office_10", 4)
    for folder in (root / "2D-3D-S" / "area_1" / "data").iterdir():
        os.utime(folder, ns=(5, 5))  # clocks of disks may be coarse
    assert [frame.name for frame in S3DIS(root)["Area_1_office_10"].frames] == ["ab12_frame_3", "ab12_frame_4"]
