"""What does a feature map say at a pixel?"""

import math

import by_hand
import pytest
import torch
from scenes import SIZE, assert_close, assert_same_bits, make_matches, make_scene
from torch.nn.functional import grid_sample, interpolate

from pyproj2d3d import reference, sample

NATIVE_AND_REFERENCE = pytest.mark.parametrize("sampled", [sample, reference.sample], ids=["native", "reference"])


def row_map(values, device, dtype=torch.float32) -> torch.Tensor:
    """One view, one channel, one row."""
    return torch.tensor([[[values]]], device=device, dtype=dtype)


def along(us, device, dtype=torch.float32) -> torch.Tensor:
    """uv (1, N, 2) with v = 0."""
    return torch.tensor([[[u, 0.0] for u in us]], device=device, dtype=dtype)


def all_pixels(views: int, size: tuple[int, int], device) -> torch.Tensor:
    """uv (V, H W, 2) of every pixel, in raster order."""
    v, u = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    return torch.stack((u, v), dim=-1).view(1, -1, 2).expand(views, -1, -1).double().to(device)


def test_a_map_of_the_image_size_is_read_as_it_is(device, feature_dtype):
    maps = row_map([1.0, 2.0, 4.0], device, feature_dtype)
    matches = make_matches([[(0, 2), (5, 0)]], 6, (1, 3), device)
    out = sample(maps, matches, (1, 3))
    assert out.tolist() == [[4], [1]]
    assert out.dtype == feature_dtype


def test_between_two_pixels_lies_their_mean(device, dtype):
    out = sample(row_map([1.0, 2.0, 4.0], device), along([0.5, 1.25, 2.25, -0.25], device, dtype), (1, 3))
    assert out.flatten().tolist() == [1.5, 2.5, 4, 1]


def test_a_half_size_map_has_its_centres_between_the_pixels(device):
    """Cells 0 and 1 are centred on u = 0.5 and u = 2.5; beyond them the map goes on as it ends."""
    out = sample(row_map([0.0, 8.0], device), along([0, 0.5, 1, 1.5, 2, 2.5, 3], device), (1, 4))
    assert out.flatten().tolist() == [0, 0, 2, 4, 6, 8, 8]


def test_with_align_corners_the_outer_cells_lie_on_the_outer_pixels(device):
    out = sample(row_map([0.0, 8.0], device), along([0, 1, 2, 3, 4], device), (1, 5), align_corners=True)
    assert out.flatten().tolist() == [0, 2, 4, 6, 8]


def test_nearest_takes_the_cell_whose_centre_is_nearest(device, feature_dtype):
    maps = row_map([1.0, 2.0], device, feature_dtype)
    uv = along([0, 1, 1.49, 1.51, 2, 3], device)
    assert sample(maps, uv, (1, 4), mode="nearest").flatten().tolist() == [1, 1, 1, 2, 2, 2]
    assert sample(maps, uv, (1, 4), mode="nearest", align_corners=True).flatten().tolist() == [1, 1, 1, 2, 2, 2]


def test_normalized_rows_have_length_one(device, feature_dtype):
    maps = torch.tensor([3.0, 4.0, 0.0], device=device, dtype=feature_dtype).view(1, 3, 1, 1)
    out = sample(
        maps,
        along([0.0], device, feature_dtype if feature_dtype == torch.float64 else torch.float32),
        (1, 1),
        normalize=True,
    )
    assert_close(out[0], torch.tensor([[0.6, 0.8, 0]], device=device, dtype=feature_dtype))


def test_a_row_of_zeros_stays_zero_when_normalized(device, feature_dtype):
    maps = torch.zeros(1, 3, 1, 1, device=device, dtype=feature_dtype, requires_grad=True)
    out = sample(maps, make_matches([[(0, 0)]], 1, (1, 1), device), (1, 1), normalize=True)
    assert out.tolist() == [[0, 0, 0]]
    out.sum().backward()
    assert not maps.grad.isnan().any()


def test_lengths_below_1e_12_are_divided_by_1e_12(device):
    maps = torch.tensor([3e-13, 4e-13], device=device, dtype=torch.float64).view(1, 2, 1, 1)
    out = sample(maps, make_matches([[(0, 0)]], 1, (1, 1), device), (1, 1), normalize=True)
    assert_close(out, torch.tensor([[0.3, 0.4]], device=device, dtype=torch.float64))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("outside", [-0.51, 2.5, math.nan, math.inf, -math.inf, 1e30])
