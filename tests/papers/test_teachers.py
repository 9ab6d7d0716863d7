"""Do the three teachers see the objects, learn from them, and say so where there is nothing to learn?"""

import csv
import math
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("lightning", reason="the extra train is not installed")

from labelled_frames import Images
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from shared_teachers import KINDS, all_of_it, batch_of, learned, teacher_of
from two_processes import in_processes

from pyproj2d3d import train
from pyproj2d3d.data.samples import Batch
from pyproj2d3d.data.synth.generate import generate
from pyproj2d3d.data.synth.options import RoomOptions
from pyproj2d3d.data.transforms import generator_of
from pyproj2d3d.nn.resnet import ResNet, load_resnet
from pyproj2d3d.nn.resnet_fcn import load_resnet_fcn
from pyproj2d3d.papers.teachers import TeacherData, knn_accuracy
from pyproj2d3d.papers.teachers_base_crops import (
    NUMBERS,
    Objects,
    Variation,
    choose,
    pictures_of,
    visible_objects,
)

TEACHERS = ["classifier", "moco", "segmentation"]
RUNS = {  # steps of so many epochs with so many frames, of 16
    "classifier": {"epochs": 10, "frames": 8, "lr": 0.05},
    "moco": {"epochs": 16, "frames": 8, "lr": 0.02, "queue": 0},
    "segmentation": {"epochs": 20, "frames": 4, "lr": 0.2},
}
AS_IT_IS = Variation((1.0, 1.0), 0.0, 0.0, 0.0)
SEEN = {"min_pixels": 1, "min_share": 0.0, "margin": 0.0}


def batch_with(instance, semantic=None, color=None):
    """One frame for each (H, W) of instance, by hand."""
    instance = torch.as_tensor(instance)
    if color is None:
        color = torch.zeros(*instance.shape, 3, dtype=torch.uint8)
    frames = tuple(f"f{i}" for i in range(len(instance)))
    labels = None if semantic is None else torch.as_tensor(semantic)
    ptr = torch.tensor([0, len(instance)])
    return Batch(("room",), frames, ptr, torch.zeros_like(ptr), color=color, semantic=labels, instance=instance)


def numbers_of(n, **given):
    """That vary nothing, but what is given by its place."""
    numbers = torch.full((n, NUMBERS), 0.5)
    numbers[:, 4] = 0.75
    for place, value in given.items():
        numbers[:, int(place[1:])] = value
    return numbers


# Objects ------------------------------------------------------------------------------------------------------------


def test_objects_by_hand():
    instance = torch.full((2, 6, 10), -1)
    instance[0, 1:3, 2:6], instance[1, 5, 9], instance[1, 0:4, 0:2] = 7, 7, 3
    semantic = torch.full((2, 6, 10), -1)
    semantic[0, 1, 2:6], semantic[0, 2, 2:4], semantic[1, 0:2, 0:2] = 4, 2, 1
    found = visible_objects(batch_with(instance, semantic), **SEEN)
    assert found.view.tolist() == [0, 1, 1]
    assert found.label.tolist() == [4, 1, -1]  # four pixels against two; four with a class; none
    assert found.side.tolist() == [4, 4, 1]
    assert found.middle.tolist() == [
        [3.5, 1.5],
        [1.5, 1.5],
        [9, 5],
    ]  # the second is moved into the frame from (0.5, 1.5)


def test_only_what_is_seen_well_enough_is_an_object():
    instance = torch.full((1, 12, 12), -1)
    instance[0, 0, :], instance[0, 4:7, 4:7] = 0, 1  # a line, and a square
    batch = batch_with(instance)
    assert visible_objects(batch, **SEEN).side.tolist() == [12, 3]
    assert visible_objects(batch, **{**SEEN, "min_pixels": 10}).side.tolist() == [12]
    assert visible_objects(batch, **{**SEEN, "min_share": 0.1}).side.tolist() == [3]
    assert visible_objects(batch, **{**SEEN, "margin": 0.5}).side.tolist() == [12, 6]  # not longer than the frame
    assert visible_objects(batch, **{**SEEN, "margin": 0.5, "min_share": 0.3}).side.tolist() == []


