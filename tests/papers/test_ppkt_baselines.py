"""Does each baseline lose what its paper says, learn from it, and leave a student that segmentation begins from?"""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

pytest.importorskip("lightning", reason="the extra train is not installed")

from lightning.pytorch import Trainer

from pyproj2d3d import train
from pyproj2d3d.data import write_room
from pyproj2d3d.data.transforms import Compose
from pyproj2d3d.nn.resnet import Frozen, ResNet
from pyproj2d3d.nn.resnet_fcn import ResNetFCN
from pyproj2d3d.nn.sr_unet import NETS, SRUNet
from pyproj2d3d.nn.voxel_input import voxel_tensor
from pyproj2d3d.papers import ppkt_baselines
from pyproj2d3d.papers.ppkt import PPKTData, lifted
from pyproj2d3d.papers.ppkt_baselines import (
    PPKD,
    GlobalDistillation,
    PointContrast,
    PointContrastData,
    divergence,
    pairs_of,
)
from pyproj2d3d.papers.segment3d import Segment3D

CLASSES = 5  # of the teachers
DECODED = ("convtr", "bntr", "block5", "block6", "block7", "block8", "final")


@pytest.fixture(scope="module", autouse=True)
def small_students():
    """SR-UNet 18 with fewer and narrower layers of the same names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETS, "sr_unet18", partial(SRUNet, layers=(1,) * 8, planes=(16,) * 8, init_dim=16))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    for i in range(2):
        write_room(folder / f"room{i}", frames=3, points=60, seed=i, size=(48, 64))
    return str(folder)


@pytest.fixture(scope="module")
def batch(root):
    """Four frames as they are: three of the first room and one of the second."""
    data = PPKTData(root, every=1, size=(48, 64), batch_size=4, workers=0)
    return next(iter(data.val_dataloader()))


@pytest.fixture(scope="module")
def pairs(root):
    """Two pairs of frames."""
    return next(iter(pairs_data(root).val_dataloader()))


def pairs_data(root, **keywords):
    return PointContrastData(root, **{"every": 1, "size": (48, 64), "batch_size": 2, "workers": 0, **keywords})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of a ResNet-18 and a ResNet-FCN with norms that know what their layer gives."""
    folder, teachers = tmp_path_factory.mktemp("teachers"), {}
    torch.manual_seed(0)
    for name, net in (("resnet", ResNet(18, num_classes=CLASSES, width=8)), ("fcn", ResNetFCN(18, CLASSES, width=8))):
        net.train()
        for _ in range(3):
            net((255 * torch.rand(4, 48, 64, 3)).to(torch.uint8))
        teachers[name] = str(folder / f"{name}.pth")
        torch.save(net.state_dict(), teachers[name])
    return teachers


@pytest.fixture(scope="module")
def model_of(weights):
    small = {"net": "sr_unet18", "voxel_size": 0.2}
    teacher = {"teacher": 18, "teacher_width": 8}

    def make(kind, **keywords):
        torch.manual_seed(0)
        if kind == "ppkd":
            return PPKD(**{"teacher_weights": weights["fcn"], **small, **teacher, "pairs": 64, **keywords})
        if kind == "pointcontrast":
            return PointContrast(**{**small, "pairs": 64, "val_pairs": 32, "overlap": 0.1, **keywords})
        few = {"teacher_weights": weights["resnet"], "embedding": 16, "memory": 6}
        return GlobalDistillation(kind, **{**small, **teacher, **few, **keywords})

    return make


def without_depth(batch, views):
    depth = batch.depth.clone()
    depth[views] = 0
    return replace(batch, depth=depth)


EACH = ["kd", "l2", "crd", "ppkd", "pointcontrast"]


@pytest.fixture
def batch_of(batch, pairs):
    return lambda kind: pairs if kind == "pointcontrast" else batch


def trained(model, batch, steps, lr=0.05):
    """The losses of so many steps with one batch."""
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=lr, momentum=0.9)
    losses = []
    for step in range(steps):
        loss = model.train().training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# What is lost -------------------------------------------------------------------------------------------------------


