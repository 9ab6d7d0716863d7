"""Is this torchvision's ResNet, do public files load into it, and does a frozen one stay as it is?"""

import copy
import hashlib
import pickle
import re
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sparse_scenes import seeded
from torch import nn

from pyproj2d3d.nn.resnet import Frozen, ResNet, load_resnet

# The architecture, as torchvision's models/resnet.py has it, and the numbers of parameters that its pages give.
STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160}
DILATED = (False, True, True)


def norm(name, channels):
    table = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return table | {f"{name}.num_batches_tracked": ()}


def torchvisions_table(depth: int) -> dict[str, tuple[int, ...]]:
    """Every key of its state dict, and the shape."""
    table, before = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64), 64
    for i, blocks in enumerate(STAGES[depth]):
        width = (64, 128, 256, 512)[i]
        out = width if depth < 50 else 4 * width
        for j in range(blocks):
            block = f"layer{i + 1}.{j}"
            if depth < 50:
                convs = {"conv1": (width, before, 3, 3), "conv2": (width, width, 3, 3)}
            else:
                convs = {"conv1": (width, before, 1, 1), "conv2": (width, width, 3, 3), "conv3": (out, width, 1, 1)}
            for name, shape in convs.items():
                table |= {f"{block}.{name}.weight": shape} | norm(f"{block}.{name.replace('conv', 'bn')}", shape[0])
            if j == 0 and (i > 0 or depth >= 50):
                table |= {f"{block}.downsample.0.weight": (out, before, 1, 1)} | norm(f"{block}.downsample.1", out)
            before = out
    return table | {"fc.weight": (1000, before), "fc.bias": (1000,)}


@pytest.mark.parametrize("depth", STAGES)
def test_names_shapes_and_number_of_parameters_are_torchvisions(depth):
    with torch.device("meta"):
        net = ResNet(depth, num_classes=1000)
    assert {name: tuple(w.shape) for name, w in net.state_dict().items()} == torchvisions_table(depth)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[depth]


def test_without_classes_the_last_layer_alone_is_left_out():
    with torch.device("meta"):
        net = ResNet(18)
    assert torchvisions_table(18).keys() - net.state_dict().keys() == {"fc.weight", "fc.bias"}
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[18] - 512 * 1000 - 1000


@pytest.mark.parametrize(("depth", "last"), [(18, 512), (34, 512), (50, 2048), (101, 2048)])
def test_an_image_of_480x640_gives_15x20_and_at_stride_8_60x80(depth, last):
    with torch.device("meta"):
        for replace, sizes in (
            ((False, False, False), [(240, 320), (120, 160), (60, 80), (30, 40), (15, 20)]),
            ((False, True, True), [(240, 320), (120, 160), (60, 80), (60, 80), (60, 80)]),
            ((True, True, True), [(240, 320), (120, 160), (120, 160), (120, 160), (120, 160)]),
        ):
            net = ResNet(depth, replace_stride_with_dilation=replace)
            maps = net(torch.zeros(1, 480, 640, 3, dtype=torch.uint8))
            assert [tuple(m.shape[2:]) for m in maps] == sizes
            assert [m.shape[1] for m in maps] == net.channels == [64, *(last // 2**i for i in (3, 2, 1, 0))]


def test_the_weights_begin_as_torchvisions_do():
    """Normal, with the variance 2 / (C_out k k)."""
    torch.manual_seed(0)
    for name, w in ResNet(18).named_parameters():
        if w.ndim == 4 and w.numel() > 10_000:
            assert w.mean().abs() < 5 * w.std() / w.numel() ** 0.5, name
            assert w.std().item() == pytest.approx((2 / (len(w) * w[0, 0].numel())) ** 0.5, rel=0.03), name


# The same, layer by layer.

PLAN = ((1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1))  # of each stage: the first block's stride and dilation, the others'
DILATED_PLAN = ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4))


