"""Is SUN RGB-D read as its toolbox reads it: four sensors, rotated depth, 37 classes?"""

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from sunrgbd_by_hand import (
    CHAIR,
    NO_TILT,
    OF_EACH_SENSOR,
    SIZES,
    box_v2,
    cell,
    fails,
    outline,
    write_boxes_v1,
    write_boxes_v2,
    write_image,
    write_segmentation,
    write_splits,
)

from pyproj2d3d import back_project, project
from pyproj2d3d.data.mat import create_mat73, write_mat
from pyproj2d3d.data.sunrgbd import CLASSES, SUNRGBD


@pytest.mark.parametrize("sensor", OF_EACH_SENSOR)
def test_an_image_of_each_sensor_is_a_scene_of_one_frame(tmp_path, sensor):
    write_image(tmp_path, OF_EACH_SENSOR[sensor], SIZES[sensor], scene="living_room")
    dataset = SUNRGBD(tmp_path)
    assert dataset.names == (OF_EACH_SENSOR[sensor],)
    scene = dataset[0]
    assert (scene.name, scene.scene_type, scene.cloud) == (OF_EACH_SENSOR[sensor], "living_room", None)
    (frame,) = scene.frames
    assert frame.name == "0000103"
    assert frame.camera.size == frame.color_camera.size == SIZES[sensor]
    height, width = SIZES[sensor]
    assert frame.metres().tolist() == (torch.arange(1, 1 + height * width).reshape(height, width) / 1000).tolist()
    assert frame.color().shape == (height, width, 3)
    assert [line.split("/")[0] for line in dataset.missing[:3]] == [s for s in OF_EACH_SENSOR if s != sensor]


def test_all_four_sensors_are_listed_in_order_with_their_own_sizes(tmp_path):
    for sensor, name in OF_EACH_SENSOR.items():
        write_image(tmp_path, name, SIZES[sensor])
    dataset = SUNRGBD(tmp_path)
    assert dataset.names == tuple(sorted(OF_EACH_SENSOR.values()))
    assert [scene.frames[0].camera.size for scene in dataset] == [SIZES[sensor] for sensor in sorted(OF_EACH_SENSOR)]
    assert dataset.classes == CLASSES
    assert len(CLASSES) == len(set(CLASSES)) == 37
    assert (CLASSES.index("wall"), CLASSES.index("ceiling"), CLASSES.index("bag")) == (0, 21, 36)
    assert repr(dataset) == f"SUNRGBD({str(tmp_path)!r}, split=None): 4 scenes"


def test_filled_depth_is_a_matter_of_asking(tmp_path):
    write_image(tmp_path)
    assert SUNRGBD(tmp_path, depth="bfx")[0].frames[0].metres()[0, :2].tolist() == pytest.approx([5.001, 5.002])


def test_the_three_bits_that_wrapped_round_come_back(tmp_path):
    """9,000 mm is 13.1 bits: stored are its low 13 bits above its high 3. And 8 m is no limit here."""
    folder = write_image(tmp_path)
    stored = np.full((4, 6), (9000 << 3 | 9000 >> 13) & 0xFFFF, dtype=np.uint16)
    assert stored[0, 0] == 6465
    Image.fromarray(stored).save(folder / "depth" / "0000103.png")
    assert (SUNRGBD(tmp_path)[0].frames[0].depth() == 9000).all()
    assert SUNRGBD(tmp_path)[0].frames[0].metres()[0, 0] == 9


def test_pixels_are_counted_from_one_in_the_intrinsics(tmp_path):
    write_image(tmp_path)
    camera = SUNRGBD(tmp_path)[0].frames[0].camera
    assert camera.intrinsics.tolist() == [[[500, 0, 3], [0, 400, 2], [0, 0, 1]]]
    assert camera.dtype == torch.float64


def test_intrinsics_may_be_on_one_line(tmp_path):
    write_image(tmp_path, intrinsics="500 0 4 0 400 3 0 0 1")
    assert SUNRGBD(tmp_path)[0].frames[0].camera.intrinsics.tolist() == [[[500, 0, 3], [0, 400, 2], [0, 0, 1]]]


def test_without_tilt_the_camera_looks_along_y_and_its_down_is_minus_z(tmp_path):
    write_image(tmp_path)
    pose = SUNRGBD(tmp_path)[0].frames[0].camera.world_from_camera[0]
    assert (pose @ torch.tensor([1.0, 2, 3, 1], dtype=torch.float64)).tolist() == [1, 3, -2, 1]


