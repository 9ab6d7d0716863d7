"""Which voxel is each point in?"""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from scenes import assert_same_bits

from pyproj2d3d import Voxels, reference, voxelize

NATIVE_AND_REFERENCE = pytest.mark.parametrize("voxelized", [voxelize, reference.voxelize], ids=["native", "reference"])
FIRST, LAST = -(2**31), 2**31 - 1  # of int32


def along_x(xs, device, dtype=torch.float32) -> torch.Tensor:
    """(N, 3) with y = z = 0."""
    return torch.tensor([[x, 0.0, 0.0] for x in xs], dtype=torch.float64).reshape(-1, 3).to(device, dtype)


def by_hand(points: torch.Tensor, size, batch=None, origin=None) -> Voxels:
    """A dictionary from coordinates to points, one point after the other, in NumPy's arithmetic."""
    p = points.cpu().numpy()
    edges = np.broadcast_to(np.asarray(size, p.dtype), (3,))
    corner = np.zeros(3, p.dtype) if origin is None else np.asarray(origin, p.dtype)
    clouds = [0] * len(p) if batch is None else batch.tolist()
    members = defaultdict(list)
    for n, row in enumerate(p):
        if np.isfinite(row).all():
            cell = [int(c) for c in np.floor((row - corner) / edges)]
            members[(clouds[n], *cell)].append(n)
    coords = sorted(members)
    inverse = [-1] * len(p)
    for m, c in enumerate(coords):
        for n in members[c]:
            inverse[n] = m
    counts = [len(members[c]) for c in coords]
    order = [n for c in coords for n in members[c]] + [n for n, m in enumerate(inverse) if m < 0]
    as_int64 = [torch.tensor(a, dtype=torch.int64) for a in (inverse, counts, np.cumsum([0, *counts]).tolist(), order)]
    return Voxels(torch.tensor(coords, dtype=torch.int32).reshape(-1, 4), *(t.to(points.device) for t in as_int64))


def assert_equal(voxels: Voxels, wanted: Voxels) -> None:
    assert_same_bits([t.cpu() for t in vars(voxels).values()], [t.cpu() for t in vars(wanted).values()])


def cloud_of(n: int, dtype, device, spread: float = 3.0, seed: int = 0) -> torch.Tensor:
    """(n, 3) around the origin; every eleventh point stands where another does, every seventeenth is not finite."""
    rng = torch.Generator().manual_seed(seed)
    points = spread * torch.randn(n, 3, generator=rng, dtype=torch.float64)
    points[::11] = points[: len(points[::11])].clone()
    odd = torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64)
    row = torch.arange(n)[5::17]
    points[row, row % 3] = odd[row % 2]
    return points.to(device, dtype)


def test_points_of_one_cube_share_a_voxel(device, dtype):
    voxels = voxelize(along_x([0.9, 2.5, 0.1, 2.0], device, dtype), 1.0)
    assert voxels.coords.tolist() == [[0, 0, 0, 0], [0, 2, 0, 0]]
    assert voxels.inverse.tolist() == [0, 1, 0, 1]
    assert voxels.counts.tolist() == [2, 2]
    assert voxels.ptr.tolist() == [0, 2, 4]
    assert voxels.order.tolist() == [0, 2, 1, 3]
    assert [t.dtype for t in vars(voxels).values()] == [torch.int32, *[torch.int64] * 4]


def test_below_0_lies_voxel_minus_1(device, dtype):
    """Not voxel 0, which truncation would make twice as large."""
    voxels = voxelize(along_x([-0.1, 0.1, -1.0, -1.1], device, dtype), 1.0)
    assert voxels.coords[:, 1].tolist() == [-2, -1, 0]
    assert voxels.inverse.tolist() == [1, 2, 1, 0]


def test_a_point_on_a_face_belongs_to_the_voxel_above_it(device, dtype):
    faces = torch.tensor([-2.0, -0.5, 0.0, 0.5, 1.0, 1e6], dtype=dtype)
    below, above = (torch.nextafter(faces, torch.full_like(faces, to)) for to in (-math.inf, math.inf))
    for points, shift in ((faces, 0), (below, -1), (above, 0)):
        voxels = voxelize(along_x(points.tolist(), device, dtype), 0.5)
        assert voxels.coords[voxels.inverse, 1].tolist() == [x + shift for x in (-4, -1, 0, 1, 2, 2_000_000)]


def test_minus_0_is_0(device, dtype):
    assert voxelize(along_x([-0.0, 0.0], device, dtype), 1.0).coords.tolist() == [[0, 0, 0, 0]]


