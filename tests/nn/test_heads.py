"""Are features projected as PPKT says, and are those of chosen pixels the same without the upsampled map?"""

import re

import pytest
import torch
import torch.nn.functional as F

from pyproj2d3d import Camera, back_project, sample
from pyproj2d3d.nn.heads import PlainProjection, PointProjection, UpsampledProjection

SIZES = [((48, 64), (2, 2)), ((47, 66), (3, 5)), ((6, 9), (6, 9)), ((5, 7), (1, 1)), ((7, 5), (9, 4))]  # images, maps
both_conventions = pytest.mark.parametrize("align_corners", [False, True], ids=["half", "corners"])


def projection(align_corners=False, dtype=torch.float64, device="cpu", c=6, out=4) -> UpsampledProjection:
    torch.manual_seed(0)
    return UpsampledProjection(c, out, align_corners=align_corners).to(device, dtype)


def some_features(*shape, dtype=torch.float64, device="cpu"):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(device, dtype).requires_grad_()


# The upsampled map.


def test_between_two_orthogonal_features_the_middle_has_both_in_equal_parts():
    """Upsampled, then of unit length: the other way round it would be as long as sqrt(1/2)."""
    head = UpsampledProjection(2, 2, align_corners=True)
    with torch.no_grad():
        head.conv.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        head.conv.bias.zero_()
    out = head(torch.tensor([[[[4.0, 0.0]], [[0.0, 4.0]]]]), (1, 3))  # two cells: (4, 0) and (0, 4)
    torch.testing.assert_close(out[0, :, 0], torch.tensor([[1, 0.5**0.5, 0], [0, 0.5**0.5, 1]]))


@both_conventions
@pytest.mark.parametrize(("size", "cells"), SIZES, ids=str)
def test_it_is_a_convolution_then_upsampling_then_unit_length(size, cells, align_corners, device):
    head, features = projection(align_corners, device=device), some_features(2, 6, *cells, device=device)
    small = torch.einsum("bchw,dc->bdhw", features, head.conv.weight[:, :, 0, 0]) + head.conv.bias.view(-1, 1, 1)
    torch.testing.assert_close(head.small_map(features), small)
    big = F.interpolate(small, size, mode="bilinear", align_corners=align_corners)
    out = head(features, size)
    assert out.shape == (2, 4, *size)
    torch.testing.assert_close(out, big / big.square().sum(1, keepdim=True).sqrt())


