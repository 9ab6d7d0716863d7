"""Does one seed give one dataset, whole or not at all, which the reader of its layout reads?"""

import hashlib
import multiprocessing
import os
import shutil
import signal
import time

import pytest
import torch

from pyproj2d3d.data import S3DIS, SUNRGBD, NYUv2, RoomOptions, ScanNet, SUNRGBDVoteNet, SynthRoom, open_dataset
from pyproj2d3d.data.summary import summary_of
from pyproj2d3d.data.synth.generate import WRITERS, generate

TINY = RoomOptions(frames=2, size=(24, 32), spacing=0.3)
READERS = {"scannet": ScanNet, "s3dis": S3DIS, "nyuv2": NYUv2, "sunrgbd": SUNRGBD, "votenet": SUNRGBDVoteNet}
OF_FRAMES = ("nyuv2", "sunrgbd", "votenet")  # where a scene is a frame


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Five rooms in each layout, by one process; not to be changed."""
    root = tmp_path_factory.mktemp("rooms")
    for layout in WRITERS:
        generate(root / layout, scenes=5, seed=2, layout=layout, options=TINY, processes=1)
    return root


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("layout", WRITERS)
def test_a_dataset_is_known_by_its_names_and_its_frames_can_be_read(made, layout):
    dataset = open_dataset(made / layout)
    assert isinstance(dataset, READERS[layout])
    assert sum(len(scene.frames) for scene in dataset) == 10
    for scene in dataset:
        frame = scene.frames[-1]
        assert frame.metres().median() > 0.3
        assert frame.color().float().std() > 1
        if layout == "votenet":  # which has boxes, and no labels of pixels
            assert scene.boxes.box.isfinite().all()
            continue
        assert (frame.semantic() >= -1).all()
        assert (frame.semantic() < len(dataset.classes)).all()
        assert (frame.semantic() >= 0).float().mean() > 0.1


@pytest.mark.parametrize("layout", WRITERS)
def test_every_fifth_room_is_in_the_other_split(made, layout):
    train, other = ("train", "test") if layout in ("nyuv2", "sunrgbd") else ("train", "val")
    reader, per_room = READERS[layout], 2 if layout in OF_FRAMES else 1
    held_out = reader(made / layout, other).names
    assert len(reader(made / layout, train)) == 4 * per_room
    assert len(held_out) == per_room
    assert not set(held_out) & set(reader(made / layout, train).names)


@pytest.mark.parametrize("layout", WRITERS)
def test_a_second_time_and_with_two_processes_the_files_are_equal(made, layout, tmp_path):
    processes = 2 if layout == "scannet" else 1  # how rooms are shared out is the same in all layouts
    generate(tmp_path / "again", scenes=5, seed=2, layout=layout, options=TINY, processes=processes)
    assert digest(tmp_path / "again") == digest(made / layout)


def test_another_seed_gives_other_rooms(made, tmp_path):
    generate(tmp_path / "other", scenes=1, seed=3, options=TINY, processes=1)
    one, other = (ScanNet(root)["scene0000_00"].frames[0] for root in (made / "scannet", tmp_path / "other"))
    assert not torch.equal(one.depth(), other.depth())


def test_the_rooms_are_those_of_the_seed(made):
    room = SynthRoom(2_000_003, TINY)
    frame = ScanNet(made / "scannet")["scene0003_00"].frames[1]
    wanted = torch.from_numpy(room.render(room.camera(), 1).depth)
    assert torch.equal(frame.depth().double(), (1000 * wanted + 0.5).floor())


def test_a_summary_says_what_there_is(made):
    lines = dict(line.split(maxsplit=1) for line in summary_of(ScanNet(made / "scannet")))
    assert lines["dataset"] == f"ScanNet v2, {made / 'scannet'}"
    assert lines["scenes"] == "5: scene0000_00, scene0001_00, ..., scene0004_00"
    assert lines["frames"] == "10: 10 of 24x32 (depth, height x width)"
    assert lines["clouds"] == lines["boxes"].replace("boxes", "points") == "5 scenes have points"
    assert lines["labels"] == "5 scenes have labelled images"
    assert lines["classes"].startswith("20: wall, floor, cabinet, bed, chair,")
    assert not {"missing", "skipped", "broken"} & lines.keys()


@pytest.mark.parametrize("broken", ["scene0001_00.sens", "scene0001_00.txt"])
def test_a_summary_names_what_is_broken_or_empty_and_goes_on(made, tmp_path, broken):
    root = shutil.copytree(made / "scannet", tmp_path / "scannet")
    (root / "scannetv2-labels.combined.tsv").unlink()
    (root / "scans" / "scene0003_00" / "scene0003_00.sens").unlink()
    path = root / "scans" / "scene0001_00" / broken
    path.write_bytes(b"no key" + path.read_bytes()[:-200])
    lines = summary_of(ScanNet(root))
    assert [line for line in lines if line.startswith("frames")] == ["frames    6: 6 of 24x32 (depth, height x width)"]
    missing = [line.removeprefix("missing").strip() for line in lines if line.startswith("missing")]
    assert missing[0].startswith("scannetv2-labels.combined.tsv: ")
    assert missing[1] == "frames of 1 scenes: scene0003_00"
    (line,) = (line for line in lines if line.startswith("broken"))
    assert line.startswith(f"broken    scene0001_00: {path}: ")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"layout": "kitti"}, "layout must be one of scannet, s3dis, nyuv2, sunrgbd, votenet, got 'kitti'"),
        ({"scenes": 0}, "scenes must be from 1 to 1,000,000, got 0"),
        ({"seed": -1}, "seed must be from 0 to 10\\^9, got -1"),
        ({"processes": 0}, "processes must be at least 1, got 0"),
        ({"layout": "s3dis", "scenes": 3342}, "scenes must be at most 3341, .*, got 3342"),
        *(
            ({"layout": layout, "options": RoomOptions(frames=0)}, "frames must be 1 or more, .*, got 0")
            for layout in OF_FRAMES
        ),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, monkeypatch, keywords, message):
    """Before a room is made."""
    monkeypatch.setattr("pyproj2d3d.data.synth.generate.SynthRoom", None)
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / "out", **({"scenes": 1} | keywords))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="out: must be an empty folder or not there yet"):
        generate(tmp_path / "out", scenes=1, options=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file: must be an empty folder or not there yet"):
        generate(tmp_path / "file", scenes=1, options=TINY)


def test_a_folder_that_is_there_is_filled_and_a_link_stays_a_link(tmp_path):
    """It may be a mount point, or in a folder that one must not write to."""
    for name in ("there", "disk"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("disk")
    (tmp_path / "dangling").symlink_to("new")
    generate(tmp_path / "plain", scenes=1, options=TINY, processes=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    for name in ("there", "link", "dangling"):
        generate(tmp_path / name, scenes=1, options=TINY, processes=1)
        assert digest(tmp_path / name) == digest(tmp_path / "plain")
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "new"])


def test_of_two_runs_into_one_folder_the_first_to_end_is_kept(tmp_path, monkeypatch):
    write = WRITERS["scannet"].write

    def slow(out, room, number):
        write(out, room, number)
        monkeypatch.setattr(WRITERS["scannet"], "write", write)
        generate(tmp_path / "out", scenes=2, options=TINY, processes=1)

    monkeypatch.setattr(WRITERS["scannet"], "write", slow)
    with pytest.raises(FileExistsError, match="out: was empty or not there, but something came there meanwhile"):
        generate(tmp_path / "out", scenes=1, options=TINY, processes=1)
    assert len(ScanNet(tmp_path / "out")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def broken(out, room, number):
        (out / "half").mkdir()
        raise OSError("no space left")

    monkeypatch.setattr(WRITERS["scannet"], "write", broken)
    with pytest.raises(OSError, match="no space left"):
        generate(tmp_path / "out", scenes=1, options=TINY, processes=1)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_dataset(tmp_path):
    """What is under the name is whole: until then the files lie beside it, under another one."""
    run = multiprocessing.get_context("spawn").Process(
        target=generate, args=(tmp_path / "out",), kwargs={"scenes": 500, "options": TINY, "processes": 1}
    )
    run.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*.partial/scans/*")):
        assert run.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    assert not (tmp_path / "out").exists()
