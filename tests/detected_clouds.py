"""The smallest dataset in which objects can be found: tall red things and flat blue ones on a grey floor."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from pyproj2d3d.data import Boxes, Cloud, Scene, SceneDataset
from pyproj2d3d.data.samples import Batch, SceneSamples, collate
from pyproj2d3d.data.transforms3d import Relabel
from pyproj2d3d.nn.sr_unet import SRUNet

CLASSES = ("wall", "tall", "floor", "flat")
SIZES = torch.tensor([[0.5, 0.5, 0.9], [1.1, 0.8, 0.5]])
COLORS = torch.tensor([[200, 40, 40], [40, 40, 200]], dtype=torch.uint8)
FLOOR, THINGS = 1200, 300  # points
SMALL_NET = partial(SRUNet, layers=(1,) * 8, planes=(32,) * 8)  # fewer and narrower layers of SR-UNet 18's names
N = {"train": 2, "val": 1, None: 3}


class Things(SceneDataset):
    """``Things("train")``; made of numbers, so that a process that is started anew has the same.

    Args:
        having: "instances", points that know their objects; "boxes", turned ones; "nothing".
        colors: whether points have them.
        things: of each scene, up to 4.
    """

    def __init__(self, split: str | None = None, *, having: str = "instances", colors: bool = True, things: int = 3):
        object.__setattr__(self, "root", Path("things"))
        object.__setattr__(self, "split", split)
        object.__setattr__(self, "names", tuple(f"{split}{i}" for i in range(N[split])))
        object.__setattr__(self, "classes", CLASSES)
        object.__setattr__(self, "made", (having, colors, things))

    is_in = None

    @property
    def box_classes(self) -> tuple[str, ...]:
        return ("tall", "flat") if self.made[0] == "boxes" else CLASSES

    def _open(self, name):
        read_boxes = partial(boxes_of, name, self.made[2]) if self.made[0] == "boxes" else None
        return Scene(name, read_cloud=partial(cloud_of, name, *self.made), read_boxes=read_boxes)


def boxes_of(name: str, things: int = 3, turned: bool = True) -> Boxes:
    rng = torch.Generator().manual_seed(sum(map(ord, name)))
    spot, label = torch.randperm(4, generator=rng)[:things], torch.randint(2, (things,), generator=rng)
    label[:1] = 0
    place = torch.stack((spot % 2, spot // 2, torch.zeros(things)), dim=1) * 2 + 1
    place += 0.3 * (torch.rand(things, 3, generator=rng) - 0.5)
    place[:, 2] = SIZES[label][:, 2] / 2
    heading = (6 * torch.rand(things, 1, generator=rng) - 3) * turned
    return Boxes(torch.cat((place, SIZES[label], heading), dim=1), label)


def cloud_of(name: str, having: str = "instances", colors: bool = True, things: int = 3) -> Cloud:
    """The six sides of each box, and the floor. Corners are there, so that a thing's points have its size."""
    rng = torch.Generator().manual_seed(1 + sum(map(ord, name)))
    boxes = boxes_of(name, things, turned=having == "boxes")
    floor = torch.rand(FLOOR, 3, generator=rng) * torch.tensor([4.0, 4.0, 0.02])
    local = torch.rand(things, THINGS, 3, generator=rng) - 0.5
    side = torch.randint(3, (things, THINGS, 1), generator=rng)
    local.scatter_(2, side, local.gather(2, side).sign() / 2)
    local[:, :2] = torch.tensor([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]])
    local = local * boxes.box[:, None, 3:6]
    cos, sin = boxes.box[:, 6, None].cos(), boxes.box[:, 6, None].sin()
    x, y, z = local.unbind(2)
    world = torch.stack((cos * x - sin * y, sin * x + cos * y, z), dim=2) + boxes.box[:, None, :3]
    color = COLORS[boxes.label].repeat_interleave(THINGS, 0)
    color = torch.cat((torch.full((FLOOR, 3), 120, dtype=torch.uint8), color))
    semantic = torch.tensor([2] * FLOOR + [1 + 2 * c for c in boxes.label.tolist() for _ in range(THINGS)])
    instance = torch.tensor([0] * FLOOR + [7 + i for i in range(things) for _ in range(THINGS)])
    known = {"semantic": semantic, "instance": instance} if having == "instances" else {}
    return Cloud(torch.cat((floor, world.flatten(0, 1))), color if colors else None, **known)


def batch_of(*scenes: int, having: str = "instances") -> Batch:
    """Some of the training scenes, as they are; classes of points are those of boxes."""
    things = Things("train", having=having)
    samples = SceneSamples(things, boxes=having == "boxes", point_transform=Relabel((-1, 0, -1, 1)))
    return collate([samples[i] for i in scenes])


def gradients(scenes: list[int]) -> dict[str, torch.Tensor]:
    """Of a network's weights by name, and the loss, for these scenes of all processes together."""
    from pyproj2d3d.papers import votenet

    votenet.NETS["sr_unet18"] = SMALL_NET  # in a process that is started anew it is another one
    torch.manual_seed(0)
    known = {"mean_sizes": SIZES.tolist(), "n_headings": 1}
    model = votenet.VoteNetDetector(
        ["tall", "flat"], "sr_unet18", 0.5, 0.2, n_seeds=64, n_proposals=64, **known
    ).double()
    model.log = model.log_dict = lambda *_, **__: None
    batch = batch_of(*scenes)
    loss = model.training_step(replace(batch, points=batch.points.double()), 0)
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad for name, p in model.named_parameters()}


def gradients_of_its_own(rank: int) -> dict[str, torch.Tensor]:
    return gradients([rank])
