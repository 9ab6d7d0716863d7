"""How do public weights get into our networks? Read without running code, every key accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .sparse import SparseModule

__all__ = ["Keys", "load_weights", "read_weights"]

COUNTER = "num_batches_tracked"  # of a norm; files from before 2018, as torchvision's first ResNets, have none
MOST_NAMED = 8  # of the keys that do not fit: a network of another kind has hundreds
INSIDE = ("state_dict", "model_state_dict", "model", "net")  # where training scripts put the weights


class Keys(NamedTuple):
    """What a network lacks of a file, and a file of a network."""

    missing: list[str]
    unexpected: list[str]


def load_weights(
    net: nn.Module, source: str | Path | Mapping[str, Any], *, prefix: str = "",
    rename: Callable[[str], str] | None = None, skip: str | Sequence[str] = (), turn_1x1: bool = False,
    strict: bool = True,
) -> Keys:  # fmt: skip
    """Weights of a file, or of a state dict, into a network.

    Args:
        net: whose parameters and buffers are set.
        source: a path to .safetensors or to what ``torch.save`` wrote, read with ``weights_only``; or what that gives:
            a state dict, or one under the key state_dict, model_state_dict, model or net.
        prefix: only keys that begin so, without it. A ``module.`` before all keys is left out first.
        rename: from their names to ours, such as :func:`pyproj2d3d.nn.sr_unet.pointcept_names`.
        skip: keys that begin so, or with one of these, by our names, stay as they are in the network and may be in the
            file or not: the last layer of a network that gets another task.
        turn_1x1: the weights were trained with a 1x1 convolution that reads its weight as (C_out, C_in), as
            ``Custom1x1Subm3d`` of SoftGroup and others does. spconv's own, and ours, reads (C_in, C_out).
        strict: missing and unexpected keys are an error; otherwise they are returned and the rest is loaded.

    Returns:
        The missing and the unexpected keys, by our names; both empty if ``strict``.

    Raises:
        ValueError: the file is damaged, or holds more than tensors and plain values, or no weights; a key is missing
            or unexpected; or a weight has another shape, or values that the network's dtype cannot hold.
            Nothing has been loaded then.
        OSError: the file cannot be opened.

    A sparse convolution's weight may be in spconv 2's layout, (C_out, k, k, k, C_in), or in that of spconv 1 and early
    2, (k, k, k, C_in, C_out): the shape tells which. A file in which no norm counts its batches lacks nothing.
    """
    weights = read_weights(source)
    weights = {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}
    if rename is not None:
        names = {key: rename(key) for key in weights}
        for name, times in Counter(names.values()).items():
            if times > 1:
                raise ValueError(f"rename must give different names, got {name} for more than one key")
        weights = {names[key]: w for key, w in weights.items()}

    skip = tuple(filter(None, (skip,) if isinstance(skip, str) else skip))  # every key begins with the empty one
    weights = {key: w for key, w in weights.items() if not key.startswith(skip)}
    wanted = {key: w for key, w in net.state_dict().items() if not key.startswith(skip)}
    layers = (name for name, module in net.named_modules() if isinstance(module, SparseModule))
    kernels = {f"{name}.weight".removeprefix(".") for name in layers}  # the network may be a layer itself
    ready, wrong = {}, []
    for key in wanted.keys() & weights.keys():
        ready[key] = _in_our_layout(weights[key], wanted[key], turn_1x1) if key in kernels else weights[key]
        if ready[key].shape != wanted[key].shape:
            wrong.append(f"{key} must have shape {tuple(wanted[key].shape)}, got {tuple(weights[key].shape)}")
        elif not _fits(ready[key], wanted[key].dtype):
            kind = "meta" if ready[key].is_meta else str(ready[key].dtype).removeprefix("torch.")
            wrong.append(f"{key} must have values of {str(wanted[key].dtype).removeprefix('torch.')}, got {kind}")
    missing = wanted.keys() - weights.keys()
    if not any(key.endswith(COUNTER) for key in weights):
        missing = {key for key in missing if not key.endswith(COUNTER)}
    keys = Keys(sorted(missing), sorted(weights.keys() - wanted.keys()))
    problems = _some(sorted(wrong))
    if strict:
        problems += [f"missing: {', '.join(_some(keys.missing))}"] * bool(keys.missing)
        problems += [f"unexpected: {', '.join(_some(keys.unexpected))}"] * bool(keys.unexpected)
    if problems:
        of = f"{source}: " if isinstance(source, (str, Path)) else ""
        raise ValueError(f"{of}the weights do not fit {type(net).__name__}: " + "; ".join(problems))
    net.load_state_dict(ready, strict=False)
    return keys


def _in_our_layout(weight: Tensor, wanted: Tensor, turn_1x1: bool) -> Tensor:
    out, *size, into = wanted.shape
    if weight.shape != wanted.shape and list(weight.shape) == [*size, into, out]:
        weight = weight.reshape(wanted.shape) if size == [1, 1, 1] else weight.permute(4, 0, 1, 2, 3)
    elif weight.shape == wanted.shape and size == [1, 1, 1] and turn_1x1:
        weight = weight.reshape(out, into).T.reshape(wanted.shape)
    return weight


def _fits(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether it can be copied: integers as they are, other numbers rounded, and finite ones to finite ones."""
    if weight.is_meta or weight.is_quantized or weight.layout != torch.strided:
        return False
    if weight.dtype == dtype:
        return True
    if not (dtype.is_floating_point or dtype.is_complex):
        return bool((weight.to(dtype).to(weight.dtype) == weight).all())
    if weight.is_complex() and not dtype.is_complex:
        return False
    there, here = (of.to(torch.float64 if not of.is_complex() else None) for of in (weight, weight.to(dtype)))
    return bool((there.isfinite() == here.isfinite()).all())


def _some(problems: list[str]) -> list[str]:
    left = len(problems) - MOST_NAMED
    return problems if left <= 0 else [*problems[:MOST_NAMED], f"and {left} more"]


def read_weights(source: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a source of :func:`load_weights`, with its own names, but for a ``module.`` before them all.

    Raises as that does.
    """
    read: Any = _file(source) if isinstance(source, (str, Path)) else source
    for name in INSIDE:
        if isinstance(read, Mapping) and isinstance(read.get(name), Mapping):
            read = read[name]
            break
    if not isinstance(read, Mapping) or not all(isinstance(k, str) and isinstance(read[k], Tensor) for k in read):
        where = ", ".join(INSIDE)
        raise ValueError(f"source must be a state dict, or hold one under {where}, got {type(read).__name__}")
    if read and all(key.startswith("module.") for key in read):
        return {key.removeprefix("module."): w for key, w in read.items()}
    return dict(read)


def _file(path: str | Path) -> Any:
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.torch import load_file

            with open(path, "rb"):  # a folder, say, is named then
                return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of damaged files torch raises a dozen types, IndexError and AssertionError among them
        if isinstance(error, UnpicklingError) and "Unsupported global" in str(error):
            raise ValueError(
                f"source must hold tensors and plain values only, got {path} with more, which is not run: "
                "save its state dict alone where you trust it"
            ) from error
        if isinstance(error, UnpicklingError):  # to which torch adds the advice to run whatever code is in there
            raise ValueError(f"{path} cannot be read as weights: it is not what torch.save writes") from error
        raise ValueError(f"{path} cannot be read as weights: {type(error).__name__}: {error}") from error
