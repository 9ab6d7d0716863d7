"""Where in the world is each pixel, and what does a feature map say there? Depth lifted to points, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..camera import Camera, Matches
from ..results import PointCloud
from ._check import GEOMETRY, check_bool, check_camera, check_depth_scale, check_device, check_tensor
from ._register import contiguous, empty, native, on, register, sort_keys
from .project import pinhole_of
from .sample import check_cells, sample_rows

__all__ = ["back_project"]


def back_project(
    depth: Tensor,
    camera: Camera,
    features: Tensor | None = None,
    *,
    pixels: Tensor | None = None,
    align_corners: bool = False,
    normalize: bool = False,
    depth_scale: float | None = None,
) -> PointCloud:
    """Every pixel with valid depth, or every chosen pixel, as a point in the world.

    x_c = ((u - cx) / fx) z; y_c likewise; p = ((r0 x_c + r1 y_c) + r2 z) + t with the rows of ``world_from_camera``:
    the inverse of pinhole projection (Hartley and Zisserman, Multiple View Geometry, 6.2). Features are read as
    :func:`sample` reads them, at the pixel's own place in a map of any resolution; the upsampled map is never built.

    Args:
        depth: (B, H, W) of the camera's size: float32 or float64 metres along the optical axis, or uint16. Readings of
            0 and below, NaN, infinity, and in uint16 65535, are not valid.
        camera: B views on the same device; image b has camera b. Cast to the dtype of float depth.
        features: (B, C, h, w) float16, bfloat16, float32 or float64; channels_last memory saves a copy.
        pixels: (P,) int64 into the flattened (B, H, W): only these pixels, in this order, as often as they are named.
        align_corners: which of the two conventions of bilinear upsampling, see :func:`sample`.
        normalize: divide each row of features by max(\\|row\\|, 1e-12).
        depth_scale: metres = value / depth_scale, for uint16 depth and required there.

    Returns:
        PointCloud: ``points`` (M, 3) in the dtype of float depth, else the camera's; ``features`` (M, C) like the maps,
        None without them; ``pixel`` (M,) int32 inside its image; ``ptr`` (B + 1,) int64; ``valid`` (M,). Rows are in
        raster order, image by image, whatever the number of threads, and pixels without valid depth are left out. With
        ``pixels`` row i is pixel i, M = P and ``ptr`` is None: where depth is not valid the point is NaN, ``valid`` is
        False and the features are read all the same. Differentiable in the maps, in float depth and in the camera; an
        invalid pixel has no gradient to depth or camera.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than said here; uint16 depth without
            ``depth_scale``, or ``depth_scale`` with any other. On CUDA a pixel out of range fails the launch instead.

    Without ``pixels`` it synchronises once on CUDA, for M.

    >>> camera = Camera(torch.tensor([[2.0, 0, 1], [0, 2, 0], [0, 0, 1]]), torch.eye(4), (1, 3))
    >>> cloud = back_project(torch.tensor([[[4.0, 0.0, 2.0]]]), camera, torch.tensor([[[[5.0, 6.0, 7.0]]]]))
    >>> cloud.points.tolist(), cloud.features.tolist(), cloud.pixel.tolist()  # the middle pixel has no depth
    ([[-2.0, 0.0, 4.0], [1.0, 0.0, 2.0]], [[5.0], [7.0]], [0, 2])
    """
    check_camera("camera", camera)
    check_tensor("depth", depth, (*GEOMETRY, torch.uint16), len(camera), *camera.size)
    check_device("depth", depth, "camera", camera)
    dtype = camera.dtype if depth.dtype == torch.uint16 else depth.dtype
    scale = check_depth_scale(depth, depth_scale, dtype)
    align_corners, normalize = check_bool("align_corners", align_corners), check_bool("normalize", normalize)
    if features is not None:
        check_cells("features", features, len(camera))
        check_device("features", features, "depth", depth)
    if pixels is not None:
        check_tensor("pixels", pixels, (torch.int64,), None)
        check_device("pixels", pixels, "depth", depth)
    pose, intrinsics = camera.world_from_camera[:, :3].to(dtype), pinhole_of(camera, dtype)
    points, pixel, ptr, valid = _back_project(depth, pose, intrinsics, pixels, scale)
    rows = None
    if features is not None:
        at, where = (ptr, pixel) if pixels is None else (None, pixels)
        if pixels is not None and torch.compiler.is_compiling():  # or a graph of features alone drops the look at them
            where = pixels - pixels % (camera.size[0] * camera.size[1]) + pixel
        rows = sample_rows(features, at, where, camera.size, align_corners=align_corners, normalize=normalize)
    return PointCloud(points, rows, pixel, ptr if pixels is None else None, valid)


def _check_pixels(pixels: Tensor, depth: Tensor) -> None:
    """Here, where torch.compile calls it too: memory that is not ours would be read and written."""
    if pixels.device.type == "cpu" and len(pixels):
        low, high = (int(t) for t in pixels.aminmax())
        if low < 0 or high >= depth.numel():
            raise ValueError(
                f"pixels must be from 0 to {depth.numel() - 1}, the pixels of depth; got {low if low < 0 else high}"
            )


def _run(
    depth: Tensor, pose: Tensor, intrinsics: Tensor, pixels: Tensor | None, depth_scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images = (*contiguous(depth, pose, intrinsics), depth_scale)
    views, size = len(depth), depth.shape[1] * depth.shape[2]
    if pixels is not None:
        _check_pixels(pixels, depth)
        chosen = len(pixels)
        points, pixel = empty(pose, chosen, 3), empty(pose, chosen, dtype=torch.int32)
        valid = empty(pose, chosen, dtype=torch.bool)
        native.back_project_pixels(on(depth), *images, pixels.contiguous(), points, pixel, valid)
        return points, pixel, pixels.new_zeros(0), valid
    tiles = -(-size // native.TILE)
    count = torch.empty(views, tiles, dtype=torch.int64, device=depth.device)
    native.back_project_count(on(depth), *images, count)
    end = torch.zeros(views * tiles + 1, dtype=torch.int64, device=depth.device)
    torch.cumsum(count.flatten(), 0, out=end[1:])
    found = int(end[-1])  # the one synchronisation
    points, pixel = empty(pose, found, 3), empty(pose, found, dtype=torch.int32)
    native.back_project_fill(on(depth), *images, end[1:].view(views, tiles), points, pixel)
    return points, pixel, end[::tiles].clone(), torch.ones_like(pixel, dtype=torch.bool)


def _fake(
    depth: Tensor, pose: Tensor, intrinsics: Tensor, pixels: Tensor | None, depth_scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    found = torch.library.get_ctx().new_dynamic_size() if pixels is None else pixels.shape[0]
    ptr = pose.new_empty(depth.shape[0] + 1 if pixels is None else 0, dtype=torch.int64)
    pixel, valid = pose.new_empty(found, dtype=torch.int32), pose.new_empty(found, dtype=torch.bool)
    return pose.new_empty(found, 3), pixel, ptr, valid


def _run_grad(
    depth: Tensor,
    pose: Tensor,
    intrinsics: Tensor,
    pixels: Tensor | None,
    pixel: Tensor,
    ptr: Tensor,
    grad: Tensor,
    depth_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    views, size = len(depth), depth.shape[1] * depth.shape[2]
    if pixels is None:
        flat, row = Matches(ptr, pixel, pixel).view.long() * size + pixel, None
        most = size
    else:  # sorted, each pixel has one worker
        flat, row = sort_keys(pixels, depth.numel())
        ptr = torch.searchsorted(flat, torch.arange(views + 1, device=depth.device) * size)
        most = len(pixels)
    out_depth = None if depth.dtype == torch.uint16 else empty(grad, *depth.shape).zero_()
    out_camera = grad.new_empty(views, 16)
    partial = grad.new_empty(views, -(-most // native.GRAD_BLOCK), 16, dtype=torch.float64)
    images = (*contiguous(depth, pose, intrinsics), depth_scale)
    native.back_project_grad(on(depth), *images, flat, row, ptr, grad.contiguous(), out_depth, partial, out_camera)
    grad_depth = grad.new_empty(0) if out_depth is None else out_depth
    return grad_depth, out_camera[:, :12].clone().view(views, 3, 4), out_camera[:, 12:].clone()


def _fake_grad(
    depth: Tensor, pose: Tensor, intrinsics: Tensor, pixels: Tensor | None, pixel: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    grad_depth = pose.new_empty(0 if depth.dtype == torch.uint16 else depth.shape)
    views = depth.shape[0]
    return grad_depth, pose.new_empty(views, 3, 4), pose.new_empty(views, 4)


_back_project_grad = register(
    "back_project_grad(Tensor depth, Tensor pose, Tensor intrinsics, Tensor? pixels, Tensor pixel, Tensor ptr,"
    " Tensor grad, float depth_scale) -> (Tensor, Tensor, Tensor)",
    _run_grad,
    _fake_grad,
)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    depth, pose, intrinsics, pixels, ctx.depth_scale = inputs
    _, pixel, ptr, valid = output
    ctx.save_for_backward(depth, pose, intrinsics, pixels, pixel, ptr)
    ctx.mark_non_differentiable(pixel, ptr, valid)


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    depth, *_ = ctx.saved_tensors
    grad_depth, grad_pose, grad_intrinsics = _back_project_grad(*ctx.saved_tensors, grad, ctx.depth_scale)
    return None if depth.dtype == torch.uint16 else grad_depth, grad_pose, grad_intrinsics, None, None


_back_project = register(
    "back_project(Tensor depth, Tensor pose, Tensor intrinsics, Tensor? pixels, float depth_scale)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _run,
    _fake,
    save=_save,
    backward=_backward,
)
