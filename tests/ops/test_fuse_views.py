"""What do all views together say about each point?"""

import by_hand
import numpy as np
import pytest
import torch
from scenes import SIZE, Scene, assert_close, assert_same_bits, make_matches, make_scene

import pyproj2d3d
from pyproj2d3d import fuse_views, reference


def streamed(scene_maps, matches, n_points, size, reduce="mean", **keywords):
    """fuse_views by ViewFuser, one view at a time."""
    fuser = pyproj2d3d.ViewFuser(n_points, scene_maps.shape[1], reduce)
    for view, seen in zip(scene_maps, matches, strict=True):
        fuser.add(view, seen, size, **keywords)
    return fuser.result()


def two_views(device, dtype=torch.float32):
    """Point 0 is seen by both views, point 1 by the first, point 2 by none, point 3 by the second."""
    maps = torch.tensor([[[[1.0, -2.0]]], [[[3.0, -8.0]]]], device=device, dtype=dtype)
    return maps, make_matches([[(0, 0), (1, 1)], [(0, 0), (3, 1)]], 4, (1, 2), device)


def test_the_mean_over_the_views_that_see_a_point(device, feature_dtype):
    features, count = fuse_views(*two_views(device, feature_dtype), 4, (1, 2))
    assert features.tolist() == [[2], [-2], [0], [-8]]
    assert count.tolist() == [2, 1, 0, 1]
    assert (features.dtype, count.dtype) == (feature_dtype, torch.int32)


def test_the_maximum_over_the_views_that_see_a_point(device, feature_dtype):
    features, count = fuse_views(*two_views(device, feature_dtype), 4, (1, 2), reduce="max")
    assert features.tolist() == [[3], [-2], [0], [-8]]
    assert count.tolist() == [2, 1, 0, 1]


def test_maps_are_normalized_before_they_are_fused(device):
    maps = torch.tensor([[3.0, 4.0], [0.0, 5.0]], device=device).view(2, 2, 1, 1)
    matches = make_matches([[(0, 0)], [(0, 0)]], 1, (1, 1), device)
    features, _ = fuse_views(maps, matches, 1, (1, 1), normalize=True)
    assert_close(features, torch.tensor([[0.3, 0.9]], device=device))


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(("align_corners", "normalize"), [(False, False), (True, True)])
@pytest.mark.parametrize("fused_by", [fuse_views, reference.fuse_views], ids=["native", "reference"])
def test_equals_loops_over_views_and_matches(fused_by, align_corners, normalize, mode, reduce):
    scene = make_scene(300, 4, torch.float64, torch.float64)
    keywords = {"mode": mode, "align_corners": align_corners, "normalize": normalize}
    rows = [[] for _ in range(300)]
    for view, seen in enumerate(scene.matches):
        for point, pixel in zip(seen.point.tolist(), seen.pixel.tolist(), strict=True):
            v, u = divmod(pixel, SIZE[1])
            rows[point].append(by_hand.sample(scene.maps[view].numpy(), float(u), float(v), SIZE, **keywords))
    over_views = {"mean": np.mean, "max": np.max}[reduce]
    expected = np.stack([over_views(r, axis=0) if r else np.zeros(5) for r in rows])
    features, count = fused_by(scene.maps, scene.matches, 300, SIZE, reduce=reduce, **keywords)
    assert_close(features, torch.from_numpy(expected))
    assert count.tolist() == [len(r) for r in rows]
    assert {0, 1, 2} <= set(count.tolist())


@pytest.mark.parametrize("n", [0, 1, 3000])
@pytest.mark.parametrize("views", [0, 1, 5])
def test_agrees_with_reference(n, views, device, feature_dtype):
    scene = make_scene(n, views, feature_dtype=feature_dtype, device=device, channels=7)
    for reduce in ("mean", "max"):
        for keywords in ({}, {"mode": "nearest", "normalize": True}, {"align_corners": True}):
            arguments, keywords = (scene.maps, scene.matches, n, SIZE), keywords | {"reduce": reduce}
            assert_close(fuse_views(*arguments, **keywords), reference.fuse_views(*arguments, **keywords))


@pytest.mark.parametrize("channels", [0, 1, 3, 8, 64, 65, 512])
def test_any_number_of_channels(channels, device, feature_dtype):
    scene = make_scene(100, 2, feature_dtype=feature_dtype, device=device, channels=channels)
    features, count = fuse_views(scene.maps, scene.matches, 100, SIZE)
    assert features.shape == (100, channels)
    assert_close((features, count), reference.fuse_views(scene.maps, scene.matches, 100, SIZE))


