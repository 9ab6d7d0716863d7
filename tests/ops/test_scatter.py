"""What do the points of a voxel say together?"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import assert_close, assert_same_bits, make_scene

from pyproj2d3d import Voxels, reference, scatter, voxelize

NATIVE_AND_REFERENCE = pytest.mark.parametrize("scattered", [scatter, reference.scatter], ids=["native", "reference"])
REDUCTIONS = ("mean", "sum", "max", "min")
LABELS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def voxels_of(voxel_of_point, device) -> Voxels:
    """Points that are told which voxel they are in: a number, ascending, or None."""
    x = [math.nan if v is None else float(v) for v in voxel_of_point]
    return voxelize(torch.tensor([[v, 0.0, 0.0] for v in x], device=device).reshape(-1, 3), 1.0)


def column(values, device, dtype=torch.float32) -> torch.Tensor:
    return torch.tensor(values, device=device, dtype=dtype)[:, None]


def one_voxel(n: int, device) -> Voxels:
    return voxelize(torch.zeros(n, 3, device=device), 1.0)


def random_voxels(n: int, device, seed: int = 0) -> Voxels:
    """Of a few points and of many, and a seventh of the points in none."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 3, generator=rng) ** 3
    points[::7, 1] = torch.inf
    return voxelize(points.to(device), 0.7)


def members(voxels: Voxels) -> list[list[int]]:
    """The points of each voxel, ascending, from ``inverse`` alone."""
    inverse = voxels.inverse.tolist()
    return [[n for n, v in enumerate(inverse) if v == m] for m in range(len(voxels))]


def test_points_of_a_voxel_are_reduced_to_one_row(device, feature_dtype):
    voxels = voxels_of([1, 0, 1, 1, 0], device)
    features = column([4.0, 1, 6, 2, 8], device, feature_dtype)
    wanted = {"sum": [9, 12], "mean": [4.5, 4], "max": [8, 6], "min": [1, 2], "first": [1, 4]}
    for reduce, rows in wanted.items():
        out = scatter(features, voxels, reduce)
        assert out[:, 0].tolist() == rows
        assert out.dtype == feature_dtype
    assert_same_bits(scatter(features, voxels), scatter(features, voxels, "mean"))


def test_each_channel_has_its_own_maximum(device, feature_dtype):
    features = torch.tensor([[1.0, 7.0], [5.0, 2.0], [3.0, 3.0]], device=device, dtype=feature_dtype)
    voxels = voxels_of([0, 0, 4], device)
    for reduce, rows, points in (
        ("max", [[5, 7], [3, 3]], [[1, 0], [2, 2]]),
        ("min", [[1, 2], [3, 3]], [[0, 1], [2, 2]]),
    ):
        out, arg = scatter(features, voxels, reduce, return_arg=True)
        assert out.tolist() == rows
        assert arg.tolist() == points
        assert arg.dtype == torch.int64


def test_of_several_extremes_the_lowest_point_is_named(device, feature_dtype):
    features = column([2.0, 5, 5, 2, 5], device, feature_dtype)
    voxels = voxels_of([0] * 5, device)
    assert scatter(features, voxels, "max", return_arg=True)[1].tolist() == [[1]]
    assert scatter(features, voxels, "min", return_arg=True)[1].tolist() == [[0]]


def test_first_is_the_row_of_the_lowest_point(device):
    voxels = voxels_of([3, None, 1, 3, 1], device)
    for dtype in (torch.float16, torch.float64, torch.bool, *LABELS):
        rows, point = scatter(column([0, 1, 1, 1, 0], device, dtype), voxels, "first", return_arg=True)
        assert (rows.tolist(), rows.dtype, point.tolist()) == ([[1], [0]], dtype, [2, 0])
        flat = scatter(torch.tensor([0, 1, 1, 1, 0], device=device, dtype=dtype), voxels, "first")
        assert flat.tolist() == [1, 0]


