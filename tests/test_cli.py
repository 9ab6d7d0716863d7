"""Does the command line do what its help says, answer bad input in one line, and stay quick to start?"""

import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from pyproj2d3d.cli import main
from pyproj2d3d.data import write_room


def test_demo_leaves_a_report_and_says_where(tmp_path, capsys):
    write_room(tmp_path / "room", frames=1, points=200, size=(24, 32))
    assert main(["demo", "--data", str(tmp_path / "room"), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert f"Open {tmp_path / 'out' / 'report.html'}" in capsys.readouterr().out


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch], ids=["missing", "empty", "no folder"])
def test_unusable_data_is_one_line_that_names_it(tmp_path, capsys, make):
    make(tmp_path / "data")
    assert main(["demo", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert re.fullmatch(rf"pyproj2d3d demo: [^\n]*{re.escape(str(tmp_path / 'data'))}[^\n]*\n", stderr)


def test_an_output_folder_that_cannot_be_made_is_one_line_that_names_it(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file" / "out")]) == 2
    assert re.fullmatch(r"pyproj2d3d demo: cannot write to [^\n]*file/out: [^\n]*\n", capsys.readouterr().err)


def test_rooms_are_written_and_info_says_what_is_there(tmp_path, capsys):
    out = str(tmp_path / "rooms")
    few = ["--scenes", "1", "--frames", "2", "--size", "24", "32", "--spacing", "0.3", "--processes", "1"]
    assert main(["synth", out, *few, "--layout", "s3dis"]) == 0
    said, hint = capsys.readouterr().out.splitlines()
    assert said == f"1 rooms in the layout of s3dis: pyproj2d3d info --data {out}"
    assert hint == "Every fifth room is held out: with fewer than five the validation split is empty."
    assert main(["info", "--data", out, "--split", "train"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["dataset"] == f"S3DIS, {out}"
    assert rows["split"] == "train"
    assert rows["frames"] == "2: 2 of 24x32 (depth, height x width)"
    assert main(["demo", "--data", out, "--out", str(tmp_path / "report")]) == 0
    assert "Area_1_" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synth", "OUT", "--layout", "kitti"], "synth: layout must be one of scannet, s3dis, nyuv2, sunrgbd"),
        (["synth", "OUT", "--scenes", "0"], "synth: scenes must be from 1 to 1,000,000, got 0"),
        (["synth", "OUT", "--style", "attic"], "synth: style must be one of home, studio, got 'attic'"),
        (["synth", "FULL"], "synth: .*FULL: must be an empty folder or not there yet"),
        (["demo", "--data", "BARE"], "demo: BARE: scene scene0000_00 has no frames, the demo needs some"),
        (["info", "--data", "OUT"], "info: .*OUT: must be the folder of a dataset, there is none"),
        (["info", "--data", "FULL"], "info: .*FULL: must hold ScanNet .*got a"),
        (["info", "--data", "FULL/a"], "info: .*FULL/a: must be the folder of a dataset, got a file"),
    ],
)
def test_what_cannot_be_written_or_opened_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("FULL").mkdir()
    Path("FULL/a").touch()
    Path("BARE/scans/scene0000_00").mkdir(parents=True)
    assert main(arguments) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert re.fullmatch(rf"pyproj2d3d {message}[^\n]*\n", stderr)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_nothing_and_says_so_in_one_line(tmp_path, sent):
    command = [sys.executable, "-m", "pyproj2d3d.cli", "synth", "out", "--scenes", "500", "--size", "24", "32"]
    run = subprocess.Popen([*command, "--processes", "1"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*.partial/scans/*")):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(sent)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode != 0
    assert re.fullmatch(r"pyproj2d3d( synth)?: (terminated|interrupted)\n", stderr)
    assert list(tmp_path.iterdir()) == []


def test_info_tells_of_the_build_and_the_machine(capsys):
    import torch

    assert main(["info"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(rows) == ["version", "CUDA", "compiler", "CPU", "torch", "driver", "devices"]
    assert rows["version"] == version("pyproj2d3d")
    assert rows["torch"].startswith(torch.__version__)
    assert rows["devices"].startswith("cpu")
    assert rows["CUDA"] == "not built" or re.fullmatch(r"built with CUDA \d+\.\d+\S* for \S.*", rows["CUDA"])


def test_info_without_a_driver_says_so_and_succeeds(monkeypatch, capsys):
    from pyproj2d3d import _native

    def no_driver() -> int:
        raise RuntimeError("no NVIDIA driver on this machine")

    build = {"cuda": True, "cuda_version": "13.0", "architectures": "90", "compiler": "c++"}
    monkeypatch.setattr(_native, "build_info", lambda: build)
    monkeypatch.setattr(_native, "device_count", no_driver)
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "built with CUDA 13.0 for 90\n" in printed
    assert "cpu; no CUDA device: no NVIDIA driver on this machine\n" in printed


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"pyproj2d3d {version('pyproj2d3d')}\n"


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_help_names_every_paper(stage, capsys):
    train = pytest.importorskip("pyproj2d3d.train", reason="the extra train is not installed")
    with pytest.raises(SystemExit):
        main([stage, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert ", ".join(train.PAPERS) in said.replace("- ", "-")


def test_a_command_is_asked_for(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "info,demo" in capsys.readouterr().err


def test_importing_the_command_line_imports_nothing_heavy(tmp_path):
    heavy = [
        "PIL",
        "tqdm",
        "scipy",
        "h5py",
        "open3d",
        "safetensors",
        "lightning",
        "pyproj2d3d.demo",
        "pyproj2d3d.report",
    ]
    code = "import torch, sys; before = set(sys.modules); import pyproj2d3d.cli; "
    code += f"print(*(set({heavy}) & (set(sys.modules) - before)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.strip() == ""
