"""Which points does each view see, and at which pixels?"""

import math

import by_hand
import pytest
import torch
from scenes import CPU, SIZE, assert_same_bits, make_scene, simple_camera, unit_camera

from pyproj2d3d import Camera, Matches, project, reference, visibility, zbuffer

EXACT = (0.0, 0.0, 0.0)


def seen(xyz, camera, *arguments, **keywords) -> list[tuple[int, int]]:
    """(point, pixel) of the only view."""
    points = torch.tensor(xyz, dtype=camera.dtype, device=camera.device).reshape(-1, 3)
    matches = visibility(points, camera, *arguments, **({"tolerance": EXACT} | keywords))
    return list(zip(matches.point.tolist(), matches.pixel.tolist(), strict=True))


def test_points_in_the_frame_are_seen_and_others_are_not(device, dtype):
    camera = unit_camera(3, 2, dtype, device)
    points = [[2, 0, 1], [0, 1, 1], [3, 0, 1], [0, -1, 1], [0, 0, -1], [2, 2, 2]]
    assert seen(points, camera) == [(0, 2), (1, 3), (5, 4)]


def test_matches_of_two_views_lie_one_after_the_other(device):
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, 0, 3] = 1.0  # the second camera stands one metre to the right
    camera = Camera(torch.eye(3), pose, (1, 3)).to(device)
    points = torch.tensor([[0.0, 0, 1], [1, 0, 1], [2, 0, 1], [3, 0, 1]], device=device)
    matches = visibility(points, camera, tolerance=EXACT)
    assert matches.ptr.tolist() == [0, 3, 6]
    assert matches.point.tolist() == [0, 1, 2, 1, 2, 3]
    assert matches.pixel.tolist() == [0, 1, 2, 0, 1, 2]
    assert matches.view.tolist() == [0, 0, 0, 1, 1, 1]
    assert matches[1].point.tolist() == [1, 2, 3]
    assert (matches.ptr.dtype, matches.point.dtype, matches.pixel.dtype) == (torch.int64, torch.int32, torch.int32)
    assert (matches.n_points, matches.size) == (4, (1, 3))
    assert matches.ptr.device.type == matches.point.device.type == matches.pixel.device.type == device.type


@pytest.mark.parametrize(
    ("u", "pixel"),
    [
        (-0.5, 0),
        (-0.5001, None),
        (0.4999, 0),
        (0.5, 1),
        (1.5, 2),
        (2.4999, 2),
        (2.5, None),
        (-0.0, 0),
        (math.nan, None),
    ],
)
def test_the_nearest_pixel_is_the_floor_of_u_plus_a_half(u, pixel, device, dtype):
    expected = [] if pixel is None else [(0, pixel)]
    assert seen([[u, 0, 1]], unit_camera(3, 1, dtype, device)) == expected
    in_a_column = [] if pixel is None else [(0, pixel)]
    assert seen([[0, u, 1]], unit_camera(1, 3, dtype, device)) == in_a_column


def test_a_border_of_one_pixel(device):
    camera = unit_camera(4, 3, device=device)
    points = [[x, y, 1] for y in range(3) for x in range(4)]
    assert seen(points, camera, border=1) == [(5, 5), (6, 6)]
    assert seen(points, camera, border=2) == []
    assert len(seen(points, camera, border=0)) == 12


def test_the_range_of_z_is_open_at_both_ends(device, dtype):
    points = [[0, 0, 0.5], [0, 0, 0.75], [0, 0, 2], [0, 0, math.inf]]
    camera = unit_camera(1, 1, dtype, device)
    assert [point for point, _ in seen(points, camera, z_min=0.5, z_max=2)] == [1]
    assert [point for point, _ in seen(points, camera)] == [0, 1, 2]


def test_points_nearer_than_a_centimetre_are_not_seen_by_default(device, dtype):
    assert seen([[0, 0, 0.009], [0, 0, 0.01], [0, 0, 0.011]], unit_camera(1, 1, dtype, device)) == [(2, 0)]


def test_only_the_point_on_the_surface_is_seen(device, dtype):
    depth = torch.tensor([[[2.0, 3.0]]], dtype=dtype, device=device)
    points = [[0, 0, 2], [0, 0, 3], [3, 0, 3], [2, 0, 2], [0, 0, 1]]
    assert seen(points, unit_camera(2, 1, dtype, device), depth) == [(0, 0), (2, 1)]


