"""Do spconv's kernels compute along our pairs what our own engine does, and do they run when they should?"""

import doctest
import gc
import sys
import threading
import types

import pytest
import torch

from pyproj2d3d.nn import _pairs, _spconv, sparse
from pyproj2d3d.nn._pairs import Pairs
from pyproj2d3d.nn.sparse import (
    SparseConv3d,
    SparseInverseConv3d,
    SparseMaxPool3d,
    SparseSequential,
    SparseTensor,
    SubMConv3d,
    use_engine,
)
from pyproj2d3d.nn.sr_unet import SRUNet
from pyproj2d3d.ops.kernel_map import kernel_map

SHAPE, B = [5, 6, 7], 2
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
# Of rounding, to the largest of a result: in float16 also its sums are rounded.
CLOSE = {torch.float32: 1e-5, torch.float16: 4e-3}


@pytest.fixture
def engine(spconv, device, monkeypatch):
    """spconv's kernels in the layers, on the CPU as well, where by themselves they never use them."""
    if device.type == "cpu":
        monkeypatch.setattr(_spconv, "_lacks", lambda device, dtype: None)
    elif why := _spconv._library()[1]:
        pytest.skip(why)


def some_tensor(c=3, share=0.3, dtype=torch.float32, device=CPU, shape=SHAPE) -> SparseTensor:
    rng = torch.Generator().manual_seed(0)
    indices = (torch.rand(B, *shape, generator=rng) < share).nonzero()
    indices = indices[torch.randperm(len(indices), generator=rng)].int()
    features = torch.randn(len(indices), c, generator=rng).to(device, dtype)
    return SparseTensor(features.requires_grad_(), indices.to(device), shape, B)


def on_both(net: torch.nn.Module, x: SparseTensor, monkeypatch, autocast=None) -> list[list[torch.Tensor]]:
    """Features and all gradients: by our engine, and by spconv's without a word of ours."""
    found = []
    for name in ("own", "auto"):
        with use_engine(name), monkeypatch.context() as patch:
            if name == "auto":
                patch.setattr(_pairs, "convolve", None)
            with torch.autocast(x.features.device.type, autocast, enabled=autocast is not None):
                out = net(x).features
            grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
            found.append([out, *torch.autograd.grad(out, (x.features, *net.parameters()), grad)])
    return found


def assert_alike(ours: list[torch.Tensor], theirs: list[torch.Tensor], share: float) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        assert mine.abs().max() > 0
        torch.testing.assert_close(other, mine, rtol=0, atol=share * float(mine.detach().abs().max()))


def test_a_table_has_the_pairs_of_each_offset_first_and_leaves_out_the_centre():
    found = kernel_map(torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]]).int(), (1, 1, 3))
    assert found.ptr.tolist() == [0, 1, 3, 4]
    table, counts = _spconv._table(Pairs([0, 1, 3, 4], found.input, found.output, 2, 2, 1))
    assert counts.tolist() == [1, 0, 1]
    assert table.tolist() == [[[0], [-1], [1]], [[1], [-1], [0]]]
    table, counts = _spconv._table(Pairs([0, 1, 3, 4], found.input, found.output, 2, 2))
    assert counts.tolist() == [1, 2, 1]
    assert table.tolist() == [[[0, -1], [0, 1], [1, -1]], [[1, -1], [0, 1], [0, -1]]]
    assert table.dtype == counts.dtype == torch.int32


def test_a_table_is_made_once_and_goes_with_its_map():
    row = torch.zeros(1, dtype=torch.int32)
    pairs, before = Pairs([0, 1], row, row, 1, 1), len(_spconv._tables)
    assert _spconv._table(pairs)[0] is _spconv._table(pairs)[0]
    assert len(_spconv._tables) == before + 1
    del pairs
    gc.collect()
    assert len(_spconv._tables) == before


def subm(size, dilation=1):
    return SparseSequential(SubMConv3d(3, 5, size, dilation=dilation, bias=False))


