"""How is a paper trained from the command line? By Lightning's CLI over its two classes: ``pyproj2d3d fit <paper>``."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryFile
from typing import Any

import lightning.pytorch
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch.nn.parallel import DistributedDataParallel

from .report_training import draw_curves
from .train_resume import GoesOn

PAPERS = {  # the file, and in it the model and the data
    "segment3d": ("segment3d", "Segment3D", "Segment3DData"),
    "votenet": ("votenet", "VoteNetDetector", "VoteNetData"),
    "ppkt": ("ppkt", "PPKT", "PPKTData"),
    "ppkt_global": ("ppkt_baselines", "GlobalDistillation", "PPKTData"),
    "ppkd": ("ppkt_baselines", "PPKD", "PPKTData"),
    "pointcontrast": ("ppkt_baselines", "PointContrast", "PointContrastData"),
    "teacher_classifier": ("teachers", "ClassifierTeacher", "TeacherData"),
    "teacher_moco": ("teachers", "MoCoTeacher", "TeacherData"),
    "teacher_segmentation": ("teachers", "SegmentationTeacher", "TeacherData"),
}
ROOMS = "rooms"  # the settings for a small machine
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
SAY_WHAT_IS_WRONG = [Path(__file__).parent, Path(lightning.pytorch.__file__).parent]  # errors raised in these folders
LINKED = ("model.classes", "model.init")  # come from elsewhere


def run(stage: str, paper: str, arguments: Sequence[str]) -> None:
    """Train or score a paper.

    Args:
        stage: "fit", "validate" or "test".
        paper: one of PAPERS.
        arguments: ``--data.*``, ``--model.*``, ``--trainer.*``, ``--out``, ``--init``, ``--config``,
            ``--ckpt_path``, ``--settings`` and what else ``--help`` names. What they leave open is as the checkpoint
            was made, what there is none for as the paper's yaml of these settings says, and the rest as its classes
            have it.

    Raises:
        SystemExit: of status 2 for bad input, with a line on stderr; of 1, with a line, for a run that cannot go on, as
            where its loss is not finite or a file cannot be read; of 143 for one that was terminated.
    """
    file, *classes = PAPERS[paper]
    module = import_module(f"{__package__}.papers.{file}")
    model, data = (getattr(module, name) for name in classes)
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)  # of Lightning's use of torch
    warnings.filterwarnings("ignore", "Found .* in eval mode")  # frozen teachers
    warnings.filterwarnings("ignore", ".*ended before the epoch ended")  # GoesOn takes its other batches
    warnings.filterwarnings("ignore", "The dirpath has changed")  # each run has a folder of its own
    given = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    given.add_argument("--ckpt_path", type=Path)
    given.add_argument("--init")
    given.add_argument("--settings", default=ROOMS)
    known = given.parse_known_args(arguments)[0]
    try:
        PaperCLI(
            model,
            data,
            paper=paper,
            settings=known.settings,
            checkpoint=known.ckpt_path,
            init=None if known.init == "null" else known.init,
            args=[stage, *arguments],
            parser_kwargs={"prog": "pyproj2d3d", stage: {"usage": f"pyproj2d3d {stage} {paper} [options]"}},
            seed_everything_default=0,
            trainer_defaults={
                "log_every_n_steps": 1,
                "callbacks": [*best_and_last(model.MONITOR), OwnBuffers(), GoesOn(), Curves()],
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
    except MisconfigurationException as error:
        print(f"pyproj2d3d: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except SIGTERMException:
        raise SystemExit(143) from None  # or a scheduler would take the run for a finished one
    except (OSError, ValueError) as error:
        wrong, where, line = raised(error)
        if not any(where.is_relative_to(folder) for folder in SAY_WHAT_IS_WRONG):
            raise
        print(f"pyproj2d3d: {wrong} ({where.name}, line {line})", file=sys.stderr)
        raise SystemExit(1) from error


def raised(error: Exception) -> tuple[str, Path, int]:
    """What is wrong, and in which file and line; also of an error in a loader's worker, which torch has as text."""
    frames = re.findall(r'^ *File "(.+)", line (\d+), in ', str(error), re.MULTILINE)
    if str(error).startswith("Caught ") and frames:
        file, line = frames[-1]
        return str(error).rpartition(f"\n{type(error).__name__}: ")[2].strip(), Path(file), int(line)
    at = traceback.extract_tb(error.__traceback__)[-1]
    return str(error), Path(at.filename), at.lineno or 0


def settings_of(paper: str) -> dict[str, Path]:
    """The yamls that a paper has, by name: for synthetic rooms, which comes first, and for datasets."""
    folder = Path(__file__).parent / "papers"
    of_datasets = {path.name.split(".")[1]: path for path in sorted(folder.glob(f"{paper}.*.yaml"))}
    return {ROOMS: folder / f"{paper}.yaml", **of_datasets}


