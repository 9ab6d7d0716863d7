"""Which point does each pixel see?"""

import math

import by_hand
import pytest
import torch
from scenes import SIZE, assert_same_bits, make_matches, make_scene

from pyproj2d3d import reference, visibility, zbuffer


def projected(n, views, dtype, device, seed=0) -> torch.Tensor:
    scene = make_scene(n, views, dtype, device=device, seed=seed)
    return reference.project(scene.points, scene.camera)


def literal(points, device, dtype) -> torch.Tensor:
    return torch.tensor([points], device=device, dtype=dtype)


def test_nearer_point_wins(device, dtype):
    index, depth = zbuffer(literal([[1.0, 0.0, 2.0], [1.2, 0.1, 1.0]], device, dtype), (1, 3))
    assert index.tolist() == [[[-1, 1, -1]]]
    assert depth.tolist() == [[[0.0, 1.0, 0.0]]]
    assert (index.dtype, depth.dtype) == (torch.int64, dtype)


def test_equal_depths_go_to_the_lower_index(device, dtype):
    index, _ = zbuffer(
        literal([[1, 0, 3.0], [0, 0, 2.0], [0.25, 0, 2.0], [0, 0, 2.0]], device, dtype), (1, 2), radius=1
    )
    assert index.tolist() == [[[1, 1]]]


def test_depths_that_differ_only_in_float64_are_told_apart(device):
    farther = 1.0 + 1e-12
    points = [[0, 0, farther], [0, 0, 1.0]]
    assert zbuffer(literal(points, device, torch.float64), (1, 1))[0].item() == 1
    assert zbuffer(literal(points, device, torch.float32), (1, 1))[0].item() == 0


@pytest.mark.parametrize("z", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf])
def test_what_has_no_depth_ahead_is_ignored(z, device, dtype):
    index, depth = zbuffer(literal([[0, 0, z], [0, 0, 5.0]], device, dtype), (1, 1))
    assert index.item() == 1
    assert depth.item() == 5


@pytest.mark.parametrize("u", [math.nan, math.inf, -math.inf, -0.6, 1.5, 1e30])
def test_what_lies_outside_is_ignored(u, device, dtype):
    for point in ([u, 0, 1.0], [0, u, 1.0]):
        index, depth = zbuffer(literal([point], device, dtype), (1, 1) if u == 1.5 else (1, 2))
        if point == [u, 0, 1.0] or u != 1.5:
            assert index.max() == -1
            assert depth.max() == 0


def test_the_smallest_and_the_largest_depths_count(device, dtype):
    info = torch.finfo(dtype)
    points = [[0, 0, info.max], [1, 0, info.max], [1, 0, info.tiny]]
    index, depth = zbuffer(literal(points, device, dtype), (1, 2))
    assert index.tolist() == [[[0, 2]]]
    assert depth.tolist() == [[[info.max, info.tiny]]]


