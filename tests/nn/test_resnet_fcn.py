"""Is this torchvision's ResNet-FCN, and do its files, and ours, load into it?"""

import re

import pytest
import torch
import torch.nn.functional as F
from sparse_scenes import seeded

from pyproj2d3d.nn.resnet import BatchNorm2d, ResNet
from pyproj2d3d.nn.resnet_fcn import ResNetFCN, load_resnet_fcn


def torchvisions_table(depth, classes):
    """Names and shapes of the state dict of fcn_resnet50 or 101, without the head that only helps to train."""
    table = {f"backbone.{name}": tuple(w.shape) for name, w in ResNet(depth).state_dict().items()}
    norm = {f"classifier.1.{part}": (512,) for part in ("weight", "bias", "running_mean", "running_var")}
    head = {"classifier.0.weight": (512, 2048, 3, 3), "classifier.1.num_batches_tracked": ()}
    return table | norm | head | {"classifier.4.weight": (classes, 512, 1, 1), "classifier.4.bias": (classes,)}


def trained(depth=18, classes=5, width=4):
    return seeded(ResNetFCN(depth, classes, width=width), torch.float32)


@pytest.mark.parametrize("depth", [50, 101])
def test_names_and_shapes_are_torchvisions(depth):
    with torch.device("meta"):
        net = ResNetFCN(depth, 21)
        assert {name: tuple(w.shape) for name, w in net.state_dict().items()} == torchvisions_table(depth, 21)


@pytest.mark.parametrize(("depth", "all_of_it"), [(50, 35_322_218), (101, 54_314_346)])
def test_with_the_second_head_there_are_as_many_parameters_as_torchvision_says(depth, all_of_it):
    with torch.device("meta"):
        second = 9 * 1024 * 256 + 2 * 256 + 21 * (256 + 1)
        assert sum(p.numel() for p in ResNetFCN(depth, 21).parameters()) == all_of_it - second


def test_both_maps_have_stride_8_whatever_the_size():
    net = ResNetFCN(18, 7, width=8)
    features, logits = net(torch.zeros(2, 65, 70, 3, dtype=torch.uint8))
    assert features.shape == (2, 16, 9, 9)
    assert logits.shape == (2, 7, 9, 9)
    assert net.channels == 16
    with torch.device("meta"):
        net = ResNetFCN(50)
        assert [m.shape for m in net(torch.zeros(1, 3, 480, 640))] == [(1, 512, 60, 80), (1, 150, 60, 80)]
        assert net.channels == 512


def test_features_and_logits_are_those_of_the_layers_one_by_one(device):
    net = seeded(ResNetFCN(18, 3, width=4), device=device)
    images = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    net.eval()
    features, logits = net(images)
    w = dict(net.named_parameters())
    norm = net.classifier[1]
    x = F.conv2d(net.backbone(images)[-1], w["classifier.0.weight"], padding=1)
    scale = w["classifier.1.weight"] / (norm.running_var + norm.eps).sqrt()
    x = (x - norm.running_mean[:, None, None]) * scale[:, None, None] + w["classifier.1.bias"][:, None, None]
    torch.testing.assert_close(features, x.relu())
    wanted = torch.einsum("bchw,kc->bkhw", x.relu(), w["classifier.4.weight"][..., 0, 0])
    torch.testing.assert_close(logits, wanted + w["classifier.4.bias"][:, None, None])
    assert features.std() > 0


def test_a_tenth_of_the_features_is_dropped_in_training_and_all_layers_learn():
    net = seeded(ResNetFCN(18, 3, width=16))
    features, logits = net(torch.rand(4, 3, 96, 96, dtype=torch.float64))
    some = torch.cat([(net.classifier[:3](net.backbone(torch.rand(4, 3, 96, 96).double())[-1]) > 0).flatten()])
    assert 0.85 < (features > 0).double().mean() / some.double().mean() < 0.95
    logits.logsumexp(1).mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in net.parameters())


# Norms: alone as torch's; those of several processes are in tests/papers/test_teachers.py.


def test_a_norm_is_torchs(device):
    mine, torchs = (seeded(kind(5), device=device) for kind in (BatchNorm2d, torch.nn.BatchNorm2d))
    x = torch.randn(1, 5, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(device)
    for _ in range(2):
        torch.testing.assert_close(mine(x), torchs(x))
    torch.testing.assert_close(mine.state_dict(), torchs.state_dict())
    torch.testing.assert_close(mine.eval()(x), torchs.eval()(x))


@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (1, 4, 1, 1)])
def test_one_place_or_none_has_no_variance_and_is_normalised_as_in_evaluation(shape):
    norm = seeded(BatchNorm2d(4), torch.float32)
    before = {name: w.clone() for name, w in norm.state_dict().items()}
    x = torch.ones(shape)
    out = norm(x)
    assert all(torch.equal(w, before[name]) for name, w in norm.state_dict().items())
    assert torch.equal(out, norm.eval()(x))


