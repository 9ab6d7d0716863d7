"""What two processes train in the tests, and one with their joint batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from pyproj2d3d.nn.distributed import joint_mean
from pyproj2d3d.nn.sparse_blocks import BatchNorm

ROWS = [5, 3]  # of each process


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


def share(rank, counts=ROWS):
    begin = sum(counts[:rank])
    x, target = (t[begin : begin + counts[rank]] for t in rows(counts))
    return trained(DistributedDataParallel(Layers()), x, target)