def best_and_last(monitor: str) -> list[Callback]:
    """Two checkpoints: the best by a validation score, and ``last.ckpt`` after every epoch, best or not."""
    name = monitor.replace("/", "_")
    best = f"best-{{epoch}}-{name}={{{monitor}:.3f}}"
    return [
        ModelCheckpoint(filename=best, auto_insert_metric_name=False, monitor=monitor, mode="max"),
        # Lightning's save_last is not always the last. Without the second there is none of an epoch without validation.
        ModelCheckpoint(filename="last", enable_version_counter=False, save_on_train_epoch_end=True),
    ]


class WholeFiles(TorchCheckpointIO):
    """A checkpoint is there whole or not at all, and the one before until then, whenever the process is killed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with open(partial, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


class PaperCLI(LightningCLI):
    """One model and one dataset, which tells the model its classes if it has any; a log as CSV unless another is asked
    for.

    Args:
        paper: one of PAPERS.
        settings: which of its yamls has the defaults: ``<paper>.yaml``, for synthetic rooms, or that of a dataset,
            ``<paper>.<settings>.yaml``.
        checkpoint: whose model and data are the defaults then, or None.
        init: what the command line says of it; that of a config is of no use beside a checkpoint.
    """

    def __init__(
        self, *arguments: Any, paper: str, settings: str, checkpoint: Path | None, init: str | None, **options: Any
    ):
        self.paper, self.settings, self.checkpoint = paper, settings, checkpoint
        yamls = settings_of(paper)
        with _said_in_a_line():
            if settings not in yamls:
                raise ValueError(f"settings of {paper} must be one of {', '.join(yamls)}, got {settings!r}")
            if init is not None and checkpoint is not None:
                raise ValueError("--init and --ckpt_path must not go together: the checkpoint has all weights")
            if init is not None and not Path(init).is_file():
                raise FileNotFoundError(f"--init {init}: there is no such file")
        self.defaults = _flat(yaml.safe_load(yamls[settings].read_text()))
        self.kept: dict[str, Any] = {}  # what the checkpoint says of its model and data
        self.shapes: dict[str, list[int]] = {}  # of its weights
        if checkpoint is not None:
            with _said_in_a_line():
                self.kept, self.shapes = kept_in(checkpoint)
        super().__init__(*arguments, **options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", default=f"runs/{self.paper}", help="the folder of logs, checkpoints and pictures")
        parser.link_arguments("out", "trainer.default_root_dir")
        parser.add_argument(
            "--settings", default=self.settings, help=f"what the rest is as: {', '.join(settings_of(self.paper))}"
        )
        parser.add_argument("--init", type=str | None, default=None, help="a checkpoint to begin from")
        parser.link_arguments("init", "model.init")
        if "classes" in inspect.signature(self._model_class).parameters:
            parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
        parser.set_defaults(self.defaults)
        try:
            parser.set_defaults({key: value for key, value in self.kept.items() if key not in LINKED})
        except (KeyError, ValueError) as error:
            with _said_in_a_line():
                wanted, unknown = f"must be a checkpoint of {self.paper}", re.search('"(.+?)"', str(error))
                got = f"one with {unknown[1] if unknown else error}"
                raise ValueError(f"{self.checkpoint}: {wanted}, got {got}") from None

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Without Lightning's warning that sys.argv has words too: ours are from there."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]
        if self.checkpoint is not None:  # which has all weights, also those that its own config began from
            for key in ("init", "model.init"):
                self.config[f"{self.config.subcommand}.{key}"] = None

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning's overrides the command line by what is in the checkpoint; ours has it as defaults."""

    def instantiate_classes(self) -> None:
        """What is wrong with arguments, files and folders is found here, and not after the first epoch."""
        with _said_in_a_line():
            root = self._get(self.config, "data.root")
            if root is not None and not Path(root).exists():  # before any weights are downloaded
                raise FileNotFoundError(f"{root}: must be the folder of a dataset, there is none")
            super().instantiate_classes()
            if self.trainer.precision not in PRECISIONS:  # with the others Lightning would convert positions too
                raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.trainer.precision}")
            theirs, ours = self.kept.get("model.classes"), getattr(self.model, "classes", [])
            if theirs is not None and theirs != ours:
                raise ValueError(
                    f"{self.checkpoint}: has {len(theirs)} classes and the data {len(ours)}, which are not the same: "
                    "with --init it is the beginning of another network"
                )
            if self.checkpoint is not None:
                self._check_weights()
            elif self.subcommand != "fit" and self._get(self.config_init, "ckpt_path") is None:
                raise ValueError(f"{self.subcommand} must have --ckpt_path, the checkpoint to score, got none")
            validates = self.subcommand == "fit" and self.trainer.limit_val_batches != 0
            for stage in [str(self.subcommand)] + ["validate"] * validates:
                if not len(self.datamodule.dataset(stage)):
                    hint = "; --trainer.limit_val_batches 0 trains without" if validates else ""
                    raise ValueError(f"{self.datamodule.root}: has no scene to {stage}{hint}")
            epochs, every = self.trainer.max_epochs, self.trainer.check_val_every_n_epoch
            if validates and epochs is not None and every is not None and 0 <= epochs < every:
                each = "--trainer.check_val_every_n_epoch 1 does it after each"
                print(f"pyproj2d3d: {epochs} epochs end before the first validation: {each}", file=sys.stderr)
            check_writable(Path(self.trainer.default_root_dir))

    def _check_weights(self) -> None:
        ours = {name: list(weight.shape) for name, weight in self.model.state_dict().items()}
        for name in [*self.shapes, *ours]:
            if self.shapes.get(name) != ours.get(name):
                raise ValueError(
                    f"{self.checkpoint}: {name} must have shape {ours.get(name)}, got {self.shapes.get(name)}: "
                    "with --init it is the beginning of another network"
                )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        chosen = self._get(self.config_init, "trainer")
        if chosen["logger"] in (None, True):
            kwargs["logger"] = CSVLogger(chosen["default_root_dir"], name="")
        if chosen["enable_checkpointing"] is False:
            others = [call for call in self.trainer_defaults["callbacks"] if not isinstance(call, ModelCheckpoint)]
            self.trainer_defaults["callbacks"] = others
        plugins = chosen["plugins"] or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), WholeFiles()]
        return super().instantiate_trainer(**kwargs)


