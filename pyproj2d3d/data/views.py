"""What does a training sample of one image hold? Pixels as tensors of one size, and the camera that follows them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..camera import Camera, image_size
from ..ops._check import check_camera, check_choice, check_int, check_number, check_tensor
from .scene import Frame

MEAN_COLOR = (124, 116, 104)  # of ImageNet, as bytes: what padding shows
_SAME_POSE = 1e-6  # how far entries of two poses may differ and count as one: below a thousandth of a pixel
_FAR = 2**31  # beyond the index of any pixel


@dataclass(frozen=True, eq=False)
class View:
    """One posed RGB-D image: every tensor has the size (H, W) of ``camera``. Each change is a new View, none in place.

    The methods are those of :class:`Camera`, and a roll; they move pixels and camera together:
    ``view.flipped().camera`` is ``view.camera.flipped()``. So :func:`project` into ``camera`` finds a point where its
    pixel went, after any chain of them, without rounding beyond the camera's own. The pixels themselves:

    * Crops and flips move every pixel unchanged.
    * Resizing and rolling give a new pixel (u', v') the depth and the ids of the old pixel that its centre falls into,
      floor(u + 0.5) of where u' came from; never a mean of two, which would lie on neither of two surfaces. What is
      read belongs to the centre of that old pixel, so it is off by up to half an old pixel along u and along v.
      Colour is interpolated bilinearly, antialiased where it shrinks, and rounded to bytes.
    * Padding has colour ``fill``, depth 0 and ids -1.

    Raises:
        TypeError, ValueError: a tensor of another dtype or size than said here, or a camera of more than one view.
    """

    color: Tensor  # (H, W, 3) uint8 RGB
    depth: Tensor  # (H, W) float32 metres along the optical axis, 0 where there is no reading
    camera: Camera  # V = 1
    semantic: Tensor | None = None  # (H, W) int64 class, -1 for none
    instance: Tensor | None = None  # (H, W) int64 object, -1 for none
    pixel: Tensor | None = None  # (H, W) int32, v W + u in the image as it was first; see numbered()

    def __post_init__(self) -> None:
        check_camera("camera", self.camera)
        if len(self.camera) != 1:
            raise ValueError(f"camera must be of one view, got {len(self.camera)}")
        size = self.camera.size
        check_tensor("color", self.color, (torch.uint8,), *size, 3)
        check_tensor("depth", self.depth, (torch.float32,), *size)
        for name, dtype in (("semantic", torch.int64), ("instance", torch.int64), ("pixel", torch.int32)):
            ids = getattr(self, name)
            if ids is not None:
                check_tensor(name, ids, (dtype,), *size)

    @classmethod
    def of(cls, frame: Frame, at: str = "depth") -> View:
        """The pixels of a frame, read now, brought to one camera where depth and colour have their own.

        Both must have the same pose (each entry to 1e-6), as in ScanNet: then every pixel of one camera looks along a
        ray of the other, whatever is seen there; registering needs no depth and is never wrong about what hides what.

        Args:
            frame: its images are read from the files.
            at: "depth" keeps every reading as it is, with ``frame.camera``; colour is interpolated at the place where
                the pixel's ray meets the colour image, labels are those of the nearest pixel there. "color" keeps
                colours and labels, with ``frame.color_camera``; depth is that of the nearest pixel.

        What the other image does not show is padding: ScanNet's depth sees a few columns that its colour does not.

        Raises:
            ValueError: the poses differ, the focal lengths have other signs, the two images have no pixel in common, or
                an image is not of its camera's size.
            OSError: an image that cannot be read.
        """
        check_choice("at", at, "depth", "color")
        depth, color, semantic, instance = frame.metres(), frame.color(), frame.semantic(), frame.instance()
        here, there = (frame.camera, frame.color_camera) if at == "depth" else (frame.color_camera, frame.camera)
        if here.size == there.size and _same(here, there):
            return cls(color, depth, here, semantic, instance)
        rows, columns = _lookup(frame.name, here, there)
        row, column = rows.nearest, columns.nearest
        if at == "color":
            return cls(color, _read(depth, row, column, 0), here, semantic, instance)
        ids = (None if ids is None else _read(ids, row, column, -1) for ids in (semantic, instance))
        return cls(_seen_through(color, rows, columns), depth, here, *ids)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)"""
        return self.camera.size

    def numbered(self) -> View:
        """With ``pixel``, which then says of every pixel, after any chain, which pixel of this image it was made from.

        It carries along what was made for this image and cannot be moved itself, as matches or cached features.
        """
        height, width = self.size
        pixel = torch.arange(height * width, dtype=torch.int32, device=self.depth.device)
        return replace(self, pixel=pixel.view(height, width))

    def resized(self, size: tuple[int, int]) -> View:
        """Resized to (H, W). Of s old pixels per new one, pixel u' reads depth and ids at floor((u' + 0.5) s)."""
        height, width = image_size("size", size)
        if (height, width) == self.size:
            return self
        rows, columns = (
            torch.div((2 * torch.arange(new) + 1) * old, 2 * new, rounding_mode="floor").to(self.depth.device)
            for new, old in zip((height, width), self.size, strict=True)
        )  # in integers: a quotient that is whole must not fall short of it
        color = _interpolated(self.color, height, width)
        return self._with(color, self.camera.resized((height, width)), lambda of, _: of[rows][:, columns])

    def cropped(self, top: int, left: int, height: int, width: int, fill: tuple[int, int, int] = MEAN_COLOR) -> View:
        """``image[top : top + height, left : left + width]``; padding where that is beyond the image on any side."""
        height, width = image_size("(height, width)", (height, width))
        top, left = check_place("top", top), check_place("left", left)
        old_height, old_width = self.size
        into = slice(max(-top, 0), max(old_height - top, 0)), slice(max(-left, 0), max(old_width - left, 0))
        out_of = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))

        def crop(of: Tensor, pad: Tensor | int) -> Tensor:
            new = of.new_empty(height, width, *of.shape[2:])
            new[:] = pad
            new[into] = of[out_of]
            return new

        color = crop(self.color, fill_color(fill).to(self.color.device))
        return self._with(color, self.camera.cropped(top, left, height, width), crop)

    def flipped(self, horizontal: bool = True) -> View:
        """Mirrored left to right, or upside down with ``horizontal=False``."""
        axis = 1 if horizontal else 0
        return self._with(self.color.flip(axis), self.camera.flipped(horizontal), lambda of, _: of.flip(axis))

    def rolled(self, angle: float, fill: tuple[int, int, int] = MEAN_COLOR) -> View:
        """What the camera sees after it has turned about its optical axis, in an image of the same size and intrinsics.

        The picture turns about the principal point by ``angle`` radians, from u towards v: clockwise as it is shown.
        Depth, which is along that axis, stays what it was. Where fx and fy differ the turn is one of rays, not of
        pixels: the picture is sheared by as much as the pixels are not square.
        """
        angle = check_number("angle", angle)
        if not math.isfinite(angle):
            raise ValueError(f"angle must be finite, got {angle}")
        device, (height, width) = self.depth.device, self.size
        fx, fy, cx, cy = self.camera.intrinsics[0, [0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        sine, cosine = math.sin(angle), math.cos(angle)
        across = torch.arange(width, dtype=torch.float64, device=device) - cx
        down = torch.arange(height, dtype=torch.float64, device=device)[:, None] - cy
        u, v = cosine * across + fx / fy * sine * down + cx, cosine * down - fy / fx * sine * across + cy  # (H, W)
        column, row = (u + 0.5).floor(), (v + 0.5).floor()
        seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = torch.where(seen, row * width + column, 0).long()

        grid = torch.stack(((2 * u + 1) / width - 1, (2 * v + 1) / height - 1), dim=-1).float()[None]
        planes = self.color.permute(2, 0, 1)[None].float()
        color = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)[0].permute(1, 2, 0)
        color = torch.where(seen[..., None], bytes_of(color), fill_color(fill).to(device))

        old_from_new = torch.eye(4, dtype=torch.float64, device=device)
        old_from_new[:2, :2] = torch.tensor([[cosine, sine], [-sine, cosine]], dtype=torch.float64)
        pose = self.camera.world_from_camera @ old_from_new.to(self.camera.dtype)
        camera = Camera(self.camera.intrinsics, pose, self.size)
        return self._with(color, camera, lambda of, pad: torch.where(seen, of.flatten()[index], pad))

    def _with(self, color: Tensor, camera: Camera, each: Callable[[Tensor, int], Tensor]) -> View:
        """With depth and ids as ``each`` makes them, given a map and what is nothing in it."""
        ids = {name: getattr(self, name) for name in ("semantic", "instance", "pixel")}
        new = {name: None if of is None else each(of, -1) for name, of in ids.items()}
        return View(color, each(self.depth, 0), camera, **new)


def bytes_of(color: Tensor) -> Tensor:
    """Colours of any float dtype, 0 to 255, to the nearest bytes."""
    return color.round().clamp(0, 255).to(torch.uint8)


def _interpolated(color: Tensor, height: int, width: int) -> Tensor:
    """(H, W, 3) uint8 to another size: bilinear, antialiased where it shrinks."""
    if width == 1 and height > 1:  # torch 2.13 fills such an image with its first row; lying on its side it does not
        return _interpolated(color.transpose(0, 1), 1, height).transpose(0, 1).contiguous()
    planes = color.permute(2, 0, 1)[None].contiguous(
        memory_format=torch.channels_last
    )  # of others it may trip at 1 x 1
    return F.interpolate(planes, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0).contiguous()


def check_place(name: str, value: int) -> int:
    """Of a pixel, in the image or beyond it."""
    if check_int(name, value, -_FAR) > _FAR:
        raise ValueError(f"{name} must be at most {_FAR}, got {value}")
    return int(value)


def fill_color(fill: tuple[int, int, int]) -> Tensor:
    """(3,) uint8, or an error."""
    if len(fill) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in fill):
        raise ValueError(f"fill must be three integers from 0 to 255, got {fill!r}")
    return torch.tensor(fill, dtype=torch.uint8)