def test_voxels_come_in_the_order_of_x_then_y_then_z(device, dtype):
    cells = [[1, -1, -1], [0, 2, 0], [0, 0, 2], [0, 0, -3], [-1, 5, 5], [0, 2, -1]]
    voxels = voxelize(torch.tensor(cells, device=device, dtype=dtype) + 0.5, 1.0)
    assert voxels.coords[:, 1:].tolist() == sorted(cells)
    assert voxels.inverse.tolist() == [5, 4, 2, 1, 0, 3]


def test_clouds_of_a_batch_share_no_voxel(device, dtype):
    points = along_x([0.5, 0.5, -7.5, 0.5], device, dtype)
    for of_batch in (torch.int32, torch.int64):
        batch = torch.tensor([3, 0, 3, 3], device=device, dtype=of_batch)  # in no order, some numbers left out
        voxels = voxelize(points, 1.0, batch=batch)
        assert voxels.coords.tolist() == [[0, 0, 0, 0], [3, -8, 0, 0], [3, 0, 0, 0]]
        assert voxels.inverse.tolist() == [2, 0, 1, 2]
        assert voxels.order.tolist() == [1, 2, 0, 3]


def test_the_origin_is_a_corner_of_voxel_0(device, dtype):
    points = along_x([0.2, 0.3, 0.8], device, dtype)
    for origin in ((0.25, 0, 0), [0.25, 0, 0], torch.tensor([0.25, 0, 0], device=device)):
        assert voxelize(points, 0.5, origin=origin).coords[:, 1].tolist() == [-1, 0, 1]


def test_edges_of_three_lengths(device, dtype):
    points = torch.tensor([[3.0, 3.0, 3.0], [-3.0, -3.0, -3.0]], device=device, dtype=dtype)
    for size in ((1, 2, 4.0), [1.0, 2.0, 4.0]):
        assert voxelize(points, size).coords.tolist() == [[0, -3, -2, -1], [0, 3, 1, 0]]


def test_a_point_that_is_not_finite_is_in_no_voxel(device, dtype):
    points = along_x([1.0, math.nan, 0.0, math.inf, 1.0], device, dtype)
    points[2, 2] = -math.inf
    voxels = voxelize(points, 1.0)
    assert voxels.coords.tolist() == [[0, 1, 0, 0]]
    assert voxels.inverse.tolist() == [0, -1, -1, -1, 0]
    assert voxels.counts.tolist() == [2]
    assert voxels.ptr.tolist() == [0, 2]
    assert voxels.order.tolist() == [0, 4, 1, 2, 3]


@pytest.mark.parametrize("n", [0, 1, 5, 5000])
def test_a_cloud_of_points_that_are_not_finite_has_no_voxels(n, device, dtype):
    voxels = voxelize(torch.full((n, 3), math.nan, device=device, dtype=dtype), 1.0)
    assert voxels.coords.shape == (0, 4)
    assert voxels.ptr.tolist() == [0]
    assert voxels.inverse.tolist() == [-1] * n
    assert voxels.order.tolist() == list(range(n))


def test_voxels_say_what_they_hold():
    voxels = voxelize(along_x([0.5, 1.5, 1.6], "cpu"), 1.0)
    assert isinstance(voxels, Voxels)
    assert len(voxels) == 2
    assert repr(voxels) == "Voxels(M=2, N=3, cpu)"


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("size", [0.3, 0.1, (0.05, 1.0, 7.0)], ids=str)
@pytest.mark.parametrize("origin", [None, (0.1, -0.2, 5.0)], ids=str)
def test_equals_a_dictionary_of_points(voxelized, origin, size, device, dtype):
    points = cloud_of(600, dtype, device)
    batch = torch.randint(4, (600,), generator=torch.Generator().manual_seed(1)).to(device)
    for of_points in (None, batch):
        voxels = voxelized(points, size, batch=of_points, origin=origin)
        assert 5 < len(voxels) < 560
        assert_equal(voxels, by_hand(points, size, of_points, origin))


def test_decimal_faces_go_where_one_division_puts_them(device, dtype):
    """0.3 / 0.1 is 3 in float32 and 2.9999999999999996 in float64: so says the division, and so it is everywhere."""
    rng = torch.Generator().manual_seed(0)
    multiples = torch.randint(-3000, 3000, (3000, 3), generator=rng)
    for size in (0.1, 0.02, 0.3):
        points = (multiples * size).to(device, dtype)
        assert_equal(voxelize(points, size), by_hand(points, size))
    x = voxelize(along_x([0.3], device, dtype), 0.1).coords[0, 1].item()
    assert x == (3 if dtype == torch.float32 else 2)