def twin(net: ResNet, images, plan):
    """The maps and logits of a network in training, by functions of its weights alone."""
    w = dict(net.named_parameters())

    def conv_norm(x, conv, bn, stride=1, dilation=1):
        weight = w[f"{conv}.weight"]
        pad = dilation * (weight.shape[-1] // 2)
        x = F.conv2d(x, weight, stride=stride, padding=pad, dilation=dilation)
        mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * w[f"{bn}.weight"].view(-1, 1, 1) + w[f"{bn}.bias"].view(-1, 1, 1)

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (images - mean.view(3, 1, 1).to(images)) / std.view(3, 1, 1).to(images)
    x = conv_norm(x, "conv1", "bn1", 2).relu()
    maps = [x]
    x = F.max_pool2d(x, 3, 2, 1)
    for i, (stride, first, rest) in enumerate(plan):
        for j in range(STAGES[net.depth][i]):
            block, s, d = f"layer{i + 1}.{j}", stride if j == 0 else 1, first if j == 0 else rest
            if net.depth < 50:
                out = conv_norm(x, f"{block}.conv1", f"{block}.bn1", s, d).relu()
                out = conv_norm(out, f"{block}.conv2", f"{block}.bn2", 1, rest)
            else:
                out = conv_norm(x, f"{block}.conv1", f"{block}.bn1").relu()
                out = conv_norm(out, f"{block}.conv2", f"{block}.bn2", s, d).relu()
                out = conv_norm(out, f"{block}.conv3", f"{block}.bn3")
            if f"{block}.downsample.0.weight" in w:
                x = conv_norm(x, f"{block}.downsample.0", f"{block}.downsample.1", s)
            x = (x + out).relu()
        maps.append(x)
    return [*maps, x.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]]


