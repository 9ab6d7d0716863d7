"""Are the boxes of SUN RGB-D those of its two annotations, in the upright axes of an image?"""

import numpy as np
import pytest
import torch
from sunrgbd_by_hand import (
    CHAIR,
    OF_EACH_SENSOR,
    box_v2,
    fails,
    outline,
    struct,
    write_boxes_v1,
    write_boxes_v2,
    write_image,
)

from pyproj2d3d.data.mat import write_mat
from pyproj2d3d.data.sunrgbd import CLASSES, SUNRGBD


def test_a_box_of_the_annotation_faces_its_first_side(tmp_path):
    """A chair of 0.4 by 0.6 m at (1, 3): its first two corners, 0.4 m apart, are nearest to the camera, which is at
    y = 0. So it faces -y, and 0.6 m is the size along its heading. It stands 1 m below the camera and is 0.8 m high."""
    folder = write_image(tmp_path)
    write_boxes_v1(folder, outline("chair", [0.8, 1.2, 1.2, 0.8], [2.7, 2.7, 3.3, 3.3], low=-1, high=-0.2))
    boxes = SUNRGBD(tmp_path, labels="v1")[0].boxes
    assert boxes.box[0].tolist() == pytest.approx([1, 3, -0.6, 0.6, 0.4, 0.8, -np.pi / 2], abs=1e-6)
    assert boxes.box.dtype == torch.float32
    assert boxes.label.tolist() == [3]


def test_a_turned_box_of_the_annotation_has_the_heading_of_its_front(tmp_path):
    """A square of 1 m, turned by 30 degrees, wherever its corners begin."""
    folder = write_image(tmp_path)
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    x, z = turn @ np.array([[0.5, 0.5, -0.5, -0.5], [-0.5, 0.5, 0.5, -0.5]])
    headings = []
    for first in range(4):
        write_boxes_v1(folder, outline("bed", np.roll(x, -first).tolist(), np.roll(z, -first).tolist(), 0, 1))
        headings.append(SUNRGBD(tmp_path, labels="v1")[0].boxes.box[0, 6].item())
    assert headings == pytest.approx([0.5, 0.5 + np.pi / 2, 0.5 - np.pi, 0.5 - np.pi / 2], abs=1e-6)


def test_names_of_the_annotation_lose_what_is_behind_the_colon_and_empty_objects_are_none(tmp_path):
    folder = write_image(tmp_path)
    square = ([0, 1, 1, 0], [1, 1, 2, 2], 0, 1)
    objects = [
        None,
        {},
        [],
        {"name": "chair", "polygon": []},
        outline("chair:occluded", *square),
        outline("night_stand_: truncated", *square),
        outline("garbage_bin", *square),
        outline("wall", *square),
        [outline("sofa : large", *square)],
    ]
    write_boxes_v1(folder, *objects)
    dataset = SUNRGBD(tmp_path, labels="v1")
    assert [dataset.box_classes[i] for i in dataset[0].boxes.label] == ["chair", "night_stand", "sofa"]
    dataset = SUNRGBD(tmp_path, labels="v1", box_classes=("garbage_bin",))
    assert dataset[0].boxes.label.tolist() == [0]
    assert dataset.classes == CLASSES


def test_an_image_that_nobody_annotated_has_no_box(tmp_path):
    write_image(tmp_path)
    boxes = SUNRGBD(tmp_path, labels="v1")[0].boxes
    assert boxes.box.shape == (0, 7)
    assert boxes.label.shape == (0,)


def test_the_second_half_size_lies_along_the_orientation(tmp_path):
    """And a negative one counts as positive, as ``extract_rgbd_data_v2.m`` has it."""
    write_image(tmp_path)
    boxes = [box_v2("bed", (1, 4, -0.25), (0.9, 1.2, -0.5), (0, -1, 0)), box_v2("rug", (0, 0, 0), (1, 1, 1), (1, 0, 0))]
    write_boxes_v2(tmp_path, {CHAIR: (np.eye(3), boxes), OF_EACH_SENSOR["kv1"]: (np.eye(3), [])})
    dataset = SUNRGBD(tmp_path)
    assert dataset.labels == "v2"
    assert dataset[0].boxes.box.tolist() == [pytest.approx([1, 4, -0.25, 2.4, 1.8, 1, -np.pi / 2])]
    assert dataset[0].boxes.label.tolist() == [0]


