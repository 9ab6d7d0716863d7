"""Who teaches, where ImageNet is not at hand? Three small 2D networks, trained on frames with objects and classes.

They stand in for what PPKT (Liu et al., 2021, arXiv:2104.04687) takes from elsewhere: a ResNet trained to classify
ImageNet, one trained on it without labels by MoCo v2 (He et al., 2020, arXiv:1911.05722; Chen et al., 2020,
arXiv:2003.04297), and a ResNet-FCN trained on ADE20K. Pictures with an object in their middle, cut out of the frames
around what they see of it, stand in for ImageNet's; so "without labels" is without classes: where objects are is known,
as it was to whoever took ImageNet's photographs. What is learned here is honest about a student only where the frames
are not the student's: :mod:`pyproj2d3d.studies.ppkt` has rooms of their own for it.

Of what ``fit teacher_classifier`` leaves, ``fit ppkt --model.teacher_weights CHECKPOINT --model.teacher_prefix net.``
takes the network, and with ``--model.teacher_net resnet_fcn`` of what ``fit teacher_segmentation`` leaves. A checkpoint
of ``fit teacher_moco`` has MoCo's names, and goes without the prefix.

Departures. MoCo: the keys of the batch are negatives as well as those of the queue, which begins empty; norms are taken
over the batch of all processes, instead of shuffling keys among them; colours change in one order, and hue turns about
the grey axis. The ResNet-FCN has no auxiliary loss. All: SGD whose rate falls to nothing as half a cosine.
"""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ..data.datamodule import SceneDataModule
from ..data.samples import Batch
from ..data.synth.options import RoomOptions
from ..data.transforms import check_positive, check_share
from ..data.transforms2d import to_size, varied_to_size
from ..metrics import retrieved
from ..metrics.accumulate import SegmentationMetric
from ..nn.distributed import cat_over_processes, sum_over_processes
from ..nn.resnet import ResNet
from ..nn.resnet_fcn import ResNetFCN
from ..ops._check import check_int
from .teachers_base import Depth, ObjectTeacher, Teacher, at_least_float32, at_least_two, begun
from .teachers_base_crops import Objects, Variation

NEIGHBOURS, VOTE = 20, 0.07  # of val/knn: how many vote, each with the weight exp(similarity / VOTE)
ROWS = 1024  # of similarities at a time


class TeacherData(SceneDataModule):
    """Frames of a dataset that has classes and objects in its images, such as ScanNet.

    Args:
        root: the folder of a dataset. Absent: the synthetic rooms that ``fit ppkt`` has too, written into ``rooms/``.
        every: only every so many-th frame of a scene.
        size: of all images, (H, W).
        resize: the range of the factor between the longer side of a training image and that of ``size``.
        flip: the probability that it is mirrored.
        batch_size: frames in a batch, of each process.
        workers: processes that read and vary them, of each process.
        seed: of their order and variation.
        train_split, val_split, test_split: names of splits in the dataset; "default" is what its reader has.
        rooms, frames: how many synthetic rooms, of how many frames; every fifth is for validation.

    An image of another shape than ``size`` is cropped or padded to it; padding has no class and is no object.
    """

    def __init__(
        self, root: str | None = None, *, every: int = 1, size: tuple[int, int] = (240, 320),
        resize: tuple[float, float] = (0.8, 1.25), flip: float = 0.5, batch_size: int = 8, workers: int = 2,
        seed: int = 0, train_split: str | None = "default", val_split: str | None = "default",
        test_split: str | None = "default", rooms: int = 50, frames: int = 24,
    ):  # fmt: skip
        vary, keep = varied_to_size(size, resize, flip), to_size(size)
        self.save_hyperparameters(logger=False, ignore=["root"] if callable(root) else [])
        super().__init__(
            root, every=every, view_transform=vary, val_view_transform=keep,
            batch_size=batch_size, workers=workers, seed=seed,
            train_split=train_split, val_split=val_split, test_split=test_split,
            rooms=rooms, room_options=RoomOptions(frames=frames, size=(240, 320)),
        )  # fmt: skip