def test_without_classes_no_object_has_one():
    instance = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert visible_objects(batch_with(instance), **SEEN).label.tolist() == [-1]
    assert visible_objects(batch_with(instance, instance - 1), **SEEN).label.tolist() == [-1]


def test_frames_without_any_object_are_none():
    found = visible_objects(batch_with(torch.full((3, 4, 4), -1), torch.full((3, 4, 4), -1)), **SEEN)
    assert [len(of) for of in found] == [0, 0, 0, 0]
    some, numbers = choose(found, 5, 2, [generator_of(0, 0, name) for name in "abc"])
    assert numbers.shape == (0, 2, NUMBERS)
    assert pictures_of(torch.zeros(3, 4, 4, 3, dtype=torch.uint8), some, 8).shape == (0, 3, 8, 8)
    varied = pictures_of(
        torch.zeros(3, 4, 4, 3, dtype=torch.uint8), some, 8, numbers[:, 0], Variation((0.2, 1), 1, 1, 1)
    )
    assert varied.shape == (0, 3, 8, 8)


def test_what_is_drawn_for_a_frame_depends_on_it_its_epoch_and_the_seed_alone():
    some, numbers = chosen_of([0, 1, 2])
    again, those = chosen_of([2, 0])
    for view, other in ((0, 1), (2, 0)):
        assert_close(some.middle[some.view == view], again.middle[again.view == other], rtol=0, atol=0)
        assert_close(numbers[some.view == view], those[again.view == other], rtol=0, atol=0)
    assert not torch.equal(numbers[some.view == 0], numbers[some.view == 2])
    for seed, epoch in ((1, 0), (0, 1)):
        assert not torch.equal(chosen_of([0], seed, epoch)[1], numbers[some.view == 0])


def chosen_of(frames, seed=0, epoch=0):
    batch = batch_of(frames)
    return choose(visible_objects(batch, **SEEN), 2, 2, [generator_of(seed, epoch, name) for name in batch.frame_names])


def test_so_many_objects_of_each_frame_are_chosen_and_none_twice():
    some, numbers = chosen_of([0, 1, 2])
    assert some.view.bincount().tolist() == [2, 2, 2]
    assert len({(v, *m) for v, m in zip(some.view.tolist(), some.middle.tolist(), strict=True)}) == 6
    assert numbers.shape == (6, 2, NUMBERS)
    seen = {tuple(m) for epoch in range(20) for m in chosen_of([0], epoch=epoch)[0].middle.tolist()}
    assert len(seen) == 3


# Pictures -----------------------------------------------------------------------------------------------------------


def square(view, u, v, side):
    at = torch.tensor([[u, v]], dtype=torch.float64)
    return Objects(torch.tensor([view]), torch.tensor([0]), at, torch.tensor([side], dtype=torch.float64))


@pytest.fixture
def color(device):
    """Two frames in which every pixel has a colour of its own."""
    u, v = torch.arange(20), torch.arange(14)[:, None]
    planes = [(10 * u).expand(14, 20), (15 * v).expand(14, 20), torch.full((14, 20), 30)]
    one = torch.stack(planes, dim=-1).to(torch.uint8)
    return torch.stack((one, 255 - one)).to(device)


def on(device, objects):
    return Objects(*(of.to(device) for of in objects))


@pytest.mark.parametrize("view", [0, 1])
def test_a_picture_as_large_as_its_square_has_its_pixels(color, view, device):
    """Two samples for each pixel, a quarter to its left and to its right: exact where colours change evenly."""
    (picture,) = pictures_of(color, on(device, square(view, 7.5, 6.5, 8)), 8)
    assert_close(picture.permute(1, 2, 0), color[view, 3:11, 4:12] / 255)


