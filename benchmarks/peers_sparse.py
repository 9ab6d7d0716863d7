"""How does a sparse network run on spconv's own layers? Ours with its layers in them, on one thread of the CPU."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn

from pyproj2d3d.nn.sparse import SparseConv3d, SparseInverseConv3d, SparseModule, SparseSequential, SubMConv3d

from .peers import if_installed, on_cpu


def with_spconv(net: SparseModule, device: torch.device) -> SparseModule | str:
    """A copy with its weights, which takes and returns an ``SparseConvTensor``; or why there is none.

    One thread alone gives the right result: on two its sums race. Its backward asks for a CUDA stream, on the CPU too.
    """
    for reason in (if_installed("spconv", list), on_cpu(device, list)):
        if isinstance(reason, str):
            return reason
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports is deprecated
        import spconv.pytorch.functional
        import spconv.pytorch.ops
    for part in (spconv.pytorch.ops, spconv.pytorch.functional):
        if hasattr(part, "get_current_stream"):
            part.get_current_stream = lambda: 0
    return _turned(copy.deepcopy(net), spconv.pytorch)


def _turned(module: nn.Module, spconv: Any) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _turned(child, spconv))
    if isinstance(module, SparseSequential) and any(isinstance(child, nn.BatchNorm1d) for child in module):
        return spconv.SparseSequential(*module)  # hands these the features
    if not isinstance(module, SubMConv3d | SparseConv3d | SparseInverseConv3d):
        return module
    arguments = [module.in_channels, module.out_channels, module.kernel_size]
    if isinstance(module, SparseConv3d):
        arguments += [module.stride, module.padding, module.dilation]
    layer = getattr(spconv, type(module).__name__)(
        *arguments, bias=module.bias is not None, indice_key=module.indice_key
    )
    layer.load_state_dict(module.state_dict())
    return layer
