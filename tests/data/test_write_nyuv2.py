"""Do synthetic rooms come back from the layout of NYU Depth v2 as they were, and with the same bytes every time?"""

import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from pyproj2d3d import Camera
from pyproj2d3d.data.mat import cell_texts, read_mat
from pyproj2d3d.data.nyuv2 import MAPPING, MAT, NYU13, NYU13_OF_NYU40, NYU40, SPLITS, NYUv2, camera_of
from pyproj2d3d.data.synth import RoomOptions, SynthRoom, write_nyuv2

OPTIONS = RoomOptions(frames=2, size=(48, 64), noise=True, holes=True)
ROOMS = 5  # the last one is in the test split


def room(number, options=OPTIONS):
    return SynthRoom(100 + number, options)


def files(root):
    return {path.name: path.read_bytes() for path in root.iterdir()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("nyuv2")
    for number in range(ROOMS):
        write_nyuv2.write(root, room(number), number)
    write_nyuv2.finish(root, ROOMS)
    return root


@pytest.fixture(scope="module")
def seen():
    """The rooms, and their images by the dataset's camera, in order."""
    images, rooms = [], [room(number) for number in range(ROOMS)]
    for one in rooms:
        camera = Camera(camera_of(OPTIONS.size).intrinsics, one.camera().world_from_camera, OPTIONS.size)
        images += [(one, one.render(camera, view)) for view in range(len(camera))]
    return images


def test_the_files_are_those_of_the_dataset_and_no_others(root):
    assert sorted(files(root)) == ["class13Mapping.mat", MAPPING, MAT, SPLITS]
    dataset = NYUv2(root)
    assert dataset.missing == ()
    assert len(dataset) == 2 * ROOMS


def test_colour_depth_and_classes_come_back_exactly(root, seen):
    for (one, images), scene in zip(seen, NYUv2(root), strict=True):
        frame = scene.frames[0]
        assert np.array_equal(frame.color(), images.color)
        assert np.array_equal((1000 * frame.depth().double()).round(), np.floor(1000 * images.depth + 0.5))
        assert np.array_equal(frame.semantic(), one.nyu40[images.object] - 1)
        assert torch.equal(frame.camera.intrinsics, camera_of(OPTIONS.size).intrinsics)
    assert len({scene.frames[0].semantic().unique().numel() for scene in NYUv2(root)}) > 1


def test_every_object_keeps_a_number_of_its_own(root, seen):
    for (_, images), scene in zip(seen, NYUv2(root), strict=True):
        found = scene.frames[0].instance().numpy()
        pairs = np.unique(np.stack([found, images.object]).reshape(2, -1), axis=1)
        assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1] > 1
        assert np.unique(found).tolist() == list(range(found.max() + 1))


def test_stored_classes_are_the_categories_of_the_rooms(root, seen):
    dataset = NYUv2(root, labels="nyu894")
    assert dataset.classes == tuple(sorted({category for one, _ in seen for category in one.categories}))
    for (one, images), scene in zip(seen, dataset, strict=True):
        wanted = np.array([dataset.classes.index(category) for category in one.categories])
        assert np.array_equal(scene.frames[0].semantic(), wanted[images.object])
    of_13 = NYUv2(root, labels="nyu13")
    for fine, coarse in zip(NYUv2(root), of_13, strict=True):
        wanted = (np.array(NYU13_OF_NYU40) - 1)[fine.frames[0].semantic()]
        assert np.array_equal(coarse.frames[0].semantic(), wanted)
    assert of_13.classes == NYU13


def test_raw_depth_has_the_noise_and_the_holes_of_the_sensor(root):
    holes, apart = [], []
    for raw, filled in zip(NYUv2(root, depth="raw"), NYUv2(root), strict=True):
        measured, exact = raw.frames[0].metres(), filled.frames[0].metres()
        assert (exact > 0).all()
        assert ((1000 * measured - (1000 * measured).round()).abs() < 1e-3).all()  # in whole millimetres
        holes.append((measured == 0).double().mean().item())
        apart.append((measured - exact)[measured > 0].abs().median().item())
    assert 0.005 < np.mean(holes) < 0.5
    assert 0.0001 < np.mean(apart) < 0.05