# Extents: from the smallest keys to those that no 64 bits hold.


@pytest.mark.parametrize("spread", [0.0, 0.2, 30.0, 2e5, 3e8], ids=str)
@pytest.mark.parametrize("clouds", [1, 2, 1000])
def test_extents_of_any_size_equal_a_dictionary(clouds, spread, device, dtype):
    """Up to 2e9 cells along each axis: 93 bits, and 10 more of the batch."""
    points = cloud_of(300, dtype, device, spread)
    batch = torch.arange(300, device=device) % clouds * 1_000_003
    assert_equal(voxelize(points, 1.0, batch=batch), by_hand(points, 1.0, batch))


@pytest.mark.parametrize(
    "cells",
    [
        *[(1, 1, 1), (2**31 - 1, 1, 1), (2**31, 1, 1), (2**32, 1, 1), (1, 2**32 - 1, 1), (1, 1, 2**32)],
        *[(2**31, 2**31, 1), (2**32, 2**31 - 1, 1), (2**32, 2**31, 1), (2**21, 2**21, 2**21 - 1)],
        *[(2**21, 2**21, 2**21), (2**32, 2**32, 1), (2**32, 1, 2**32), (2**32, 2**32, 2**32)],
    ],
    ids=str,
)
def test_at_every_limit_of_the_keys(cells, device):
    """One key of 32 bits, one of 64, and one for each axis: where one stops to do and the next begins."""
    rng = torch.Generator().manual_seed(0)
    steps = [torch.randint(c, (200,), generator=rng) for c in cells]
    for step, c in zip(steps, cells, strict=True):
        step[3], step[7] = 0, c - 1  # the full extent
    points = (torch.stack(steps, dim=1) + FIRST).double()
    points[100:150] = points[:50]
    points[11::40, 1] = math.nan
    points = points.to(device)
    assert_equal(voxelize(points, 1.0), by_hand(points, 1.0))
    batch = torch.where(torch.rand(200, generator=rng) < 0.5, 0, 2**31 - 2).to(device)
    assert_equal(voxelize(points, 1.0, batch=batch), by_hand(points, 1.0, batch))


def test_ten_kilometres_at_a_centimetre_with_a_batch(device):
    """2e6 cells along each axis and 8 clouds are 66 bits."""
    rng = torch.Generator().manual_seed(0)
    points = 20_000 * torch.rand(400, 3, generator=rng, dtype=torch.float64) - 10_000
    points[200:300] = points[:100] + 1e-3
    batch = (torch.arange(400) % 8).to(device)
    points = points.to(device)
    voxels = voxelize(points, 0.01, batch=batch)
    assert_equal(voxels, by_hand(points, 0.01, batch))
    assert voxels.coords[:, 1:].min() < -990_000
    assert voxels.coords[:, 1:].max() > 990_000


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_coordinates_of_int32_are_all_there_and_no_more(axis, device):
    points = torch.zeros(2, 3, dtype=torch.float64, device=device)
    points[:, axis] = torch.tensor([FIRST, LAST + 0.75], dtype=torch.float64)
    assert voxelize(points, 1.0).coords[:, 1 + axis].tolist() == [FIRST, LAST]
    for beyond in (FIRST - 0.25, LAST + 1.0, 1e300):
        points[1, axis] = beyond
        reach = f"{max(abs(beyond), 2.0**31):g}".replace("+", r"\+")
        with pytest.raises(ValueError, match=f"points must have voxels within int32: .*coordinates reach {reach}"):
            voxelize(points, 1.0)


def test_float32_reaches_as_far_as_it_counts_in_ones(device):
    furthest = 2.0**31 - 128
    voxels = voxelize(along_x([-(2.0**31), furthest], device), 1.0)
    assert voxels.coords[:, 1].tolist() == [FIRST, int(furthest)]
    with pytest.raises(ValueError, match="within int32"):
        voxelize(along_x([2.0**31], device), 1.0)


@pytest.mark.parametrize(("x", "size", "origin"), [(3e38, 1.0, 0.0), (3e38, 1e30, -3e38), (1.0, 1e-37, 0.0)])
def test_what_overflows_on_the_way_is_beyond_int32_too(x, size, origin, device):
    with pytest.raises(ValueError, match="within int32"):
        voxelize(along_x([0.0, x], device), size, origin=(origin, 0.0, 0.0))


def test_a_small_and_a_large_edge(device, dtype):
    tiny, huge = torch.finfo(dtype).tiny, torch.finfo(dtype).max
    assert voxelize(along_x([0.0, 3 * tiny], device, dtype), tiny).coords[:, 1].tolist() == [0, 3]
    assert voxelize(along_x([-huge, 1.0, huge], device, dtype), huge).coords[:, 1].tolist() == [-1, 0, 1]


