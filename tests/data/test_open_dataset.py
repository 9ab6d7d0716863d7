"""Is a folder taken for what it is, by its names alone?"""

import pytest

from pyproj2d3d.data import S3DIS, PosedFolders, ScanNet, SUNRGBDVoteNet, open_dataset, write_room


@pytest.mark.parametrize(
    ("names", "reader", "scenes"),
    [
        (["scans/scene0000_00", "scans/scene0001_00"], ScanNet, 2),
        (["scans_test/scene0707_00"], ScanNet, 1),
        (["scannet_frames_25k/scene0000_00"], ScanNet, 1),
        (["scene0000_00", "scene0000_01", "else"], ScanNet, 2),
        (["Area_3/office_1/Annotations"], S3DIS, 1),
    ],
)
def test_folders_alone_tell_which_dataset_it_is(tmp_path, names, reader, scenes):
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    if reader is S3DIS:
        (tmp_path / names[0] / "floor_1.txt").write_text("0 0 0 1 2 3\n")
    dataset = open_dataset(tmp_path)
    assert type(dataset) is reader
    assert len(dataset) == scenes
    assert repr(dataset) == f"{reader.__name__}({str(tmp_path)!r}, split=None): {scenes} scenes"


def test_votenets_form_is_known(tmp_path):
    for folder in ("depth", "image", "calib", "label"):
        (tmp_path / "sunrgbd_trainval" / folder).mkdir(parents=True)
    (tmp_path / "sunrgbd_trainval" / "calib" / "000001.txt").touch()
    (tmp_path / "sunrgbd_trainval" / "depth" / "000001.mat").touch()
    assert type(open_dataset(tmp_path)) is SUNRGBDVoteNet
    assert type(open_dataset(tmp_path / "sunrgbd_trainval")) is SUNRGBDVoteNet


def test_a_recording_and_a_folder_of_recordings_are_known(tmp_path):
    for name in ("b", "a"):
        write_room(tmp_path / name, frames=2, points=0, size=(12, 16))
    one, all_of_them = open_dataset(tmp_path / "a"), open_dataset(tmp_path)
    assert type(one) is type(all_of_them) is PosedFolders
    assert one.names == ("a",)
    assert all_of_them.names == ("a", "b")
    assert [len(scene.frames) for scene in all_of_them] == [2, 2]
    assert one[0].frames[1].name == all_of_them["a"].frames[1].name == "frame-000001"
    with pytest.raises(KeyError, match="there is no scene 'c' among 2"):
        all_of_them["c"]
    with pytest.raises(IndexError):
        all_of_them[2]


def test_what_is_no_dataset_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: must be the folder of a dataset, there is none"):
        open_dataset(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="file: must be the folder of a dataset, got a file"):
        open_dataset(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: must hold ScanNet .* got an empty folder"):
        open_dataset(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"must hold ScanNet .* got empty, file$"):
        open_dataset(tmp_path)
    (tmp_path / "depth only" / "depth").mkdir(parents=True)
    (tmp_path / "depth only" / "depth" / "0.png").touch()
    with pytest.raises(FileNotFoundError, match=r"depth only: must hold ScanNet .* got depth$"):
        open_dataset(tmp_path / "depth only")
    with pytest.raises(ValueError, match="posed folders have no splits, got split='train'"):
        open_dataset(write(tmp_path / "room"), "train")


def write(folder):
    write_room(folder, frames=1, points=0, size=(12, 16))
    return folder
