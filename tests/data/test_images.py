"""Do stored bits become the right metres and the right classes, and is every image that is wrong named?"""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from pyproj2d3d.data.images import (
    ENCODINGS,
    UNKNOWN,
    ColorFile,
    DepthEncoding,
    DepthFile,
    LabelFile,
    decoded_depth,
    decoded_image,
    depth_encoding,
    encoded_depth,
    image_header,
    mapped,
)
from pyproj2d3d.data.scene import metres_of

PLAIN = ("millimetres", "nyu", "tum", "2d3ds", "sunrgbd")
EVERY = np.arange(65536, dtype=np.uint16)


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def metres(stored, name):
    """Of one pixel."""
    value = decoded_depth(np.array([[stored]], dtype=np.uint16), ENCODINGS[name])
    return metres_of(torch.from_numpy(value), ENCODINGS[name].scale).item()


# Encodings, by literal values.


@pytest.mark.parametrize(
    ("name", "stored", "wanted"),
    [
        ("millimetres", 1234, 1.234),
        ("millimetres", 65534, 65.534),
        ("nyu", 25000, 2.5),
        ("nyu", 1, 0.0001),
        ("tum", 5000, 1.0),
        ("tum", 12345, 2.469),
        ("2d3ds", 512, 1.0),
        ("2d3ds", 1, 1 / 512),
        ("sunrgbd", 8, 0.001),  # a millimetre, three bits up
        ("sunrgbd", 8 * 1234, 1.234),
        ("sunrgbd", 65528, 8.191),  # the farthest whose low bits are 0
        ("sunrgbd", 1, 8.192),  # the bits beyond wrap round to the lowest
        ("sunrgbd", 0x3881, 10.0),  # 10000 = 0b001_0011100010000: its high three bits come last
        ("kinect_raw", 0x0000, 351.3 / 1092.5),
        ("kinect_raw", 0x5802, 351.3 / 492.5),  # 0x0258 = 600, its bytes swapped
        ("kinect_raw", 0x2104, 351.3 / 35.5),  # 1057: 9.896 m, the farthest within 10 m
    ],
)
def test_a_stored_value_means_these_metres(name, stored, wanted):
    assert metres(stored, name) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        *((name, 0) for name in PLAIN),
        *((name, 65535) for name in PLAIN),
        ("kinect_raw", 0x2204),  # 1058: 10.18 m
        ("kinect_raw", 0x4404),  # 1092: 702.6 m
        ("kinect_raw", 0x4504),  # 1093, behind the pole: negative
        ("kinect_raw", 0xFF07),  # 2047, what the sensor says where it sees nothing
    ],
)
def test_a_stored_value_that_is_no_reading_means_zero(name, stored):
    assert metres(stored, name) == 0


@pytest.mark.parametrize("name", PLAIN)
def test_every_value_comes_back_as_it_was_encoded(name):
    stored = encoded_depth(EVERY, ENCODINGS[name])
    assert stored.dtype == np.uint16
    assert (np.bincount(stored, minlength=65536) == 1).all()
    assert np.array_equal(decoded_depth(stored, ENCODINGS[name]), EVERY)


def test_swapped_bytes_come_back_too():
    swapped = DepthEncoding(1000.0, byteswapped=True)
    assert encoded_depth(np.array([0x1234], np.uint16), swapped).tolist() == [0x3412]
    both = DepthEncoding(1000.0, byteswapped=True, rotated=True)
    for encoding in (swapped, both):
        assert np.array_equal(decoded_depth(encoded_depth(EVERY, encoding), encoding), EVERY)


def test_disparity_grows_with_depth_and_is_of_float32():
    disparity = np.arange(1058, dtype=np.uint16)
    found = decoded_depth(disparity.byteswap(), ENCODINGS["kinect_raw"])
    assert found.dtype == np.float32
    assert (np.diff(found) > 0).all()
    assert found[-1] < 10 < 351.3 / (1092.5 - 1058)
    beyond = np.arange(1058, 65536).astype(np.uint16)
    assert not decoded_depth(beyond.byteswap(), ENCODINGS["kinect_raw"]).any()


def test_decoding_leaves_its_input_alone():
    for encoding in ENCODINGS.values():
        stored = EVERY.copy()
        decoded_depth(stored, encoding)
        assert np.array_equal(stored, EVERY)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (3, 0)])
