"""Where is the camera, and what does a pixel mean? The conventions of the whole library, stated once.

* Axes as in OpenCV: x right, y down, z forward. Metres. Depth is z along the optical axis, not the length of the ray.
* Pixel centres lie at integer (u, v). The nearest pixel is floor(u + 0.5); it is inside iff 0 <= floor(u + 0.5) < W.
* ``world_from_camera`` takes camera coordinates to the world; every transform is named ``a_from_b``.
* Resizing by s moves a pixel to u' = (u + 0.5) s - 0.5, and the intrinsics follow the same rule exactly.
* A depth of 0, below 0, NaN or infinity is no reading; in uint16 also 65535. metres = value / depth_scale.
* ``pixel`` = v W + u. Empty is -1 in every map of indices. The ignored label is -1.
* Shape letters: B batch, V views, N points, M matches, C channels, H W image, h w feature map, K neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Camera:
    """Pinhole cameras of V views that share one image size.

    Args:
        intrinsics: (V, 3, 3) or (3, 3) float32 or float64, in pixels, without skew: ``K[0, 1] = K[1, 0] = 0`` and last
            row 0 0 1. Focal lengths may be negative (a flipped image), not zero.
        world_from_camera: (V, 4, 4) or (4, 4), metres, last row 0 0 0 1. The 3x3 part need not be orthonormal:
            it is inverted as it stands.
        size: image height and width (H, W).

    One unbatched argument is shared by all views of the other; two unbatched ones make V = 1. Both are brought to the
    wider of their two dtypes and keep their autograd graph.

    Raises:
        TypeError: an argument is no floating tensor, or ``size`` is no pair of integers.
        ValueError: a wrong shape, a value that is not finite, skew, a zero focal length, a wrong last row, a
            non-positive size, or tensors on different devices. Checked here once (on CUDA this synchronises) and not
            again by the methods, so make cameras outside compiled regions.

    >>> camera = Camera(torch.tensor([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]), torch.eye(4), (480, 640))
    >>> camera
    Camera(V=1, size=(480, 640), torch.float32, cpu)
    >>> camera.resized((240, 320)).intrinsics[0, 0].tolist()
    [250.0, 0.0, 159.5]
    """

    intrinsics: Tensor  # (V, 3, 3)
    world_from_camera: Tensor  # (V, 4, 4)
    size: tuple[int, int]

    def __init__(self, intrinsics: Tensor, world_from_camera: Tensor, size: Sequence[int]):
        intrinsics = _as_batch("intrinsics", intrinsics, 3)
        world_from_camera = _as_batch("world_from_camera", world_from_camera, 4)
        views = max(len(intrinsics), len(world_from_camera))
        if views == 1 and 0 in (len(intrinsics), len(world_from_camera)):
            views = 0
        if len(intrinsics) not in (1, views) or len(world_from_camera) not in (1, views):
            raise ValueError(
                "intrinsics and world_from_camera must have as many views, got "
                f"{len(intrinsics)} and {len(world_from_camera)}"
            )
        if intrinsics.device != world_from_camera.device:
            raise ValueError(
                f"world_from_camera must be on {intrinsics.device} like intrinsics, got {world_from_camera.device}"
            )
        dtype = torch.promote_types(intrinsics.dtype, world_from_camera.dtype)
        self.intrinsics, self.world_from_camera = (
            t.to(dtype) if len(t) == views else t.to(dtype).expand(views, *t.shape[1:])
            for t in (intrinsics, world_from_camera)
        )
        self.size = image_size("size", size)
        _check_values(self.intrinsics.detach(), self.world_from_camera.detach())

    @classmethod
    def cat(cls, cameras: Sequence[Camera]) -> Camera:
        """One camera with the views of all, in order. Their sizes must agree."""
        if len({c.size for c in cameras}) != 1:
            raise ValueError(f"cameras must be some of one size, got sizes {[c.size for c in cameras]}")
        intrinsics = torch.cat([c.intrinsics for c in cameras])
        return cls._of(intrinsics, torch.cat([c.world_from_camera for c in cameras]), cameras[0].size)

    @classmethod
    def _of(cls, intrinsics: Tensor, world_from_camera: Tensor, size: tuple[int, int]) -> Camera:
        """From parts that were checked before."""
        camera = cls.__new__(cls)
        camera.intrinsics, camera.world_from_camera, camera.size = intrinsics, world_from_camera, size
        return camera

    @classmethod
    def _of_arrays(cls, intrinsics: object, world_from_camera: object, size: tuple[int, int]) -> Camera:
        return cls._of(torch.as_tensor(intrinsics), torch.as_tensor(world_from_camera), size)

    def __reduce__(self) -> tuple[object, ...]:
        """As arrays where that can be: a tensor sent to a worker takes a file descriptor, and cameras are many."""
        parts = self.intrinsics, self.world_from_camera
        if self.device.type == "cpu" and not any(part.requires_grad for part in parts):
            return self._of_arrays, (*(part.numpy() for part in parts), self.size)
        return self._of, (*parts, self.size)

    @property
    def dtype(self) -> torch.dtype:
        return self.intrinsics.dtype

    @property
    def device(self) -> torch.device:
        return self.intrinsics.device

    def __len__(self) -> int:
        return len(self.intrinsics)

    def __getitem__(self, view: int | slice) -> Camera:
        """One view (an integer keeps V = 1) or a slice of views."""
        if not isinstance(view, slice):
            view = _one(view, len(self))
        return self._of(self.intrinsics[view], self.world_from_camera[view], self.size)

    def _picked(self, views: Sequence[int]) -> Camera:
        """Some views, copied: the others are not kept alive."""
        return self._of(self.intrinsics[list(views)], self.world_from_camera[list(views)], self.size)

    def __repr__(self) -> str:
        return f"Camera(V={len(self)}, size={self.size}, {self.dtype}, {self.device})"

    def to(self, *args: Any, **keywords: Any) -> Camera:
        """The same cameras on another device, in float32 or float64, or both; arguments as of
        :meth:`torch.Tensor.to`."""
        intrinsics = self.intrinsics.to(*args, **keywords)
        if intrinsics.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"dtype must be float32 or float64, got {str(intrinsics.dtype).removeprefix('torch.')}")
        return self._of(intrinsics, self.world_from_camera.to(*args, **keywords), self.size)

    def resized(self, size: Sequence[int]) -> Camera:
        """The cameras of the images resized to ``size`` = (H, W)."""
        height, width = image_size("size", size)
        sy, sx = height / self.size[0], width / self.size[1]
        return self._with_pixels(sx, 0.5 * sx - 0.5, sy, 0.5 * sy - 0.5, (height, width))

    def cropped(self, top: int, left: int, height: int, width: int) -> Camera:
        """The cameras of ``image[top : top + height, left : left + width]``; beyond the image this is padding."""
        top, left = _integer("top", top), _integer("left", left)
        return self._with_pixels(1.0, -left, 1.0, -top, image_size("(height, width)", (height, width)))

    def flipped(self, horizontal: bool = True) -> Camera:
        """The cameras of the images mirrored left to right, or upside down with ``horizontal=False``."""
        height, width = self.size
        if horizontal:
            return self._with_pixels(-1.0, width - 1, 1.0, 0.0, self.size)
        return self._with_pixels(1.0, 0.0, -1.0, height - 1, self.size)

    def _with_pixels(self, su: float, tu: float, sv: float, tv: float, size: tuple[int, int]) -> Camera:
        """After u' = su u + tu and v' = sv v + tv."""
        scale, shift = self.intrinsics.new_ones(3, 1), self.intrinsics.new_zeros(3, 3)
        scale[0], scale[1] = su, sv
        shift[0, 2], shift[1, 2] = tu, tv
        return self._of(self.intrinsics * scale + shift, self.world_from_camera, size)


@dataclass(frozen=True, eq=False)
class Matches:
    """Which point is seen at which pixel, view by view; what :func:`visibility` returns.

    ``point[ptr[v] : ptr[v + 1]]`` are the points that view v sees, ascending, each at most once; ``pixel`` beside it
    holds v W + u.
    """

    ptr: Tensor  # (V + 1,) int64
    point: Tensor  # (M,) int32
    pixel: Tensor  # (M,) int32
    n_points: int | None = None  # of the cloud and
    size: tuple[int, int] | None = None  # of the images the matches were made for, where known: checked at every use

    @property
    def view(self) -> Tensor:
        """(M,) int32, the view of each match; made anew at every access."""
        match = torch.arange(len(self.point), device=self.ptr.device)
        return torch.searchsorted(self.ptr[1:].contiguous(), match, right=True).to(torch.int32)

    def __len__(self) -> int:
        """The number of views."""
        return len(self.ptr) - 1

    def __getitem__(self, view: int) -> Matches:
        """The matches of one view, as Matches with V = 1. On CUDA this reads ``ptr`` and so synchronises."""
        view = _one(view, len(self)).start
        begin, end = self.ptr[view : view + 2].tolist()
        ptr = torch.tensor([0, end - begin], device=self.ptr.device)
        return Matches(ptr, self.point[begin:end], self.pixel[begin:end], self.n_points, self.size)

    def __iter__(self) -> Iterator[Matches]:
        return (self[v] for v in range(len(self)))

    def __repr__(self) -> str:
        made_for = f"n_points={self.n_points}, size={self.size}"
        return f"Matches(V={len(self)}, M={len(self.point)}, {made_for}, {self.ptr.device})"

    def to(self, device: torch.device | str) -> Matches:
        """The same matches on another device."""
        return Matches(self.ptr.to(device), self.point.to(device), self.pixel.to(device), self.n_points, self.size)


def image_size(name: str, size: Sequence[int]) -> tuple[int, int]:
    """(H, W) as two positive ints, or an error that names the argument."""
    try:
        height, width = (_integer(name, n) for n in size)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be two integers (H, W), got {size!r}") from None
    if height < 1 or width < 1 or height * width >= 2**31:
        raise ValueError(f"{name} must be positive and have fewer than 2**31 pixels, got {(height, width)}")
    return height, width


def _integer(name: str, n: int) -> int:
    """As an int, of NumPy or a tensor too; one that torch.compile does not know stays as it is."""
    if isinstance(n, int):
        return n
    try:
        return int(n.__index__())
    except (TypeError, AttributeError):
        raise TypeError(f"{name} must be an integer, got {n!r}") from None


def _one(view: int, views: int) -> slice:
    """One view as a slice that keeps its axis."""
    view = _integer("view", view)
    if not -views <= view < views:
        raise IndexError(f"view must be within {views} views, got {view}")
    return slice(view % views, view % views + 1)


def _as_batch(name: str, matrix: Tensor, n: int) -> Tensor:
    if not isinstance(matrix, Tensor) or matrix.dtype not in (torch.float32, torch.float64):
        got = f"{matrix.dtype}" if isinstance(matrix, Tensor) else type(matrix).__name__
        raise TypeError(f"{name} must be a float32 or float64 tensor, got {got}")
    if matrix.ndim not in (2, 3) or matrix.shape[-2:] != (n, n):
        raise ValueError(f"{name} must have shape (V, {n}, {n}) or ({n}, {n}), got {tuple(matrix.shape)}")
    return matrix if matrix.ndim == 3 else matrix[None]


def _check_values(intrinsics: Tensor, world_from_camera: Tensor) -> None:
    for name, matrix in (("intrinsics", intrinsics), ("world_from_camera", world_from_camera)):
        bad = (~torch.isfinite(matrix).all(dim=2).all(dim=1)).nonzero()[:, 0]
        if len(bad):
            raise ValueError(f"{name} must be finite, view {bad[0].item()} is not: {matrix[bad[0]].tolist()}")
        last = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)[-1]
        bad = (matrix[:, -1] != last).any(dim=1).nonzero()[:, 0]
        if len(bad):
            raise ValueError(
                f"{name} must end in the row {last.tolist()}, view {bad[0].item()} has {matrix[bad[0], -1].tolist()}"
            )
    if bool((intrinsics[:, [0, 1], [1, 0]] != 0).any()):
        raise ValueError("intrinsics must have no skew: K[0, 1] and K[1, 0] are to be 0")
    if bool((intrinsics[:, [0, 1], [0, 1]] == 0).any()):
        raise ValueError("intrinsics must have focal lengths other than 0")
    r0, r1, r2 = world_from_camera[:, :3, :3].double().unbind(1)
    p, q = [1, 2, 0], [2, 0, 1]  # the determinant as the inverse computes it; torch.linalg.cross rounds otherwise
    terms = r0 * (r1[:, p] * r2[:, q] - r1[:, q] * r2[:, p])
    if bool(((terms[:, 0] + terms[:, 1]) + terms[:, 2] == 0).any()):
        raise ValueError("world_from_camera must be invertible, got a 3x3 part with determinant 0")
