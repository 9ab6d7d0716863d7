"""How does a run go on as if it had not been stopped? From an epoch's end or its middle, and with what is said anew."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from .data.sampler import SeededSampler


class GoesOn(Callback):
    """A run that goes on from a checkpoint takes the batches, draws and rates that the one before would have taken.

    Lightning (2.6) restores weights, optimisers and counters. What it leaves open or gets wrong is done here: where an
    epoch was stopped its other batches are next, not its first again; with ``max_steps`` the end of an epoch is not
    taken for its middle; what is said anew of the optimiser counts, and a longer run has its own schedule at once (with
    one optimiser and a LambdaLR; others are as the checkpoint has them).

    Raises:
        ValueError: a run that was stopped within an epoch goes on with batches of another size, with more or fewer
            processes, or with a loader of another sampler.
    """

    per_batch: int | None = None  # samples, of all processes; None in a checkpoint of another

    def state_dict(self) -> dict[str, Any]:
        return {"per_batch": self.per_batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.per_batch = state_dict["per_batch"]

    def on_load_checkpoint(self, trainer: Trainer, _: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning counts an epoch as whole that a limit of steps or time has ended."""
        if trainer.state.fn != "fit" or "loops" not in checkpoint:
            return
        loop = checkpoint["loops"]["fit_loop"]
        if not loop["epoch_loop.batch_progress"]["is_last_batch"]:
            for progress in loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]:
                progress["processed"] = progress["completed"]

    def on_fit_start(self, trainer: Trainer, _: LightningModule) -> None:
        self.seed = torch.initial_seed()

    def on_train_start(self, trainer: Trainer, model: LightningModule) -> None:
        loader: Any = trainer.train_dataloader
        before, self.per_batch = self.per_batch, (getattr(loader, "batch_size", None) or 1) * trainer.world_size
        if trainer.ckpt_path is None:
            return
        loop: Any = trainer.fit_loop
        batches = loop.epoch_loop.batch_progress
        if not batches.is_last_batch:
            if before not in (None, self.per_batch):
                wanted = f"must go on with {before} samples in a batch of all processes, got {self.per_batch}"
                raise ValueError(f"a run that was stopped within an epoch {wanted}")
            if not isinstance(getattr(loader, "sampler", None), SeededSampler):
                got = type(getattr(loader, "sampler", loader)).__name__
                raise ValueError(f"a run that was stopped within an epoch must go on with a SeededSampler, got {got}")
            loader.sampler.begin = batches.current.processed * loader.batch_size
        elif loop.restarted_on_epoch_end:  # as with max_steps alone
            loop.epoch_progress.increment_completed()
            loop._restarting = False  # whose setter would not have it
            loop.epoch_loop.restarting = False
            loop.reset_restart_stage()
            loop.epoch_loop.reset_restart_stage()
        self._rate_as_said(trainer, model)

    def _rate_as_said(self, trainer: Trainer, model: Any) -> None:
        """And not as the checkpoint has it, which knows what was said then."""
        schedules: list[Any] = [config.scheduler for config in trainer.lr_scheduler_configs]
        if len(trainer.optimizers) != 1 or len(schedules) != 1 or not isinstance(schedules[0], LambdaLR):
            return
        (optimizer,), (schedule,) = trainer.optimizers, schedules
        said = model.configure_optimizers()["optimizer"]
        for group, new in zip(optimizer.param_groups, said.param_groups, strict=True):
            group.update({name: value for name, value in new.items() if name != "params"})
            group["lr"] = group["initial_lr"]
        schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        for group, share in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
            group["lr"] = group["initial_lr"] * share(schedule.last_epoch)

    def on_train_batch_start(self, trainer: Trainer, _: LightningModule, batch: Any, i: int) -> None:
        """What torch draws in a step, as for dropout, depends on the step alone."""
        step = (trainer.current_epoch * 2**20 + i) * trainer.world_size + trainer.global_rank
        torch.manual_seed((self.seed + step) % 2**63)