@dataclass(frozen=True)
class _Axis:
    """Pixel u of one image looks at a u + b of the other, whose length is ``length``."""

    a: float
    b: float
    nearest: Tensor  # int64, for every pixel; -1 where that is beyond the other image


def _same(one: Camera, other: Camera) -> bool:
    return torch.equal(one.intrinsics, other.intrinsics) and torch.equal(one.world_from_camera, other.world_from_camera)


def _lookup(name: str, here: Camera, there: Camera) -> tuple[_Axis, _Axis]:
    """For rows and for columns, where the pixels of one camera look in the image of another in the same place."""
    apart = float((here.world_from_camera - there.world_from_camera).abs().max())
    if not apart <= _SAME_POSE:
        raise ValueError(
            f"frame {name}: depth and colour must have the same pose to be one view, they are {apart} apart"
        )
    axes = []
    for i, what in enumerate(("columns", "rows")):
        f, c = (float(here.intrinsics[0, i, j]) for j in (i, 2))
        other_f, other_c = (float(there.intrinsics[0, i, j]) for j in (i, 2))
        a, length = other_f / f, there.size[1 - i]
        if a < 0:
            raise ValueError(
                f"frame {name}: depth and colour must have focal lengths of one sign, got {f} and {other_f}"
            )
        b = other_c - a * c
        nearest = (a * torch.arange(here.size[1 - i], dtype=torch.float64) + b + 0.5).floor()
        nearest = torch.where((nearest >= 0) & (nearest < length), nearest, -1).long()
        if bool((nearest < 0).all()):
            raise ValueError(f"frame {name}: depth and colour must see something in common, they share no {what}")
        axes.append(_Axis(a, b, nearest))
    return axes[1], axes[0]