def test_a_picture_of_half_the_size_has_means_of_four_pixels(color, device):
    (picture,) = pictures_of(color, on(device, square(0, 7.5, 6.5, 8)), 4)
    wanted = (color[0, 3:11, 4:12] / 255).view(4, 2, 4, 2, 3).mean((1, 3))
    assert_close(picture.permute(1, 2, 0), wanted)


def test_beyond_the_frame_is_the_mean_colour(color, device):
    (picture,) = pictures_of(color, on(device, square(0, 9.5, 6.5, 20)), 20)
    assert_close(picture[:, 4:16, 1:19].permute(1, 2, 0), color[0, 1:13, 1:19] / 255)  # its border is half mean
    mean = torch.tensor([124, 116, 104], device=device) / 255
    assert_close(picture[:, :2].permute(1, 2, 0), mean.expand(2, 20, 3))


def test_pictures_of_several_frames_are_in_the_order_of_their_objects(color, device):
    squares = [square(0, 7.5, 6.5, 8), square(0, 10.5, 6.5, 4), square(1, 7.5, 6.5, 8)]
    objects = Objects(*(torch.cat(of) for of in zip(*squares, strict=True)))
    together = pictures_of(color, on(device, objects), 8)
    for one, alone in zip(together, squares, strict=True):
        assert_close(one, pictures_of(color, on(device, alone), 8)[0])


def test_nothing_that_varies_leaves_a_picture_as_it_is(color, device):
    objects = on(device, square(0, 7.5, 6.5, 8))
    wanted = pictures_of(color, objects, 8)
    assert_close(pictures_of(color, objects, 8, numbers_of(1).to(device), AS_IT_IS), wanted)
    mirrored = pictures_of(color, objects, 8, numbers_of(1, _4=0.25).to(device), AS_IT_IS)
    assert_close(mirrored, wanted.flip(3))


def test_a_part_of_a_picture_lies_within_its_square(color, device):
    objects = on(device, square(0, 7.5, 6.5, 8))
    vary = Variation((0.25, 0.25), 0.0, 0.0, 0.0)
    corner = numbers_of(1, _2=0.0, _3=1.0).to(device)  # the left end, and the lowest
    (picture,) = pictures_of(color, objects, 4, corner, vary)
    assert_close(picture.permute(1, 2, 0), color[0, 7:11, 4:8] / 255)
    rng = torch.Generator().manual_seed(0)
    many = Objects(*(of.expand(200, *of.shape[1:]) for of in objects))
    found = pictures_of(
        color, many, 4, torch.rand(200, NUMBERS, generator=rng).to(device), Variation((0.2, 1), 0, 0, 0)
    )
    red, green = 255 * found[:, 0], 255 * found[:, 1]
    assert 35 <= red.min() < 44
    assert 106 < red.max() <= 115
    assert 37.4 <= green.min() < 47
    assert 148 < green.max() <= 157.6
    wide, high = red[:, 0].amax(1) - red[:, 0].amin(1), green[:, :, 0].amax(1) - green[:, :, 0].amin(1)
    ratio = (wide / 10) / (high / 15)
    assert 0.74 < ratio.min() < 0.85
    assert 1.2 < ratio.max() < 1.35


def plain(*rgb, n=1):
    return torch.tensor(rgb, dtype=torch.uint8).expand(n, 4, 4, 3)


def recolored(rgb, vary, **given):
    color = plain(*rgb)
    objects = square(0, 1.5, 1.5, 2)
    return (255 * pictures_of(color, objects, 8, numbers_of(1, **given), vary)).mean((0, 2, 3)).tolist()