def test_without_noise_and_holes_raw_depth_is_filled_depth(tmp_path):
    write_nyuv2.write(tmp_path, room(0, replace(OPTIONS, noise=False, holes=False)), 0)
    write_nyuv2.finish(tmp_path, 1)
    for raw, filled in zip(NYUv2(tmp_path, depth="raw"), NYUv2(tmp_path), strict=True):
        assert torch.equal(raw.frames[0].depth(), filled.frames[0].depth())


def test_places_scene_types_and_splits_are_those_of_the_rooms(root, seen):
    dataset = NYUv2(root)
    kinds = [one.scene_type.replace(" ", "_") for one, _ in seen]
    assert [scene.scene_type for scene in dataset] == kinds
    assert list(dataset.places.values()) == [f"{kind}_{i // 2:04d}" for i, kind in enumerate(kinds)]
    assert NYUv2(root, "train").names == dataset.names[:8]
    assert NYUv2(root, "test").names == dataset.names[8:]


def test_rooms_written_in_any_order_give_the_same_bytes(root, tmp_path, monkeypatch):
    monkeypatch.setattr("time.asctime", lambda *_: "Fri Feb 30 25:61:61 2099")
    for number in reversed(range(ROOMS)):
        write_nyuv2.write(tmp_path, room(number), number)
    write_nyuv2.finish(tmp_path, ROOMS)
    assert files(tmp_path) == files(root)


def test_another_reader_of_hdf5_finds_the_layout_of_the_dataset(root, seen):
    """As programs of the field read it: axes reversed, cells of references to 16-bit text."""
    with h5py.File(root / MAT) as file:
        assert {name: (a.shape, a.dtype.name) for name, a in file.items() if len(getattr(a, "shape", ())) > 2} == {
            "images": ((10, 3, 64, 48), "uint8"),
            "depths": ((10, 64, 48), "float32"),
            "rawDepths": ((10, 64, 48), "float32"),
            "labels": ((10, 64, 48), "uint16"),
            "instances": ((10, 64, 48), "uint8"),
        }
        assert np.array_equal(np.transpose(file["images"][3], (2, 1, 0)), seen[3][1].color)
        names = ["".join(chr(c[0]) for c in file[reference]) for reference in file["names"][0]]
        assert (names, len(names)) == (sorted(names), len(set(names)))
        assert file["images"].chunks == (1, 3, 64, 48)
    mapping = scipy.io.loadmat(root / MAPPING)
    assert len(mapping["mapClass"][0]) == len(names)
    assert [name[0] for name in mapping["className"][0]] == list(NYU40)
    of_13 = scipy.io.loadmat(root / "class13Mapping.mat")["classMapping13"][0][0][0][0]
    assert of_13.tolist() == list(NYU13_OF_NYU40)
    assert cell_texts(read_mat(root / MAPPING)["allClassName"]) == tuple(names)


class Crowded:
    """A room of too many chairs."""

    categories = ("chair",) * 256


def test_more_objects_of_a_category_than_8_bits_hold_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: room 7 must have at most 255 objects of a category")):
        write_nyuv2.write(tmp_path, Crowded(), 7)
    assert files(tmp_path) == {}


def test_a_category_of_two_nyu40_classes_is_an_error(tmp_path):
    for number, nyu40 in enumerate((None, 40)):
        one = room(number)
        one.nyu40 = one.nyu40 if nyu40 is None else np.full_like(one.nyu40, nyu40)
        write_nyuv2.write(tmp_path, one, number)
    with pytest.raises(ValueError, match=r"must have one NYU40 id, got \d+ and 40"):
        write_nyuv2.finish(tmp_path, 2)
