"""VoteNet on a sparse U-Net: detection of objects, on which pretrained 3D networks are compared.

VoteNet (Qi et al., 2019, arXiv:1904.09664) with SR-UNet for a backbone, as PointContrast fine-tunes it (Xie et al.,
2020, arXiv:2007.10985; ``downstream/votenet_det_new`` of its code): 40,000 points of a cloud, voxels of 2.5 cm, 1,024
seeds and 256 proposals, Adam with a rate of 0.001 that falls to a tenth at 80, 120 and 160 of 180 epochs, which are
shares of the run here; the momentum of batch norms is halved every 20 epochs. Their 32 clouds are
``--data.batch_size``.

Two kinds of datasets. Where points know their objects (ScanNet, S3DIS, synthetic rooms) boxes stand along the axes of
the room, around all points of an object where augmentation has put them; walls, floors and ceilings have none. Where
scenes have boxes of their own (SUN RGB-D in both forms) these move along with the points, their headings in 12 bins;
each image is a cloud then, lifted from its depth where the dataset has none.

Departures. Colours go in, a voxel having the mean of its points; ``features="ones"`` is PointContrast's (PPKT, which
pretrains with colours, does not say). Objects get the box around all their points, and at most ``points`` of these are
seen. Scores leave out boxes that hold fewer than five points, as VoteNet's ``eval.py`` does. Losses are means over the
joint batch of all processes, and so are batch norms'. VoteNet takes the filled depth of SUN RGB-D, which is in its own
form of it; :class:`SUNRGBD` reads the measured one.

How the rate falls decides more than pretraining: by steps VoteNet reaches 58.6 mAP@.25 on ScanNet, exponentially 46.8
(issue 27 of its code).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..data.datamodule import SceneDataModule
from ..data.samples import Batch, FrameSamples, PointTransform, SceneSamples, collate
from ..data.synth.options import RoomOptions
from ..data.transforms import Compose, check_amount, check_positive, check_share, generator_of
from ..data.transforms3d import FlipAxis, Relabel, Rotate, Scale
from ..losses.votenet import Mean, VoteNetLosses, votenet_loss
from ..losses.votenet_boxes import BoxCoder, detections, mean_sizes
from ..losses.votenet_targets import PackedBoxes, boxes_of_instances, vote_targets, votes_in_boxes
from ..metrics import DetectionScores
from ..metrics.accumulate import DetectionMetric
from ..nn.distributed import cat_over_processes, check_finite, joint_mean, processes
from ..nn.sr_unet import NETS
from ..nn.votenet import Proposals, VoteNet
from ..nn.voxel_input import voxel_tensor
from ..nn.weights import load_weights
from ..ops._check import check_int
from ..report_boxes import draw_boxes
from ..report_training import folder_of

NO_BOX = ("wall", "floor", "ceiling")
CHANNELS = 256  # of seeds and votes
HEADINGS = 12  # bins, where boxes have headings
LOWEST_MOMENTUM = 0.001  # of batch norms
SLOW = 100  # clouds; reading so many is worth a word


class Kind(NamedTuple):
    """What a dataset's boxes are."""

    of_instances: bool  # around the points of objects; otherwise those that scenes have
    classes: list[str]  # that have any
    table: tuple[int, ...]  # a place among them for each of the classes of points, or -1