def test_colours_change_as_they_are_said_to():
    vary = Variation((1.0, 1.0), 1.0, 0.5, 0.0)
    rgb = (100, 60, 20)
    luma = 0.299 * 100 + 0.587 * 60 + 0.114 * 20
    kept = {"_5": 0.0, "_10": 0.9}
    assert recolored(rgb, vary, **kept) == pytest.approx(rgb, abs=0.01)
    assert recolored(rgb, vary, **kept, _6=1.0) == pytest.approx([1.4 * x for x in rgb], abs=0.01)
    assert recolored(rgb, vary, **kept, _7=0.0) == pytest.approx([luma + 0.6 * (x - luma) for x in rgb], abs=0.01)
    assert recolored(rgb, vary, **kept, _8=0.0) == pytest.approx([luma + 0.6 * (x - luma) for x in rgb], abs=0.01)
    assert recolored(rgb, vary, **{**kept, "_10": 0.4}) == pytest.approx([luma] * 3, abs=0.01)
    assert recolored(rgb, vary, **{**kept, "_5": 1.0}, _6=1.0) == pytest.approx(rgb, abs=0.01)  # not this one
    assert recolored((80, 80, 80), vary, **kept, _9=1.0) == pytest.approx((80, 80, 80), abs=0.01)  # grey has no hue
    turned = recolored((90, 60, 60), vary, **kept, _9=1.0)  # by a tenth of a turn: from red towards yellow
    assert turned[0] > turned[1] > turned[2]
    assert recolored((90, 60, 60), vary, **kept, _9=0.0)[2] > turned[2]


def test_blur_keeps_the_mean_and_smears_an_edge():
    color = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    color[:, :, 32:] = 200
    objects, vary = square(0, 31.5, 31.5, 64), Variation((1.0, 1.0), 0.0, 0.0, 0.5)
    sharp = pictures_of(color, objects, 64, numbers_of(1, _11=0.9), vary)
    soft = pictures_of(color, objects, 64, numbers_of(1, _11=0.1, _12=1.0), vary)
    assert_close(sharp, pictures_of(color, objects, 64))
    assert soft.mean().item() == pytest.approx(sharp.mean().item(), abs=1e-4)
    at = torch.arange(64)
    sigma = 2 * 64 / 224
    weight = torch.exp(-0.5 * ((at[:, None] - at) / sigma) ** 2)
    wanted = (weight / weight.sum(1, keepdim=True)) @ sharp[0, 0, 10]
    assert_close(soft[0, 0, 10, 5:59], wanted[5:59], atol=0.01, rtol=0)


