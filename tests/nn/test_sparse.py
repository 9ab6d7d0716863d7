"""Do sparse layers compute what dense ones do at the active voxels, and say no where spconv is silently wrong?"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scenes import assert_same_bits

from pyproj2d3d.nn.sparse import (
    SparseAvgPool3d,
    SparseConv3d,
    SparseGlobalAvgPool,
    SparseGlobalMaxPool,
    SparseInverseConv3d,
    SparseMaxPool3d,
    SparseSequential,
    SparseTensor,
    SubMConv3d,
)

SHAPE, B = [6, 8, 10], 2


def some_tensor(c=3, shape=SHAPE, share=0.3, dtype=torch.float64, device="cpu", seed=0) -> SparseTensor:
    """Active voxels in no order, of which a share of the grid is active."""
    rng = torch.Generator().manual_seed(seed)
    indices = (torch.rand(B, *shape, generator=rng) < share).nonzero()
    indices = indices[torch.randperm(len(indices), generator=rng)].int()
    features = torch.randn(len(indices), c, generator=rng, dtype=torch.float64)
    return SparseTensor(features.to(device, dtype).requires_grad_(), indices.to(device), shape, B)


def made(layer, dtype=torch.float64, device="cpu"):
    torch.manual_seed(0)
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    return layer.to(device, dtype)


def at(grid: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """(B, C, X, Y, Z) at voxels: (M, C)."""
    b, x, y, z = indices.long().unbind(1)
    return grid[b, :, x, y, z]


def gradients(out: torch.Tensor, *by: torch.Tensor) -> tuple[torch.Tensor, ...]:
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)
    return torch.autograd.grad(out, by, weight, retain_graph=True)


def assert_alike(ours, dense, x: SparseTensor, layer) -> None:
    """Values and gradients to the features, the weight and the bias."""
    torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-10)
    parts = (x.features, *layer.parameters())
    for mine, wanted in zip(gradients(ours, *parts), gradients(dense, *parts), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-10)
        assert wanted.abs().max() > 0


def kernel_of(layer) -> torch.Tensor:
    return layer.weight.permute(0, 4, 1, 2, 3)  # KRSC to torch's


def test_a_voxel_sums_its_neighbours_with_their_weights():
    x = SparseTensor(torch.tensor([[1.0], [10.0]]), torch.tensor([[0, 1, 1, 1], [0, 1, 1, 2]]).int(), [3, 3, 3], 1)
    layer = SubMConv3d(1, 1, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(27.0).view(1, 3, 3, 3, 1))  # 13 the centre, 12 below, 14 above along z
    assert layer(x).features.tolist() == [[13 * 1 + 14 * 10], [12 * 1 + 13 * 10]]
    assert torch.equal(layer(x=x).features, layer(x).features)


@pytest.mark.parametrize(
    ("size", "dilation"), [(3, 1), (5, 1), ((1, 3, 5), 1), (3, 2), ((3, 3, 1), (1, 2, 1))], ids=str
)
def test_submanifold_convolution_equals_a_dense_one_at_its_voxels(size, dilation, device):
    x, layer = some_tensor(device=device), made(SubMConv3d(3, 5, size, dilation=dilation), device=device)
    padding = [n // 2 * d for n, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    dense = F.conv3d(x.dense(), kernel_of(layer), layer.bias, padding=padding, dilation=dilation)
    out = layer(x)
    assert out.indices is x.indices
    assert_alike(out.features, at(dense, x.indices), x, layer)


STRIDED = [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 1), (3, 2, 1, 2), ((1, 2, 3), (1, 2, 3), (0, 1, 2), 1), (1, 2, 0, 1)]


@pytest.mark.parametrize(("size", "stride", "padding", "dilation"), STRIDED, ids=str)
def test_strided_convolution_equals_a_dense_one_where_it_has_outputs(size, stride, padding, dilation, device):
    x = some_tensor(device=device, share=0.05)
    layer = made(SparseConv3d(3, 5, size, stride, padding, dilation, bias=False), device=device)
    dense = F.conv3d(x.dense(), kernel_of(layer), None, layer.stride, layer.padding, dilation)
    out = layer(x)
    assert out.spatial_shape == list(dense.shape[2:])  # here the stride divides the extents
    assert_alike(out.features, at(dense, out.indices), x, layer)
    active = (x.dense() != 0).any(1, keepdim=True).double()
    ones = active.new_ones(1, 1, *layer.kernel_size)
    reached = F.conv3d(active, ones, None, layer.stride, layer.padding, dilation)
    assert out.indices.tolist() == (reached[:, 0] > 0).nonzero().tolist()


@pytest.mark.parametrize(("size", "stride", "padding", "dilation"), STRIDED[:-1], ids=str)
def test_inverse_convolution_equals_a_dense_transposed_one_at_the_voxels_there_were(size, stride, padding, dilation):
    x = some_tensor(share=0.1)
    down = made(SparseConv3d(3, 4, size, stride, padding, dilation, indice_key="down"))
    up = made(SparseInverseConv3d(4, 5, size, "down"))
    low = down(x)
    low = low.replace_feature(low.features.detach().requires_grad_())
    out = up(low)
    assert out.indices is x.indices
    assert out.spatial_shape == x.spatial_shape
    kernel = up.weight.permute(4, 0, 1, 2, 3)
    dense = F.conv_transpose3d(low.dense(), kernel, up.bias, down.stride, down.padding, 0, 1, dilation)
    dense = F.pad(dense, [n for s, d in zip(SHAPE[::-1], dense.shape[:1:-1], strict=True) for n in (0, s - d)])
    covered = torch.ones(len(x.indices), dtype=torch.bool)
    for d in range(3):  # torch leaves out the planes that no window covers, where only the bias is
        covered &= x.indices[:, d + 1] < SHAPE[d]
    wanted = at(dense, x.indices)
    bare = (wanted == 0).all(1)
    torch.testing.assert_close(out.features[~bare], wanted[~bare], rtol=1e-10, atol=1e-10)
    mine = gradients(out.features[~bare], low.features, up.weight)
    for a, b in zip(mine, gradients(wanted[~bare], low.features, up.weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradcheck_of_all_layers():
    x = some_tensor(2, [2, 3, 2], 0.5)
    down, up = made(SparseConv3d(2, 3, 2, 2, indice_key="down")), made(SparseInverseConv3d(3, 2, 2, "down"))
    net = SparseSequential(made(SubMConv3d(2, 2, 3)), down, up, SparseMaxPool3d(2), SparseAvgPool3d(3, 2, 1))
    assert torch.autograd.gradcheck(lambda f: net(x.replace_feature(f)).features, x.features)
    for pool in (SparseGlobalMaxPool(), SparseGlobalAvgPool()):
        assert torch.autograd.gradcheck(lambda f, pool=pool: pool(x.replace_feature(f)), x.features)


def test_a_second_derivative_is_refused():
    x, layer = some_tensor(), made(SubMConv3d(3, 3, 3))
    (first,) = torch.autograd.grad((layer(x).features ** 2).sum(), x.features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_maximum_pool_equals_a_dense_one_over_what_is_there(device):
    x, pool = some_tensor(device=device), SparseMaxPool3d(3, 2, 1)
    there = (x.dense() != 0).any(1, keepdim=True)
    dense = F.max_pool3d(torch.where(there, x.dense(), -torch.inf), 3, 2, 1)
    out = pool(x)
    assert_alike(out.features, at(dense, out.indices), x, pool)


def test_average_pool_divides_by_what_is_there(device):
    x, pool = some_tensor(device=device), SparseAvgPool3d(2)
    there = (x.dense() != 0).any(1, keepdim=True).double()
    dense = F.avg_pool3d(x.dense(), 2) / F.avg_pool3d(there, 2)
    out = pool(x)
    assert out.spatial_shape == [3, 4, 5]
    assert_alike(out.features, at(dense, out.indices), x, pool)


def test_global_pools_give_0_to_a_grid_without_voxels():
    indices = torch.tensor([[2, 0, 0, 0], [0, 0, 0, 1], [2, 0, 0, 2]]).int()
    x = SparseTensor(torch.tensor([[-1.0, 2.0], [5.0, 6.0], [-3.0, 4.0]]), indices, [1, 1, 3], 4)
    assert SparseGlobalMaxPool()(x).tolist() == [[5, 6], [0, 0], [-1, 4], [0, 0]]
    assert SparseGlobalAvgPool()(x).tolist() == [[5, 6], [0, 0], [-2, 3], [0, 0]]


# What spconv does.


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("size", [3, 5])
def test_a_u_net_of_spconv_has_the_same_weights_values_and_gradients(spconv, size):
    from pyproj2d3d.nn import sparse

    def net(kind):
        return kind.SparseSequential(
            kind.SubMConv3d(3, 8, size, padding=1, indice_key="subm0"),
            kind.SubMConv3d(8, 8, size, padding=1, indice_key="subm0", bias=False),
            kind.SparseConv3d(8, 16, 2, 2, indice_key="down0"),
            kind.SubMConv3d(16, 16, 3, indice_key="subm1"),
            kind.SparseConv3d(16, 16, 3, 2, 1, indice_key="down1"),
            kind.SparseInverseConv3d(16, 16, 3, "down1"),
            kind.SparseInverseConv3d(16, 8, 2, "down0"),
            kind.SubMConv3d(8, 5, 1),
        )

    x = some_tensor(dtype=torch.float32, shape=[8, 8, 8])
    ours, theirs = net(sparse), net(spconv)
    ours.load_state_dict(theirs.state_dict())
    there = spconv.SparseConvTensor(x.features.detach().clone().requires_grad_(), x.indices, [8, 8, 8], B)
    out, wanted = ours(x), theirs(there)
    assert torch.equal(out.indices, wanted.indices)
    torch.testing.assert_close(out.features, wanted.features, rtol=1e-4, atol=1e-5)
    mine = gradients(out.features, x.features, *ours.parameters())
    for a, b in zip(mine, gradients(wanted.features, there.features, *theirs.parameters()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


# The traps.


def test_a_shared_key_with_another_kernel_size_is_an_error():
    """spconv 1.x ran such a convolution with 9 of its 27 weights."""
    x = SubMConv3d(3, 3, 3, indice_key="subm0")(some_tensor(dtype=torch.float32))
    with pytest.raises(
        ValueError, match=r"'subm0' must be .* kernel_size \[1, 3, 3\] .*got a submanifold .*\[3, 3, 3\]"
    ):
        SubMConv3d(3, 3, (1, 3, 3), indice_key="subm0")(x)
    with pytest.raises(ValueError, match=r"'subm0' must be .* dilation \[2, 2, 2\]"):
        SubMConv3d(3, 3, 3, dilation=2, indice_key="subm0")(x)


def test_a_shared_key_of_other_voxels_is_an_error():
    x = SubMConv3d(3, 3, 3, indice_key="subm0")(some_tensor(dtype=torch.float32))
    with pytest.raises(ValueError, match="'subm0' must be of a submanifold map of these voxels"):
        SubMConv3d(3, 3, 3, indice_key="subm0")(SparseConv3d(3, 3, 2, 2)(x))


def test_a_1x1_shortcut_may_name_the_key_and_does_not_use_it():
    x = some_tensor()
    layer = made(SubMConv3d(3, 4, 1, indice_key="subm0"))
    y = layer(SubMConv3d(3, 3, 3, indice_key="subm0").double()(x).replace_feature(x.features))
    torch.testing.assert_close(y.features, x.features @ layer.weight.view(3, 4) + layer.bias)
    assert_alike(y.features, x.features @ layer.weight.view(3, 4) + layer.bias, x, layer)


def test_odd_extents_lose_no_plane():
    """spconv's floor gives the voxels of the last plane no output, and zeros come back from the inverse."""
    x = some_tensor(shape=[5, 7, 3], share=0.5)
    layer = made(SparseConv3d(3, 4, 2, 2, indice_key="down"))
    low = layer(x)
    assert low.spatial_shape == [3, 4, 2]
    assert len(set(map(tuple, (x.indices // torch.tensor([1, 2, 2, 2])).tolist()))) == len(low.indices)
    dense = F.conv3d(F.pad(x.dense(), (0, 1, 0, 1, 0, 1)), kernel_of(layer), layer.bias, 2)
    assert_alike(low.features, at(dense, low.indices), x, layer)
    up = made(SparseInverseConv3d(4, 3, 2, "down"))(low)
    assert (up.features.abs() > 0).all()
    pooled = SparseMaxPool3d(2)(x)
    assert pooled.spatial_shape == [3, 4, 2]
    assert torch.equal(pooled.indices, low.indices)


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 2, 0), (3, 3, 1), (1, 2, 0), (5, 2, 2)]
)
def test_every_voxel_of_any_extent_has_an_output_unless_the_stride_steps_over_it(size, stride, padding):
    for n in range(1, 12):
        line = torch.zeros(n, 4).int()
        line[:, 3] = torch.arange(n)
        x = SparseTensor(torch.ones(n, 1), line, [1, 1, n], 1)
        layer = SparseConv3d(1, 1, (1, 1, size), (1, 1, stride), (0, 0, padding), indice_key="down")
        if size == 1:
            assert layer(x).spatial_shape == [1, 1, (n + 1) // 2]
            continue
        low = layer(x)
        assert set(low.indice_dict["down"].pairs.source.tolist()) == set(range(n))
        assert low.indices[:, 3].tolist() == list(range(low.spatial_shape[2]))  # and no plane is empty
        dense = (n + 2 * padding - size) // stride + 1
        assert low.spatial_shape[2] in (dense, dense + 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_an_extent_smaller_than_a_dilated_kernel_reaches_is_an_error(stride):
    layer = made(SparseConv3d(3, 4, 3, stride, 0, 2))
    with pytest.raises(ValueError, match="extents must be at least 5 for a kernel that reaches 5, got 2"):
        layer(some_tensor(shape=[2, 6, 6], share=0.5))


@pytest.mark.parametrize(("size", "stride", "padding", "dilation"), [(3, 2, 0, 2), (2, 2, 0, 3), (4, 3, 2, 2)])
@pytest.mark.parametrize("n", [5, 7, 8, 10])
def test_dilated_kernels_with_a_stride_have_the_extent_of_dense_ones(size, stride, padding, dilation, n):
    x = some_tensor(shape=[n, n, n], share=0.5)
    layer = made(SparseConv3d(3, 4, size, stride, padding, dilation))
    low, dense = layer(x), F.conv3d(x.dense(), kernel_of(layer), layer.bias, stride, padding, dilation)
    assert low.spatial_shape == list(dense.shape[2:])
    assert_alike(low.features, at(dense, low.indices), x, layer)


def test_indices_that_are_not_contiguous_are_read_as_they_are():
    """``mask.nonzero().int()`` lies column by column in memory; spconv reads it row by row."""
    x, layer = some_tensor(), made(SubMConv3d(3, 4, 3))
    turned = x.indices.T.contiguous().T
    strided = x.features.repeat_interleave(2, 1)[:, ::2]
    assert not turned.is_contiguous()
    y = SparseTensor(strided, turned, SHAPE, B)
    assert_same_bits(layer(y).features, layer(x).features)


def test_a_voxel_that_is_there_twice_is_an_error():
    with pytest.raises(ValueError, match=r"indices must be all different, got \[0, 1, 1, 1\] more than once"):
        SparseTensor(torch.zeros(3, 1), torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]]).int(), [2, 2, 2], 1)


