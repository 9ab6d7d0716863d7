"""Does the command line do what its help says, answer bad input in one line, and stay quick to start?"""

import re
import subprocess
import sys
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
