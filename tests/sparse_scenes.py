"""What do the sparse networks look at? Voxels in no order, of odd extents."""

import torch

from pyproj2d3d.nn.sparse import SparseTensor


def some_voxels(c=3, shape=(9, 13, 18), share=0.2, dtype=torch.float64, device="cpu", seed=0, batch=2) -> SparseTensor:
    rng = torch.Generator().manual_seed(seed)
    indices = (torch.rand(batch, *shape, generator=rng) < share).nonzero()
    indices = indices[torch.randperm(len(indices), generator=rng)].int()
    features = torch.randn(len(indices), c, generator=rng, dtype=torch.float64)
    return SparseTensor(features.to(device, dtype).requires_grad_(), indices.to(device), shape, batch)


def seeded(net: torch.nn.Module, dtype=torch.float64, device="cpu") -> torch.nn.Module:
    """Weights and statistics that differ from each other and from where they begin."""
    rng = torch.Generator().manual_seed(1)
    for name, t in net.state_dict(keep_vars=True).items():
        if t.dtype.is_floating_point and t.ndim == 1:
            low = -0.5 if name.endswith(("bias", "mean")) else 0.5
            t.data.uniform_(low, low + 1, generator=rng)
        elif t.ndim > 1:
            t.data.normal_(0, (t[0].numel() / 4) ** -0.5, generator=rng)
    return net.to(device, dtype)


def outputs_and_gradients(net, x) -> list[torch.Tensor]:
    """The result, and the gradients to the features and to every parameter of a weighted sum of it."""
    out = net(x).features
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), [x.features, *net.parameters()])]