class ClassifierTeacher(ObjectTeacher):
    """A class for the picture of an object.

    Args:
        classes: their names.
        depth, width: of the :class:`ResNet`.
        crop: pixels of the pictures.
        crops: objects of a frame that are drawn in a step, at most, and in validation.
        min_pixels, min_share, margin: see :func:`visible_objects`.
        area: what share of a picture is kept in training, from and to, see :class:`Variation`.
        colors, grey, blur: how often pictures are so changed, see there.
        lr, sgd_momentum, weight_decay: of SGD.
        warmup: steps in which the rate rises to ``lr``.
        init: weights to begin from, all but the last layer: any that :func:`load_resnet` takes, or a checkpoint of one
            of these teachers.
        seed: of what is drawn in a step. It depends on the frame and the epoch besides, and on nothing else.

    Raises:
        ValueError: fewer than two classes, or weights of another network; (in training) frames without instances or
            classes, a batch in which no object is to be seen, or a loss that is not finite.

    "val/accuracy" is over the pictures, "val/mean_accuracy" the mean over the classes; "val/chance" what the most
    frequent class alone would reach.
    """

    MONITOR = "val/accuracy"  # the best checkpoint has the highest
    CURVES = ("train/accuracy", "val/accuracy")

    def __init__(
        self, classes: list[str], depth: Depth = 18, width: int = 64, crop: int = 64, crops: int = 8,
        min_pixels: int = 200, min_share: float = 0.1, margin: float = 0.1, area: tuple[float, float] = (0.35, 1.0),
        colors: float = 0.0, grey: float = 0.0, blur: float = 0.0, lr: float = 0.1, sgd_momentum: float = 0.9,
        weight_decay: float = 1e-4, warmup: int = 20, init: str | None = None, seed: int = 0,
    ):  # fmt: skip
        vary = Variation(area, colors, grey, blur)
        super().__init__(crop, crops, min_pixels, min_share, margin, seed, vary, lr, sgd_momentum, weight_decay, warmup)
        self.save_hyperparameters()
        self.classes = at_least_two(classes)
        self.net = begun(ResNet(depth, width=width), init)
        self.net.fc = nn.Linear(self.net.channels[-1], len(classes))
        self.train_scores, self.val_scores = SegmentationMetric(len(classes)), SegmentationMetric(len(classes))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        some, numbers = self.labelled(batch, self.current_epoch)
        logits = at_least_float32(self.net.classify(self.net(self.pictures(batch, some, numbers[:, 0]))[-1]))
        self.train_scores.update(logits.argmax(1), some.label)
        total = F.cross_entropy(logits, some.label, reduction="sum")
        return self.mean_loss(total, len(logits), batch, f"objects of a class and {self.min_pixels} pixels")

    def labelled(self, batch: Batch, epoch: int) -> tuple[Objects, Tensor]:
        if batch.semantic is None:
            raise ValueError(f"frames {', '.join(batch.frame_names)}: must have classes, theirs have none")
        return self.objects(batch, epoch, 1, labelled=True)

    def on_train_epoch_end(self) -> None:
        self.log("train/accuracy", self.train_scores.compute().pixel_accuracy.float(), sync_dist=True)
        self.train_scores.reset()

    def on_validation_start(self) -> None:
        super().on_validation_start()
        self.counts = torch.zeros(len(self.classes), dtype=torch.int64, device=self.device)

    def validation_step(self, batch: Batch, _: int) -> None:
        some, _numbers = self.labelled(batch, 0)
        logits = self.net.classify(self.net(self.pictures(batch, some))[-1])
        self.val_scores.update(logits.argmax(1), some.label)
        self.counts += some.label.bincount(minlength=len(self.classes))

    def on_validation_epoch_end(self) -> None:
        scores, counts = self.val_scores.compute(), sum_over_processes(self.counts)
        self.val_scores.reset()
        if counts.sum() == 0:
            raise ValueError(f"validation frames must have objects of a class and {self.min_pixels} pixels, none has")
        chance = counts.max() / counts.sum()
        self.log_scores({"accuracy": scores.pixel_accuracy, "mean_accuracy": scores.mean_accuracy, "chance": chance})
        self.write_table(self.classes, scores)

    on_test_start, test_step, on_test_epoch_end = on_validation_start, validation_step, on_validation_epoch_end

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return self.optimizer_of(self.net.parameters())


