"""Does ``pyproj2d3d fit`` do what the README says: train, go on, score, alone or in two processes, and name errors?"""

import csv
import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="the extra train is not installed")

import yaml
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from pyproj2d3d.cli import main
from pyproj2d3d.data import RoomOptions
from pyproj2d3d.data.synth.generate import generate
from pyproj2d3d.train import PAPERS, WholeFiles, best_and_last, check_writable, settings_of
from pyproj2d3d.train_resume import GoesOn

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's calls of jsonargparse
UNTAUGHT = ["--model.teacher_weights", "random"]
QUIET = [
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.accelerator", "cpu", "--data.workers", "0", "--trainer.log_every_n_steps", "1"),
    *("--model.voxel_size", "0.4", "--model.pictures", "1", "--model.lr", "0.01", "--data.distort", "false"),
]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Four rooms to train on and one to validate; the last again, so that each of two processes has one."""
    folder = tmp_path_factory.mktemp("some") / "rooms"
    generate(folder, scenes=5, options=RoomOptions(frames=0, spacing=0.3), processes=1)
    split = folder / "scannetv2_val.txt"
    split.write_text(split.read_text() + (folder / "scannetv2_train.txt").read_text())
    return folder


def losses(folder, name="train/loss"):
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_a_split_without_scenes_and_scenes_without_clouds_are_named(tmp_path, capsys):
    options = RoomOptions(frames=1, size=(24, 32), spacing=0.5)
    generate(tmp_path / "few", scenes=3, options=options, processes=1)
    generate(tmp_path / "images", scenes=5, layout="nyuv2", options=options, processes=1)
    for name, message in (
        ("few", "limit_val_batches 0 trains without|none of the 0 scenes of val"),
        ("images", "must have clouds, the scenes of NYU Depth v2 have none"),
    ):
        with pytest.raises(SystemExit) as exit:
            main(["fit", "segment3d", "--out", str(tmp_path / "out"), "--data.root", str(tmp_path / name), *QUIET])
        assert exit.value.code == 2
        assert re.search(message, capsys.readouterr().err)


@pytest.fixture(scope="module")
def one(rooms, tmp_path_factory):
    """The folder of a run of one process: two epochs of one batch each."""
    out = tmp_path_factory.mktemp("one")
    command = ["fit", "segment3d", "--out", str(out), "--data.root", str(rooms), *QUIET, "--trainer.max_epochs", "2"]
    assert main([*command, "--data.batch_size", "4"]) == 0
    return out / "version_0"


def test_a_run_leaves_what_the_readme_names(one):
    assert len(losses(one)) == 2
    found = {str(path.relative_to(one)) for path in one.rglob("*") if path.is_file()}
    assert {"metrics.csv", "config.yaml", "classes.md", "curves.png", "checkpoints/last.ckpt"} <= found
    assert any(name.startswith("pictures/scene") for name in found)
    assert any(name.startswith("checkpoints/best-") for name in found)
    hparams = torch.load(one / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert hparams["classes"][:2] == ["wall", "floor"]


def test_two_processes_train_as_one_with_the_joint_batch(one, rooms, tmp_path):
    command = ["fit", "segment3d", "--out", str(tmp_path), "--data.root", str(rooms), *QUIET]
    command += ["--trainer.max_epochs", "2", "--data.batch_size", "2"]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "pyproj2d3d.cli", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path)  # not in a checkout
    assert done.returncode == 0, done.stderr
    first, second = losses(tmp_path / "version_0")
    assert first == pytest.approx(losses(one)[0], rel=1e-5)
    assert second == pytest.approx(losses(one)[1], rel=1e-3)  # after one step, whose sums were rounded otherwise
    for score in ("train/miou", "val/accuracy"):  # of the five scenes that two processes share
        assert losses(tmp_path / "version_0", score) == pytest.approx(losses(one, score), rel=0.05, abs=1e-3)


def settings_in(folder):
    config = yaml.safe_load((folder / "version_0" / "config.yaml").read_text())
    return config["model"], config["data"]


def test_a_checkpoint_is_scored_with_its_own_settings_and_on_its_own_data(one, rooms, tmp_path, capsys):
    last = str(one / "checkpoints" / "last.ckpt")
    assert main(["validate", "segment3d", "--out", str(tmp_path), "--ckpt_path", last, *QUIET[:6]]) == 0
    model, data = settings_in(tmp_path)
    assert (model["voxel_size"], model["lr"], data["root"], data["distort"]) == (0.4, 0.01, str(rooms), False)
    said = capsys.readouterr().out
    assert "val/miou" in said
    assert f"results: {tmp_path / 'version_0'}" in said.splitlines()
    assert (tmp_path / "version_0" / "classes.md").read_text() == (one / "classes.md").read_text()


def test_a_run_goes_on_with_its_own_settings_but_for_those_that_are_said(one, tmp_path):
    last = str(one / "checkpoints" / "last.ckpt")
    command = ["fit", "segment3d", "--out", str(tmp_path), "--ckpt_path", last, *QUIET[:6], "--model.power", "0.5"]
    assert main([*command, "--trainer.max_epochs", "3"]) == 0
    assert len(losses(tmp_path / "version_0")) == 1  # the third epoch
    assert rates_in(tmp_path) == {0.01}
    model, data = settings_in(tmp_path)
    assert (model["voxel_size"], model["power"], data["batch_size"]) == (0.4, 0.5, 4)


def rates_in(folder):
    state = torch.load(folder / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)
    return {group["initial_lr"] for group in state["optimizer_states"][0]["param_groups"]}


def test_what_is_said_of_the_optimiser_counts_where_a_run_goes_on(one, tmp_path):
    last = str(one / "checkpoints" / "last.ckpt")
    command = ["fit", "segment3d", "--out", str(tmp_path), "--ckpt_path", last, *QUIET[:6], "--model.lr", "0.003"]
    assert main([*command, "--trainer.max_epochs", "3"]) == 0
    assert rates_in(tmp_path) == {0.003}


def test_a_run_of_so_many_steps_goes_on(one, rooms, tmp_path):
    command = ["fit", "segment3d", "--data.root", str(rooms), *QUIET, "--data.batch_size", "2"]
    command += ["--trainer.max_epochs", "-1", "--model.pictures", "0"]
    assert main([*command, "--trainer.max_steps", "6", "--out", str(tmp_path / "whole")]) == 0
    with pytest.MonkeyPatch.context() as patch:

        def stopped(self, trainer, model, outputs, batch, i):
            if trainer.global_step == 3:  # within the second epoch
                raise KeyboardInterrupt

        patch.setattr(GoesOn, "on_train_batch_end", stopped)
        with pytest.raises(SystemExit):
            main([*command, "--trainer.max_steps", "6", "--out", str(tmp_path / "begun")])
    last = tmp_path / "begun" / "version_0" / "checkpoints" / "last.ckpt"
    again = [*command, "--trainer.max_steps", "6", "--out", str(tmp_path / "rest"), "--ckpt_path", str(last)]
    assert main(again) == 0
    whole, rest = tmp_path / "whole" / "version_0", tmp_path / "rest" / "version_0"
    assert losses(rest) == losses(whole)[2:]
    assert losses(rest, "val/miou") == losses(whole, "val/miou")[1:]
    assert losses(whole, "step")[-len(losses(rest, "step")) :] == losses(rest, "step")


def test_a_checkpoint_is_the_beginning_of_another_run(one, rooms, tmp_path):
    last = str(one / "checkpoints" / "last.ckpt")
    command = ["fit", "segment3d", "--out", str(tmp_path), "--data.root", str(rooms), *QUIET, "--init", last]
    assert main([*command, "--trainer.max_epochs", "1", "--data.batch_size", "4"]) == 0


def test_a_checkpoint_of_other_classes_or_none_is_named(one, tmp_path, capsys):
    last = one / "checkpoints" / "last.ckpt"
    kept = torch.load(last, weights_only=True)
    other = tmp_path / "other.ckpt"
    for change, message in (
        ({"classes": ["a", "b"]}, "has 2 classes and the data 20, which are not the same: with --init it is"),
        ({"teacher": 18}, "must be a checkpoint of segment3d, got one with model.teacher"),
        (
            {"width": 0.5},
            "net.conv0p1s1.weight must have shape [16, 3, 3, 3, 3], got [32, 3, 3, 3, 3]: with --init it is",
        ),
    ):
        torch.save({**kept, "hyper_parameters": {**kept["hyper_parameters"], **change}}, other)
        with pytest.raises(SystemExit) as exit:
            main(["fit", "segment3d", "--out", str(tmp_path / "out"), "--ckpt_path", str(other), *QUIET[:6]])
        assert exit.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_terminated_says_so_and_leaves_its_last_checkpoint_whole(rooms, tmp_path):
    command = ["fit", "segment3d", "--out", str(tmp_path), "--data.root", str(rooms), *QUIET]
    command = [sys.executable, "-m", "pyproj2d3d.cli", *command, "--trainer.max_epochs", "1000"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, **silent) as process:
        last = tmp_path / "version_0" / "checkpoints" / "last.ckpt"
        for _ in range(1200):
            if last.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.terminate()
        assert process.wait(timeout=120) == 143
    assert torch.load(last, weights_only=True)["epoch"] >= 0


class Worse(LightningModule):
    """Its score falls from epoch to epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, _):
        return self.weight

    def validation_step(self, batch, _):
        self.log("val/score", 1 / (1 + self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


SILENT = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


@pytest.mark.parametrize(("every", "best"), [(1, "best-0-val_score=1.000.ckpt"), (2, "best-1-val_score=0.500.ckpt")])
def test_the_last_checkpoint_is_of_the_last_epoch_and_the_best_of_the_best(every, best, tmp_path):
    """Of an epoch that was not validated, too."""
    trainer = Trainer(
        max_epochs=3, default_root_dir=tmp_path, callbacks=best_and_last("val/score"), plugins=[WholeFiles()],
        check_val_every_n_epoch=every, **SILENT,
    )  # fmt: skip
    trainer.fit(Worse(), DataLoader([0.0]), DataLoader([0.0]))
    epochs = {
        path.name: torch.load(path, weights_only=True)["epoch"] for path in tmp_path.rglob("*.*") if path.is_file()
    }
    assert epochs == {best: every - 1, "last.ckpt": 2}


def test_a_process_that_is_killed_as_it_writes_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        writing = partial(WholeFiles().save_checkpoint, {"epoch": 2, "more": torch.zeros(1000)}, path)
        process = multiprocessing.get_context("fork").Process(target=writing)
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    WholeFiles().save_checkpoint({"epoch": 3}, path)  # what was half written is in nobody's way
    assert torch.load(path, weights_only=True) == {"epoch": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    class Broken:
        def __reduce__(self):
            raise RuntimeError("in the middle of it")

    path = tmp_path / "new" / "last.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(RuntimeError, match="in the middle of it"):
        WholeFiles().save_checkpoint({"epoch": 2, "more": torch.zeros(1000), "broken": Broken()}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the paper must be one of segment3d.*, got none"),
        (["resnet"], "the paper must be one of segment3d.*, got resnet"),
        (["segment3d", "--data.root", "nowhere"], "nowhere: must be the folder of a dataset, there is none"),
        (["segment3d", "--model.net", "unet"], "net"),
        (["segment3d", "--data.batch_size", "0"], "batch_size must be at least 1, got 0"),
        (["segment3d", "--init", "nowhere.ckpt"], "--init nowhere.ckpt: there is no such file"),
        (["segment3d", "--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
        (["segment3d", "--ckpt_path", __file__], "test_train.py: must be a checkpoint of a run, got"),
        (["segment3d", "--model.voxel_size", "0"], "voxel_size must be positive and finite, got 0"),
        (["segment3d", "--model.lr", "-1"], "lr must be positive and finite, got -1"),
        (["segment3d", "--model.pictures", "-1"], "pictures must not be negative, and finite, got -1"),
        (["segment3d", "--data.train_split", "nope"], "nope"),
        (["segment3d", "--trainer.precision", "64-true"], "precision must be one of 32-true, bf16-mixed, 16-mixed"),
        (["segment3d", "--trainer.devices", "0"], "devices"),
        (["segment3d", "--trainer.limit_train_batches", "1.5"], "limit_train_batches"),
        (["ppkt", "--data.root", "nowhere"], "nowhere: must be the folder of a dataset, there is none"),
        (["ppkt", *UNTAUGHT, "--model.lr", "0"], "lr must be positive and finite, got 0"),
        (["ppkt", *UNTAUGHT, "--model.momentum", "-2"], "momentum must not be negative, and finite, got -2"),
        (["ppkt", *UNTAUGHT, "--model.temperature", "0"], "temperature must be positive and finite, got 0"),
        (["ppkt", *UNTAUGHT, "--model.voxel_size", "0"], "voxel_size must be positive and finite, got 0"),
        (["pointcontrast", "--model.temperature", "0"], "temperature must be positive and finite, got 0"),
        (["segment3d", "--optimizer", "Adam"], "^usage: pyproj2d3d fit segment3d .options.\n.*\n.*optimizer.*\n$"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_named(arguments, message, tmp_path, monkeypatch, capsys, rooms):
    monkeypatch.chdir(tmp_path)
    if arguments and arguments[0] in PAPERS and "--data.root" not in arguments:
        arguments = [*arguments, "--data.root", str(rooms)]
    try:
        status = main(["fit", *arguments])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_a_line(rooms, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        main(
            [
                "fit",
                "segment3d",
                "--data.root",
                str(rooms),
                "--out",
                str(tmp_path / "out"),
                "--trainer.accelerator",
                "gpu",
            ]
        )
    assert exit.value.code == 2
    assert "No supported gpu backend found" in capsys.readouterr().err


def test_a_run_begins_or_goes_on_and_not_both(one, tmp_path, capsys):
    last = str(one / "checkpoints" / "last.ckpt")
    with pytest.raises(SystemExit) as exit:
        main(["fit", "segment3d", "--ckpt_path", last, "--init", last, "--out", str(tmp_path / "out"), *QUIET[:6]])
    assert exit.value.code == 2
    assert "--init and --ckpt_path must not go together: the checkpoint has all weights" in capsys.readouterr().err


def test_a_run_that_began_from_another_goes_on_and_is_scored_with_its_own_config(one, rooms, tmp_path):
    last = str(one / "checkpoints" / "last.ckpt")
    command = ["fit", "segment3d", "--data.root", str(rooms), *QUIET, "--init", last, "--out", str(tmp_path / "begun")]
    assert main([*command, "--trainer.max_epochs", "1"]) == 0
    begun = tmp_path / "begun" / "version_0"
    kept = ["--config", str(begun / "config.yaml"), "--ckpt_path", str(begun / "checkpoints" / "last.ckpt")]
    assert main(["fit", "segment3d", *kept, "--trainer.max_epochs", "2", "--out", str(tmp_path / "rest")]) == 0
    assert yaml.safe_load((tmp_path / "rest" / "version_0" / "config.yaml").read_text())["init"] is None
    assert main(["validate", "segment3d", *kept, "--init", "null", "--out", str(tmp_path / "scored")]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--trainer.val_check_interval", "7"], 1, "val_check_interval"),
        (["--ckpt_path", "{}", "--trainer.max_epochs", "0"], 2, "max_epochs=0"),
    ],
)
def test_what_lightning_finds_when_it_begins_is_a_line(arguments, status, message, one, rooms, tmp_path, capsys):
    last = str(one / "checkpoints" / "last.ckpt")
    command = ["fit", "segment3d", "--data.root", str(rooms), "--out", str(tmp_path), *QUIET]
    with pytest.raises(SystemExit) as exit:
        main([*command, *(a.format(last) for a in arguments)])
    assert exit.value.code == status
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_run_without_checkpoints_keeps_none_and_one_without_validation_says_so(rooms, tmp_path, capsys):
    command = ["fit", "segment3d", "--data.root", str(rooms), "--out", str(tmp_path), *QUIET]
    command += ["--trainer.check_val_every_n_epoch", "2"]
    assert main([*command, "--trainer.enable_checkpointing", "false", "--trainer.max_epochs", "1"]) == 0
    assert "1 epochs end before the first validation: --trainer.check_val_every_n_epoch 1" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))
    assert losses(tmp_path / "version_0")


def test_a_folder_that_cannot_be_written_into_is_named(tmp_path, monkeypatch):
    def read_only(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    check_writable(tmp_path / "new" / "folder")
    assert not list((tmp_path / "new" / "folder").iterdir())
    monkeypatch.setattr("pyproj2d3d.train.TemporaryFile", read_only)
    with pytest.raises(OSError, match=r"new: must be a folder to write into \(Read-only file system\)"):
        check_writable(tmp_path / "new")


def test_a_score_without_a_checkpoint_is_refused(rooms, tmp_path, capsys):
    for stage in ("validate", "test"):
        with pytest.raises(SystemExit) as exit:
            main([stage, "segment3d", "--out", str(tmp_path / "out"), "--data.root", str(rooms), *QUIET])
        assert exit.value.code == 2
        assert f"{stage} must have --ckpt_path, the checkpoint to score, got none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("paper", PAPERS)
def test_the_configuration_is_printed_and_nothing_done(paper, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def printed(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(["fit", paper, *arguments, "--print_config"])
        assert exit.value.code == 0
        return yaml.safe_load(capsys.readouterr().out)

    for name, file in settings_of(paper).items():
        config = printed("--settings", name)
        for group, values in yaml.safe_load(file.read_text()).items():
            for key, value in values.items():
                assert config[group][key] == value, (name, group, key)
    assert config["model"]["lr"] > 0  # where the yaml has none, the class has
    assert not list(tmp_path.iterdir())


def test_settings_that_the_docs_name_are_there():
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    named = {found for page in pages for found in re.findall(r"fit (\w+) --settings (\w+)", page.read_text())}
    assert len(named) >= 4
    assert all(settings in settings_of(paper) for paper, settings in named)


def test_what_is_pretrained_on_rooms_fits_what_is_trained_on_them():
    """By the commands as they are, one with the other's checkpoint as --init."""
    students = ("ppkt", "ppkd", "ppkt_global", "pointcontrast", "segment3d", "votenet")
    models = [yaml.safe_load(settings_of(paper)["rooms"].read_text())["model"] for paper in students]
    assert len({(model["net"], model.get("width", 1.0), model["voxel_size"]) for model in models}) == 1
