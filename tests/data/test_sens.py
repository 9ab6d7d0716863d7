"""Does a .sens file come back frame by frame as it was written, and is every lie in it named?"""

import io
import pickle
import re
import struct
import tracemalloc
import zlib
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from PIL import Image

from pyproj2d3d.data.sens import SensDepth, SensFile, write_sens

DEPTH, COLOR = (3, 4), (5, 6)  # (H, W)
K = np.array([[40.0, 0, 1.5], [0, 41, 1], [0, 0, 1]])
K_COLOR = np.array([[60.0, 0, 2.5], [0, 61, 2], [0, 0, 1]])


def by_hand(frames, version=4, name=b"eye", kinds=(0, 0), sizes=(6, 5, 4, 3), shift=1000.0, count=None, imu=0):
    """A file as the format's description has it: nothing of ours writes it. Frames are (pose, colour, depth) bytes."""
    matrices = [np.eye(4) for _ in range(4)]
    matrices[0][:3, :3], matrices[2][:3, :3] = K_COLOR, K
    data = struct.pack("<I", version) + struct.pack("<Q", len(name)) + name
    data += b"".join(struct.pack("<16f", *m.ravel()) for m in matrices)
    data += struct.pack("<ii", *kinds) + struct.pack("<4I", *sizes) + struct.pack("<f", shift)
    data += struct.pack("<Q", len(frames) if count is None else count)
    for i, (pose, color, depth) in enumerate(frames):
        data += struct.pack("<16f", *np.ravel(pose)) + struct.pack("<4Q", 7 * i, 8 * i, len(color), len(depth))
        data += color + depth
    return data + struct.pack("<Q", imu) + imu * bytes(128)


def pose_at(x):
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def raw_frame(i):
    color = np.full((*COLOR, 3), i, np.uint8)
    depth = 1000 * i + np.arange(12, dtype="<u2").reshape(DEPTH)
    return pose_at(i), color.tobytes(), depth.tobytes()


