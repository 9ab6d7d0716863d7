"""How are clouds varied in training without losing which pixel sees which point? Points move, their index stays.

Each takes :class:`Points` and gives new ones; see :mod:`pyproj2d3d.data.transforms` for how they draw. Positions are in
metres, angles in radians, z is up. After any of them, ``points.matches(matches_of_cloud)`` are the pixels of the
points; after all but :class:`ElasticDistortion` also ``points.follow(camera)`` sees them there.

Flips, rotations and scales act about the origin of the coordinates, as the order of a chain says: put :class:`Center`
before them where the origin is far from the points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..ops._check import check_int, check_number
from .points import Points, bent
from .transforms import Range, chance, check_amount, check_positive, check_range, check_share, uniform
from .views import bytes_of

_MOST_NODES = 2**24  # of an elastic field: 200 MB; a storey of 100 x 100 m at 20 cm has 8 million


@dataclass(frozen=True)
class Center:
    """The middle of the bounding box to x = y = 0, its bottom to z = 0. Points that are not finite do not count."""

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        xyz = _finite(points.xyz)
        if not len(xyz):
            return points
        low, high = xyz.double().amin(dim=0), xyz.double().amax(dim=0)
        place = (low + high) / 2
        place[2] = low[2]
        return points.moved(_affine(shift=-place))


@dataclass(frozen=True)
class FlipAxis:
    """Mirrored along an axis (0, 1, 2 for x, y, z) with probability ``p``: its coordinate changes sign."""

    axis: int = 0
    p: float = 0.5

    def __post_init__(self) -> None:
        if self.axis not in (0, 1, 2):
            raise ValueError(f"axis must be 0, 1 or 2, got {self.axis!r}")
        check_share("p", self.p)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        if not chance(self.p, rng):
            return points
        mirror = torch.eye(3, dtype=torch.float64)
        mirror[self.axis, self.axis] = -1
        return points.moved(_affine(mirror))


@dataclass(frozen=True)
class Rotate:
    """About x, then y, then z, each by an angle from [-a, a], counter-clockwise seen from the axis' end.

    Rotate() is any turn about the vertical; PointContrast's fine-tuning has x = y = pi / 64 and z = pi.
    """

    x: float = 0.0
    y: float = 0.0
    z: float = math.pi

    def __post_init__(self) -> None:
        for axis in ("x", "y", "z"):
            check_amount(axis, getattr(self, axis))

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        rotation = torch.eye(3, dtype=torch.float64)
        for axis, most in enumerate((self.x, self.y, self.z)):
            angle = uniform(-most, most, rng)
            i, j = (axis + 1) % 3, (axis + 2) % 3
            turn = torch.eye(3, dtype=torch.float64)
            turn[i, i] = turn[j, j] = math.cos(angle)
            turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
            rotation = turn @ rotation
        return points.moved(_affine(rotation))


@dataclass(frozen=True)
class Scale:
    """By one factor from ``scale`` for all axes."""

    scale: Range = (0.9, 1.1)

    def __post_init__(self) -> None:
        check_range("scale", self.scale)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        return points.moved(_affine(uniform(*self.scale, rng) * torch.eye(3, dtype=torch.float64)))


@dataclass(frozen=True)
class Shift:
    """By up to ``distance`` metres along each axis, to either side: where the voxel grid begins is then by chance."""

    distance: float

    def __post_init__(self) -> None:
        check_amount("distance", self.distance)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        by = [uniform(-self.distance, self.distance, rng) for _ in range(3)]
        return points.moved(_affine(shift=torch.tensor(by, dtype=torch.float64)))


@dataclass(frozen=True)
class LinearJitter:
    """The identity plus a 3x3 matrix of normal draws: sheared and stretched, as PointGroup and TWIST train."""

    std: float = 0.1

    def __post_init__(self) -> None:
        check_amount("std", self.std)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        jitter = torch.randn(3, 3, generator=rng, dtype=torch.float64)
        return points.moved(_affine(torch.eye(3, dtype=torch.float64) + self.std * jitter))


@dataclass(frozen=True)
class ElasticDistortion:
    """Points shifted by smooth random fields, one after another, with probability ``p``; normals bend along.

    A field is normal noise on a grid of ``granularity`` metres that begins one node before the cloud's bounding box,
    smoothed twice by a box of 3 x 3 x 3 nodes (0 beyond the grid), interpolated trilinearly, times ``magnitude``
    metres. Smoothing leaves a ninth of the noise: magnitudes 0.4 and 1.6 shift a node by 4.5 and 18 cm (one standard
    deviation) along each axis. The defaults are PointContrast's and MinkowskiEngine's; PointGroup's at 2 cm voxels
    are ((0.12, 0.8), (0.4, 3.2)).

    No camera sees the result as it saw the cloud: ``points_from_world`` is None after it, also when ``p`` spared the
    cloud, so that what can be done with a sample is not by chance. Points that are not finite stay.

    Raises:
        ValueError: (when called) a grid of 2**24 nodes or more: points that lie very far apart.
    """

    fields: tuple[tuple[float, float], ...] = ((0.2, 0.4), (0.8, 1.6))  # (granularity, magnitude), metres
    p: float = 0.95

    def __post_init__(self) -> None:
        for field in self.fields:
            if len(field) != 2:
                raise ValueError(f"fields must be pairs (granularity, magnitude), got {field!r}")
            check_positive("granularity", field[0])
            check_amount("magnitude", field[1])
        check_share("p", self.p)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        points = replace(points, points_from_world=None)
        finite = torch.isfinite(points.xyz).all(dim=1)
        if not chance(self.p, rng) or not bool(finite.any()):
            return points
        xyz, normals = points.xyz[finite].double(), None if points.normals is None else points.normals[finite]
        for granularity, magnitude in self.fields:
            shift, slope = _field(xyz, granularity, normals is not None, rng)
            xyz = xyz + magnitude * shift
            if normals is not None and slope is not None:
                normals = bent(normals, torch.eye(3, dtype=torch.float64, device=xyz.device) + magnitude * slope)
        new_xyz, new_normals = points.xyz.clone(), None if points.normals is None else points.normals.clone()
        new_xyz[finite] = xyz.to(new_xyz.dtype)
        if new_normals is not None and normals is not None:
            new_normals[finite] = normals
        return replace(points, xyz=new_xyz, normals=new_normals)


@dataclass(frozen=True)
class CropBox:
    """The points in an upright box of ``size`` metres along x, y and z around one of them. inf leaves a side open."""

    size: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.size) != 3 or not all(check_number("size", side) > 0 for side in self.size):
            raise ValueError(f"size must be three positive numbers, got {self.size!r}")

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        offset = (points.xyz - _one_of(points.xyz, rng)).abs()
        return points.keep((offset <= offset.new_tensor(self.size) / 2).all(dim=1))


@dataclass(frozen=True)
class CropSphere:
    """The points within ``radius`` metres of one of them, and of these the ``most`` nearest; order is kept."""

    radius: float = math.inf
    most: int | None = None

    def __post_init__(self) -> None:
        if not check_number("radius", self.radius) > 0:
            raise ValueError(f"radius must be positive, got {self.radius}")
        if self.most is not None:
            check_int("most", self.most, 1)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        distance = (points.xyz.double() - _one_of(points.xyz, rng)).norm(dim=1)
        inside = ((distance <= self.radius) & torch.isfinite(distance)).nonzero()[:, 0]
        if self.most is not None and len(inside) > self.most:
            nearest = torch.argsort(distance[inside], stable=True)[: self.most]
            inside = inside[nearest].sort().values
        return points.keep(inside)


@dataclass(frozen=True)
class Subset:
    """Exactly ``n`` points, in order. Of fewer, every point as often as it goes, and the rest by chance.

    Raises:
        ValueError: (when called) no points at all.
    """

    n: int

    def __post_init__(self) -> None:
        check_int("n", self.n, 1)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        if not len(points):
            raise ValueError(f"points must not be empty where {self.n} of them are wanted")
        whole, rest = divmod(self.n, len(points))
        some = torch.randperm(len(points), generator=rng)[:rest]
        which = torch.cat((torch.arange(len(points)).repeat(whole), some)).sort().values
        return points.keep(which.to(points.xyz.device))


@dataclass(frozen=True)
class Drop:
    """Every point is dropped with probability ``share``, each for itself. All may go."""

    share: float

    def __post_init__(self) -> None:
        check_share("share", self.share)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        kept = torch.rand(len(points), generator=rng, dtype=torch.float64) >= self.share
        return points.keep(kept.to(points.xyz.device))


@dataclass(frozen=True)
class Relabel:
    """Other numbers for the classes of points, where they have some: c becomes ``table[c]``, and -1 stays.

    Raises:
        ValueError: (when called) a class that the table does not have.
    """

    table: tuple[int, ...]

    def __post_init__(self) -> None:
        for c in self.table:
            check_int("table", c, -1)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        if points.semantic is None:
            return points
        if len(points):
            low, high = (int(c) for c in points.semantic.aminmax())
            if not -1 <= low <= high < len(self.table):
                bad = low if low < -1 else high
                raise ValueError(f"points must have classes from -1 to {len(self.table) - 1}, got {bad}")
        table = torch.tensor((*self.table, -1), device=points.semantic.device)
        return replace(points, semantic=table[points.semantic])


@dataclass(frozen=True)
class ColorJitter:
    """With probability ``p`` the colours of a cloud, where it has some, get a common shift and noise of their own.

    ``shift``: one for each channel, from [-shift, shift] of the range; ``noise``: standard deviation for each point and
    channel, of the range. The defaults are those of MinkowskiEngine's ScanNet training (translation 0.1, jitter 0.05).
    """

    shift: float = 0.1
    noise: float = 0.05
    p: float = 0.95

    def __post_init__(self) -> None:
        check_amount("shift", self.shift)
        check_amount("noise", self.noise)
        check_share("p", self.p)

    def __call__(self, points: Points, rng: Generator | None = None) -> Points:
        if not chance(self.p, rng) or points.colors is None:
            return points
        shift = self.shift * (2 * torch.rand(3, generator=rng) - 1)
        by = 255 * (shift + self.noise * torch.randn(len(points), 3, generator=rng))
        return replace(points, colors=bytes_of(points.colors + by.to(points.colors.device)))


def _affine(linear: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """(4, 4) float64"""
    matrix = torch.eye(4, dtype=torch.float64)
    if linear is not None:
        matrix[:3, :3] = linear
    if shift is not None:
        matrix[:3, 3] = shift
    return matrix


def _finite(xyz: Tensor) -> Tensor:
    return xyz[torch.isfinite(xyz).all(dim=1)]


def _one_of(xyz: Tensor, rng: Generator | None) -> Tensor:
    """(3,) one of the points that are finite; where there is none, the origin."""
    drawn, finite = torch.rand((), generator=rng, dtype=torch.float64), _finite(xyz)
    return finite[int(drawn * len(finite))] if len(finite) else xyz.new_zeros(3)


def _field(xyz: Tensor, granularity: float, slopes: bool, rng: Generator | None) -> tuple[Tensor, Tensor | None]:
    """A smooth random field (N, 3) at finite points, and its derivatives (N, 3, 3): a column for x, y and z each."""
    low = xyz.amin(dim=0)
    extent = (xyz.amax(dim=0) - low).tolist()
    if not math.prod(side / granularity + 3 for side in extent) < _MOST_NODES:
        raise ValueError(
            f"points must extend over less than {_MOST_NODES} cells of {granularity} m, got {extent} m: far outliers?"
        )
    cells = [math.floor(side / granularity) + 3 for side in extent]
    noise = torch.randn(3, *cells, generator=rng)
    for _ in range(2):
        noise = F.avg_pool3d(noise, 3, stride=1, padding=1)
    noise = noise.to(xyz)[None]
    last = torch.tensor(cells, device=xyz.device) - 1

    def at(place: Tensor) -> Tensor:
        grid = (2 * place / last - 1).flip(1).view(1, 1, 1, -1, 3)  # from -1 to 1, z first
        return F.grid_sample(noise, grid, align_corners=True)[0, :, 0, 0].T

    place = (xyz - low) / granularity + 1  # in nodes
    if not slopes:
        return at(place), None
    node, slope = torch.minimum(place.floor(), last - 1), []
    for axis in torch.eye(3, dtype=torch.bool, device=xyz.device):  # between two nodes it is linear along each axis
        below = torch.where(axis, node, place)
        slope.append((at(below + axis.double()) - at(below)) / granularity)
    return at(place), torch.stack(slope, dim=2)