def test_the_inverse_of_a_submanifold_key_is_an_error():
    x = SubMConv3d(3, 3, 2, indice_key="subm0")(some_tensor(dtype=torch.float32))
    with pytest.raises(ValueError, match="indice_key must be of a strided layer, got 'subm0' of a submanifold one"):
        SparseInverseConv3d(3, 3, 2, "subm0")(x)


def test_an_inverse_must_match_its_key():
    x = some_tensor(dtype=torch.float32)
    low = SparseConv3d(3, 3, 2, 2, indice_key="down")(x)
    with pytest.raises(ValueError, match=r"indice_key must be one that x has seen, got 'up'; it has 'down'"):
        SparseInverseConv3d(3, 3, 2, "up")(low)
    with pytest.raises(ValueError, match=r"kernel_size must be \[2, 2, 2\] as under this key, got \[3, 3, 3\]"):
        SparseInverseConv3d(3, 3, 3, "down")(low)
    lower = SparseConv3d(3, 3, 2, 2, indice_key="down1")(low)
    with pytest.raises(ValueError, match="x must have the voxels that 'down' leads to, got others"):
        SparseInverseConv3d(3, 3, 2, "down")(lower)
    dilated = SparseConv3d(3, 3, 3, 1, 1)(low)  # its outputs are more voxels, where spconv counts them alone
    with pytest.raises(ValueError, match="x must have the voxels that 'down' leads to, got others"):
        SparseInverseConv3d(3, 3, 2, "down")(dilated)
    with pytest.raises(ValueError, match="indice_key must be new to the tensor for a strided layer, got 'down' again"):
        SparseConv3d(3, 3, 2, 2, indice_key="down")(lower)


