"""Do weights of public networks load, mean the same here, and say what does not fit?"""

import random
import re
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sparse_scenes import seeded, some_voxels
from torch import nn

from pyproj2d3d.nn.pointgroup_unet import PointGroupUNet
from pyproj2d3d.nn.sparse import SparseTensor, SubMConv3d
from pyproj2d3d.nn.sr_unet import SRUNet, pointcept_names, sr_unet34
from pyproj2d3d.nn.weights import load_weights

LAYERS, PLANES = (1, 2, 1, 1, 1, 1, 2, 1), (4, 6, 6, 8, 6, 5, 5, 4)


def small_sr_unet(**options) -> SRUNet:
    return SRUNet(3, 7, LAYERS, PLANES, init_dim=4, **options)


def small_pointgroup() -> PointGroupUNet:
    return PointGroupUNet(3, 4, levels=3)


def test_the_names_of_sr_unet_are_minkowski_engines():
    def norms(name):
        return {f"{name}.{k}" for k in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}

    names = {"conv0p1s1.weight", "final.weight", "final.bias"} | norms("bn0")
    down, up = "conv1p1s2 conv2p2s2 conv3p4s2 conv4p8s2", "convtr4p16s2 convtr5p8s2 convtr6p4s2 convtr7p2s2"
    for i, conv in enumerate(f"{down} {up}".split()):
        bn = f"bn{i + 1}" if i < 4 else f"bntr{i}"
        names |= {f"{conv}.weight"} | norms(bn)
        for j in range((2, 3, 4, 6, 2, 2, 2, 2)[i]):
            block = f"block{i + 1}.{j}"
            names |= (
                {f"{block}.conv1.weight", f"{block}.conv2.weight"} | norms(f"{block}.norm1") | norms(f"{block}.norm2")
            )
            if j == 0 and i > 0:  # the first stage keeps 32 channels
                names |= {f"{block}.downsample.0.weight"} | norms(f"{block}.downsample.1")
    with torch.device("meta"):
        net = sr_unet34(3, 20)
    assert net.state_dict().keys() == names
    assert net.block2[0].conv1.weight.shape == (64, 3, 3, 3, 32)
    assert net.final.weight.shape == (20, 1, 1, 1, 96)


def spconv_pointcept(spconv, c=3, out=7, base=4) -> nn.Module:
    """A network with the names and order of Pointcept's SpUNet-v1m1."""
    norm = partial(nn.BatchNorm1d, eps=1e-3, momentum=0.01)
    seq = spconv.SparseSequential

    class Block(spconv.SparseModule):
        def __init__(self, a, b, key):
            super().__init__()
            self.proj = seq(nn.Identity()) if a == b else seq(spconv.SubMConv3d(a, b, 1, bias=False), norm(b))
            self.conv1 = spconv.SubMConv3d(a, b, 3, padding=1, bias=False, indice_key=key)
            self.bn1 = norm(b)
            self.conv2 = spconv.SubMConv3d(b, b, 3, padding=1, bias=False, indice_key=key)
            self.bn2 = norm(b)

        def forward(self, x):
            y = self.conv1(x)
            y = self.conv2(y.replace_feature(self.bn1(y.features).relu()))
            return y.replace_feature((self.bn2(y.features) + self.proj(x).features).relu())

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            stem = spconv.SubMConv3d(c, base, 5, padding=1, bias=False, indice_key="stem")
            self.conv_input = seq(stem, norm(base), nn.ReLU())
            self.down, self.enc, self.up, self.dec = (nn.ModuleList() for _ in range(4))
            fine = (base, *PLANES[:3])
            for s in range(4):
                strided = spconv.SparseConv3d(fine[s], PLANES[s], 2, 2, bias=False, indice_key=f"spconv{s}")
                self.down.append(seq(strided, norm(PLANES[s]), nn.ReLU()))
                below, here = PLANES[6 - s], PLANES[7 - s]
                inverse = spconv.SparseInverseConv3d(below, here, 2, bias=False, indice_key=f"spconv{s}")
                self.up.append(seq(inverse, norm(here), nn.ReLU()))
                ins = [PLANES[s]] * LAYERS[s]
                self.enc.append(self.chain(ins, PLANES[s], f"subm{s + 1}"))
                ins = [here + fine[s]] + [here] * (LAYERS[7 - s] - 1)
                self.dec.append(self.chain(ins, here, f"subm{s}"))
            self.final = spconv.SubMConv3d(PLANES[7], out, 1, padding=1, bias=True)

        def chain(self, ins, out, key):
            return seq(OrderedDict((f"block{i}", Block(a, out, key)) for i, a in enumerate(ins)))

        def forward(self, x):
            skips = [self.conv_input(x)]
            for down, enc in zip(self.down, self.enc, strict=True):
                skips.append(enc(down(skips[-1])))
            x = skips.pop()
            for s in (3, 2, 1, 0):
                x = self.up[s](x)
                x = self.dec[s](x.replace_feature(torch.cat((x.features, skips.pop().features), 1)))
            return self.final(x)

    return Net()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_network_of_spconv_in_pointcepts_names_loads_and_gives_the_same(spconv, tmp_path):
    theirs = seeded(spconv_pointcept(spconv), torch.float32).eval()
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "m.pth"
    )
    ours = small_sr_unet(conv1_kernel_size=5, bn_eps=1e-3, widen_early=True).eval()
    assert load_weights(ours, tmp_path / "m.pth", rename=pointcept_names) == ([], [])
    x = some_voxels(shape=(16, 16, 32), dtype=torch.float32)
    with torch.no_grad():
        wanted = theirs(spconv.SparseConvTensor(x.features, x.indices.contiguous(), x.spatial_shape, x.batch_size))
        torch.testing.assert_close(ours(x).features, wanted.features, rtol=1e-4, atol=1e-4)