def test_a_camera_that_looks_down_sees_what_is_below_it(tmp_path):
    """Turned by the angle of a 3-4-5 triangle: a metre ahead is 60 cm down."""
    write_image(tmp_path, tilt="1 0 0 0\n0 0.8 0.6 0\n0 -0.6 0.8 0\n")
    pose = SUNRGBD(tmp_path)[0].frames[0].camera.world_from_camera[0]
    assert pose[:3, 2].tolist() == [0, 0.8, -0.6]


def test_the_last_of_several_extrinsics_counts(tmp_path):
    folder = write_image(tmp_path, tilt="1 0 0 0\n0 0.8 0.6 0\n0 -0.6 0.8 0\n")
    (folder / "extrinsics" / "20140101000000.txt").write_text(NO_TILT)
    assert SUNRGBD(tmp_path)[0].frames[0].camera.world_from_camera[0, 2, 2] == -0.6


def test_a_scene_without_a_scene_txt_has_no_type(tmp_path):
    (write_image(tmp_path) / "scene.txt").unlink()
    assert SUNRGBD(tmp_path)[0].scene_type is None


def test_splits_come_from_allsplit_in_its_order_and_what_is_not_on_the_disk_is_counted(tmp_path):
    for sensor, name in OF_EACH_SENSOR.items():
        write_image(tmp_path, name, SIZES[sensor])
    names = OF_EACH_SENSOR
    write_splits(tmp_path, [names["xtion"] + "/", names["kv1"], "kv1/b3dodata/img_0063"], [names["kv2"]])
    train, test = SUNRGBD(tmp_path, "train"), SUNRGBD(tmp_path, "test")
    assert train.names == (names["xtion"], names["kv1"])
    assert test.names == (names["kv2"],)
    assert "1 of the 3 images of train are not there" in train.missing
    assert not any("images of test" in line for line in test.missing)
    assert len(SUNRGBD(tmp_path)) == 4


def test_the_toolbox_may_be_beside_the_images_and_the_root_one_folder_up(tmp_path):
    write_image(tmp_path / "SUNRGBD")
    write_splits(tmp_path, [CHAIR], [])
    for root in (tmp_path, tmp_path / "SUNRGBD"):
        dataset = SUNRGBD(root, "train")
        assert (dataset.root, dataset.names) == (tmp_path / "SUNRGBD", (CHAIR,))


def test_the_37_classes_are_read_by_the_order_of_the_split_file(tmp_path):
    """Test images come first. Rows hold the transposed image, 0 for none."""
    first, second = OF_EACH_SENSOR["kv1"], OF_EACH_SENSOR["kv2"]
    write_image(tmp_path, first, (4, 6))
    write_image(tmp_path, second, (5, 7))
    write_splits(tmp_path, [first], [second])
    of_second, of_first = np.zeros((5, 7), np.uint8), np.full((4, 6), 37, np.uint8)
    of_second[0, 1] = 5
    write_segmentation(tmp_path, [of_second, of_first])
    dataset = SUNRGBD(tmp_path)
    chairs = dataset[second].frames[0].semantic()
    assert chairs[0, 1] == CLASSES.index("chair")
    assert chairs.dtype == torch.int64
    assert (chairs == -1).sum() == 34
    assert (dataset[first].frames[0].semantic() == CLASSES.index("bag")).all()
    assert SUNRGBD(tmp_path, "train")[0].frames[0].semantic().equal(dataset[first].frames[0].semantic())


def test_an_image_that_no_split_has_is_without_classes(tmp_path):
    write_image(tmp_path)
    write_splits(tmp_path, [OF_EACH_SENSOR["kv1"]], [])
    write_segmentation(tmp_path, [np.zeros((4, 6), np.uint8)])
    assert SUNRGBD(tmp_path)[0].frames[0].semantic() is None


def test_without_the_toolbox_only_names_of_a_class_are_labels(tmp_path):
    folder = write_image(tmp_path)
    label = np.zeros((4, 6), np.uint8)
    label[0, :3] = 1, 2, 3
    write_mat(folder / "seg.mat", {"names": cell("chair", "office chair", "floor mat"), "seglabel": label})
    dataset = SUNRGBD(tmp_path)
    semantic = dataset[0].frames[0].semantic()
    assert semantic[0, :4].tolist() == [CLASSES.index("chair"), -1, CLASSES.index("floor_mat"), -1]
    assert any("seg.mat" in line for line in dataset.missing)