class VoteNetData(SceneDataModule):
    """Clouds with objects of a dataset, one scene each, and how they are varied in training.

    Args:
        root: the folder of a dataset. Absent: synthetic rooms, written into ``rooms/``.
        batch_size: clouds in a batch, of each process.
        workers: processes that read and vary them, of each process.
        seed: of their order and variation.
        fraction, fraction_seed: the share of the training scenes that have labels, and which.
        train_split, val_split, test_split: names of splits in the dataset; "default" is what its reader has, and null
            all its scenes.
        rooms: how many synthetic rooms; every fifth is for validation.

    Rooms are mirrored along x and y and turned by up to 5 degrees; single images mirrored along x, turned by up to 30
    degrees and scaled by 0.85 to 1.15, as VoteNet has ScanNet and SUN RGB-D.
    """

    def __init__(
        self, root: str | None = None, *, batch_size: int = 8, workers: int = 2, seed: int = 0, fraction: float = 1.0,
        fraction_seed: int = 0, train_split: str | None = "default", val_split: str | None = "default",
        test_split: str | None = "default", rooms: int = 50,
    ):  # fmt: skip
        self.save_hyperparameters(logger=False, ignore=["root"] if callable(root) else [])
        super().__init__(
            root, samples="scenes", batch_size=batch_size, workers=workers, seed=seed,
            fraction=fraction, fraction_seed=fraction_seed,
            train_split=train_split, val_split=val_split, test_split=test_split,
            rooms=rooms, room_options=RoomOptions(frames=0),
        )  # fmt: skip

    @cached_property
    def kind(self) -> Kind:
        """Read from the dataset's first scene.

        Raises:
            ValueError: that scene has nothing that boxes are made of.
        """
        dataset = self._open(None)
        scene = dataset[0]
        if scene.cloud is not None and scene.cloud.instance is not None and scene.cloud.semantic is not None:
            classes = [name for name in dataset.classes if name not in NO_BOX]
            table = (classes.index(name) if name in classes else -1 for name in dataset.classes)
            return Kind(True, classes, tuple(table))
        if scene.read_boxes is None:
            raise ValueError(
                f"{dataset.root}: must have points with instances and classes, or boxes, scene {scene.name} has neither"
            )
        return Kind(False, list(dataset.box_classes), (-1,) * len(dataset.classes))

    @property
    def classes(self) -> list[str]:
        """The names of what has boxes."""
        return self.kind.classes

    def training_boxes(self, rank: int = 0, processes: int = 1) -> tuple[Tensor, Tensor]:
        """All boxes (K, 7) of every so many-th training scene, as it is, and their classes (K,)."""
        boxes_alone = {} if self.kind.of_instances else {"points": False, "point_transform": None}
        samples = self._samples("fit", False, **boxes_alone)
        some = Subset(samples, range(rank, len(samples), processes))
        if rank == 0 and len(samples) >= SLOW:
            print(f"reading the boxes of {len(samples)} training scenes", file=sys.stderr)
        loader = DataLoader(
            some, num_workers=self.workers, multiprocessing_context=self.start_method if self.workers else None,
            collate_fn=collate, generator=Generator(),
        )  # fmt: skip
        found = [true_boxes(batch) for batch in loader]
        box, label = [torch.zeros(0, 7)], [torch.zeros(0, dtype=torch.int64)]
        return torch.cat(box + [b.box for b in found]), torch.cat(label + [b.label for b in found])

    def _samples(self, stage: str, training: bool, **others: Any) -> FrameSamples | SceneSamples:
        vary: list[PointTransform] = [FlipAxis(0), FlipAxis(1), Rotate(z=math.radians(5))]
        if not self.kind.of_instances:
            vary = [FlipAxis(0), Rotate(z=math.radians(30)), Scale((0.85, 1.15))]
        transform = Compose([Relabel(self.kind.table), *(vary if training else [])])
        options = {"boxes": not self.kind.of_instances, "aligned": True, "lift": True, "point_transform": transform}
        return super()._samples(stage, training, **options | others)