def test_the_second_version_has_a_tilt_of_its_own_and_the_first_keeps_that_of_the_folder(tmp_path):
    write_image(tmp_path)
    tilt = [[1, 0, 0], [0, 0.8, 0.6], [0, -0.6, 0.8]]
    write_boxes_v2(tmp_path, {CHAIR: (tilt, [])})
    ahead = {
        labels: SUNRGBD(tmp_path, labels=labels)[0].frames[0].camera.world_from_camera[0, :3, 2]
        for labels in ("v1", "v2")
    }
    assert ahead["v1"].tolist() == [0, 1, 0]
    assert ahead["v2"].tolist() == [0, 0.8, -0.6]


def test_without_its_file_the_second_version_is_missing(tmp_path):
    write_image(tmp_path)
    assert SUNRGBD(tmp_path).labels == "v1"
    dataset = SUNRGBD(tmp_path, labels="v2")
    assert "SUNRGBDMeta3DBB_v2.mat: no boxes" in dataset.missing
    assert dataset[0].boxes is None
    assert len(dataset[0].frames) == 1


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("{", "cannot be read as the annotation of an image"),
        ("[]", "an object with a list `objects` was wanted"),
        ('{"objects": {}}', "an object with a list `objects` was wanted"),
        ('{"objects": [{"name": "bed", "polygon": [{}]}]}', "'X'"),
        ('{"objects": [3]}', "cannot be read"),
        ('{"objects": [{"polygon": [{"X": [0, 1, 1], "Z": [0, 0, 1], "Ymin": 0, "Ymax": 1}]}]}', "'name'"),
        (
            '{"objects": [{"name": "bed", "polygon": [{"X": [0, 1], "Z": [0, 0], "Ymin": 0, "Ymax": 1}]}]}',
            "object 0 must have finite numbers, three or four of X and of Z",
        ),
        (
            '{"objects": [{"name": "bed", "polygon": [{"X": [0, 1, NaN], "Z": [0, 0, 1], "Ymin": 0, "Ymax": 1}]}]}',
            "object 0 must have finite numbers",
        ),
    ],
)
def test_what_is_wrong_with_an_annotation_is_named(tmp_path, annotation, text):
    path = write_image(tmp_path) / "annotation3Dfinal" / "index.json"
    path.write_text(annotation)
    with fails(f"{path}: .*{text}"):
        _ = SUNRGBD(tmp_path)[0].boxes


def test_what_is_wrong_with_the_metadata_is_named(tmp_path):
    write_image(tmp_path)
    path = write_boxes_v2(tmp_path, {OF_EACH_SENSOR["kv1"]: (np.eye(3), [])})
    with fails(f"{path}: must hold the image {CHAIR}, it is not among its 1"):
        _ = SUNRGBD(tmp_path)[0].boxes
    for changed, text in (
        ({"Rtilt": np.eye(2)}, "Rtilt must be 9 finite numbers"),
        ({"groundtruth3DBB": np.eye(3)}, "fields of boxes and their numbers were wanted"),
        (
            {"groundtruth3DBB": struct([box_v2("bed", (0, 0), (1, 1, 1), (1, 0, 0))])},
            "centroid must be 3 finite numbers",
        ),
        ({"groundtruth3DBB": struct([box_v2("bed", (0, 0, 0), (1, 1, np.nan), (1, 0, 0))])}, "coeffs must be 3 finite"),
    ):
        path = write_boxes_v2(tmp_path, {CHAIR: (np.eye(3), [])}, **changed)
        with fails(f"{path}: image {CHAIR}: .*{text}"):
            _ = SUNRGBD(tmp_path)[0].boxes
    write_boxes_v2(tmp_path, {CHAIR: (2 * np.eye(3), [])})
    with fails(f"{path}: a rotation was wanted as tilt"):
        _ = SUNRGBD(tmp_path)[0].frames
    write_boxes_v2(tmp_path, {CHAIR: (np.eye(3), [])}, sequenceName="kv2")
    with fails(f"{path}: sequenceName of SUNRGBDMeta .*paths below SUNRGBD/, got 'kv2'"):
        _ = SUNRGBD(tmp_path)[0].boxes
    write_mat(path, {"SUNRGBDMeta": np.eye(2)})
    with fails(f"{path}: SUNRGBDMeta must have the fields sequenceName, Rtilt, groundtruth3DBB, got None"):
        _ = SUNRGBD(tmp_path)[0].boxes
    dataset = SUNRGBD(tmp_path)
    path.unlink()
    with fails(f"{path}: there is no such file any more", FileNotFoundError):
        _ = dataset[0].boxes