@pytest.mark.parametrize("transposed", [False, True])
def test_instances_are_the_objects_of_seg_mat(tmp_path, transposed):
    """Names lie along a row in the folders of some sensors, down a column in others."""
    folder = write_image(tmp_path)
    label = np.zeros((4, 6), np.uint16)
    label[0, :3] = 2, 1, 2
    names = cell("chair", "chair")
    write_mat(folder / "seg.mat", {"names": names.T if transposed else names, "seglabel": label})
    frame = SUNRGBD(tmp_path)[0].frames[0]
    assert frame.instance()[0, :4].tolist() == [1, 0, 1, -1]
    assert frame.semantic()[0, :4].tolist() == [4, 4, 4, -1]


def test_instances_of_nyu_are_numbered_within_their_category(tmp_path):
    folder = write_image(tmp_path, OF_EACH_SENSOR["kv1"])
    label, number = np.zeros((2, 4, 6), np.uint8)
    label[0, :4], number[0, :4] = [1, 1, 2, 0], [1, 2, 1, 3]
    write_mat(folder / "seg.mat", {"names": cell("bed", "pillow").T, "seglabel": label, "seginstances": number})
    frame = SUNRGBD(tmp_path)[0].frames[0]
    assert frame.instance()[0, :4].tolist() == [0, 1, 2, -1]


def test_without_a_seg_mat_there_are_no_instances(tmp_path):
    write_image(tmp_path)
    frame = SUNRGBD(tmp_path)[0].frames[0]
    assert frame.instance() is None
    assert frame.semantic() is None


def test_a_scene_can_be_sent_to_a_worker(tmp_path):
    folder = write_image(tmp_path)
    write_mat(folder / "seg.mat", {"names": cell("chair"), "seglabel": np.ones((4, 6), np.uint8)})
    scene = pickle.loads(pickle.dumps(SUNRGBD(tmp_path)[0]))
    assert scene.frames[0].instance().unique().tolist() == [0]
    frame = pickle.loads(pickle.dumps(scene.frames[0]))
    assert frame.depth()[0, 0] == 1
    assert scene.boxes.box.shape == (0, 7)


# --- errors ---


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"split": "val"}, "split must be one of None, 'train', 'test', got 'val'"),
        ({"labels": "v3"}, "labels must be one of None, 'v1', 'v2', got 'v3'"),
        ({"depth": "filled"}, "depth must be one of 'raw', 'bfx', got 'filled'"),
    ],
)
def test_an_argument_out_of_range_names_itself(tmp_path, wanted, text):
    write_image(tmp_path)
    with fails(text):
        SUNRGBD(tmp_path, **wanted)


def test_a_root_without_sensors_or_images_says_so(tmp_path):
    with fails(f"{tmp_path}: must be the folder SUNRGBD with kv1, kv2", FileNotFoundError):
        SUNRGBD(tmp_path)
    (tmp_path / "kv1").mkdir()
    with fails(f"{tmp_path}: no images are there", FileNotFoundError):
        SUNRGBD(tmp_path)
    (tmp_path / "file").touch()
    with fails("must be the folder SUNRGBD", FileNotFoundError):
        SUNRGBD(tmp_path / "file")


def test_a_split_needs_its_file_and_one_image(tmp_path):
    write_image(tmp_path)
    with fails("split 'train' needs SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat", FileNotFoundError):
        SUNRGBD(tmp_path, "train")
    write_splits(tmp_path, [OF_EACH_SENSOR["kv1"]], [])
    for split in ("train", "test"):
        with fails(f"no images of {split} are there", FileNotFoundError):
            SUNRGBD(tmp_path, split)


def test_a_split_file_of_another_kind_is_named(tmp_path):
    write_image(tmp_path)
    path = tmp_path / "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
    path.parent.mkdir(parents=True)
    write_mat(path, {"alltrain": cell("/data/kv2/a"), "alltest": cell()})
    with fails("allsplit.mat: alltrain must hold paths below SUNRGBD/, got '/data/kv2/a'"):
        SUNRGBD(tmp_path)
    write_mat(path, {"alltrain": np.eye(2), "alltest": cell()})
    with fails("allsplit.mat: alltrain must be a cell array of texts"):
        SUNRGBD(tmp_path)
    write_mat(path, {"train": cell()})
    with fails("allsplit.mat: must have a variable alltrain, got train"):
        SUNRGBD(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("image/0000103.jpg", "image: must hold a file"),
        ("depth/0000103.png", "depth: must hold a file"),
        ("extrinsics/20141221170930.txt", "extrinsics: must hold a file"),
        ("intrinsics.txt", "intrinsics.txt: there is no such file, the 9 numbers of intrinsics"),
    ],
)
def test_a_missing_file_is_named(tmp_path, file, text):
    (write_image(tmp_path) / file).unlink()
    with fails(text, FileNotFoundError):
        _ = SUNRGBD(tmp_path)[0].frames


