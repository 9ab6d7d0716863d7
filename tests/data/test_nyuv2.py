"""Are the labelled images of NYU Depth v2 read as they are, one at a time, and is everything wrong with them named?"""

import operator
import pickle
import re

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from pyproj2d3d import back_project
from pyproj2d3d.data.images import ENCODINGS, DepthFile
from pyproj2d3d.data.mat import cell_texts, create_mat73, read_mat, write_mat, write_texts73
from pyproj2d3d.data.nyu40 import NYU40
from pyproj2d3d.data.nyuv2 import MAPPING, MAT, NYU13, NYU13_OF_NYU40, SPLITS, NYUv2, camera_of

N, H, W = 3, 4, 5
NAMES = ("chair", "wall", "armchair", "ceiling")
MAP_CLASS = [[5, 1, 5, 22]]  # of NAMES


def arrays(random):
    """As MATLAB shows them: rows, columns, (channels,) images."""
    labels = random.integers(0, 5, (H, W, N)).astype(np.uint16)
    return {
        "images": random.integers(0, 256, (H, W, 3, N)).astype(np.uint8),
        "depths": random.uniform(1, 5, (H, W, N)).astype(np.float32),
        "rawDepths": random.uniform(1, 5, (H, W, N)).astype(np.float32) * (random.random((H, W, N)) < 0.8),
        "labels": labels,
        "instances": np.where(labels > 0, random.integers(1, 4, (H, W, N)), 0).astype(np.uint8),
        "names": NAMES,
        "scenes": ("kitchen_0004", "kitchen_0004", "office_0011"),
        "sceneTypes": ("kitchen", "kitchen", "office"),
    }


def write(path, values):
    """Axes in HDF5 are those of MATLAB reversed."""
    with create_mat73(path) as file:
        for name, value in values.items():
            if isinstance(value, tuple):
                write_texts73(file, name, value)
            else:
                file.create_dataset(name, data=value.T, chunks=(1, *value.T.shape[1:]), compression="gzip")
    return path


@pytest.fixture(scope="module")
def matlab():
    return arrays(np.random.default_rng(0))


@pytest.fixture
def root(tmp_path, matlab):
    write(tmp_path / MAT, matlab)
    write_mat(tmp_path / SPLITS, {"trainNdxs": np.array([[1.0], [3.0]]), "testNdxs": np.array([[2.0]])})
    write_mat(tmp_path / MAPPING, {"mapClass": np.array(MAP_CLASS)})
    return tmp_path


def changed(root, matlab, **changes):
    """Another file in its place, without what is None."""
    (root / MAT).unlink()
    write(root / MAT, {name: value for name, value in {**matlab, **changes}.items() if value is not None})
    return root


def says(path, text):
    return "^" + re.escape(str(path)) + ".*" + re.escape(text)


def test_every_image_comes_back_as_matlab_shows_it(root, matlab):
    dataset = NYUv2(root)
    assert dataset.names == ("0001", "0002", "0003")
    assert dataset.missing == ()
    for i, scene in enumerate(dataset):
        (frame,) = scene.frames
        assert (scene.name, frame.name) == (f"{i + 1:04d}",) * 2
        assert np.array_equal(frame.color(), matlab["images"][..., i])
        assert np.array_equal(frame.depth(), matlab["depths"][..., i])
        assert frame.depth().dtype == torch.float32
        assert torch.equal(frame.metres(), frame.depth())
        assert frame.color().is_contiguous()
        assert frame.depth().is_contiguous()
        assert scene.cloud is scene.boxes is None
    assert [scene.scene_type for scene in dataset] == ["kitchen", "kitchen", "office"]
    assert dataset.places == {"0001": "kitchen_0004", "0002": "kitchen_0004", "0003": "office_0011"}


def test_raw_depth_has_the_holes(root, matlab):
    frame = NYUv2(root, depth="raw")["0002"].frames[0]
    assert np.array_equal(frame.depth(), matlab["rawDepths"][..., 1])
    assert 0 < (frame.metres() == 0).sum() < H * W


@pytest.mark.parametrize(
    ("labels", "classes", "of_id"),
    [
        ("nyu894", NAMES, [-1, 0, 1, 2, 3]),
        ("nyu40", NYU40, [-1, 4, 0, 4, 21]),  # chair, wall, chair, ceiling
        ("nyu13", NYU13, [-1, 3, 11, 3, 2]),
    ],
)
def test_labels_are_places_in_the_classes_and_zero_is_none(root, matlab, labels, classes, of_id):
    dataset = NYUv2(root, labels=labels)
    assert dataset.classes == classes
    for i, scene in enumerate(dataset):
        found = scene.frames[0].semantic()
        assert found.dtype == torch.int64
        assert np.array_equal(found, np.array(of_id)[matlab["labels"][..., i]])


