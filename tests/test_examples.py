"""Do the examples that users copy work? Those of the docstrings, and the README's."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch

from pyproj2d3d.data import RoomOptions
from pyproj2d3d.data.synth.generate import generate

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "stem",
    [
        *("project", "visibility", "zbuffer", "splat", "sample", "fuse_views"),
        *("back_project", "voxelize", "scatter", "superpoints", "kernel_map", "cluster"),
        *("farthest_point_sample", "ball_query", "three_nn"),
    ],
)
def test_docstring_of_operation_shows_what_it_returns(stem):
    _run_examples(f"pyproj2d3d.ops.{stem}")


def test_docstrings_of_boxes_show_what_they_return():
    _run_examples("pyproj2d3d.boxes")


def test_docstring_of_camera_shows_what_it_returns():
    _run_examples("pyproj2d3d.camera")


def _run_examples(name):
    module = importlib.import_module(name)
    names = {"torch": torch, **vars(importlib.import_module("pyproj2d3d"))}
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # they write a file
    names = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        exec(code, names)
    assert names["features"].shape == (100_000, 64)
    assert names["maps"].grad.abs().sum() > 0
    assert names["mean"].shape == (len(names["voxels"]), 64)
    assert names["kept"].shape == (64, 60, 80)
    assert torch.equal(names["mask"], names["index"][2] >= 0)
    assert names["mask"].any()


def test_examples_of_the_data_page_run_one_after_the_other(tmp_path):
    pytest.importorskip("lightning", reason="the extra train is not installed")
    options = RoomOptions(frames=4, size=(96, 128), spacing=0.1)
    generate(tmp_path / "rooms", scenes=3, options=options, processes=1)
    names = {"DATA": tmp_path / "rooms"}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL):
        exec(code, names)
    assert names["cloud"].superpoint is not None
    assert names["batch"].color.shape == (6, 96, 128, 3)
    assert names["batch"].points.shape == (4000, 3)
    assert len(names["batch"].matches.point) > 100
    assert len(names["module"].train_dataloader()) == 3


def test_examples_of_the_networks_page_run_one_after_the_other():
    names = {}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "networks.md").read_text(), re.DOTALL):
        exec(code, names)
    assert names["logits"].shape == names["classes"].shape == (5000, 20)
    assert names["embedded"].features.shape == (len(names["voxels"]), 96)
    assert names["loss"].total.isfinite()
    assert [found.box.shape[1] for found in names["kept"]] == [7, 7]


def test_the_pictures_of_the_pages_are_there():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = [(page, name) for page in pages for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())]
    assert len(named) > 1
    for page, name in named:
        assert (page.parent / name).is_file(), (page.name, name)


def test_readme_says_what_ci_runs():
    (command,) = re.findall(r"^(pip install .*&& pytest)\b", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command.replace('".[test]"', '-q ".[test]"') in (ROOT / ".ci" / "run").read_text()