@pytest.mark.parametrize("name", ENCODINGS)
def test_images_of_any_shape_keep_it(name, shape):
    assert decoded_depth(np.zeros(shape, np.uint16), ENCODINGS[name]).shape == shape


def test_an_encoding_goes_by_its_name_or_its_scale():
    assert depth_encoding("tum") is ENCODINGS["tum"]
    assert depth_encoding(ENCODINGS["sunrgbd"]) is ENCODINGS["sunrgbd"]
    assert depth_encoding(4000) == DepthEncoding(4000.0)


@pytest.mark.parametrize(
    ("encoding", "wanted"),
    [
        ("metres", "must be one of millimetres, nyu, tum, 2d3ds, sunrgbd, kinect_raw, or a scale, got 'metres'"),
        (0, "depth_scale must be positive and finite, got 0"),
        (-1000.0, "depth_scale must be positive and finite, got -1000.0"),
        (float("inf"), "depth_scale must be positive and finite, got inf"),
        (float("nan"), "depth_scale must be a number, got NaN"),
    ],
)
def test_an_encoding_that_is_none_is_an_error(encoding, wanted):
    with pytest.raises(ValueError, match=re.escape(wanted)):
        depth_encoding(encoding)
    with pytest.raises(TypeError, match="depth_scale must be a number, got None"):
        depth_encoding(None)


# Labels by table.


def test_a_table_gives_classes_and_drops_what_it_says():
    table = np.array([-1, 4, 0, -1])
    ids = np.array([[0, 1, 2], [3, 2, 1]], dtype=np.uint16)
    assert mapped(ids, table, "here").tolist() == [[-1, 4, 0], [-1, 0, 4]]
    assert mapped(np.zeros((0, 3), np.int64), table, "here").shape == (0, 3)


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ([0, 4], "here: unknown label id 4, the known ones are below 4"),
        ([-1, 1], "here: unknown label id -1, the known ones are below 4"),
        ([1, 2], "here: unknown label id 2"),
    ],
)
def test_an_id_that_the_table_does_not_know_is_an_error(ids, wanted):
    with pytest.raises(ValueError, match=re.escape(wanted)):
        mapped(np.array(ids), np.array([-1, 0, UNKNOWN, 1]), "here")


def test_label_files_go_through_their_table(tmp_path):
    ids = np.array([[0, 1, 2], [300, 1, 0]], dtype=np.uint16)
    path = saved(tmp_path / "ids.png", ids)
    table = np.full(301, UNKNOWN)
    table[[0, 1, 2, 300]] = [-1, 1, 0, 7]
    assert LabelFile(path, table)().tolist() == [[-1, 1, 0], [7, 1, -1]]
    assert LabelFile(path)().tolist() == [[-1, 1, 2], [300, 1, -1]]
    assert LabelFile(path)().dtype == np.int64
    with pytest.raises(ValueError, match=re.escape(f"{path}: unknown label id 300")):
        LabelFile(path, table[:300])()


def test_label_files_of_a_palette_give_its_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 3]], dtype=np.uint8)).convert("P")
    image.putpalette([7, 8, 9] * 256)
    image.putdata([0, 3])
    image.save(tmp_path / "ids.png")
    assert LabelFile(tmp_path / "ids.png")().tolist() == [[-1, 3]]


# Files.


def test_depth_files_are_decoded_by_their_encoding(tmp_path):
    depth = np.array([[8, 9872], [1, 0]], dtype=np.uint16)
    path = saved(tmp_path / "depth.png", depth)
    assert DepthFile(path, ENCODINGS["millimetres"])().tolist() == depth.tolist()
    found = DepthFile(path, ENCODINGS["sunrgbd"])()
    assert found.dtype == np.uint16
    assert found.tolist() == [[1, 1234], [8192, 0]]
    assert str(DepthFile(path, ENCODINGS["tum"])) == str(path)


def test_raw_kinect_depth_in_a_pgm_is_decoded(tmp_path):
    """The raw dump is of PGM files, whose 16 bits are big-endian; in them the sensor's bytes are swapped once more."""
    disparity = np.array([[600, 2047], [1057, 0]], dtype="<u2")
    (tmp_path / "d.pgm").write_bytes(b"P5\n2 2\n65535\n" + disparity.tobytes())
    found = DepthFile(tmp_path / "d.pgm", ENCODINGS["kinect_raw"])()
    assert found == pytest.approx(np.array([[351.3 / 492.5, 0], [351.3 / 35.5, 351.3 / 1092.5]]), rel=1e-6)