def test_an_object_is_a_pair_of_class_and_number(root, matlab):
    labels, instances = np.zeros((H, W, N), np.uint16), np.zeros((H, W, N), np.uint8)
    labels[0, :, 0] = [1, 1, 2, 2, 0]
    instances[0, :, 0] = [1, 2, 1, 1, 7]
    labels[1, :2, 0], instances[1, :2, 0] = 4, [0, 255]
    found = NYUv2(changed(root, matlab, labels=labels, instances=instances))[0].frames[0].instance()
    assert found.dtype == torch.int64
    assert found[0].tolist() == [0, 1, 2, 2, -1]
    assert found[1].tolist() == [3, 4, -1, -1, -1]
    assert (found[2:] == -1).all()


def test_the_split_is_that_of_the_file(root):
    assert NYUv2(root, "train").names == ("0001", "0003")
    assert NYUv2(root, "test").names == ("0002",)
    assert NYUv2(root, "test").places == {"0002": "kitchen_0004"}
    write_mat(root / SPLITS, {"trainNdxs": np.zeros((0, 1)), "testNdxs": np.zeros((0, 0))})
    assert len(NYUv2(root, "train")) == len(NYUv2(root, "test")) == 0


def test_points_agree_with_the_toolbox(root, matlab):
    """rgb_plane2rgb_world.m, at the size of the real images."""
    depth = np.random.default_rng(1).uniform(1, 5, (480, 640))
    column, row = np.meshgrid(np.arange(1, 641), np.arange(1, 481))
    x = (column - 3.2558244941119034e02) * depth / 5.1885790117450188e02
    y = (row - 2.5373616633400465e02) * depth / 5.1946961112127485e02
    found = back_project(torch.from_numpy(depth)[None], camera_of((480, 640))).points
    assert (found - torch.from_numpy(np.stack([x, y, depth], axis=-1)).reshape(-1, 3)).abs().max() < 1e-12
    camera = NYUv2(root)[0].frames[0].camera
    assert camera.size == (H, W)
    assert torch.equal(camera.intrinsics, camera_of((480, 640)).resized((H, W)).intrinsics)
    assert torch.equal(camera.world_from_camera[0], torch.eye(4, dtype=torch.float64))


def test_the_path_of_the_file_does_as_well(root):
    (root / MAT).rename(root / "other.mat")
    dataset = NYUv2(root / "other.mat", "test")
    assert dataset.names == ("0002",)
    assert dataset[0].frames[0].semantic().max() >= 0


def test_opening_reads_no_pixels(root, monkeypatch):
    read = []
    original = h5py.Dataset.__getitem__
    monkeypatch.setattr(
        h5py.Dataset, "__getitem__", lambda self, key, **more: (read.append(self.name), original(self, key, **more))[1]
    )
    for scene in NYUv2(root):
        assert len(scene.frames) == 1
    assert set(read) <= {"/names", "/scenes", "/sceneTypes"}
    NYUv2(root)[0].frames[0].depth()
    assert read[-1] == "/depths"


def test_a_scene_may_be_sent_to_another_process(root):
    scene = NYUv2(root)["0003"]
    copy = pickle.loads(pickle.dumps(scene))
    for read in ("color", "depth", "semantic", "instance"):
        wanted = getattr(scene.frames[0], read)()
        assert torch.equal(getattr(copy.frames[0], read)(), wanted)
    assert str(copy.frames[0].read_semantic) == f"{root / MAT}: labels[2]"


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_the_file_that_this_process_has_read(root, context):
    scenes = list(NYUv2(root))
    frames = [scene.frames[0] for scene in scenes]
    wanted = [frame.color() for frame in frames]
    loader = torch.utils.data.DataLoader(
        frames,
        batch_size=None,
        num_workers=1,
        multiprocessing_context=context,
        collate_fn=operator.methodcaller("color"),
    )
    assert all(torch.equal(*pair) for pair in zip(loader, wanted, strict=True))