def test_features_are_replaced_and_not_set():
    """As in spconv 2; in spconv 1 other rows went unseen."""
    x = some_tensor()
    with pytest.raises(AttributeError, match=r"x.replace_feature\(features\) returns another"):
        x.features = x.features[1:]
    y = x.replace_feature(x.features[:, :1])
    assert (y.features.shape[1], x.features.shape[1]) == (1, 3)
    assert y.indices is x.indices


def test_a_pool_has_an_inverse():
    x = some_tensor()
    up = made(SparseInverseConv3d(3, 2, 2, "pool"))
    assert up(SparseMaxPool3d(2, indice_key="pool")(x)).indices is x.indices


# Precision, threads, devices.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_shorter_floats_are_as_right_as_they_can_be(dtype, autocast, device):
    if autocast and dtype == torch.float32:
        pytest.skip("autocast is to something shorter")
    x, layer = some_tensor(16, device=device), made(SubMConv3d(16, 8, 3), device=device)
    with torch.no_grad():
        layer.weight /= 20
    rounded = x.replace_feature(x.features.detach().to(dtype).double())
    layer.to(dtype).double()
    own = dtype
    rounded = rounded.replace_feature(rounded.features.requires_grad_())
    wanted = layer(rounded).features
    gradient = torch.autograd.grad(wanted.sum(), (rounded.features, *layer.parameters()))
    if autocast:
        own = torch.float32
    layer.to(own)
    inputs = rounded.replace_feature(rounded.features.detach().to(own).requires_grad_())
    with torch.autocast(torch.device(device).type, dtype, enabled=autocast):
        out = layer(inputs).features
    assert out.dtype == dtype
    bits = {torch.float16: 4e-3, torch.bfloat16: 3e-2, torch.float32: 1e-5}[dtype]
    torch.testing.assert_close(out.double(), wanted, rtol=bits, atol=bits)
    out.float().sum().backward()
    for mine, right in zip((inputs.features, *layer.parameters()), gradient, strict=True):
        assert mine.grad.dtype == own
        torch.testing.assert_close(mine.grad.double(), right, rtol=bits, atol=bits * float(right.abs().max()))


