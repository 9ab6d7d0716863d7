"""Does Lightning train, validate and go on with the batches of any reader, with workers of either kind?"""

import pytest
import torch

pytest.importorskip("lightning", reason="the extra train is not installed")

from lightning.pytorch import LightningModule, Trainer

from pyproj2d3d.data import PosedFolders, RoomOptions, SceneDataset, write_room
from pyproj2d3d.data.datamodule import SceneDataModule
from pyproj2d3d.data.samples import Batch
from pyproj2d3d.data.synth.generate import generate
from pyproj2d3d.data.transforms2d import RandomCrop, Resize
from pyproj2d3d.data.transforms3d import Subset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    for split, rooms in (("train", 3), ("val", 2)):
        for i in range(rooms):
            write_room(folder / split / f"room{i}", frames=2, points=60, seed=i, size=(24, 32))
    return folder


OWN = {"train_split": "train", "val_split": "val"}


class Splits:
    """Gives the dataset of a split, which posed folders have not."""

    def __init__(self, root):
        self.root = root

    def __call__(self, split):
        return PosedFolders(self.root / (split or "train"))


@pytest.fixture
def splits(root):
    return Splits(root)


class Watcher(LightningModule):
    """Learns one number and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.validated = [], []

    def training_step(self, batch, _):
        assert isinstance(batch, Batch)
        self.trained.append(batch)
        return self.weight * batch.depth.mean()

    def validation_step(self, batch, _):
        self.validated.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_of(**keywords):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **keywords,
    )


def fitted(module, **keywords):
    watcher = Watcher()
    trainer_of(**keywords).fit(watcher, datamodule=module)
    return watcher


@pytest.mark.parametrize(("workers", "method"), [(0, None), (1, "fork"), (1, "spawn")])
def test_lightning_trains_on_frames(splits, workers, method):
    module = SceneDataModule(
        splits,
        **OWN,
        batch_size=4,
        workers=workers,
        start_method=method,
        view_transform=RandomCrop((16, 16)),
        val_view_transform=Resize((12, 16)),
    )
    watcher = fitted(module, max_epochs=2)
    assert [len(batch) for batch in watcher.trained] == [4, 4]  # 6 frames, the smaller batch dropped
    assert [len(batch) for batch in watcher.validated] == [4, 4]
    assert all(batch.depth.shape == (4, 16, 16) for batch in watcher.trained)
    assert watcher.validated[0].depth.shape == (4, 12, 16)
    assert watcher.weight < 0
    assert (
        watcher.trained[0].frames != watcher.trained[1].frames or watcher.trained[0].scenes != watcher.trained[1].scenes
    )
    assert torch.equal(watcher.validated[0].depth, watcher.validated[1].depth)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_goes_on_has_the_samples_of_its_epoch(splits, workers, tmp_path):
    """Workers read ahead, before Lightning tells the sampler which epoch it is."""

    def run(epochs, checkpoint=None):
        module = SceneDataModule(splits, **OWN, batch_size=2, workers=workers, view_transform=RandomCrop((16, 16)))
        watcher, trainer = Watcher(), trainer_of(max_epochs=epochs, limit_val_batches=0)
        trainer.fit(watcher, datamodule=module, ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return watcher.trained

    whole, begun = run(4), run(2)
    rest = run(4, tmp_path / "2.ckpt")
    assert len(whole) == 12
    assert [batch.frames for batch in begun + rest] == [batch.frames for batch in whole]
    assert all(torch.equal(a.depth, b.depth) for a, b in zip(begun + rest, whole, strict=True))


def test_lightning_trains_on_scenes_with_their_matches(splits):
    module = SceneDataModule(
        splits, **OWN, samples="scenes", views=2, match=True, point_transform=Subset(50), batch_size=3, workers=0
    )
    watcher = fitted(module, max_epochs=1)
    (batch,) = watcher.trained
    assert sorted(batch.scenes) == ["room0", "room1", "room2"]
    assert batch.points.shape == (150, 3)
    assert len(batch.matches) == 6
    assert watcher.validated[0].points.shape == (120, 3)  # no transform of its own: all points
    assert watcher.validated[0].scenes == ("room0", "room1")


def test_a_folder_is_opened_by_what_is_in_it(root):
    module = SceneDataModule(str(root / "train"), val_split="val", workers=0)
    assert isinstance(module.dataset("fit"), PosedFolders)
    assert len(module.train_dataloader().dataset) == 6
    assert module.train_dataloader() is module.train_dataloader()
    with pytest.raises(ValueError, match="posed folders have no splits, got split='val'"):
        module.val_dataloader()


@pytest.mark.parametrize("layout", ["scannet", "s3dis", "nyuv2", "sunrgbd"])
def test_every_reader_has_a_split_for_each_stage(tmp_path, layout):
    generate(
        tmp_path / layout,
        scenes=5,
        layout=layout,
        options=RoomOptions(frames=1, size=(24, 32), spacing=0.5),
        processes=1,
    )
    module = SceneDataModule(tmp_path / layout, workers=0)
    sizes = [len(getattr(module, f"{stage}_dataloader")().dataset) for stage in ("train", "val")]
    assert sizes == [4, 1]
    if layout != "scannet":  # whose test scenes have no labels, and which rooms have not
        assert len(module.test_dataloader().dataset) == 1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"samples": "pixels"}, "samples must be 'frames' or 'scenes', got 'pixels'"),
        ({"start_method": "thread"}, "start_method must be 'fork' or 'spawn', got 'thread'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"fraction": 0.0}, "fraction must be above 0 and at most 1, got 0"),
        ({"match": True}, "views, match, points and transforms of points go with samples='scenes', got 'frames'"),
        ({"samples": "scenes", "every": 2}, "every goes with samples='frames', got every=2 and 'scenes'"),
    ],
)
def test_what_a_data_module_cannot_be_is_named(splits, keywords, message):
    with pytest.raises(ValueError, match=message):
        SceneDataModule(splits, **keywords)


class Nothing(SceneDataset):
    is_in = _open = None


def test_a_share_of_the_training_scenes_is_within_every_larger_one(splits):
    def names(fraction, stage="fit", seed=0):
        data = SceneDataModule(splits, fraction=fraction, fraction_seed=seed, **OWN)
        return list(data.dataset(stage).names)

    assert names(1.0) == ["room0", "room1", "room2"]
    assert len(names(0.6)) == 2
    assert set(names(0.01)) < set(names(0.6)) < set(names(1.0))
    assert names(0.01) == names(0.01)
    assert len({names(0.01, seed=seed)[0] for seed in range(20)}) == 3
    assert names(0.01, "validate") == ["room0", "room1"]  # none is left out there


def test_only_some_scenes_of_a_dataset(root):
    rooms = PosedFolders(root / "train")
    some = rooms.only(["room2", "room0"])
    assert [scene.name for scene in some] == ["room2", "room0"]
    assert len(rooms) == 3
    with pytest.raises(KeyError, match="there is no scene 'room9' among 3"):
        rooms.only(["room9"])


def test_a_split_without_samples_is_named(splits):
    module = SceneDataModule(splits, train_split="train", every=1)
    module.root = lambda split: Nothing(".")
    with pytest.raises(ValueError, match="split 'train' must have samples, got none"):
        module.train_dataloader()