def test_pointcepts_names_are_all_known():
    with torch.device("meta"):
        net = sr_unet34(6, 20, conv1_kernel_size=5, widen_early=True)
    names = "conv_input.0.weight conv_input.1.running_var down.3.0.weight down.0.1.bias enc.3.block5.conv2.weight"
    names += " enc.0.block1.bn1.weight up.0.0.weight up.3.1.weight dec.0.block0.proj.0.weight dec.3.block1.bn2.bias"
    assert [name for name in map(pointcept_names, names.split()) if name not in net.state_dict()] == []
    assert pointcept_names("up.3.0.weight") == "convtr4p16s2.weight"
    assert pointcept_names("dec.0.block1.bn2.bias") == "block8.1.norm2.bias"


def spconv_1_layout(net: nn.Module) -> dict[str, torch.Tensor]:
    """(k, k, k, C_in, C_out), of which a 1x1 kernel is the matrix that features are multiplied with."""
    out = dict(net.state_dict())
    for name, w in out.items():
        if w.ndim == 5 and w.shape[1] == 1:
            out[name] = w.view(w.shape[4], w.shape[0]).view(1, 1, 1, w.shape[4], w.shape[0])
        elif w.ndim == 5:
            out[name] = w.permute(1, 2, 3, 4, 0).contiguous()
    return out


@pytest.mark.parametrize("make", [small_sr_unet, small_pointgroup])
def test_weights_in_the_layout_of_spconv_1_are_turned(make, tmp_path):
    theirs, ours = seeded(make(), torch.float32), make()
    torch.save(spconv_1_layout(theirs), tmp_path / "old.pth")
    load_weights(ours, tmp_path / "old.pth")
    for mine, wanted in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, wanted)


def test_a_1x1_kernel_of_spconv_1_keeps_its_meaning():
    layer, matrix = SubMConv3d(2, 3, 1, bias=False), torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    net = nn.Sequential(layer)
    load_weights(net, {"0.weight": matrix.view(1, 1, 1, 2, 3)})
    x = SparseTensor(torch.eye(2), torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1]]).int(), [2, 2, 2], 1)
    assert torch.equal(net(x).features, matrix)


def test_a_1x1_kernel_that_was_read_the_other_way_is_turned():
    """SoftGroup's Custom1x1Subm3d multiplies with ``weight.view(C_out, C_in).T``."""
    layer, weight = SubMConv3d(2, 3, 1, bias=False), torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    net = nn.Sequential(layer)
    load_weights(net, {"0.weight": weight.view(3, 1, 1, 1, 2)}, turn_1x1=True)
    x = SparseTensor(torch.eye(2), torch.tensor([[0, 0, 0, 0], [0, 1, 1, 1]]).int(), [2, 2, 2], 1)
    assert torch.equal(net(x).features, weight.T)


def test_a_layer_that_is_itself_the_network_is_turned_as_one_within():
    weight = torch.arange(4.0)
    for loaded, turn in ((weight.view(2, 1, 1, 1, 2), True), (weight.view(1, 1, 1, 2, 2), False)):
        alone, within = SubMConv3d(2, 2, 1, bias=False), nn.Sequential(SubMConv3d(2, 2, 1, bias=False))
        load_weights(alone, {"weight": loaded}, turn_1x1=turn)
        load_weights(within, {"0.weight": loaded}, turn_1x1=turn)
        assert torch.equal(alone.weight, within[0].weight)
    load_weights(SubMConv3d(2, 4, 3, bias=False), {"weight": torch.randn(3, 3, 3, 2, 4)})


