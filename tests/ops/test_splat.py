"""What do images of point features look like?"""

import pytest
import torch
from scenes import SIZE, assert_close, assert_same_bits, make_matches, make_scene

from pyproj2d3d import reference, splat

INDEX = [[[-1, 0], [1, 0]]]


def test_each_pixel_takes_the_features_of_its_point(device, feature_dtype):
    features = torch.tensor([[1.0, 10.0], [2.0, 20.0]], device=device, dtype=feature_dtype)
    image = splat(features, torch.tensor(INDEX, device=device))
    assert image.tolist() == [[[[0, 1], [2, 1]], [[0, 10], [20, 10]]]]
    assert image.dtype == feature_dtype


def test_point_0_is_not_the_same_as_empty(device):
    image = splat(torch.full((1, 1), 7.0, device=device), torch.tensor([[[0, -1]]], device=device))
    assert image.tolist() == [[[[7.0, 0.0]]]]


def test_images_are_channels_last(device):
    scene = make_scene(50, 2, channels=8, device=device)
    index = torch.zeros(2, 6, 7, dtype=torch.int64, device=device)
    for image in (splat(scene.features, index), splat(scene.features, scene.matches, SIZE)):
        assert image.is_contiguous(memory_format=torch.channels_last)
        assert not image.is_contiguous()


def test_features_that_are_not_finite_stay_in_their_pixels(device):
    features = torch.tensor([[torch.nan], [torch.inf], [3.0]], device=device)
    image = splat(features, torch.tensor([[[0, 1, 2, -1]]], device=device))[0, 0, 0].tolist()
    assert image[0] != image[0]
    assert image[1:] == [torch.inf, 3.0, 0.0]


def test_the_mean_of_all_points_of_a_pixel(device, feature_dtype):
    features = torch.tensor([[1.0], [2.0], [6.0]], device=device, dtype=feature_dtype)
    matches = make_matches([[(0, 1), (1, 1), (2, 2)], [(2, 0)]], 3, (1, 4), device)
    assert splat(features, matches, (1, 4)).tolist() == [[[[0, 1.5, 6, 0]]], [[[6, 0, 0, 0]]]]
    assert splat(features, matches, (1, 4), reduce="mean").tolist() == splat(features, matches, (1, 4)).tolist()


def test_the_sum_of_all_points_of_a_pixel(device, feature_dtype):
    features = torch.tensor([[1.0], [2.0], [6.0]], device=device, dtype=feature_dtype)
    matches = make_matches([[(0, 1), (1, 1), (2, 2)], [(2, 0)]], 3, (1, 4), device)
    assert splat(features, matches, (1, 4), reduce="sum").tolist() == [[[[0, 3, 6, 0]]], [[[6, 0, 0, 0]]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_features_are_summed_in_float32(dtype, device):
    """In their own dtype a running sum of ones would stop at 2048, in bfloat16 at 256."""
    ones = torch.ones(5000, 1, dtype=dtype, device=device)
    matches = make_matches([[(n, 0) for n in range(5000)]], 5000, (1, 1), device)
    assert splat(ones, matches, (1, 1)).item() == 1
    assert splat(ones, matches, (1, 1), reduce="sum").item() == torch.tensor(5000.0).to(dtype).item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_features_are_rounded_once(dtype, device):
    eighths = (torch.randint(-64, 64, (1000, 3), generator=torch.Generator().manual_seed(0)) / 8).to(device)
    pairs = [(n, n % 11) for n in range(1000)]  # sums of eighths are exact in float32, in whatever order
    matches = make_matches([pairs], 1000, (3, 4), device)
    expected = splat(eighths, matches, (3, 4)).to(dtype)
    assert_same_bits(splat(eighths.to(dtype), matches, (3, 4)), expected)


@pytest.mark.parametrize("n", [0, 1, 3000])
@pytest.mark.parametrize("views", [0, 1, 5])
def test_agrees_with_reference(n, views, device, feature_dtype):
    scene = make_scene(n, views, feature_dtype=feature_dtype, device=device, channels=7)
    index = reference.zbuffer(reference.project(scene.points, scene.camera), SIZE, radius=1)[0]
    assert_same_bits(splat(scene.features, index), reference.splat(scene.features, index))
    assert_close(splat(scene.features, scene.matches, SIZE), reference.splat(scene.features, scene.matches, SIZE))


@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4, 8, 31, 32, 96])
def test_any_number_of_channels(channels, device, feature_dtype):
    scene = make_scene(200, 2, feature_dtype=feature_dtype, device=device, channels=channels)
    index = reference.zbuffer(reference.project(scene.points, scene.camera), SIZE)[0]
    image = splat(scene.features, index)
    assert image.shape == (2, channels, *SIZE)
    assert_same_bits(image, reference.splat(scene.features, index))
    assert splat(scene.features, scene.matches, SIZE).shape == (2, channels, *SIZE)