def test_a_point_in_no_voxel_takes_no_part(device, feature_dtype):
    """Not even with a NaN."""
    features = column([1.0, math.nan, 3.0], device, feature_dtype)
    voxels = voxels_of([0, None, 0], device)
    wanted = {"mean": 2, "sum": 4, "max": 3, "min": 1, "first": 1}
    assert {reduce: scatter(features, voxels, reduce).item() for reduce in wanted} == wanted
    labels = torch.tensor([7, 3, 7], device=device)
    assert scatter(labels, voxels, "mode").tolist() == [7]


@pytest.mark.parametrize("reduce", ["max", "min"])
def test_a_nan_is_the_extreme_and_the_first_of_them_is_named(reduce, device, feature_dtype):
    features = column([1.0, math.nan, 9.0, math.nan, 4.0], device, feature_dtype)
    out, arg = scatter(features, voxels_of([0, 0, 0, 0, 1], device), reduce, return_arg=True)
    assert out[0].isnan().all()
    assert (out[1].tolist(), arg.tolist()) == ([4], [[1], [4]])


@pytest.mark.parametrize("reduce", ["max", "min"])
def test_infinities_are_values_like_others(reduce, device, feature_dtype):
    """A voxel of nothing but -inf has it as its maximum, not the number a maximum begins with."""
    low = column([-math.inf, -math.inf, -math.inf, 1.0], device, feature_dtype)
    features = low if reduce == "max" else -low
    out, arg = scatter(features, voxels_of([0, 0, 1, 1], device), reduce, return_arg=True)
    sign = 1 if reduce == "max" else -1
    assert (sign * out).flatten().tolist() == [-math.inf, 1]
    assert arg.tolist() == [[0], [3]]


@pytest.mark.parametrize("dtype", LABELS, ids=str)
def test_mode_is_the_most_frequent_label(dtype, device):
    voxels = voxels_of([0, 0, 0, 0, 1, 1, 2], device)
    out = scatter(torch.tensor([3, 5, 9, 5, 8, 8, 0], device=device, dtype=dtype), voxels, "mode")
    assert out.tolist() == [5, 8, 0]
    assert out.dtype == dtype


@pytest.mark.parametrize("dtype", LABELS, ids=str)
def test_of_several_modes_the_smallest_label_is_taken(dtype, device):
    labels = torch.tensor([9, 4, 9, 4, 6, 120], device=device, dtype=dtype)
    assert scatter(labels, voxels_of([0] * 6, device), "mode").tolist() == [4]


@pytest.mark.parametrize("dtype", LABELS[1:], ids=str)
def test_labels_below_0_have_no_vote(dtype, device):
    labels = torch.tensor([-1, -1, 6, -1, -1, -100, -1], device=device, dtype=dtype)
    assert scatter(labels, voxels_of([0, 0, 0, 1, 1, 2, 2], device), "mode").tolist() == [6, -1, -1]


def test_the_largest_label_of_a_dtype_is_a_label(device):
    for dtype in LABELS:
        last = torch.iinfo(dtype).max
        labels = torch.tensor([last, 0, last], device=device, dtype=dtype)
        assert scatter(labels, voxels_of([0, 0, 0], device), "mode").tolist() == [last]


def test_each_column_of_labels_has_its_own_mode(device):
    labels = torch.tensor([[1, -1], [1, 2], [0, 2]], device=device)
    assert scatter(labels, voxels_of([0, 0, 0], device), "mode").tolist() == [[1, 2]]
    assert scatter(labels, voxels_of([2, 1, 1], device), "mode").tolist() == [[0, 2], [1, -1]]


@pytest.mark.parametrize("reduce", [*REDUCTIONS, "first", "mode"])
@pytest.mark.parametrize("voxel_of_point", [[], [None] * 3], ids=["no points", "no voxels"])
def test_no_voxels_give_no_rows(voxel_of_point, reduce, device):
    n, dtype = len(voxel_of_point), torch.int64 if reduce == "mode" else torch.float32
    features = torch.ones(n, 4, device=device, dtype=dtype, requires_grad=reduce != "mode")
    out = scatter(features, voxels_of(voxel_of_point, device), reduce)
    assert out.shape == (0, 4)
    if reduce != "mode":
        out.sum().backward()
        assert features.grad.tolist() == [[0] * 4] * n


