"""Does VoteNet find what it has seen, know its boxes wherever it goes on, and say what it cannot be trained on?"""

import csv
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

pytest.importorskip("lightning", reason="the extra train is not installed")

from detected_clouds import (
    FLOOR,
    SIZES,
    SMALL_NET,
    THINGS,
    Things,
    batch_of,
    boxes_of,
    gradients,
    gradients_of_its_own,
)
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from two_processes import in_processes

from pyproj2d3d.data import RoomOptions
from pyproj2d3d.data.synth.generate import generate
from pyproj2d3d.losses.votenet_boxes import points_inside
from pyproj2d3d.metrics import detection_scores, match_boxes
from pyproj2d3d.papers import votenet
from pyproj2d3d.papers.votenet import VoteNetData, VoteNetDetector, class_table, true_boxes

CLASSES = ["tall", "flat"]
SMALL = {"net": "sr_unet18", "voxel_size": 0.2, "n_seeds": 64, "n_proposals": 16}
KNOWN = {"mean_sizes": SIZES.tolist(), "n_headings": 1}
TURNED = partial(Things, having="boxes")


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(votenet.NETS, "sr_unet18", SMALL_NET)
        yield


def data_of(things=Things, **options):
    return VoteNetData(things, **{"batch_size": 2, "workers": 0, **options})


def augmented(things=Things):
    return next(iter(data_of(things).train_dataloader()))


def model_of(**options):
    torch.manual_seed(0)
    return VoteNetDetector(CLASSES, **{**SMALL, **KNOWN, **options})