class VoteNetDetector(LightningModule):
    """A box for every object.

    Args:
        classes: their names.
        net: the backbone, "sr_unet34" or "sr_unet18".
        width: a factor on its channels; 1 is the paper's.
        voxel_size: metres.
        features: "color", from -1 to 1; or "ones", which leaves shape alone.
        points: of a cloud that are taken, at most; in training others in each epoch.
        n_seeds, n_proposals, radius, neighbours: see :class:`pyproj2d3d.nn.votenet.VoteNet`.
        mean_sizes: metres, three for each class. Absent: of the training scenes.
        n_headings: bins of headings. Absent: 12, or 1 where all boxes of the training scenes stand along the axes.
        lr: of Adam.
        falls: the shares of the run at which the rate falls to a tenth.
        bn_momentum: of all batch norms at first.
        bn_halvings: how many equal parts a run has, after each of which it is halved, down to 0.001.
        threshold, min_objectness, min_points, per_class: of what counts as found, see
            :func:`pyproj2d3d.losses.votenet_boxes.detections`.
        init: a checkpoint whose network, of the same kind, is the backbone's beginning, all but the last layer.
        pictures: how many validation scenes are drawn after each validation, with their boxes and with those found to
            be objects rather than not.
        seed: of the points that are drawn. It depends on the scene and the epoch besides, and on nothing else.

    Raises:
        ValueError: weights of another network; (in training) no boxes at all, clouds without colours or without what
            boxes are made of, or a loss that is not finite.

    "val/map25" and "val/map50" are mean average precisions at an IoU of 0.25 and 0.5, "val/recall25" and "val/recall50"
    the means over classes of how many objects were found at all.
    """

    MONITOR = "val/map25"  # the best checkpoint has the highest
    CURVES = ("val/map25", "val/map50")
    coder: BoxCoder
    head: VoteNet

    def __init__(
        self, classes: list[str], net: Literal["sr_unet34", "sr_unet18"] = "sr_unet34", width: float = 1.0,
        voxel_size: float = 0.025, features: Literal["color", "ones"] = "color", points: int = 40_000,
        n_seeds: int = 1024, n_proposals: int = 256, radius: float = 0.3, neighbours: int = 16,
        mean_sizes: list[list[float]] | None = None, n_headings: int | None = None, lr: float = 1e-3,
        falls: tuple[float, ...] = (80 / 180, 120 / 180, 160 / 180), bn_momentum: float = 0.5, bn_halvings: int = 9,
        threshold: float = 0.25, min_objectness: float = 0.05, min_points: int = 5, per_class: bool = True,
        init: str | None = None, pictures: int = 4, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.save_hyperparameters()
        for name, value in (("voxel_size", voxel_size), ("lr", lr)):
            check_positive(name, value)
        for name, value in (("bn_momentum", bn_momentum), ("threshold", threshold), ("min_objectness", min_objectness)):
            check_share(name, value)
        for share in falls:
            check_share("falls", share)
        check_amount("min_points", min_points)
        self.pictures, self.undrawn = check_int("pictures", pictures, 0), 0
        self.classes, self.voxel_size, self.features = classes, voxel_size, features
        self.points, self.seed = check_int("points", points, 1), seed
        self.seeds = {"n_seeds": n_seeds, "n_proposals": n_proposals, "radius": radius, "neighbours": neighbours}
        self.lr, self.falls, self.bn_momentum = lr, falls, bn_momentum
        self.bn_halvings = check_int("bn_halvings", bn_halvings, 0)
        self.counts_as_found = {
            "threshold": threshold, "min_objectness": min_objectness, "min_points": min_points, "per_class": per_class,
        }  # fmt: skip
        self.net = NETS[net](3, CHANNELS, width=width)
        self.val_scores = DetectionMetric(len(classes))
        if init is not None:
            load_weights(self.net, init, prefix="net.", skip="final.")
        self.rng_state = torch.get_rng_state()  # in setup that of one process is not that of several
        if mean_sizes is not None and n_headings is not None:
            self._build(mean_sizes, n_headings)

    def _build(self, sizes: list[list[float]], n_headings: int) -> None:
        """What depends on the boxes; the checkpoint knows them then."""
        if len(sizes) != len(self.classes):
            raise ValueError(f"mean_sizes must be of {len(self.classes)} classes, got {len(sizes)}")
        self.hparams.update(mean_sizes=sizes, n_headings=n_headings)
        self.coder = BoxCoder(torch.tensor(sizes), n_headings)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.rng_state)
            self.head = VoteNet(nn.Identity(), CHANNELS, self.coder.n_numbers, **self.seeds)  # type: ignore[arg-type]

    def setup(self, stage: str) -> None:
        sizes, n_headings = self.hparams["mean_sizes"], self.hparams["n_headings"]
        if sizes is not None and n_headings is not None:
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # None without one
        if not isinstance(data, VoteNetData):
            raise ValueError("mean_sizes and n_headings must be given where no VoteNetData is there to take them from")
        some = data.training_boxes(self.trainer.global_rank, processes())
        device = self.trainer.strategy.root_device  # where the model will be, and processes can talk
        box, label = (cat_over_processes(t.to(device)).cpu() for t in some)
        if len(box) == 0:
            raise ValueError("training scenes must have boxes, these have none")
        if sizes is None:
            sizes = mean_sizes(box.double(), label, len(self.classes)).float().tolist()
        self._build(sizes, n_headings or (HEADINGS if bool((box[:, 6] != 0).any()) else 1))

    def forward(self, batch: Batch, rows: Tensor, ptr: Tensor) -> tuple[Proposals, Tensor]:
        """What is proposed on seeing these points, ``batch.points[rows]``, and (S,) the row of each seed."""
        assert batch.points is not None
        points = batch.points[rows]
        if self.features == "ones":
            features = torch.ones_like(points)
        elif batch.point_colors is not None:
            features = batch.point_colors[rows].to(points.dtype) / 127.5 - 1
        else:
            raise ValueError(f"scenes {', '.join(batch.scenes)}: must have points with colours, or features='ones'")
        x, voxels = voxel_tensor(points, features, self.voxel_size, ptr)
        first = voxels.order[voxels.ptr[:-1]]  # a voxel is where its first point is
        proposals = self.head(self.net(x), points[first])
        return proposals, rows[first[proposals.seed]]

    def drawn(self, batch: Batch, when: str) -> tuple[Tensor, Tensor]:
        """Rows of ``batch.points``, at most ``points`` of each cloud, and (B + 1,) where each cloud's begin."""
        rows = []
        for scene, (begin, end) in zip(batch.scenes, pairwise(batch.ptr.tolist()), strict=True):
            row = torch.arange(begin, end)
            if len(row) > self.points:
                rng = generator_of(self.seed, when, scene)
                row = row[torch.randperm(len(row), generator=rng)[: self.points]].sort().values
            rows.append(row)
        counts = torch.tensor([0, *map(len, rows)])
        return torch.cat(rows).to(batch.ptr.device), counts.cumsum(0).to(batch.ptr.device)

    def loss(self, batch: Batch, proposals: Proposals, row: Tensor, boxes: PackedBoxes, **mean: Mean) -> VoteNetLosses:
        """Of seeds at these rows of the batch's points."""
        if batch.point_instance is not None and batch.point_semantic is not None:
            assert batch.points is not None
            of_points = vote_targets(batch.points, batch.point_semantic, batch.point_instance, batch.ptr)
            votes, voting = (t[row] for t in of_points)
        else:
            votes, voting = votes_in_boxes(proposals.seed_xyz, proposals.seed_ptr, boxes)
        return votenet_loss(self.coder, proposals, boxes, votes, voting, **mean)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        boxes = true_boxes(batch)
        proposals, row = self(batch, *self.drawn(batch, str(self.current_epoch)))
        losses = self.loss(batch, proposals, row, boxes, mean=joint_mean)
        check_finite(losses.total, self.global_step)
        self.log("train/loss", losses.total, prog_bar=True, batch_size=len(batch), sync_dist=True)
        parts = {f"train/{name}": value for name, value in losses._asdict().items() if name != "total"}
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return losses.total

    def on_train_batch_start(self, batch: Batch, i: int) -> None:
        halvings = math.floor(self.bn_halvings * self.trainer.global_step / self.trainer.estimated_stepping_batches)
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm1d):
                norm.momentum = max(self.bn_momentum * 0.5**halvings, LOWEST_MOMENTUM)

    def validation_step(self, batch: Batch, _: int) -> None:
        boxes = true_boxes(batch)
        rows, ptr = self.drawn(batch, "validation")
        proposals, row = self(batch, rows, ptr)
        losses = self.loss(batch, proposals, row, boxes)  # of this process alone: another may have no batch now
        self.log(f"{self.stage}/loss", losses.total, batch_size=len(batch), on_epoch=True, sync_dist=True)
        assert batch.points is not None
        found = detections(self.coder, proposals, points=batch.points[rows], point_ptr=ptr, **self.counts_as_found)  # type: ignore[arg-type]
        for b, (begin, end) in enumerate(pairwise(boxes.ptr.tolist())):
            self.val_scores.update(*found[b], boxes.box[begin:end], boxes.label[begin:end])
        if self.undrawn:
            self._draw(batch, proposals, boxes)

    def _draw(self, batch: Batch, proposals: Proposals, boxes: PackedBoxes) -> None:
        assert batch.points is not None
        some = range(min(self.undrawn, len(batch)))
        self.undrawn -= len(some)
        threshold = float(self.counts_as_found["threshold"])
        found = detections(self.coder, proposals, threshold=threshold, min_objectness=0.5, per_class=False)
        for b in some:
            points, mine = slice(*batch.ptr[b : b + 2].tolist()), slice(*boxes.ptr[b : b + 2].tolist())
            color = None if batch.point_colors is None else batch.point_colors[points].cpu()
            true = boxes.box[mine].cpu(), boxes.label[mine].cpu()
            path = self.folder / "pictures" / f"{batch.scenes[b]}.png"
            draw_boxes(
                path, batch.points[points].cpu(), color, true, (found[b].box.cpu(), found[b].label.cpu()), self.classes
            )

    def on_validation_epoch_end(self) -> None:
        scores = self.val_scores.compute()
        self.val_scores.reset()
        if self.trainer.sanity_checking:
            return
        if scores.map25.isnan():
            raise ValueError("validation scenes must have boxes, these have none")
        self.log(f"{self.stage}/map25", scores.map25.float(), prog_bar=True, sync_dist=True)
        self.log(f"{self.stage}/map50", scores.map50.float(), prog_bar=True, sync_dist=True)
        self.log(f"{self.stage}/recall25", scores.class_recall25.nanmean().float(), sync_dist=True)
        self.log(f"{self.stage}/recall50", scores.class_recall50.nanmean().float(), sync_dist=True)
        if self.trainer.is_global_zero:
            (self.folder / "classes.md").write_text(class_table(self.classes, scores))

    def on_validation_start(self) -> None:
        """Where this run keeps its log, table and pictures. Asked here, where all processes are: they agree on it."""
        self.folder = folder_of(self.trainer)
        drawn_here = self.trainer.is_global_zero and not self.trainer.sanity_checking
        self.undrawn = self.pictures if drawn_here else 0
        self.stage = "test" if self.trainer.testing else "val"

    on_test_start, test_step, on_test_epoch_end = on_validation_start, validation_step, on_validation_epoch_end

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        steps = self.trainer.estimated_stepping_batches

        def factor(step: int) -> float:
            return float(0.1 ** sum(step >= share * steps for share in self.falls))

        fall = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": fall, "interval": "step"}}