def test_any_number_of_threads_gives_the_right_result(set_threads):
    """Many times: spconv's race on the CPU is lost in one of five."""
    x, layer = some_tensor(16, [12, 12, 12], dtype=torch.float32), made(SubMConv3d(16, 16, 3), torch.float32)
    dense = at(F.conv3d(x.dense(), kernel_of(layer), layer.bias, padding=1), x.indices)
    wanted = gradients(dense, x.features, layer.weight)
    for threads in (1, 2):
        set_threads(threads)
        first = None
        for _ in range(15):
            out = layer(x).features
            found = (out.detach(), *gradients(out, x.features, layer.weight))
            first = first or found
            assert_same_bits(found, first)
        for mine, right in zip(first, (dense.detach(), *wanted), strict=True):
            torch.testing.assert_close(mine, right, rtol=1e-4, atol=2e-3)


LAYERS = {
    "submanifold": lambda: SubMConv3d(3, 4, 3),
    "submanifold, even": lambda: SubMConv3d(3, 4, 2),
    "kernel 1": lambda: SubMConv3d(3, 4, 1),
    "strided": lambda: SparseConv3d(3, 4, 3, 2, 1),
    "inverse": lambda: SparseSequential(SparseConv3d(3, 4, 2, 2, indice_key="d"), SparseInverseConv3d(4, 4, 2, "d")),
    "maximum": lambda: SparseMaxPool3d(2),
    "mean": lambda: SparseAvgPool3d(3, 2, 1),
    "global maximum": SparseGlobalMaxPool,
    "global mean": SparseGlobalAvgPool,
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def rows(out) -> torch.Tensor:
    return out.features if isinstance(out, SparseTensor) else out


@each_layer
def test_no_voxels_give_no_voxels_and_no_gradient(make, device):
    features = torch.zeros(0, 3, requires_grad=True, device=device)
    x = SparseTensor(features, torch.zeros(0, 4, device=device).int(), SHAPE, B)
    layer = make().to(device)
    out = rows(layer(x))
    assert out.tolist() == [] or out.tolist() == [[0, 0, 0]] * B
    out.sum().backward()
    assert features.grad.shape == (0, 3)
    assert all((p.grad == 0).all() for p in layer.parameters())
    assert (x.dense() == 0).all()


@each_layer
def test_a_batch_entry_without_voxels_changes_no_other(make, device):
    x, layer = some_tensor(device=device), made(make(), device=device)
    twice = x.indices.new_tensor([2, 1, 1, 1])
    out, wanted = layer(SparseTensor(x.features, x.indices * twice, SHAPE, 4)), layer(x)  # entries 0 and 2 of 4
    if isinstance(out, SparseTensor):
        assert torch.equal(out.indices, wanted.indices * twice)
        found = out.features
    else:
        assert (out[[1, 3]] == 0).all()
        found = out[[0, 2]]
    assert_same_bits(found, rows(wanted))
    parts = (x.features, *layer.parameters())
    assert_same_bits(gradients(found, *parts), gradients(rows(wanted), *parts))


@each_layer
def test_a_nan_reaches_what_reads_it_and_nothing_else(make, device):
    x, layer = some_tensor(share=0.1, dtype=torch.float32, device=device), made(make(), torch.float32, device)
    plain = rows(layer(x))
    features = x.features.detach().clone()
    features[0] = torch.nan
    out = layer(x.replace_feature(features.requires_grad_()))
    reached = rows(out).isnan().all(1)
    assert torch.equal(rows(out).isnan().any(1), reached)
    assert 0 < reached.sum() < len(reached)
    assert_same_bits(rows(out)[~reached], plain[~reached])
    rows(out).sum().backward()
    assert features.grad.isfinite().all()


@each_layer
def test_each_layer_is_the_same_on_any_number_of_threads(make, set_threads):
    x, layer = some_tensor(share=0.5, dtype=torch.float32), made(make(), torch.float32)
    found = []
    for threads in (1, 2, 3):
        set_threads(threads)
        out = rows(layer(x))
        found.append((out.detach(), *gradients(out, x.features, *layer.parameters())))
    for other in found[1:]:
        for mine, first in zip(other, found[0], strict=True):
            torch.testing.assert_close(mine, first, rtol=1e-5, atol=1e-4)


def test_a_sequence_hands_features_to_other_layers():
    x = some_tensor()
    net = SparseSequential(made(SubMConv3d(3, 4, 3)), torch.nn.BatchNorm1d(4).double(), torch.nn.ReLU())
    out = net(x)
    assert out.features.min() == 0
    assert out.indices is x.indices
    assert net.state_dict().keys() >= {"0.weight", "0.bias", "1.running_mean"}


def test_layers_that_share_a_key_share_one_map():
    x = SubMConv3d(3, 3, 3, indice_key="subm0")(some_tensor(dtype=torch.float32))
    y = SubMConv3d(3, 3, 3, indice_key="subm0")(x)
    assert y.indice_dict["subm0"] is x.indice_dict["subm0"]


@pytest.mark.parametrize("key", ["", "features", "indices", "self"])
def test_any_text_is_a_key_and_layers_without_one_do_not_find_it(key):
    x = SubMConv3d(3, 3, 3, indice_key=key)(some_tensor(dtype=torch.float32))
    y = SubMConv3d(3, 3, 5)(x)  # of another kernel: under this key it would be an error
    assert y.indice_dict == {key: x.indice_dict[key]}
    low = SparseMaxPool3d(2, indice_key=key)(some_tensor(dtype=torch.float32))
    assert SparseInverseConv3d(3, 3, 2, key)(low).spatial_shape == SHAPE


@pytest.mark.parametrize("three", [np.array, torch.tensor, torch.Size, tuple])
def test_three_integers_may_be_of_numpy_and_in_a_tensor(three):
    x = SparseTensor(FEATURES, INDICES, three(SHAPE), np.int64(2))
    assert x.spatial_shape == SHAPE
    assert all(type(n) is int for n in (*x.spatial_shape, x.batch_size))
    assert SubMConv3d(3, 4, three([1, 3, 5])).kernel_size == [1, 3, 5]


def test_a_tensor_moves_to_a_device_without_its_maps(device):
    layer = made(SubMConv3d(3, 3, 3, indice_key="subm"))
    x = layer(some_tensor())
    assert x.to("cpu") is x
    away = x.to("meta")
    assert away.features.device.type == away.indices.device.type == "meta"
    assert away.features.requires_grad
    assert (away.spatial_shape, away.batch_size, away.indice_dict) == (SHAPE, B, {})
    assert list(x.indice_dict) == ["subm"]
    moved = layer.to(device)(x.to(device))
    torch.testing.assert_close(moved.to("cpu").features, layer.cpu()(x).features)


def test_a_tensor_says_what_it_holds():
    x = some_tensor()
    assert repr(x) == f"SparseTensor(M={len(x.indices)}, C=3, B=2, shape=[6, 8, 10], torch.float64, cpu)"
    assert "kernel_size=[3, 3, 3]" in repr(SubMConv3d(3, 4, 3, indice_key="k"))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch.compile looks at every tensor's
def test_torch_compile_leaves_sparse_layers_as_they_are():
    net = SparseSequential(
        SubMConv3d(3, 4, 3, indice_key="subm"),
        torch.nn.BatchNorm1d(4),
        torch.nn.ReLU(),
        SparseConv3d(4, 4, 2, 2, indice_key="down"),
        SparseInverseConv3d(4, 4, 2, "down"),
        SparseMaxPool3d(2),
        SparseGlobalAvgPool(),
    )

    def run(features, indices):
        return net(SparseTensor(features, indices, SHAPE, B))

    torch._dynamo.reset()
    compiled = torch.compile(run, backend="aot_eager")
    for seed in range(2):  # of other sizes
        x = some_tensor(dtype=torch.float32, seed=seed)
        found = [
            (out, *gradients(out, x.features, *net.parameters()))
            for out in (compiled(x.features, x.indices), run(x.features, x.indices))
        ]
        assert_same_bits(*found)
    torch._dynamo.reset()


FEATURES, INDICES = torch.zeros(2, 3), torch.tensor([[0, 0, 0, 0], [1, 5, 7, 9]]).int()
BAD = {
    "a coordinate below 0": (
        lambda: SparseTensor(FEATURES, INDICES - 1, SHAPE, 2),
        ValueError,
        "batch from 0 to 1, got -1",
    ),
    "a batch out of range": (
        lambda: SparseTensor(FEATURES, INDICES, SHAPE, 1),
        ValueError,
        "indices must have batch from 0 to 0, got 1",
    ),
    "a coordinate out of range": (
        lambda: SparseTensor(FEATURES, INDICES, [6, 7, 10], 2),
        ValueError,
        "coordinate 1 from 0 to 6, got 7",
    ),
    "features that do not match": (
        lambda: SparseTensor(FEATURES[:1], INDICES, SHAPE, 2),
        ValueError,
        r"indices must have shape \(1, 4\), got \(2, 4\)",
    ),
    "features of integers": (
        lambda: SparseTensor(INDICES, INDICES, SHAPE, 2),
        TypeError,
        "features must be float16 or",
    ),
    "indices of int64": (
        lambda: SparseTensor(FEATURES, INDICES.long(), SHAPE, 2),
        TypeError,
        "indices must be int32, got int64",
    ),
    "a shape of two": (
        lambda: SparseTensor(FEATURES, INDICES, [6, 8], 2),
        ValueError,
        "spatial_shape must be one integer or three",
    ),
    "no batch": (lambda: SparseTensor(FEATURES, INDICES, SHAPE, 0), ValueError, "batch_size must be at least 1, got 0"),
    "other rows": (lambda: some_tensor().replace_feature(FEATURES), ValueError, r"features must have shape \("),
    "other channels": (lambda: SubMConv3d(4, 4, 3)(some_tensor()), ValueError, "x must have 4 channels, got 3"),
    "another dtype": (
        lambda: SubMConv3d(3, 4, 3)(some_tensor()),
        TypeError,
        "x must be torch.float32 like the weight, got torch.float64",
    ),
    "a tensor": (lambda: SubMConv3d(3, 4, 3)(FEATURES), TypeError, "x must be a SparseTensor, got Tensor"),
    **{
        f"a tensor into {type(layer).__name__}": (
            lambda layer=layer: layer(FEATURES),
            TypeError,
            "x must be a SparseTensor, got Tensor",
        )
        for layer in (SparseMaxPool3d(2), SparseAvgPool3d(2), SparseGlobalMaxPool(), SparseGlobalAvgPool())
    },
    "a key of a number": (
        lambda: SubMConv3d(3, 4, 3, indice_key=1),
        TypeError,
        "indice_key must be text or None, got 1",
    ),
    "a key of a number for a pool": (
        lambda: SparseMaxPool3d(2, indice_key=1),
        TypeError,
        "indice_key must be text or None, got 1",
    ),
    "channels below 0": (lambda: SubMConv3d(-1, 4, 3), ValueError, "in_channels must be at least 0, got -1"),
    "outputs below 0": (lambda: SparseConv3d(3, -4, 3), ValueError, "out_channels must be at least 0, got -4"),
    "channels of a float": (lambda: SubMConv3d(3.0, 4, 3), TypeError, r"in_channels must be an integer, got 3\.0"),
    "a shape of floats": (
        lambda: SparseTensor(FEATURES, INDICES, np.array([6.0, 8.0, 10.0]), 2),
        TypeError,
        r"spatial_shape must be an integer, got 6\.0",
    ),
    "a shape of NumPy's two": (
        lambda: SparseTensor(FEATURES, INDICES, np.array([6, 8]), 2),
        ValueError,
        r"spatial_shape must be one integer or three, got \[6, 8\]",
    ),
    "a move to a dtype": (
        lambda: some_tensor().to(torch.float16),
        TypeError,
        r"device must be a device, got torch.float16; x.replace_feature\(x.features.to\(torch.float16\)\) casts",
    ),
    "groups": (lambda: SubMConv3d(4, 4, 3, groups=2), ValueError, "groups must be 1, got 2"),
    "a stride": (lambda: SubMConv3d(4, 4, 3, 2), ValueError, "stride must be 1 for a submanifold convolution, got 2"),
    "an inverse without a key": (
        lambda: SparseInverseConv3d(4, 4, 3, None),
        TypeError,
        "indice_key must be that of a strided layer",
    ),
    "a kernel of 0": (lambda: SparseConv3d(4, 4, 0), ValueError, "kernel_size must be at least 1, got 0"),
}


@pytest.mark.parametrize("size", [1, 3])
def test_float64_is_not_mixed_with_another_under_autocast_which_leaves_it_as_it_is(size, device):
    x, layer = some_tensor(device=device), SubMConv3d(3, 4, size).to(device)
    short = x.replace_feature(x.features.float())
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        with pytest.raises(TypeError, match=r"x must be torch.float32 like .*, got torch.float64, with autocast too"):
            layer(x)
        assert layer(short).features.dtype == torch.bfloat16
        layer.double()
        with pytest.raises(TypeError, match=r"x must be torch.float64 like .*, got torch.float32, with autocast too"):
            layer(short)
        assert layer(x).features.dtype == torch.float64
    layer.float()
    with pytest.raises(TypeError, match=r"x must be torch.float32 like .*, got torch.float16; or use autocast"):
        layer(x.replace_feature(x.features.half()))


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_sparse_layers_say_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make()
