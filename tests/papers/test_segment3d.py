"""Does the segmentation baseline learn, say what it cannot be trained on, go on where it stopped, and keep its word?"""

import csv
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="the extra train is not installed")

from labelled_clouds import Clouds
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from pyproj2d3d.data.samples import SceneSamples, collate
from pyproj2d3d.papers.segment3d import Segment3D, Segment3DData

CLASSES = ["floor", "box", "none of it"]
SMALL = {"net": "sr_unet18", "voxel_size": 0.25}


@pytest.fixture
def batch():
    return collate([SceneSamples(Clouds("train"))[i] for i in range(2)])


def model_of(**options) -> Segment3D:
    torch.manual_seed(0)
    return Segment3D(CLASSES, **{**SMALL, **options})


def trained(folder, epochs, *, resume=None, clouds=Clouds, **options):
    """The model, and where its log is; the checkpoints of all epochs are in ``kept``."""
    data = Segment3DData(clouds, batch_size=2, workers=0)
    saving = ModelCheckpoint(folder / "kept", filename="{epoch}", save_top_k=-1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=CSVLogger(folder, name=""),
        callbacks=[saving],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    model = model_of(**options)
    trainer.fit(model, datamodule=data, ckpt_path=resume)
    return model, Path(trainer.log_dir)


def log_of(folder, *columns):
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [[float(row[column]) for row in rows if row[column]] for column in columns]


def test_one_batch_is_learned_by_heart(batch):
    model = model_of(lr=0.05, bn_momentum=0.5)
    optimizer = torch.optim.SGD(model.net.parameters(), model.lr, model.momentum)
    model.log = lambda *_, **__: None
    losses = []
    for _ in range(15):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert model.train_scores.compute().pixel_accuracy > 0.5  # over all 15 steps


def test_a_run_learns_and_leaves_a_log_a_table_and_pictures(tmp_path):
    _, folder = trained(tmp_path, 5, lr=0.05, bn_momentum=0.5, pictures=1)
    loss, miou, val_miou = log_of(folder, "train/loss", "train/miou", "val/miou")
    assert len(loss) == 10
    assert len(miou) == len(val_miou) == 5
    assert loss[-1] < 0.5 * loss[0]
    assert val_miou[-1] > 0.6
    table = (folder / "classes.md").read_text().splitlines()
    assert [line.split()[1] for line in table[2:5]] == ["floor", "box", "none"]
    assert [path.name for path in (folder / "pictures").iterdir()] == ["val0.png"]
    assert (folder / "pictures" / "val0.png").stat().st_size > 10_000


def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_not_been_stopped(tmp_path):
    _, whole = trained(tmp_path / "whole", 4, lr=0.05, pictures=0)
    middle = tmp_path / "whole" / "kept" / "epoch=1.ckpt"
    _, rest = trained(tmp_path / "rest", 4, resume=middle, lr=0.05, pictures=0)
    columns = ("train/loss", "train/miou", "val/miou")
    for of_whole, of_rest in zip(log_of(whole, *columns), log_of(rest, *columns), strict=True):
        assert of_rest == of_whole[len(of_whole) // 2 :]


def test_every_point_gets_the_class_of_its_voxel_and_one_that_is_nowhere_none(batch):
    model = model_of().eval()
    batch.points[7] = torch.nan
    x, voxels = model.voxels(batch)
    logits = model.net(x).features
    model.undrawn = 0
    model.validation_step(batch, 0)
    confusion = model.val_scores.confusion
    assert confusion.sum() == (batch.point_semantic >= 0).sum()
    assert confusion[:, -1].sum() == 1  # none was predicted for point 7, whose label is floor
    wanted = logits.argmax(1)[voxels.inverse]
    right = (wanted == batch.point_semantic) & (voxels.inverse >= 0)
    assert confusion.diagonal().sum() == right.sum()


def test_shape_alone_is_seen_where_colour_is_not_asked_for(batch):
    x, _ = model_of(features="ones").voxels(batch)
    assert x.features.unique().tolist() == [1]
    x, _ = model_of().voxels(batch)
    assert x.features.aminmax() == pytest.approx((30 / 127.5 - 1, 200 / 127.5 - 1))


def test_training_begins_from_a_checkpoint_but_for_the_last_layer(tmp_path):
    before = model_of()
    torch.save({"state_dict": before.state_dict()}, tmp_path / "some.ckpt")
    torch.manual_seed(1)
    after = Segment3D(["a", "b"], **SMALL, init=str(tmp_path / "some.ckpt"))
    for name, weight in after.net.state_dict().items():
        if not name.startswith("final."):
            assert torch.equal(weight, before.net.state_dict()[name]), name
    assert after.net.final.weight.shape[0] == 2
    with pytest.raises(ValueError, match="do not fit SRUNet"):
        model_of(net="sr_unet34", init=str(tmp_path / "some.ckpt"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"colors": False}, "scenes .*: must have points with colours, or features='ones'"),
        ({"labels": False}, "scenes .*: must have points with classes, theirs have none"),
    ],
    ids=["no colours", "no labels"],
)
def test_clouds_that_it_cannot_be_trained_on_are_named(kind, message):
    batch = collate([SceneSamples(Clouds("train", **kind))[0]])
    with pytest.raises(ValueError, match=message):
        model_of().training_step(batch, 0)


def test_a_pass_without_any_label_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="training scenes must have labelled points, these have none"):
        trained(tmp_path, 1, clouds=partial(Clouds, share=0.0), pictures=0)


def test_a_loss_that_is_not_finite_stops_the_run(batch):
    model = model_of()
    torch.nn.init.constant_(model.net.final.weight, torch.nan)
    with pytest.raises(ValueError, match="the loss must be finite, got nan in step 0: is lr too high"):
        model.training_step(batch, 0)


def test_bfloat16_trains(batch):
    model = model_of()
    model.log = lambda *_, **__: None
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.training_step(batch, 0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.net.parameters())