@pytest.mark.parametrize(("replace", "plan"), [((False,) * 3, PLAN), (DILATED, DILATED_PLAN)], ids=["32", "8"])
@pytest.mark.parametrize("depth", [18, 50])
def test_maps_logits_and_all_gradients_are_those_of_the_layers_one_by_one(depth, replace, plan, device):
    net = seeded(ResNet(depth, num_classes=7, replace_stride_with_dilation=replace, width=4), device=device)
    images = torch.rand(2, 3, 45, 70, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(device)
    maps = net(images)
    mine, wanted = [*maps, net.classify(maps[-1])], twin(net, images, plan)
    results = []
    for outputs in (mine, wanted):
        total = sum((o * torch.linspace(0, 1, o.numel()).to(o).view(o.shape)).mean() for o in outputs)
        results.append([*outputs, *torch.autograd.grad(total, list(net.parameters()))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
        assert b.abs().max() > 0


@pytest.mark.parametrize("depth", [18, 50])
def test_with_dilation_the_rows_and_columns_that_a_stride_keeps_are_the_same(depth):
    """So that weights trained with strides keep their meaning. The sizes are odd."""
    strided = seeded(ResNet(depth, width=4)).eval()
    images = torch.rand(1, 3, 65, 118, dtype=torch.float64)
    wanted = strided(images)
    for replace, steps in (((False, False, True), (1, 1, 2)), (DILATED, (1, 2, 4)), ((True,) * 3, (2, 4, 8))):
        dilated = ResNet(depth, width=4, replace_stride_with_dilation=replace).double().eval()
        dilated.load_state_dict(strided.state_dict())
        for step, a, b in zip(steps, dilated(images)[2:], wanted[2:], strict=True):
            assert b.shape[2] > 1
            torch.testing.assert_close(a[:, :, ::step, ::step], b, rtol=1e-9, atol=1e-9)


def test_colours_are_normalised_by_imagenets_mean_and_deviation():
    net = ResNet(18, width=3).eval()
    weight = torch.zeros(3, 3, 7, 7)
    weight[[0, 1, 2], [0, 1, 2], 3, 3] = 1.0  # each channel as it is at every second pixel
    with torch.no_grad():
        net.conv1.weight.copy_(weight)
    image = torch.zeros(1, 4, 6, 3, dtype=torch.uint8)
    image[0, 2, 4] = torch.tensor([255, 204, 153], dtype=torch.uint8)  # 1, 0.8, 0.6
    stem = net(image)[0]
    wanted = [(1 - 0.485) / 0.229, (0.8 - 0.456) / 0.224, (0.6 - 0.406) / 0.225]
    assert stem[0, :, 1, 2].tolist() == pytest.approx(wanted, rel=1e-4)
    assert stem.sum().item() == pytest.approx(sum(wanted), rel=1e-4)  # black is below the mean: ReLU


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_and_floats_of_one_image_give_the_same(dtype):
    net = seeded(ResNet(18, width=4), dtype).eval()
    images = torch.randint(256, (2, 40, 56, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for a, b in zip(net(images), net(images.permute(0, 3, 1, 2).double() / 255), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_layout_of_the_maps_is_the_networks(layout):
    net = ResNet(18, width=4).to(memory_format=layout)
    for images in (torch.zeros(2, 64, 96, 3, dtype=torch.uint8), torch.zeros(2, 3, 64, 96)):
        assert all(m.is_contiguous(memory_format=layout) for m in net(images))


def test_an_image_of_one_pixel_and_a_batch_of_none_are_allowed():
    net = ResNet(18, num_classes=3, width=4).eval()
    assert [m.shape[2:] for m in net(torch.zeros(1, 1, 1, 3, dtype=torch.uint8))] == [(1, 1)] * 5
    maps = net(torch.zeros(0, 40, 56, 3, dtype=torch.uint8))
    assert maps[-1].shape == (0, 32, 2, 2)
    assert net.classify(maps[-1]).shape == (0, 3)


def test_autocast_to_bfloat16_is_near_and_trains(device):
    net = seeded(ResNet(18, num_classes=5, width=8), torch.float32, device)
    images = torch.randint(256, (4, 64, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = net.eval()(images.to(device))[-1]
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        out = net(images.to(device))[-1]
        assert (out - wanted).square().mean() < 1e-3 * wanted.square().mean()
        net.classify(net.train()(images.to(device))[-1]).float().logsumexp(1).sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in net.parameters())


# A teacher that is frozen.


def student_of(teacher: Frozen) -> nn.Module:
    return nn.ModuleDict({"teacher": teacher, "head": nn.Conv2d(32, 4, 1)})


def test_a_frozen_network_stays_in_evaluation_when_the_model_around_it_trains():
    model = student_of(Frozen(ResNet(18, width=4).train()))
    before = {name: w.clone() for name, w in model["teacher"].state_dict().items()}
    model.train()
    assert model.training
    assert model["head"].training
    assert not any(m.training for m in model["teacher"].modules())
    maps = model["teacher"](torch.randint(256, (2, 40, 56, 3), dtype=torch.uint8))
    model["head"](maps[-1]).square().mean().backward()
    assert all(torch.equal(w, before[name]) for name, w in model["teacher"].state_dict().items())  # statistics too
    model.eval().train()
    assert not any(m.training for m in model["teacher"].modules())


def test_a_frozen_network_gives_no_gradients_and_an_optimizer_leaves_it_alone():
    model = student_of(Frozen(ResNet(18, width=4)))
    before = {name: w.clone() for name, w in model.state_dict().items()}
    images = torch.rand(2, 3, 40, 56, requires_grad=True)
    maps = model["teacher"](images)
    assert not any(m.requires_grad for m in maps)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    model["head"](maps[-1]).square().mean().backward()
    optimizer.step()
    assert images.grad is None
    changed = {name for name, w in model.state_dict().items() if not torch.equal(w, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_copies_of_a_frozen_network_are_frozen():
    teacher = Frozen(ResNet(18, width=4))
    for copied in (copy.deepcopy(teacher), pickle.loads(pickle.dumps(teacher))):
        copied.train()
        assert not any(m.training for m in copied.modules())
        assert not any(p.requires_grad for p in copied.parameters())


# Files.


def trained(depth=18, classes=10, width=4) -> ResNet:
    return seeded(ResNet(depth, num_classes=classes, width=width), torch.float32)


def assert_same_weights(net: ResNet, theirs: ResNet, but: str = "fc.") -> None:
    wanted = theirs.state_dict()
    for name, w in net.state_dict().items():
        assert name.startswith(but) or torch.equal(w, wanted[name]), name


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "2016"])
@pytest.mark.parametrize("depth", [18, 50])
def test_torchvisions_file_loads_with_its_classes_or_without(depth, zipped, tmp_path):
    """Its oldest hold Parameters in the old format, and no count of batches."""
    theirs = trained(depth)
    state = OrderedDict((name, nn.Parameter(w, False)) for name, w in theirs.state_dict().items())
    if not zipped:
        state = OrderedDict((name, w) for name, w in state.items() if not name.endswith("num_batches_tracked"))
    torch.save(state, tmp_path / "resnet.pth", _use_new_zipfile_serialization=zipped)
    net = ResNet(depth, width=4)
    assert load_resnet(net, tmp_path / "resnet.pth") is net
    assert_same_weights(net, theirs)
    assert_same_weights(load_resnet(ResNet(depth, num_classes=10, width=4), str(tmp_path / "resnet.pth")), theirs, "-")


@pytest.mark.parametrize("version", [1, 2])
def test_of_mocos_checkpoint_the_query_encoder_loads_without_its_embedding(version, tmp_path):
    """As facebookresearch/moco's main_moco.py writes it; v2 embeds with two layers."""
    query, key = trained(50, 8), seeded(ResNet(50, width=4), torch.float64).float()
    with torch.no_grad():
        for w in key.parameters():
            w.mul_(0.9)
    state = {"module.queue": torch.zeros(8, 64), "module.queue_ptr": torch.zeros(1).long()}
    for name, w in query.state_dict().items():
        if not name.startswith("fc."):
            state |= {f"module.encoder_q.{name}": w, f"module.encoder_k.{name}": key.state_dict()[name]}
    for layer in ("fc",) if version == 1 else ("fc.0", "fc.2"):
        for encoder in ("encoder_q", "encoder_k"):
            state |= {
                f"module.{encoder}.{layer}.weight": torch.ones(8, 128),
                f"module.{encoder}.{layer}.bias": torch.ones(8),
            }
    checkpoint = {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}
    torch.save(checkpoint, tmp_path / "moco.pth.tar")
    assert_same_weights(load_resnet(ResNet(50, width=4), tmp_path / "moco.pth.tar"), query)
    net = ResNet(50, num_classes=8, width=4)
    before = net.fc.weight.clone()
    assert_same_weights(load_resnet(net, tmp_path / "moco.pth.tar"), query)
    assert torch.equal(net.fc.weight, before)


def test_a_part_of_a_model_loads_by_its_prefix_and_parallel_training_changes_nothing(tmp_path):
    theirs = trained()
    state = {f"teacher.net.{name}": w for name, w in theirs.state_dict().items()} | {"head.weight": torch.zeros(3)}
    save_file(state, tmp_path / "model.safetensors")
    net = load_resnet(ResNet(18, width=4), tmp_path / "model.safetensors", prefix="teacher.net.")
    assert_same_weights(net, theirs)
    parallel = {f"module.{name}": w for name, w in theirs.state_dict().items()}
    assert_same_weights(load_resnet(ResNet(18, width=4), {"state_dict": parallel}), theirs)


@pytest.mark.parametrize(
    ("depth", "name", "file"),
    [
        (18, "IMAGENET1K_V1", "resnet18-f37072fd.pth"),
        (34, "IMAGENET1K_V1", "resnet34-b627a593.pth"),
        (50, "IMAGENET1K_V1", "resnet50-0676ba61.pth"),
        (50, "IMAGENET1K_V2", "resnet50-11ad3fa6.pth"),
        (101, "IMAGENET1K_V1", "resnet101-63fe2227.pth"),
        (101, "IMAGENET1K_V2", "resnet101-cd907fc2.pth"),
    ],
)
def test_by_torchvisions_name_its_file_is_fetched_checked_and_read_without_running_it(depth, name, file, monkeypatch):
    theirs, asked = trained(depth), []

    def fetch(url, **options):
        asked.append((url, options))
        return theirs.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    assert_same_weights(load_resnet(ResNet(depth, width=4), name), theirs)
    options = {"map_location": "cpu", "check_hash": True, "weights_only": True}
    assert asked == [(f"https://download.pytorch.org/models/{file}", options)]


def test_torch_hub_takes_what_it_is_asked(tmp_path, monkeypatch):
    """A file that it has already: so nothing is fetched."""
    theirs = trained()
    torch.save(theirs.state_dict(), tmp_path / "weights")
    digest = hashlib.sha256((tmp_path / "weights").read_bytes()).hexdigest()[:8]
    monkeypatch.setattr("pyproj2d3d.nn.resnet.TORCHVISION", {"IMAGENET1K_V1": {18: digest}})
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "weights").rename(tmp_path / "checkpoints" / f"resnet18-{digest}.pth")
    assert_same_weights(load_resnet(ResNet(18, width=4), "IMAGENET1K_V1"), theirs)


def test_nothing_is_fetched_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("fetched"))
    ResNet(18, width=4)
    torch.save(trained().state_dict(), tmp_path / "m.pth")
    load_resnet(ResNet(18, width=4), tmp_path / "m.pth")
    with pytest.raises(FileNotFoundError, match="IMAGENET1K_V3"):
        load_resnet(ResNet(18, width=4), "IMAGENET1K_V3")


def loaded(weights, depth=18, classes=None, **options):
    return lambda: load_resnet(ResNet(depth, num_classes=classes, width=4), weights, **options)


def images(*shape, dtype=torch.float32):
    return lambda: ResNet(18, width=4)(torch.zeros(shape, dtype=dtype))


VIT = {
    "cls_token": torch.zeros(1),
    "pos_embed": torch.zeros(1),
    "patch_embed.weight": torch.zeros(1),
    "d": torch.zeros(1),
}
UNFINISHED = {k: w for k, w in trained().state_dict().items() if not k.startswith("layer3.1.")}
BAD = {
    "a depth of 20": (lambda: ResNet(20), ValueError, "depth must be 18, 34, 50 or 101, got 20"),
    "two stages to dilate": (
        lambda: ResNet(replace_stride_with_dilation=(True, True)),
        ValueError,
        "replace_stride_with_dilation must be three, got (True, True)",
    ),
    "no width": (lambda: ResNet(width=0), ValueError, "width must be at least 1, got 0"),
    "no classes": (lambda: ResNet(num_classes=0), ValueError, "num_classes must be at least 1, got 0"),
    "logits without classes": (
        lambda: ResNet(18, width=4).classify(torch.zeros(1, 32, 1, 1)),
        ValueError,
        "num_classes must be given to classify, got None",
    ),
    "bytes with channels first": (
        images(2, 3, 40, 56, dtype=torch.uint8),
        ValueError,
        "images must have shape (*, *, *, 3), got (2, 3, 40, 56)",
    ),
    "floats with channels last": (
        images(2, 40, 56, 3),
        ValueError,
        "images must have shape (*, 3, *, *), got (2, 40, 56, 3)",
    ),
    "one image": (images(3, 40, 56), ValueError, "images must have shape (*, 3, *, *), got (3, 40, 56)"),
    "integers": (
        images(2, 3, 40, 56, dtype=torch.int64),
        TypeError,
        "images must be uint8 or float16 or bfloat16 or float32 or float64, got int64",
    ),
    "a list": (lambda: ResNet(18, width=4)([1]), TypeError, "images must be a tensor, got list"),
    "weights of another depth": (
        loaded(trained(34).state_dict()),
        ValueError,
        "source must hold a ResNet-18, got a ResNet-34",
    ),
    "a bottleneck for a basic block": (
        loaded(trained(50).state_dict(), 34),
        ValueError,
        "source must hold a ResNet-34, got a ResNet-50",
    ),
    "a network of other names": (
        loaded(VIT),
        ValueError,
        "source must hold a ResNet-18, got other weights: cls_token, pos_embed, patch_embed.weight, ...",
    ),
    "a ResNet of no known depth": (
        loaded(UNFINISHED),
        ValueError,
        "source must hold a ResNet-18, got a residual network of (2, 2, 1, 2) blocks",
    ),
    "a prefix that nothing has": (
        loaded(trained().state_dict(), prefix="backbone."),
        ValueError,
        "source must hold a ResNet-18, got no weights below 'backbone.'",
    ),
    "another width": (
        loaded(trained(width=8).state_dict()),
        ValueError,
        "the weights do not fit ResNet: bn1.bias must have shape (4,), got (8,); ",
    ),
    "another number of classes": (
        loaded(trained().state_dict(), classes=13),
        ValueError,
        "the weights do not fit ResNet: fc.bias must have shape (13,), got (10,); fc.weight must have shape (13, 32), ",
    ),
    "a name that torchvision has for others": (
        loaded("IMAGENET1K_V2"),
        ValueError,
        "source of a ResNet-18 must be 'IMAGENET1K_V1', got 'IMAGENET1K_V2'",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_resnet_says_what_is_wrong(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_of_a_file_of_another_network_the_file_is_named_and_nothing_is_loaded(tmp_path):
    torch.save(trained(34).state_dict(), tmp_path / "m.pth")
    net = ResNet(18, width=4)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'm.pth'} must hold a ResNet-18, got a ResNet-34")):
        load_resnet(net, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="and 92 more"):  # of 100 weights and statistics of another shape
        load_resnet(net, trained(width=8).state_dict())
    assert all(torch.equal(w, before[name]) for name, w in net.state_dict().items())
