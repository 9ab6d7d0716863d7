"""Is this argument what was asked for? One wording for every error: the name, what was wanted, what came."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

from ..camera import Camera, Matches, image_size
from ._register import native, on

GEOMETRY = (torch.float32, torch.float64)
FEATURES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

__all__ = [
    "FEATURES",
    "GEOMETRY",
    "check_bool",
    "check_camera",
    "check_choice",
    "check_depth_scale",
    "check_device",
    "check_each_match",
    "check_fewer",
    "check_int",
    "check_matches",
    "check_number",
    "check_ptr",
    "check_tensor",
    "check_tolerance",
    "image_size",
]


def check_tensor(name: str, tensor: Tensor, dtypes: Sequence[torch.dtype], *shape: int | None) -> None:
    """``shape`` gives each axis its length, or None for any."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype not in dtypes:
        wanted = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise TypeError(f"{name} must be {wanted}, got {str(tensor.dtype).removeprefix('torch.')}")
    if tensor.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, tensor.shape, strict=True)):
        wanted = ", ".join("*" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {tuple(tensor.shape)}")
    if tensor.device.type not in ("cpu", "cuda", "meta"):
        raise ValueError(f"{name} must be on the CPU or a CUDA device, got {tensor.device}")


def check_device(name: str, tensor: Tensor | Camera, like: str, other: Tensor | Camera) -> None:
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on {other.device} like {like}, got {tensor.device}")


def check_fewer(name: str, n: int) -> None:
    """Fewer than int32 can number. Lengths are looked at where the operation runs: torch.compile does not know them."""
    if n >= 2**31:
        raise ValueError(f"{name} must be fewer than 2**31, got {n}")


def check_camera(name: str, camera: Camera) -> None:
    if not isinstance(camera, Camera):
        raise TypeError(f"{name} must be a Camera, got {type(camera).__name__}")


def check_int(name: str, value: int, at_least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, Integral)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    return value if isinstance(value, int) else int(value)


def check_number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if value != value:  # not math.isnan, which torch.compile cannot call on a number that varies
        raise ValueError(f"{name} must be a number, got NaN")
    return float(value)


def check_depth_scale(depth: Tensor, depth_scale: float | None, dtype: torch.dtype) -> float:
    """The scale to decode depth with, in the dtype of the geometry: given for uint16, and for nothing else."""
    if depth.dtype != torch.uint16:
        if depth_scale is not None:
            raise ValueError(f"depth_scale must be None for float depth, which is in metres, got {depth_scale}")
        return 1.0
    if depth_scale is None:
        raise ValueError("depth_scale must be given for uint16 depth (1000 for millimetres), got None")
    depth_scale = check_number("depth_scale", depth_scale)
    if not torch.finfo(dtype).tiny <= depth_scale <= torch.finfo(dtype).max:
        name = str(dtype).removeprefix("torch.")
        raise ValueError(f"depth_scale must be positive and finite in {name}, got {depth_scale}")
    return depth_scale


def check_tolerance(tolerance: float | Sequence[float]) -> tuple[float, float, float]:
    if isinstance(tolerance, (int, float, Real)) and not isinstance(tolerance, bool):
        tolerance = (tolerance, 0.0, 0.0)
    if not isinstance(tolerance, Sequence) or isinstance(tolerance, str):
        raise TypeError(f"tolerance must be a number a or three (a, b, c), got {tolerance!r}")
    if len(tolerance) != 3:
        raise ValueError(f"tolerance must be a number a or three (a, b, c), got {tolerance!r}")
    a, b, c = (check_number("tolerance", t) for t in tolerance)
    if min(a, b, c) < 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance!r}")
    return a, b, c


def check_ptr(name: str, ptr: Tensor, rows: Tensor, samples: int | None = None) -> None:
    """Offsets (B + 1,) into these rows."""
    check_tensor(name, ptr, (torch.int64,), None)
    check_device(name, ptr, "what it divides", rows)
    if len(ptr) < 2 or int(ptr[0]) != 0 or int(ptr[-1]) != len(rows) or bool((ptr.diff() < 0).any()):
        raise ValueError(f"{name} must have B + 1 entries and ascend from 0 to {len(rows)}, got {ptr.tolist()}")
    if samples is not None and len(ptr) != samples + 1:
        raise ValueError(f"{name} must be of {samples} samples, got {len(ptr) - 1}")


def check_bool(name: str, value: bool) -> bool:
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):  # NumPy's, in its two versions
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_choice(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be {' or '.join(repr(c) for c in choices)}, got {value!r}")


def check_matches(
    name: str, matches: Matches, *, n_points: int | None = None, size: tuple[int, int] | None = None
) -> None:
    """Matches that fit a cloud and images, as far as their shapes and the sizes that visibility notes down tell: where
    the operation runs :func:`check_each_match` looks at the rest."""
    if not isinstance(matches, Matches):
        raise TypeError(f"{name} must be Matches, as visibility returns them, got {type(matches).__name__}")
    check_tensor(f"{name}.ptr", matches.ptr, (torch.int64,), None)
    check_tensor(f"{name}.point", matches.point, (torch.int32,), None)
    check_tensor(f"{name}.pixel", matches.pixel, (torch.int32,), len(matches.point))
    if len(matches.ptr) == 0:
        raise ValueError(f"{name}.ptr must have V + 1 entries, got none")
    for part in ("point", "pixel"):
        check_device(f"{name}.{part}", getattr(matches, part), f"{name}.ptr", matches.ptr)
    if n_points is not None and matches.n_points not in (None, n_points):
        raise ValueError(f"{name} were made for {matches.n_points} points, got {n_points}")
    if size is not None and matches.size not in (None, size):
        raise ValueError(f"{name} were made for images of size {matches.size}, got size {size}")


def check_each_match(
    name: str, ptr: Tensor, point: Tensor, pixel: Tensor, *, points: int = 2**31, pixels: int = 2**31
) -> None:
    """Called where the operation runs, so that torch.compile calls it too: memory that is not ours would be read and
    written. On CUDA looking would synchronise; there a point that does not exist stops the kernel."""
    if ptr.device.type != "cpu":
        return
    first, last = ptr[[0, -1]].tolist()
    if first != 0 or last != len(point) or bool((ptr.diff() < 0).any()):
        raise ValueError(f"{name}.ptr must ascend from 0 to {len(point)}, got {ptr.tolist()}")
    ptr, point, pixel = (t.contiguous() for t in (ptr, point, pixel))
    bad = native.first_bad_match(on(ptr), ptr, point, pixel, points, pixels)
    if bad < len(point):
        raise ValueError(
            f"{name} must hold points below {points} and pixels below {pixels}, points ascending within a view; "
            f"match {bad} is point {point[bad].item()} at pixel {pixel[bad].item()}"
        )