def test_outside_the_frame_is_zero_and_has_no_gradient(outside, mode, device, dtype):
    maps = torch.ones(1, 1, 3, 3, device=device, dtype=dtype, requires_grad=True)
    uv = torch.tensor([[[outside, 1.0], [1.0, outside], [1.25, 1.25]]], device=device, dtype=dtype, requires_grad=True)
    out = sample(maps, uv, (3, 3), mode=mode)
    assert out.flatten().tolist() == [0, 0, 1]
    (out * torch.tensor([[[5.0], [7.0], [1.0]]], device=device, dtype=dtype)).sum().backward()
    assert maps.grad.sum() == 1
    if mode == "bilinear":  # nearest has no gradient to uv at all
        assert uv.grad[0, :2].tolist() == [[0, 0], [0, 0]]


def test_the_edge_of_the_frame_is_inside(device, dtype):
    out = sample(row_map([1.0, 2.0, 4.0], device), along([-0.5, 2.4999], device, dtype), (1, 3))
    assert out.flatten().tolist() == [1, 4]


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("cells", [(1, 1), (1, 5), (7, 3), (12, 16), (48, 64), (50, 100)], ids=str)
def test_all_pixels_make_the_interpolated_image(sampled, cells, align_corners, device):
    maps = make_scene(1, 2, feature_dtype=torch.float64, cells=cells, device=device).maps
    image = interpolate(maps, SIZE, mode="bilinear", align_corners=align_corners)
    expected = image.permute(0, 2, 3, 1).reshape(2, -1, 5)
    uv = all_pixels(2, SIZE, device)
    assert_close(sampled(maps, uv, SIZE, align_corners=align_corners), expected)
    pixels = torch.arange(SIZE[0] * SIZE[1]).tolist()
    matches = make_matches([list(zip(pixels, pixels, strict=True))] * 2, len(pixels), SIZE, device)
    assert_close(sampled(maps, matches, SIZE, align_corners=align_corners), expected.flatten(0, 1))


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("cells", [(1, 1), (6, 7), (12, 16), (48, 64), (47, 63)], ids=str)
def test_nearest_is_nearest_exact(sampled, cells, device):
    """Sizes at which no pixel is as near to one centre as to another."""
    maps = make_scene(1, 2, cells=cells, device=device).maps
    expected = interpolate(maps, SIZE, mode="nearest-exact").permute(0, 2, 3, 1).reshape(2, -1, 5)
    assert_same_bits(sampled(maps, all_pixels(2, SIZE, device).float(), SIZE, mode="nearest"), expected)


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_float_pixels_equal_grid_sample_with_border_padding(sampled, align_corners, mode, device):
    maps = make_scene(1, 3, feature_dtype=torch.float64, device=device).maps
    rng = torch.Generator().manual_seed(0)
    uv = (torch.rand(3, 500, 2, generator=rng, dtype=torch.float64) * torch.tensor([64.0, 48.0]) - 0.5).to(device)
    full = torch.tensor([64.0, 48.0], dtype=torch.float64, device=device)
    grid = 2 * uv / (full - 1) - 1 if align_corners else (2 * uv + 1) / full - 1
    there = grid_sample(maps, grid[:, None], mode=mode, padding_mode="border", align_corners=align_corners)
    assert_close(sampled(maps, uv, SIZE, mode=mode, align_corners=align_corners), there[:, :, 0].transpose(1, 2))


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("cells", [(5, 9), (1, 2)])
def test_equals_loops_over_places(sampled, cells, normalize, align_corners, mode, device):
    maps = make_scene(1, 2, feature_dtype=torch.float64, cells=cells).maps
    uv = (torch.rand(2, 60, 2, generator=torch.Generator().manual_seed(1)).double() * 14 - 2).to(torch.float64)
    keywords = {"mode": mode, "align_corners": align_corners, "normalize": normalize}
    out = sampled(maps.to(device), uv.to(device), (10, 11), **keywords).cpu()
    assert (out == 0).all(dim=-1).any()
    for view in range(2):
        for i, (u, v) in enumerate(uv[view].tolist()):
            expected = by_hand.sample(maps[view].numpy(), u, v, (10, 11), **keywords)
            assert_close(out[view, i], torch.from_numpy(expected))


def test_one_pixel_wide_images_have_no_corners_to_align(device):
    out = sample(row_map([3.0, 9.0], device), along([0.0, 0.25], device), (1, 1), align_corners=True)
    assert out.flatten().tolist() == [3, 3]