def test_a_point_is_seen_at_exactly_the_tolerance_on_both_sides(device, dtype):
    depth = torch.full((1, 1, 1), 2.0, dtype=dtype, device=device)
    points = [[0, 0, 1.75], [0, 0, 2.25], [0, 0, 1.625], [0, 0, 2.375]]
    camera = unit_camera(1, 1, dtype, device)
    assert [point for point, _ in seen(points, camera, depth, tolerance=0.25)] == [0, 1]
    assert [point for point, _ in seen(points, camera, depth, tolerance=(0.25, 0.0, 0.0))] == [0, 1]


@pytest.mark.parametrize("tolerance", [(0.5, 0.0, 0.0), (0.0, 0.25, 0.0), (0.0, 0.0, 0.125), (0.25, 0.0625, 0.03125)])
def test_the_tolerance_is_a_parabola_in_z(tolerance, device, dtype):
    """Each of these is half a metre at z = 2."""
    camera = unit_camera(1, 1, dtype, device)
    for off, expected in ((0.5, [(0, 0)]), (0.5625, [])):
        depth = torch.full((1, 1, 1), 2 + off, dtype=dtype, device=device)
        assert seen([[0, 0, 2]], camera, depth, tolerance=tolerance) == expected


@pytest.mark.parametrize("invalid", [0.0, -2.0, math.nan, math.inf, -math.inf])
def test_a_pixel_without_a_reading_sees_nothing(invalid, device, dtype):
    depth = torch.tensor([[[invalid, 2.0]]], dtype=dtype, device=device)
    points = [[0, 0, 2], [2, 0, 2]]
    assert seen(points, unit_camera(2, 1, dtype, device), depth, tolerance=100.0) == [(1, 1)]


def test_depth_in_millimetres_where_0_and_65535_are_no_reading(device, dtype):
    depth = torch.tensor([[[2000, 0, 65535, 65534, 1]]], dtype=torch.uint16, device=device)
    points = [[0, 0, 2], [1, 0, 1], [2 * 65.535, 0, 65.535], [3 * 65.534, 0, 65.534], [4 * 0.001, 0, 0.001]]
    camera = unit_camera(5, 1, dtype, device)
    assert seen(points, camera, depth, depth_scale=1000, tolerance=1e-5, z_min=0.0) == [(0, 0), (3, 3), (4, 4)]


def test_depth_in_512ths_of_a_metre(device, dtype):
    depth = torch.tensor([[[768]]], dtype=torch.uint16, device=device)
    camera = unit_camera(1, 1, dtype, device)
    assert seen([[0, 0, 1.5], [0, 0, 1.5005]], camera, depth, depth_scale=512.0) == [(0, 0)]


def test_a_scale_that_is_no_power_of_two_divides(device, dtype):
    """1000 is not exact as a reciprocal: readings are divided, each rounded as the dtype rounds it."""
    readings = torch.arange(1, 65535, 7, dtype=torch.int32)
    metres = readings.to(dtype) / 1000
    points = torch.stack((torch.arange(len(readings)).to(dtype) * 0, 0 * metres, metres), dim=-1).to(device)
    depth = readings.to(torch.uint16).to(device)
    for i in range(0, len(readings), 1000):
        one = depth[i].expand(1, 1, 1)
        matches = visibility(
            points, unit_camera(1, 1, dtype, device), one, depth_scale=1000.0, tolerance=EXACT, z_min=0.0
        )
        assert matches.point.tolist() == [i]


def test_float_depth_of_the_other_dtype_is_cast_to_that_of_the_points(device):
    third = torch.full((1, 1, 1), 1 / 3, dtype=torch.float64, device=device)
    assert seen([[0, 0, 1 / 3]], unit_camera(1, 1, torch.float32, device), third) == [(0, 0)]
    assert seen([[0, 0, 1 / 3]], unit_camera(1, 1, torch.float64, device), third.float()) == []


def test_the_points_own_z_buffer_hides_what_is_behind(device, dtype):
    points = [[0, 0, 1], [0, 0, 2], [4, 0, 2]]
    camera = unit_camera(3, 1, dtype, device)
    assert seen(points, camera, "zbuffer") == [(0, 0), (2, 2)]
    assert seen([*points, [2, 0, 2]], camera, "zbuffer", radius=1) == [(0, 0), (2, 2)]
    assert seen([*points, [2, 0, 2]], camera, "zbuffer", radius=0) == [(0, 0), (2, 2), (3, 1)]


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_the_word_zbuffer_means_the_zbuffer_of_the_projected_points(radius, device, dtype):
    scene = make_scene(3000, 3, dtype, device=device)
    depth = zbuffer(project(scene.points, scene.camera), SIZE, radius=radius)[1]
    given = visibility(scene.points, scene.camera, depth, tolerance=(0.01, 0.02, 0.03))
    named = visibility(scene.points, scene.camera, "zbuffer", radius=radius, tolerance=(0.01, 0.02, 0.03))
    assert_same_bits(named, given)
    assert 0 < len(named.point) < len(scene.matches.point)