def _read(of: Tensor, rows: Tensor, columns: Tensor, pad: int) -> Tensor:
    """of[rows][:, columns], and ``pad`` where either is -1."""
    there = (rows >= 0)[:, None] & (columns >= 0)
    return torch.where(there, of[rows.clamp(min=0)][:, columns.clamp(min=0)], pad)


def _seen_through(color: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """(H, W, 3) uint8: colour at the places where the pixels of another camera look, antialiased bilinear.

    Pillow's resize takes a box whose corners need not be whole; that of torch does not.
    """
    from PIL import Image

    out = fill_color(MEAN_COLOR).repeat(len(rows.nearest), len(columns.nearest), 1)
    box, part, margin = [], [], []
    for axis in (rows, columns):
        first, last = (axis.nearest >= 0).nonzero()[[0, -1], 0].tolist()
        part.append(slice(first, last + 1))
        margin.append((math.ceil(axis.a / 2) + 1,) * 2)  # the outermost pixels may reach half their own width beyond
        box.append([axis.a * edge + axis.b + 0.5 + margin[-1][0] for edge in (first - 0.5, last + 0.5)])
    (top, bottom), (left, right) = box
    size = part[1].stop - part[1].start, part[0].stop - part[0].start
    image = Image.fromarray(np.pad(color.numpy(), (*margin, (0, 0)), mode="edge"))
    resized = image.resize(size, Image.Resampling.BILINEAR, (left, top, right, bottom))
    out[part[0], part[1]] = torch.from_numpy(np.array(resized))
    return out