@pytest.mark.parametrize("reduce", [*REDUCTIONS, "first", "mode"])
def test_no_channels_give_rows_without_any(reduce, device):
    dtype = torch.int64 if reduce == "mode" else torch.float32
    voxels = voxels_of([0, 3, 0], device)
    assert scatter(torch.ones(3, 0, device=device, dtype=dtype), voxels, reduce).shape == (2, 0)


# Oracles.


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("channels", [1, 3, 64, 65, 130])
def test_equals_loops_over_voxels(scattered, channels, device):
    voxels = random_voxels(400, device)
    rng = torch.Generator().manual_seed(1)
    features = torch.randint(-4, 5, (400, channels), generator=rng).double().to(device)  # many are equal
    rows = features.cpu().numpy()
    for reduce in REDUCTIONS:
        wanted = np.stack([getattr(np, reduce)(rows[m], axis=0) for m in members(voxels)])
        assert_close(scattered(features, voxels, reduce).cpu(), torch.from_numpy(wanted))
    for reduce in ("max", "min"):
        out, arg = scattered(features, voxels, reduce, return_arg=True)
        wanted = [[m[i] for i in getattr(rows[m], f"arg{reduce}")(axis=0)] for m in members(voxels)]
        assert arg.tolist() == wanted
        assert_same_bits(out, features.gather(0, arg))


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_equals_the_reductions_of_torch(reduce, device, feature_dtype):
    voxels = random_voxels(5000, device)
    features = torch.randn(5000, 9, generator=torch.Generator().manual_seed(2)).to(device, feature_dtype)
    wide = features.double() if feature_dtype == torch.float64 else features.float()
    packed = wide[voxels.order[: voxels.ptr[-1]]]
    wanted = torch.segment_reduce(packed, reduce, lengths=voxels.counts)
    assert_close(scatter(features, voxels, reduce), wanted.to(feature_dtype))
    scattered = torch.zeros(len(voxels) + 1, 9, dtype=wide.dtype, device=device)
    to = torch.where(voxels.inverse < 0, len(voxels), voxels.inverse)[:, None].expand_as(wide)
    wanted = scattered.scatter_reduce(
        0, to, wide, reduce if reduce in ("mean", "sum") else f"a{reduce}", include_self=False
    )
    assert_close(scatter(features, voxels, reduce), wanted[:-1].to(feature_dtype))


@pytest.mark.parametrize("reduce", [*REDUCTIONS, "first"])
def test_agrees_with_reference(reduce, device, feature_dtype):
    scene = make_scene(3000, 1, feature_dtype=feature_dtype, device=device, channels=7)
    voxels = voxelize(scene.points, 0.9)
    keywords = {"return_arg": reduce in ("max", "min", "first")}
    ours, wanted = (f(scene.features, voxels, reduce, **keywords) for f in (scatter, reference.scatter))
    (assert_close if reduce in ("mean", "sum") else assert_same_bits)(ours, wanted)


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("labels", [2, 20, 10**12])
def test_mode_equals_loops_over_voxels(scattered, labels, device):
    voxels = random_voxels(2000, device)
    given = torch.randint(-1, labels, (2000,), generator=torch.Generator().manual_seed(3))
    given[::5] = given[0]  # so that labels are frequent among 10**12 too
    wanted = []
    for m in members(voxels):
        known, count = np.unique(given.numpy()[m], return_counts=True)
        known, count = known[known >= 0], count[known >= 0]
        wanted.append(known[count.argmax()] if len(known) else -1)  # the first maximum is the smallest label
    assert scattered(given.to(device), voxels, "mode").tolist() == wanted


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 31, 32, 33, 1000])
def test_mode_in_whatever_order_the_labels_come(n, device):
    """Ascending, falling, equal, alternating and shuffled, behind a voxel of another length."""
    ascending = torch.arange(n) * 3 // 4
    shuffled = ascending[torch.randperm(n, generator=torch.Generator().manual_seed(n))]
    for labels in (ascending, ascending.flip(0), shuffled, torch.full((n,), 5), torch.arange(n) % 2):
        known, count = np.unique(labels.numpy(), return_counts=True)
        before = torch.tensor([8, 9, 9])
        voxels = voxels_of([0] * 3 + [1] * n, device)
        out = scatter(torch.cat((before, labels)).to(device), voxels, "mode")
        assert out.tolist() == [9, known[count.argmax()]]