@pytest.mark.parametrize("n", [0, 1, 2000])
@pytest.mark.parametrize("views", [0, 1, 5])
def test_agrees_with_reference(n, views, device, feature_dtype):
    of_uv = torch.float64 if feature_dtype == torch.float64 else torch.float32
    scene = make_scene(n, views, of_uv, feature_dtype, device, channels=7)
    uv = reference.project(scene.points, scene.camera)[..., :2]
    assert sample(scene.maps, uv, SIZE).shape == (views, n, 7)
    for places in (uv, scene.matches):
        for mode, align_corners, normalize in (
            ("bilinear", False, False),
            ("bilinear", True, True),
            ("nearest", False, True),
        ):
            arguments = (scene.maps, places, SIZE)
            keywords = {"mode": mode, "align_corners": align_corners, "normalize": normalize}
            assert_close(sample(*arguments, **keywords), reference.sample(*arguments, **keywords))


@pytest.mark.parametrize("cells", [(4, 6), (13, 7), (96, 128), (31, 33)], ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
def test_nearest_copies_the_very_cell_that_reference_copies(cells, align_corners, device, dtype):
    """Also where two centres are equally near."""
    scene = make_scene(1, 2, dtype, cells=cells, device=device)
    for size in (SIZE, (6, 9), (10, 14)):
        uv = all_pixels(2, size, device).to(dtype)
        keywords = {"mode": "nearest", "align_corners": align_corners}
        assert_same_bits(sample(scene.maps, uv, size, **keywords), reference.sample(scene.maps, uv, size, **keywords))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_cell_that_is_not_finite_shows(bad, normalize, device, feature_dtype):
    """A row of unknown length must not come out as one divided by 1e-12."""
    maps = torch.tensor([1.0, bad, 2.0], device=device, dtype=feature_dtype).view(1, 3, 1, 1)
    arguments = maps, make_matches([[(0, 0)]], 1, (1, 1), device), (1, 1)
    out = sample(*arguments, normalize=normalize)
    assert_close(out, reference.sample(*arguments, normalize=normalize))
    assert not out[0, 1].isfinite()
    assert out[0].isnan().all() == normalize


@pytest.mark.parametrize("channels", [0, 1, 3, 8, 64, 65])
def test_any_number_of_channels(channels, device, feature_dtype):
    scene = make_scene(200, 2, feature_dtype=feature_dtype, device=device, channels=channels)
    out = sample(scene.maps, scene.matches, SIZE)
    assert out.shape == (len(scene.matches.point), channels)
    assert_close(out, reference.sample(scene.maps, scene.matches, SIZE))


@pytest.mark.parametrize("normalize", [False, True])
def test_channels_last_maps_give_the_same_bits(normalize, device, feature_dtype):
    scene = make_scene(300, 2, feature_dtype=feature_dtype, device=device, channels=8)
    contiguous = sample(scene.maps, scene.matches, SIZE, normalize=normalize)
    last = scene.maps.to(memory_format=torch.channels_last)
    assert_same_bits(sample(last, scene.matches, SIZE, normalize=normalize), contiguous)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_gradients(mode, align_corners, normalize, device):
    maps = make_scene(1, 2, feature_dtype=torch.float64, cells=(2, 3), channels=2, device=device).maps.requires_grad_()
    rng = torch.Generator().manual_seed(3)
    uv = (torch.rand(2, 6, 2, generator=rng, dtype=torch.float64) * 9 - 1).to(device).requires_grad_()
    matches = make_matches([[(0, 0), (1, 5), (2, 5)], [(1, 17)]], 3, (6, 8), device)
    keywords = {"mode": mode, "align_corners": align_corners, "normalize": normalize}
    assert torch.autograd.gradcheck(lambda m, at: sample(m, at, (6, 8), **keywords), (maps, uv))
    assert torch.autograd.gradcheck(lambda m: sample(m, matches, (6, 8), **keywords), (maps,))


@pytest.mark.parametrize("align_corners", [False, True])
def test_gradients_equal_those_of_grid_sample_with_border_padding(align_corners, device):
    maps = make_scene(1, 1, feature_dtype=torch.float64, device=device).maps.requires_grad_()
    rng = torch.Generator().manual_seed(0)
    full = torch.tensor([64.0, 48.0], dtype=torch.float64)
    uv = torch.rand(1, 300, 2, generator=rng, dtype=torch.float64) * full - 0.5
    uv, full = uv.to(device).requires_grad_(), full.to(device)
    weight = torch.randn(1, 300, 5, generator=rng, dtype=torch.float64).to(device)
    grid = 2 * uv / (full - 1) - 1 if align_corners else (2 * uv + 1) / full - 1
    there = grid_sample(maps, grid[:, None], padding_mode="border", align_corners=align_corners)[:, :, 0].transpose(
        1, 2
    )
    expected = torch.autograd.grad((there * weight).sum(), (maps, uv))
    here = sample(maps, uv, SIZE, align_corners=align_corners)
    assert_close(torch.autograd.grad((here * weight).sum(), (maps, uv)), expected)


def test_on_the_outermost_centres_the_gradient_to_the_pixels_is_0(device, dtype):
    """There the map goes flat: as grid_sample has it, at both ends."""
    uv = along([0.25, 0.5, 0.75, 6.25, 6.5, 6.75], device, dtype).requires_grad_()
    sample(row_map([0.0, 8.0, 12.0, 14.0], device), uv, (1, 8)).sum().backward()
    assert uv.grad[0, :, 0].tolist() == [0, 0, 4, 1, 0, 0]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_maps_and_pixels_may_be_of_different_dtypes(mode, normalize, device, dtype, feature_dtype):
    scene = make_scene(500, 2, dtype, feature_dtype, device)
    arguments, keywords = (scene.maps, scene.uvz[..., :2], SIZE), {"mode": mode, "normalize": normalize}
    assert_close(sample(*arguments, **keywords), reference.sample(*arguments, **keywords))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_short_maps_are_summed_in_float32(dtype, device):
    maps = torch.zeros(1, 1, 1, 1, dtype=dtype, device=device, requires_grad=True)
    sample(maps, make_matches([[(n, 0) for n in range(3000)]], 3000, (1, 1), device), (1, 1)).sum().backward()
    assert maps.grad.item() == torch.tensor(3000.0).to(dtype).item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("normalize", [False, True])
def test_short_maps_are_interpolated_in_float32_and_rounded_once(normalize, dtype, device):
    scene = make_scene(500, 2, feature_dtype=dtype, device=device, channels=16)
    in_float32 = sample(scene.maps.float(), scene.matches, SIZE, normalize=normalize)
    assert_same_bits(sample(scene.maps, scene.matches, SIZE, normalize=normalize), in_float32.to(dtype))


MAPS, UV = torch.ones(2, 5, 3, 4), torch.ones(2, 7, 2)
MATCHES = make_matches([[(0, 0)], []], 4, (4, 6))
OTHER_SIZE = r"matches were made for images of size \(4, 6\), got size \(6, 4\)"
BAD = {
    "maps of one view": ((MAPS[0], UV, (4, 6)), {}, ValueError, r"maps must .*got \(5, 3, 4\)"),
    "maps of integers": ((MAPS.long(), UV, (4, 6)), {}, TypeError, r"maps must .*got int64"),
    "maps as a list": ((MAPS.tolist(), UV, (4, 6)), {}, TypeError, r"maps must .*got list"),
    "maps without cells": ((MAPS[:, :, :0], UV, (4, 6)), {}, ValueError, r"maps must .*got \(2, 5, 0, 4\)"),
    "uv and z": ((MAPS, torch.ones(2, 7, 3), (4, 6)), {}, ValueError, r"uv must .*got \(2, 7, 3\)"),
    "uv of one view": ((MAPS, UV[0], (4, 6)), {}, ValueError, r"uv must .*got \(7, 2\)"),
    "uv of fewer views": ((MAPS, UV[:1], (4, 6)), {}, ValueError, r"uv must .*got \(1, 7, 2\)"),
    "uv of integers": ((MAPS, UV.long(), (4, 6)), {}, TypeError, r"uv must .*got int64"),
    "uv in half precision": ((MAPS, UV.half(), (4, 6)), {}, TypeError, r"uv must .*got float16"),
    "uv as a list": ((MAPS, UV.tolist(), (4, 6)), {}, TypeError, r"uv must .*got list"),
    "uv elsewhere": ((MAPS, UV.to("meta"), (4, 6)), {}, ValueError, r"uv must .*got meta"),
    "matches of fewer views": ((MAPS, MATCHES[0], (4, 6)), {}, ValueError, r"(matches|maps) must .*got (1|2)"),
    "matches of another size": ((MAPS, MATCHES, (6, 4)), {}, ValueError, OTHER_SIZE),
    "matches elsewhere": ((MAPS, MATCHES.to("meta"), (4, 6)), {}, ValueError, r"matches.* must .*got meta"),
    "no height": ((MAPS, UV, (0, 6)), {}, ValueError, r"size must .*got \(0, 6\)"),
    "a size of floats": ((MAPS, UV, (4.5, 6)), {}, TypeError, r"size must .*got \(4.5, 6\)"),
    "an unknown mode": ((MAPS, UV, (4, 6)), {"mode": "bicubic"}, ValueError, r"mode must .*got .?bicubic"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_sample_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        sample(*arguments, **keywords)
