"""How is a paper trained from the command line? By Lightning's CLI over its two classes: ``pyproj2d3d fit <paper>``."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from torch.nn.parallel import DistributedDataParallel

from .report_training import draw_curves

PAPERS = {  # their file, and in it the model and the data
    "segment3d": ("Segment3D", "Segment3DData"),
    "ppkt": ("PPKT", "PPKTData"),
}


def run(stage: str, paper: str, arguments: Sequence[str]) -> None:
    """Train or score a paper.

    Args:
        stage: "fit", "validate" or "test".
        paper: one of PAPERS.
        arguments: ``--data.*``, ``--model.*``, ``--trainer.*``, ``--out``, ``--init``, ``--config``,
            ``--ckpt_path`` and what else ``--help`` names. What they leave open is in the paper's yaml, and what that
            leaves open is as its classes have it.
    """
    module = import_module(f"{__package__}.papers.{paper}")
    model, data = (getattr(module, name) for name in PAPERS[paper])
    yaml = Path(str(module.__file__)).with_suffix(".yaml")
    one = {"default_config_files": [str(yaml)]}
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # of Lightning's use of torch
    warnings.filterwarnings("ignore", "Found .* in eval mode")  # frozen teachers
    PaperCLI(
        model,
        data,
        args=[stage, *arguments],
        parser_kwargs={"prog": "pyproj2d3d", "fit": one, "validate": one, "test": one},
        seed_everything_default=0,
        trainer_defaults={"log_every_n_steps": 10, "callbacks": [best_and_last(model.MONITOR), OwnBuffers(), Curves()]},
    )


def best_and_last(monitor: str) -> ModelCheckpoint:
    """Two checkpoints, ``last.ckpt`` and the best by a validation score; each is written whole or not at all."""
    name = monitor.replace("/", "_")
    return ModelCheckpoint(
        filename=f"best-{{epoch}}-{name}={{{monitor}:.3f}}", auto_insert_metric_name=False, monitor=monitor, mode="max",
        save_last=True,
    )  # fmt: skip


class PaperCLI(LightningCLI):
    """One model and one dataset, which tells the model its classes if it has any; a log as CSV unless another is asked
    for."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        paper = self._model_class.__module__.rpartition(".")[2]
        parser.add_argument("--out", default=f"runs/{paper}", help="the folder of logs, checkpoints and pictures")
        parser.link_arguments("out", "trainer.default_root_dir")
        parser.add_argument("--init", type=str | None, default=None, help="a checkpoint to begin from")
        parser.link_arguments("init", "model.init")
        if "classes" in inspect.signature(self._model_class).parameters:
            parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Without Lightning's warning that sys.argv has words too: ours are from there."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]

    def instantiate_classes(self) -> None:
        """Bad input is one line on stderr and status 2; what comes up later, in training, is an exception."""
        try:
            super().instantiate_classes()
        except (OSError, ValueError) as error:
            print(f"pyproj2d3d {self.subcommand}: {error}", file=sys.stderr)
            raise SystemExit(2) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        chosen = self._get(self.config_init, "trainer")
        if chosen["logger"] in (None, True):
            kwargs["logger"] = CSVLogger(chosen["default_root_dir"], name="")
        return super().instantiate_trainer(**kwargs)


class OwnBuffers(Callback):
    """No buffers are sent before a step: batch norms have the same in all processes (:mod:`pyproj2d3d.nn.distributed`),
    of which some may have a validation batch more."""

    def on_validation_start(self, trainer: Trainer, _: LightningModule) -> None:
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.broadcast_buffers = False


class Curves(Callback):
    """Draws what the model names in CURVES over the epochs, beside the log."""

    def on_train_epoch_start(self, trainer: Trainer, model: LightningModule) -> None:
        self._draw(trainer, model)

    def on_fit_end(self, trainer: Trainer, model: LightningModule) -> None:
        self._draw(trainer, model)

    def _draw(self, trainer: Trainer, model: Any) -> None:
        if trainer.is_global_zero and isinstance(trainer.logger, CSVLogger):
            trainer.logger.save()
            log = Path(trainer.logger.log_dir) / "metrics.csv"
            if log.exists():
                draw_curves(log, log.with_name("curves.png"), model.CURVES)