# Steps --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEACHERS)
def test_one_batch_is_learned_by_heart(kind):
    model = teacher_of(kind, width=8, **({"queue": 0} if kind == "moco" else {}))
    model.log = lambda *_, **__: None
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05, 0.9)
    losses = []
    for _ in range(20):
        loss = model.training_step(batch_of([0, 1, 4, 5]), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < {"moco": 0.8, "classifier": 0.3, "segmentation": 0.5}[kind] * losses[1]


def test_the_slow_encoder_follows_and_its_keys_are_queued():
    model = teacher_of("moco", momentum=0.75, queue=20)
    model.log = lambda *_, **__: None
    for fast, slow in zip(model.encoder_q.parameters(), model.encoder_k.parameters(), strict=True):
        assert torch.equal(fast, slow)
        assert fast.requires_grad
        assert not slow.requires_grad
    with torch.no_grad():
        model.encoder_q.fc[2].bias += 1.0
    before = model.encoder_k.fc[2].bias.clone()
    model.training_step(batch_of([0, 1, 4]), 0).backward()  # three objects each
    assert_close(model.encoder_k.fc[2].bias, before + 0.25)
    assert int(model.queued) == 9
    assert_close(model.queue.norm(dim=1), torch.tensor([1.0] * 9 + [0.0] * 11))
    assert all(p.grad is None for p in model.encoder_k.parameters())


def test_the_queue_forgets_the_oldest_keys_first():
    model = teacher_of("moco", queue=5)
    keys = torch.arange(14.0)[:, None].expand(14, 8)
    for some, wanted in ((keys[:3], {0, 1, 2}), (keys[3:7], {2, 3, 4, 5, 6}), (keys[7:], {9, 10, 11, 12, 13})):
        model.enqueue(some)
        assert set(model.queue[: int(model.queued), 0].tolist()) == wanted
    assert int(model.queued) == 14
    teacher_of("moco", queue=0).enqueue(keys)


def test_the_loss_of_moco_is_that_of_all_keys_one_by_one():
    model = teacher_of("moco").eval()
    logged = []
    model.log = lambda name, value, **_: logged.append((name, value))
    model.enqueue(torch.nn.functional.normalize(torch.randn(11, 8, generator=torch.Generator().manual_seed(0)), dim=1))
    batch, queue = batch_of([0, 4]), model.queue[:11].clone()
    some, numbers = model.objects(batch, 0, 2, labelled=False)
    q, k = (
        torch.nn.functional.normalize(
            model.encoder_q.classify(model.encoder_q(model.pictures(batch, some, numbers[:, i]))[-1]), dim=1
        )
        for i in (0, 1)
    )
    wanted, q, k = 0.0, q.detach(), k.detach()
    for i in range(6):
        own = math.exp(float(q[i] @ k[i]) / 0.2)
        others = sum(math.exp(float(q[i] @ key) / 0.2) for key in [*k, *queue])
        wanted -= math.log(own / others) / 6
    assert model.training_step(batch, 0).item() == pytest.approx(wanted, rel=1e-4)
    assert [name for name, _ in logged] == ["train/loss"]


def test_two_processes_learn_what_one_does_with_the_joint_batch(tmp_path):
    """Also where a process has nothing that it could learn from."""
    theirs = in_processes(2, all_of_it, tmp_path)
    for kind in KINDS:
        alone = learned(kind, 0)
        for process in theirs:
            assert process[kind].keys() == alone.keys()
            for name, wanted in alone.items():
                assert_close(
                    process[kind][name], wanted, rtol=1e-6, atol=1e-9, msg=lambda m, n=name, k=kind: f"{k} {n} {m}"
                )


# Nothing to learn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "without", "message"),
    [
        ("classifier", "instance", "must have instances, theirs have none"),
        ("classifier", "semantic", "must have classes, theirs have none"),
        ("moco", "instance", "must have instances, theirs have none"),
        ("segmentation", "semantic", "must have classes, theirs have none"),
    ],
)
def test_frames_without_labels_are_named(kind, without, message):
    batch = replace(batch_of([0, 5]), **{without: None})
    with pytest.raises(ValueError, match=re.escape(f"frames train0/frame0, train1/frame1: {message}")):
        teacher_of(kind).training_step(batch, 0)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("classifier", "objects of a class and 100 pixels"),
        ("moco", "objects of 100 pixels"),
        ("segmentation", "pixels with a class"),
    ],
)
def test_a_batch_in_which_there_is_nothing_to_learn_is_named(kind, wanted):
    message = f"frames train0/frame0, train1/frame1: must have {wanted}, none of theirs has any"
    with pytest.raises(ValueError, match=re.escape(message)):
        teacher_of(kind).training_step(batch_of([0, 5], without=[0, 5]), 0)


def test_objects_without_a_class_are_none_to_a_classifier_and_some_to_moco():
    batch = batch_of([0, 5])
    batch.semantic[:] = -1
    with pytest.raises(ValueError, match="must have objects of a class"):
        teacher_of("classifier").training_step(batch, 0)
    assert teacher_of("moco").training_step(batch, 0).isfinite()


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_loss_that_is_not_finite_ends_the_run(kind):
    model = teacher_of(kind)
    next(p for name, p in model.named_parameters() if name.endswith("layer4.1.bn2.bias")).data[0] = math.nan
    with pytest.raises(ValueError, match=r"the loss must be finite, got nan in step 0: is lr too high\?"):
        model.training_step(batch_of([0, 1]), 0)