def there(size, stride, padding=0, dilation=1):
    return SparseSequential(SparseConv3d(3, 5, size, stride, padding, dilation))


def there_and_back(*rule):
    return SparseSequential(SparseConv3d(3, 4, *rule, indice_key="down"), SparseInverseConv3d(4, 5, rule[0], "down"))


LAYERS = {
    "submanifold 3": lambda: subm(3),
    "submanifold 5": lambda: subm(5),
    "submanifold 1 3 5": lambda: subm((1, 3, 5)),
    "submanifold dilated": lambda: subm(3, (1, 2, 1)),
    "submanifold even": lambda: subm((2, 3, 2)),
    "strided 2": lambda: there(2, 2),
    "strided 3": lambda: there(3, 2, 1),
    "strided by 1": lambda: there(3, 1, 1),
    "strided dilated": lambda: there(3, 2, 1, 2),
    "strided 1 2 3": lambda: there((1, 2, 3), (1, 2, 3), (0, 1, 2)),
    "strided 1": lambda: there(1, 2),
    "inverse 2": lambda: there_and_back(2, 2),
    "inverse 3": lambda: there_and_back(3, 2, 1),
    "inverse 1 2 3": lambda: there_and_back((1, 2, 3), (1, 2, 3), (0, 1, 2)),
    "inverse of a pool": lambda: SparseSequential(
        SparseMaxPool3d(2, indice_key="pool"), SparseInverseConv3d(3, 5, 2, "pool")
    ),
}


@quiet
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_spconv_computes_along_our_pairs_what_we_do(engine, monkeypatch, make, dtype, device):
    torch.manual_seed(0)
    net = make().to(device, dtype)
    assert_alike(*on_both(net, some_tensor(dtype=dtype, device=device), monkeypatch), CLOSE[dtype])


@quiet
def test_a_network_is_the_same_on_either_engine(engine, monkeypatch, device):
    torch.manual_seed(0)
    net = SRUNet(3, 2, [1] * 8, [4, 4, 8, 8, 8, 4, 4, 4], init_dim=4).to(device)
    # Wide, or the norms of the coarsest level, over a voxel or two, magnify rounding.
    x = some_tensor(share=0.05, device=device, shape=[64, 64, 16])
    assert_alike(*on_both(net, x, monkeypatch), 1e-4)


@quiet
def test_autocast_gives_spconv_half_and_the_weight_its_own_gradient(engine, monkeypatch, device):
    x, net = some_tensor(device=device), there_and_back(2, 2).to(device)
    ours, theirs = on_both(net, x, monkeypatch, torch.float16)
    assert theirs[0].dtype == torch.float16
    assert {t.dtype for t in theirs[1:]} == {torch.float32}
    assert_alike(ours, theirs, 4e-3)


@quiet
def test_autocast_around_the_backward_pass_changes_nothing(engine, device):
    x, net = some_tensor(device=device), subm(3).to(device)
    out = net(x).features
    wanted = torch.autograd.grad(out.sum(), x.features, retain_graph=True)
    with torch.autocast(device.type, torch.bfloat16):
        found = torch.autograd.grad(out.sum(), x.features)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@quiet
@pytest.mark.parametrize("make", [lambda: subm(3), lambda: there_and_back(2, 2)], ids=["submanifold", "strided"])
def test_voxels_without_neighbours_are_spconvs_and_none_at_all_are_ours(engine, make, monkeypatch, device):
    """Its kernels on CUDA stop at an offset without pairs where no other has any."""
    net = make().to(device)
    alone = SparseTensor(torch.ones(1, 3, device=device), torch.zeros(1, 4, device=device).int(), SHAPE, B)
    with use_engine("own"):
        wanted = net(alone).features
    torch.testing.assert_close(net(alone).features, wanted)
    monkeypatch.setattr(_spconv, "_Native", None)
    none = SparseTensor(torch.zeros(0, 3, device=device, requires_grad=True), alone.indices[:0], SHAPE, B)
    out = net(none).features
    assert out.shape == (0, 5)
    out.sum().backward()
    assert none.features.grad.shape == (0, 3)
    assert all((p.grad == 0).all() for p in net.parameters())
    assert (
        SubMConv3d(0, 2, 3, bias=False).to(device)(alone.replace_feature(alone.features[:, :0])).features == 0
    ).all()