def test_a_voxel_may_hold_a_hundred_thousand_labels(device):
    labels = torch.randint(-1, 300, (100_000,), generator=torch.Generator().manual_seed(4))
    voxels = one_voxel(len(labels), device)
    wanted = np.bincount(labels[labels >= 0].numpy()).argmax()
    assert scatter(labels.to(device), voxels, "mode").tolist() == [wanted]


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("values", ["a tenth", "random"])
def test_a_voxel_of_a_hundred_thousand_points_is_summed_in_blocks(values, reduce, device):
    """256 at a time, so that no number goes through more than 256 + n / 256 additions, each half a unit of 2**-23 at
    most: 4e-5 of the sum of the sizes. One running sum of tenths is off by 1.4e-4."""
    n = 100_000
    rng = torch.Generator().manual_seed(0)
    features = torch.full((n, 1), 0.1) if values == "a tenth" else torch.randn(n, 1, generator=rng)
    out = scatter(features.to(device), one_voxel(n, device), reduce).item()
    truth, size = (t.double().sum().item() / (n if reduce == "mean" else 1) for t in (features, features.abs()))
    assert abs(out - truth) <= (256 + n / 256) * 2**-24 * size


@pytest.mark.parametrize("short", [torch.float16, torch.bfloat16])
def test_short_features_are_summed_in_float32_and_rounded_once(short, device):
    features = torch.randn(3000, 5, generator=torch.Generator().manual_seed(5)).to(device, short)
    voxels = random_voxels(3000, device)
    for reduce in ("mean", "sum"):
        in_float32 = scatter(features.float(), voxels, reduce)
        assert_same_bits(scatter(features, voxels, reduce), in_float32.to(short))
    assert scatter(torch.ones(3000, 1, device=device, dtype=short), one_voxel(3000, device)).item() == 1


def test_any_features_of_the_points_go_with_the_voxels(device, dtype):
    """The centre of gravity of each voxel lies in it."""
    points = torch.randn(2000, 3, generator=torch.Generator().manual_seed(6)).to(device, dtype)
    voxels = voxelize(points, 0.5)
    centre = scatter(points, voxels)
    assert torch.equal(torch.floor(centre / 0.5).int(), voxels.coords[:, 1:])
    assert torch.equal(scatter(points[:, :1], voxels, "first"), points[voxels.order[voxels.ptr[:-1]], :1])


def test_open3d_has_the_same_means_of_points_and_colours():
    open3d = pytest.importorskip("open3d")
    rng = torch.Generator().manual_seed(7)
    points, colors = torch.rand(3000, 3, generator=rng).double() * 4, torch.rand(3000, 3, generator=rng).double()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.numpy()))
    cloud.colors = open3d.utility.Vector3dVector(colors.numpy())
    down = cloud.voxel_down_sample(0.5)
    there = np.concatenate([down.points, down.colors], axis=1)
    voxels = voxelize(points, 0.5, origin=points.amin(0) - 0.25)
    ours = scatter(torch.cat((points, colors), dim=1), voxels).numpy()
    assert ours.shape == there.shape
    np.testing.assert_allclose(ours[np.lexsort(ours.T)], there[np.lexsort(there.T)], rtol=1e-12)


# Gradients.


@pytest.mark.parametrize("reduce", [*REDUCTIONS, "first"])
def test_gradients(reduce, device):
    voxels = voxels_of([2, 0, None, 2, 0, 2, 1], device)
    rng = torch.Generator().manual_seed(8)
    features = torch.randn(7, 3, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: scatter(f, voxels, reduce), (features,))