@pytest.mark.parametrize(
    ("kind", "keywords", "message"),
    [
        ("classifier", {"crop": 7}, "crop must be at least 8, got 7"),
        ("classifier", {"crops": 0}, "crops must be at least 1, got 0"),
        ("classifier", {"min_pixels": 0}, "min_pixels must be at least 1, got 0"),
        ("classifier", {"min_share": 1.5}, "min_share must be from 0 to 1, got 1.5"),
        ("classifier", {"margin": -0.1}, "margin must not be negative, and finite, got -0.1"),
        ("classifier", {"area": (0.5, 1.5)}, r"area must be at most 1, got \(0.5, 1.5\)"),
        ("classifier", {"area": (0.5, 0.2)}, "area must ascend"),
        ("classifier", {"grey": 2}, "grey must be from 0 to 1, got 2"),
        ("classifier", {"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ("moco", {"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ("moco", {"momentum": 1.5}, "momentum must be from 0 to 1, got 1.5"),
        ("moco", {"dim": 0}, "dim must be at least 1, got 0"),
        ("moco", {"queue": -1}, "queue must be at least 0, got -1"),
        ("segmentation", {"warmup": -1}, "warmup must be at least 0, got -1"),
        ("segmentation", {"depth": 20}, "depth must be 18, 34, 50 or 101, got 20"),
    ],
)
def test_what_a_teacher_cannot_be_is_named(kind, keywords, message):
    with pytest.raises(ValueError, match=message):
        teacher_of(kind, **keywords)


@pytest.mark.parametrize("kind", ["classifier", "segmentation"])
@pytest.mark.parametrize(("classes", "got"), [([], "none"), (["wall"], "wall")])
def test_of_fewer_than_two_classes_nothing_can_be_told(kind, classes, got):
    with pytest.raises(ValueError, match=f"classes must be at least two, got {got}"):
        type(teacher_of(kind))(classes)


# Scores -------------------------------------------------------------------------------------------------------------


def test_neighbours_vote_by_hand_and_those_of_the_same_scene_do_not():
    features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), dim=1)
    label = torch.tensor([0, 0, 1, 1])
    assert knn_accuracy(features, label, torch.tensor([0, 1, 0, 1])) == 1
    assert knn_accuracy(features, label, torch.tensor([0, 0, 1, 1])) == 0  # there is none of its class elsewhere
    assert knn_accuracy(features, torch.tensor([0, 0, 1, -1]), torch.tensor([0, 1, 0, 1])).item() == pytest.approx(
        2 / 3
    )


# Runs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=TEACHERS)
def run(request, tmp_path_factory):
    """Its kind, the trainer, the model and the folder."""
    folder, options = tmp_path_factory.mktemp("run"), dict(RUNS[request.param])
    epochs, frames = options.pop("epochs"), options.pop("frames")
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, logger=CSVLogger(folder, name=""), enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1, enable_checkpointing=False, check_val_every_n_epoch=epochs,
    )  # fmt: skip
    model = teacher_of(request.param, width=8, warmup=2, **options)
    data = TeacherData(Images, size=(48, 64), resize=(1.0, 1.0), batch_size=frames, workers=0)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(folder / "last.ckpt")
    return request.param, trainer, model, folder


def test_things_of_scenes_that_were_not_seen_are_told_apart(run):
    kind, trainer, *_ = run
    scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
    if kind == "classifier":
        assert scores["val/accuracy"] > 0.8 > 0.6 > scores["val/chance"]
        assert scores["val/mean_accuracy"] > 0.5
    elif kind == "moco":
        assert scores["val/chance"] == pytest.approx(1 / 24)
        assert scores["val/retrieval"] > 2 / 24
        assert scores["val/knn"] > 0.6
    else:
        assert scores["val/miou"] > 0.4