def test_no_points_make_empty_images(device):
    none = torch.zeros(0, 2, device=device)
    image = splat(none, torch.full((1, 2, 3), -1, device=device))
    assert image.shape == (1, 2, 2, 3)
    assert (image == 0).all()
    assert (splat(none, make_matches([[]], 0, (2, 3), device), (2, 3)) == 0).all()


def test_the_gradient_of_a_point_is_the_sum_over_its_pixels(device, feature_dtype):
    features = torch.tensor([[1.0], [2.0], [3.0]], device=device, dtype=feature_dtype, requires_grad=True)
    weight = torch.tensor([[[[1.0, 2], [4, 8]]]], device=device, dtype=feature_dtype)
    (splat(features, torch.tensor(INDEX, device=device)) * weight).sum().backward()
    assert features.grad.tolist() == [[10], [4], [0]]


def test_the_gradient_of_a_mean_is_shared(device):
    features = torch.ones(3, 1, device=device, requires_grad=True)
    matches = make_matches([[(0, 0), (1, 0)], [(0, 0)]], 3, (1, 1), device)
    splat(features, matches, (1, 1)).sum().backward()
    assert features.grad.tolist() == [[1.5], [0.5], [0]]
    features.grad = None
    splat(features, matches, (1, 1), reduce="sum").sum().backward()
    assert features.grad.tolist() == [[2], [1], [0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_short_features_are_summed_in_float32(dtype, device):
    features = torch.zeros(1, 1, dtype=dtype, device=device, requires_grad=True)
    splat(features, torch.zeros(1, 60, 50, dtype=torch.int64, device=device)).sum().backward()
    assert features.grad.item() == torch.tensor(3000.0).to(dtype).item()


def test_gradient(device):
    scene = make_scene(12, 2, feature_dtype=torch.float64, device=device, channels=3)
    index = torch.randint(-1, 12, (2, 3, 4), generator=torch.Generator().manual_seed(0)).to(device)
    features = scene.features.requires_grad_()
    matches = make_matches([[(0, 0), (1, 0), (2, 3)], [(0, 1), (5, 1), (7, 1)]], 12, (2, 2), device)
    assert torch.autograd.gradcheck(lambda f: splat(f, index), (features,))
    assert torch.autograd.gradcheck(lambda f: splat(f, matches, (2, 2)), (features,))
    assert torch.autograd.gradcheck(lambda f: splat(f, matches, (2, 2), reduce="sum"), (features,))


FEATURES, WINNERS = torch.ones(4, 2), torch.zeros(1, 4, 6, dtype=torch.int64)
MATCHES = make_matches([[(0, 0)]], 4, (4, 6))
OTHER_CLOUD = "matches were made for 4 points, got 3"
OTHER_SIZE = r"matches were made for images of size \(4, 6\), got size \(6, 4\)"
BAD = {
    "features without channels": ((FEATURES[:, 0], WINNERS), ValueError, r"features must .*got \(4,\)"),
    "features of integers": ((FEATURES.long(), WINNERS), TypeError, r"features must .*got int64"),
    "features as a list": ((FEATURES.tolist(), WINNERS), TypeError, r"features must .*got list"),
    "index without views": ((FEATURES, WINNERS[0]), ValueError, r"index must .*got \(4, 6\)"),
    "index of floats": ((FEATURES, WINNERS.float()), TypeError, r"index must .*got float32"),
    "index of int32": ((FEATURES, WINNERS.int()), TypeError, r"index must .*got int32"),
    "index as a list": ((FEATURES, WINNERS.tolist()), TypeError, r"index must .*got list"),
    "index elsewhere": ((FEATURES, WINNERS.to("meta")), ValueError, r"index must .*got meta"),
    "index with another size": ((FEATURES, WINNERS, (6, 4)), ValueError, r"size must .*got \(6, 4\)"),
    "matches without a size": ((FEATURES, make_matches([[(0, 0)]])), (TypeError, ValueError), r"size must .*got None"),
    "matches of another size": ((FEATURES, MATCHES, (6, 4)), ValueError, OTHER_SIZE),
    "matches of another cloud": ((FEATURES[:3], MATCHES, (4, 6)), ValueError, OTHER_CLOUD),
    "matches elsewhere": ((FEATURES, MATCHES.to("meta"), (4, 6)), ValueError, r"(index|matches) must .*got meta"),
    "an index beyond the points": ((FEATURES, WINNERS + 4), ValueError, "index must be within -1 and 3, got 4 to 4"),
    "an index below -1": ((FEATURES, WINNERS - 2), ValueError, "index must be within -1 and 3, got -2 to -2"),
    "an unknown reduce": ((FEATURES, MATCHES, (4, 6), "median"), ValueError, r"reduce must .*got .?median"),
    "no width": ((FEATURES, make_matches([[(0, 0)]]), (4, 0)), ValueError, r"size must .*got \(4, 0\)"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD.keys())
def test_splat_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        splat(*arguments)
