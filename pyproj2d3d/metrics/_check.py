"""Is this argument what was asked for? One wording for every error: the name, what was wanted, what came."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor


def check_count(name: str, value: int, at_least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")


def check_shape(name: str, tensor: Tensor, *shape: int | None) -> None:
    """``shape`` gives each axis its length, or None for any."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, tensor.shape, strict=True)):
        wanted = ", ".join("*" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(tensor.shape)}")


def integers(name: str, tensor: Tensor) -> Tensor:
    """As int64."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex():
        raise TypeError(f"{name} must be integers, got {_name(tensor.dtype)}")
    return tensor.long()


def finite_floats(name: str, tensor: Tensor) -> Tensor:
    """As float64, without gradient."""
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating, got {_name(tensor.dtype)}")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {tensor[~tensor.isfinite()][0].item()}")
    return tensor.detach().double()


def check_range(name: str, values: Tensor, lowest: int, highest: int) -> None:
    """On CUDA this synchronises: a label that does not exist would otherwise be counted as another."""
    if values.numel():
        low, high = torch.stack(values.aminmax()).tolist()
        if low < lowest or high > highest:
            raise ValueError(f"{name} must be from {lowest} to {highest}, got {low if low < lowest else high}")


def check_same_device(name: str, tensor: Tensor, like: str, other: Tensor) -> None:
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on {other.device} like {like}, got {tensor.device}")


def check_bool(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, got {_name(tensor.dtype)}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