def test_a_norm_names_what_it_cannot_take():
    with pytest.raises(ValueError, match=re.escape("input must have shape (*, 4, *, *), got (2, 3, 5, 5)")):
        BatchNorm2d(4)(torch.zeros(2, 3, 5, 5))


# Files.


def assert_same_weights(net, theirs):
    wanted = theirs.state_dict()
    assert net.state_dict().keys() == wanted.keys()
    for name, w in net.state_dict().items():
        assert torch.equal(w, wanted[name]), name


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("depth", [18, 50])
def test_torchvisions_file_loads_whatever_its_second_head(depth, counted, tmp_path):
    theirs = trained(depth, 21)
    state = {k: w for k, w in theirs.state_dict().items() if counted or not k.endswith("num_batches_tracked")}
    state |= {"aux_classifier.0.weight": torch.zeros(2, 3), "aux_classifier.4.bias": torch.zeros(21)}
    torch.save(state, tmp_path / "fcn.pth")
    for source in (tmp_path / "fcn.pth", str(tmp_path / "fcn.pth"), {"model": state}):
        net = load_resnet_fcn(source)
        assert_same_weights(net, theirs)
        assert (net.backbone.depth, net.num_classes, net.channels) == (depth, 21, theirs.channels)


def test_depth_classes_and_width_are_those_of_the_weights(tmp_path):
    theirs = trained(34, 3, 6)
    torch.save({"state_dict": {f"net.{k}": w for k, w in theirs.state_dict().items()}}, tmp_path / "last.ckpt")
    assert_same_weights(load_resnet_fcn(tmp_path / "last.ckpt", prefix="net.", width=6), theirs)


STATE = trained().state_dict()
RESNET = {key.removeprefix("backbone."): w for key, w in STATE.items() if key.startswith("backbone.")}
BAD = {
    "another prefix": (STATE, {"prefix": "net."}, "source must hold a ResNet-FCN, got no weights below 'net.'"),
    "a ResNet": (RESNET, {}, "source must hold a ResNet-FCN, got other weights: conv1.weight, bn1.weight, bn1.bias"),
    "too few blocks": (
        {k: w for k, w in STATE.items() if "layer3.1." not in k},
        {},
        "source must hold a ResNet-FCN, got one on a residual network of (2, 2, 1, 2) blocks",
    ),
    "no head": (
        {k: w for k, w in STATE.items() if not k.startswith("classifier.")},
        {},
        "source must hold a ResNet-FCN, got nothing for classifier.4.weight",
    ),
    "a head of another shape": (
        STATE | {"classifier.4.weight": torch.zeros(5)},
        {},
        "source must hold a ResNet-FCN, got the shape (5,) for classifier.4.weight",
    ),
    "a stem of another shape": (
        STATE | {"backbone.conv1.weight": torch.zeros(4, 3, 3, 3)},
        {},
        "source must hold a ResNet-FCN, got the shape (4, 3, 3, 3) for backbone.conv1.weight",
    ),
    "another width": (STATE, {"width": 64}, "source must hold a ResNet-FCN of width 64, got one of width 4"),
    "a weight of another shape": (
        STATE | {"classifier.0.weight": torch.zeros(8, 32, 1, 1)},
        {},
        "the weights do not fit ResNetFCN: classifier.0.weight",
    ),
    "no weights": ({"epoch": 3}, {}, "source must be a state dict"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_such_network_is_named(case):
    source, options, message = BAD[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        load_resnet_fcn(source, **options)


def test_a_file_that_is_not_there_or_damaged_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth"):
        load_resnet_fcn("nowhere.pth")
    torch.save(STATE, tmp_path / "fcn.pth")
    whole = (tmp_path / "fcn.pth").read_bytes()
    for end in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "fcn.pth").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"fcn.pth cannot be read as weights"):
            load_resnet_fcn(tmp_path / "fcn.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 20}, "depth must be 18, 34, 50 or 101, got 20"),
        ({"depth": 18, "num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"depth": 18, "width": 0}, "width must be at least 1, got 0"),
    ],
)
def test_what_a_network_cannot_be_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResNetFCN(**arguments)
