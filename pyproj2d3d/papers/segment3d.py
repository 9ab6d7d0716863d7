"""Segmentation of clouds by a sparse U-Net: the baseline that every 3D method here starts from or is measured against.

The network is SR-UNet (Choy et al., 2019, arXiv:1904.08755) and the recipe PointContrast's for S3DIS (Xie et al., 2020,
arXiv:2007.10985; ``train_stanford3d.sh`` of its code): voxels of 5 cm, SGD of momentum 0.9 from a rate of 0.1 that
falls as (1 - t)^0.9, and turned, scaled, distorted and recoloured clouds. Its 60,000 steps of 48 clouds are
``--trainer.max_steps`` and ``--data.batch_size`` here; for ScanNet it has voxels of 2 cm and a rate of 0.8.

Departures. A voxel has the mean colour of its points and the label most of them have, where MinkowskiEngine keeps one
point of each voxel. In validation every point gets the class of its voxel, whose centre is the nearest to it, and
scores are counted over points, as the benchmarks do; in training over voxels. The loss is the mean over all labelled
voxels of the batch, and batch norms take theirs, of all processes together.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from ..data.datamodule import SceneDataModule
from ..data.samples import Batch, PointTransform
from ..data.scene import SceneDataset
from ..data.synth.options import RoomOptions
from ..data.transforms import Compose, check_amount, check_positive
from ..data.transforms3d import Center, ColorJitter, ElasticDistortion, FlipAxis, Rotate, Scale, Shift
from ..metrics.accumulate import SegmentationMetric
from ..nn.distributed import check_finite, joint_mean
from ..nn.sparse import SparseTensor
from ..nn.sr_unet import NETS
from ..nn.voxel_input import at_points, voxel_tensor
from ..nn.weights import load_weights
from ..ops.scatter import scatter
from ..report_training import class_table, draw_prediction, folder_of
from ..results import Voxels


class Segment3DData(SceneDataModule):
    """Labelled clouds of a dataset that has them (ScanNet, S3DIS), one scene each, and how they are varied in training.

    Args:
        root: the folder of a dataset. Absent: synthetic rooms, written into ``rooms/``.
        batch_size: clouds in a batch, of each process.
        workers: processes that read and vary them, of each process.
        seed: of their order and variation.
        distort: whether training clouds are bent by smooth random fields.
        fraction, fraction_seed: the share of the training scenes that have labels, and which.
        train_split, val_split, test_split: names of splits in the dataset; "default" is what its reader has, and null
            all its scenes.
        rooms: how many synthetic rooms; every fifth is for validation.
    """

    def __init__(
        self, root: str | None = None, *, batch_size: int = 4, workers: int = 2, seed: int = 0, distort: bool = True,
        fraction: float = 1.0, fraction_seed: int = 0, train_split: str | None = "default",
        val_split: str | None = "default", test_split: str | None = "default", rooms: int = 50,
    ):  # fmt: skip
        self.save_hyperparameters(logger=False, ignore=["root"] if callable(root) else [])
        vary: list[PointTransform] = [
            Center(),
            FlipAxis(),
            Rotate(math.pi / 64, math.pi / 64, math.pi),
            Scale(),
            ColorJitter(),
        ]
        vary += [ElasticDistortion()] * distort + [Shift(1.0)]  # so that the voxel grid begins anywhere
        super().__init__(
            root, samples="scenes", point_transform=Compose(vary), batch_size=batch_size, workers=workers, seed=seed,
            fraction=fraction, fraction_seed=fraction_seed,
            train_split=train_split, val_split=val_split, test_split=test_split,
            rooms=rooms, room_options=RoomOptions(frames=0),
        )  # fmt: skip

    def dataset(self, stage: str) -> SceneDataset:
        dataset = super().dataset(stage)
        if len(dataset) and dataset[0].read_cloud is None:
            raise ValueError(f"{dataset.root}: must have clouds, the scenes of {type(dataset).TITLE} have none")
        return dataset


class Segment3D(LightningModule):
    """A class for every point.

    Args:
        classes: their names.
        net: "sr_unet34" or "sr_unet18".
        width: a factor on the network's channels.
        voxel_size: metres.
        features: "color", from -1 to 1; or "ones", which leaves shape alone.
        lr, momentum, weight_decay: of SGD.
        power: the rate falls as (1 - t)^power over the run.
        bn_momentum: of the batch norms.
        init: a checkpoint whose network, of the same kind, is the beginning, all but the last layer.
        pictures: how many validation scenes are drawn after each validation.

    Raises:
        ValueError: (in training) points without labels or colours, or a loss that is not finite.
    """

    MONITOR = "val/miou"  # the best checkpoint has the highest
    CURVES = ("train/miou", "val/miou")

    def __init__(
        self, classes: list[str], net: Literal["sr_unet34", "sr_unet18"] = "sr_unet34", width: float = 1.0,
        voxel_size: float = 0.05, features: Literal["color", "ones"] = "color", lr: float = 0.1,
        momentum: float = 0.9, weight_decay: float = 1e-4, power: float = 0.9, bn_momentum: float = 0.02,
        init: str | None = None, pictures: int = 4,
    ):  # fmt: skip
        super().__init__()
        self.save_hyperparameters()
        for name, value in (("voxel_size", voxel_size), ("lr", lr), ("power", power)):
            check_positive(name, value)
        for name, value in (("momentum", momentum), ("weight_decay", weight_decay), ("pictures", pictures)):
            check_amount(name, value)
        self.classes, self.voxel_size, self.features, self.pictures = classes, voxel_size, features, pictures
        self.lr, self.momentum, self.weight_decay, self.power = lr, momentum, weight_decay, power
        self.net = NETS[net](3, len(classes), width=width, bn_momentum=bn_momentum)
        self.train_scores, self.val_scores = SegmentationMetric(len(classes)), SegmentationMetric(len(classes))
        if init is not None:
            load_weights(self.net, init, prefix="net.", skip="final.")

    def voxels(self, batch: Batch) -> tuple[SparseTensor, Voxels]:
        """The network's input."""
        if batch.points is None:
            raise ValueError(f"scenes {', '.join(batch.scenes)}: must have points, theirs have none")
        if self.features == "ones":
            features = torch.ones_like(batch.points)
        elif batch.point_colors is not None:
            features = batch.point_colors / 127.5 - 1
        else:
            raise ValueError(f"scenes {', '.join(batch.scenes)}: must have points with colours, or features='ones'")
        return voxel_tensor(batch.points, features, self.voxel_size, batch.ptr)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        x, voxels = self.voxels(batch)
        target = scatter(self.labels(batch), voxels, "mode")
        logits = self.net(x).features
        total = F.cross_entropy(logits.float(), target, ignore_index=-1, reduction="sum")
        loss = joint_mean(total, (target >= 0).sum())
        check_finite(loss, self.global_step)
        self.train_scores.update(logits.argmax(1), target)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        scores = self.train_scores.compute()
        if scores.pixel_accuracy.isnan():
            raise ValueError("training scenes must have labelled points, these have none")
        self.log("train/miou", scores.miou.float(), sync_dist=True)
        self.train_scores.reset()

    def validation_step(self, batch: Batch, _: int) -> None:
        x, voxels = self.voxels(batch)
        prediction = at_points(self.net(x).features.argmax(1), voxels, -1)
        self.val_scores.update(prediction, self.labels(batch))
        if self.undrawn > 0 and self.trainer.is_global_zero and not self.trainer.sanity_checking:
            self._draw(batch, prediction)

    def on_validation_epoch_end(self) -> None:
        scores = self.val_scores.compute()
        self.val_scores.reset()
        of = "test" if self.trainer.testing else "val"
        self.log(f"{of}/miou", scores.miou.float(), prog_bar=True, sync_dist=True)
        self.log(f"{of}/mean_accuracy", scores.mean_accuracy.float(), sync_dist=True)
        self.log(f"{of}/accuracy", scores.pixel_accuracy.float(), sync_dist=True)
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            (self.folder / "classes.md").write_text(class_table(self.classes, scores))

    def labels(self, batch: Batch) -> Tensor:
        if batch.point_semantic is None:
            raise ValueError(f"scenes {', '.join(batch.scenes)}: must have points with classes, theirs have none")
        return batch.point_semantic

    def on_validation_start(self) -> None:
        """Where this run keeps its log, tables and pictures. Asked here, where all processes are: they agree on it."""
        self.folder = folder_of(self.trainer)
        self.undrawn = self.pictures

    def _draw(self, batch: Batch, prediction: Tensor) -> None:
        assert batch.points is not None
        labels, sizes = self.labels(batch), batch.ptr.diff().tolist()
        colors = [None] * len(batch) if batch.point_colors is None else batch.point_colors.cpu().split(sizes)
        parts = (t.cpu().split(sizes) for t in (batch.points, labels, prediction))
        some = list(zip(batch.scenes, colors, *parts, strict=True))[: self.undrawn]
        self.undrawn -= len(some)
        for scene, color, points, label, predicted in some:
            draw_prediction(
                self.folder / "pictures" / f"{scene}.png", points, color, label, predicted, classes=self.classes
            )

    on_test_start, test_step, on_test_epoch_end = on_validation_start, validation_step, on_validation_epoch_end

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(
            self.net.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        steps = self.trainer.estimated_stepping_batches
        fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(1 - step / steps, 0) ** self.power)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": fall, "interval": "step"}}