@pytest.mark.parametrize("reduce", ["mean", "max"])
@pytest.mark.parametrize("keywords", [{}, {"mode": "nearest"}, {"align_corners": True, "normalize": True}], ids=str)
def test_a_view_at_a_time_gives_the_same_bits(keywords, reduce, device, feature_dtype):
    scene = make_scene(500, 5, feature_dtype=feature_dtype, device=device)
    together = fuse_views(scene.maps, scene.matches, 500, SIZE, reduce=reduce, **keywords)
    assert_same_bits(streamed(scene.maps, scene.matches, 500, SIZE, reduce, **keywords), together)


def test_the_result_of_a_fuser_may_be_read_between_views(device):
    maps, matches = two_views(device)
    fuser = pyproj2d3d.ViewFuser(4, 1)
    fuser.add(maps[0], matches[0], (1, 2))
    assert [t.tolist() for t in fuser.result()] == [[[1], [-2], [0], [0]], [1, 1, 0, 0]]
    fuser.add(maps[1], matches[1], (1, 2))
    assert [t.tolist() for t in fuser.result()] == [[[2], [-2], [0], [-8]], [2, 1, 0, 1]]
    assert fuser.result()[0].tolist() == [[2], [-2], [0], [-8]]


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_a_fuser_that_saw_nothing_gives_zeros(reduce):
    features, count = pyproj2d3d.ViewFuser(3, 2, reduce).result()
    assert features.tolist() == [[0, 0]] * 3
    assert count.tolist() == [0] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_maps_are_summed_in_float32_and_rounded_once(dtype, device):
    """A running mean in their own dtype would lose the small views; eighths sum exactly in float32."""
    eighths = torch.randint(-2048, 2048, (40, 3, 2, 2), generator=torch.Generator().manual_seed(0)) / 8
    maps = eighths.to(dtype).to(device)
    matches = make_matches([[(n, n) for n in range(4)]] * 40, 4, (2, 2), device)
    expected = fuse_views(maps.float(), matches, 4, (2, 2))[0].to(dtype)
    assert_same_bits(fuse_views(maps, matches, 4, (2, 2))[0], expected)
    exact = maps.double().mean(dim=0).flatten(1).T
    torch.testing.assert_close(expected.double(), exact, rtol=2.0 ** -(11 if dtype == torch.float16 else 8), atol=1e-6)


def test_gradient_of_the_mean_is_shared_among_the_views(device):
    maps, matches = two_views(device)
    fuse_views(maps.requires_grad_(), matches, 4, (1, 2))[0].sum().backward()
    assert maps.grad.tolist() == [[[[0.5, 1.0]]], [[[0.5, 1.0]]]]


def test_gradient_of_the_maximum_goes_to_the_view_it_came_from(device):
    maps, matches = two_views(device)
    fuse_views(maps.requires_grad_(), matches, 4, (1, 2), reduce="max")[0].sum().backward()
    assert maps.grad.tolist() == [[[[0.0, 1.0]]], [[[1.0, 1.0]]]]


def test_gradient_of_equal_maxima_goes_to_the_lower_view(device):
    maps = torch.tensor([1.0, 5.0, 5.0], device=device).view(3, 1, 1, 1).requires_grad_()
    matches = make_matches([[(0, 0)]] * 3, 1, (1, 1), device)
    fuse_views(maps, matches, 1, (1, 1), reduce="max")[0].sum().backward()
    assert maps.grad.flatten().tolist() == [0, 1, 0]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("reduce", "mode"), [("mean", "bilinear"), ("mean", "nearest"), ("max", "bilinear")])
def test_gradient(mode, reduce, normalize, device):
    maps = make_scene(1, 3, feature_dtype=torch.float64, cells=(3, 4), channels=3, device=device).maps.requires_grad_()
    matches = make_matches([[(0, 0), (1, 5), (2, 5)], [(1, 17)], [(0, 40), (2, 23), (4, 23)]], 5, (6, 8), device)

    def fused(maps):
        return fuse_views(maps, matches, 5, (6, 8), reduce=reduce, mode=mode, normalize=normalize)[0]

    assert torch.autograd.gradcheck(fused, (maps,))


def test_the_count_carries_no_gradient(device):
    maps, matches = two_views(device)
    features, count = fuse_views(maps.requires_grad_(), matches, 4, (1, 2))
    assert features.requires_grad
    assert not count.requires_grad


