"""What do the networks that teach share? How they begin, what they see of a batch, and when a run must stop."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ..data.samples import Batch
from ..data.transforms import check_amount, check_positive, check_range, check_share, generator_of
from ..metrics.segmentation import SegmentationScores
from ..nn.distributed import check_finite, joint_mean, sum_over_processes
from ..nn.resnet import ResNet, load_resnet
from ..nn.weights import read_weights
from ..ops._check import check_int
from ..report_training import class_table, folder_of
from .teachers_base_crops import Objects, Variation, choose, pictures_of, visible_objects

INSIDE = ("net.backbone.", "backbone.", "net.")  # where checkpoints have a ResNet's names

Depth = Literal[18, 34, 50, 101]


class Teacher(LightningModule):
    """What the three share: SGD, and that a run stops where there is nothing to learn or the loss is not finite."""

    def __init__(self, lr: float, sgd_momentum: float, weight_decay: float, warmup: int):
        super().__init__()
        check_positive("lr", lr)
        for name, value in (("sgd_momentum", sgd_momentum), ("weight_decay", weight_decay)):
            check_amount(name, value)
        self.lr, self.sgd_momentum, self.weight_decay = lr, sgd_momentum, weight_decay
        self.warmup = check_int("warmup", warmup, 0)

    def mean_loss(self, total: Tensor, count: int | Tensor, batch: Batch, wanted: str) -> Tensor:
        """Of all processes, given the sum and the number of this one's."""
        count = torch.as_tensor(count, device=total.device)
        if int(sum_over_processes(count.detach().clone())) == 0:  # in all: all stop
            raise ValueError(f"frames {', '.join(batch.frame_names)}: must have {wanted}, none of theirs has any")
        loss = joint_mean(total, count)
        check_finite(loss, self.global_step)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        return loss

    def on_validation_start(self) -> None:
        """Where this run keeps its log and tables. Asked here, where all processes are: they agree on it."""
        self.folder = folder_of(self.trainer)

    on_test_start = on_validation_start

    def log_scores(self, scores: dict[str, Tensor]) -> None:
        """As "val/..." or "test/...", the first on the progress bar."""
        of = "test" if self.trainer.testing else "val"
        for i, (name, value) in enumerate(scores.items()):
            self.log(f"{of}/{name}", value.float(), prog_bar=i == 0, sync_dist=True)

    def write_table(self, classes: list[str], scores: SegmentationScores) -> None:
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            (self.folder / "classes.md").write_text(class_table(classes, scores))

    def optimizer_of(self, parameters: Iterable[nn.Parameter]) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=self.sgd_momentum, weight_decay=self.weight_decay)
        steps = self.trainer.estimated_stepping_batches

        def share(step: int) -> float:
            return min((step + 1) / (self.warmup + 1), (1 + math.cos(math.pi * min(step / steps, 1))) / 2)

        fall = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": fall, "interval": "step"}}


class ObjectTeacher(Teacher):
    """What learns from pictures of objects; arguments as of ClassifierTeacher."""

    def __init__(
        self, crop: int, crops: int, min_pixels: int, min_share: float, margin: float, seed: int, vary: Variation,
        lr: float, sgd_momentum: float, weight_decay: float, warmup: int,
    ):  # fmt: skip
        super().__init__(lr, sgd_momentum, weight_decay, warmup)
        self.crop, self.crops = check_int("crop", crop, 8), check_int("crops", crops, 1)
        self.min_pixels, self.min_share, self.margin = check_int("min_pixels", min_pixels, 1), min_share, margin
        check_share("min_share", min_share)
        check_amount("margin", margin)
        check_range("area", vary.area)
        if vary.area[1] > 1:
            raise ValueError(f"area must be at most 1, got {vary.area}")
        for name, p in (("colors", vary.colors), ("grey", vary.grey), ("blur", vary.blur)):
            check_share(name, p)
        self.vary, self.seed = vary, seed

    def objects(self, batch: Batch, epoch: int, pictures: int, labelled: bool) -> tuple[Objects, Tensor]:
        """Some of each frame, and numbers for so many pictures of each, as ``choose`` has them."""
        found = visible_objects(batch, min_pixels=self.min_pixels, min_share=self.min_share, margin=self.margin)
        if labelled:
            found = found.some((found.label >= 0).nonzero()[:, 0])
        return choose(found, self.crops, pictures, [generator_of(self.seed, epoch, name) for name in batch.frame_names])

    def pictures(self, batch: Batch, some: Objects, numbers: Tensor | None = None) -> Tensor:
        """(n, 3, crop, crop), varied where there are numbers for it."""
        assert batch.color is not None
        return pictures_of(batch.color, some, self.crop, numbers, None if numbers is None else self.vary)


def at_least_two(classes: list[str]) -> list[str]:
    if len(classes) < 2:
        raise ValueError(f"classes must be at least two, got {', '.join(classes) or 'none'}")
    return classes


def begun(net: ResNet, init: str | None) -> ResNet:
    """With weights to begin from, all but the last layer, wherever a file has them."""
    if init is not None:
        last, net.fc = net.fc, None
        names = read_weights(init) if Path(init).exists() else {}  # torchvision's are known by a name
        prefix = next((inside for inside in INSIDE if f"{inside}conv1.weight" in names), "")
        load_resnet(net, init, prefix=prefix)
        net.fc = last
    return net


def at_least_float32(x: Tensor) -> Tensor:
    """Losses and similarities are not taken in what autocast rounds to."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