def kept_in(checkpoint: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The arguments of the model and the data that a checkpoint was made with, as ``model.lr`` and ``data.root``; and
    the shapes of its weights by name.

    Raises:
        OSError, ValueError: there is none, or it is not one of Lightning's.
    """
    try:
        kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
        parts = {"model": kept["hyper_parameters"], "data": kept.get("datamodule_hyper_parameters", {})}
        shapes = {name: list(weight.shape) for name, weight in kept["state_dict"].items()}
    except OSError:
        raise
    except Exception as error:  # whatever torch finds in a file that is something else
        # To an UnpicklingError torch adds the advice to run whatever code is in there.
        got = "another file" if isinstance(error, UnpicklingError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"{checkpoint}: must be a checkpoint of a run, got {got}") from None
    arguments = {f"{of}.{k}": v for of, part in parts.items() for k, v in part.items() if not k.startswith("_")}
    return arguments, shapes


def check_writable(folder: Path) -> None:
    """Makes the folder. That its modes allow to write does not mean that its file system does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"{folder}: must be a folder to write into ({error.strerror})") from None


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    return {f"{group}.{name}": value for group, some in tree.items() for name, value in some.items()}


@contextmanager
def _said_in_a_line() -> Iterator[None]:
    """Bad input is a line on stderr and status 2; what comes up later, in training, is an exception."""
    try:
        yield
    except (OSError, ValueError, MisconfigurationException) as error:
        print(f"pyproj2d3d: {error}", file=sys.stderr)
        raise SystemExit(2) from error


class OwnBuffers(Callback):
    """No buffers are sent before a step: batch norms have the same in all processes (:mod:`pyproj2d3d.nn.distributed`),
    of which some may have a validation batch more."""

    def on_validation_start(self, trainer: Trainer, _: LightningModule) -> None:
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.broadcast_buffers = False


class Curves(Callback):
    """Draws what the model names in CURVES over the epochs, beside the log, and says where that is."""

    def on_train_epoch_start(self, trainer: Trainer, model: LightningModule) -> None:
        self._draw(trainer, model)

    def on_fit_end(self, trainer: Trainer, model: LightningModule) -> None:
        self._draw(trainer, model)
        self._say_where(trainer)

    def on_validation_end(self, trainer: Trainer, _: LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._say_where(trainer)

    def on_test_end(self, trainer: Trainer, _: LightningModule) -> None:
        self._say_where(trainer)

    def _say_where(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            print(f"results: {getattr(trainer.logger, 'log_dir', None) or trainer.default_root_dir}")

    def _draw(self, trainer: Trainer, model: Any) -> None:
        if trainer.is_global_zero and isinstance(trainer.logger, CSVLogger):
            trainer.logger.save()
            log = Path(trainer.logger.log_dir) / "metrics.csv"
            if log.exists():
                draw_curves(log, log.with_name("curves.png"), model.CURVES)