@quiet
def test_voxels_that_no_output_reads_get_no_gradient(engine, monkeypatch, device):
    monkeypatch.setattr(_spconv, "_Native", None)
    x = SparseTensor(
        torch.ones(2, 3, device=device, requires_grad=True),
        torch.tensor([[0, 1, 0, 0], [0, 4, 3, 1]], device=device).int(),
        SHAPE,
        B,
    )
    layer = SparseConv3d(3, 2, 1, 2).to(device)  # reads even coordinates alone
    out = layer(x)
    assert out.features.shape == (0, 2)
    out.features.sum().backward()
    assert (x.features.grad == 0).all()


@quiet
def test_memory_layout_does_not_matter_to_spconv(engine, device):
    x, net = some_tensor(device=device), subm(3).to(device)
    spread = x.features.detach().repeat_interleave(2, 1)[:, ::2].requires_grad_()
    out = net(x).features
    grad = torch.randn(5, len(out), device=device).T
    wanted = torch.autograd.grad(out, (x.features, *net.parameters()), grad)
    net[0].weight.data = net[0].weight.data.repeat_interleave(2, 0)[::2]
    for tensor in (spread, grad, net[0].weight):
        assert not tensor.is_contiguous()
    again = net(x.replace_feature(spread)).features
    torch.testing.assert_close(again, out)
    for a, b in zip(torch.autograd.grad(again, (spread, *net.parameters()), grad), wanted, strict=True):
        torch.testing.assert_close(a, b)


@quiet
def test_only_the_gradients_that_are_asked_for_come_back_from_spconv(engine, device):
    x, net = some_tensor(device=device), subm(3).to(device)
    net(x.replace_feature(x.features.detach())).features.sum().backward()
    assert net[0].weight.grad.abs().max() > 0
    net.requires_grad_(False)
    assert torch.autograd.grad(net(x).features.sum(), x.features)[0].abs().max() > 0
    assert not net(x.replace_feature(x.features.detach())).features.requires_grad


@quiet
def test_nothing_gives_a_second_derivative(engine, device):
    x, net = some_tensor(device=device), subm(3).to(device)
    (first,) = torch.autograd.grad((net(x).features ** 2).sum(), x.features, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


# Which engine it is.


@pytest.fixture
def library(monkeypatch):
    """What stands for spconv, and why it is none."""
    return lambda ops, why=None: monkeypatch.setattr(_spconv, "_library", lambda: (ops, why))


def test_spconv_takes_floats_on_cuda_and_no_others(library):
    library(object())
    assert _spconv._lacks(CUDA, torch.float32) is _spconv._lacks(CUDA, torch.float16) is None
    assert _spconv._lacks(CUDA, torch.float64) == "features in float32 or float16, got float64"
    assert _spconv._lacks(CUDA, torch.bfloat16) == "features in float32 or float16, got bfloat16"
    assert _spconv._lacks(CPU, torch.float32) == "features on CUDA, got cpu"
    library(None, "no such module")
    assert _spconv._lacks(CUDA, torch.float32) == "no such module"


def test_deterministic_algorithms_are_ours(library):
    library(object())
    torch.use_deterministic_algorithms(True)
    try:
        assert _spconv._lacks(CUDA, torch.float32) == "torch.use_deterministic_algorithms to be off"
    finally:
        torch.use_deterministic_algorithms(False)


def test_on_the_cpu_nobody_looks_for_spconv(monkeypatch):
    monkeypatch.setattr(_spconv, "_library", None)
    with use_engine("auto"):
        assert len(subm(3)(some_tensor()).features)


def test_bfloat16_under_autocast_is_ours_where_float16_is_spconvs(library, monkeypatch):
    library(object())
    seen = []
    real = _spconv._lacks
    monkeypatch.setattr(_spconv, "_lacks", lambda device, dtype: seen.append(dtype) or real(device, dtype))
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert subm(3)(some_tensor()).features.dtype == dtype
    subm(3).double()(some_tensor(dtype=torch.float64))
    assert seen == [torch.bfloat16, torch.float16, torch.float64]


def test_an_engine_is_chosen_for_a_block_or_for_good(library):
    library(object())
    assert _spconv._chosen == "auto"
    with use_engine("own"):
        with use_engine("spconv"):
            assert _spconv._chosen == "spconv"
        assert _spconv._chosen == "own"
        with pytest.raises(ValueError, match="features on CUDA"), use_engine("spconv"):
            subm(3)(some_tensor())
        assert _spconv._chosen == "own"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(_spconv._chosen))
        thread.start()
        thread.join()
        assert seen == ["own"]
        use_engine("auto")
        assert _spconv._chosen == "auto"
    assert _spconv._chosen == "auto"