def test_the_default_tolerance_sees_the_surface_and_not_what_is_half_a_metre_behind(device, dtype):
    camera = unit_camera(1, 1, dtype, device)
    points = torch.tensor([[0, 0, 2.0], [0, 0, 2.001], [0, 0, 2.5], [0, 0, 1.5]], dtype=dtype, device=device)
    by_source = {
        "metres": visibility(points, camera, torch.full((1, 1, 1), 2.0, dtype=dtype, device=device)),
        "millimetres": visibility(
            points, camera, torch.full((1, 1, 1), 2000, device=device).to(torch.uint16), depth_scale=1000
        ),
    }
    for source, matches in by_source.items():
        assert matches.point.tolist() == [0, 1], source
    assert visibility(points[:3], camera, "zbuffer").point.tolist() == [0, 1]


def test_visibility_equals_rounding_what_project_returns(device, dtype):
    scene = make_scene(3000, 4, dtype, device=device)
    matches = visibility(scene.points, scene.camera, tolerance=EXACT)
    uvz = project(scene.points, scene.camera)[matches.view.long(), matches.point.long()]
    pixel = torch.floor(uvz[:, 1] + 0.5) * SIZE[1] + torch.floor(uvz[:, 0] + 0.5)
    assert torch.equal(matches.pixel, pixel.int())
    assert len(pixel) > 1000


def test_within_a_view_points_ascend(device):
    matches = visibility(*scene_with(device), tolerance=EXACT)
    for view in matches:
        assert (view.point.diff() > 0).all()
        assert len(view.point) > 0


def scene_with(device) -> tuple[torch.Tensor, Camera]:
    scene = make_scene(3000, 4, device=device)
    return scene.points, scene.camera


@pytest.mark.parametrize("keywords", [{}, {"border": 3, "z_min": 0.5, "z_max": 4.0}], ids=["plain", "border and range"])
@pytest.mark.parametrize("source", ["frame", "metres", "millimetres"])
@pytest.mark.parametrize("seen_by", [visibility, reference.visibility], ids=["native", "reference"])
def test_equals_loops_over_points_and_views(seen_by, source, keywords, dtype):
    scene = make_scene(600, 4, dtype)
    tolerance = (0.03, 0.01, 0.002)
    millimetres = scene.depth_mm.to(torch.int32)
    depth, scale, decoded = {
        "frame": (None, None, None),
        "metres": (scene.depth, None, scene.depth.numpy()),
        "millimetres": (
            scene.depth_mm,
            1000.0,
            (torch.where(millimetres == 65535, 0, millimetres).to(dtype) / 1000).numpy(),
        ),
    }[source]
    matches = seen_by(scene.points, scene.camera, depth, depth_scale=scale, tolerance=tolerance, **keywords)
    expected = by_hand.visible(scene.points.numpy(), scene.camera, decoded, tolerance, **keywords)
    pairs = [list(zip(view.point.tolist(), view.pixel.tolist(), strict=True)) for view in matches]
    assert pairs == expected
    assert all(pairs)


@pytest.mark.parametrize("n", [0, 1, 255, 257, 3000])
@pytest.mark.parametrize("views", [0, 1, 5])
def test_agrees_with_reference(n, views, device, dtype):
    scene = make_scene(n, views, dtype, device=device)
    calls = {
        "frame": ((), {}),
        "metres": ((scene.depth,), {}),
        "millimetres": ((scene.depth_mm,), {"depth_scale": 1000.0}),
        "zbuffer": (("zbuffer",), {"radius": 1}),
    }
    for arguments, keywords in calls.values():
        keywords["tolerance"] = (0.03, 0.01, 0.002)
        ours = visibility(scene.points, scene.camera, *arguments, **keywords)
        assert_same_bits(ours, reference.visibility(scene.points, scene.camera, *arguments, **keywords))
        assert len(ours) == views
        assert ours.n_points == n


def test_no_gradient_flows_through_matches(device):
    points, camera = scene_with(device)
    matches = visibility(points.requires_grad_(), camera, tolerance=EXACT)
    assert isinstance(matches, Matches)
    assert not any(t.requires_grad for t in (matches.ptr, matches.point, matches.pixel))