def test_depth_of_65535_and_above_32767_survives_the_file(tmp_path):
    depth = np.array([[32767, 32768], [65534, 65535]], dtype=np.uint16)
    assert DepthFile(saved(tmp_path / "d.png", depth), ENCODINGS["nyu"])().tolist() == depth.tolist()


@pytest.mark.parametrize(("pixels", "wanted"), [([[7]], [[[7, 7, 7]]]), ([[[1, 2, 3]]], [[[1, 2, 3]]])])
def test_colour_is_rgb_whatever_the_file_has(tmp_path, pixels, wanted):
    found = ColorFile(saved(tmp_path / "c.png", np.array(pixels, dtype=np.uint8)))()
    assert found.dtype == np.uint8
    assert found.tolist() == wanted


def test_grey_of_16_bits_is_no_colour(tmp_path):
    file = ColorFile(saved(tmp_path / "c.png", np.array([[61420, 255]], dtype=np.uint16)))
    with pytest.raises(ValueError, match=r"c.png: colour must be an image of 8 bits a channel, got Pillow mode I"):
        file()


def test_a_header_is_read_without_the_pixels(tmp_path):
    path = saved(tmp_path / "d.png", np.random.default_rng(0).integers(0, 65536, (40, 30)).astype(np.uint16))
    path.write_bytes(path.read_bytes()[:100])
    assert image_header(path)[0] == (40, 30)
    with pytest.raises(OSError, match=re.escape(f"{path}: cannot be decoded, is it truncated?")):
        decoded_image(path)


def test_a_file_that_is_no_image_is_named(tmp_path):
    path = tmp_path / "d.png"
    path.write_bytes(b"no image")
    with pytest.raises(OSError, match=re.escape(f"{path}: cannot be opened as an image")):
        image_header(path)
    with pytest.raises(OSError, match=re.escape(f"{path}: cannot be decoded")):
        decoded_image(path)
    for read in (image_header, decoded_image):
        with pytest.raises(FileNotFoundError, match=r"none\.png"):
            read(tmp_path / "none.png")


def test_depth_and_labels_of_another_kind_are_errors(tmp_path):
    path = saved(tmp_path / "c.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=re.escape(f"{path}: depth must be a 16-bit image of one channel")):
        DepthFile(path, ENCODINGS["tum"])()
    with pytest.raises(ValueError, match=re.escape(f"{path}: labels must be an 8 or 16-bit image of one channel")):
        LabelFile(path)()


def test_changed_bytes_of_a_depth_image_are_errors_or_another_image(tmp_path):
    random = np.random.default_rng(1)
    path = saved(tmp_path / "d.png", random.integers(0, 65536, (9, 7)).astype(np.uint16))
    data, said = path.read_bytes(), []
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ int(random.integers(1, 256))]) + data[i + 1 :])
        try:
            assert DepthFile(path, ENCODINGS["sunrgbd"])().dtype == np.uint16
        except (ValueError, OSError) as error:
            said.append(str(error))
    assert all(text.startswith(str(path)) for text in said)
    assert len(said) > len(data) / 2


# Real images.


def test_real_sun_rgbd_depth_is_of_a_room(real_data):
    depth = DepthFile(next(real_data("sunrgbd_raw").rglob("depth/*.png")), ENCODINGS["sunrgbd"])()
    seen = depth[depth > 0]
    assert [seen.min() / 1000, seen.max() / 1000] == pytest.approx([0.64, 3.78], abs=0.005)


def test_real_nyu_depth_is_of_a_room_in_both_of_its_exports(real_data):
    raw, filled = (
        DepthFile(real_data("nyuv2_0001") / f"depth_{kind}_0.1mm.png", ENCODINGS["nyu"])() for kind in ("raw", "filled")
    )
    assert (filled > 0).all()
    assert (raw == 0).mean() == pytest.approx(0.239, abs=0.001)
    apart = np.abs(raw.astype(np.int64) - filled)[raw > 0]
    assert np.median(apart) < 20  # of 0.1 mm
    sync = DepthFile(real_data("nyuv2_sync_basement") / "sync_depth_00000.png", ENCODINGS["millimetres"])()
    assert np.percentile(sync[sync > 0] / 1000, [5, 50, 95]) == pytest.approx([2.36, 3.26, 6.16], abs=0.01)