class MoCoTeacher(ObjectTeacher):
    """Two pictures of one view of an object are alike, and unlike all others, other views of it among them: MoCo v2.

    Args:
        depth, width: of the :class:`ResNet`.
        crop, crops, min_pixels, min_share, margin: as of ClassifierTeacher.
        dim: of the space in which pictures are alike.
        queue: keys of earlier batches that are kept.
        momentum: of the slow encoder, which makes the keys. 0.999 in the paper, whose runs are a thousand times longer.
        temperature: of the loss.
        area, colors, grey, blur: as of ClassifierTeacher; the defaults are the paper's.
        lr, sgd_momentum, weight_decay, warmup, init, seed: likewise.

    Raises:
        ValueError: as ClassifierTeacher.

    No class is used to learn. "val/retrieval" is the share of validation pictures, varied as in training, whose most
    similar among those of all objects, varied otherwise, is that of their own object; "val/chance" what guessing would
    reach. Where frames have classes, "val/knn" is the share of objects whose class is that of their 20 most similar in
    other scenes, by the features of the ResNet.
    """

    MONITOR = "val/retrieval"  # the best checkpoint has the highest
    CURVES = ("val/retrieval", "val/knn")
    queue: Tensor  # (queue, dim)
    queued: Tensor  # int64, how many keys there have been

    def __init__(
        self, depth: Depth = 18, width: int = 64, crop: int = 64, crops: int = 8, min_pixels: int = 200,
        min_share: float = 0.1, margin: float = 0.1, dim: int = 128, queue: int = 4096, momentum: float = 0.99,
        temperature: float = 0.2, area: tuple[float, float] = (0.2, 1.0), colors: float = 0.8, grey: float = 0.2,
        blur: float = 0.5, lr: float = 0.1, sgd_momentum: float = 0.9, weight_decay: float = 1e-4, warmup: int = 20,
        init: str | None = None, seed: int = 0,
    ):  # fmt: skip
        vary = Variation(area, colors, grey, blur)
        super().__init__(crop, crops, min_pixels, min_share, margin, seed, vary, lr, sgd_momentum, weight_decay, warmup)
        self.save_hyperparameters()
        check_share("momentum", momentum)
        check_positive("temperature", temperature)
        self.momentum, self.temperature = momentum, temperature

        def encoder() -> ResNet:
            net = ResNet(depth, width=width)
            last = net.channels[-1]
            net.fc = nn.Sequential(nn.Linear(last, last), nn.ReLU(), nn.Linear(last, check_int("dim", dim, 1)))
            return net

        self.encoder_q, self.encoder_k = encoder(), encoder()
        begun(self.encoder_q, init)
        self.encoder_k.load_state_dict(self.encoder_q.state_dict())
        self.encoder_k.requires_grad_(False)
        self.register_buffer("queue", torch.zeros(check_int("queue", queue, 0), dim))
        self.register_buffer("queued", torch.tensor(0))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        some, numbers = self.objects(batch, self.current_epoch, 2, labelled=False)
        query = embedded(self.encoder_q, self.pictures(batch, some, numbers[:, 0]))
        with torch.no_grad():
            for slow, fast in zip(self.encoder_k.parameters(), self.encoder_q.parameters(), strict=True):
                slow.lerp_(fast, 1 - self.momentum)
            key = embedded(self.encoder_k, self.pictures(batch, some, numbers[:, 1]))
            keys = cat_over_processes(key)
            counts = cat_over_processes(torch.tensor([len(key)], device=key.device))
        own = torch.arange(len(key), device=key.device) + counts[: self.global_rank].sum()
        candidates = torch.cat((keys, self.queue[: int(self.queued)]))
        with torch.autocast(query.device.type, enabled=False):  # which would multiply in half precision
            total = F.cross_entropy(query @ candidates.T / self.temperature, own, reduction="sum")
        self.enqueue(keys)
        return self.mean_loss(total, len(query), batch, f"objects of {self.min_pixels} pixels")

    def enqueue(self, keys: Tensor) -> None:
        """In place of the oldest."""
        if len(self.queue):
            place = (self.queued + torch.arange(len(keys), device=keys.device)) % len(self.queue)
            self.queue[place[-len(self.queue) :]] = keys[-len(self.queue) :].to(self.queue.dtype)
            self.queued += len(keys)

    def on_validation_start(self) -> None:
        super().on_validation_start()
        self.found: list[tuple[Tensor, ...]] = []

    def validation_step(self, batch: Batch, _: int) -> None:
        some, numbers = self.objects(batch, 0, 2, labelled=False)
        one, other = (embedded(self.encoder_q, self.pictures(batch, some, numbers[:, i])) for i in (0, 1))
        features = at_least_float32(self.encoder_q(self.pictures(batch, some))[-1])
        features = F.normalize(features.mean((2, 3)), dim=1)
        keys = (hashlib.sha256(name.encode()).digest() for name in batch.scenes)
        scenes = torch.tensor([int.from_bytes(key[:7], "big") for key in keys], device=one.device)
        scene = torch.repeat_interleave(scenes, batch.view_ptr.diff().to(one.device))[some.view]
        self.found.append((one, other, features, some.label, scene))

    def on_validation_epoch_end(self) -> None:
        one, other, features, label, scene = (
            cat_over_processes(torch.cat(parts)) for parts in zip(*self.found, strict=True)
        )
        self.found.clear()
        if len(one) == 0:
            raise ValueError(f"validation frames must have objects of {self.min_pixels} pixels, none has")
        scores = {"retrieval": retrieved(one, other).mean(), "chance": torch.tensor(1 / len(one))}
        if bool((label >= 0).any()) and len(scene.unique()) > 1:
            scores["knn"] = knn_accuracy(features, label, scene)
        self.log_scores(scores)

    on_test_start, test_step, on_test_epoch_end = on_validation_start, validation_step, on_validation_epoch_end

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return self.optimizer_of(self.encoder_q.parameters())