def test_a_mean_hands_each_of_its_points_its_share(device, feature_dtype):
    features = column([1.0, 2, 3, 4, 5], device, feature_dtype).requires_grad_()
    out = scatter(features, voxels_of([0, None, 0, 1, 0], device))
    (out * column([3.0, 10.0], device, feature_dtype)).sum().backward()
    assert features.grad[:, 0].tolist() == [1, 0, 1, 10, 1]
    features.grad = None
    out = scatter(features, voxels_of([0, None, 0, 1, 0], device), "sum")
    (out * column([3.0, 10.0], device, feature_dtype)).sum().backward()
    assert features.grad[:, 0].tolist() == [3, 0, 3, 10, 3]


@pytest.mark.parametrize("return_arg", [False, True])
def test_of_several_maxima_the_lowest_point_gets_the_whole_gradient(return_arg, device, feature_dtype):
    voxels = voxels_of([0, 0, None, 0, 1], device)
    for reduce, sign in (("max", 1.0), ("min", -1.0)):
        features = (sign * column([2.0, 5, 9, 5, 7], device, feature_dtype)).requires_grad_()
        out = scatter(features, voxels, reduce, return_arg=return_arg)
        (out[0] if return_arg else out).backward(column([3.0, 4.0], device, feature_dtype))
        assert features.grad[:, 0].tolist() == [0, 3, 0, 0, 4]


def test_a_nan_that_is_the_maximum_gets_its_gradient(device):
    features = column([1.0, math.nan, 2.0], device).requires_grad_()
    scatter(features, voxels_of([0, 0, 0], device), "max").backward(column([3.0], device))
    assert features.grad[:, 0].tolist() == [0, 3, 0]


@pytest.mark.parametrize("reduce", [*REDUCTIONS, "first"])
def test_a_point_in_no_voxel_gets_gradient_0(reduce, device, feature_dtype):
    features = column([1.0, math.nan, 3.0], device, feature_dtype).requires_grad_()
    scatter(features, voxels_of([0, None, 1], device), reduce).backward(column([math.inf] * 2, device, feature_dtype))
    assert features.grad[:, 0].tolist() == [math.inf, 0, math.inf]


def test_which_point_it_was_has_no_gradient(device):
    features = torch.randn(5, 2, device=device, requires_grad=True)
    for reduce in ("max", "min", "first"):
        out, arg = scatter(features, voxels_of([0, 1, 0, 1, 1], device), reduce, return_arg=True)
        assert out.requires_grad
        assert not arg.requires_grad
    assert not scatter(features.detach(), voxels_of([0, 1, 0, 1, 1], device), "max").requires_grad


# Errors.