def test_the_names_of_pointgroup_load_from_a_checkpoint_with_heads(tmp_path):
    """input_conv, unet.blocks.block0.conv_branch, ...; the heads are told, or left out by name."""
    theirs = seeded(small_pointgroup(), torch.float32)
    state = theirs.state_dict()
    public = (
        "unet.u.blocks_tail.block0.i_branch.0.weight unet.conv.2.weight unet.u.u.blocks.block1.conv_branch.5.weight"
    )
    assert set(public.split()) <= state.keys()
    torch.save(state | {"linear.weight": torch.zeros(20, 4)}, tmp_path / "m.pth")
    ours = small_pointgroup()
    with pytest.raises(ValueError, match=r"do not fit PointGroupUNet: unexpected: linear\.weight$"):
        load_weights(ours, tmp_path / "m.pth")
    assert load_weights(ours, tmp_path / "m.pth", strict=False) == ([], ["linear.weight"])
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), state.values(), strict=True))


def test_a_part_of_a_model_loads_by_its_prefix_from_safetensors(tmp_path):
    theirs, ours = seeded(small_pointgroup(), torch.float32), small_pointgroup()
    state = {f"backbone.{k}": v for k, v in theirs.state_dict().items()} | {"head.weight": torch.zeros(3)}
    save_file(state, tmp_path / "m.safetensors")
    assert load_weights(ours, tmp_path / "m.safetensors", prefix="backbone.") == ([], [])
    assert torch.equal(ours.input_conv[0].weight, theirs.input_conv[0].weight)


def test_what_does_not_fit_is_named_and_nothing_is_loaded():
    ours, state = small_sr_unet(), seeded(small_sr_unet(), torch.float32).state_dict()
    before = ours.conv0p1s1.weight.clone()
    state["extra.weight"] = state.pop("bn0.weight")
    state["final.weight"] = torch.zeros(8, 1, 1, 1, 4)
    message = "final.weight must have shape (7, 1, 1, 1, 4), got (8, 1, 1, 1, 4); "
    message += "missing: bn0.weight; unexpected: extra.weight"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_weights(ours, state)
    with pytest.raises(ValueError, match=r"final\.weight must have shape"):
        load_weights(ours, state, strict=False)
    assert torch.equal(ours.conv0p1s1.weight, before)


@pytest.mark.parametrize(
    ("bad", "got"),
    [
        (torch.ones(2, 2, device="meta"), "meta"),
        (torch.tensor([[1e300, 0], [0, 0]], dtype=torch.float64), "float64"),
        (torch.ones(2, 2, dtype=torch.complex64), "complex64"),
        (torch.eye(2).to_sparse(), "float32"),
    ],
    ids=["meta", "too large", "complex", "sparse"],
)
def test_values_that_the_network_cannot_hold_are_named_and_nothing_is_loaded(bad, got):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = {key: w.clone() for key, w in net.state_dict().items()}
    state = {**{key: torch.ones_like(w) for key, w in before.items()}, "1.weight": bad}
    with pytest.raises(ValueError, match=f"1.weight must have values of float32, got {got}"):
        load_weights(net, state)
    assert all(torch.equal(w, before[key]) for key, w in net.state_dict().items())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (torch.tensor(300), torch.uint8),
        (torch.tensor(-1), torch.uint8),
        (torch.tensor(2.5), torch.int64),
        (torch.tensor(1e30), torch.int64),
        (torch.tensor(float("nan")), torch.int64),
        (torch.tensor(2), torch.bool),
    ],
)
def test_integers_that_the_network_cannot_hold_are_named(theirs, ours):
    net = nn.Module()
    net.register_buffer("n", torch.zeros((), dtype=ours))
    with pytest.raises(ValueError, match="n must have values of"):
        load_weights(net, {"n": theirs})
    load_weights(net, {"n": torch.tensor(1.0)})
    assert net.n == 1


def test_narrow_floats_load():
    net = nn.Module()
    net.register_buffer("n", torch.zeros(2, dtype=torch.float8_e4m3fn))
    load_weights(net, {"n": torch.ones(2)})
    load_weights(net, {"n": torch.ones(2, dtype=torch.float8_e4m3fn)})
    load_weights(nn.Linear(1, 1), {"weight": torch.ones(1, 1, dtype=torch.float8_e4m3fn), "bias": torch.ones(1)})


def test_values_that_are_not_finite_in_the_file_load_as_they_are():
    net = nn.Linear(1, 2, bias=False)
    load_weights(net, {"weight": torch.tensor([[float("inf")], [float("nan")]], dtype=torch.float64)})
    assert net.weight[0].item() == float("inf")
    assert net.weight[1].isnan()