def trained(folder, epochs, *, resume=None, things=Things, data=None, **options):
    """The model, and where its log is; the checkpoints of all epochs are in ``kept``."""
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=CSVLogger(folder, name=""),
        callbacks=[ModelCheckpoint(folder / "kept", filename="{epoch}", save_top_k=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    torch.manual_seed(0)
    model = VoteNetDetector(CLASSES, **{**SMALL, **options})
    trainer.fit(model, datamodule=data or data_of(things), ckpt_path=resume)
    return model, Path(trainer.log_dir)


def log_of(folder, *columns):
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [[float(row[column]) for row in rows if row[column]] for column in columns]


def scored(model, batch):
    """Its mean average precision at an IoU of 0.25 and 0.5."""
    model.eval()
    model.log, model.stage = lambda *_, **__: None, "val"
    with torch.no_grad():
        model.validation_step(batch, 0)
    scores = model.val_scores.compute()
    model.val_scores.reset()
    model.train()
    return scores.map25.item(), scores.map50.item()


def steps(model, batch, n, lr=3e-3):
    """The losses of so many, of one batch."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.momentum = 0.3
    model.log = model.log_dict = lambda *_, **__: None
    optimizer, losses = torch.optim.Adam(model.parameters(), lr), []
    for _ in range(n):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# What is learned ------------------------------------------------------------------------------------------------------


def test_one_scene_is_learned_by_heart():
    batch, model = batch_of(0), model_of(n_proposals=64)
    assert scored(model, batch)[0] < 0.3
    losses = steps(model, batch, 80)
    assert losses[-1] < 0.2 * losses[0]
    assert scored(model, batch)[0] > 0.8


def test_turned_boxes_are_learned_with_their_headings():
    model = model_of(n_headings=12, n_proposals=64)
    losses = steps(model, batch_of(0, having="boxes"), 80)
    assert sum(losses[-10:]) / 10 < 0.3 * losses[0]


def test_a_run_leaves_a_log_a_table_and_a_checkpoint_that_knows_its_boxes(tmp_path):
    model, folder = trained(tmp_path, 2)
    loss, epoch_vote, map25, map50 = log_of(folder, "train/loss", "train/vote", "val/map25", "val/map50")
    assert [len(column) for column in (loss, epoch_vote, map25, map50)] == [2, 2, 2, 2]
    assert len(log_of(folder, "val/loss")[0]) == 2
    table = (folder / "classes.md").read_text().splitlines()
    assert [line.split()[1] for line in table] == ["class", "-----", "tall", "flat", "mean"]
    names = {batch.scenes for batch in data_of().val_dataloader()}
    assert {path.stem for path in (folder / "pictures").iterdir()} == {name for scenes in names for name in scenes}
    kept = tmp_path / "kept" / "epoch=1.ckpt"
    again = VoteNetDetector.load_from_checkpoint(kept, map_location="cpu", weights_only=True)
    assert_close(again.coder.mean_sizes, SIZES)  # all things of a class are alike
    assert again.coder.n_headings == 1
    assert again.hparams["mean_sizes"] == model.coder.mean_sizes.tolist()
    assert scored(again, batch_of(0, 1)) == scored(model, batch_of(0, 1))


def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_not_been_stopped(tmp_path):
    _, whole = trained(tmp_path / "whole", 4)
    _, rest = trained(tmp_path / "rest", 4, resume=tmp_path / "whole" / "kept" / "epoch=1.ckpt")
    columns = ("train/loss", "train/center", "val/loss", "val/map25")
    for of_whole, of_rest in zip(log_of(whole, *columns), log_of(rest, *columns), strict=True):
        assert of_rest == of_whole[len(of_whole) // 2 :]


def test_the_rate_falls_and_norms_slow_down_at_shares_of_the_run():
    model = model_of(lr=1.0, falls=(0.5, 0.75), bn_halvings=4)
    model.trainer = type("Half", (), {"estimated_stepping_batches": 8, "global_step": 5})()
    model.on_train_batch_start(None, 0)
    norms = [norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm1d)]
    assert set(norms) == {0.5 * 0.5**2}
    assert len(norms) > 20
    plan = model.configure_optimizers()
    rates = []
    for _ in range(8):
        rates.append(plan["optimizer"].param_groups[0]["lr"])
        plan["optimizer"].step()
        plan["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    model.trainer.global_step = 8
    model.hparams["bn_halvings"] = model.bn_halvings = 40
    model.on_train_batch_start(None, 0)
    assert next(n.momentum for n in model.modules() if isinstance(n, nn.BatchNorm1d)) == 0.001


def test_training_begins_from_a_checkpoint_but_for_the_last_layer(tmp_path):
    before = model_of()
    torch.save({"state_dict": before.state_dict()}, tmp_path / "some.ckpt")
    torch.manual_seed(1)
    after = VoteNetDetector(["a"], **SMALL, init=str(tmp_path / "some.ckpt"))
    for name, weight in after.net.state_dict().items():
        if not name.startswith("final."):
            assert torch.equal(weight, before.net.state_dict()[name]), name
    assert not torch.equal(after.net.final.weight, before.net.final.weight)
    with pytest.raises(ValueError, match="do not fit SRUNet"):
        model_of(width=0.5, init=str(tmp_path / "some.ckpt"))


@pytest.mark.parametrize("having", ["instances", "boxes"])
def test_bfloat16_trains(having):
    batch, model = batch_of(0, 1, having=having), model_of(n_headings=12)
    model.log = model.log_dict = lambda *_, **__: None
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.training_step(batch, 0)
        scored(model, batch)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_two_processes_train_as_one_with_the_joint_batch(tmp_path):
    one, two = gradients([0, 1]), in_processes(2, gradients_of_its_own, tmp_path)
    for name, wanted in one.items():
        assert_close((two[0][name] + two[1][name]) / 2, wanted, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


# Boxes and points -----------------------------------------------------------------------------------------------------


def test_boxes_are_around_all_points_of_objects_and_floors_have_none():
    batch, boxes = batch_of(0, 1), true_boxes(batch_of(0, 1))
    assert boxes.ptr.tolist() == [0, 3, 6]
    for b, name in enumerate(("train0", "train1")):
        wanted = boxes_of(name, turned=False)
        assert_close(boxes.box[3 * b : 3 * b + 3], wanted.box, atol=1e-5, rtol=0)
        assert torch.equal(boxes.label[3 * b : 3 * b + 3], wanted.label)
    assert batch.point_semantic.unique().tolist() == [-1, 0, 1]


def test_boxes_are_around_points_where_augmentation_has_put_them():
    batch = augmented()
    boxes = true_boxes(batch)
    straight = {name: boxes_of(name, turned=False).box for name in batch.scenes}
    for b, name in enumerate(batch.scenes):
        mine = boxes.box[boxes.ptr[b] : boxes.ptr[b + 1]]
        assert (mine[:, 6] == 0).all()
        grown = mine[:, 3:5] - straight[name][:, 3:5]  # by a turn of up to 5 degrees, seen from above
        assert (grown > 0).all()
        assert (grown < 1.1 * math.sin(math.radians(5))).all()
        assert_close(mine[:, 5], straight[name][:, 5])


def test_turned_boxes_go_with_their_points():
    data = data_of(TURNED)
    seen = set()
    for _ in range(4):
        for batch in data.train_dataloader():
            boxes = true_boxes(batch)
            for b in range(2):
                points = batch.points[batch.ptr[b] : batch.ptr[b + 1]]
                mine = boxes.box[boxes.ptr[b] : boxes.ptr[b + 1]].clone()
                mine[:, 3:6] *= 1.001
                inside = points_inside(points[FLOOR:], mine).view(3, THINGS, 3)
                assert torch.equal(inside.all(1), torch.eye(3, dtype=torch.bool))
                mine[:, 3:6] *= 0.99
                assert not points_inside(points[FLOOR:], mine).any()  # all are on their faces
                seen.add(round(mine[0, 3].item(), 4))
    assert len(seen) == 8  # of another scale each


def test_points_are_drawn_scene_by_scene_and_anew_in_each_epoch():
    batch, model = batch_of(0, 1), model_of(points=500)
    rows, ptr = model.drawn(batch, "0")
    assert ptr.tolist() == [0, 500, 1000]
    assert len(rows.unique()) == 1000
    assert torch.equal(rows[:500] < batch.ptr[1], torch.ones(500, dtype=torch.bool))
    assert torch.equal(rows[500:] < batch.ptr[1], torch.zeros(500, dtype=torch.bool))
    alone = replace(batch, scenes=batch.scenes[1:], ptr=batch.ptr[1:] - batch.ptr[1])
    assert torch.equal(model.drawn(alone, "0")[0], rows[500:] - batch.ptr[1])
    assert not torch.equal(model.drawn(batch, "1")[0], rows)
    assert not torch.equal(model_of(points=500, seed=1).drawn(batch, "0")[0], rows)
    assert model_of(points=10**6).drawn(batch, "0")[0].tolist() == list(range(len(batch.points)))


def test_seeds_vote_for_the_centre_of_their_own_object():
    """A network that says nothing misses by the mean distance to the centres."""
    batch, model = batch_of(0, 1), model_of()
    boxes = true_boxes(batch)
    rows, ptr = model.drawn(batch, "0")
    proposals, row = model(batch, rows, ptr)
    assert torch.equal(batch.points[row], proposals.seed_xyz)
    losses = model.loss(batch, proposals._replace(vote_xyz=proposals.seed_xyz), row, boxes)
    of_box = torch.full((len(batch.points),), -1)
    for b in range(2):
        begin = batch.ptr[b] + FLOOR
        of_box[begin : batch.ptr[b + 1]] = 3 * b + torch.arange(3).repeat_interleave(THINGS)
    mine = of_box[row]
    miss = (boxes.box[mine[mine >= 0], :3] - proposals.seed_xyz[mine >= 0]).abs().sum(1)
    assert_close(losses.vote, miss.mean())


def test_shape_alone_is_seen_where_colour_is_not_asked_for():
    batch, model = batch_of(0, 1), model_of(features="ones")
    seen = []
    model.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].features))
    model(batch, *model.drawn(batch, "0"))
    assert seen[0].unique().tolist() == [1]


def test_the_table_has_a_row_for_each_class_and_none_for_what_does_not_occur():
    box = torch.tensor([[0.0, 0, 0, 1, 1, 1, 0], [5, 0, 0, 1, 1, 1, 0]])
    off = box + torch.tensor([0.5, 0, 0, 0, 0, 0, 0])  # an IoU of a third
    label, score = torch.tensor([0, 0]), torch.tensor([0.9, 0.8])
    scores = detection_scores([match_boxes(off[:1], label[:1], score[:1], box, label, 2)])
    assert class_table(["tall", "other"], scores).splitlines() == [
        "| class | AP .25 | AP .5 | recall .25 | recall .5 |",
        "| ----- | ------ | ----- | ---------- | --------- |",
        "| tall  |   50.0 |   0.0 |       50.0 |       0.0 |",
        "| other |        |       |            |           |",
        "| mean  |   50.0 |   0.0 |       50.0 |       0.0 |",
    ]


# Datasets -------------------------------------------------------------------------------------------------------------


def test_walls_and_floors_are_no_class_and_boxes_of_scenes_have_their_own():
    assert data_of(Things).classes == CLASSES
    assert data_of(TURNED).classes == CLASSES
    box, label = data_of(TURNED).training_boxes()
    assert torch.equal(box, torch.cat([boxes_of(f"train{i}").box for i in range(2)]))
    assert torch.equal(label, torch.cat([boxes_of(f"train{i}").label for i in range(2)]))
    half, _ = data_of(TURNED, fraction=0.5).training_boxes()
    assert len(half) == 3
    for rank in range(2):
        some, _ = data_of(Things).training_boxes(rank, 2)
        assert_close(some, boxes_of(f"train{rank}", turned=False).box, atol=1e-5, rtol=0)


def test_headings_get_twelve_bins_where_there_are_any(tmp_path):
    model, _ = trained(tmp_path, 1, things=TURNED)
    assert model.coder.n_headings == model.hparams["n_headings"] == 12
    assert_close(model.coder.mean_sizes, SIZES)


def test_images_of_sun_rgbd_are_clouds_with_the_boxes_of_votenets_own_form(tmp_path):
    batches = []
    for layout in ("sunrgbd", "votenet"):
        generate(tmp_path / layout, scenes=2, layout=layout, options=RoomOptions(1, (48, 64), spacing=0.5), processes=1)
        data = data_of(str(tmp_path / layout), train_split=None, val_split=None)
        assert data.classes[:4] == ["bed", "table", "sofa", "chair"]
        batches.append(next(iter(data.train_dataloader())))
    lifted, theirs = batches
    assert lifted.box_ptr[-1] > 1
    assert_close(lifted.box, theirs.box, atol=1e-3, rtol=0)
    assert torch.equal(lifted.box_label, theirs.box_label)
    first, boxes = slice(lifted.ptr[0], lifted.ptr[1]), slice(lifted.box_ptr[0], lifted.box_ptr[1])
    assert bool(points_inside(lifted.points[first], lifted.box[boxes]).any(0).all())
    assert torch.cdist(lifted.points[first], theirs.points[slice(*theirs.ptr[:2])]).amin(1).max() < 0.01


# Bad input ------------------------------------------------------------------------------------------------------------


def test_a_dataset_without_boxes_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"things: must have points with instances and classes, or boxes, scene None0"):
        data_of(partial(Things, having="nothing")).classes  # noqa: B018
    with pytest.raises(ValueError, match="training scenes must have boxes, these have none"):
        trained(tmp_path, 1, things=partial(Bare, of="train"))
    with pytest.raises(ValueError, match="validation scenes must have boxes, these have none"):
        trained(tmp_path, 1, things=partial(Bare, of="val"))


class Bare(Things):
    """With nothing on the floors of a split."""

    def __init__(self, split=None, *, of):
        super().__init__(split, having="boxes", things=0 if split == of else 3)


def test_clouds_that_it_cannot_be_trained_on_are_named():
    model = model_of()
    batch = batch_of(0, 1, having="boxes")
    with pytest.raises(ValueError, match="scenes train0, train1: must have points with instances and classes, or box"):
        model.training_step(replace(batch, box=None), 0)
    with pytest.raises(ValueError, match="scenes train0, train1: must have points with colours, or features='ones'"):
        model.training_step(replace(batch, point_colors=None), 0)


def test_a_loss_that_is_not_finite_stops_the_run():
    model = model_of()
    nn.init.constant_(model.head.pnet.conv3.bias, torch.nan)
    with pytest.raises(ValueError, match="the loss must be finite, got nan in step 0: is lr too high"):
        model.training_step(batch_of(0, 1), 0)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_sizes_that_are_not_those_of_the_classes_are_named(tmp_path):
    with pytest.raises(ValueError, match="mean_sizes must be of 2 classes, got 1"):
        model_of(mean_sizes=[[1.0, 1, 1]])
    with pytest.raises(ValueError, match="mean_sizes and n_headings must be given where no VoteNetData is there"):
        Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, max_epochs=1, limit_val_batches=0,
        ).fit(VoteNetDetector(CLASSES, **SMALL), data_of().train_dataloader())  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voxel_size": 0}, "voxel_size must be positive and finite, got 0"),
        ({"lr": math.inf}, "lr must be positive and finite, got inf"),
        ({"falls": (0.5, 2)}, "falls must be from 0 to 1, got 2"),
        ({"points": 0}, "points must be at least 1, got 0"),
        ({"bn_momentum": -1}, "bn_momentum must be from 0 to 1, got -1"),
        ({"bn_halvings": -1}, "bn_halvings must be at least 0, got -1"),
        ({"min_points": -1}, "min_points must not be negative, and finite, got -1"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        model_of(**options)


def test_a_head_that_is_built_later_is_the_same_whatever_was_drawn_before():
    torch.manual_seed(0)
    model = VoteNetDetector(CLASSES, **SMALL)
    torch.rand(3)
    model._build(SIZES.tolist(), 1)
    for name, weight in model_of().state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