def test_pieces_that_are_not_there_are_missing_until_they_are_needed(root, matlab):
    changed(root, matlab, instances=None, scenes=None, sceneTypes=None, names=None, rawDepths=None)
    (root / SPLITS).unlink()
    (root / MAPPING).unlink()
    dataset = NYUv2(root)
    assert dataset.missing == (
        f"{root / MAT}: instances",
        f"{root / MAT}: names",
        f"{root / MAT}: scenes",
        f"{root / MAT}: sceneTypes",
        f"{root / SPLITS}: the official split",
        f"{root / MAPPING}: which of the 40 classes each stored id is of",
    )
    scene = dataset[0]
    assert scene.scene_type is scene.frames[0].instance() is None
    assert dataset.places == {}
    assert np.array_equal(scene.frames[0].depth(), matlab["depths"][..., 0])
    with pytest.raises(FileNotFoundError, match=says(root / MAPPING, "there is no such file, classes of stored ids")):
        scene.frames[0].semantic()
    with pytest.raises(FileNotFoundError, match=says(root / SPLITS, "there is no such file, the split 'train' was")):
        NYUv2(root, "train")
    with pytest.raises(ValueError, match=says(root / MAT, "must have a variable names for labels='nyu894'")):
        NYUv2(root, labels="nyu894")
    with pytest.raises(
        ValueError, match=says(root / MAT, "must have a variable rawDepths, got depths, images, labels")
    ):
        NYUv2(root, depth="raw")


def test_images_without_labels_have_none(root, matlab):
    frame = NYUv2(changed(root, matlab, labels=None))[0].frames[0]
    assert frame.semantic() is frame.instance() is None


# What is wrong is said, and where.


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"split": "val"}, "split must be train, test or None, got 'val'"),
        ({"labels": "nyu37"}, "labels must be one of nyu40, nyu13, nyu894, got 'nyu37'"),
        ({"depth": "depths"}, "depth must be one of filled, raw, got 'depths'"),
    ],
)
def test_an_option_that_is_none_is_an_error(root, options, wanted):
    with pytest.raises(ValueError, match=re.escape(wanted)):
        NYUv2(root, **options)


def test_no_folder_and_an_empty_folder_are_errors(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=says(root, f"must be a folder with {MAT}, or that file itself")):
            NYUv2(root)


def test_files_of_the_other_version_are_errors(root):
    (root / MAPPING).unlink()
    create_mat73(root / MAPPING).close()
    with pytest.raises(ValueError, match=says(root / MAPPING, "must be a .mat file of version 5 or 7")):
        NYUv2(root)
    write_mat(root / MAT, {"images": np.zeros((2, 2))})
    with pytest.raises(ValueError, match=says(root / MAT, "must be a .mat file of version 7.3 (HDF5)")):
        NYUv2(root)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "wanted"),
    [
        ("images", (H, W, N), np.uint8, "images must have shape (N, 3, W, H), got (3, 5, 4)"),
        ("images", (H, W, 4, N), np.uint8, "images must have shape (N, 3, W, H), got (3, 4, 5, 4)"),
        ("images", (H, W, 3, N), np.uint16, "images must be uint8 of 4 axes, got uint16"),
        ("images", (H, W, 3, N + 1), np.uint8, "depths must have shape (4, 5, 4), got (3, 5, 4)"),
        ("depths", (H, W, N), np.float64, "depths must be float32 of 3 axes, got float64"),
        ("depths", (H, N), np.float32, "depths must be float32 of 3 axes, got float32 of shape (3, 4)"),
        ("depths", (W, H, N), np.float32, "depths must have shape (3, 5, 4), got (3, 4, 5)"),
        ("labels", (H, W, N - 1), np.uint16, "labels must have shape (3, 5, 4), got (2, 5, 4)"),
        ("labels", (H, W, N), np.float64, "labels must be uint16 of 3 axes, got float64"),
        ("instances", (H + 1, W, N), np.uint8, "instances must have shape (3, 5, 4), got (3, 5, 5)"),
    ],
)
def test_an_array_of_another_shape_or_type_is_an_error(root, matlab, name, shape, dtype, wanted):
    changed(root, matlab, **{name: np.ones(shape, dtype)})
    with pytest.raises(ValueError, match=says(root / MAT, wanted)):
        NYUv2(root)


@pytest.mark.parametrize("name", ["images", "depths"])
def test_an_array_that_must_be_there_is_an_error(root, matlab, name):
    changed(root, matlab, **{name: None})
    with pytest.raises(ValueError, match=says(root / MAT, f"must have a variable {name}, got")):
        NYUv2(root)


def test_no_images_at_all_are_an_error(root, matlab):
    (root / MAT).unlink()
    with create_mat73(root / MAT) as file:
        file.create_dataset("images", (0, 3, W, H), np.uint8)
        file.create_dataset("depths", (0, W, H), np.float32)
    with pytest.raises(ValueError, match=says(root / MAT, "images must have shape (N, 3, W, H), got (0, 3, 5, 4)")):
        NYUv2(root)


