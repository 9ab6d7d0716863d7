"""Do rooms come back from VoteNet's form of SUN RGB-D, and are they those of SUN RGB-D itself?"""

import pytest
import torch

from pyproj2d3d import back_project, project
from pyproj2d3d.data.sunrgbd import SUNRGBD
from pyproj2d3d.data.sunrgbd_votenet import SUNRGBDVoteNet
from pyproj2d3d.data.synth import RoomOptions, SynthRoom, write_sunrgbd, write_votenet

OPTIONS = RoomOptions(frames=2, size=(48, 64), noise=True, holes=True)
ROOMS = 5  # one of each sensor, and one in the test split


@pytest.fixture(scope="module")
def rooms():
    return [SynthRoom(seed, OPTIONS) for seed in range(ROOMS)]


def written_by(writer, root, rooms, order=range(ROOMS)):
    for number in order:
        writer.write(root, rooms[number], number)
    writer.finish(root, ROOMS)
    return root


@pytest.fixture(scope="module")
def written(tmp_path_factory, rooms):
    return written_by(write_votenet, tmp_path_factory.mktemp("votenet"), rooms)


@pytest.fixture(scope="module")
def raw(tmp_path_factory, rooms):
    return written_by(write_sunrgbd, tmp_path_factory.mktemp("sunrgbd"), rooms)


def test_nothing_else_is_left(written):
    assert [path.name for path in written.iterdir()] == ["sunrgbd_trainval"]
    names = {path.name for path in (written / "sunrgbd_trainval").rglob("*") if path.is_file()}
    assert {name.split(".")[0] for name in names} == {
        *(f"{i:06d}" for i in range(1, 11)),
        *("train_data_idx", "val_data_idx"),
    }


def test_votenets_form_is_the_filled_image_as_points(raw, written):
    """The same image in both forms: world, cloud, boxes, colours."""
    order = SUNRGBD(raw, "test").names + SUNRGBD(raw, "train").names
    raw = SUNRGBD(raw, depth="bfx")
    votenet = SUNRGBDVoteNet(written, labels="v2")
    assert len(votenet) == len(order) == 10
    assert SUNRGBDVoteNet(written, "val").names == ("000001", "000002")
    assert SUNRGBDVoteNet(written, "train").names == tuple(f"{i:06d}" for i in range(3, 11))
    for name, number in zip(order, votenet.names, strict=True):
        a, b = raw[name], votenet[number]
        ours, theirs = a.frames[0], b.frames[0]
        assert (ours.camera.world_from_camera - theirs.camera.world_from_camera).abs().max() < 1e-5
        assert (ours.camera.intrinsics - theirs.camera.intrinsics).abs().max() < 1e-2
        metres = ours.metres().clamp(max=8)
        assert (metres - theirs.metres()).abs().max() < 1e-4
        assert ours.color().equal(theirs.color())
        cloud = back_project(metres[None].double(), ours.camera)
        height, width = ours.camera.size
        down_the_columns = torch.arange(height * width).reshape(height, width).T.ravel()
        assert (cloud.points[down_the_columns] - b.points).abs().max() < 1e-5
        assert b.cloud.colors.equal(ours.color().transpose(0, 1).reshape(-1, 3))
        pixel = project(b.points.double(), theirs.camera)[0, :, :2]
        assert (pixel - pixel.round()).abs().max() < 0.01
        assert a.boxes.label.equal(b.boxes.label)
        assert torch.allclose(a.boxes.box, b.boxes.box, atol=1e-5)
        assert SUNRGBDVoteNet(written)[number].boxes.box.equal(b.boxes.box)


def test_rooms_written_in_any_order_give_the_same_bytes(written, rooms, tmp_path):
    written_by(write_votenet, tmp_path, rooms, reversed(range(ROOMS)))
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert [f for f in files if (written / f).read_bytes() != (tmp_path / f).read_bytes()] == []


def test_a_room_without_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"frames must be 1 or more, .*, got 0"):
        write_votenet.check(1, RoomOptions(frames=0))