class SegmentationTeacher(Teacher):
    """A class for every pixel: a ResNet-FCN, at stride 8.

    Args:
        classes: their names.
        depth, width: of the :class:`ResNetFCN`.
        lr, sgd_momentum, weight_decay, warmup: as of ClassifierTeacher.
        init: weights of the ResNet to begin from, as of ClassifierTeacher.

    Raises:
        ValueError: fewer than two classes, or weights of another network; (in training) frames without classes, a batch
            in which no pixel has one, or a loss that is not finite.

    The logits are upsampled bilinearly to the size of the frames, in training as in validation. Scores are over all
    pixels with a class.
    """

    MONITOR = "val/miou"  # the best checkpoint has the highest
    CURVES = ("train/miou", "val/miou")

    def __init__(
        self, classes: list[str], depth: Depth = 18, width: int = 64, lr: float = 0.1, sgd_momentum: float = 0.9,
        weight_decay: float = 1e-4, warmup: int = 20, init: str | None = None,
    ):  # fmt: skip
        super().__init__(lr, sgd_momentum, weight_decay, warmup)
        self.save_hyperparameters()
        self.classes = at_least_two(classes)
        self.net = ResNetFCN(depth, len(classes), width=width)
        begun(self.net.backbone, init)
        self.train_scores, self.val_scores = SegmentationMetric(len(classes)), SegmentationMetric(len(classes))

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(V, K, H, W), and the classes, (V, H, W)."""
        if batch.color is None or batch.semantic is None:
            raise ValueError(f"frames {', '.join(batch.frame_names)}: must have classes, theirs have none")
        small = at_least_float32(self.net(batch.color)[1])
        size = list(batch.semantic.shape[1:])
        return F.interpolate(small, size, mode="bilinear", align_corners=False), batch.semantic

    def training_step(self, batch: Batch, _: int) -> Tensor:
        logits, target = self.logits(batch)
        self.train_scores.update(logits.argmax(1), target)
        total = F.cross_entropy(logits, target, ignore_index=-1, reduction="sum")
        return self.mean_loss(total, (target >= 0).sum(), batch, "pixels with a class")

    def on_train_epoch_end(self) -> None:
        self.log("train/miou", self.train_scores.compute().miou.float(), sync_dist=True)
        self.train_scores.reset()

    def validation_step(self, batch: Batch, _: int) -> None:
        logits, target = self.logits(batch)
        self.val_scores.update(logits.argmax(1), target)

    def on_validation_epoch_end(self) -> None:
        scores = self.val_scores.compute()
        self.val_scores.reset()
        if scores.pixel_accuracy.isnan():
            raise ValueError("validation frames must have pixels with a class, none has")
        self.log_scores({"miou": scores.miou, "mean_accuracy": scores.mean_accuracy, "accuracy": scores.pixel_accuracy})
        self.write_table(self.classes, scores)

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return self.optimizer_of(self.net.parameters())


def embedded(net: ResNet, pictures: Tensor) -> Tensor:
    """(n, dim) of unit length."""
    return F.normalize(at_least_float32(net.classify(net(pictures)[-1])), dim=1)


def knn_accuracy(features: Tensor, label: Tensor, scene: Tensor) -> Tensor:
    """The share of the labelled rows whose class wins among the votes of the most similar in other scenes."""
    rows = (label >= 0).nonzero()[:, 0]
    features, label, scene = features[rows], label[rows], scene[rows]
    right = features.new_zeros((), dtype=torch.float64)
    for some in torch.arange(len(rows), device=rows.device).split(ROWS):
        similar = features[some] @ features.T
        similar[scene[some, None] == scene] = -math.inf
        weight, at = similar.topk(min(NEIGHBOURS, len(rows)), dim=1)
        votes = weight.new_zeros(len(some), int(label.max()) + 1)
        votes.scatter_add_(1, label[at], ((weight - 1) / VOTE).exp())
        right += (votes.argmax(1) == label[some]).sum()
    return right / len(rows)