def test_the_gradient_is_by_the_engine_of_its_forward_pass():
    x, net = some_tensor(), subm(3)
    with use_engine("own"):
        out = net(x).features
    assert type(out.grad_fn) is not _spconv._Native
    out.sum().backward()
    assert x.features.grad is not None


def test_an_unknown_engine_is_an_error():
    with pytest.raises(ValueError, match="name must be 'auto' or 'own' or 'spconv', got 'cuda'"):
        use_engine("cuda")
    assert _spconv._chosen == "auto"


def test_spconv_asked_for_and_not_there_names_the_extra(library):
    library(None, "No module named 'spconv'")
    with pytest.raises(ImportError, match=r'"pyproj2d3d\[spconv\]" \(No module named \'spconv\'\)'):
        use_engine("spconv")
    assert _spconv._chosen == "auto"


def test_spconv_asked_for_on_the_cpu_is_an_error_of_the_layer(library):
    library(object())
    with (
        use_engine("spconv"),
        pytest.raises(ValueError, match='"spconv" needs features on CUDA, got cpu; "auto" takes'),
    ):
        subm(3)(some_tensor())


@pytest.fixture
def installed(monkeypatch):
    """A spconv of our making, or one that does not import."""

    def install(**parts):
        _spconv._library.cache_clear()
        for name in ("spconv", "spconv.cppconstants", "spconv.pytorch"):
            module = types.ModuleType(name)
            vars(module).update(parts.get(name.partition(".")[2], {}))
            monkeypatch.setitem(sys.modules, name, module if parts else None)

    yield install
    _spconv._library.cache_clear()


def test_spconv_is_looked_for_once(installed):
    installed(cppconstants={"CPU_ONLY_BUILD": False}, pytorch={"ops": "the operations"})
    assert _spconv._library() == ("the operations", None)
    sys.modules["spconv.cppconstants"].CPU_ONLY_BUILD = True
    assert _spconv._library() == ("the operations", None)


def test_spconv_for_the_cpu_is_none_for_cuda(installed):
    installed(cppconstants={"CPU_ONLY_BUILD": True}, pytorch={"ops": "the operations"})
    assert _spconv._library()[1] == "this one is built for the CPU alone"
    with pytest.raises(ImportError, match=r"\(this one is built for the CPU alone\)"):
        use_engine("spconv")


def test_without_spconv_auto_is_our_engine(installed):
    installed()
    ops, why = _spconv._library()
    assert ops is None
    assert "spconv" in why
    assert _spconv._lacks(CUDA, torch.float32) == why


def test_the_docstring_of_use_engine_shows_what_it_returns():
    result = doctest.testmod(_spconv, extraglobs={"torch": torch, **vars(sparse)})
    assert (result.attempted, result.failed) == (2, 0)
