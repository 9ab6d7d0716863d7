"""How long does a sparse network take? SR-UNet34 on the voxels of a room beside spconv's layers, and one layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyproj2d3d import kernel_map
from pyproj2d3d.nn.sparse import SparseTensor, SubMConv3d
from pyproj2d3d.nn.sr_unet import sr_unet34

from .bench_kernel_map import room_voxels
from .conftest import OURS, Timed
from .measuring import Contender
from .peers_sparse import with_spconv
from .workloads import features

FULL, TINY = {"voxels": 50_000}, {"voxels": 3_000}
ONE, SPCONV = "ours, one thread", "spconv, one thread"
Found = tuple[Tensor, ...]  # features, and of a training step the gradients


def forward(device: torch.device, voxels: int) -> dict[str, Contender | str]:
    """SR-UNet34, 3 to 20 channels, forward."""
    return contenders(sr_unet34(3, 20), room_voxels(device, voxels), 3, torch.no_grad()(forward_of))


def training_step(device: torch.device, voxels: int) -> dict[str, Contender | str]:
    """SR-UNet34, 3 to 20 channels, forward and backward."""
    return contenders(sr_unet34(3, 20), room_voxels(device, voxels), 3, forward_and_backward_of)


def one_layer(device: torch.device, voxels: int, stride: int, channels: int) -> dict[str, Contender | str]:
    """SubMConv3d 3 x 3 x 3 with its kernel map, forward and backward, at a stride of these voxels."""
    coords = room_voxels(device, voxels)
    if stride > 1:
        coords = kernel_map(coords, stride, stride=stride).coords
    layer = SubMConv3d(channels, channels, 3, bias=False, indice_key="subm")
    return contenders(layer, coords, channels, forward_and_backward_of)


def contenders(
    net: nn.Module, coords: Tensor, channels: int, call: Callable[[nn.Module, Any], Found]
) -> dict[str, Contender | str]:
    """All build the tensor and its kernel maps inside the clock. Extents are whole at every stride, for spconv."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter.data.movedim(-1, 1), nonlinearity="relu")
    net.to(coords.device)
    rows = features(coords.device, len(coords), channels).requires_grad_()
    shape = [n // 16 * 16 + 16 for n in coords[:, 1:].amax(0).tolist()]
    theirs = with_spconv(net, coords.device)

    def ours() -> Found:
        return call(net, SparseTensor(rows, coords, shape, 1))

    def by_spconv() -> Found:
        from spconv.pytorch import SparseConvTensor

        return call(theirs, SparseConvTensor(rows, coords, shape, 1))

    return {
        OURS: ours,
        ONE: lambda: on_one_thread(ours),
        SPCONV: theirs if isinstance(theirs, str) else lambda: on_one_thread(by_spconv),
    }


def on_one_thread(call: Callable[[], Found]) -> Found:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return call()
    finally:
        torch.set_num_threads(threads)


def forward_of(net: nn.Module, x: Any) -> Found:
    return (net(x).features,)


def forward_and_backward_of(net: nn.Module, x: Any) -> Found:
    out = net(x).features
    return out, *torch.autograd.grad(out.square().mean(), [x.features, *net.parameters()])


def bench_sr_unet34_forward(timed: Timed) -> None:
    assert_close_to_ours(timed(forward, full=FULL, tiny=TINY, rounds=2, memory=True))


def bench_sr_unet34_forward_and_backward(timed: Timed) -> None:
    results = timed(training_step, full=FULL, tiny=TINY, goals={SPCONV: 1.5}, rounds=2, memory=True)
    if SPCONV in results:
        *_, one, theirs = timed.table.rows
        ratio = theirs.median / one.median
        timed.goal(f"{one.group}: {ONE}, no slower than {SPCONV}", f"{ratio:.2f}x", ratio >= 1)
    assert_close_to_ours(results, gradients=0.1)


@pytest.mark.parametrize(("stride", "channels"), [(1, 32), (1, 96), (2, 96), (4, 128), (8, 256), (16, 256)])
def bench_submanifold_convolution(timed: Timed, stride: int, channels: int) -> None:
    level = {"stride": stride, "channels": channels}
    assert_close_to_ours(timed(one_layer, full=FULL | level, tiny=TINY | level, memory=stride == 1))


def bench_submanifold_convolution_same_bits_in_20_runs(timed: Timed) -> None:
    calls = [one_layer(timed.device, **TINY, stride=1, channels=n)[OURS] for n in (32, 96)]
    timed.same_bits("SubMConv3d, result and gradients", *calls)


def assert_close_to_ours(results: dict[str, Sequence[Tensor]], gradients: float = 1e-4) -> None:
    """Relative to the length of each. An activation that rounds to the other side of 0 loses its whole gradient, and a
    deep network has some."""
    for name, theirs in results.items():
        for i, (mine, other) in enumerate(zip(results[OURS], theirs, strict=True)):
            assert (mine - other).norm() <= (gradients if i else 1e-4) * mine.norm(), name
