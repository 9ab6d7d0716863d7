"""What two processes train in the tests, and one with their joint batch.

A process that is started anew imports this file, which is beside conftest.py, and not the test.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from pyproj2d3d import scatter
from pyproj2d3d.losses.contrastive import info_nce
from pyproj2d3d.nn.distributed import cat_over_processes, joint_mean, processes
from pyproj2d3d.nn.sparse_blocks import BatchNorm
from pyproj2d3d.nn.sr_unet import sr_unet18
from pyproj2d3d.nn.voxel_input import voxel_tensor

ROWS = [5, 3]  # of each process
COUNTS = [ROWS, [7, 0], [1, 1]]
CLOUDS = [[300, 200], [300, 0]]  # points of each process's cloud
DTYPES = [torch.bfloat16, torch.float32]


class Layers(torch.nn.Module):
    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = torch.nn.Linear(4, 6), BatchNorm(6), torch.nn.Linear(6, 3)
        self.to(dtype)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu())


def rows(counts=ROWS):
    """Of all processes together."""
    rng = torch.Generator().manual_seed(1)
    n = sum(counts)
    x, target = torch.randn(n, 4, generator=rng, dtype=torch.float64), torch.randint(3, (n,), generator=rng)
    target[0] = -1
    return x, target


def trained(net, x, target):
    """One backward pass: the loss, the gradients of net and x, the state of the norm."""
    x = x.clone().requires_grad_()
    total = F.cross_entropy(net(x), target, ignore_index=-1, reduction="sum")
    loss = joint_mean(total, (target >= 0).sum())
    loss.backward()
    net = getattr(net, "module", net)
    named = {name: p.grad for name, p in net.named_parameters()}
    return {"loss": loss.detach(), "x": x.grad, **named, **dict(net.norm.named_buffers())}


def sparse_net():
    torch.manual_seed(0)
    return sr_unet18(3, 3).double()


def sparse_trained(net, counts, which):
    """One backward pass over some of the clouds with so many points: gradients and buffers by name."""
    rng = torch.Generator().manual_seed(2)
    wide = torch.tensor([8, 8, 1])  # or a norm of the coarsest voxels, two or three, makes much of rounding
    clouds = [torch.rand(n, 3, generator=rng, dtype=torch.float64) * wide for n in counts]
    points = torch.cat([clouds[i] for i in which])
    ptr = torch.tensor([0, *(counts[i] for i in which)]).cumsum(0)
    x, voxels = voxel_tensor(points, points, 0.125, ptr)
    target = scatter((points[:, 0] * 3 / 8).long(), voxels, "mode")
    total = F.cross_entropy(net(x).features, target, reduction="sum")
    joint_mean(total, len(target)).backward()
    net = getattr(net, "module", net)
    return {name: p.grad for name, p in net.named_parameters()} | dict(net.named_buffers())


def share(rank, counts=ROWS):
    begin = sum(counts[:rank])
    x, target = (t[begin : begin + counts[rank]] for t in rows(counts))
    return trained(DistributedDataParallel(Layers()), x, target)


def all_of_it(rank):
    """Everything in one meeting: to start a process takes longer than what it computes here."""
    some = slice(0, ROWS[0]) if rank == 0 else slice(ROWS[0], None)
    norms = [one_norm(rows()[0][some].to(dtype)) for dtype in DTYPES]
    single = BatchNorm(4)
    x = torch.ones(1 - rank, 4, requires_grad=True)
    single(x).sum().backward()
    return {
        "trained": [share(rank, counts) for counts in COUNTS],
        "contrasted": [contrasted(rank, counts) for counts in COUNTS],
        "norms": norms,
        "sparse": [sparse_trained(DistributedDataParallel(sparse_net()), counts, [rank]) for counts in CLOUDS],
        "single": [single.running_mean, single.running_var, x.grad],
    }


def contrasted(rank, counts):
    """One backward pass of a loss in which every row is a negative of all others, of the other process too."""
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 6, dtype=torch.float64)
    begin = sum(counts[:rank])
    x = rows(counts)[0][begin : begin + counts[rank]]
    model = DistributedDataParallel(net) if processes() > 1 else net
    anchors, candidates = model(x).split(3, dim=1)
    joint = cat_over_processes(anchors)
    loss = info_nce(joint, cat_over_processes(candidates))
    loss.backward()
    return {"loss": loss.detach(), "joint": joint.detach(), "weight": net.weight.grad, "bias": net.bias.grad}


def one_norm(x):
    norm = BatchNorm(4)
    return [norm(x).detach(), norm.running_mean, norm.running_var, norm.eval()(x).detach()]
