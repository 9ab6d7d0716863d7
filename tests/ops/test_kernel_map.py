"""Which input does each offset of a kernel read for each output?"""

import itertools

import pytest
import torch
from scenes import assert_same_bits

from pyproj2d3d import KernelMap, kernel_map, reference, voxelize

NATIVE_AND_REFERENCE = pytest.mark.parametrize(
    "mapped", [kernel_map, reference.kernel_map], ids=["native", "reference"]
)
FIRST, LAST = -(2**31), 2**31 - 1  # of int32


def voxels(*rows, device="cpu") -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32, device=device).reshape(-1, 4)


def some_voxels(n: int, device="cpu", seed: int = 0, cells: int = 9, batches: int = 2) -> torch.Tensor:
    """Up to n different ones around the origin, in no order."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(cells, (n, 4), generator=rng) - cells // 2
    rows[:, 0] = torch.randint(batches, (n,), generator=rng)
    rows = rows.unique(dim=0)
    return rows[torch.randperm(len(rows), generator=rng)].int().to(device)


def three(value) -> tuple[int, int, int]:
    return (value,) * 3 if isinstance(value, int) else tuple(value)


def by_hand(coords, size, *, stride=None, padding=None, dilation=1, shape=None) -> KernelMap:
    """A dictionary from voxels to rows, one voxel and one offset after the other."""
    row_of = {tuple(c): i for i, c in enumerate(coords.tolist())}
    size, dilation = three(size), three(dilation)
    offsets = list(itertools.product(*map(range, size)))
    if stride is None:
        step, pad = (1, 1, 1), [n // 2 * d for n, d in zip(size, dilation, strict=True)]
        outputs = dict(row_of)
    else:
        step, pad = three(stride), three(padding or 0)
        found = set()
        for b, *cell in row_of:
            for k in offsets:
                scaled = [i + p - o * d for i, p, o, d in zip(cell, pad, k, dilation, strict=True)]
                if all(v % s == 0 for v, s in zip(scaled, step, strict=True)):
                    out = tuple(v // s for v, s in zip(scaled, step, strict=True))
                    if shape is None or all(0 <= o < n for o, n in zip(out, shape, strict=True)):
                        found.add((b, *out))
        outputs = {c: i for i, c in enumerate(sorted(found))}
    ptr, pairs = [0], []
    for k in offsets:
        for b, *cell in sorted(outputs):
            read = tuple(o * s - p + n * d for o, s, p, n, d in zip(cell, step, pad, k, dilation, strict=True))
            if (b, *read) in row_of:
                pairs.append((row_of[(b, *read)], outputs[(b, *cell)]))
        ptr.append(len(pairs))
    columns = torch.tensor(pairs, dtype=torch.int32, device=coords.device).reshape(-1, 2)
    found = torch.tensor(list(outputs), dtype=torch.int32, device=coords.device).reshape(-1, 4)
    return KernelMap(torch.tensor(ptr, device=coords.device), columns[:, 0], columns[:, 1], found)


def test_neighbours_along_z_find_each_other(device):
    found = kernel_map(voxels([0, 0, 0, 0], [0, 0, 0, 1], device=device), (1, 1, 3))
    assert found.ptr.tolist() == [0, 1, 3, 4]
    assert found.input.tolist() == [0, 0, 1, 1]  # below the second, both at their own place, above the first
    assert found.output.tolist() == [1, 0, 1, 0]
    assert [t.dtype for t in vars(found).values()] == [torch.int64, *[torch.int32] * 3]


def test_each_child_of_a_stride_of_2_has_the_one_parent_below_it(device):
    coords = voxels([0, 0, 0, 1], [0, -1, 0, 0], [0, 1, 1, 1], device=device)
    found = kernel_map(coords, 2, stride=2)
    assert found.coords.tolist() == [[0, -1, 0, 0], [0, 0, 0, 0]]
    assert found.ptr.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3]  # slots 1, 4 and 7
    assert found.input.tolist() == [0, 1, 2]
    assert found.output.tolist() == [1, 0, 1]


def test_voxels_of_different_batches_are_no_neighbours(device):
    found = kernel_map(voxels([0, 0, 0, 0], [1, 0, 0, 1], device=device), 3)
    assert found.ptr.tolist() == [0] * 14 + [2] * 14


def test_offsets_count_z_first_then_y_then_x(device):
    for axis, offset in ((3, 14), (2, 16), (1, 22)):  # one step up along z, y and x
        above = [0, 0, 0, 0]
        above[axis] = 1
        found = kernel_map(voxels([0, 0, 0, 0], above, device=device), 3)
        pairs = slice(int(found.ptr[offset]), int(found.ptr[offset + 1]))
        assert (found.input[pairs].tolist(), found.output[pairs].tolist()) == ([1], [0])


def test_a_voxel_alone_reads_itself_at_the_centre(device):
    for size in (1, 3, 5, (1, 3, 7)):
        found = kernel_map(voxels([4, -7, 0, 9], device=device), size)
        middle = (len(found.ptr) - 1) // 2
        assert found.ptr.tolist() == [0] * (middle + 1) + [1] * (middle + 1)
        assert (found.input.tolist(), found.output.tolist()) == ([0], [0])


def test_a_full_block_has_as_many_pairs_as_it_can(device):
    """A row of n cells has 3 n - 2 pairs along an axis."""
    coords = torch.cartesian_prod(torch.zeros(1), *[torch.arange(6.0)] * 3).int().to(device)
    found = kernel_map(coords, 3)
    assert len(found) == 16**3
    assert found.ptr[14] - found.ptr[13] == 6**3


def test_no_neighbour_is_dropped_however_many_there_are(device):
    coords = torch.cartesian_prod(torch.zeros(1), *[torch.arange(9.0)] * 3).int().to(device)
    assert len(kernel_map(coords, 17)) == 729 * 729


def test_of_a_submanifold_map_the_outputs_are_the_inputs(device):
    coords = some_voxels(200, device)
    found = kernel_map(coords, 3)
    assert found.coords is coords
    back = {(i, o) for i, o in zip(found.input.tolist(), found.output.tolist(), strict=True)}
    assert {(o, i) for i, o in back} == back


def test_a_map_says_what_it_holds():
    found = kernel_map(voxels([0, 0, 0, 0], [0, 0, 0, 1]), 3)
    assert len(found) == 4
    assert repr(found) == "KernelMap(K=27, P=4, Q=2, cpu)"


RULES = {
    "3": (3, {}),
    "5": (5, {}),
    "even": (2, {}),
    "flat": ((3, 1, 2), {}),
    "dilated": (3, {"dilation": (1, 2, 3)}),
    "halves": (2, {"stride": 2}),
    "overlapping": (3, {"stride": 2, "padding": 1}),
    "in a shape": (3, {"stride": 2, "padding": 1, "shape": (2, 3, 2)}),
    "stride 1": (3, {"stride": 1, "padding": 1}),
    "sparse": (1, {"stride": 2}),
    "holes": (2, {"stride": 3, "padding": 2}),
    "all of it": ((3, 2, 4), {"stride": (1, 2, 3), "padding": (5, 0, 1), "dilation": (2, 1, 3), "shape": (9, 4, 4)}),
    "nothing": (2, {"stride": 2, "shape": (0, 4, 4)}),
}  # fmt: skip


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize(("size", "rule"), RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("n", [0, 1, 40, 400])
def test_equals_a_dictionary_of_voxels(mapped, n, size, rule, device):
    coords = some_voxels(n, device)
    assert_same_bits(mapped(coords, size, **rule), by_hand(coords, size, **rule))
    assert_same_bits(mapped(coords.unique(dim=0), size, **rule), by_hand(coords.unique(dim=0), size, **rule))


@pytest.mark.parametrize(("size", "rule"), RULES.values(), ids=RULES.keys())
def test_large_maps_equal_the_reference(size, rule, device):
    """Many times the 4096 voxels that one worker takes."""
    coords = some_voxels(9000, device, cells=25)
    assert_same_bits(kernel_map(coords, size, **rule), reference.kernel_map(coords, size, **rule))


def test_the_order_of_the_voxels_only_renames_them(device):
    coords = some_voxels(300, device)
    place = coords.unique(dim=0, return_inverse=True)[1]
    for rule in ({}, {"stride": 2, "padding": 1}):
        found, wanted = kernel_map(coords, 3, **rule), kernel_map(coords.unique(dim=0), 3, **rule)
        assert_same_bits(found.ptr, wanted.ptr)
        assert_same_bits(place[found.input.long()].int(), wanted.input)
        assert_same_bits((found.output if rule else place[found.output.long()].int()), wanted.output)


def test_takes_what_voxelize_returns(device):
    points = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0)).to(device)
    coords = voxelize(points, 0.2).coords
    assert_same_bits(kernel_map(coords, 3), reference.kernel_map(coords, 3))


# The ends of int32.


@pytest.mark.parametrize("mixed", [False, True], ids=["ascending", "mixed"])
@pytest.mark.parametrize("size", [1, 3, (2, 3, 4)])
def test_nothing_wraps_around_at_the_ends_of_int32(size, mixed, device):
    """The extent has 2**96 cells, and no voxel a neighbour beyond the end."""
    ends = [FIRST, FIRST + 1, -1, 0, LAST - 1, LAST]
    rows = torch.cartesian_prod(torch.tensor([0, LAST]), *[torch.tensor(ends)] * 3)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))] if mixed else rows
    coords = rows.int().to(device)
    assert_same_bits(kernel_map(coords, size), by_hand(coords, size))
    assert_same_bits(kernel_map(coords, 2, stride=2), by_hand(coords, 2, stride=2))
    rule = {"stride": 2**31 - 1, "dilation": 2**31 - 1}
    assert_same_bits(kernel_map(coords, 2, **rule), by_hand(coords, 2, **rule))


@pytest.mark.parametrize("cells", [(2**31 - 1, 1), (2**31, 1), (2**31, 2**31), (2**32, 2**31), (2**32, 2**32)], ids=str)
def test_at_every_limit_of_the_keys(cells, device):
    rng = torch.Generator().manual_seed(0)
    rows = torch.zeros(200, 4, dtype=torch.int64)
    for axis, n in zip((2, 3), cells, strict=True):
        rows[:, axis] = torch.randint(n, (200,), generator=rng) + FIRST
        rows[3, axis], rows[7, axis] = FIRST, FIRST + n - 1
    rows[100:, 2] = rows[:100, 2]
    rows[100:, 3] = (rows[:100, 3] + 1).clamp(max=LAST)
    rows = rows.unique(dim=0)
    coords = rows[torch.randperm(len(rows), generator=rng)].int().to(device)
    for rule in ({}, {"stride": 2}):
        assert_same_bits(kernel_map(coords, (1, 1, 3), **rule), by_hand(coords, (1, 1, 3), **rule))


def test_a_large_padding_may_not_carry_outputs_beyond_int32(device):
    coords = voxels([0, 0, 0, 0], [0, 0, 0, LAST - 5], device=device)
    rule = {"stride": 1, "padding": (0, 0, 5)}
    assert kernel_map(coords, 1, **rule).coords[:, 3].tolist() == [5, LAST]
    rule["padding"] = (0, 0, 6)
    with pytest.raises(ValueError, match=r"coords must have outputs within int32, got some from 6 to 2147483648"):
        kernel_map(coords, 1, **rule)
    assert kernel_map(coords, 1, **rule, shape=(9, 9, 9)).coords.tolist() == [[0, 0, 0, 6]]
    with pytest.raises(ValueError, match=r"within int32, got some from -2147483649 to -2147483648"):
        kernel_map(voxels([0, FIRST, 0, 0], device=device), (2, 1, 1), stride=1)


# Other people's libraries.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its imports
@pytest.mark.parametrize("rule", [(3, 1, 1, 1), (3, 2, 1, 1), (2, 2, 0, 1), (3, 1, 0, 2), (5, 3, 2, 1)], ids=str)
@pytest.mark.parametrize("submanifold", [False, True])
def test_spconv_makes_the_same_pairs(rule, submanifold):
    """In no order; extents are chosen so that it drops no plane."""
    ops = pytest.importorskip("spconv.pytorch.ops")
    from spconv.core import ConvAlgo

    size, stride, padding, dilation = rule
    if submanifold and size % 2 == 0:
        pytest.skip("spconv has no even submanifold kernels")
    coords = some_voxels(300, cells=9, batches=3)
    coords[:, 1:] += 4
    if submanifold:
        stride, padding = 1, size // 2 * dilation
    out, pairs, count = ops.get_indice_pairs(
        coords, 3, [9] * 3, ConvAlgo.Native, *[[n] * 3 for n in (size, stride, padding, dilation, 0)], submanifold
    )
    extent = [(9 + 2 * padding - dilation * (size - 1) - 1) // stride + 1] * 3
    strided = {} if submanifold else {"stride": stride, "padding": padding, "shape": extent}
    ours = kernel_map(coords, size, dilation=dilation, **strided)
    assert sorted(out.tolist()) == sorted(ours.coords.tolist())
    assert (ours.ptr.diff() == count).all() or submanifold
    for k in range(size**3):
        mine = slice(int(ours.ptr[k]), int(ours.ptr[k + 1]))
        i, o = ours.input[mine], ours.output[mine].long()
        found = set(zip(i.tolist(), map(tuple, ours.coords[o].tolist()), strict=True))
        theirs = pairs[:, k][:, pairs[0, k] >= 0]
        if submanifold and k == size**3 // 2:
            theirs = torch.arange(len(coords)).expand(2, -1)  # which it leaves out
        assert found == {(i, tuple(out[o].tolist())) for i, o in theirs.T.tolist()}


# Errors.

COORDS = voxels([0, 0, 0, 0], [0, 0, 0, 1], [1, 2, 3, 4])
BAD = {
    "coords of three numbers": ((COORDS[:, 1:], 3), {}, ValueError, r"coords must have shape \(\*, 4\), got \(3, 3\)"),
    "coords of int64": ((COORDS.long(), 3), {}, TypeError, "coords must be int32, got int64"),
    "coords as a list": ((COORDS.tolist(), 3), {}, TypeError, "coords must be a tensor, got list"),
    "a voxel twice": ((COORDS[[0, 1, 1]], 3), {}, ValueError, r"coords must be all different, got \[0, 0, 0, 1\] m"),
    "a voxel twice, apart": ((COORDS[[2, 0, 2]], 3), {}, ValueError, r"all different, got \[1, 2, 3, 4\] more than"),
    "a negative batch": ((COORDS - voxels([1, 0, 0, 0]), 3), {}, ValueError, "coords must have batches from 0, got -1"),
    "a size of 0": ((COORDS, 0), {}, ValueError, "size must be at least 1, got 0"),
    "a size of two": ((COORDS, (3, 3)), {}, ValueError, r"size must be one integer or three, got \(3, 3\)"),
    "a size as text": ((COORDS, "333"), {}, TypeError, "size must be an integer, got '333'"),
    "half a size": ((COORDS, (3, 3, 1.5)), {}, TypeError, "size must be an integer, got 1.5"),
    "a size that is True": ((COORDS, True), {}, TypeError, "size must be an integer, got True"),
    "too many offsets": ((COORDS, 2000), {}, ValueError, r"size must make fewer than 2\*\*31 offsets, got 2000"),
    "a size beyond int32": ((COORDS, (1, 1, 2**31)), {}, ValueError, "size must be at most 2147483647, got"),
    "a stride of 0": ((COORDS, 3), {"stride": (1, 0, 1)}, ValueError, "stride must be at least 1, got 0"),
    "a negative padding": ((COORDS, 3), {"stride": 1, "padding": -1}, ValueError, "padding must be at least 0, got -1"),
    "a dilation of 0": ((COORDS, 3), {"dilation": 0}, ValueError, "dilation must be at least 1, got 0"),
    "a negative shape": ((COORDS, 3), {"stride": 1, "shape": (1, 1, -1)}, ValueError, "shape must be at least 0, got"),
    "a shape of two": ((COORDS, 3), {"stride": 1, "shape": (1, 1)}, ValueError, "shape must be one integer or three"),
    "padding without a stride": ((COORDS, 3), {"padding": 1}, ValueError, "padding must be None without a stride"),
    "a shape without a stride": ((COORDS, 3), {"shape": (1, 1, 1)}, ValueError, "shape must be None without a stride"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_kernel_map_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        kernel_map(*arguments, **keywords)
