"""Every operation again in plain torch: the specification, the oracle of the tests, the baseline of the benchmarks.

Same signatures and results as the operations of the same names, which document them; no checks of the arguments.
Where floats decide an integer (a pixel, a match) the elementwise operations and their order are the library's one
written arithmetic, so that integers agree to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .camera import Camera, Matches
from .reference_cluster import cluster as cluster
from .results import PointCloud, Voxels


def camera_from_world(world_from_camera: Tensor, dtype: torch.dtype) -> Tensor:
    """(V, 4, 4) poses to (V, 3, 4) inverses: by cofactors in float64, rounded once to ``dtype``."""
    a = world_from_camera.double()[:, :3, :3].permute(1, 2, 0)  # (3, 3, V)
    b = world_from_camera.double()[:, :3, 3].T  # (3, V)
    inverse = [[_cofactor(a, j, i) for j in range(3)] for i in range(3)]
    det = (a[0, 0] * inverse[0][0] + a[0, 1] * inverse[1][0]) + a[0, 2] * inverse[2][0]
    rows = []
    for cofactors in inverse:
        r = [c / det for c in cofactors]
        rows.append(torch.stack([*r, -((r[0] * b[0] + r[1] * b[1]) + r[2] * b[2])], dim=-1))
    return torch.stack(rows, dim=1).to(dtype)


def _cofactor(a: Tensor, i: int, j: int) -> Tensor:
    (r, s), (p, q) = ((i + 1) % 3, (i + 2) % 3), ((j + 1) % 3, (j + 2) % 3)  # cyclic, so that the sign is in the order
    return a[r, p] * a[s, q] - a[r, q] * a[s, p]


def project(points: Tensor, camera: Camera) -> Tensor:
    """(N, 3) points to (V, N, 3): u, v, z."""
    t = camera_from_world(camera.world_from_camera, points.dtype)[:, :, :, None]  # (V, 3, 4, 1)
    k = camera.intrinsics.to(points.dtype)[:, :, :, None]
    x, y, z = points.T
    x_c, y_c, z_c = (((t[:, i, 0] * x + t[:, i, 1] * y) + t[:, i, 2] * z) + t[:, i, 3] for i in range(3))  # (V, N)
    u = k[:, 0, 0] * (x_c / z_c) + k[:, 0, 2]
    v = k[:, 1, 1] * (y_c / z_c) + k[:, 1, 2]
    return torch.stack((u, v, z_c), dim=-1)


def nearest_pixel(uv: Tensor, size: tuple[int, int], border: int = 0) -> tuple[Tensor, Tensor]:
    """(..., 2 or more) float pixels: is each in the frame, and its v W + u (else 0); compared before any cast."""
    u, v = torch.floor(uv[..., 0] + 0.5), torch.floor(uv[..., 1] + 0.5)
    height, width = size
    inside = (u >= border) & (u < width - border) & (v >= border) & (v < height - border)
    pixel = torch.where(inside, v, 0).long() * width + torch.where(inside, u, 0).long()
    return inside, pixel


def visibility(
    points: Tensor,
    camera: Camera,
    depth: Tensor | str | None = None,
    *,
    depth_scale: float | None = None,
    tolerance: tuple[float, float, float],
    border: int = 0,
    z_min: float = 0.01,
    z_max: float = float("inf"),
    radius: int = 0,
) -> Matches:
    """As the operation, but without a default tolerance."""
    uvz = project(points.detach(), camera.to(points.device))
    z = uvz[..., 2]
    seen, pixel = nearest_pixel(uvz, camera.size, border)
    seen &= (z > z_min) & (z < z_max)
    if isinstance(depth, str):
        depth = zbuffer(uvz, camera.size, radius=radius)[1]
    if depth is not None:
        at = metres(depth, depth_scale, points.dtype).flatten(1).gather(1, pixel)  # (V, N)
        a, b, c = (torch.tensor(t, dtype=points.dtype) for t in tolerance)
        seen &= (at > 0) & (at < torch.inf) & ((at - z).abs() <= (a + b * z) + (c * z) * z)
    view, point = seen.nonzero(as_tuple=True)
    ptr = torch.cat((view.new_zeros(1), seen.sum(1).cumsum(0)))
    return Matches(ptr, point.int(), pixel[seen].int(), len(points), camera.size)


def metres(depth: Tensor, depth_scale: float | None, dtype: torch.dtype) -> Tensor:
    """Depth in ``dtype``; uint16 decoded, with 0 for its two values that are no reading."""
    if depth.dtype != torch.uint16:
        return depth.to(dtype)
    values = depth.to(torch.int32)
    return torch.where(values == 65535, 0, values).to(dtype) / torch.tensor(depth_scale, dtype=dtype)


def zbuffer(
    uvz: Tensor, size: tuple[int, int], *, radius: int = 0, stride: int = 1, matches: Matches | None = None
) -> tuple[Tensor, Tensor]:
    """Two minima over all points and footprint offsets: of z, then of the index among those at that z."""
    views, n = uvz.shape[:2]
    height, width = size
    inside, pixel = nearest_pixel(uvz.detach(), size)
    z = uvz.detach()[..., 2]
    inside &= (z > 0) & (z < torch.inf)
    if matches is not None:
        chosen = torch.zeros_like(inside)
        chosen[matches.view.long(), matches.point.long()] = True
        inside &= chosen
    nearest = z.new_full((views, height * width + 1), torch.inf)  # the last cell takes what falls outside
    index = torch.full(nearest.shape, n, device=z.device)
    cells = []
    for dv in range(-radius, radius + 1):
        for du in range(-radius, radius + 1):
            u, v = pixel % width + du, pixel // width + dv
            ok = inside & (u >= 0) & (u < width) & (v >= 0) & (v < height)
            cells.append(torch.where(ok, v * width + u, height * width))
    for cell in cells:
        nearest.scatter_reduce_(1, cell, z, "amin")
    points = torch.arange(n, device=z.device).expand(views, n)
    for cell in cells:
        wins = z == nearest.gather(1, cell)
        index.scatter_reduce_(1, cell, torch.where(wins, points, n), "amin")
    index = index[:, :-1].reshape(views, height, width)[:, ::stride, ::stride]
    empty = index == n
    if n == 0:
        return torch.full_like(index, -1), uvz.new_zeros(index.shape)
    depth = uvz[..., 2].gather(1, torch.where(empty, 0, index).flatten(1)).view(index.shape)
    return torch.where(empty, -1, index), torch.where(empty, 0, depth)


def splat(
    features: Tensor, index: Tensor | Matches, size: tuple[int, int] | None = None, reduce: str = "mean"
) -> Tensor:
    if isinstance(index, Matches):
        assert size is not None
        return _splat_matches(features, index, size, reduce)
    empty = (index < 0)[..., None]
    rows = features[index.clamp(min=0)] if len(features) else features.new_zeros(*index.shape, features.shape[1])
    return torch.where(empty, 0, rows).permute(0, 3, 1, 2)  # (V, C, H, W), channels_last


def _splat_matches(features: Tensor, matches: Matches, size: tuple[int, int], reduce: str) -> Tensor:
    height, width = size
    cell = matches.view.long() * (height * width) + matches.pixel.long()
    wide = _accumulated(features)
    out = wide.new_zeros(len(matches) * height * width, wide.shape[1]).index_add(0, cell, wide[matches.point.long()])
    if reduce == "mean":
        out = out / torch.bincount(cell, minlength=len(out)).clamp(min=1)[:, None]
    return out.to(features.dtype).view(len(matches), height, width, wide.shape[1]).permute(0, 3, 1, 2)


def sample(
    maps: Tensor,
    matches_or_uv: Matches | Tensor,
    size: tuple[int, int],
    *,
    mode: str = "bilinear",
    align_corners: bool = False,
    normalize: bool = False,
) -> Tensor:
    if isinstance(matches_or_uv, Matches):
        view, pixel = matches_or_uv.view.long(), matches_or_uv.pixel
        uv = _pixel_centres(pixel, size[1], _accumulated(maps).dtype)  # (M, 2)
    else:
        uv = matches_or_uv
        view = torch.arange(len(maps), device=maps.device)[:, None].expand(uv.shape[:2])
    return _read(maps, view, uv, size, mode, align_corners, normalize)


def _pixel_centres(pixel: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    return torch.stack((pixel % width, pixel // width), dim=-1).to(dtype)


def _read(
    maps: Tensor, view: Tensor, uv: Tensor, size: tuple[int, int], mode: str, align_corners: bool, normalize: bool
) -> Tensor:
    """Map ``view`` (...) read at pixel ``uv`` (..., 2): (..., C)."""
    h, w = maps.shape[2:]
    height, width = size
    rows = _accumulated(maps).permute(0, 2, 3, 1)  # (V, h, w, C)
    inside, _ = nearest_pixel(uv.detach(), size)
    uv = torch.where(inside[..., None], uv, 0)
    x, y = (_cell(uv[..., i], n, full, align_corners) for i, n, full in ((0, w, width), (1, h, height)))
    if mode == "nearest":
        found = rows[view, torch.floor(y + 0.5).long(), torch.floor(x + 0.5).long()]
    else:
        x0, y0 = x.detach().floor().long(), y.detach().floor().long()
        x1, y1 = (x0 + 1).clamp(max=w - 1), (y0 + 1).clamp(max=h - 1)
        fx, fy = (x - x0)[..., None].to(rows.dtype), (y - y0)[..., None].to(rows.dtype)
        found = ((1 - fy) * (1 - fx)) * rows[view, y0, x0] + ((1 - fy) * fx) * rows[view, y0, x1]
        found = found + (fy * (1 - fx)) * rows[view, y1, x0] + (fy * fx) * rows[view, y1, x1]
    if normalize:
        found = found / found.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return torch.where(inside[..., None], found, 0).to(maps.dtype)


def _cell(u: Tensor, n: int, full: int, align_corners: bool) -> Tensor:
    """Coordinate in an image of ``full`` pixels to that in a map of ``n`` cells, held to the centres of its cells."""
    if align_corners:
        x = u * ((n - 1) / (full - 1) if full > 1 else 0.0)
    else:
        x = (u + 0.5) * (n / full) - 0.5
    return torch.where((x > 0) & (x < n - 1), x, x.detach().clamp(0, n - 1))  # no slope where it is held


def fuse_views(
    maps: Tensor,
    matches: Matches,
    n_points: int,
    size: tuple[int, int],
    *,
    reduce: str = "mean",
    mode: str = "bilinear",
    align_corners: bool = False,
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    wide = _accumulated(maps)
    found = sample(wide, matches, size, mode=mode, align_corners=align_corners, normalize=normalize)  # (M, C)
    point = matches.point.long()
    count = torch.bincount(point, minlength=n_points)
    if reduce == "mean":
        fused = found.new_zeros(n_points, found.shape[1]).index_add(0, point, found) / count.clamp(min=1)[:, None]
    else:
        fused = found.new_full((n_points, found.shape[1]), -torch.inf)
        fused = fused.scatter_reduce(0, point[:, None].expand_as(found), found, "amax")
        fused = torch.where(count[:, None] > 0, fused, 0)
    return fused.to(maps.dtype), count.int()


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
    dtype = camera.dtype if depth.dtype == torch.uint16 else depth.dtype
    height, width = camera.size
    z = metres(depth, depth_scale, dtype).flatten(1)  # (B, H W)
    valid = (z > 0) & (z < torch.inf)
    z = torch.where(valid, z, 1)
    u, v = _pixel_centres(torch.arange(height * width, device=depth.device), width, dtype).T
    k = camera.intrinsics.to(dtype)[:, :, :, None]
    t = camera.world_from_camera.to(dtype)[:, :, :, None]
    x, y = ((u - k[:, 0, 2]) / k[:, 0, 0]) * z, ((v - k[:, 1, 2]) / k[:, 1, 1]) * z
    points = torch.stack([((t[:, i, 0] * x + t[:, i, 1] * y) + t[:, i, 2] * z) + t[:, i, 3] for i in range(3)], dim=-1)
    points = torch.where(valid[..., None], points, torch.nan)  # (B, H W, 3)
    ptr = None
    if pixels is None:
        view, pixel = valid.nonzero(as_tuple=True)
        ptr = torch.cat((view.new_zeros(1), valid.sum(1).cumsum(0)))
    else:
        view, pixel = pixels // (height * width), pixels % (height * width)
    rows = None
    if features is not None:
        uv = _pixel_centres(pixel, width, _accumulated(features).dtype)
        rows = _read(features, view, uv, camera.size, "bilinear", align_corners, normalize)
    return PointCloud(points[view, pixel], rows, pixel.int(), ptr, valid[view, pixel])


def voxelize(
    points: Tensor,
    size: float | Sequence[float],
    *,
    batch: Tensor | None = None,
    origin: Tensor | Sequence[float] | None = None,
) -> Voxels:
    edges = points.new_tensor(size if isinstance(size, Sequence) else [size] * 3)
    origin = (0.0, 0.0, 0.0) if origin is None else origin
    corner = origin.to(points) if isinstance(origin, Tensor) else points.new_tensor(origin)
    finite = points.isfinite().all(1)
    cell = torch.floor((points.detach()[finite] - corner) / edges).long()
    first = cell.new_zeros(len(cell)) if batch is None else batch[finite].long()
    coords, number = torch.cat((first[:, None], cell), 1).unique(dim=0, return_inverse=True)  # (M, 4) in their order
    inverse = number.new_full((len(points),), -1)
    inverse[finite] = number
    counts = torch.bincount(number, minlength=len(coords))
    ptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    order = torch.argsort(torch.where(finite, inverse, len(coords)), stable=True)
    return Voxels(coords.int(), inverse, counts, ptr, order)


def scatter(
    features: Tensor, voxels: Voxels, reduce: str = "mean", *, return_arg: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    point = (voxels.inverse >= 0).nonzero()[:, 0]
    voxel = voxels.inverse[point]
    if reduce == "first":
        arg = voxels.order[voxels.ptr[:-1]]
        return (features[arg], arg) if return_arg else features[arg]
    if reduce == "mode":
        return _mode(features[point], voxel, len(voxels))
    wide = _accumulated(features)[point]
    shape = (len(voxels), wide.shape[1])
    if reduce in ("mean", "sum"):
        out = wide.new_zeros(shape).index_add(0, voxel, wide)
        return (out / voxels.counts[:, None] if reduce == "mean" else out).to(features.dtype)
    to = voxel[:, None].expand_as(wide)
    best = wide.detach().new_zeros(shape).scatter_reduce(0, to, wide.detach(), f"a{reduce}", include_self=False)
    wins = (wide == best[voxel]) | (wide.isnan() & best[voxel].isnan())
    arg = torch.full(shape, len(features), device=voxel.device)
    arg = arg.scatter_reduce(0, to, torch.where(wins, point[:, None], len(features)), "amin")
    out = features.gather(0, arg)
    return (out, arg) if return_arg else out


def _mode(labels: Tensor, voxel: Tensor, n: int) -> Tensor:
    """The most frequent label that is not negative, the smallest of several, -1 where there is none."""
    if labels.ndim == 2:
        columns = [_mode(c, voxel, n) for c in labels.T]
        return torch.stack(columns, 1) if columns else labels.new_zeros(n, 0)
    known, which = labels[labels >= 0].unique(return_inverse=True)
    count = torch.zeros(n, len(known) + 1, dtype=torch.int64, device=labels.device)
    count.index_put_((voxel[labels >= 0], which), torch.ones_like(which), accumulate=True)
    known = torch.cat((known, known.new_full((1,), -1)))
    best = torch.where(count.amax(1) > 0, count.argmax(1), len(known) - 1)
    return known[best]


def superpoints(points: Tensor, normals: Tensor, edges: Tensor, *, k: float, min_size: int) -> Tensor:
    """One edge after the other, in Python."""
    p, q = edges.T
    n, m, step = normals.detach()[p], normals.detach()[q], (points[q] - points[p]).detach()
    turn = 1 - ((n[:, 0] * m[:, 0] + n[:, 1] * m[:, 1]) + n[:, 2] * m[:, 2])
    rise = (m[:, 0] * step[:, 0] + m[:, 1] * step[:, 1]) + m[:, 2] * step[:, 2]
    weight = torch.where(rise > 0, turn * turn, turn).clamp(min=0)
    weight, order = torch.where(weight.isnan(), torch.inf, weight).sort(stable=True)
    share = points.new_tensor(k) / torch.arange(len(points) + 1).to(points.dtype)  # k / size, in the points' dtype

    parent, size = list(range(len(points))), [1] * len(points)  # the lowest point of a segment stands for it
    threshold = [points.new_tensor(k).item()] * len(points)

    def segment_of(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(a: int, b: int) -> int:
        low, high = min(a, b), max(a, b)
        parent[high] = low
        size[low] += size[high]
        return low

    ends = edges[order].tolist()
    for w, (i, j) in zip(weight, ends, strict=True):
        a, b = segment_of(i), segment_of(j)
        if a != b and w <= min(threshold[a], threshold[b]):
            low = join(a, b)
            threshold[low] = (w + share[size[low]]).item()
    for i, j in ends:
        a, b = segment_of(i), segment_of(j)
        if a != b and min(size[a], size[b]) < min_size:
            join(a, b)
    found = torch.tensor([segment_of(i) for i in range(len(points))], dtype=torch.int64)
    return found.unique(return_inverse=True)[1]


def _accumulated(features: Tensor) -> Tensor:
    """Features in the dtype they are summed in: float64 as it is, everything else in float32."""
    return features if features.dtype == torch.float64 else features.float()
