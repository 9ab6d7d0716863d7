"""How is a native operation called, and made known to torch? What all files of this package share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

try:
    from .. import _native as native
except ImportError as error:  # the source tree, or a build for another Python
    raise ImportError(
        "pyproj2d3d is not built here. In a checkout run `pip install -e .` (or `pip install .` and leave the folder: "
        f"the source tree hides the installed package). The cause: {error}"
    ) from error

__all__ = ["add_rows", "contiguous", "empty", "native", "on", "register", "sort_keys", "sum_by_key", "uncompiled"]

rehearse_cuda = False  # tests without a GPU set it: the CPU then runs the functors that CUDA would, one by one
_HUGE = 4 << 20  # bytes from which huge pages pay; NumPy draws the same line

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
        _library.impl(name, uncompiled(_without_tangents(name, run)), device)
    torch.library.register_fake(f"pyproj2d3d::{name}", fake, lib=_library)

    def refuse(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError(
            f"pyproj2d3d: {name} has no gradient of its own; a second derivative through it is not supported"
        )

    torch.library.register_autograd(
        f"pyproj2d3d::{name}", backward or refuse, setup_context=save or _save_nothing, lib=_library
    )
    return _without_tangents(name, getattr(torch.ops.pyproj2d3d, name))


def _without_tangents(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same; what forward mode carries beside a tensor torch would drop, and a missing formula pass for a zero one.

    Where the operation is called torch.func.jvp shows it, and where it runs a call within a compiled graph does.
    """

    def checked(*args: Any) -> Any:
        if forward_ad._current_level >= 0 and any(_has_tangent(a) for a in args if isinstance(a, Tensor)):
            raise NotImplementedError(f"pyproj2d3d: {name} has no derivative in forward mode")
        return call(*args)

    return checked


def _has_tangent(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return False
    if torch.compiler.is_compiling():
        return forward_ad.unpack_dual(tensor).tangent is not None
    # A compiled graph runs its operations below the layer that unpacks.
    excluded = torch._C._dispatch_tls_local_exclude_set().remove(torch._C.DispatchKey.ADInplaceOrView)
    with torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded):
        return forward_ad.unpack_dual(tensor).tangent is not None


def uncompiled(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same, into which torch.compile does not look.

    Between its graphs it would compile our Python for each size anew, up to its limit, and hand native code tensors
    without memory.
    """
    disabled = None

    @wraps(call)
    def as_it_is(*args: Any, **keywords: Any) -> Any:
        nonlocal disabled
        if disabled is None and "torch._dynamo" in sys.modules:  # whose import takes longer than ours
            disabled = torch._dynamo.disable(call)
        return (disabled or call)(*args, **keywords)

    return as_it_is


def _save_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    pass


def on(tensor: Tensor) -> Any:
    """Where the native side runs for this tensor: torch's current stream, or as many threads as torch uses."""
    if tensor.is_cuda:
        return native.Exec(tensor.get_device(), torch.cuda.current_stream(tensor.device).cuda_stream, 1, False)
    return native.Exec(-1, 0, 1 if rehearse_cuda else torch.get_num_threads(), rehearse_cuda)


def empty(like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """An output to be filled, on the device of ``like``.

    Large ones ask the kernel for huge pages: the first touch of small ones can take longer than the operation.
    """
    out = like.new_empty(shape, dtype=dtype)
    if out.nbytes >= _HUGE and out.device.type == "cpu":
        native.advise_huge_pages(out.data_ptr(), out.nbytes)
    return out


def contiguous(*tensors: Tensor | None) -> list[Any]:
    """The tensors as dense arrays; None stays None."""
    return [t if t is None or t.is_contiguous() else empty(t, *t.shape).copy_(t) for t in tensors]


def sort_keys(key: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Keys (N,) int32 or int64 from 0 to end - 1 in ascending order, and where each came from, int64; stable."""
    if key.is_cuda:
        return torch.sort(key, stable=True)
    n = len(key)
    sorted_key, order = empty(key, n), empty(key, n, dtype=torch.int64)
    scratch = empty(key, n if key.dtype == torch.int32 else 4 * n, dtype=torch.int64)
    native.sort_keys(on(key), key.contiguous(), (end - 1).bit_length(), scratch, sorted_key, order)
    return sorted_key, order


def add_rows(out: Tensor, row: Tensor, rows: Tensor) -> None:
    """``out[row[i]] += rows[i]``, for rows (P,) int32 of which none is there twice: one worker adds to each.

    ``out`` is in the dtype that ``rows`` are summed in: float64 for float64, else float32.
    """
    native.add_rows(on(out), rows, row, out)


def sum_by_key(
    rows: Tensor,
    row: Tensor,
    key: Tensor,
    n: int,
    *,
    weight: Tensor | None = None,
    mean: bool = False,
    count: Tensor | None = None,
) -> Tensor:
    """Sums (or means) of rows by destination, (n, C).

    ``out[d]`` sums ``rows[row[i]] * weight[row[i]]`` over all i with ``key[i] == d``, in the order of i, 256 at a time:
    rows are sorted by destination first, so that each destination has one worker. Negative keys are passed over.
    ``count`` (n,) int64, filled with zeros, gets the number of rows of each destination.
    """
    place = (key.int() if n < 2**31 - 1 else key) + 1  # half the bits to sort, and none that are negative
    place, order = sort_keys(place, n + 1)
    out = empty(rows, n, rows.shape[1]).zero_()
    native.sum_runs(on(rows), rows, row[order], place.long() - 1, weight, mean, count, out)
    return out
