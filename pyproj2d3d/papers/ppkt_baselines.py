"""What PPKT is measured against: students of whole images, of classes, and of other views (its tables 1 to 6).

Each leaves a checkpoint as :class:`PPKT` does, of the same student. From scratch is ``fit segment3d`` without ``init``,
and the teachers of table 6 are PPKT's own arguments.

* :class:`GlobalDistillation`: the encoder alone learns what a 2D network says of the whole image: "kd", its classes
  (Hinton et al., 2015, arXiv:1503.02531); "l2", its features (Gupta et al., 2016, arXiv:1507.00448); "crd", which
  features are those of the same frame (Tian et al., 2020, arXiv:1910.10699).
* :class:`PPKD`: each point learns the classes that a segmentation network gives its pixel.
* :class:`PointContrast`: two views of one scene learn from each other (Xie et al., 2020, arXiv:2007.10985).

The paper names the first four and says little of them. What it leaves open, and what is done here: data, augmentation
and optimiser are PPKT's; temperatures are 4 for "kd", as in CRD's own comparison, 0.07 for "crd", as in its code, and 1
for PPKD; divergences are multiplied by the square of the temperature. "l2" is the mean over the channels of squared
differences, of features that are not normalised. "crd" has InfoNCE, one way, from student to teacher, for CRD's
symmetric estimate with a constant that is fitted in the first step.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.datamodule import SceneDataModule
from ..data.frame_pairs import FramePairs
from ..data.samples import Batch
from ..data.synth.options import RoomOptions
from ..data.transforms import Compose, check_positive, check_share
from ..data.transforms2d import to_size
from ..data.transforms3d import Rotate, Shift
from ..losses.contrastive import info_nce
from ..metrics import retrieved
from ..nn.distributed import cat_over_processes, joint_mean, processes
from ..nn.resnet import MOCO, TORCHVISION, Frozen, ResNet
from ..nn.voxel_input import voxel_tensor
from ..nn.weights import read_weights
from ..ops._check import check_choice, check_int
from ..ops.back_project import back_project
from ..ops.scatter import scatter
from ..ops.three_nn import three_nn
from ..results import Voxels
from .ppkt import Frames, PPKTData, Student, as_in_fine_tuning, lifted
from .ppkt_teachers import RANDOM, trained_fcn, trained_resnet

__all__ = ["PPKD", "GlobalDistillation", "PPKTData", "PointContrast", "PointContrastData"]

DECODER = ("convtr", "bntr", "block5", "block6", "block7", "block8", "final")  # of SR-UNet
IMAGENET = 1000  # classes
NOBODY = -1  # whose a place in the memory is that was not filled yet
BLOCK = 1024  # validation frames among which each is looked for


class GlobalDistillation(Student):
    """An encoder that learns from what a 2D network says of whole images.

    The mean of the encoder's voxels of a frame, after a linear layer, is held against the teacher's mean over the
    frame's image.

    Args:
        loss: "kd": the teacher's classes, from the file of a teacher that has a classifier. "l2": its features. "crd":
            in a space of ``embedding`` dimensions, its features of this frame rather than those of others: of the
            batch, of all processes, and of the ``memory``.
        temperature: of "kd", absent 4, or of "crd", absent 0.07.
        embedding: the width of the space that "crd" compares in.
        memory: of how many past frames "crd" keeps the teacher's features. They are kept before the linear layer, which
            learns, and the teacher does not, so they are never out of date. A frame is no negative of itself.

    The others are PPKT's. The decoder takes no part and stays as it was initialised, in the checkpoint too.

    Raises:
        ValueError: as of PPKT; and with "kd" a teacher without a classifier, such as MoCo's.

    "val/retrieval" is the share of validation frames whose teacher, of up to 1,024 of them, has the least loss with its
    own student; "val/chance" what guessing would reach. Frames without depth take no part.
    """

    memory: Tensor
    memory_of: Tensor

    def __init__(
        self, loss: Literal["kd", "l2", "crd"] = "kd", net: Literal["sr_unet34", "sr_unet18"] = "sr_unet34",
        teacher: Literal[18, 34, 50, 101] = 50, teacher_weights: str = "IMAGENET1K_V1", teacher_prefix: str = "",
        teacher_width: int = 64, width: float = 1.0, embedding: int = 128, temperature: float | None = None,
        memory: int = 4096, voxel_size: float = 0.025, distort: bool = True, lr: float = 0.5, momentum: float = 0.9,
        weight_decay: float = 1e-4, decay: float = 0.09, bn_momentum: float = 0.05, init: str | None = None,
        seed: int = 0,
    ):  # fmt: skip
        super().__init__(
            net, embedding, as_in_fine_tuning(distort), width=width, voxel_size=voxel_size, lr=lr, momentum=momentum,
            weight_decay=weight_decay, decay=decay, bn_momentum=bn_momentum, init=init, seed=seed,
        )  # fmt: skip
        self.save_hyperparameters()
        check_choice("loss", loss, "kd", "l2", "crd")
        self.loss, self.temperature = loss, (4.0 if loss == "kd" else 0.07) if temperature is None else temperature
        check_positive("temperature", self.temperature)
        for name, part in self.net.named_children():
            part.requires_grad_(not name.startswith(DECODER))
        classes = classes_of(teacher_weights, teacher_prefix) if loss == "kd" else None
        resnet = trained_resnet(teacher, teacher_weights, teacher_prefix, teacher_width, classes)
        self.teacher, of_teacher = Frozen(resnet), resnet.channels[-1]
        encoded = self.net.convtr4p16s2.in_channels
        self.head = nn.Linear(encoded, {"kd": classes or 0, "l2": of_teacher, "crd": embedding}[loss])
        self.teacher_head = nn.Linear(of_teacher, embedding) if loss == "crd" else nn.Identity()
        if loss == "crd":
            size = check_int("memory", memory, 0)
            self.register_buffer("memory", torch.zeros(size, of_teacher))
            self.register_buffer("memory_of", torch.full((size,), NOBODY))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        frames = lifted(batch)
        points = self.varied(frames, self.draws(frames, self.current_epoch))
        student, teacher, view = self.of_frames(frames, points)
        self.check_some(len(view), frames)
        if self.loss == "crd":
            key = torch.tensor([rng.initial_seed() for rng in self.draws(frames, 0)], device=view.device)
            loss = self.contrasted(student, teacher, key[view])
        elif self.loss == "kd":
            loss = joint_mean(divergence(student, teacher, self.temperature).sum(), len(view))
        else:
            loss = joint_mean((student - teacher).square().mean(1).sum(), len(view))
        return self.logged(loss, batch)

    def of_frames(self, frames: Frames, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What student and teacher say of each frame that has depth, a row each, and which these are."""
        x, _ = voxel_tensor(points, frames.colors, self.voxel_size, frames.ptr)
        encoded = self.net.encode(x)[-1]
        in_frame = F.one_hot(encoded.indices[:, 0].long(), len(frames.names)).T.double()  # (V, voxels)
        view = in_frame.sum(1).nonzero()[:, 0]
        pooled = (in_frame @ encoded.features.double())[view] / in_frame.sum(1)[view, None]
        last = self.teacher(frames.color)[-1]
        said = last.mean((2, 3))
        if self.loss == "kd":
            assert isinstance(self.teacher.net, ResNet)
            said = self.teacher.net.classify(last)
        return self.head(pooled.float()).float(), said.float()[view], view

    def contrasted(self, student: Tensor, teacher: Tensor, key: Tensor) -> Tensor:
        """InfoNCE between this batch of frames and these and the remembered ones, which then become these, too.

        Args:
            key: (P,) int64, a number for each frame, always the same.
        """
        student, teacher, key = (cat_over_processes(rows) for rows in (student, teacher, key))
        candidates, of = torch.cat((teacher, self.memory)), torch.cat((key, self.memory_of))
        itself = (of == key[:, None]) & ~torch.eye(len(key), len(of), dtype=torch.bool, device=of.device)
        if len(of) == 1:
            raise ValueError("a frame must have others to be told from: batch_size or memory must be above 1 or 0")
        anchors, candidates = self.comparable(student, candidates)
        with torch.autocast(anchors.device.type, enabled=False):
            logits = (anchors @ candidates.T / self.temperature).masked_fill(itself | (of == NOBODY), -math.inf)
        for kept, new in ((self.memory, teacher), (self.memory_of, key)):
            kept.copy_(torch.cat((new, kept))[: len(kept)])
        return F.cross_entropy(logits, torch.arange(len(key), device=of.device))

    def comparable(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Rows whose product is the greater the less a student loses with a teacher."""
        if self.loss == "crd":
            return F.normalize(student, dim=1), F.normalize(self.teacher_head(teacher).float(), dim=1)
        if self.loss == "kd":
            student, teacher = (student / self.temperature).log_softmax(1), (teacher / self.temperature).softmax(1)
            own = torch.special.entr(teacher).sum(1, keepdim=True)
        else:
            own = -teacher.square().sum(1, keepdim=True) / 2
        return torch.cat((student, student.new_ones(len(student), 1)), 1), torch.cat((teacher, own), 1)

    def on_validation_start(self) -> None:
        super().on_validation_start()
        self.said: list[tuple[Tensor, Tensor]] = []  # of the frames so far

    def validation_step(self, batch: Batch, _: int) -> None:
        frames = lifted(batch)
        self.said.append(self.comparable(*self.of_frames(frames, frames.points)[:2]))

    def on_validation_epoch_end(self) -> None:
        student, teacher = (cat_over_processes(torch.cat(rows)) for rows in zip(*self.said, strict=True))
        for rows in zip(student.split(BLOCK), teacher.split(BLOCK), strict=True):
            found = retrieved(*rows)
            self.tally += found.new_tensor([found.sum(), min(len(found), 1), len(found)])
        super().on_validation_epoch_end()


class PPKD(Student):
    """A 3D network that gives each point the classes that a segmentation network gives the pixel that sees it.

    Args:
        teacher_weights: a file of a ResNet-FCN, see :func:`load_resnet_fcn`; or "random", which prints a warning.
        teacher: the depth of its ResNet: 18, 34, 50 or 101.
        temperature: by which both's logits are divided.

    The others are PPKT's. The network's last layer gives as many classes as the teacher has. As FCN does it, logits are
    upsampled and then become a distribution; they are read from the small map, at the same pixels that PPKT draws.

    "val/agreement" is the share of points, of ``val_pairs`` from each validation frame, whose likeliest class is that
    of their pixel; "val/chance" what guessing any class would reach.
    """

    MONITOR = "val/agreement"
    CURVES = ("val/agreement", "val/chance")

    def __init__(
        self, teacher_weights: str, net: Literal["sr_unet34", "sr_unet18"] = "sr_unet34",
        teacher: Literal[18, 34, 50, 101] = 50, teacher_prefix: str = "", teacher_width: int = 64, width: float = 1.0,
        temperature: float = 1.0, voxel_size: float = 0.025, pairs: int = 4096,
        sampling: Literal["random", "one_per_voxel"] = "random", distort: bool = True, lr: float = 0.5,
        momentum: float = 0.9, weight_decay: float = 1e-4, decay: float = 0.09, bn_momentum: float = 0.05,
        init: str | None = None, val_pairs: int = 256, seed: int = 0,
    ):  # fmt: skip
        fcn = trained_fcn(teacher, teacher_weights, teacher_prefix, teacher_width)
        super().__init__(
            net, fcn.num_classes, as_in_fine_tuning(distort), width=width, voxel_size=voxel_size, pairs=pairs,
            sampling=sampling, lr=lr, momentum=momentum, weight_decay=weight_decay, decay=decay,
            bn_momentum=bn_momentum, init=init, seed=seed,
        )  # fmt: skip
        self.save_hyperparameters()
        check_positive("temperature", temperature)
        self.temperature, self.val_pairs = temperature, check_int("val_pairs", val_pairs, 1)
        self.classes, self.teacher = fcn.num_classes, Frozen(fcn)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        frames = lifted(batch)
        draws = self.draws(frames, self.current_epoch)
        point, voxels = self.point_logits(frames, self.varied(frames, draws))
        row = self.chosen(frames, voxels, draws)
        pixel = self.pixel_logits(frames, self.small_map(frames), frames.at[row])
        lost = divergence(point[voxels.inverse[row]], pixel, self.temperature)
        return self.logged(joint_mean(lost.sum(), len(row)), batch)

    def point_logits(self, frames: Frames, points: Tensor) -> tuple[Tensor, Voxels]:
        """(M, classes) for the voxels in which the points are, and the voxels."""
        x, voxels = voxel_tensor(points, frames.colors, self.voxel_size, frames.ptr)
        return self.net(x).features.float(), voxels

    def small_map(self, frames: Frames) -> Tensor:
        """(V, classes, h, w), the teacher's logits."""
        return self.teacher(frames.color)[1]

    def pixel_logits(self, frames: Frames, small: Tensor, at: Tensor) -> Tensor:
        """(P, classes) at pixels of the flattened (V, H, W)."""
        cloud = back_project(frames.depth, frames.camera, small, pixels=at.long())
        assert cloud.features is not None
        return cloud.features.float()

    def validation_step(self, batch: Batch, _: int) -> None:
        frames = lifted(batch)
        point, voxels = self.point_logits(frames, frames.points)
        row = torch.cat(self.choose(self.val_pairs, frames, voxels, self.draws(frames, 0)))
        pixel = self.pixel_logits(frames, self.small_map(frames), frames.at[row])
        right = point[voxels.inverse[row]].argmax(1) == pixel.argmax(1)
        self.tally += self.tally.new_tensor([right.sum(), len(row) / self.classes, len(row)])


class PointContrastData(SceneDataModule):
    """Pairs of posed frames of one scene that see the same, see :class:`FramePairs`. Nothing else is varied here.

    Args:
        every: only every so many-th frame of a scene.
        overlap: the least share of the first frame's pixels whose place the second sees, too.
        batch_size: pairs in a batch, of each process.

    The others are those of :class:`PPKTData`.
    """

    def __init__(
        self, root: str | None = None, *, every: int = 25, size: tuple[int, int] = (480, 640), overlap: float = 0.3,
        batch_size: int = 32, workers: int = 2, seed: int = 0, train_split: str | None = "default",
        val_split: str | None = "default", test_split: str | None = "default", rooms: int = 50, frames: int = 24,
    ):  # fmt: skip
        check_share("overlap", overlap)
        self.save_hyperparameters(logger=False, ignore=["root"] if callable(root) else [])
        keep = to_size(size)
        super().__init__(
            root, every=every, view_transform=keep, val_view_transform=keep, batch_size=batch_size, workers=workers,
            seed=seed, train_split=train_split, val_split=val_split, test_split=test_split, rooms=rooms,
            room_options=RoomOptions(frames=frames, size=(240, 320)),
        )  # fmt: skip
        self.overlap = overlap

    def _samples(self, stage: str, training: bool, **_: Any) -> FramePairs:
        keep = self.transforms[training][0]
        return FramePairs(self.dataset(stage), every=self.every, overlap=self.overlap, transform=keep, at=self.at)


class PointContrast(Student):
    """A 3D network that gives a place the same feature in two views of it, whichever way each is turned.

    Args:
        features: what it sees: "ones", shape alone; or "color".
        embedding: width of the features.
        pairs: places that are drawn from a batch, of all processes together, equally many of each pair of frames.
        near: two voxels are one place where the means of their points are this many voxels apart at most, and none is
            nearer to the first.
        upright: views are turned about the vertical alone, which is learned in much fewer steps.
        overlap: a pair of frames is left out where a smaller share of the first one's points is in such places.

    The others are PPKT's, their defaults those of PointContrast's code (``ddp_local.sh``, ``defaults.yaml``), from
    which it departs in that a voxel has the mean of its points, and its partner is the nearest, where the code draws
    one of those within ``near``; and that features of one have no noise (0.01). Turns are about x, y and z, each by any
    angle. In several processes all candidates are negatives of all anchors.

    Raises:
        ValueError: as of PPKT; (in training) a batch in which no two frames overlap.

    "val/retrieval" is the share of places, of ``val_pairs`` from each pair, whose most similar voxel of the other view,
    among those drawn, is their own; both views are turned. "val/chance" is what guessing would reach.
    """

    WANTED = "be pairs that overlap enough, none of {} does: is every too large, or voxel_size too small?"

    def __init__(
        self, net: Literal["sr_unet34", "sr_unet18"] = "sr_unet34", width: float = 1.0,
        features: Literal["ones", "color"] = "ones", embedding: int = 32, temperature: float = 0.4,
        voxel_size: float = 0.025, pairs: int = 4096, near: float = 1.5, upright: bool = False, overlap: float = 0.3,
        lr: float = 0.1, momentum: float = 0.8, weight_decay: float = 1e-4, decay: float = 0.09,
        bn_momentum: float = 0.05, init: str | None = None, val_pairs: int = 256, seed: int = 0,
    ):  # fmt: skip
        tilt = 0.0 if upright else math.pi
        super().__init__(
            net, embedding, Compose([Rotate(tilt, tilt, math.pi), Shift(1.0)]), width=width, voxel_size=voxel_size,
            pairs=pairs, lr=lr, momentum=momentum, weight_decay=weight_decay, decay=decay, bn_momentum=bn_momentum,
            init=init, seed=seed,
        )  # fmt: skip
        self.save_hyperparameters()
        check_choice("features", features, "ones", "color")
        for name, value in (("near", near), ("temperature", temperature)):
            check_positive(name, value)
        check_share("overlap", overlap)
        self.features, self.temperature, self.near, self.overlap = features, temperature, near, overlap
        self.val_pairs = check_int("val_pairs", val_pairs, 1)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        frames = pairs_of(batch)
        most = max(self.pairs // (len(batch) * processes()), 1)
        feature, places = self.compared(frames, most, self.current_epoch)
        first, second = torch.cat(places, 1)
        self.check_some(len(first), frames)
        anchors, candidates = cat_over_processes(feature[first]), cat_over_processes(feature[second])
        return self.logged(info_nce(anchors, candidates, self.temperature), batch)

    def compared(self, frames: Frames, most: int, epoch: int) -> tuple[Tensor, list[Tensor]]:
        """(M, D) features of the voxels of all views, each turned, and up to so many :meth:`places` of each pair."""
        # A frame that is first in one pair and second in another is turned otherwise there.
        names = [f"{name} {i % 2}" for i, name in enumerate(frames.names)]
        draws = self.draws(frames._replace(names=names), epoch)
        colors = torch.ones_like(frames.colors) if self.features == "ones" else frames.colors
        x, voxels = voxel_tensor(self.varied(frames, draws), colors, self.voxel_size, frames.ptr)
        feature = F.normalize(self.net(x).features.float(), dim=1)
        some = []
        for both, rng in zip(self.places(frames, voxels), draws[::2], strict=True):
            some.append(both[:, torch.randperm(both.shape[1], generator=rng)[:most].to(both.device)])
        return feature, some

    def places(self, frames: Frames, voxels: Voxels) -> list[Tensor]:
        """(2, P) for each pair of views: which voxels of the first and of the second are one place in the world."""
        mean = scatter(frames.points, voxels)
        views = torch.arange(len(frames.ptr), dtype=torch.int32, device=mean.device)
        ptr = torch.searchsorted(voxels.coords[:, 0].contiguous(), views).tolist()
        found = []
        for begin, middle, end in zip(ptr[:-2:2], ptr[1:-1:2], ptr[2::2], strict=True):
            squared, nearest = (of[:, 0] for of in three_nn(mean[middle:end], mean[begin:middle]))
            first = (squared <= (self.near * self.voxel_size) ** 2).nonzero()[:, 0]
            if voxels.counts[begin + first].sum() < self.overlap * voxels.counts[begin:middle].sum():
                first = first[:0]
            found.append(torch.stack((begin + first, middle + nearest[first])))
        return found

    def validation_step(self, batch: Batch, _: int) -> None:
        feature, places = self.compared(pairs_of(batch), self.val_pairs, 0)
        for first, second in places:
            found = retrieved(feature[first], feature[second])
            self.tally += found.new_tensor([found.sum(), min(len(found), 1), len(found)])


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(P,) of the teacher's distribution from the student's, KL(teacher || student), both of (P, classes) logits.

    Softened by the temperature and multiplied by its square, so that gradients keep their size (Hinton et al.).
    """
    expected, got = (teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1)
    return F.kl_div(got, expected, reduction="none", log_target=True).sum(1) * temperature**2


def classes_of(weights: str, prefix: str) -> int:
    """How many classes the classifier of a ResNet's file has."""
    if weights == RANDOM or weights in TORCHVISION:
        return IMAGENET
    of = read_weights(weights)
    if f"{prefix}fc.weight" not in of or f"{prefix}fc.weight".startswith(MOCO):
        raise ValueError(f"{weights} must hold a classifier, {prefix}fc.weight, for loss='kd', and has none")
    return len(of[f"{prefix}fc.weight"])


def pairs_of(batch: Batch) -> Frames:
    frames = lifted(batch)
    if not bool((batch.view_ptr.diff() == 2).all()):
        raise ValueError(f"scenes {', '.join(batch.scenes)}: must have two frames in each sample, see FramePairs")
    return frames