@pytest.mark.parametrize("name", ["scenes", "sceneTypes"])
def test_another_number_of_places_than_images_is_an_error(root, matlab, name):
    changed(root, matlab, **{name: ("kitchen",) * 2})
    with pytest.raises(ValueError, match=says(root / MAT, f"{name} must have 3 texts as there are images, got 2")):
        NYUv2(root)


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ([[0.0]], "trainNdxs must count the 3 images from 1, got 0 to 0"),
        ([[1.0], [4.0]], "trainNdxs must count the 3 images from 1, got 1 to 4"),
        ([[1.5]], "trainNdxs must hold whole numbers, each once"),
        ([[np.nan]], "trainNdxs must hold whole numbers, each once"),
        ([[2.0, 2.0]], "trainNdxs must hold whole numbers, each once"),
        ([[1.0, 2.0], [3.0, 1.0]], "trainNdxs must be a list of numbers, got float64 of shape (2, 2)"),
        ("1, 2", "trainNdxs must be a list of numbers, got <U4 of shape (1,)"),
    ],
)
def test_a_split_that_is_none_is_an_error(root, numbers, wanted):
    write_mat(root / SPLITS, {"trainNdxs": numbers, "testNdxs": np.array([[2.0]])})
    assert NYUv2(root, "test").names == ("0002",)
    with pytest.raises(ValueError, match=says(root / SPLITS, wanted)):
        NYUv2(root, "train")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"className": [[1]]}, "must have a variable mapClass, got className"),
        ({"mapClass": [[1, 2, 3]]}, "mapClass must map the 4 classes that {} names, got 3"),
        ({"mapClass": [[1, 2, 3, 41]]}, "mapClass must hold numbers of the 40 classes, 1 to 40"),
        ({"mapClass": [[1, 2, 3, 0]]}, "mapClass must hold numbers of the 40 classes, 1 to 40"),
        ({"mapClass": [[1, 2, 3, 1.5]]}, "mapClass must hold numbers of the 40 classes, 1 to 40"),
        ({"mapClass": "abcd"}, "mapClass must hold numbers of the 40 classes, 1 to 40"),
    ],
)
def test_a_mapping_that_is_none_is_an_error(root, variables, wanted):
    write_mat(root / MAPPING, variables)
    with pytest.raises(ValueError, match=says(root / MAPPING, wanted.format(root / MAT))):
        NYUv2(root)
    assert NYUv2(root, labels="nyu894").classes == NAMES


@pytest.mark.parametrize("labels", ["nyu40", "nyu13", "nyu894"])
def test_an_unknown_label_is_named_with_its_image(root, matlab, labels):
    stored = matlab["labels"].copy()
    stored[1, 1, 2] = 5
    dataset = NYUv2(changed(root, matlab, labels=stored), labels=labels)
    assert dataset[0].frames[0].semantic().max() >= 0
    with pytest.raises(ValueError, match=says(root / MAT, "labels[2]: unknown label id 5, the known ones are below 5")):
        dataset[2].frames[0].semantic()


def test_a_broken_image_is_named_and_the_others_are_read(root, matlab):
    with h5py.File(root / MAT) as file:
        where = file["depths"].id.get_chunk_info_by_coord((1, 0, 0))
    data = bytearray((root / MAT).read_bytes())
    data[where.byte_offset : where.byte_offset + where.size] = b"\xff" * where.size
    (root / MAT).unlink()
    (root / MAT).write_bytes(data)
    dataset = NYUv2(root)
    assert np.array_equal(dataset[0].frames[0].depth(), matlab["depths"][..., 0])
    with pytest.raises(ValueError, match=says(root / MAT, "depths[1] cannot be read")):
        dataset[1].frames[0].depth()


def test_a_file_that_changes_its_arrays_after_opening_is_an_error(root, matlab):
    frame = NYUv2(root)[2].frames[0]
    changed(root, matlab, depths=np.ones((H, W, N), np.float64))
    with pytest.raises(ValueError, match=says(root / MAT, "depths[2] must be float32 of 3 axes, got float64")):
        frame.depth()
    changed(root, matlab, depths=np.ones((H, W, N - 1), np.float32))
    with pytest.raises(ValueError, match=says(root / MAT, "depths[2] cannot be read")):
        frame.depth()
    changed(root, matlab, depths=np.ones((H, W + 1, N), np.float32))
    with pytest.raises(ValueError, match=says(root / MAT, r"depths[2]: must have size (4, 5) (H, W), got (4, 6)")):
        frame.depth()