def test_a_divergence_by_hand():
    """KL((1/2, 1/2) || (1/4, 3/4)) = log 2 - log 3 / 2."""
    student, teacher = torch.tensor([[0.0, math.log(3)]]), torch.zeros(1, 2)
    assert_close(divergence(student, teacher, 1.0), torch.tensor([math.log(2) - math.log(3) / 2]))
    assert divergence(teacher, teacher, 1.0).item() == 0
    softer = torch.tensor([[0.0, 2 * math.log(3)]])
    assert_close(divergence(softer, teacher, 2.0), 4 * divergence(student, teacher, 1.0))
    assert divergence(student, teacher, 1.0) != divergence(teacher, student, 1.0)


def said_by_hand(model, batch):
    """Of each frame: the mean over the encoder's voxels after the linear layer, and the teacher's map."""
    frames = lifted(batch)
    points = model.varied(frames, model.draws(frames, 0))
    encoded = model.net.encode(voxel_tensor(points, frames.colors, 0.2, frames.ptr)[0])[-1]
    pooled = [encoded.features[encoded.indices[:, 0] == v].mean(0) for v in range(4)]
    return model.head(torch.stack(pooled)), model.teacher(frames.color)[-1]


def test_global_distillation_compares_the_classes_of_whole_frames(model_of, batch, weights):
    model = model_of("kd", temperature=3.0)
    student, last = said_by_hand(model, batch)
    file = torch.load(weights["resnet"])
    teacher = last.mean((2, 3)) @ file["fc.weight"].T + file["fc.bias"]
    wanted = 9 * F.kl_div((student / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="batchmean")
    assert student.shape == teacher.shape == (4, CLASSES)
    assert wanted > 0
    assert_close(model.training_step(batch, 0), wanted)
    assert model_of("kd").temperature == 4.0


def test_gupta_compares_the_features_of_whole_frames(model_of, batch):
    model = model_of("l2")
    student, last = said_by_hand(model, batch)
    assert_close(model.training_step(batch, 0), ((student - last.mean((2, 3))) ** 2).mean())


def test_crd_tells_the_frame_from_those_of_the_batch_and_of_the_memory(model_of, batch):
    model = model_of("crd")
    past = torch.randn(2, 64)
    model.memory[:2], model.memory_of[:2] = past, torch.tensor([7, 8])
    student, last = said_by_hand(model, batch)
    candidates = model.teacher_head(torch.cat((last.mean((2, 3)), past)))
    logits = F.normalize(student, dim=1) @ F.normalize(candidates, dim=1).T / 0.07
    assert logits.shape == (4, 6)
    assert_close(model.training_step(batch, 0), F.cross_entropy(logits, torch.arange(4)))
    assert_close(model.memory, torch.cat((last.mean((2, 3)), past)))  # the newest first
    assert model.memory_of[4:].tolist() == [7, 8]


def test_a_frame_is_no_negative_of_its_own_past(model_of):
    model = model_of("crd")
    student, teacher, key = torch.randn(2, 16), torch.randn(2, 64), torch.tensor([1, 2])

    def lost(negatives, i):
        every = F.normalize(model.teacher_head(torch.cat((teacher[i][None], negatives))), dim=1)
        return F.cross_entropy((F.normalize(student[i], dim=0) @ every.T / 0.07)[None], torch.tensor([0]))

    first = model.contrasted(student, teacher, key)
    assert_close(first, (lost(teacher[1:], 0) + lost(teacher[:1], 1)) / 2)
    assert_close(model.contrasted(student, teacher, key), (lost(teacher[[1, 1]], 0) + lost(teacher[[0, 0]], 1)) / 2)
    assert model.memory_of.tolist() == [1, 2, 1, 2, -1, -1]
    assert model.contrasted(student, teacher, torch.tensor([3, 4])) > first
    model.contrasted(student, teacher, torch.tensor([5, 6]))
    assert model.memory_of.tolist() == [5, 6, 3, 4, 1, 2]


@pytest.mark.parametrize("loss", ["kd", "l2", "crd"])
def test_a_student_finds_the_teacher_with_which_it_loses_least(model_of, loss):
    model = model_of(loss)
    student = torch.randn(3, {"kd": CLASSES, "l2": 64, "crd": 16}[loss])
    teacher = torch.randn(4, {"kd": CLASSES, "l2": 64, "crd": 64}[loss])
    anchors, candidates = model.comparable(student, teacher)
    if loss == "kd":
        lost = torch.stack([divergence(student, t.expand_as(student), 4.0) for t in teacher], 1)
    elif loss == "l2":
        lost = torch.cdist(student, teacher).square()
    else:
        lost = torch.cdist(F.normalize(student, dim=1), F.normalize(model.teacher_head(teacher), dim=1)).square()
    assert torch.equal((anchors @ candidates.T).argsort(1, descending=True), lost.argsort(1))


def test_ppkd_compares_the_classes_of_points_with_those_of_the_upsampled_logits(model_of, batch):
    model = model_of("ppkd", temperature=2.0)
    frames = lifted(batch)
    draws = model.draws(frames, 0)
    x, voxels = voxel_tensor(model.varied(frames, draws), frames.colors, 0.2, frames.ptr)
    row = torch.cat(model.choose(16, frames, voxels, draws))
    student = model.net(x).features[voxels.inverse[row]]
    _, small = model.teacher(frames.color)
    built = F.interpolate(small, (48, 64), mode="bilinear").permute(0, 2, 3, 1).flatten(0, 2)
    wanted = (built[frames.at[row]] / 2).softmax(1)
    lost = 4 * F.kl_div((student / 2).log_softmax(1), wanted, reduction="batchmean")
    assert student.shape == (64, CLASSES)
    assert_close(model.training_step(batch, 0), lost)


def as_compared(model, pairs):
    """Frames, draws and voxels of the first epoch: a frame is turned otherwise where it comes second."""
    frames = pairs_of(pairs)
    draws = model.draws(frames._replace(names=[f"{name} {i % 2}" for i, name in enumerate(frames.names)]), 0)
    x, voxels = voxel_tensor(model.varied(frames, draws), torch.ones_like(frames.points), 0.2, frames.ptr)
    return frames, draws, x, voxels


def test_pointcontrast_tells_a_place_from_all_others(model_of, pairs):
    model = model_of("pointcontrast", pairs=20)
    frames, draws, x, voxels = as_compared(model, pairs)
    feature = F.normalize(model.net(x).features, dim=1)
    some = [
        both[:, torch.randperm(both.shape[1], generator=rng)[:10]]
        for both, rng in zip(model.places(frames, voxels), draws[::2], strict=True)
    ]
    first, second = torch.cat(some, 1)
    assert len(first) == 20
    logits = feature[first] @ feature[second].T / 0.4
    assert_close(model.training_step(pairs, 0), F.cross_entropy(logits, torch.arange(20)))


def test_a_place_is_the_nearest_voxel_of_the_other_view_within_reach(model_of, pairs):
    model = model_of("pointcontrast")
    frames, _, _, voxels = as_compared(model, pairs)
    mean = torch.stack([frames.points[voxels.inverse == m].mean(0) for m in range(len(voxels))])
    view = voxels.coords[:, 0]
    for pair, (first, second) in enumerate(model.places(frames, voxels)):
        one, other = ((view == 2 * pair + i).nonzero()[:, 0] for i in (0, 1))
        distance, nearest = torch.cdist(mean[one], mean[other]).min(1)
        assert torch.equal(first, one[distance <= 0.3])
        assert torch.equal(second, other[nearest[distance <= 0.3]])
        assert 0 < len(first) < len(one)


def test_a_pair_that_overlaps_too_little_is_left_out(model_of, pairs):
    frames = pairs_of(pairs)
    model = model_of("pointcontrast")
    voxels = voxel_tensor(frames.points, frames.colors, 0.2, frames.ptr)[1]
    sizes = [both.shape[1] for both in model.places(frames, voxels)]
    points = [voxels.counts[first].sum().item() for first, _ in model.places(frames, voxels)]
    shares = [n / of_first for n, of_first in zip(points, frames.ptr.diff()[::2].tolist(), strict=True)]
    assert shares[0] != shares[1]
    model.overlap = (shares[0] + shares[1]) / 2
    kept = [both.shape[1] for both in model.places(frames, voxels)]
    assert kept == [size if share > model.overlap else 0 for size, share in zip(sizes, shares, strict=True)]
    model.overlap = 1.0
    message = r"frames room0/\S+, .*: must be pairs that overlap enough, none of theirs does: is every too large"
    with pytest.raises(ValueError, match=message):
        model.training_step(pairs, 0)


@pytest.mark.parametrize("upright", [False, True])
def test_each_view_is_turned_by_itself(model_of, pairs, monkeypatch, upright):
    """So that a place in one lies elsewhere in the other, and up is no longer up, where that is wanted."""
    model, frames = model_of("pointcontrast", upright=upright), pairs_of(pairs)
    given = []
    monkeypatch.setattr(ppkt_baselines, "voxel_tensor", lambda points, *rest: given.append(points) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.compared(frames, 1, 0)
    turns, sizes = [], frames.ptr.diff().tolist()
    for before, after in zip(frames.points.split(sizes), given[0].split(sizes), strict=True):
        rigid = torch.linalg.lstsq((before - before[0]).double(), (after - after[0]).double()).solution
        assert_close(rigid @ rigid.T, torch.eye(3).double(), atol=1e-4, rtol=0)
        turns.append(rigid)
    x, _, up = torch.stack(turns).unbind(1)
    assert torch.pdist(x).min() > 0.1
    assert torch.pdist(up).min() > 0.1 or upright
    assert torch.allclose(up, torch.eye(3).double()[2], atol=1e-4) == upright


def test_pointcontrast_sees_colours_only_where_asked(model_of, pairs):
    grey = replace(pairs, color=torch.full_like(pairs.color, 99))
    for features, same in (("ones", True), ("color", False)):
        model = model_of("pointcontrast", features=features)
        assert (model.training_step(pairs, 0) == model.training_step(grey, 0)).item() == same


# Learning -----------------------------------------------------------------------------------------------------------


class MeanColours(torch.nn.Module):
    """A teacher from which there is something to learn in a few steps."""

    def forward(self, color):
        small = F.avg_pool2d(color.permute(0, 3, 1, 2) / 255.0, 4)
        return [small, 8 * small]  # features and logits of an FCN; the last is that of a ResNet, too


class OfTheFrame(ResNet):
    """Its mean colours, far apart; as classes, too."""

    def __init__(self):
        super().__init__(18, width=1)

    def forward(self, color):
        mean = color.float().mean((1, 2))
        return [((mean - mean.mean(0)) / mean.std(0))[:, :, None, None]]

    def classify(self, last):
        return 8 * F.pad(last.mean((2, 3)), (0, CLASSES - 3))


def test_places_learn_to_find_themselves(model_of, pairs):
    model = model_of("pointcontrast", temperature=0.1, bn_momentum=0.5, upright=True)
    losses = trained(model, pairs, 15, lr=0.2)
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.mark.parametrize("kind", EACH)
def test_a_step_leaves_the_teacher_alone_and_reaches_the_student(model_of, batch_of, kind):
    model = model_of(kind).train()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    trained(model, batch_of(kind), 1)
    changed = {name for name, w in model.state_dict().items() if not torch.equal(w, before[name])}
    assert not any(name.startswith("teacher.") for name in changed)
    assert {"net.conv0p1s1.weight", "net.block4.0.conv1.weight"} <= changed
    decoded = {name for name in changed if name.removeprefix("net.").startswith(DECODED)}
    assert bool(decoded) == (kind in ("ppkd", "pointcontrast"))


@pytest.mark.parametrize("kind", EACH)
def test_frames_without_depth_take_no_part_and_a_batch_without_any_is_named(model_of, batch_of, kind):
    batch = batch_of(kind)
    assert math.isfinite(model_of(kind).training_step(without_depth(batch, [2, 3]), 0).item())
    with pytest.raises(ValueError, match=r"frames room0/\S+, .* must .* none of theirs"):
        model_of(kind).training_step(without_depth(batch, slice(None)), 0)
    with pytest.raises(ValueError, match=r"scenes room0, .*: must have frames, theirs have none"):
        model_of(kind).training_step(replace(batch, depth=None, color=None, camera=None), 0)


@pytest.mark.parametrize("kind", EACH)
def test_a_loss_that_is_not_finite_ends_the_run(model_of, batch_of, kind):
    model = model_of(kind)
    last = model.net.final if kind in ("ppkd", "pointcontrast") else model.head
    last.bias.data[0] = math.nan
    with pytest.raises(ValueError, match=r"the loss must be finite, got nan in step 0: is lr too high\?"):
        model.training_step(batch_of(kind), 0)


@pytest.mark.parametrize("kind", EACH)
def test_a_step_in_bfloat16_is_near_that_in_float32(model_of, batch_of, kind):
    exact = model_of(kind).training_step(batch_of(kind), 0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model_of(kind).training_step(batch_of(kind), 0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.1)


# A run --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EACH)
def test_segmentation_begins_from_its_checkpoint(model_of, root, kind, tmp_path):
    """A short run, with a validation, whose checkpoint has all of it."""
    model = model_of(kind, lr=0.05)
    before = {name: w.clone() for name, w in model.net.state_dict().items()}
    data = (
        pairs_data(root) if kind == "pointcontrast" else PPKTData(root, every=1, size=(48, 64), batch_size=4, workers=0)
    )
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, check_val_every_n_epoch=2, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    scores = trainer.callback_metrics
    assert 0 <= scores[model.MONITOR].item() <= 1
    chance = {"ppkd": 1 / CLASSES, "pointcontrast": 1 / 32}.get(kind, 1 / 6)
    assert scores["val/chance"].item() == pytest.approx(chance)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.09 * 0.05)

    begun = Segment3D(["floor", "wall"], net="sr_unet18", init=str(tmp_path / "last.ckpt")).net.state_dict()
    learned = {name: w for name, w in model.net.state_dict().items() if not name.startswith("final.")}
    assert all(torch.equal(begun[name], w) for name, w in learned.items())
    same = {name for name, w in learned.items() if torch.equal(w, before[name]) and "running" not in name}
    decoder = {name for name in learned if name.startswith(DECODED) and name.endswith("weight")}
    assert decoder
    assert (decoder <= same) == (kind in ("kd", "l2", "crd"))

    again = type(model).load_from_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    assert again.hparams == model.hparams
    for (name, got), wanted in zip(again.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(got, wanted), name


@pytest.mark.parametrize("loss", ["kd", "l2", "crd"])
def test_a_student_that_has_learned_finds_its_frame(model_of, batch, loss):
    """Twenty steps with four frames that are not varied, and a teacher that tells them apart."""
    model = model_of(loss, bn_momentum=0.5, memory=0)
    model.teacher, model.vary = Frozen(OfTheFrame()), Compose([])
    if loss != "kd":
        model.head = torch.nn.Linear(16, 3 if loss == "l2" else 16)
        model.teacher_head, model.memory = torch.nn.Linear(3, 16), torch.zeros(0, 3)
    losses = trained(model, batch, 20, lr=0.1)
    assert losses[-1] < 0.7 * losses[0]
    model.trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    model.log = lambda *_, **__: None  # it is not in its loop
    model.eval().on_validation_start()
    model.validation_step(batch, 0)
    model.on_validation_epoch_end()
    assert model.tally[1:].tolist() == [1, 4]
    assert model.tally[0] >= 3


def test_ppkd_comes_to_agree(model_of, batch, root):
    """With a teacher whose classes are red, green and blue."""
    model = model_of("ppkd", distort=False, bn_momentum=0.5, pairs=512)
    model.teacher, model.net.final = Frozen(MeanColours()), type(model.net.final)(16, 3, 1)
    model.classes = 3
    losses = trained(model, batch, 12, lr=0.1)
    assert losses[-1] < 0.7 * losses[0]
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    data = PPKTData(root, every=1, size=(48, 64), batch_size=4, workers=0)
    (scores,) = trainer.validate(model, data, verbose=False)
    assert scores["val/agreement"] > 0.6


def test_validation_without_anything_to_compare_is_named(model_of, root):
    class Blind(PointContrastData):
        def transfer_batch_to_device(self, batch, *_):
            return without_depth(batch, slice(None))

    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    blind = Blind(root, every=1, size=(48, 64), workers=0)
    with pytest.raises(ValueError, match="validation frames must be pairs that overlap enough, none of these does"):
        trainer.validate(model_of("pointcontrast"), blind, verbose=False)


@pytest.mark.filterwarnings("ignore")  # what Lightning and jsonargparse say of each other
@pytest.mark.parametrize("command", ["ppkt_global", "ppkd", "pointcontrast"])
def test_it_is_trained_from_the_command_line(root, weights, tmp_path, command):
    given = ["--data.root", root, "--data.every", "1", "--data.size", "[48, 64]", "--data.workers", "0"]
    if command != "pointcontrast":
        kind = weights["resnet" if command == "ppkt_global" else "fcn"]
        given += ["--model.teacher_weights", kind, "--model.teacher_width", "8", "--model.teacher_prefix", ""]
    given += ["--model.voxel_size", "0.2", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    given += ["--out", str(tmp_path), "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1"]
    train.run("fit", command, given)
    assert len(list(tmp_path.rglob("best-0-*.ckpt"))) == 1


# Bad input ----------------------------------------------------------------------------------------------------------


def test_a_teacher_without_a_classifier_is_named(model_of, weights, tmp_path):
    state = torch.load(weights["resnet"])
    bare = {name: w for name, w in state.items() if not name.startswith("fc.")}
    torch.save(bare, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=r"bare.pth must hold a classifier, fc.weight, for loss='kd', and has none"):
        model_of("kd", teacher_weights=str(tmp_path / "bare.pth"))
    assert model_of("crd", teacher_weights=str(tmp_path / "bare.pth")).teacher.net.fc is None
    moco = {f"encoder_q.{name}": w for name, w in state.items()}  # whose fc gives an embedding
    torch.save(moco, tmp_path / "moco.pth")
    for prefix in ("", "encoder_q."):
        with pytest.raises(ValueError, match=r"moco.pth must hold a classifier, .* for loss='kd', and has none"):
            model_of("kd", teacher_weights=str(tmp_path / "moco.pth"), teacher_prefix=prefix)
    torch.save({f"net.{name}": w for name, w in state.items()}, tmp_path / "fit.ckpt")
    model = model_of("kd", teacher_weights=str(tmp_path / "fit.ckpt"), teacher_prefix="net.")
    assert_close(model.teacher.net.fc.weight, state["fc.weight"])


def test_a_random_teacher_is_warned_of(capsys):
    assert GlobalDistillation("kd", "sr_unet18", 18, "random").head.out_features == 1000
    assert "the teacher, a ResNet-18, has random weights" in capsys.readouterr().err
    assert PPKD("random", "sr_unet18", 18).net.final.out_channels == 150
    assert "the teacher, a ResNet-FCN-18, has random weights" in capsys.readouterr().err


def test_a_teacher_of_another_kind_is_named(model_of, weights):
    with pytest.raises(ValueError, match="must hold a ResNet-FCN, got other weights"):
        model_of("ppkd", teacher_weights=weights["resnet"])
    with pytest.raises(ValueError, match="must hold a ResNet-FCN of depth 50, got one of 18"):
        model_of("ppkd", teacher=50)
    with pytest.raises(ValueError, match="must hold a ResNet-50, got a ResNet-18"):
        model_of("l2", teacher=50)
    with pytest.raises(ValueError, match="teacher_weights must be a file of a ResNet-FCN, got 'IMAGENET1K_V1'"):
        model_of("ppkd", teacher_weights="IMAGENET1K_V1")


def test_a_frame_must_be_told_from_something(model_of, batch):
    message = "a frame must have others to be told from: batch_size or memory must be above 1 or 0"
    with pytest.raises(ValueError, match=message):
        model_of("crd", memory=0).training_step(without_depth(batch, [0, 1, 2]), 0)
    assert model_of("crd", memory=1).training_step(without_depth(batch, [0, 1, 2]), 0).item() == 0  # the first step


def test_single_frames_are_no_pairs(model_of, batch):
    with pytest.raises(ValueError, match=r"scenes room0, .*: must have two frames in each sample, see FramePairs"):
        model_of("pointcontrast").training_step(batch, 0)


@pytest.mark.parametrize(
    ("kind", "keywords", "message"),
    [
        ("cosine", {}, "loss must be 'kd' or 'l2' or 'crd', got 'cosine'"),
        ("kd", {"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ("crd", {"memory": -1}, "memory must be at least 0, got -1"),
        ("ppkd", {"temperature": math.inf}, "temperature must be positive and finite, got inf"),
        ("ppkd", {"val_pairs": 0}, "val_pairs must be at least 1, got 0"),
        ("pointcontrast", {"features": "normals"}, "features must be 'ones' or 'color', got 'normals'"),
        ("pointcontrast", {"near": 0.0}, "near must be positive and finite, got 0.0"),
        ("pointcontrast", {"overlap": 2.0}, "overlap must be from 0 to 1, got 2.0"),
    ],
)
def test_what_a_model_cannot_be_is_named(model_of, kind, keywords, message):
    with pytest.raises(ValueError, match=message):
        model_of(kind, **keywords)


def test_pairs_of_data_must_overlap_by_a_share(root):
    with pytest.raises(ValueError, match="overlap must be from 0 to 1, got 30"):
        pairs_data(root, overlap=30)