def images(i):
    random = np.random.default_rng(i)
    return random.integers(0, 256, (*COLOR, 3), np.uint8), random.integers(0, 65536, DEPTH).astype(np.uint16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scene.sens"


def written(path, n=4, **settings):
    frames = [(pose_at(i / 3), *images(i)) for i in range(n)]
    calibration = {"color_intrinsics": K_COLOR, "depth_intrinsics": K, "color_size": COLOR, "depth_size": DEPTH}
    write_sens(path, frames, **calibration, **settings)
    return frames


def named(path, text):
    return re.escape(str(path)) + ".*" + text


def test_a_file_packed_by_hand_is_read(path):
    path.write_bytes(by_hand([raw_frame(i) for i in range(3)], imu=2))
    sens = SensFile(path)
    assert len(sens) == 3
    assert sens.header.sensor == "eye"
    assert (sens.header.color_size, sens.header.depth_size) == (COLOR, DEPTH)
    assert sens.index.color_time.tolist() == [0, 7, 14]
    assert sens.index.depth_time.tolist() == [0, 8, 16]
    frames = sens.frames()
    assert [frame.name for frame in frames] == ["0", "1", "2"]
    assert frames[2].depth().tolist() == [[2000, 2001, 2002, 2003], [2004, 2005, 2006, 2007], [2008, 2009, 2010, 2011]]
    assert frames[2].depth().dtype == torch.uint16
    assert frames[2].depth_scale == 1000
    assert frames[1].color().shape == (*COLOR, 3)
    assert (frames[1].color() == 1).all()
    assert frames[1].camera.world_from_camera[0].tolist() == pose_at(1).tolist()
    assert frames[1].camera.intrinsics[0].tolist() == K.tolist()
    assert frames[1].color_camera.intrinsics[0].tolist() == K_COLOR.tolist()
    assert (frames[1].camera.size, frames[1].color_camera.size) == (DEPTH, COLOR)


@pytest.mark.parametrize("depth_compression", ["zlib_ushort", "raw_ushort"])
@pytest.mark.parametrize("color_compression", ["png", "raw"])
def test_what_is_written_without_loss_comes_back_exactly(path, color_compression, depth_compression):
    wanted = written(path, color_compression=color_compression, depth_compression=depth_compression, depth_scale=500.0)
    frames = SensFile(path).frames()
    for frame, (pose, color, depth) in zip(frames, wanted, strict=True):
        assert (frame.color().numpy() == color).all()
        assert (frame.depth().numpy() == depth).all()
        assert (frame.camera.world_from_camera[0].numpy() == pose.astype(np.float32)).all()
        assert frame.depth_scale == 500


def test_jpeg_is_decoded_as_pillow_does_it(path):
    wanted = written(path)
    stored = path.read_bytes()
    sens = SensFile(path)
    assert sens.header.color_compression == "jpeg"
    for i in (3, 0, 2):
        source = sens.color(i)
        data = stored[source.offset : source.offset + source.nbytes]
        assert (source() == np.array(Image.open(io.BytesIO(data)))).all()
        assert (sens.depth(i)() == wanted[i][2]).all()


def test_a_frame_is_read_although_all_others_are_broken(path):
    wanted = written(path, n=5)
    at = SensFile(path).index
    data = bytearray(path.read_bytes())
    for i in (0, 1, 2, 4):
        data[at.offset[i] : at.offset[i] + at.color_nbytes[i] + at.depth_nbytes[i]] = bytes(
            at.color_nbytes[i] + at.depth_nbytes[i]
        )
    path.write_bytes(data)
    frames = SensFile(path).frames()
    assert (frames[3].depth().numpy() == wanted[3][2]).all()
    frames[3].color()
    with pytest.raises(ValueError, match=named(path, "depth of frame 2: cannot be decompressed")):
        frames[2].depth()


def test_the_header_and_the_index_are_read_once_and_are_not_sent(path):
    written(path, n=50)
    sens = SensFile(path)
    assert sens.index is sens.index
    assert len(pickle.dumps(sens)) < 400
    again = pickle.loads(pickle.dumps(sens))
    assert "index" not in again.__dict__
    assert (again.index.offset == sens.index.offset).all()


def test_frames_survive_pickling(path):
    written(path)
    frame = SensFile(path).frames()[2]
    copy = pickle.loads(bytes(ForkingPickler.dumps(frame)))
    assert torch.equal(copy.depth(), frame.depth())
    assert torch.equal(copy.color(), frame.color())


def test_nothing_behind_the_frames_is_no_error(path):
    path.write_bytes(by_hand([raw_frame(0)])[:-8])  # as some programs write it
    assert len(SensFile(path).frames()) == 1


def test_a_file_without_frames_has_none(path):
    written(path, n=0)
    assert len(SensFile(path).frames()) == 0


def test_frames_whose_tracking_was_lost_are_left_out_and_said(path):
    lost = np.full((4, 4), -np.inf)
    path.write_bytes(by_hand([raw_frame(0), (lost, *raw_frame(1)[1:]), raw_frame(2)]))
    with pytest.warns(UserWarning, match=named(path, "1 of 3 frames are left out.*: 1$")):
        frames = SensFile(path).frames()
    assert [frame.name for frame in frames] == ["0", "2"]
    assert frames.skipped == ("1: pose is not finite",)
    assert frames[1].depth()[0, 0] == 2000


def test_without_a_single_pose_there_is_an_error(path):
    path.write_bytes(by_hand([(np.full((4, 4), np.nan), *raw_frame(1)[1:])]))
    with pytest.raises(ValueError, match=named(path, "none of the 1 frames has a finite pose")):
        SensFile(path).frames()


# What is wrong is said, and where.


def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        len(SensFile(path))


def bad_pose(row, column, value):
    pose = np.eye(4)
    pose[row, column] = value
    return pose


GOOD = raw_frame(0)
WRONG = {
    "version": (by_hand([GOOD], version=3), "must be a .sens file of version 4, its first four bytes say 3"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(400), "must be a .sens file of version 4, its first four bytes say"),
    "name": (by_hand([GOOD], name=bytes(70_000)), "the name of the sensor cannot have 70000 bytes"),
    "long name": (struct.pack("<IQ", 4, 2**62), "the name of the sensor cannot have 4611686018427387904 bytes"),
    "color": (by_hand([GOOD], kinds=(3, 1)), "unknown compression, colour has type 3 and depth type 1"),
    "depth": (by_hand([GOOD], kinds=(2, -1)), "unknown compression, colour has type 2 and depth type -1"),
    "occi": (by_hand([GOOD], kinds=(2, 2)), "occi_ushort, which only Occipital's own library decodes"),
    "no pixel": (by_hand([GOOD], sizes=(6, 0, 4, 3)), r"colour must have 1 to 67108864 pixels, got size \(0, 6\)"),
    "big": (by_hand([GOOD], sizes=(6, 5, 2**31, 3)), r"depth must have 1 to 67108864 pixels, got size \(3, 2147483648"),
    "shift": (by_hand([GOOD], shift=0.0), "the depth shift must be positive and finite, got 0"),
    "nan": (by_hand([GOOD], shift=float("nan")), "the depth shift must be positive and finite, got nan"),
    "count": (by_hand([GOOD], count=2**60), "1152921504606846976 frames cannot be in a file of .* bytes, is it trunc"),
    "one more": (by_hand([GOOD], count=2), "must be a .sens file, it ends within frame 1 of 2"),
    "imu": (by_hand([GOOD])[:-8] + struct.pack("<Q", 9), "9 readings of the inertial unit cannot be in 0 bytes"),
    "last row": (by_hand([(bad_pose(3, 0, 1), *GOOD[1:])]), r"the last row of pose 0 must be 0 0 0 1, got \[1.0, 0.0"),
    "flat": (by_hand([(bad_pose(2, 2, 0), *GOOD[1:])]), "pose 0: the 3x3 part of a pose must be invertible"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_lies_is_named(path, case):
    data, text = WRONG[case]
    path.write_bytes(data)
    with pytest.raises(ValueError, match=named(path, text)):
        SensFile(path).frames()


def test_intrinsics_that_are_none_are_named(path):
    data = bytearray(by_hand([GOOD]))
    data[4 + 8 + 3 : 4 + 8 + 3 + 4] = struct.pack("<f", 0.0)  # fx of colour
    path.write_bytes(data)
    with pytest.raises(ValueError, match=named(path, "color: intrinsics must have focal lengths other than 0")):
        SensFile(path).frames()


@pytest.mark.parametrize("size", [2**20, 2**63])
def test_a_frame_that_claims_more_bytes_than_there_are_is_named(path, size):
    data = bytearray(by_hand([raw_frame(0), raw_frame(1)]))
    at = int(index_of(path, data).offset[1]) - 8
    data[at : at + 8] = struct.pack("<Q", size)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=named(path, f"frame 1 of 2 wants 90 and {size} bytes from")):
        SensFile(path).frames()


def index_of(path, data):
    path.write_bytes(data)
    return SensFile(path).index


def encoded(kind, size):
    buffer = io.BytesIO()
    Image.new("RGB", size[::-1]).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (2, encoded("jpeg", (8, 8)), r"cannot be decoded as jpeg \(must have size \(5, 6\) \(H, W\), got \(8, 8\)"),
        (2, encoded("png", COLOR), "cannot be decoded as jpeg"),
        (2, encoded("jpeg", COLOR)[:-30], "cannot be decoded as jpeg"),
        (2, b"", "cannot be decoded as jpeg"),
        (1, encoded("png", COLOR)[:-30], "cannot be decoded as png"),
        (0, bytes(89), r"raw colour of size \(5, 6\) \(H, W\) cannot have 89 bytes"),
    ],
)
def test_colour_that_cannot_be_decoded_is_named(path, kind, data, text):
    path.write_bytes(by_hand([(np.eye(4), data, GOOD[2])], kinds=(kind, 0)))
    frame = SensFile(path).frames()[0]
    with pytest.raises(ValueError, match=named(path, f"colour of frame 0: .*{text}")):
        frame.color()
    assert frame.depth()[2, 3] == 11


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (1, zlib.compress(bytes(23)), "24 bytes were wanted when decompressed, got 23"),
        (1, zlib.compress(bytes(25)), "24 bytes were wanted when decompressed, got more"),
        (1, zlib.compress(bytes(24))[:-1], "24 bytes were wanted when decompressed, got 24 and no end"),
        (1, zlib.compress(bytes(24))[:-1] + b"\0", "cannot be decompressed .*incorrect data check"),
        (1, b"", "24 bytes were wanted when decompressed, got 0 and no end"),
        (1, b"no zlib stream", "cannot be decompressed"),
        (0, bytes(22), r"depth of size \(3, 4\) \(H, W\) cannot have 22 bytes"),
    ],
)
def test_depth_that_cannot_be_decoded_is_named(path, kind, data, text):
    path.write_bytes(by_hand([(np.eye(4), GOOD[1], data)], kinds=(0, kind)))
    frame = SensFile(path).frames()[0]
    with pytest.raises(ValueError, match=named(path, f"depth of frame 0: {text}")):
        frame.depth()
    assert not frame.color().any()