def test_a_radius_of_one_covers_3x3_pixels(device, dtype):
    index, depth = zbuffer(literal([[1, 1, 2.0], [3, 2, 1.0]], device, dtype), (4, 5), radius=1)
    assert index.tolist() == [[[0, 0, 0, -1, -1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [-1, -1, 1, 1, 1]]]
    assert depth[0, 1].tolist() == [2, 2, 1, 1, 1]


def test_a_point_outside_the_frame_does_not_reach_in(device, dtype):
    index, _ = zbuffer(literal([[-1, 0, 1.0], [3, 0, 1.0]], device, dtype), (1, 3), radius=1)
    assert index.tolist() == [[[-1, -1, -1]]]


def test_a_radius_beyond_the_image_covers_it(device):
    index, _ = zbuffer(literal([[0, 0, 1.0]], device, torch.float32), (3, 4), radius=100)
    assert (index == 0).all()


def test_a_stride_of_two_keeps_every_second_row_and_column(device, dtype):
    points = [[0, 0, 1.0], [1, 0, 1.0], [2, 2, 1.0], [4, 1, 1.0]]
    index, depth = zbuffer(literal(points, device, dtype), (3, 5), stride=2)
    assert index.tolist() == [[[0, -1, -1], [-1, 2, -1]]]
    assert depth.shape == (1, 2, 3)


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("stride", [2, 5, 8, 47, 48, 1000])
def test_a_stride_equals_slicing_the_full_result(radius, stride, device, dtype):
    uvz = projected(2000, 3, dtype, device)
    index, depth = zbuffer(uvz, SIZE, radius=radius)
    rows = slice(None, None, stride)
    assert_same_bits(zbuffer(uvz, SIZE, radius=radius, stride=stride), (index[:, rows, rows], depth[:, rows, rows]))


def test_only_matched_points_take_part(device, dtype):
    uvz = torch.tensor([[[0, 0, 1.0], [0, 0, 2.0], [1, 0, 3.0]], [[0, 0, 1.0], [1, 0, 2.0], [1, 0, 3.0]]], dtype=dtype)
    matches = make_matches([[(1, 0), (2, 1)], [(0, 0)]], 3, (1, 2), device)
    index, depth = zbuffer(uvz.to(device), (1, 2), matches=matches)
    assert index.tolist() == [[[1, 2]], [[0, -1]]]
    assert depth.tolist() == [[[2, 3]], [[1, 0]]]


def test_with_matches_equals_the_matched_points_alone(device, dtype):
    scene = make_scene(2000, 1, dtype, device=device)
    matches = visibility(scene.points, scene.camera, scene.depth, tolerance=(0.05, 0.0, 0.0))
    uvz = reference.project(scene.points, scene.camera)
    index, depth = zbuffer(uvz, SIZE, radius=1, matches=matches)
    alone, alone_depth = zbuffer(uvz[:, matches.point.long()], SIZE, radius=1)
    assert_same_bits(depth, alone_depth)
    assert torch.equal(index, torch.where(alone < 0, alone, matches.point.long()[alone.clamp(min=0)]))
    assert 0 < len(matches.point) < 2000


@pytest.mark.parametrize("keywords", [{}, {"radius": 1}, {"radius": 2, "stride": 3}], ids=str)
@pytest.mark.parametrize("seen_by", [zbuffer, reference.zbuffer], ids=["native", "reference"])
def test_equals_loops_over_points_and_pixels(seen_by, keywords, dtype):
    uvz = projected(500, 3, dtype, torch.device("cpu"))
    index, depth = by_hand.zbuffer(uvz.numpy(), SIZE, **keywords)
    assert_same_bits(seen_by(uvz, SIZE, **keywords), (torch.from_numpy(index.copy()), torch.from_numpy(depth.copy())))


@pytest.mark.parametrize("seen_by", [zbuffer, reference.zbuffer], ids=["native", "reference"])
def test_equals_loops_over_matches(seen_by, dtype):
    scene = make_scene(500, 3, dtype)
    matches = reference.visibility(scene.points, scene.camera, scene.depth, tolerance=(0.05, 0.0, 0.0))
    uvz = reference.project(scene.points, scene.camera)
    chosen = [set(view.point.tolist()) for view in matches]
    index, depth = by_hand.zbuffer(uvz.numpy(), SIZE, 1, chosen=chosen)
    assert_same_bits(seen_by(uvz, SIZE, radius=1, matches=matches), (torch.from_numpy(index), torch.from_numpy(depth)))


@pytest.mark.parametrize("n", [0, 1, 3000])
@pytest.mark.parametrize("views", [0, 1, 5])
def test_agrees_with_reference(n, views, device, dtype):
    scene = make_scene(n, views, dtype, device=device)
    uvz = reference.project(scene.points, scene.camera)
    for keywords in ({}, {"radius": 1}, {"radius": 1, "stride": 8}, {"matches": scene.matches, "stride": 2}):
        assert_same_bits(zbuffer(uvz, SIZE, **keywords), reference.zbuffer(uvz, SIZE, **keywords))


def test_the_gradient_of_depth_goes_to_the_z_of_the_winner(device, dtype):
    uvz = literal([[1.0, 0.0, 2.0], [1.2, 0.1, 1.0], [5.0, 0.0, 1.0]], device, dtype).requires_grad_()
    _, depth = zbuffer(uvz, (1, 3), radius=1)
    (depth * torch.tensor([1.0, 2.0, 4.0], device=device, dtype=dtype)).sum().backward()
    assert uvz.grad.tolist() == [[[0, 0, 0], [0, 0, 7], [0, 0, 0]]]


@pytest.mark.parametrize("keywords", [{}, {"radius": 1}, {"radius": 2, "stride": 3}], ids=str)
def test_gradient_of_depth(keywords, device):
    rng = torch.Generator().manual_seed(0)
    uv = 10 * torch.rand(2, 12, 2, generator=rng, dtype=torch.float64).to(device)
    z = (1 + torch.randperm(24, generator=rng).double().view(2, 12, 1)).to(device).requires_grad_()  # no near ties
    assert torch.autograd.gradcheck(lambda z: zbuffer(torch.cat((uv, z), dim=-1), (8, 9), **keywords)[1], (z,))


def test_gradient_of_depth_with_matches(device):
    uv = torch.zeros(1, 3, 2, dtype=torch.float64, device=device)
    z = torch.tensor([[[1.0], [2.0], [3.0]]], dtype=torch.float64, device=device, requires_grad=True)
    matches = make_matches([[(1, 0), (2, 0)]], 3, (1, 1), device)
    depth = zbuffer(torch.cat((uv, z), dim=-1), (1, 1), matches=matches)[1]
    depth.sum().backward()
    assert z.grad.flatten().tolist() == [0, 1, 0]


def test_the_index_carries_no_gradient(device):
    index, depth = zbuffer(projected(10, 1, torch.float32, device).requires_grad_(), SIZE)
    assert not index.requires_grad
    assert depth.requires_grad


UVZ = torch.ones(2, 4, 3)
MATCHES = make_matches([[(0, 0)], []], 4, (4, 6))
OTHER_CLOUD = "matches were made for 4 points, got 3"
OTHER_SIZE = r"matches were made for images of size \(4, 6\), got size \(6, 4\)"
BAD = {
    "one view without its axis": ((UVZ[0], (4, 6)), {}, ValueError, r"uvz must .*got \(4, 3\)"),
    "no z": ((UVZ[..., :2], (4, 6)), {}, ValueError, r"uvz must .*got \(2, 4, 2\)"),
    "half precision": ((UVZ.half(), (4, 6)), {}, TypeError, r"uvz must .*got float16"),
    "a list": ((UVZ.tolist(), (4, 6)), {}, TypeError, r"uvz must .*got list"),
    "no height": ((UVZ, (0, 6)), {}, ValueError, r"size must .*got \(0, 6\)"),
    "a size of floats": ((UVZ, (4.5, 6)), {}, TypeError, r"size must .*got \(4.5, 6\)"),
    "negative radius": ((UVZ, (4, 6)), {"radius": -1}, ValueError, r"radius must .*got -1"),
    "half a radius": ((UVZ, (4, 6)), {"radius": 0.5}, TypeError, r"radius must .*got 0.5"),
    "stride of 0": ((UVZ, (4, 6)), {"stride": 0}, ValueError, r"stride must .*got 0"),
    "negative stride": ((UVZ, (4, 6)), {"stride": -2}, ValueError, r"stride must .*got -2"),
    "matches of fewer views": ((UVZ, (4, 6)), {"matches": MATCHES[0]}, ValueError, r"matches must .*got 1"),
    "matches of another cloud": ((UVZ[:, :3], (4, 6)), {"matches": MATCHES}, ValueError, OTHER_CLOUD),
    "matches of another size": ((UVZ, (6, 4)), {"matches": MATCHES}, ValueError, OTHER_SIZE),
    "matches elsewhere": ((UVZ, (4, 6)), {"matches": MATCHES.to("meta")}, ValueError, r"matches must .*got meta"),
    "matches as a tensor": ((UVZ, (4, 6)), {"matches": MATCHES.point}, TypeError, r"matches must .*got Tensor"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_zbuffer_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        zbuffer(*arguments, **keywords)
