"""Is a run of PPKT one to trust? It goes on as if it had not been stopped, in one process or two, and names errors."""

import csv
import importlib.util
import re
import shutil
import subprocess
import sys

import pytest
import torch

pytest.importorskip("lightning", reason="the extra train is not installed")

from pyproj2d3d.cli import main
from pyproj2d3d.data import write_room
from pyproj2d3d.nn.resnet import ResNet
from pyproj2d3d.nn.sr_unet import sr_unet34
from pyproj2d3d.papers.ppkt import PPKT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's calls of jsonargparse
QUIET = [
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.accelerator", "cpu", "--data.workers", "0", "--trainer.max_epochs", "2"),
]
FRAMES, FEW = 8, 4  # in all, and in a batch: two steps an epoch


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Rooms and weights: of a teacher, of one as MoCo leaves it, and of a student of another kind."""
    folder = tmp_path_factory.mktemp("files")
    for i in range(2):
        write_room(folder / "rooms" / f"room{i}", frames=FRAMES // 2, points=60, seed=i, size=(48, 64))
    torch.manual_seed(0)
    net = ResNet(18, width=8).train()
    for _ in range(3):  # norms that know what their layer gives
        net((255 * torch.rand(4, 48, 64, 3)).to(torch.uint8))
    torch.save(net.state_dict(), folder / "teacher.pth")
    moco = {f"module.encoder_q.{name}": w for name, w in net.state_dict().items()}
    torch.save({"state_dict": moco}, folder / "moco.pth")
    torch.save({f"net.{name}": w for name, w in sr_unet34(3, 4, width=0.125).state_dict().items()}, folder / "34.pth")
    return folder


@pytest.fixture(scope="module")
def given(files):
    """Arguments of a small run. Networks are narrow by them, and not by a patch, which another process has not."""
    data = ["--data.root", str(files / "rooms"), "--data.every", "1", "--data.size", "[48, 64]"]
    teacher = ["--model.teacher_weights", str(files / "teacher.pth"), "--model.teacher_width", "8"]
    return [*data, *teacher, "--model.width", "0.125", "--model.voxel_size", "0.2", "--model.lr", "0.05", *QUIET]


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """The folder of a run of two epochs, of two steps each."""
    out = tmp_path_factory.mktemp("whole")
    command = ["fit", "ppkt", *given, "--out", str(out), "--data.batch_size", str(FEW), "--model.pictures", "1"]
    assert main(command) == 0
    return out / "version_0"


def log_of(folder, column="train/loss"):
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def weights_of(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def refused(arguments, capsys):
    """What is said on stderr where a run does not begin."""
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    return capsys.readouterr().err.removeprefix("Seed set to 0\n")


def test_a_run_goes_on_exactly_as_if_it_had_not_been_stopped(whole, given, tmp_path, monkeypatch):
    """With a worker, which reads ahead: before Lightning has said to the sampler which epoch is next."""
    step = PPKT.training_step

    def stopped(self, batch, i):
        if self.global_step == 3:  # in the middle of the second epoch
            raise RuntimeError("stopped")
        return step(self, batch, i)

    few = ["--data.batch_size", str(FEW), "--model.pictures", "0", "--out", str(tmp_path), "--data.workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(PPKT, "training_step", stopped)
        with pytest.raises(RuntimeError, match="stopped"):
            main(["fit", "ppkt", *given, *few])
    assert log_of(tmp_path / "version_0") == log_of(whole)[:3]
    last = tmp_path / "version_0" / "checkpoints" / "last.ckpt"
    again = ["fit", "ppkt", *QUIET, "--data.workers", "1", "--out", str(tmp_path)]
    assert main([*again, "--ckpt_path", str(last)]) == 0
    rest = tmp_path / "version_1"
    assert log_of(rest) == log_of(whole)[2:]
    assert log_of(rest, "val/retrieval") == log_of(whole, "val/retrieval")[1:]
    got, wanted = weights_of(rest), weights_of(whole)
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], w) for name, w in wanted.items())


def test_two_processes_learn_what_one_does_with_the_joint_batch(whole, given, tmp_path):
    command = ["fit", "ppkt", *given, "--out", str(tmp_path), "--data.batch_size", str(FEW // 2)]
    command += ["--model.pictures", "1", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "pyproj2d3d.cli", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path)  # not in a checkout
    assert done.returncode == 0, done.stderr
    two = tmp_path / "version_0"
    assert log_of(two) == pytest.approx(log_of(whole), rel=1e-4)  # sums are rounded otherwise
    assert log_of(two, "val/retrieval") == pytest.approx(log_of(whole, "val/retrieval"), rel=0.1)
    assert log_of(two, "val/chance") == pytest.approx(log_of(whole, "val/chance"))
    got = weights_of(two)
    for name, w in weights_of(whole).items():  # biases begin at nothing: they are what was learned
        assert (got[name] - w).abs().max() <= 0.02 * w.abs().max(), name
    assert len(list((two / "pictures").iterdir())) == 1


def test_bfloat16_trains(whole, given, tmp_path):
    command = ["fit", "ppkt", *given, "--out", str(tmp_path), "--data.batch_size", str(FEW), "--model.pictures", "0"]
    assert main([*command, "--trainer.precision", "bf16-mixed"]) == 0
    rounded, exact = log_of(tmp_path / "version_0"), log_of(whole)
    assert rounded[0] != exact[0]
    assert rounded == pytest.approx(exact, rel=0.02)
    weights = weights_of(tmp_path / "version_0")
    assert all(w.dtype == torch.float32 and bool(w.isfinite().all()) for w in weights.values() if w.is_floating_point())
    assert not torch.equal(weights["net.final.weight"], weights_of(whole)["net.final.weight"])


def tensorboard(folder):
    return ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", str(folder), "--trainer.logger.name="]


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_a_log_for_tensorboard_lies_beside_checkpoints_and_pictures(given, tmp_path):
    command = ["fit", "ppkt", *given, "--out", str(tmp_path), *tensorboard(tmp_path), "--trainer.max_epochs", "1"]
    assert main([*command, "--model.pictures", "1"]) == 0
    names = {path.name for path in (tmp_path / "version_0").iterdir()}
    assert {"checkpoints", "pictures", "config.yaml"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert "metrics.csv" not in names


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_a_log_for_tensorboard_without_it_is_refused(given, tmp_path, capsys):
    said = refused(["fit", "ppkt", *given, "--out", str(tmp_path / "out"), *tensorboard(tmp_path)], capsys)
    assert "pip install -U 'tensorboard'" in said
    assert not list(tmp_path.iterdir())


# Errors -------------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run_with_a_line(given, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["fit", "ppkt", *given, "--out", str(tmp_path), "--model.lr", "1e30", "--model.pictures", "0"])
    assert exit.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        r"pyproj2d3d: the loss must be finite, got nan in step 1: .* \(distributed.py, line \d+\)", said
    )
    assert len(log_of(tmp_path / "version_0")) == 1


def test_a_batch_without_depth_ends_the_run_with_a_line(given, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pyproj2d3d.papers.ppkt.subsets", lambda ptr, *_: [ptr[:0] for _ in ptr[1:]])
    with pytest.raises(SystemExit) as exit:
        main(["fit", "ppkt", *given, "--out", str(tmp_path), "--trainer.limit_val_batches", "0"])
    assert exit.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"pyproj2d3d: frames room\d/\S+, .*: must have pixels with depth, none of theirs has any \(", said)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_frame_that_cannot_be_read_ends_the_run_with_a_line(workers, files, given, tmp_path, capfd):
    rooms = tmp_path / "rooms"
    shutil.copytree(files / "rooms", rooms)
    broken = sorted(rooms.rglob("*.depth.png"))[0]
    broken.write_bytes(broken.read_bytes()[:100])
    given = [*given, "--data.root", str(rooms), "--data.workers", str(workers), "--trainer.limit_val_batches", "0"]
    with pytest.raises(SystemExit) as exit:
        main(["fit", "ppkt", *given, "--out", str(tmp_path / "out")])
    assert exit.value.code == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert re.fullmatch(rf"pyproj2d3d: {broken}: .* \(\w+.py, line \d+\)", said)


@pytest.mark.parametrize(
    ("paper", "arguments", "message"),
    [
        ("ppkt", ["--model.teacher_weights", "missing.pth"], r"No such file or directory: 'missing.pth'"),
        ("ppkt", ["--model.teacher_weights", "{}/34.pth"], r"\S+34.pth must hold a ResNet-18, got other weights: .*"),
        ("ppkt", ["--model.teacher", "50"], r"\S+teacher.pth must hold a ResNet-50, got a ResNet-18"),
        ("ppkt", ["--init", "{}/34.pth"], r"\S+34.pth: the weights do not fit SRUNet: .* must have shape .*"),
        ("ppkt", ["--init", "missing.ckpt"], r"--init missing.ckpt: there is no such file"),
        ("ppkt", ["--ckpt_path", "{}/34.pth"], r"\S+34.pth: must be a checkpoint of a run, got .*"),
        (
            "ppkt_global",
            ["--model.loss", "kd", "--model.teacher_weights", "{}/moco.pth"],
            r"\S+moco.pth must hold a classifier, fc.weight, for loss='kd', and has none",
        ),
    ],
)
def test_weights_of_another_network_are_a_line(paper, arguments, message, files, given, tmp_path, capsys):
    out = tmp_path / "out"
    said = refused(["fit", paper, *given, "--out", str(out), *(a.format(files) for a in arguments)], capsys)
    assert re.fullmatch(rf"pyproj2d3d: (\[Errno 2\] )?{message}\n", said)
    assert not out.exists()


def test_a_teacher_that_cannot_be_downloaded_is_a_line(given, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    said = refused(["fit", "ppkt", *given, "--model.teacher_weights", "IMAGENET1K_V1"], capsys)
    assert re.fullmatch(
        r"pyproj2d3d: teacher_weights IMAGENET1K_V1 cannot be downloaded \(.*\): give a file .*\n", said
    )
