"""How is a native operation called, and made known to torch? What all files of this package share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

try:
    from .. import _native as native
except ImportError as error:  # the source tree, or a build for another Python
    raise ImportError(
        "pyproj2d3d is not built here. In a checkout run `pip install -e .` (or `pip install .` and leave the folder: "
        f"the source tree hides the installed package). The cause: {error}"
    ) from error

__all__ = ["native", "on", "register"]

_library = torch.library.Library("pyproj2d3d", "DEF")


def register(
    schema: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    save: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """The operation ``torch.ops.pyproj2d3d.<name>``, for eager mode and torch.compile alike.

    Without ``backward`` it raises where a gradient is asked of it: a missing formula must not pass for a zero one.
    """
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    for device in ("CPU", "CUDA"):
        _library.impl(name, run, device)
    torch.library.register_fake(f"pyproj2d3d::{name}", fake, lib=_library)

    def refuse(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError(
            f"pyproj2d3d: {name} has no gradient of its own; a second derivative through it is not supported"
        )

    torch.library.register_autograd(
        f"pyproj2d3d::{name}", backward or refuse, setup_context=save or _save_nothing, lib=_library
    )
    return getattr(torch.ops.pyproj2d3d, name)


def _save_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    pass


def on(tensor: Tensor) -> Any:
    """Where the native side runs for this tensor: torch's current stream, or as many threads as torch uses."""
    if tensor.is_cuda:
        return native.Exec(tensor.get_device(), torch.cuda.current_stream(tensor.device).cuda_stream, 1)
    return native.Exec(-1, 0, torch.get_num_threads())


def sum_by_key(
    rows: Tensor, row: Tensor, key: Tensor, n: int, *, weight: Tensor | None = None, mean: bool = False
) -> tuple[Tensor, Tensor]:
    """Sums (or means) of rows by destination: (n, C), and how many rows each got, (n,) int64.

    ``out[d]`` sums ``rows[row[i]] * weight[row[i]]`` over all i with ``key[i] == d``, in the order of i: rows are
    sorted by destination first, so that each destination has one worker. Negative keys are passed over.
    """
    key, order = torch.sort(key.int() if n < 2**31 else key, stable=True)  # half the bits to sort
    count = torch.zeros(n, dtype=torch.int64, device=rows.device)
    out = rows.new_zeros(n, rows.shape[1])
    native.sum_runs(on(rows), rows, row[order], key.long(), weight, mean, count, out)
    return out, count


def contiguous(*tensors: Tensor | None) -> Sequence[Any]:
    return [None if t is None else t.contiguous() for t in tensors]