# Large clouds.


@pytest.mark.parametrize("n", [511, 4095, 4096, 4097, 100_000])
def test_large_clouds_equal_numpy(n, device, dtype):
    """Around the 4096 points that one worker takes."""
    points = cloud_of(n, dtype, device)
    voxels = voxelize(points, 0.11)
    p = points.cpu().numpy()
    finite = np.isfinite(p).all(axis=1)
    cells = np.floor(p[finite] / p.dtype.type(0.11)).astype(np.int64)
    key = (cells + 2**20) @ [2**42, 2**21, 1]
    _, first, of_finite, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    inverse = np.full(n, -1)
    inverse[finite] = of_finite
    order = np.argsort(np.where(finite, inverse, len(first)), kind="stable")
    coords = np.pad(cells[first], ((0, 0), (1, 0))).astype(np.int32)
    parts = (coords, inverse, counts, np.cumsum([0, *counts]), order)
    assert_equal(voxels, Voxels(*map(torch.from_numpy, parts)))


def test_one_voxel_may_hold_every_point(device, dtype):
    voxels = voxelize(torch.full((20_000, 3), -0.5, device=device, dtype=dtype), 1.0)
    assert voxels.coords.tolist() == [[0, -1, -1, -1]]
    assert voxels.counts.tolist() == [20_000]
    assert torch.equal(voxels.order, torch.arange(20_000, device=device))


def test_every_point_may_have_a_voxel_of_its_own(device, dtype):
    x = torch.randperm(20_000, generator=torch.Generator().manual_seed(0))
    voxels = voxelize(along_x(x.tolist(), device, dtype), 1.0)
    assert torch.equal(voxels.inverse.cpu(), x)
    assert torch.equal(voxels.order.cpu(), x.argsort())
    assert (voxels.counts == 1).all()


def test_points_that_ask_for_a_gradient_are_voxelized_all_the_same(device):
    points = torch.rand(50, 3, device=device, requires_grad=True)
    voxels = voxelize(points, 0.5, origin=torch.zeros(3, device=device, requires_grad=True))
    assert_same_bits(voxels, voxelize(points.detach(), 0.5))


# Other people's libraries.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its imports
def test_spconv_makes_the_same_voxels():
    """In the order in which they are met; its coordinates are z, y, x, from the low end of the range."""
    utils = pytest.importorskip("spconv.pytorch.utils")
    points = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0)) * 12 - 6
    edges, low, high = [0.25, 0.5, 1.0], [-8.0] * 3, [8.0] * 3
    there = utils.PointToVoxel(edges, [*low, *high], 3, 10_000, 1)
    _, coords, _, inverse = there.generate_voxel_with_id(points)
    ours = voxelize(points, edges, origin=low)
    assert len(ours) == len(coords)
    assert torch.equal(ours.coords[ours.inverse][:, [3, 2, 1]], coords[inverse])


@pytest.mark.parametrize("size", [0.37, 1.5])
def test_open3d_makes_the_same_voxels(size):
    """Its origin is half a voxel below the lowest point."""
    open3d = pytest.importorskip("open3d")
    points = torch.rand(5000, 3, generator=torch.Generator().manual_seed(0)).double() * 12 - 6
    low = points.amin(0) - size / 2
    ours = voxelize(points, size, origin=low)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.numpy()))
    assert len(cloud.voxel_down_sample(size).points) == len(ours)
    _, _, members = cloud.voxel_down_sample_and_trace(size, low.numpy(), points.amax(0).numpy() + size)
    there = sorted(sorted(m) for m in members)
    assert sorted(m.tolist() for m in ours.order.split(ours.counts.tolist())) == there


# Errors.