def test_colour_of_another_size_than_depth_is_named(tmp_path):
    folder = write_image(tmp_path)
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(folder / "image" / "0000103.jpg")
    with fails(r"0000103.jpg: colour must have the size of depth, \(4, 6\) \(H, W\), got \(5, 6\)"):
        _ = SUNRGBD(tmp_path)[0].frames


def test_depth_of_eight_bits_is_named(tmp_path):
    folder = write_image(tmp_path)
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(folder / "depth" / "0000103.png")
    with fails("0000103.png: depth must be a 16-bit image of one channel"):
        _ = SUNRGBD(tmp_path)[0].frames


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"intrinsics": "1 2 3"}, r"intrinsics.txt: the 9 numbers of intrinsics was wanted"),
        ({"intrinsics": "0 0 4\n0 400 3\n0 0 1"}, "intrinsics.txt: "),
        ({"tilt": "1 0 0\n0 1 0\n0 0 1"}, "20141221170930.txt: a tilt of 3x4 numbers was wanted"),
        ({"tilt": "2 0 0 0\n0 1 0 0\n0 0 1 0"}, "20141221170930.txt: a rotation was wanted as tilt"),
        ({"tilt": "nan 0 0 0\n0 1 0 0\n0 0 1 0"}, "20141221170930.txt: a rotation was wanted as tilt"),
    ],
)
def test_a_matrix_that_is_none_is_named(tmp_path, wanted, text):
    write_image(tmp_path, **wanted)
    with fails(text):
        _ = SUNRGBD(tmp_path)[0].frames


def test_what_is_wrong_with_the_37_classes_is_named(tmp_path):
    write_image(tmp_path)
    write_splits(tmp_path, [CHAIR], [])

    def semantic(*images):
        write_segmentation(tmp_path, images)
        return SUNRGBD(tmp_path)[0].frames[0].semantic()

    with fails(r"SUNRGBD2Dseg.mat, image 1: unknown label id 38"):
        semantic(np.full((4, 6), 38, np.uint8))
    with fails(r"SUNRGBD2Dseg.mat, image 1: numbers of shape \(6, 4\) \(W, H\) were wanted, got uint8 \(4, 6\)"):
        semantic(np.ones((6, 4), np.uint8))
    with fails(r"SUNRGBD2Dseg.mat: must hold the 1 images of allsplit.mat, got 2"):
        semantic(np.ones((4, 6), np.uint8), np.ones((4, 6), np.uint8))
    with fails(r"SUNRGBD2Dseg.mat, image 1: whole numbers were wanted, got fractions"):
        semantic(np.full((4, 6), 1.5))
    path = tmp_path / "SUNRGBDtoolbox/Metadata/SUNRGBD2Dseg.mat"
    write_mat(path, {"SUNRGBD2Dseg": np.eye(2)})
    with fails("SUNRGBD2Dseg.mat: must be a .mat file of version 7.3"):
        SUNRGBD(tmp_path)[0].frames[0].semantic()
    with create_mat73(path):
        pass
    with fails("SUNRGBD2Dseg.mat: must have a variable SUNRGBD2Dseg/seglabel, got none"):
        SUNRGBD(tmp_path)[0].frames[0].semantic()


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"names": cell("chair")}, "must have a variable seglabel, got names"),
        ({"seglabel": np.ones((4, 6))}, "must have a variable names, got seglabel"),
        ({"names": cell("chair"), "seglabel": np.full((4, 6), 2)}, "unknown label id 2, the known ones are below 2"),
        (
            {"names": cell("chair"), "seglabel": np.full((4, 6), 0.5)},
            "seglabel: whole numbers were wanted, got fractions",
        ),
        ({"names": cell("chair"), "seglabel": np.full((4, 6), np.nan)}, "seglabel: whole numbers were wanted"),
        ({"names": cell("chair"), "seglabel": np.ones((4, 6, 2))}, r"whole numbers of shape \(H, W\) were wanted"),
        ({"names": np.eye(2), "seglabel": np.ones((4, 6))}, "must be a cell array of texts"),
        ({"names": cell("chair"), "seglabel": np.ones((4, 5))}, r"must have size \(4, 6\)"),
        (
            {"names": cell("chair"), "seglabel": np.ones((4, 6)), "seginstances": np.ones((4, 5))},
            r"seginstances must be numbers of shape \(4, 6\), got \(4, 5\)",
        ),
    ],
)
def test_what_is_wrong_with_a_seg_mat_is_named(tmp_path, variables, text):
    write_mat(write_image(tmp_path) / "seg.mat", variables)
    with fails(f"seg.mat: .*{text}"):
        SUNRGBD(tmp_path)[0].frames[0].instance()