def test_changed_and_cut_bytes_are_errors_or_other_values(root, tmp_path):
    """Several thousand more were tried than are here."""
    random, said, whole = np.random.default_rng(0), [], (root / MAT).read_bytes()
    for trial in range(150):
        data, path = bytearray(whole), tmp_path / f"{trial}.mat"
        for at in random.integers(512, len(data), 3):
            data[at] = random.choice([0, 1, 127, 255, data[at] ^ 1])
        path.write_bytes(data[: len(data) if trial % 4 else int(random.integers(len(data)))])
        try:
            for scene in NYUv2(path, labels="nyu894"):
                frame = scene.frames[0]
                assert frame.color().shape == (*frame.depth().shape, 3)
                assert frame.semantic().shape == frame.instance().shape
        except ValueError as error:
            said.append((str(error), str(path)))
    assert all(text.startswith(path) for text, path in said)
    assert len(said) > 40


# The real tables and a real image.


def test_the_classes_are_those_of_the_real_tables(real_data):
    tables = real_data("label_tables")
    names = cell_texts(read_mat(tables / "nyu_classMapping40.mat", "className")["className"])
    assert tuple(name.replace("refridgerator", "refrigerator") for name in names) == NYU40
    of_13 = read_mat(tables / "nyu_class13Mapping.mat")["classMapping13"][0, 0]
    assert cell_texts(of_13["classNames"]) == NYU13
    assert of_13["labels13"].ravel().tolist() == list(NYU13_OF_NYU40)


@pytest.fixture(scope="module")
def real_image(tmp_path_factory, real_data):
    """The first labelled image, with the real mapping and split; colour is not at hand, and of each of the 13 classes
    one of the 894 stands for all."""
    folder, tables, root = real_data("nyuv2_0001"), real_data("label_tables"), tmp_path_factory.mktemp("nyuv2")
    for name, table in ((SPLITS, "nyu_splits.mat"), (MAPPING, "nyu_classMapping40.mat")):
        (root / name).write_bytes((tables / table).read_bytes())
    mapping = read_mat(root / MAPPING)
    of_13 = np.array(NYU13_OF_NYU40)[mapping["mapClass"].ravel() - 1]
    of_894 = np.array([0] + [np.flatnonzero(of_13 == k)[-1] + 1 for k in range(1, 14)], dtype=np.uint16)
    depths = {
        kind: DepthFile(folder / f"depth_{kind}_0.1mm.png", ENCODINGS["nyu"])().astype(np.float32) / np.float32(10000)
        for kind in ("filled", "raw")
    }
    labels = np.array(Image.open(folder / "label13.png"))
    values = {
        "images": np.repeat((50 * depths["filled"]).astype(np.uint8)[..., None], 3, axis=2),
        "depths": depths["filled"],
        "rawDepths": depths["raw"],
        "labels": of_894[labels],
        "instances": np.minimum(labels, 1),
    }
    one = {name: value[..., None] for name, value in values.items()}
    write(root / MAT, {**one, "names": cell_texts(mapping["allClassName"])})
    return root, depths, labels


@pytest.mark.parametrize("depth", ["filled", "raw"])
def test_a_real_image_comes_back_through_the_real_tables(real_image, depth):
    root, depths, labels = real_image
    dataset = NYUv2(root, labels="nyu13", depth=depth)
    frame = dataset["0001"].frames[0]
    assert np.array_equal(frame.semantic(), labels.astype(np.int64) - 1)
    assert np.array_equal(frame.depth(), depths[depth])
    assert len(NYUv2(root, labels="nyu894").classes) == 894
    with pytest.raises(ValueError, match=says(root / SPLITS, "testNdxs must count the 1 images from 1, got 1 to 1449")):
        NYUv2(root, "test")


def test_a_real_room_stands_upright_on_its_floor(real_image, real_data):
    """Heights along the real gravity: the order of a room, its height, and a floor that is flat to 6 cm."""
    root, _, _ = real_image
    frame = NYUv2(root, labels="nyu13")[0].frames[0]
    points = back_project(frame.depth()[None].double(), frame.camera).points
    upright = torch.from_numpy(np.loadtxt(real_data("nyuv2_0001") / "gravity_rotation.txt"))
    down = (points @ upright.T)[:, 1]
    labels = frame.semantic().flatten()
    height = {name: -down[labels == NYU13.index(name)] for name in ("ceiling", "wall", "furniture", "chair", "floor")}
    middle = [h.median().item() for h in height.values()]
    assert middle == sorted(middle, reverse=True)
    assert 2.2 < middle[0] - middle[-1] < 2.6
    assert height["floor"].std() < 0.06