def true_boxes(batch: Batch) -> PackedBoxes:
    """Around the points of objects, where points know theirs; otherwise those that the scenes have."""
    if batch.points is not None and batch.point_instance is not None and batch.point_semantic is not None:
        return boxes_of_instances(batch.points, batch.point_semantic, batch.point_instance, batch.ptr)
    if batch.box is None or batch.box_label is None or batch.box_ptr is None:
        raise ValueError(
            f"scenes {', '.join(batch.scenes)}: must have points with instances and classes, or boxes, "
            "theirs have neither"
        )
    return PackedBoxes(batch.box, batch.box_label, batch.box_ptr)


def class_table(classes: Sequence[str], scores: DetectionScores) -> str:
    """A row for each class, and the means, in percent: average precision and recall, each at an IoU of 0.25 and 0.5. A
    class without objects has none."""
    width = max(map(len, (*classes, "class")))
    heads = ("AP .25", "AP .5", "recall .25", "recall .5")
    columns = [scores.class_ap25, scores.class_ap50, scores.class_recall25, scores.class_recall50]
    table = torch.stack(columns, dim=1)
    rows = [*zip(classes, table.tolist(), strict=True), ("mean", table.nanmean(0).tolist())]
    lines = [[f"{'class':{width}}", *heads], ["-" * width, *("-" * len(head) for head in heads)]]
    for name, values in rows:
        percent = ("" if v != v else f"{100 * v:.1f}" for v in values)
        cells = (f"{text:>{len(head)}}" for text, head in zip(percent, heads, strict=True))
        lines.append([f"{name:{width}}", *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