@both_conventions
@pytest.mark.parametrize(("size", "cells"), SIZES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chosen_pixels_and_their_gradients_are_the_same_without_the_upsampled_map(
    size, cells, align_corners, dtype, device
):
    """Some twice, some without depth, in no order; the sums of gradients are compared by their size."""
    head = projection(align_corners, dtype, device)
    features = some_features(2, 6, *cells, dtype=dtype, device=device)
    rng, n = torch.Generator().manual_seed(2), 2 * size[0] * size[1]
    pixels = torch.randint(n, (150,), generator=rng).to(device)
    camera = Camera(torch.eye(3), torch.eye(4).expand(2, 4, 4), size).to(device)
    depth = torch.rand(2, *size, generator=rng).to(device).round()  # half of it 0
    weight = torch.randn(150, 4, generator=rng, dtype=torch.float64).to(device, dtype)

    with torch.backends.cudnn.flags(allow_tf32=False):
        big = head(features, size).permute(0, 2, 3, 1).reshape(n, 4)[pixels]
        small = head.small_map(features)
        cloud = back_project(depth, camera, small, pixels=pixels, normalize=True, align_corners=align_corners)
        uv = torch.stack((pixels % size[1], pixels // size[1] % size[0]), 1).to(dtype)
        at = sample(small, uv.expand(2, -1, -1), size, align_corners=align_corners, normalize=True)
        at = at[pixels // (size[0] * size[1]), torch.arange(150, device=device)]

        tolerance = 1e-6 if dtype == torch.float32 else 1e-13
        wanted = [big, *torch.autograd.grad((big * weight).sum(), [features, *head.parameters()], retain_graph=True)]
        for rows in (cloud.features, at):
            mine = [
                rows,
                *torch.autograd.grad((rows * weight).sum(), [features, *head.parameters()], retain_graph=True),
            ]
            for a, b in zip(mine, wanted, strict=True):
                assert b.abs().max() > 1e-3
                assert (a - b).abs().max() <= tolerance * max(1, b.abs().max())


def test_the_upsampled_map_need_not_be_built(monkeypatch):
    monkeypatch.setattr(F, "interpolate", lambda *a, **k: pytest.fail("upsampled"))
    head = projection(dtype=torch.float32, c=32, out=128)
    camera = Camera(torch.eye(3), torch.eye(4).expand(2, 4, 4), (480, 640))
    small = head.small_map(some_features(2, 32, 15, 20, dtype=torch.float32))
    assert small.shape == (2, 128, 15, 20)
    pixels = torch.arange(0, 2 * 480 * 640, 1000)
    cloud = back_project(torch.ones(2, 480, 640), camera, small, pixels=pixels, normalize=True)
    assert torch.allclose(cloud.features.norm(dim=1), torch.ones(len(pixels)))


# The plain one, and the points'.


def test_the_plain_projection_keeps_the_resolution(device):
    torch.manual_seed(0)
    head = PlainProjection(6, 4).to(device, torch.float64)
    features = some_features(2, 6, 7, 9, device=device)
    small = torch.einsum("bchw,dc->bdhw", features, head.conv.weight[:, :, 0, 0]) + head.conv.bias.view(-1, 1, 1)
    torch.testing.assert_close(head.small_map(features), small)
    torch.testing.assert_close(head(features), small / small.norm(dim=1, keepdim=True))


@both_conventions
def test_at_the_images_resolution_pixels_of_the_plain_projection_are_its_cells(align_corners):
    torch.manual_seed(0)
    head, features = PlainProjection(6, 4), some_features(2, 6, 7, 9, dtype=torch.float32)
    camera = Camera(torch.eye(3), torch.eye(4).expand(2, 4, 4), (7, 9))
    pixels = torch.randperm(2 * 7 * 9)
    small = head.small_map(features)
    cloud = back_project(torch.ones(2, 7, 9), camera, small, pixels=pixels, normalize=True, align_corners=align_corners)
    torch.testing.assert_close(cloud.features, head(features).permute(0, 2, 3, 1).reshape(-1, 4)[pixels])


def test_points_share_a_linear_layer_and_come_out_with_unit_length(device):
    torch.manual_seed(0)
    head, rows = PointProjection(5, 3).to(device, torch.float64), some_features(10, 5, device=device)
    wanted = rows @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(rows), wanted / wanted.norm(dim=1, keepdim=True))
    assert head(rows[:0]).shape == (0, 3)


def test_the_paper_projects_to_128_channels():
    assert UpsampledProjection(2048).conv.out_channels == 128
    assert PlainProjection(2048).conv.out_channels == 128
    assert PointProjection(96).linear.out_features == 128


@pytest.mark.parametrize(
    ("make", "shape", "more"),
    [
        (UpsampledProjection, (1, 3, 2, 2), ((4, 4),)),
        (PlainProjection, (1, 3, 2, 2), ()),
        (PointProjection, (4, 3), ()),
    ],
)
def test_a_feature_of_0_stays_0_and_has_no_infinite_gradient(make, shape, more):
    head = make(3, 2)
    torch.nn.init.zeros_((head.linear if make is PointProjection else head.conv).bias)
    features = torch.zeros(shape, requires_grad=True)
    out = head(features, *more)
    assert not out.any()
    out.sum().backward()
    assert features.grad.isfinite().all()


def test_features_come_out_in_float32_under_autocast(device):
    features = some_features(1, 6, 3, 4, dtype=torch.float32, device=device)
    upsampled, plain = projection(dtype=torch.float32, device=device), PlainProjection(6, 4).to(device)
    points, rows = PointProjection(6, 4).to(device), features.flatten(2)[0].T
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        outs = upsampled(features, (6, 8)), upsampled.small_map(features), plain(features), points(rows)
    assert [out.dtype for out in outs] == [torch.float32] * 4
    for out in (outs[0], outs[2], outs[3]):
        torch.testing.assert_close(out.norm(dim=1), torch.ones_like(out[:, 0]), rtol=1e-6, atol=1e-6)


MAP, ROWS = torch.zeros(2, 6, 3, 4), torch.zeros(5, 6)
BAD = {
    "no input": (lambda: UpsampledProjection(0), ValueError, "in_channels must be at least 1, got 0"),
    "no output": (lambda: PlainProjection(6, 0), ValueError, "out_channels must be at least 1, got 0"),
    "half a channel": (lambda: PointProjection(0.5), TypeError, "in_channels must be an integer, got 0.5"),
    "half an output": (lambda: PointProjection(6, 0.5), TypeError, "out_channels must be an integer, got 0.5"),
    "other channels": (
        lambda: UpsampledProjection(8)(MAP, (6, 8)),
        ValueError,
        "features must have shape (*, 8, *, *), got (2, 6, 3, 4)",
    ),
    "rows for a map": (
        lambda: PlainProjection(6)(ROWS),
        ValueError,
        "features must have shape (*, 6, *, *), got (5, 6)",
    ),
    "a map for rows": (
        lambda: PointProjection(6)(MAP),
        ValueError,
        "features must have shape (*, 6), got (2, 6, 3, 4)",
    ),
    "integers": (
        lambda: PointProjection(6)(ROWS.long()),
        TypeError,
        "features must be float16 or bfloat16 or float32 or float64, got int64",
    ),
    "one number for a size": (
        lambda: UpsampledProjection(6)(MAP, 8),
        TypeError,
        "size must be two integers (H, W), got 8",
    ),
    "a size of 0": (lambda: UpsampledProjection(6)(MAP, (0, 8)), ValueError, "size must be positive"),
}


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_heads_say_what_is_wrong(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