POINTS = torch.zeros(4, 3)
BATCH = torch.tensor([0, 1, 2, 3])
BAD = {
    "points of four numbers": ((torch.zeros(4, 4), 1.0), {}, ValueError, r"points must have shape \(\*, 3\), got"),
    "one point": ((POINTS[0], 1.0), {}, ValueError, r"points must .*got \(3,\)"),
    "points of integers": ((POINTS.int(), 1.0), {}, TypeError, r"points must be float32 or float64, got int32"),
    "points in half precision": ((POINTS.half(), 1.0), {}, TypeError, r"points must .*got float16"),
    "points as an array": ((POINTS.numpy(), 1.0), {}, TypeError, r"points must .*got ndarray"),
    "a size of 0": ((POINTS, 0.0), {}, ValueError, r"size must be positive and finite in float32, got 0"),
    "a negative size": ((POINTS, (1.0, -0.1, 1.0)), {}, ValueError, r"size must be positive .*got \(1.0, -0.1, 1.0\)"),
    "an infinite size": ((POINTS, math.inf), {}, ValueError, r"size must be positive and finite .*got inf"),
    "a size that float32 makes 0": ((POINTS, 1e-46), {}, ValueError, r"size must be positive .*float32, got 1e-46"),
    "a size float32 makes infinite": ((POINTS, 1e39), {}, ValueError, r"size must .*finite in float32, got 1e\+39"),
    "a size that is NaN": ((POINTS, math.nan), {}, ValueError, r"size must .*got NaN"),
    "two edges": ((POINTS, (1.0, 2.0)), {}, ValueError, r"size must be one number or three, got \(1.0, 2.0\)"),
    "no edges": ((POINTS, ()), {}, ValueError, r"size must be one number or three, got \(\)"),
    "a size as text": ((POINTS, "1.0"), {}, TypeError, r"size must .*got '1.0'"),
    "edges of text": ((POINTS, ("1", "2", "3")), {}, TypeError, r"size must .*got '1'"),
    "a size that is True": ((POINTS, True), {}, TypeError, r"size must be a number, got True"),
    "a batch too short": ((POINTS, 1.0), {"batch": BATCH[:3]}, ValueError, r"batch must have shape \(4\), got \(3,\)"),
    "a batch of floats": ((POINTS, 1.0), {"batch": BATCH.float()}, TypeError, r"batch must be int32 or int64, got"),
    "a batch as a list": ((POINTS, 1.0), {"batch": [0, 1, 2, 3]}, TypeError, r"batch must .*got list"),
    "a batch elsewhere": ((POINTS, 1.0), {"batch": BATCH.to("meta")}, ValueError, r"batch must be on cpu .*got meta"),
    "an origin tensor that is not finite": (
        (POINTS, 1.0),
        {"origin": torch.tensor([math.nan, 0.0, 0.0])},
        ValueError,
        r"origin must be finite, got \[nan",
    ),
    "an origin beyond the dtype": (
        (POINTS.float(), 1.0),
        {"origin": (1e300, 0.0, 0.0)},
        ValueError,
        "origin must be finite in float32",
    ),
    "a size as a tensor": ((POINTS, torch.ones(3)), {}, TypeError, r"size must be one number or three, got tensor"),
    "a negative batch": ((POINTS, 1.0), {"batch": BATCH - 1}, ValueError, r"batch must be from 0 to 2147483646, got -"),
    "a batch as far as int64 goes": (
        (POINTS, 1.0),
        {"batch": BATCH.new_tensor([0, 1, 2, 2**63 - 1])},
        ValueError,
        "batch must be from 0 to 2147483646, got 9223372036854775807",
    ),
    "a batch beyond int32": ((POINTS, 1.0), {"batch": BATCH + 2**31 - 4}, ValueError, r"batch must .*got 2147483647"),
    "a batch far beyond it": ((POINTS, 1.0), {"batch": BATCH * 2**61}, ValueError, r"batch must .*got 6917529027641"),
    "an origin of two": ((POINTS, 1.0), {"origin": (0.0, 0.0)}, ValueError, r"origin must be three numbers, got"),
    "an origin of four": ((POINTS, 1.0), {"origin": torch.zeros(4)}, ValueError, r"origin must have shape \(3\), got"),
    "an origin of integers": ((POINTS, 1.0), {"origin": torch.zeros(3).int()}, TypeError, r"origin must .*got int32"),
    "an origin that is one number": ((POINTS, 1.0), {"origin": 0.5}, TypeError, r"origin must .*got 0.5"),
    "an origin of text": ((POINTS, 1.0), {"origin": "abc"}, TypeError, r"origin must .*got 'abc'"),
    "an origin that is not finite": ((POINTS, 1.0), {"origin": (0, math.inf, 0)}, ValueError, r"origin must be finite"),
    "an origin of NaN": ((POINTS, 1.0), {"origin": (0, math.nan, 0)}, ValueError, r"origin must .*got NaN"),
    "an origin of no point": ((POINTS[:0], 1.0), {"origin": POINTS[0] / 0}, ValueError, r"origin must be finite, got"),
    "an origin of no finite point": ((POINTS / 0, 1.0), {"origin": POINTS[0] / 0}, ValueError, "origin must be finite"),
    "an origin elsewhere": ((POINTS, 1.0), {"origin": POINTS[0].to("meta")}, ValueError, r"origin must .*got meta"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_voxelize_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        voxelize(*arguments, **keywords)