def wrong(**change):
    """The arguments of a good call, one of them changed."""
    good = {"maps": MAPS, "matches": MATCHES, "n_points": 4, "size": (4, 6)}
    return good | change


MAPS, MATCHES = torch.ones(2, 5, 3, 4), make_matches([[(0, 0)], []], 4, (4, 6))
OTHER_CLOUD = "matches were made for 4 points, got 3"
OTHER_SIZE = r"matches were made for images of size \(4, 6\), got size \(6, 4\)"
BAD = {
    "maps of one view": (wrong(maps=MAPS[0]), ValueError, r"maps must .*got \(5, 3, 4\)"),
    "maps of integers": (wrong(maps=MAPS.int()), TypeError, r"maps must .*got int32"),
    "maps as a list": (wrong(maps=MAPS.tolist()), TypeError, r"maps must .*got list"),
    "maps without cells": (wrong(maps=MAPS[..., :0]), ValueError, r"maps must .*got \(2, 5, 3, 0\)"),
    "matches of fewer views": (wrong(matches=MATCHES[0]), ValueError, r"(matches|maps) must .*got (1|2)"),
    "matches elsewhere": (wrong(matches=MATCHES.to("meta")), ValueError, r"matches must .*got meta"),
    "matches as a tensor": (wrong(matches=MATCHES.point), TypeError, r"matches must .*got Tensor"),
    "another cloud": (wrong(n_points=3), ValueError, OTHER_CLOUD),
    "a negative cloud": (wrong(matches=make_matches([[], []]), n_points=-1), ValueError, r"n_points must .*got -1"),
    "half a point": (wrong(n_points=2.5), TypeError, r"n_points must .*got 2.5"),
    "another size": (wrong(size=(6, 4)), ValueError, OTHER_SIZE),
    "no height": (wrong(size=(0, 6)), ValueError, r"size must .*got \(0, 6\)"),
    "an unknown reduce": (wrong(reduce="median"), ValueError, r"reduce must .*got .?median"),
    "an unknown mode": (wrong(mode="bicubic"), ValueError, r"mode must .*got .?bicubic"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD.keys())
def test_fuse_views_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        fuse_views(**arguments)


BAD_VIEWS = {
    "two views at once": ((MAPS, MATCHES[0], (4, 6)), ValueError, r"map .*must .*got .*\(2, 5, 3, 4\)"),
    "a map without channels": ((MAPS[0, 0], MATCHES[0], (4, 6)), ValueError, r"map must .*got \(3, 4\)"),
    "other channels": ((MAPS[0, :4], MATCHES[0], (4, 6)), ValueError, r"map .*must .* 5 channels, got .*\(4, 3, 4\)"),
    "matches of two views": ((MAPS[0], MATCHES, (4, 6)), ValueError, "matches must .*got .* 2 views"),
    "another size": ((MAPS[0], MATCHES[0], (6, 4)), ValueError, OTHER_SIZE),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_VIEWS.values(), ids=BAD_VIEWS.keys())
def test_a_fuser_says_what_is_wrong_with_a_view(arguments, error, message):
    fuser = pyproj2d3d.ViewFuser(4, 5)
    with pytest.raises(error, match=message):
        fuser.add(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 5), "n_points must .*got -1"),
        ((4, -1), "channels must .*got -1"),
        ((4, 5, "median"), "reduce must .*got .?median"),
    ],
)
def test_a_fuser_says_what_is_wrong_with_itself(arguments, message):
    with pytest.raises(ValueError, match=message):
        pyproj2d3d.ViewFuser(*arguments)


def test_a_fuser_that_saw_nothing_gives_float32_whatever_the_default():
    torch.set_default_dtype(torch.float64)
    try:
        assert pyproj2d3d.ViewFuser(3, 2).result()[0].dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_view_that_is_refused_leaves_a_fuser_as_it_was():
    fuser = pyproj2d3d.ViewFuser(1, 1)
    with pytest.raises(ValueError, match="match 0 is point 9"):
        fuser.add(torch.ones(1, 1, 1), make_matches([[(9, 0)]]), (1, 1))
    fuser.add(torch.ones(1, 1, 1, dtype=torch.float64), make_matches([[(0, 0)]]), (1, 1))
    assert [t.tolist() for t in fuser.result()] == [[[1.0]], [1]]


def test_fusing_does_not_change_its_inputs(device):
    scene = make_scene(50, 2, device=device)
    before = Scene(**{**vars(scene), "maps": scene.maps.clone()})
    fuse_views(scene.maps, scene.matches, 50, SIZE, normalize=True)
    assert_same_bits(scene.maps, before.maps)
