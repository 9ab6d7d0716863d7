"""How does Lightning get its batches? Any reader's scenes, by frame or by scene, with workers of either kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from ..ops._check import check_choice, check_int, check_number
from .open_dataset import open_dataset
from .sampler import SeededSampler
from .samples import Batch, FrameSamples, PointTransform, Sample, SceneSamples, ViewTransform, collate
from .scene import SceneDataset
from .synth.generate import GENERATION, rooms_at
from .synth.options import RoomOptions


class LateLoader(DataLoader[Sample]):
    """Workers begin to read where the first batch is asked for, not before: in a run that goes on Lightning takes the
    iterator first, and only then tells the sampler which epoch it is."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield from super().__iter__()


class SceneDataModule(LightningDataModule):
    """Batches of a dataset's splits, see :class:`pyproj2d3d.data.samples.Batch`.

    Args:
        root: the folder of a dataset, as :func:`open_dataset` knows them; or a function that gives the dataset of a
            split, such as ``partial(ScanNet, root, labels="nyu40")``. None: synthetic rooms, written into a folder of
            ``rooms/`` when they are first needed and found there afterwards.
        samples: "frames", one view each (:class:`FrameSamples`), or "scenes", points and views
            (:class:`SceneSamples`).
        every: with "frames", only every so many-th frame of a scene.
        views, points, match: with "scenes", as :class:`SceneSamples` takes them.
        at: "depth" or "color": whose camera and pixels a view has.
        view_transform, point_transform: of training samples.
        val_view_transform, val_point_transform: of validation and test samples.
        train_split, val_split, test_split: their names in the dataset; None is all scenes; "default" is what the
            reader has for it (``SceneDataset.SPLITS``): a dataset without a validation split validates on its test.
        fraction: the share of the training scenes that are used, one at least: few labels. Which, is drawn with
            ``fraction_seed`` alone, and those of a smaller share are among those of a larger one.
        batch_size: samples in a batch. The last batch of a training pass is dropped where it is smaller, unless it is
            the only one.
        workers: processes that read; 0 reads in this one.
        start_method: of the workers, "fork" or "spawn"; None is torch's default.
        seed: of the order and of all that transforms draw. Batches do not depend on ``workers`` or ``start_method``.
        pin_memory: whether batches come in page-locked memory.
        rooms, room_options: how many synthetic rooms, of which every fifth is for validation, and of what kind.

    Raises:
        TypeError, ValueError: an argument that is none of these.

    Of several processes each gets its share of every batch, see :class:`SeededSampler`. In validation none is repeated,
    so that scores are exact, and some processes may have a batch more: a step must not wait for the others. For torch's
    DistributedDataParallel that means ``broadcast_buffers=False``.

    In validation scenes keep their order, views are spread evenly over each, and every pass is the same.
    """

    def __init__(
        self,
        root: str | Path | Callable[[str | None], SceneDataset] | None = None,
        *,
        samples: str = "frames",
        every: int = 1,
        views: int = 0,
        points: bool = True,
        match: bool = False,
        at: str = "depth",
        view_transform: ViewTransform | None = None,
        point_transform: PointTransform | None = None,
        val_view_transform: ViewTransform | None = None,
        val_point_transform: PointTransform | None = None,
        train_split: str | None = "default",
        val_split: str | None = "default",
        test_split: str | None = "default",
        fraction: float = 1.0,
        fraction_seed: int = 0,
        batch_size: int = 4,
        workers: int = 2,
        start_method: str | None = None,
        seed: int = 0,
        pin_memory: bool = False,
        rooms: int = 50,
        room_options: RoomOptions | None = None,
    ):
        super().__init__()
        check_choice("samples", samples, "frames", "scenes")
        if samples == "frames" and (views or match or not points or point_transform or val_point_transform):
            raise ValueError("views, match, points and transforms of points go with samples='scenes', got 'frames'")
        if samples == "scenes" and every != 1:
            raise ValueError(f"every goes with samples='frames', got every={every!r} and 'scenes'")
        if start_method is not None:
            check_choice("start_method", start_method, "fork", "spawn")
        self.root, self.samples = root, samples
        self.rooms, self.room_options = check_int("rooms", rooms, 5), room_options or RoomOptions()
        self.every, self.views, self.points, self.match, self.at = every, views, points, match, at
        self.transforms = {True: (view_transform, point_transform), False: (val_view_transform, val_point_transform)}
        self.splits = {"fit": train_split, "validate": val_split, "test": test_split}
        if not 0 < check_number("fraction", fraction) <= 1:
            raise ValueError(f"fraction must be above 0 and at most 1, got {fraction}")
        self.fraction, self.fraction_seed = fraction, check_int("fraction_seed", fraction_seed, 0)
        self.batch_size, self.workers = check_int("batch_size", batch_size, 1), check_int("workers", workers, 0)
        self.start_method, self.seed, self.pin_memory = start_method, check_int("seed", seed, 0), pin_memory
        self._loaders: dict[tuple[str, int, int], DataLoader[Sample]] = {}

    def train_dataloader(self) -> DataLoader[Sample]:
        return self._loader("fit")

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("validate")

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test")

    @property
    def classes(self) -> list[str]:
        """Their names, of which labels are places.

        Raises:
            ValueError: the dataset has none, as a posed folder.
        """
        dataset = self._open(None)
        if not dataset.classes:
            raise ValueError(
                f"{dataset.root}: must be a dataset that names its classes, {type(dataset).__name__} does not"
            )
        return list(dataset.classes)

    def dataset(self, stage: str) -> SceneDataset:
        """The dataset of a stage: "fit", "validate" or "test"."""
        split = self.splits[stage]
        if split == "default":
            split = self._open(None).SPLITS[stage]
        dataset = self._open(split)
        if stage != "fit" or self.fraction == 1:
            return dataset
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(self.fraction_seed))
        some = sorted(order[: max(round(self.fraction * len(dataset)), 1)].tolist())
        return dataset.only([dataset.names[i] for i in some])

    def _open(self, split: str | None) -> SceneDataset:
        if callable(self.root):
            return self.root(split)
        return open_dataset(self._rooms() if self.root is None else self.root, split)

    def _rooms(self) -> Path:
        """Named by what they are, so that other options, or rooms of another version of this package, are others."""
        kind = hashlib.sha256(f"{GENERATION} {self.room_options!r}".encode()).hexdigest()[:8]
        return rooms_at(Path("rooms") / f"{self.rooms}-{kind}", scenes=self.rooms, options=self.room_options)

    def _loader(self, stage: str) -> DataLoader[Sample]:
        """Made once: asking again opens no file, and the epoch of its sampler goes on."""
        trainer = self.trainer
        rank, processes = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        which = (stage, rank, processes)
        if which not in self._loaders:
            training = stage == "fit"
            samples = self._samples(stage, training)
            sampler = SeededSampler(samples, shuffle=training, seed=self.seed, rank=rank, processes=processes)
            if len(samples) < processes:
                wanted = "samples" if processes == 1 else f"at least a sample for each of {processes} processes"
                where = "the synthetic rooms" if self.root is None else self.root
                split = f"split {self.splits[stage]!r}"
                raise ValueError(f"{where}: {split} must have {wanted}, got {len(samples) or 'none'}")
            self._loaders[which] = LateLoader(
                samples,
                batch_size=self.batch_size,
                sampler=sampler,
                num_workers=self.workers,
                multiprocessing_context=self.start_method if self.workers else None,
                collate_fn=collate,
                drop_last=training and len(sampler) > self.batch_size,
                pin_memory=self.pin_memory,
                persistent_workers=self.workers > 0,
            )
        return self._loaders[which]

    def _samples(self, stage: str, training: bool, **others: Any) -> FrameSamples | SceneSamples:
        """``others`` are arguments of :class:`SceneSamples` in place of those here."""
        view_transform, point_transform = self.transforms[training]
        if self.samples == "frames":
            return FrameSamples(self.dataset(stage), every=self.every, transform=view_transform, at=self.at)
        options: dict[str, Any] = {
            "views": self.views, "spread": not training, "points": self.points, "match": self.match, "at": self.at,
            "view_transform": view_transform, "point_transform": point_transform,
        }  # fmt: skip
        return SceneSamples(self.dataset(stage), **options | others)

    def transfer_batch_to_device(self, batch: Batch, device, dataloader_idx: int) -> Batch:  # type: ignore[no-untyped-def]
        return batch.to(device, non_blocking=self.pin_memory)