VOXELS = voxels_of([0, 1, 1], "cpu")
ROWS, IDS = torch.ones(3, 2), torch.ones(3, dtype=torch.int64)
NO_ARG = r"return_arg must be False with '{}': only 'max', 'min' and 'first' have one"
BAD = {
    "fewer features than points": ((ROWS[:2], VOXELS), {}, ValueError, r"features must have shape \(3, \*\), got"),
    "features of one axis": ((ROWS[:, 0], VOXELS), {}, ValueError, r"features must .*got \(3,\)"),
    "features of three axes": ((ROWS[None], VOXELS, "first"), {}, ValueError, r"features must .*got \(1, 3, 2\)"),
    "no axis at all": ((ROWS[0, 0], VOXELS, "first"), {}, ValueError, r"features must .*got \(\)"),
    "fewer labels than points": ((IDS[:2], VOXELS, "mode"), {}, ValueError, r"features must .*\(3\), got \(2,\)"),
    "integers with mean": ((IDS[:, None], VOXELS), {}, TypeError, r"features must be float16 .*got int64"),
    "integers with max": ((IDS[:, None], VOXELS, "max"), {}, TypeError, r"features must .*got int64"),
    "floats with mode": ((ROWS, VOXELS, "mode"), {}, TypeError, r"features must be uint8 .*got float32"),
    "truth with mode": ((IDS > 0, VOXELS, "mode"), {}, TypeError, r"features must .*got bool"),
    "complex numbers": ((ROWS + 0j, VOXELS, "first"), {}, TypeError, r"features must .*got complex64"),
    "features as a list": ((ROWS.tolist(), VOXELS), {}, TypeError, r"features must .*got list"),
    "features elsewhere": ((ROWS.to("meta"), VOXELS), {}, ValueError, r"features must be on cpu like voxels, got meta"),
    "voxels elsewhere": ((ROWS, VOXELS.to("meta")), {}, ValueError, r"features must be on meta like voxels, got cpu"),
    "voxels that are their inverse": ((ROWS, VOXELS.inverse), {}, TypeError, r"voxels must be Voxels.*got Tensor"),
    "an unknown reduction": ((ROWS, VOXELS, "median"), {}, ValueError, r"reduce must be 'mean' or .*got 'median'"),
    "no reduction": ((ROWS, VOXELS, None), {}, ValueError, r"reduce must .*got None"),
    "the arg of a mean": ((ROWS, VOXELS), {"return_arg": True}, ValueError, NO_ARG.format("mean")),
    "the arg of a sum": ((ROWS, VOXELS, "sum"), {"return_arg": True}, ValueError, NO_ARG.format("sum")),
    "the arg of a mode": ((IDS, VOXELS, "mode"), {"return_arg": True}, ValueError, NO_ARG.format("mode")),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_scatter_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        scatter(*arguments, **keywords)


BAD_VOXELS = {  # what takes the place of inverse 0 1 1, order 0 1 2, ptr 0 1 3
    "ptr that does not begin at 0": ("ptr", [1, 2, 3], ValueError, r"ptr must ascend from 0 to at most 3.*got \[1,"),
    "ptr that ends beyond the points": ("ptr", [0, 1, 4], ValueError, r"ptr must ascend .*got \[0, 1, 4\]"),
    "ptr that falls": ("ptr", [0, 3, 1], ValueError, r"ptr must ascend .*got \[0, 3, 1\]"),
    "a voxel without a point": ("ptr", [0, 3, 3], ValueError, r"ptr must ascend .*by at least 1, got \[0, 3, 3\]"),
    "ptr of another length": ("ptr", [0, 3], ValueError, r"ptr must have shape \(3\), got \(2,\)"),
    "a voxel that is not there": ("inverse", [0, 1, 2], ValueError, r"inverse must be within -1 and 1, got 0 to 2"),
    "a voxel below none": ("inverse", [0, 1, -2], ValueError, r"inverse must be within -1 and 1, got -2 to 1"),
    "a point that is not there": ("order", [0, 1, 3], ValueError, r"order must be within 0 and 2, got 0 to 3"),
    "a negative point": ("order", [0, -1, 2], ValueError, r"order must be within 0 and 2, got -1 to 2"),
    "order of another length": ("order", [0, 1], ValueError, r"order must have shape \(3\), got \(2,\)"),
    "order of floats": ("order", [0.0, 1.0, 2.0], TypeError, r"order must be int64, got float32"),
}  # fmt: skip


@pytest.mark.parametrize(("part", "values", "error", "message"), BAD_VOXELS.values(), ids=BAD_VOXELS.keys())
def test_voxels_made_by_hand_that_cannot_be_are_refused(part, values, error, message):
    """On the CPU, where looking costs no synchronisation: anything else would read memory that is not ours."""
    voxels = replace(VOXELS, **{part: torch.tensor(values)})
    for features, reduce in ((ROWS, "mean"), (ROWS, "max"), (ROWS, "first"), (IDS, "mode")):
        with pytest.raises(error, match=rf"voxels\.{message}"):
            scatter(features, voxels, reduce)


def test_parts_of_voxels_on_two_devices_are_refused():
    with pytest.raises(ValueError, match=r"voxels\.order must be on cpu like voxels\.coords, got meta"):
        scatter(ROWS, replace(VOXELS, order=VOXELS.order.to("meta")))
