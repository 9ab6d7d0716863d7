"""Does a run that goes on take the very batches, draws and rates that it would have taken, wherever it was stopped?"""

from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="the extra train is not installed")

from labelled_clouds import Clouds
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim.lr_scheduler import LambdaLR

from pyproj2d3d.data.datamodule import SceneDataModule
from pyproj2d3d.train_resume import GoesOn

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*ended before the epoch ended:UserWarning"),  # which is what is seen to
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint:UserWarning"),  # they keep nothing
]
SILENT = {
    **{"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"},
    **{"num_sanity_val_steps": 0, "deterministic": True},
}


class Watcher(LightningModule):
    """Writes down what each step has: its scenes, a draw, the epoch, the step, the rate and what was learned so far."""

    def __init__(self, lr=0.1):
        super().__init__()
        self.weight, self.lr, self.steps = torch.nn.Parameter(torch.zeros(())), lr, []

    def training_step(self, batch, _):
        (group,) = self.trainer.optimizers[0].param_groups
        drawn, learned = torch.rand(()).item(), self.weight.item()
        self.steps.append((batch.scenes, drawn, self.current_epoch, self.global_step, group["lr"], learned))
        return self.weight * (batch.points.mean() + drawn)

    def validation_step(self, batch, _):
        pass

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        steps = self.trainer.estimated_stepping_batches
        fall = LambdaLR(optimizer, lambda step: 1 - step / (steps + 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": fall, "interval": "step"}}


class Stop(Callback):
    """As --trainer.max_time does it."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


def run(*callbacks, checkpoint=None, lr=0.1, workers=0, size=1, model=None, **limits):
    """The steps of a run with four batches an epoch."""
    torch.manual_seed(0)
    data = SceneDataModule(lambda split: Clouds(split), samples="scenes", batch_size=size, workers=workers)
    assert len(data.train_dataloader()) == EPOCH // size
    model, keeps = model or Watcher(lr), any(isinstance(call, ModelCheckpoint) for call in callbacks)
    trainer = Trainer(callbacks=[GoesOn(), *callbacks], enable_checkpointing=keeps, **SILENT, **limits)
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint)
    return model.steps


EPOCH = 4
LIMITS = {
    "epochs": {"max_epochs": 3},
    "steps": {"max_epochs": -1, "max_steps": 3 * EPOCH},
    "steps that end within an epoch": {"max_epochs": -1, "max_steps": 3 * EPOCH - 1},
}
VALIDATED = {"never": {"limit_val_batches": 0}, "each epoch": {}, "in the middle of each": {"val_check_interval": 2}}


@pytest.mark.parametrize("validated", VALIDATED)
@pytest.mark.parametrize("limit", LIMITS)
def test_from_any_step_and_any_end_of_an_epoch_it_goes_on_as_it_would_have(limit, validated, tmp_path):
    limits = LIMITS[limit] | VALIDATED[validated]
    each_step = ModelCheckpoint(tmp_path / "steps", save_top_k=-1, filename="{step}", every_n_train_steps=1)
    ends = {"save_top_k": -1, "filename": "{step}", "save_on_train_epoch_end": True}
    whole = run(each_step, ModelCheckpoint(tmp_path / "ends", **ends), **limits)
    assert [step[3] for step in whole] == list(range(limits.get("max_steps", 3 * EPOCH)))
    assert len({step[1] for step in whole}) == len(whole)  # all draws differ
    kept = list(tmp_path.rglob("*.ckpt"))
    assert len(kept) > len(whole) + 1
    for path in kept:
        done = int(path.stem.removeprefix("step="))
        assert run(checkpoint=path, **limits) == whole[done:], path


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("step", [EPOCH + 2, 2 * EPOCH + 1, 2 * EPOCH])
@pytest.mark.parametrize("limit", ["epochs", "steps"])
def test_stopped_by_the_clock_it_goes_on_within_the_epoch(limit, step, workers, tmp_path):
    last = {"filename": "last", "enable_version_counter": False, "save_on_train_epoch_end": True}
    whole = run(**LIMITS[limit])
    begun = run(ModelCheckpoint(tmp_path, **last), Stop(step), **LIMITS[limit])
    assert len(begun) == step
    assert begun + run(checkpoint=tmp_path / "last.ckpt", workers=workers, **LIMITS[limit]) == whole


def test_what_is_said_anew_of_the_optimiser_counts(tmp_path):
    kept = ModelCheckpoint(tmp_path, filename="kept", save_on_train_epoch_end=True)
    limits = LIMITS["epochs"] | {"limit_val_batches": 0}
    begun = run(kept, **limits | {"max_epochs": 1})
    rest = run(checkpoint=tmp_path / "kept.ckpt", lr=0.01, **limits)
    of_whole = [step[4] for step in run(lr=0.01, **limits)]
    assert [step[4] for step in rest] == of_whole[EPOCH:]  # also of the schedule of the longer run, at once
    assert begun[-1][4] != of_whole[EPOCH - 1]


def test_a_checkpoint_of_another_trainer_goes_on_too(tmp_path):
    """It has no state of ours."""
    path = Path(tmp_path) / "kept.ckpt"
    data = SceneDataModule(lambda split: Clouds(split), samples="scenes", batch_size=1, workers=0)
    trainer = Trainer(max_epochs=1, limit_val_batches=0, enable_checkpointing=False, **SILENT)
    trainer.fit(Watcher(), datamodule=data)
    trainer.save_checkpoint(path)
    assert [step[3] for step in run(checkpoint=path, max_epochs=2)] == list(range(EPOCH, 2 * EPOCH))


@pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning")
def test_within_an_epoch_batches_must_be_as_large_and_the_sampler_ours(tmp_path):
    limits = LIMITS["steps"] | {"limit_val_batches": 0}
    run(ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1), **limits)
    with pytest.raises(ValueError, match="must go on with 1 samples in a batch of all processes, got 2"):
        run(checkpoint=tmp_path / "step=2.ckpt", size=2, **limits)
    assert len(run(checkpoint=tmp_path / "step=4.ckpt", size=2, **limits)) == 3 * EPOCH - EPOCH  # from the end of one
    with pytest.raises(ValueError, match="must go on with a SeededSampler, got SequentialSampler"):
        run(checkpoint=tmp_path / "step=2.ckpt", overfit_batches=3, **limits)


@pytest.mark.parametrize("schedule", [None, "StepLR"])
def test_without_our_kind_of_schedule_rates_are_as_the_checkpoint_has_them(schedule, tmp_path):
    class Other(Watcher):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            falls = [torch.optim.lr_scheduler.StepLR(optimizer, 1)] if schedule else []
            return [optimizer], falls

    limits = LIMITS["epochs"] | {"limit_val_batches": 0}
    whole = run(
        ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1), model=Other(), **limits
    )
    assert run(checkpoint=tmp_path / "step=6.ckpt", model=Other(), **limits) == whole[6:]