def test_two_keys_of_one_name_are_an_error():
    state = {"a": torch.zeros(1), "b": torch.zeros(1)}
    with pytest.raises(ValueError, match="rename must give different names, got c for more than one"):
        load_weights(nn.Linear(1, 1), state, rename=lambda name: "c")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"state_dict": {}, "config": np.random.RandomState(0)}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"source must hold tensors and plain values only, got .*m\.pth with more"):
        load_weights(nn.Linear(1, 1), tmp_path / "m.pth")


def test_a_source_without_weights_is_an_error():
    with pytest.raises(ValueError, match="source must be a state dict, or hold one under state_dict, model_state_dict"):
        load_weights(nn.Linear(1, 1), {"epoch": 3})


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def test_a_file_in_which_no_norm_counts_its_batches_lacks_nothing():
    """They did not before torch 0.4.1; torchvision's ResNets are as old. If one counts, all must."""
    theirs, ours = seeded(nn.Sequential(normed(), normed()), torch.float32), nn.Sequential(normed(), normed())
    state = theirs.state_dict()
    old = {k: w for k, w in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) == len(state) - 2
    assert load_weights(ours, old) == ([], [])
    assert all(torch.equal(w, old[k]) for k, w in ours.state_dict().items() if k in old)
    with pytest.raises(ValueError, match=r"missing: 1\.1\.num_batches_tracked$"):
        load_weights(ours, old | {"0.1.num_batches_tracked": torch.tensor(3)})


def test_what_is_skipped_stays_as_it_is_and_may_be_in_the_file_or_not():
    theirs, state = seeded(small_sr_unet(), torch.float32), {}
    for k, w in theirs.state_dict().items():
        state[f"net.{k}"] = torch.zeros(20, 1, 1, 1, 4) if k == "final.weight" else w
    for there in (state, {k: w for k, w in state.items() if not k.startswith("net.final")}):
        ours = small_sr_unet()
        before = ours.final.weight.clone()
        assert load_weights(ours, there, prefix="net.", skip="final.") == ([], [])
        assert torch.equal(ours.final.weight, before)
        assert torch.equal(ours.conv0p1s1.weight, theirs.conv0p1s1.weight)
    assert load_weights(small_sr_unet(), state, prefix="net.", skip=("bn0.", "final.")) == ([], [])
    for nothing in ("", (), ("",)):
        with pytest.raises(ValueError, match=r"final\.weight must have shape"):
            load_weights(small_sr_unet(), state, prefix="net.", skip=nothing)


def test_skipping_goes_by_our_names():
    ours = nn.Sequential(nn.Linear(1, 1))
    state = {"a": torch.ones(1, 1), "b": torch.ones(7)}
    rename = {"a": "0.weight", "b": "0.bias"}.__getitem__
    assert load_weights(ours, state, rename=rename, skip="0.bias") == ([], [])
    assert ours[0].weight.item() == 1


def test_of_many_keys_that_do_not_fit_a_few_are_named():
    state = {f"key{i:02}": torch.zeros(1) for i in range(30)}
    with pytest.raises(ValueError, match=r"missing: 0\.weight; unexpected: key00, .*, key07, and 22 more$"):
        load_weights(nn.Sequential(nn.Linear(1, 1, bias=False)), state)


@pytest.mark.parametrize("name", ["m.pth", "old.pth", "m.safetensors"])
def test_a_damaged_file_is_named_whatever_is_wrong_with_it(name, tmp_path):
    state, path = {f"{i}.weight": torch.rand(3, 3) for i in range(3)}, tmp_path / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name != "old.pth")
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    damaged = [whole[: len(whole) * i // 40] for i in range(40)]
    for _ in range(160):
        flipped = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            flipped[rng.randrange(len(whole))] = rng.randrange(256)
        damaged.append(bytes(flipped))
    for i, content in enumerate(damaged):
        path.write_bytes(content)
        try:
            load_weights(nn.Linear(1, 1), path)
        except ValueError as error:
            told = str(error)
            known = "the weights do not fit Linear" in told or "source must be a state dict" in told
            refused += not known
            assert known or str(path) in told, told
        else:
            pytest.fail("they do not fit")
        assert i >= 40 or refused == i + 1, "a file cut short is always noticed"


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    for name in ("m.pth", "m.safetensors"):
        with pytest.raises(FileNotFoundError, match=name.replace(".", r"\.")):
            load_weights(nn.Linear(1, 1), tmp_path / name)


def test_a_folder_is_no_file_and_is_named(tmp_path):
    (tmp_path / "dir.safetensors").mkdir()
    with pytest.raises(IsADirectoryError, match=r"dir\.safetensors"):
        load_weights(nn.Linear(1, 1), tmp_path / "dir.safetensors")


def test_keys_that_are_no_names_are_no_state_dict():
    with pytest.raises(ValueError, match="source must be a state dict, or hold one under"):
        load_weights(nn.Linear(1, 1), {0: torch.zeros(1)})