def test_a_run_leaves_what_the_curves_and_the_best_checkpoint_are_drawn_from(run):
    kind, _, model, folder = run
    with open(folder / "version_0" / "metrics.csv", newline="") as file:
        columns = set(next(csv.reader(file)))
    assert {model.MONITOR, *model.CURVES, "train/loss"} <= columns
    assert (folder / "version_0" / "classes.md").exists() == (kind != "moco")


def test_the_rate_rises_and_falls_as_half_a_cosine(run):
    kind, trainer, *_ = run
    n = trainer.global_step
    (share,) = trainer.lr_scheduler_configs[0].scheduler.lr_lambdas
    assert [share(step) for step in (0, 1, n // 2, n)] == pytest.approx([1 / 3, 2 / 3, 0.5, 0])
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == RUNS[kind]["lr"]


def test_its_checkpoint_is_read_as_a_teacher_and_is_where_others_begin(run):
    kind, _, model, folder = run
    path = str(folder / "last.ckpt")
    if kind == "classifier":
        resnet, theirs = load_resnet(ResNet(18, width=8), path, prefix="net."), model.net
    elif kind == "moco":
        resnet, theirs = load_resnet(ResNet(18, width=8), path), model.encoder_q
    else:
        assert_close(load_resnet_fcn(path, prefix="net.", width=8).state_dict(), model.net.state_dict(), rtol=0, atol=0)
        resnet, theirs = load_resnet(ResNet(18, width=8), path, prefix="net.backbone."), model.net.backbone
    wanted = theirs.state_dict()
    assert all(torch.equal(w, wanted[name]) for name, w in resnet.state_dict().items())
    for other in TEACHERS:
        begun = teacher_of(other, width=8, init=path)
        first = {"classifier": "net.", "moco": "encoder_k.", "segmentation": "net.backbone."}[other]
        state = begun.state_dict()
        assert all(torch.equal(state[first + name], w) for name, w in resnet.state_dict().items())
    with pytest.raises(ValueError, match="must hold a ResNet-34, got a ResNet-18"):
        teacher_of("classifier", depth=34, init=path)


def test_its_own_checkpoint_has_everything(run):
    _, _, model, folder = run
    again = type(model).load_from_checkpoint(folder / "last.ckpt", weights_only=False)
    assert again.hparams == model.hparams
    assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("classifier", "validation frames must have objects of a class and 100 pixels, none has"),
        ("moco", "validation frames must have objects of 100 pixels, none has"),
    ],
)
def test_validation_without_objects_is_named(kind, message):
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    with pytest.raises(ValueError, match=message):
        trainer.validate(
            teacher_of(kind), TeacherData(partial(Images, without="things"), size=(48, 64), workers=0), verbose=False
        )


@pytest.mark.filterwarnings("ignore")  # what Lightning and jsonargparse say of each other
def test_they_are_trained_one_from_the_other_and_scored_from_the_command_line(tmp_path, capsys):
    """On synthetic rooms."""
    root = tmp_path / "rooms"
    generate(root, scenes=5, options=RoomOptions(frames=2, size=(48, 64), spacing=0.3), processes=1)
    given = ["--data.root", str(root), "--data.size", "[48, 64]", "--data.workers", "0", "--model.width", "4"]
    given += ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    last = []
    for kind in ("classifier", "moco", "segmentation"):
        out = ["--out", str(tmp_path / kind), *(["--init", str(last[-1])] if last else [])]
        some = [] if kind == "segmentation" else ["--model.min_pixels", "50", "--model.crop", "16"]
        train.run("fit", f"teacher_{kind}", [*given, *out, *some])
        (found,) = (tmp_path / kind).rglob("last.ckpt")
        last.append(found)
        assert len(list((tmp_path / kind).rglob("best-0-*.ckpt"))) == 1
    train.run("validate", "teacher_segmentation", [*given, "--out", str(tmp_path / "v"), "--ckpt_path", str(last[-1])])
    assert "val/miou" in capsys.readouterr().out