def test_a_depth_image_that_inflates_without_end_takes_no_memory(path):
    path.write_bytes(by_hand([(np.eye(4), GOOD[1], zlib.compress(bytes(50_000_000)))], kinds=(0, 1)))
    depth = SensFile(path).depth(0)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=named(path, "got more")):
            depth()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_file_cut_off_after_its_index_was_read_is_named(path):
    written(path)
    sens = SensFile(path)
    depth = sens.depth(3)
    path.write_bytes(path.read_bytes()[: depth.offset + 5])
    with pytest.raises(OSError, match=named(path, f"depth of frame 3: {depth.nbytes} bytes were wanted.*after 5 of")):
        depth()


def test_every_cut_of_a_file_is_an_error_that_names_it(path):
    data, harmless, said = by_hand([raw_frame(0), raw_frame(1)]), [], []
    for n in range(len(data)):
        path.write_bytes(data[:n])
        try:
            SensFile(path).frames()
            harmless.append(n)
        except ValueError as error:
            said.append(str(error))
    assert harmless == [len(data) - 8]  # all frames, and no number of readings behind them
    assert all(text.startswith(str(path)) for text in said)


def test_flipped_bytes_are_an_error_that_names_the_file_or_another_image(path):
    written(path, n=2)
    data, random, read, said = path.read_bytes(), np.random.default_rng(0), 0, []
    for _ in range(600):
        broken = bytearray(data)
        for at in random.integers(0, len(data), random.integers(1, 4)):
            broken[at] ^= random.integers(1, 256)
        path.write_bytes(broken)
        try:
            frames = SensFile(path).frames()
            for frame in frames:
                assert frame.depth().shape == frame.camera.size
                assert frame.color().shape == (*frame.color_camera.size, 3)
            read += 1
        except (ValueError, OSError, UserWarning) as error:  # the warning is of a pose that is no longer finite
            said.append(str(error))
    assert read > 20
    assert len(said) > 100
    assert all(text.startswith(str(path)) for text in said)


def test_a_source_names_its_file_and_frame(path):
    assert str(SensDepth(path, 7, 0, 0, DEPTH, "raw_ushort")) == f"{path}: depth of frame 7"


def test_what_cannot_be_written_is_named(path):
    with pytest.raises(ValueError, match=named(path, "cannot be written with colour jpeg and depth occi_ushort")):
        written(path, depth_compression="occi_ushort")
    color, depth = images(0)
    calibration = {"color_intrinsics": K, "depth_intrinsics": K, "color_size": COLOR, "depth_size": DEPTH}
    with pytest.raises(ValueError, match=named(path, r"depth must be uint16 of size \(3, 4\), got int32 \(3, 4\)")):
        write_sens(path, [(np.eye(4), color, depth.astype(np.int32))], **calibration)
    with pytest.raises(
        ValueError, match=named(path, r"colour must be uint8 of size \(5, 6\) with 3 channels, got uint8")
    ):
        write_sens(path, [(np.eye(4), color[1:], depth)], **calibration)
