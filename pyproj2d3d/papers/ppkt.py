"""PPKT: contrastive pixel-to-point knowledge transfer (Liu et al., 2021, arXiv:2104.04687).

Without labels, a 3D network learns to give each point the feature that a frozen 2D network gives the pixel that sees
it. Equations 1 to 3 and algorithm 1; the defaults are the paper's. ``fit segment3d --init CHECKPOINT`` goes on from it.

Departures. The map that the paper upsamples is never built: the small one is read at the chosen pixels, which is the
same. A voxel has the mean colour of its points, where MinkowskiEngine keeps one of them. In several processes every
process' pixels are negatives of all points, so that they compute what one would with the joint batch.

What the paper leaves open, and what is done here:

* How many pairs, of what: 4,096 of a batch, as SLidR's code has it, equally many of each frame, without repetition.
  With ``sampling="random"``, algorithm 1, several may lie in one voxel, which cannot tell them apart, and are negatives
  of each other; "one_per_voxel" draws voxels, and of each one pixel.
* The mean over the pairs, as algorithm 1 has it, where equation 3 has the sum.
* Where the points lie: in the world of the dataset, whose z is up as in what the network is used for later; one view
  each. g3D is SR-UNet's own last layer, as in PointContrast and SLidR; SR-UNet 18 is Res16UNet18A.
* How the 1x1 convolution's map is upsampled: ``align_corners=False``, torch's default; SLidR has True. With an FCN it
  is the features that are upsampled, before the convolution, which is the same: the small map is read here, too.
* Random resize: the longer side to 0.8 to 1.25 times that of ``size``, cropped or padded to it. Points are turned by up
  to pi / 64, pi / 64 and pi about x, y and z, scaled by 0.9 to 1.1 and distorted, as in PointContrast's fine-tuning.
* Which scans: the training split, of which validation frames are no part; the paper has all 1,513 of ScanNet's, as
  ``--data.train_split null`` does. A folder of posed frames has no splits: validation is of the frames trained on then.
* Momentum 0.9. The rate falls exponentially to 0.09 of itself over the run: PointContrast's 0.99 every 250 steps, after
  60,000. These, at 24 frames each, are ``--trainer.max_steps``. Batch norms have PointContrast's momentum, 0.05.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Generator, Tensor

from ..camera import Camera
from ..data.datamodule import SceneDataModule
from ..data.points import Points
from ..data.samples import Batch
from ..data.synth.options import RoomOptions
from ..data.transforms import Compose, check_amount, check_positive, generator_of
from ..data.transforms2d import to_size, varied_to_size
from ..data.transforms3d import ElasticDistortion, Rotate, Scale, Shift
from ..losses.contrastive import info_nce
from ..metrics import retrieved
from ..nn.distributed import cat_over_processes, check_finite, processes, sum_over_processes
from ..nn.heads import PlainProjection, UpsampledProjection
from ..nn.resnet import Frozen
from ..nn.resnet_fcn import ResNetFCN
from ..nn.sr_unet import NETS
from ..nn.voxel_input import voxel_tensor
from ..nn.weights import load_weights
from ..ops._check import check_choice, check_int
from ..ops.back_project import back_project
from ..report_embedding import draw_embedding
from ..report_training import folder_of
from ..results import Voxels
from .ppkt_teachers import trained_fcn, trained_resnet

PICTURE = 320  # pixels of the longer side of a picture, at most


class PPKTData(SceneDataModule):
    """Posed RGB-D frames of any dataset that the readers know, and how they are varied in training.

    Args:
        root: the folder of a dataset. Absent: synthetic rooms, written into ``rooms/``.
        every: only every so many-th frame of a scene.
        size: of all images, (H, W).
        resize: the range of the factor between the longer side of a training image and that of ``size``.
        flip: the probability that it is mirrored.
        batch_size: frames in a batch, of each process.
        workers: processes that read and vary them, of each process.
        seed: of their order and variation.
        train_split, val_split, test_split: names of splits in the dataset; "default" is what its reader has.
        rooms, frames: how many synthetic rooms, of how many frames; every fifth is for validation.

    The camera follows the pixels, so that each is lifted to where it was. An image of another shape than ``size`` is
    cropped or padded to it; padding has no depth.
    """

    def __init__(
        self, root: str | None = None, *, every: int = 25, size: tuple[int, int] = (480, 640),
        resize: tuple[float, float] = (0.8, 1.25), flip: float = 0.5, batch_size: int = 24, workers: int = 2,
        seed: int = 0, train_split: str | None = "default", val_split: str | None = "default",
        test_split: str | None = "default", rooms: int = 50, frames: int = 24,
    ):  # fmt: skip
        vary, keep = varied_to_size(size, resize, flip), to_size(size)
        self.save_hyperparameters(logger=False, ignore=["root"] if callable(root) else [])
        super().__init__(
            root, every=every, view_transform=vary, val_view_transform=keep, batch_size=batch_size, workers=workers,
            seed=seed, train_split=train_split, val_split=val_split, test_split=test_split, rooms=rooms,
            room_options=RoomOptions(frames=frames, size=(240, 320)),
        )  # fmt: skip


class Student(LightningModule):
    """A 3D network in pretraining, whatever it learns from: what is drawn, what is logged, its optimiser.

    The arguments are those of :class:`PPKT`, below; ``out_channels`` are the last layer's, ``vary`` moves a cloud.
    """

    MONITOR = "val/retrieval"  # the best checkpoint has the highest
    CURVES: tuple[str, ...] = ("val/retrieval", "val/chance")
    WANTED = "have pixels with depth, none of {} has any"  # of frames

    def __init__(
        self, net: str, out_channels: int, vary: Compose, *, width: float, voxel_size: float, pairs: int = 1,
        sampling: str = "random", lr: float, momentum: float, weight_decay: float, decay: float, bn_momentum: float,
        init: str | None, seed: int,
    ):  # fmt: skip
        super().__init__()
        check_choice("sampling", sampling, "random", "one_per_voxel")
        for name, value in (("voxel_size", voxel_size), ("lr", lr), ("decay", decay)):
            check_positive(name, value)
        for name, value in (("momentum", momentum), ("weight_decay", weight_decay)):
            check_amount(name, value)
        self.vary, self.voxel_size, self.sampling, self.seed = vary, voxel_size, sampling, seed
        self.lr, self.momentum, self.weight_decay, self.decay = lr, momentum, weight_decay, decay
        self.pairs = check_int("pairs", pairs, 1)
        self.net = NETS[net](3, out_channels, width=width, bn_momentum=bn_momentum)
        if init is not None:
            load_weights(self.net, init, prefix="net.", skip="final.")

    def draws(self, frames: Frames, epoch: int) -> list[Generator]:
        """Where the random numbers of each frame come from: the same ones for any number of processes."""
        return [generator_of(self.seed, epoch, name) for name in frames.names]

    def varied(self, frames: Frames, draws: list[Generator]) -> Tensor:
        """The points, moved; those of each frame together, and row i remains row i."""
        clouds = frames.points.split(frames.ptr.diff().tolist())
        return torch.cat([self.vary(as_points(xyz), rng).xyz for xyz, rng in zip(clouds, draws, strict=True)])

    def choose(self, most: int, frames: Frames, voxels: Voxels, draws: list[Generator]) -> list[Tensor]:
        """Of each frame the rows of up to so many points, drawn without repetition."""
        device = frames.ptr.device
        if self.sampling == "random":
            return [some.to(device) for some in subsets(frames.ptr, most, draws)]
        views = torch.arange(len(frames.ptr), dtype=torch.int32, device=device)
        ptr = torch.searchsorted(voxels.coords[:, 0].contiguous(), views)
        rows = []
        for voxel, rng in zip(subsets(ptr, most, draws), draws, strict=True):
            place, voxel = torch.rand(len(voxel), generator=rng, dtype=torch.float64).to(device), voxel.to(device)
            rows.append(voxels.order[voxels.ptr[voxel] + (place * voxels.counts[voxel]).long()])
        return rows

    def chosen(self, frames: Frames, voxels: Voxels, draws: list[Generator]) -> Tensor:
        """(P,) the rows that a training step compares: ``pairs`` of them, equally many of each frame."""
        most = max(self.pairs // (len(frames.names) * processes()), 1)
        row = torch.cat(self.choose(most, frames, voxels, draws))
        self.check_some(len(row), frames)
        return row

    def check_some(self, n: int, frames: Frames) -> None:
        """That there is something to learn from, in any of the processes."""
        if int(sum_over_processes(torch.tensor(n, device=frames.ptr.device))) == 0:
            raise ValueError(f"frames {', '.join(frames.names)}: must {self.WANTED.format('theirs')}")

    def logged(self, loss: Tensor, batch: Batch) -> Tensor:
        """The loss, after it was found to be finite."""
        check_finite(loss, self.global_step)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch), sync_dist=True)
        return loss

    def on_validation_start(self) -> None:
        self.tally = torch.zeros(3, device=self.device)  # how many were right, are by chance, and were asked

    def on_validation_epoch_end(self) -> None:
        right, by_chance, asked = sum_over_processes(self.tally)
        if asked == 0:
            raise ValueError(f"validation frames must {self.WANTED.format('these')}")
        of = "test" if self.trainer.testing else "val"
        self.log(f"{of}/{self.MONITOR.removeprefix('val/')}", right / asked, prog_bar=True, sync_dist=True)
        self.log(f"{of}/chance", by_chance / asked, sync_dist=True)

    def on_test_start(self) -> None:
        self.on_validation_start()

    def test_step(self, batch: Batch, i: int) -> None:
        self.validation_step(batch, i)

    def on_test_epoch_end(self) -> None:
        self.on_validation_epoch_end()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        learned = [weight for weight in self.parameters() if weight.requires_grad]
        optimizer = torch.optim.SGD(learned, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        steps = self.trainer.estimated_stepping_batches
        fall = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.decay ** (step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": fall, "interval": "step"}}


class PPKT(Student):
    """A 3D network that learns from a 2D network's pixels.

    Args:
        net: the student, "sr_unet34" or "sr_unet18".
        teacher: the depth of the ResNet that teaches: 18, 34, 50 or 101.
        teacher_weights: "IMAGENET1K_V1" or "IMAGENET1K_V2", which are downloaded once; a file, such as MoCo's, see
            :func:`load_resnet`; or "random", of which a warning is printed.
        teacher_prefix: the teacher's weights are those of the file whose names begin so.
        teacher_net: "resnet"; or "resnet_fcn", one that was trained to segment images, see :func:`load_resnet_fcn`.
        teacher_width: channels of the teacher's stem; 64 in all public weights.
        width: a factor on the student's channels; 1 is the paper's.
        embedding: width of the space that pixels and points share.
        temperature: of the loss.
        voxel_size: metres.
        pairs: pixels with their points that are drawn from a batch, of all processes together.
        sampling: "random", any pixels with depth; or "one_per_voxel".
        align_corners: how the teacher's map is upsampled, see :class:`UpsampledProjection`.
        distort: whether the lifted points are bent by smooth random fields.
        shuffled: pairs each point with another's pixel: a control, in which there is nothing to learn.
        lr, momentum, weight_decay: of SGD.
        decay: the rate falls exponentially to ``decay`` times ``lr`` at the end of the run.
        bn_momentum: of the student's batch norms.
        init: a checkpoint whose network, of the same kind, is the beginning, all but the last layer.
        val_pairs: pixels that are drawn from each validation frame.
        pictures: how many validation frames are drawn after each validation.
        seed: of what is drawn in a step. It depends on the frame and the epoch besides, and on nothing else.

    Raises:
        ValueError: weights of another network; (in training) a batch in which no pixel has depth, or a loss that is not
            finite.
        OSError: weights that cannot be read or downloaded.

    "val/retrieval" is the share of points whose most similar pixel, among those drawn from their frame, is their own;
    "val/chance" what guessing would reach.
    """

    def __init__(
        self, net: Literal["sr_unet34", "sr_unet18"] = "sr_unet34", teacher: Literal[18, 34, 50, 101] = 50,
        teacher_weights: str = "IMAGENET1K_V1", teacher_prefix: str = "",
        teacher_net: Literal["resnet", "resnet_fcn"] = "resnet", teacher_width: int = 64, width: float = 1.0,
        embedding: int = 128, temperature: float = 0.04, voxel_size: float = 0.025, pairs: int = 4096,
        sampling: Literal["random", "one_per_voxel"] = "random", align_corners: bool = False, distort: bool = True,
        shuffled: bool = False, lr: float = 0.5, momentum: float = 0.9, weight_decay: float = 1e-4,
        decay: float = 0.09, bn_momentum: float = 0.05, init: str | None = None, val_pairs: int = 256,
        pictures: int = 4, seed: int = 0,
    ):  # fmt: skip
        super().__init__(
            net, embedding, as_in_fine_tuning(distort), width=width, voxel_size=voxel_size, pairs=pairs,
            sampling=sampling, lr=lr, momentum=momentum, weight_decay=weight_decay, decay=decay,
            bn_momentum=bn_momentum, init=init, seed=seed,
        )  # fmt: skip
        self.save_hyperparameters()
        check_choice("teacher_net", teacher_net, "resnet", "resnet_fcn")
        check_positive("temperature", temperature)
        self.temperature, self.aligned, self.shuffled = temperature, align_corners, shuffled
        self.val_pairs, self.pictures, self.undrawn = check_int("val_pairs", val_pairs, 1), pictures, pictures
        trained = trained_resnet if teacher_net == "resnet" else trained_fcn
        frozen = trained(teacher, teacher_weights, teacher_prefix, teacher_width)
        self.teacher = Frozen(frozen)
        self.pixel_head = (
            PlainProjection(frozen.channels, embedding)
            if isinstance(frozen, ResNetFCN)
            else UpsampledProjection(frozen.channels[-1], embedding, align_corners=align_corners)
        )

    def training_step(self, batch: Batch, _: int) -> Tensor:
        frames = lifted(batch)
        draws = self.draws(frames, self.current_epoch)
        point, voxels = self.point_features(frames, self.varied(frames, draws))  # equation 1
        row = self.chosen(frames, voxels, draws)
        seen_at = row[torch.randperm(len(row), generator=draws[0]).to(row.device)] if self.shuffled else row
        pixel = self.pixel_features(frames, self.small_map(frames), frames.at[seen_at])  # equation 2
        point = point[voxels.inverse[row]]
        loss = info_nce(cat_over_processes(point), cat_over_processes(pixel), self.temperature)  # equation 3
        return self.logged(loss, batch)

    def point_features(self, frames: Frames, points: Tensor) -> tuple[Tensor, Voxels]:
        """z3D, (M, D) of unit length for the voxels in which the points are, and the voxels."""
        x, voxels = voxel_tensor(points, frames.colors, self.voxel_size, frames.ptr)
        return F.normalize(self.net(x).features.float(), dim=1), voxels

    def small_map(self, frames: Frames) -> Tensor:
        """(V, D, h, w), the teacher's last map of features after the 1x1 convolution."""
        last = 0 if isinstance(self.pixel_head, PlainProjection) else -1  # before an FCN's logits; of a ResNet's five
        return self.pixel_head.small_map(self.teacher(frames.color)[last])

    def pixel_features(self, frames: Frames, small: Tensor, at: Tensor) -> Tensor:
        """z2D, (P, D) of unit length at pixels of the flattened (V, H, W): what upsampling would give there."""
        cloud = back_project(
            frames.depth, frames.camera, small, pixels=at.long(), normalize=True, align_corners=self.aligned
        )
        assert cloud.features is not None
        return cloud.features

    def validation_step(self, batch: Batch, i: int) -> None:
        frames = lifted(batch)
        (point, voxels), small = self.point_features(frames, frames.points), self.small_map(frames)
        for row in self.choose(self.val_pairs, frames, voxels, self.draws(frames, 0)):
            found = retrieved(point[voxels.inverse[row]], self.pixel_features(frames, small, frames.at[row]))
            self.tally += found.new_tensor([found.sum(), min(len(row), 1), len(row)])
        if self.trainer.is_global_zero and not self.trainer.sanity_checking:
            for view, name in enumerate(frames.names[: self.undrawn]):
                path = self.folder / "pictures" / f"{name.replace('/', '_')}.png"
                draw_embedding(path, *self.picture(frames, view, point[voxels.inverse], small))
            self.undrawn = max(self.undrawn - len(frames.names), 0)

    def on_validation_start(self) -> None:
        """Where this run keeps its log and pictures. Asked here, where all processes are: they agree on it."""
        super().on_validation_start()
        self.folder = folder_of(self.trainer)
        self.undrawn = self.pictures

    def picture(self, frames: Frames, view: int, point: Tensor, small: Tensor) -> list[Tensor]:
        """Of one view, thinned to PICTURE: colours, features of pixels, those of the points there, and where one is.

        ``point`` (N, D) are those of the lifted points.
        """
        height, width = frames.depth.shape[1:]
        step = -(-max(height, width) // PICTURE)
        at = torch.arange(height * width, device=small.device).view(height, width)[::step, ::step]
        pixels = self.pixel_features(frames, small, at.flatten() + view * height * width).view(*at.shape, -1)
        row = torch.full((len(frames.depth) * height * width,), -1, device=small.device)
        row[frames.at] = torch.arange(len(frames.at), device=row.device)
        row = row[at + view * height * width]
        points = torch.zeros_like(pixels)
        points[row >= 0] = point[row[row >= 0]]
        return [of.cpu() for of in (frames.color[view, ::step, ::step], pixels, points, row >= 0)]


class Frames(NamedTuple):
    """V frames of a batch, lifted: N points, one for each pixel with depth, frame after frame."""

    names: list[str]
    color: Tensor  # (V, H, W, 3) uint8
    depth: Tensor  # (V, H, W)
    camera: Camera
    points: Tensor  # (N, 3) metres
    colors: Tensor  # (N, 3) from -1 to 1
    at: Tensor  # (N,) int32, the pixel of each in the flattened (V, H, W)
    ptr: Tensor  # (V + 1,) int64: points of frame v are ptr[v] to ptr[v + 1]


def lifted(batch: Batch) -> Frames:
    """pi(x, d) of equation 1."""
    if batch.color is None or batch.depth is None or batch.camera is None:
        raise ValueError(f"scenes {', '.join(batch.scenes)}: must have frames, theirs have none")
    cloud = back_project(batch.depth, batch.camera)
    assert cloud.ptr is not None
    first = batch.depth[0].numel() * torch.arange(len(batch.depth), dtype=torch.int32, device=cloud.ptr.device)
    at = torch.repeat_interleave(first, cloud.ptr.diff(), output_size=len(cloud)) + cloud.pixel
    colors = batch.color.flatten(0, 2).index_select(0, at) / 127.5 - 1
    return Frames(batch.frame_names, batch.color, batch.depth, batch.camera, cloud.points, colors, at, cloud.ptr)


def as_in_fine_tuning(distort: bool) -> Compose:
    return Compose([Rotate(math.pi / 64, math.pi / 64, math.pi), Scale(), *[ElasticDistortion()] * distort, Shift(1.0)])


def as_points(xyz: Tensor) -> Points:
    unmoved = torch.eye(4, dtype=torch.float64, device=xyz.device)
    return Points(xyz, torch.arange(len(xyz), device=xyz.device), len(xyz), unmoved)


def subsets(ptr: Tensor, most: int, draws: list[Generator]) -> list[Tensor]:
    """From each range ptr[i] to ptr[i + 1] up to so many numbers, on the CPU, in random order."""
    ranges = zip(ptr[:-1].tolist(), ptr[1:].tolist(), draws, strict=True)
    return [begin + torch.randperm(end - begin, generator=rng)[:most] for begin, end, rng in ranges]