POINTS, CAMERA = torch.ones(4, 3), simple_camera((4, 6), dtype=torch.float32)
FLOAT, UINT16 = torch.ones(1, 4, 6), torch.ones(1, 4, 6, dtype=torch.uint16)
BAD = {
    "points (4, 2)": ((POINTS[:, :2], CAMERA), {}, ValueError, r"points must .*got \(4, 2\)"),
    "points of integers": ((POINTS.long(), CAMERA), {}, TypeError, r"points must .*got int64"),
    "points as a list": ((POINTS.tolist(), CAMERA), {}, TypeError, r"points must .*got list"),
    "camera as a matrix": ((POINTS, torch.eye(4)), {}, TypeError, r"camera must .*got Tensor"),
    "camera elsewhere": ((POINTS, CAMERA.to("meta")), {}, ValueError, r"(points|camera) must .*got (meta|cpu)"),
    "depth of another size": ((POINTS, CAMERA, FLOAT[:, :3]), {}, ValueError, r"depth must .*got \(1, 3, 6\)"),
    "depth of more views": ((POINTS, CAMERA, FLOAT.repeat(2, 1, 1)), {}, ValueError, r"depth must .*got \(2, 4, 6\)"),
    "depth without views": ((POINTS, CAMERA, FLOAT[0]), {}, ValueError, r"depth must .*got \(4, 6\)"),
    "depth of integers": ((POINTS, CAMERA, FLOAT.int()), {}, TypeError, r"depth must .*got int32"),
    "depth as a list": ((POINTS, CAMERA, FLOAT.tolist()), {}, TypeError, r"depth must .*got list"),
    "depth elsewhere": ((POINTS, CAMERA, FLOAT.to("meta")), {}, ValueError, r"depth must .*got meta"),
    "depth of another name": ((POINTS, CAMERA, "sensor"), {}, ValueError, r"depth must .*got .?sensor"),
    "uint16 without scale": ((POINTS, CAMERA, UINT16), {}, ValueError, r"depth_scale must .*got None"),
    "float with scale": ((POINTS, CAMERA, FLOAT), {"depth_scale": 1000.0}, ValueError, r"depth_scale must .*got 1000"),
    "no depth with scale": ((POINTS, CAMERA), {"depth_scale": 1000.0}, ValueError, r"depth_scale must .*got 1000"),
    "a scale of 0": ((POINTS, CAMERA, UINT16), {"depth_scale": 0.0}, ValueError, r"depth_scale must .*got 0"),
    "a scale of 0 in float32": ((POINTS, CAMERA, UINT16), {"depth_scale": 1e-46}, ValueError, "float32, got 1e-46"),
    "a scale of nan": ((POINTS, CAMERA, UINT16), {"depth_scale": math.nan}, ValueError, "depth_scale must .*got NaN"),
    "negative tolerance": ((POINTS, CAMERA, FLOAT), {"tolerance": -0.1}, ValueError, "tolerance must .*-0.1"),
    "negative slope": ((POINTS, CAMERA, FLOAT), {"tolerance": (0.1, -0.1, 0.0)}, ValueError, "tolerance must .*-0.1"),
    "tolerance of two": ((POINTS, CAMERA, FLOAT), {"tolerance": (0.1, 0.1)}, ValueError, r"tolerance .*\(0.1, 0.1\)"),
    "tolerance of nan": ((POINTS, CAMERA, FLOAT), {"tolerance": math.nan}, ValueError, "tolerance must .*got NaN"),
    "tolerance as a word": ((POINTS, CAMERA, FLOAT), {"tolerance": "loose"}, TypeError, "tolerance must .*loose"),
    "negative border": ((POINTS, CAMERA), {"border": -1}, ValueError, r"border must .*got -1"),
    "half a border": ((POINTS, CAMERA), {"border": 0.5}, TypeError, r"border must .*got 0.5"),
    "negative radius": ((POINTS, CAMERA, "zbuffer"), {"radius": -1}, ValueError, r"radius must .*got -1"),
    "half a radius": ((POINTS, CAMERA, "zbuffer"), {"radius": 0.5}, TypeError, r"radius must .*got 0.5"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_visibility_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        visibility(*arguments, **keywords)


def test_depth_and_points_on_two_devices_are_refused(device):
    """Moving a depth map silently would hide a copy of the whole sequence in every call."""
    if device == CPU:
        pytest.skip("takes a CUDA device")
    scene = make_scene(10, 1, device=device)
    with pytest.raises(ValueError, match=r"depth must .*got cpu"):
        visibility(scene.points, scene.camera, scene.depth.cpu())