def whole_dataset(root):
    """All kinds of files, and a function that reads all of them."""
    folder = write_image(root)
    write_splits(root, [CHAIR], [])
    write_segmentation(root, [np.ones((4, 6), np.uint8)])
    write_mat(folder / "seg.mat", {"names": cell("chair", "bed"), "seglabel": np.ones((4, 6), np.uint8)})
    write_boxes_v1(folder, outline("chair", [0, 1, 1, 0], [1, 1, 2, 2], 0, 1))
    write_boxes_v2(root, {CHAIR: (np.eye(3), [box_v2("bed", (1, 4, 0), (1, 1, 1), (0, -1, 0))])})

    def read():
        for labels in ("v1", "v2"):
            scene = SUNRGBD(root, labels=labels)[0]
            frame = scene.frames[0]
            _ = frame.metres(), frame.color(), frame.semantic(), frame.instance(), scene.boxes
            assert scene.boxes.box.isfinite().all()
            assert frame.semantic().max() < 37

    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return [path for path in files if path.name != "scene.txt" and path.parent.name != "depth_bfx"], read


def test_a_file_that_is_cut_or_has_other_bytes_is_named_or_read_as_something(tmp_path):
    """Numbers of a text, pixels of an image and the like may change unnoticed; whatever is raised names the file."""
    files, read = whole_dataset(tmp_path)
    random = np.random.default_rng(0)
    raised = {path: [] for path in files}
    for path in files:
        whole = path.read_bytes()
        for trial in range(12):
            data = bytearray(whole)
            if trial < 6:
                data = data[: int(random.integers(len(data)))]
            else:
                for place in random.integers(0, len(data), 1 + trial % 3):
                    data[place] = random.integers(256)
            path.write_bytes(data)
            os.utime(path, ns=(trial, trial))  # what is kept of the metadata goes by its time
            try:
                read()
            except (ValueError, OSError) as error:
                raised[path].append(str(error))
        path.write_bytes(whole)
        os.utime(path, ns=(99, 99))
    read()
    for path, errors in raised.items():
        assert len(errors) >= 3, path
        named = (f"{path}: ", f"{path}, image ")
        if path.name == "allsplit.mat":  # the image has left its split
            named += (f"{tmp_path}: no images",)
        assert all(error.startswith(named) for error in errors), errors


# --- the real image ---


@pytest.fixture
def real(tmp_path, real_data):
    """The folder of the real image, as if it were one of those of kv2/align_kv2."""
    folder = real_data("sunrgbd_raw")
    (tmp_path / "kv2").mkdir()
    (tmp_path / "kv2" / "align_kv2").symlink_to(folder)
    return tmp_path


def test_the_real_image_has_whole_millimetres_from_0_64_to_3_78_metres(real):
    scene = SUNRGBD(real)[0]
    assert (len(SUNRGBD(real)), scene.scene_type) == (1, "office")
    (frame,) = scene.frames
    metres = frame.metres()
    assert frame.camera.size == frame.color().shape[:2] == (530, 730)
    assert 0.63 < metres[metres > 0].min() < 0.65
    assert 3.77 < metres.max() < 3.79
    assert (metres == 0).double().mean() == pytest.approx(0.134, abs=0.001)
    filled = SUNRGBD(real, depth="bfx")[0].frames[0].metres()
    assert (filled > 0).all()
    assert ((filled - metres)[metres > 0].abs() < 0.05).double().mean() > 0.9
    stored = np.array(Image.open(next((real / scene.name / "depth").glob("*.png"))))
    assert (stored & 7 == 0).all()


def test_the_floor_of_the_real_image_is_level_in_the_world_and_not_otherwise(real):
    """A third of the points lies within two slabs of 2 cm below the camera; with the tilt inverted no slab has 2 %."""
    frame = SUNRGBD(real)[0].frames[0]
    camera = frame.camera.to(torch.float32)
    points = back_project(frame.metres()[None], camera).points

    def slabs(height):
        share = torch.histc(height, bins=300, min=-3, max=3) / len(height)
        return share.sort(descending=True).values, -3 + 0.02 * share.argmax().item()

    share, floor = slabs(points[:, 2])
    assert share[:2].sum() > 0.3
    assert -1.4 < floor < -1.2
    level = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # no tilt
    tilt = camera.world_from_camera[0, :3, :3] @ level.T
    inverted = points @ tilt @ tilt
    assert slabs(inverted[:, 2])[0][0] < 0.02
    pixel = project(points[:1], camera)[0, 0]
    assert (pixel[:2] - pixel[:2].round()).abs().max() < 1e-3
