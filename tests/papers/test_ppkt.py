"""Does PPKT pair every point with its own pixel, learn from it, and say so where there is nothing to learn?"""

import math
from dataclasses import replace
from functools import partial
from urllib.error import URLError

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("lightning", reason="the extra train is not installed")

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from pyproj2d3d import project, train
from pyproj2d3d.data import write_room
from pyproj2d3d.nn.heads import PlainProjection, UpsampledProjection
from pyproj2d3d.nn.resnet import Frozen, ResNet
from pyproj2d3d.nn.resnet_fcn import ResNetFCN
from pyproj2d3d.nn.sr_unet import SRUNet, sr_unet18, sr_unet34
from pyproj2d3d.papers import ppkt, segment3d
from pyproj2d3d.papers.ppkt import PPKT, PPKTData, lifted
from pyproj2d3d.papers.segment3d import Segment3D
from pyproj2d3d.report_embedding import component_colors


@pytest.fixture(scope="module", autouse=True)
def small_students():
    """SR-UNet 18 with fewer and narrower layers of the same names."""
    with pytest.MonkeyPatch.context() as patch:
        for paper in (ppkt, segment3d):
            patch.setitem(paper.NETS, "sr_unet18", partial(SRUNet, layers=(1,) * 8, planes=(16,) * 8, init_dim=16))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    for i in range(2):
        write_room(folder / f"room{i}", frames=2, points=60, seed=i, size=(48, 64))
    return str(folder)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The file of a ResNet-18 whose features differ from place to place, as those of a trained one do."""
    torch.manual_seed(0)
    net = ResNet(18)
    net.train()
    for _ in range(3):  # norms that know what their layer gives
        net((255 * torch.rand(4, 48, 64, 3)).to(torch.uint8))
    path = tmp_path_factory.mktemp("teacher") / "resnet18.pth"
    torch.save(net.state_dict(), path)
    return str(path)


def data_of(root, **keywords):
    return PPKTData(root, **{"every": 1, "size": (48, 64), "batch_size": 4, "workers": 0, **keywords})


def batch_of(data, training=True):
    return next(iter(data.train_dataloader() if training else data.val_dataloader()))


@pytest.fixture(scope="module")
def batch(root):
    """Four frames as they are."""
    return batch_of(data_of(root), training=False)


@pytest.fixture(scope="module")
def model_of(teacher):
    def make(**keywords):
        torch.manual_seed(0)
        small = {"net": "sr_unet18", "teacher": 18, "teacher_weights": teacher, "embedding": 16, "voxel_size": 0.2}
        return PPKT(**{**small, "pairs": 64, "val_pairs": 16, **keywords})

    return make


@pytest.fixture(scope="module")
def model(model_of):
    return model_of()


def without_depth(batch, views):
    depth = batch.depth.clone()
    depth[views] = 0
    return replace(batch, depth=depth)


@pytest.fixture(scope="module")
def fcn(tmp_path_factory):
    """The file of a narrow ResNet-FCN-18 that knows five classes."""
    torch.manual_seed(0)
    net = ResNetFCN(18, 5, width=8).train()
    for _ in range(3):
        net((255 * torch.rand(4, 48, 64, 3)).to(torch.uint8))
    path = tmp_path_factory.mktemp("teacher") / "fcn18.pth"
    torch.save(net.state_dict(), path)
    return {"teacher_net": "resnet_fcn", "teacher_weights": str(path), "teacher_width": 8}


# Pairs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("align_corners", [False, True])
def test_features_of_pixels_are_those_of_the_upsampled_map(model_of, batch, align_corners):
    model = model_of(align_corners=align_corners)
    frames = lifted(batch)
    built = model.pixel_head(model.teacher(frames.color)[-1], (48, 64))  # (4, D, 48, 64)
    got = model.pixel_features(frames, model.small_map(frames), frames.at)
    assert len(got) > 5000
    assert_close(got, built.permute(0, 2, 3, 1).flatten(0, 2)[frames.at])
    assert got.std(0).min() > 1e-3


def test_an_fcn_upsamples_its_features_before_the_plain_projection(model_of, batch, fcn):
    model = model_of(**fcn)
    frames = lifted(batch)
    upsampled = torch.nn.functional.interpolate(model.teacher(frames.color)[0], (48, 64), mode="bilinear")
    built = model.pixel_head(upsampled).permute(0, 2, 3, 1).flatten(0, 2)
    assert isinstance(model.pixel_head, PlainProjection)
    assert model.small_map(frames).shape == (4, 16, 6, 8)
    got = model.pixel_features(frames, model.small_map(frames), frames.at)
    assert_close(got, built[frames.at])
    assert got.std(0).min() > 1e-3


@pytest.mark.parametrize("keywords", [{"flip": 1.0}, {"resize": (0.8, 0.8)}, {"resize": (1.25, 1.25)}, {}], ids=str)
def test_a_point_lies_where_its_pixel_sees_it_and_has_its_colour(root, keywords):
    batch = batch_of(data_of(root, **keywords))
    assert batch.depth.shape == (4, 48, 64)
    frames = lifted(batch)
    assert 0 < len(frames.at) == (batch.depth > 0).sum()
    for v, (begin, end) in enumerate(zip(frames.ptr[:-1].tolist(), frames.ptr[1:].tolist(), strict=True)):
        uvz = project(frames.points[begin:end], batch.camera[v])[0]
        at = frames.at[begin:end] - v * 48 * 64
        assert_close(uvz[:, 0], (at % 64).float(), rtol=0, atol=1e-3)
        assert_close(uvz[:, 1], at.div(64, rounding_mode="floor").float(), rtol=0, atol=1e-3)
        assert_close(uvz[:, 2], batch.depth[v].flatten()[at])
    assert_close((frames.colors + 1) * 127.5, batch.color.flatten(0, 2)[frames.at].float(), rtol=0, atol=1e-3)


def test_a_mirrored_image_is_lifted_to_the_same_points(root):
    straight, mirrored = (lifted(batch_of(data_of(root, flip=p, resize=(1, 1)))) for p in (0.0, 1.0))
    assert straight.names == mirrored.names
    of = torch.full((4 * 48 * 64,), -1)
    of[mirrored.at] = torch.arange(len(mirrored.at))
    row, column = straight.at // 64, straight.at % 64
    same = of[row * 64 + 63 - column]
    assert_close(mirrored.points[same], straight.points, rtol=0, atol=1e-5)
    assert_close(mirrored.colors[same], straight.colors)
    assert not torch.equal(mirrored.color, straight.color)


def test_points_are_turned_and_scaled_frame_by_frame_and_keep_their_rows(model_of, batch):
    model, frames = model_of(distort=False), lifted(batch)
    moved = model.varied(frames, model.draws(frames, 0))
    scales = []
    for begin, end in zip(frames.ptr[:-1].tolist(), frames.ptr[1:].tolist(), strict=True):
        before, after = frames.points[begin:end], moved[begin:end]
        scale = (after - after[:1]).norm(dim=1)[1:] / (before - before[:1]).norm(dim=1)[1:]
        assert_close(scale, scale[:1].expand_as(scale), rtol=1e-3, atol=0)
        scales.append(scale[0].item())
    assert all(0.9 < scale < 1.1 for scale in scales)
    assert len({round(scale, 4) for scale in scales}) == 4


def test_what_is_drawn_for_a_frame_depends_on_it_and_the_epoch_alone(model_of, root):
    model = model_of(sampling="one_per_voxel")
    one, two = (list(data_of(root, batch_size=n).val_dataloader()) for n in (4, 2))

    def drawn(batch, epoch=0, model=model):
        frames = lifted(batch)
        draws = model.draws(frames, epoch)
        points = model.varied(frames, draws)
        voxels = model.point_features(frames, points)[1]
        rows = model.choose(5, frames, voxels, draws)
        return points, [frames.at[row] for row in rows]

    points, at = drawn(one[0])
    for some, frames in ((0, two[0]), (2, two[1])):
        few_points, few_at = drawn(frames)
        begin = lifted(one[0]).ptr[some]
        assert torch.equal(points[begin : begin + len(few_points)], few_points)
        for i in range(2):
            assert torch.equal(few_at[i] + some * 48 * 64, at[some + i])
    assert not torch.equal(points, drawn(one[0], epoch=1)[0])
    assert not torch.equal(points, drawn(one[0], model=model_of(seed=1))[0])


def test_pixels_are_drawn_without_repetition_and_frame_by_frame(model, batch):
    batch = without_depth(batch, 1)
    batch.depth[2].flatten()[3:] = 0  # three are left
    frames = lifted(batch)
    voxels = model.point_features(frames, frames.points)[1]
    rows = model.choose(10, frames, voxels, model.draws(frames, 0))
    assert [len(row) for row in rows] == [10, 0, 3, 10]
    for v, row in enumerate(rows):
        assert len(row.unique()) == len(row)
        assert bool((frames.at[row] // (48 * 64) == v).all())


def test_one_pixel_of_a_voxel_is_drawn_and_any_may_be(model_of, batch):
    model, frames = model_of(sampling="one_per_voxel", voxel_size=1.0), lifted(batch)
    voxels = model.point_features(frames, frames.points)[1]
    of_frame = torch.bincount(voxels.coords[:, 0], minlength=4).tolist()
    seen = set()
    for epoch in range(200):
        rows = model.choose(10_000, frames, voxels, model.draws(frames, epoch))
        assert [len(row) for row in rows] == of_frame
        for row in rows:
            assert len(voxels.inverse[row].unique()) == len(row)
        seen |= set(rows[0].tolist())
    some = next(m for m in range(of_frame[0]) if 2 <= voxels.counts[m] <= 10)
    assert set(voxels.order[voxels.ptr[some] : voxels.ptr[some + 1]].tolist()) <= seen


# A step -------------------------------------------------------------------------------------------------------------


def test_a_step_teaches_the_student_and_both_heads_and_leaves_the_teacher_alone(model_of, batch):
    model = model_of().train()
    before = {name: w.clone() for name, w in model.teacher.state_dict().items()}
    model.training_step(batch, 0).backward()
    assert not any(module.training for module in model.teacher.modules())
    assert all(torch.equal(w, before[name]) for name, w in model.teacher.state_dict().items())
    assert all(w.grad is None for w in model.teacher.parameters())
    learned = {**dict(model.net.named_parameters()), **dict(model.pixel_head.named_parameters())}
    assert all(w.grad is not None for w in learned.values())
    assert learned["final.weight"].grad.abs().max() > 0
    assert learned["conv.weight"].grad.abs().max() > 0


@pytest.mark.parametrize(("pairs", "drawn"), [(64, 64), (7, 4), (2, 4)])
def test_a_student_that_gives_all_points_one_feature_loses_log_n(model_of, batch, pairs, drawn):
    """Equally many pairs from each of the four frames, at least one."""
    model = model_of(pairs=pairs)
    torch.nn.init.zeros_(model.net.final.weight)
    model.pixel_head.conv.weight.data.zero_()
    assert model.training_step(batch, 0).item() == pytest.approx(math.log(drawn), rel=1e-5)


def test_a_step_is_one_of_the_whole_batch_with_the_true_pairs(model_of, batch, monkeypatch):
    monkeypatch.setattr(ppkt, "info_nce", lambda *pairs: given.append(pairs) or pairs[0].sum())
    given, model = [], model_of()
    model.training_step(batch, 0)
    model_of(shuffled=True).training_step(batch, 0)
    (point, pixel, temperature), (same_point, other_pixel, _) = given
    frames = lifted(batch)
    draws = model.draws(frames, 0)
    features, voxels = model_of().point_features(frames, model.varied(frames, draws))
    row = torch.cat(model.choose(16, frames, voxels, draws))
    assert temperature == 0.04
    assert_close(point, features[voxels.inverse[row]])
    assert_close(pixel, model.pixel_features(frames, model.small_map(frames), frames.at[row]))
    assert torch.equal(point, same_point)
    assert not torch.allclose(pixel, other_pixel)
    assert_close(pixel.sum(0), other_pixel.sum(0))  # the same pixels in another order


def test_a_step_in_bfloat16_is_near_that_in_float32(model_of, batch):
    exact = model_of().training_step(batch, 0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model_of().training_step(batch, 0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.1)


def test_frames_without_depth_take_no_part(model_of, batch):
    model = model_of()
    torch.nn.init.zeros_(model.net.final.weight)
    loss = model.training_step(without_depth(batch, [1, 3]), 0)
    assert loss.item() > 0
    assert math.isfinite(loss.item())


def test_a_batch_in_which_no_pixel_has_depth_is_named(model_of, batch):
    with pytest.raises(ValueError, match=r"frames room0/\S+, .* must have pixels with depth, none of theirs has any"):
        model_of().training_step(without_depth(batch, slice(None)), 0)


def test_a_batch_without_frames_is_named(model_of, batch):
    with pytest.raises(ValueError, match=r"scenes room0, .*: must have frames, theirs have none"):
        model_of().training_step(replace(batch, depth=None, color=None, camera=None), 0)


def test_a_loss_that_is_not_finite_ends_the_run(model_of, batch):
    model = model_of()
    model.net.final.bias.data[0] = math.nan
    with pytest.raises(ValueError, match=r"the loss must be finite, got nan in step 0: is lr too high\?"):
        model.training_step(batch, 0)


# Weights ------------------------------------------------------------------------------------------------------------


def test_a_random_teacher_must_be_asked_for_and_is_warned_of(capsys):
    PPKT("sr_unet18", 18, "random")
    assert "the teacher, a ResNet-18, has random weights: it has nothing to teach" in capsys.readouterr().err
    PPKT("sr_unet18", 18, "random", teacher_net="resnet_fcn")
    assert "the teacher, a ResNet-FCN-18, has random weights: it has nothing to teach" in capsys.readouterr().err


def test_a_teacher_has_the_weights_of_its_file(teacher, model):
    weights = torch.load(teacher, weights_only=True)
    assert torch.equal(model.teacher.net.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])


def test_teacher_and_student_may_be_narrow(model_of, batch, tmp_path, monkeypatch):
    monkeypatch.setitem(ppkt.NETS, "sr_unet18", sr_unet18)
    torch.save(ResNet(18, width=16).state_dict(), tmp_path / "narrow.pth")
    model = model_of(teacher_weights=str(tmp_path / "narrow.pth"), teacher_width=16, width=0.125)
    assert model.net.conv0p1s1.out_channels == 4
    assert model.pixel_head.conv.in_channels == 128
    assert math.isfinite(model.training_step(batch, 0).item())
    with pytest.raises(ValueError, match=r"conv1.weight must have shape \(64, 3, 7, 7\), got \(16, 3, 7, 7\)"):
        model_of(teacher_weights=str(tmp_path / "narrow.pth"))


def test_an_fcn_of_another_kind_is_named(model_of, fcn, teacher):
    for keywords, message in [
        ({"teacher_net": "unet"}, "teacher_net must be 'resnet' or 'resnet_fcn', got 'unet'"),
        ({"teacher": 50}, "fcn18.pth must hold a ResNet-FCN of depth 50, got one of 18"),
        ({"teacher_width": 64}, "fcn18.pth must hold a ResNet-FCN of width 64, got one of width 8"),
        ({"teacher_weights": teacher}, "resnet18.pth must hold a ResNet-FCN, got other weights"),
        ({"teacher_weights": "IMAGENET1K_V1"}, "teacher_weights must be a file of a ResNet-FCN, got 'IMAGENET1K_V1'"),
    ]:
        with pytest.raises(ValueError, match=message):
            model_of(**{**fcn, **keywords})


def test_a_teacher_that_cannot_be_downloaded_is_named(monkeypatch):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(OSError, match=r"IMAGENET1K_V1 cannot be downloaded \(no route to host\): give a file"):
        PPKT("sr_unet18")


def test_weights_of_another_network_are_named(model_of, teacher, tmp_path):
    with pytest.raises(ValueError, match="must hold a ResNet-50, got a ResNet-18"):
        model_of(teacher=50)
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth"):
        model_of(teacher_weights="nowhere.pth")
    torch.save({f"net.{name}": w for name, w in sr_unet34(3, 4).state_dict().items()}, tmp_path / "34.pt")
    with pytest.raises(ValueError, match=r"the weights do not fit SRUNet: .*unexpected"):
        model_of(init=str(tmp_path / "34.pt"))


# A run --------------------------------------------------------------------------------------------------------------


class Colours(torch.nn.Module):
    """A teacher from which there is something to learn in a few steps: mean colours."""

    def forward(self, color):
        return [torch.nn.functional.avg_pool2d(color.permute(0, 3, 1, 2) / 255.0, 4)]


@pytest.fixture(scope="module")
def run(model_of, root, tmp_path_factory):
    """Forty steps on the four frames that are those of validation, too."""
    folder = tmp_path_factory.mktemp("run")
    model = model_of(lr=0.1, bn_momentum=0.5, sampling="one_per_voxel", pictures=3)
    model.teacher, model.pixel_head = Frozen(Colours()), UpsampledProjection(3, 16)
    trainer = Trainer(
        max_epochs=40, accelerator="cpu", logger=CSVLogger(folder, name=""), enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, check_val_every_n_epoch=40, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(model, datamodule=data_of(root, flip=0.0, resize=(1, 1)))
    trainer.save_checkpoint(folder / "last.ckpt")
    return trainer, model, folder


def test_points_learn_to_find_their_pixel(run):
    scores = run[0].callback_metrics
    assert scores["val/chance"].item() == pytest.approx(1 / 16)
    assert scores["val/retrieval"].item() > 3 / 16


def test_the_rate_falls_exponentially_over_the_run(run):
    trainer, *_ = run
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.09 * 0.1)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == 0.1
    schedule = trainer.lr_scheduler_configs[0].scheduler.lr_lambdas[0]
    assert [schedule(step) for step in (0, 20, 40)] == pytest.approx([1, 0.3, 0.09])


def test_validation_leaves_pictures_of_the_embedding(run):
    _, _, folder = run
    assert len(list((folder / "version_0" / "pictures").glob("room*.png"))) == 3


def test_segmentation_begins_from_its_checkpoint(run):
    _, model, folder = run
    begun = Segment3D(["floor", "wall"], net="sr_unet18", init=str(folder / "last.ckpt")).net.state_dict()
    learned = model.net.state_dict()
    assert begun["final.weight"].shape != learned["final.weight"].shape
    assert all(torch.equal(begun[name], w) for name, w in learned.items() if not name.startswith("final."))
    with pytest.raises(ValueError, match="the weights do not fit SRUNet"):
        Segment3D(["floor", "wall"], net="sr_unet34", init=str(folder / "last.ckpt"))


def test_its_own_checkpoint_has_everything(model_of, batch, tmp_path):
    model = model_of()
    model.net.final.weight.data += 1
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = PPKT.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    assert again.hparams == model.hparams
    for (name, got), wanted in zip(again.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(got, wanted), name


def test_a_picture_shows_features_where_they_are(model, batch, monkeypatch):
    monkeypatch.setattr(ppkt, "PICTURE", 32)  # every second pixel
    frames = lifted(without_depth(batch, 0))
    small = model.small_map(frames)
    with torch.no_grad():
        point = torch.arange(len(frames.at), dtype=torch.float32)[:, None].expand(-1, 16)
        color, pixels, points, seen = model.picture(frames, 2, point, small)
        built = model.pixel_head(model.teacher(frames.color)[-1], (48, 64))
    assert torch.equal(color, batch.color[2, ::2, ::2])
    assert torch.equal(seen, batch.depth[2, ::2, ::2] > 0)
    assert_close(pixels, built[2, :, ::2, ::2].permute(1, 2, 0))
    at = torch.arange(48 * 64).view(48, 64)[::2, ::2] + 2 * 48 * 64
    assert torch.equal(frames.at[points[..., 0][seen].long()], at[seen])
    assert not model.picture(frames, 0, point, small)[3].any()


def test_validation_without_any_depth_is_named(model_of, root):
    class Blind(PPKTData):
        def transfer_batch_to_device(self, batch, *_):
            return without_depth(batch, slice(None))

    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    with pytest.raises(ValueError, match="validation frames must have pixels with depth, none of these has any"):
        trainer.validate(model_of(pictures=0), Blind(root, every=1, size=(48, 64), workers=0), verbose=False)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sampling": "all"}, "sampling must be 'random' or 'one_per_voxel', got 'all'"),
        ({"pairs": 0}, "pairs must be at least 1, got 0"),
        ({"val_pairs": 0}, "val_pairs must be at least 1, got 0"),
        ({"decay": 0.0}, "decay must be positive and finite, got 0.0"),
        ({"teacher": 20}, "depth must be 18, 34, 50 or 101, got 20"),
    ],
)
def test_what_a_model_cannot_be_is_named(model_of, keywords, message):
    with pytest.raises(ValueError, match=message):
        model_of(**keywords)


def test_a_range_of_sizes_must_ascend(root):
    with pytest.raises(ValueError, match="resize must ascend, got"):
        data_of(root, resize=(1.25, 0.8))


@pytest.mark.filterwarnings("ignore")  # what Lightning and jsonargparse say of each other
def test_it_is_trained_and_scored_from_the_command_line(root, teacher, tmp_path, capsys):
    """Of a dataset that names no classes."""
    given = ["--data.root", root, "--data.every", "1", "--data.size", "[48, 64]", "--data.workers", "0"]
    given += ["--model.teacher_weights", teacher, "--model.voxel_size", "0.2", "--trainer.enable_progress_bar", "false"]
    given += ["--trainer.accelerator", "cpu", "--model.pictures", "0", "--out", str(tmp_path)]
    train.run("fit", "ppkt", [*given, "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1"])
    (last,) = tmp_path.rglob("last.ckpt")
    assert len(list(tmp_path.rglob("best-0-val_retrieval=*.ckpt"))) == 1
    train.run("validate", "ppkt", [*given, "--ckpt_path", str(last)])
    assert "val/retrieval" in capsys.readouterr().out


# Colours ------------------------------------------------------------------------------------------------------------


def test_features_along_a_line_go_from_dark_to_light():
    line = torch.arange(101.0)[:, None] * torch.tensor([[0.0, 2.0]])
    (colors,) = component_colors(line)
    assert colors[[0, 2, 50, 98, 100], 0].tolist() == [0, 0, 128, 255, 255]  # 2 of 100 are beyond the range
    assert bool((colors[:, 1:] == 127).all())


def test_sets_share_their_components_and_not_their_place_nor_their_range():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(500, 8, generator=rng) * torch.tensor([8.0, 4, 2, 1, 0.1, 0.1, 0.1, 0.1])
    one, other = component_colors(features, 0.001 * features + 5)
    assert (one.int() - other.int()).abs().max() <= 1
    for channel in range(3):
        by_hand = (features[:, channel] - features[:, channel].mean()).double()
        assert torch.corrcoef(torch.stack((by_hand, one[:, channel].double())))[0, 1].abs() > 0.95
    assert torch.equal(one, component_colors(features, torch.zeros(0, 8))[0])


def test_features_without_variance_are_grey():
    assert component_colors(torch.full((4, 5), 0.3), torch.zeros(0, 5))[0].unique().tolist() == [127]
    assert component_colors(torch.rand(4, 1))[0][:, 1:].unique().tolist() == [127]
