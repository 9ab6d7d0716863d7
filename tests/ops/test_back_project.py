"""Where in the world is each pixel, and what does a feature map say there?"""

import math

import numpy as np
import pytest
import torch
from scenes import SIZE, assert_close, assert_same_bits, make_camera, make_scene, simple_camera, unit_camera
from torch.nn.functional import avg_pool2d, interpolate

from pyproj2d3d import Camera, PointCloud, back_project, project, reference, sample, visibility

NATIVE_AND_REFERENCE = pytest.mark.parametrize("lifted", [back_project, reference.back_project], ids=["native", "ref"])
NO_READING = [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf]


def by_hand(depth: np.ndarray, camera: Camera) -> tuple[list[list[float]], list[int], list[int]]:
    """Points, pixels and ptr, pixel after pixel through homogeneous matrices in float64; depth in metres."""
    points, pixels, ptr = [], [], [0]
    for image, k, pose in zip(depth, camera.intrinsics.double(), camera.world_from_camera.double(), strict=True):
        for v, row in enumerate(image.tolist()):
            for u, z in enumerate(row):
                if 0 < z < math.inf:
                    in_camera = z * np.linalg.solve(k.numpy(), [u, v, 1.0])
                    points.append((pose.numpy() @ [*in_camera, 1.0])[:3].tolist())
                    pixels.append(v * len(row) + u)
        ptr.append(len(points))
    return points, pixels, ptr


def to_uint16(values, device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device).to(torch.uint16)


def raster(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) to (B H W, C)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def valid_of(depth: torch.Tensor) -> torch.Tensor:
    """(B H W,) bool, of float depth."""
    return ((depth > 0) & (depth < torch.inf)).flatten()


def test_pixels_with_depth_become_points(device, dtype):
    """Focal length 2, centre (1, 0): u = 0 looks half a metre left per metre ahead."""
    camera = simple_camera((1, 3), 2.0, (1.0, 0.0), dtype, device)
    cloud = back_project(torch.tensor([[[4.0, 0.0, 2.0]]], dtype=dtype, device=device), camera)
    assert cloud.points.tolist() == [[-2, 0, 4], [1, 0, 2]]
    assert cloud.pixel.tolist() == [0, 2]
    assert cloud.ptr.tolist() == [0, 2]
    assert cloud.valid.tolist() == [True, True]
    assert cloud.features is None
    assert (cloud.points.dtype, cloud.pixel.dtype, cloud.ptr.dtype) == (dtype, torch.int32, torch.int64)


def test_the_pose_takes_them_to_the_world(device, dtype):
    """A camera at (10, 20, 30) whose x is the world's y, y its z, and z its x."""
    pose = torch.tensor([[0.0, 0, 1, 10], [1, 0, 0, 20], [0, 1, 0, 30], [0, 0, 0, 1]], dtype=dtype, device=device)
    camera = Camera(unit_camera(2, 2, dtype, device).intrinsics, pose, (2, 2))
    cloud = back_project(torch.tensor([[[1.0, 2.0], [4.0, 8.0]]], dtype=dtype, device=device), camera)
    assert cloud.points.tolist() == [[11, 20, 30], [12, 22, 30], [14, 20, 34], [18, 28, 38]]


def test_images_follow_one_another_each_in_raster_order(device, dtype):
    depth = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [2.0, 2.0]]])
    camera = Camera.cat([unit_camera(2, 2, dtype, device)] * 3)
    cloud = back_project(depth.to(device, dtype), camera)
    assert cloud.points.tolist() == [[1, 0, 1], [0, 1, 1], [0, 2, 2], [2, 2, 2]]
    assert cloud.pixel.tolist() == [1, 2, 2, 3]
    assert cloud.ptr.tolist() == [0, 2, 2, 4]


def test_chosen_pixels_keep_their_order_and_come_as_often_as_they_are_named(device, dtype):
    depth = torch.tensor([[[1.0, 0.0, 2.0]], [[4.0, 5.0, math.nan]]], dtype=dtype, device=device)
    camera = Camera.cat([unit_camera(3, 1, dtype, device)] * 2)
    maps = torch.arange(6.0, device=device).view(2, 1, 1, 3)
    cloud = back_project(depth, camera, maps, pixels=torch.tensor([4, 2, 1, 4, 5, 0], device=device))
    assert cloud.valid.tolist() == [True, True, False, True, False, True]
    assert cloud.points[cloud.valid].tolist() == [[5, 0, 5], [4, 0, 2], [5, 0, 5], [0, 0, 1]]
    assert cloud.points[~cloud.valid].isnan().all()
    assert cloud.features.flatten().tolist() == [4, 2, 1, 4, 5, 0]
    assert cloud.pixel.tolist() == [1, 2, 1, 1, 2, 0]
    assert cloud.ptr is None


def test_in_uint16_0_and_65535_are_no_reading(device, dtype):
    camera = unit_camera(4, 1, dtype, device)
    cloud = back_project(to_uint16([[[0, 1000, 65535, 65534]]], device), camera, depth_scale=1000)
    assert cloud.pixel.tolist() == [1, 3]
    assert cloud.points.dtype == dtype
    assert_close(cloud.points[:, 2], torch.tensor([1, 65.534], dtype=dtype, device=device))


@pytest.mark.parametrize("scale", [1000.0, 5000.0, 512.0, 0.3])
def test_every_uint16_reading_is_divided_once(scale, device, dtype):
    """So that it is the very number that NumPy makes of it."""
    readings = np.arange(65536)
    depth = to_uint16(readings.reshape(1, 256, 256), device)
    cloud = back_project(depth, simple_camera((256, 256), dtype=dtype, device=device), depth_scale=scale)
    real = np.float32 if dtype == torch.float32 else np.float64
    assert cloud.pixel.tolist() == list(range(1, 65535))
    assert_same_bits(cloud.points[:, 2].cpu(), torch.from_numpy(readings[1:-1].astype(real) / real(scale)))


@pytest.mark.parametrize("missing", NO_READING, ids=str)
def test_what_is_no_reading_makes_no_point(missing, device, dtype):
    depth = torch.tensor([[[missing, 3.0]]], dtype=dtype, device=device)
    assert back_project(depth, unit_camera(2, 1, dtype, device)).points.tolist() == [[3, 0, 3]]


def test_the_least_and_the_greatest_number_are_readings(device, dtype):
    """A subnormal one too: nothing flushes it to 0."""
    least, greatest = torch.finfo(dtype).smallest_normal / 4, torch.finfo(dtype).max
    depth = torch.tensor([[[least, greatest]]], dtype=dtype, device=device)
    assert back_project(depth, unit_camera(2, 1, dtype, device)).points[:, 2].tolist() == [least, greatest]


@NATIVE_AND_REFERENCE
def test_equals_loops_over_pixels(lifted, device):
    """Cameras of either sign of focal length, sheared poses, a fifth of the depth no reading."""
    scene = make_scene(50, 3, torch.float64, seed=1)
    points, pixels, ptr = by_hand(scene.depth.numpy(), scene.camera)
    cloud = lifted(scene.depth.to(device), scene.camera.to(device))
    assert (scene.camera.intrinsics[:, :2, :2] < 0).any()
    assert cloud.pixel.tolist() == pixels
    assert cloud.ptr.tolist() == ptr
    assert_close(cloud.points.cpu(), torch.tensor(points, dtype=torch.float64))


@NATIVE_AND_REFERENCE
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("cells", [(1, 1), (1, 5), (7, 1), (12, 16), (48, 64), (50, 100)], ids=str)
def test_features_are_those_of_the_interpolated_image(lifted, cells, align_corners, device):
    scene = make_scene(50, 2, torch.float64, torch.float64, device, cells=cells)
    image = raster(interpolate(scene.maps, SIZE, mode="bilinear", align_corners=align_corners))
    cloud = lifted(scene.depth, scene.camera, scene.maps, align_corners=align_corners)
    assert_close(cloud.features, image[valid_of(scene.depth)])
    chosen = torch.arange(scene.depth.numel(), device=device).flip(0)[::3]
    cloud = lifted(scene.depth, scene.camera, scene.maps, align_corners=align_corners, pixels=chosen)
    assert_close(cloud.features, image[chosen])


def test_features_of_a_map_of_the_image_size_are_its_very_values(device, feature_dtype):
    scene = make_scene(50, 2, feature_dtype=feature_dtype, device=device, cells=SIZE)
    cloud = back_project(scene.depth, scene.camera, scene.maps)
    assert_same_bits(cloud.features, raster(scene.maps)[valid_of(scene.depth)])


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("chosen", [False, True])
def test_agrees_with_reference(chosen, normalize, device, dtype, feature_dtype):
    """Points, pixels and ptr to the bit: the arithmetic is one."""
    scene = make_scene(500, 3, dtype, feature_dtype, device, channels=7)
    rng = torch.Generator().manual_seed(2)
    pixels = torch.randint(scene.depth.numel(), (700,), generator=rng).to(device) if chosen else None
    for depth, scale in ((scene.depth, None), (scene.depth_mm, 1000.0)):
        keywords = {"pixels": pixels, "normalize": normalize, "depth_scale": scale}
        cloud, wanted = (f(depth, scene.camera, scene.maps, **keywords) for f in (back_project, reference.back_project))
        assert_same_bits((cloud.points, cloud.pixel, cloud.valid), (wanted.points, wanted.pixel, wanted.valid))
        assert chosen or torch.equal(cloud.ptr, wanted.ptr)
        assert_close(cloud.features, wanted.features)
        assert cloud.features.dtype == feature_dtype


@pytest.mark.parametrize("size", [(1, 1), (1, 255), (16, 16), (257, 1), (3, 171), (97, 131)], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.7, 1.0])
def test_any_size_and_any_share_of_readings(share, size, device, dtype):
    """Around the 256 pixels that are counted at a time."""
    rng = torch.Generator().manual_seed(0)
    camera = make_camera(2, rng)
    camera = Camera(camera.intrinsics, camera.world_from_camera, size).to(device, dtype)
    depth = 1 + torch.rand(2, *size, generator=rng, dtype=torch.float64)
    depth = torch.where(torch.rand(2, *size, generator=rng) < share, depth, 0).to(device, dtype)
    cloud = back_project(depth, camera)
    assert len(cloud) == int((depth > 0).sum())
    assert_same_bits(cloud, reference.back_project(depth, camera))


@pytest.mark.parametrize("of_camera", [torch.float32, torch.float64])
@pytest.mark.parametrize("of_depth", [torch.float32, torch.float64, torch.uint16])
def test_points_are_of_the_dtype_of_float_depth_else_of_the_camera(of_depth, of_camera, device):
    scene = make_scene(100, 2, device=device)
    camera = make_scene(100, 2, torch.float64, device=device).camera.to(of_camera)
    depth, scale = (scene.depth_mm, 1000.0) if of_depth == torch.uint16 else (scene.depth.to(of_depth), None)
    cloud = back_project(depth, camera, depth_scale=scale)
    computed_in = of_camera if of_depth == torch.uint16 else of_depth
    assert cloud.points.dtype == computed_in
    assert_same_bits(cloud, reference.back_project(depth, camera.to(computed_in), depth_scale=scale))


def test_geometry_and_features_may_be_of_different_dtypes(device, dtype, feature_dtype):
    scene = make_scene(100, 2, dtype, feature_dtype, device)
    cloud = back_project(scene.depth, scene.camera, scene.maps)
    assert_close(cloud, reference.back_project(scene.depth, scene.camera, scene.maps))
    assert (cloud.points.dtype, cloud.features.dtype) == (dtype, feature_dtype)


@pytest.mark.parametrize("horizontal", [True, False])
def test_a_flipped_image_lifts_to_the_same_points(horizontal, device):
    scene = make_scene(100, 2, torch.float64, device=device)
    straight = back_project(scene.depth, scene.camera, pixels=torch.arange(scene.depth.numel(), device=device))
    flipped = back_project(scene.depth.flip(2 if horizontal else 1), scene.camera.flipped(horizontal))
    kept = straight.points.view(2, *SIZE, 3).flip(2 if horizontal else 1).flatten(0, 2)
    assert_close(flipped.points, kept[kept.isfinite().all(1)])


def test_a_cropped_image_lifts_to_the_same_points(device):
    scene = make_scene(100, 2, torch.float64, device=device)
    whole = back_project(scene.depth, scene.camera, pixels=torch.arange(scene.depth.numel(), device=device))
    cropped = back_project(scene.depth[:, 5:25, 11:51], scene.camera.cropped(5, 11, 20, 40))
    kept = whole.points.view(2, *SIZE, 3)[:, 5:25, 11:51].flatten(0, 2)
    assert_close(cropped.points, kept[kept.isfinite().all(1)])


def test_a_pixel_of_half_the_size_lies_between_the_four_it_covers(device):
    camera = make_camera(3, torch.Generator().manual_seed(4)).to(device)
    depth = torch.full((3, *SIZE), 2.5, dtype=torch.float64, device=device)
    full = back_project(depth, camera).points.view(3, *SIZE, 3).permute(0, 3, 1, 2)
    half = back_project(depth[:, ::2, ::2], camera.resized((SIZE[0] // 2, SIZE[1] // 2)))
    assert_close(half.points, raster(avg_pool2d(full, 2)))


def test_projected_again_a_point_returns_to_its_pixel_and_depth(device, dtype):
    scene = make_scene(200, 4, dtype, device=device)
    cloud = back_project(scene.depth, scene.camera)
    for b in range(4):
        rows = slice(int(cloud.ptr[b]), int(cloud.ptr[b + 1]))
        uvz = project(cloud.points[rows], scene.camera)[b]
        pixel = cloud.pixel[rows]
        at = torch.stack((pixel % SIZE[1], pixel // SIZE[1]), dim=-1).to(dtype)
        assert_close(uvz[:, 2], scene.depth[b].flatten()[pixel.long()])
        torch.testing.assert_close(uvz[:, :2], at, rtol=0, atol=2e-3 if dtype == torch.float32 else 1e-10)


def test_every_point_is_visible_at_its_own_pixel(device, dtype):
    scene = make_scene(200, 3, dtype, device=device)
    cloud = back_project(scene.depth, scene.camera)
    matches = visibility(cloud.points, scene.camera, scene.depth)
    for b in range(3):
        begin, end = cloud.ptr[b : b + 2].tolist()
        own = torch.arange(begin, end, device=device)
        seen = matches[b]
        at = torch.searchsorted(seen.point, own.int())
        assert torch.equal(seen.point[at].long(), own)
        assert torch.equal(seen.pixel[at], cloud.pixel[begin:end])


def test_sample_reads_at_the_same_pixels_the_same_features(device, feature_dtype):
    """To the bit, either convention, normalized or not."""
    scene = make_scene(100, 2, feature_dtype=feature_dtype, device=device)
    every = torch.arange(scene.depth.numel(), device=device)
    within = every % math.prod(SIZE)
    uv = torch.stack((within % SIZE[1], within // SIZE[1]), dim=-1).view(2, -1, 2)
    uv = uv.to(torch.float64 if feature_dtype == torch.float64 else torch.float32)
    for keywords in ({"align_corners": True}, {"normalize": True}):
        cloud = back_project(scene.depth, scene.camera, scene.maps, pixels=every, **keywords)
        assert_same_bits(cloud.features, sample(scene.maps, uv, SIZE, **keywords).flatten(0, 1))


def test_normalized_rows_have_length_one_and_a_row_of_zeros_stays_zero(device, feature_dtype):
    maps = torch.tensor([[3.0, 0.0], [4.0, 0.0]], device=device, dtype=feature_dtype).view(1, 2, 1, 2)
    maps.requires_grad_()
    depth = torch.ones(1, 1, 2, device=device)
    cloud = back_project(depth, unit_camera(2, device=device), maps, normalize=True)
    assert_close(cloud.features, torch.tensor([[0.6, 0.8], [0, 0]], device=device, dtype=feature_dtype))
    cloud.features.sum().backward()
    assert not maps.grad.isnan().any()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("short", "ulp"), [(torch.float16, 2.0**-10), (torch.bfloat16, 2.0**-7)])
def test_short_maps_are_interpolated_in_float32_and_rounded_once(short, ulp, align_corners, device):
    scene = make_scene(50, 2, feature_dtype=short, device=device, channels=16)
    truth = raster(interpolate(scene.maps.double(), SIZE, mode="bilinear", align_corners=align_corners))
    rows = back_project(scene.depth, scene.camera, scene.maps, align_corners=align_corners).features
    error = (rows.double() - truth[valid_of(scene.depth)]).abs()
    allowed = ulp / 2 * truth[valid_of(scene.depth)].abs() + 2e-6  # half a unit, and float32 on numbers up to 4
    assert (error <= allowed).all()


def test_channels_last_maps_give_the_same_bits(device, feature_dtype):
    scene = make_scene(50, 2, feature_dtype=feature_dtype, device=device, channels=8)
    last = scene.maps.to(memory_format=torch.channels_last)
    assert_same_bits(back_project(scene.depth, scene.camera, last), back_project(scene.depth, scene.camera, scene.maps))


@pytest.mark.parametrize("channels", [0, 1, 64, 65])
def test_any_number_of_channels(channels, device, feature_dtype):
    scene = make_scene(50, 2, feature_dtype=feature_dtype, device=device, channels=channels)
    cloud = back_project(scene.depth, scene.camera, scene.maps)
    assert cloud.features.shape == (len(cloud), channels)
    assert_close(cloud, reference.back_project(scene.depth, scene.camera, scene.maps))


def test_no_pixels_may_be_chosen(device, dtype):
    scene = make_scene(50, 2, dtype, device=device)
    none = torch.zeros(0, dtype=torch.int64, device=device)
    cloud = back_project(scene.depth, scene.camera, scene.maps, pixels=none)
    assert (cloud.points.shape, cloud.features.shape, cloud.pixel.shape) == ((0, 3), (0, 5), (0,))
    assert cloud.valid.shape == (0,)


def test_images_without_a_reading_make_an_empty_cloud_and_chosen_pixels_of_nan(device, dtype):
    scene = make_scene(50, 2, dtype, device=device)
    depth = torch.zeros_like(scene.depth).requires_grad_()
    maps = scene.maps.clone().requires_grad_()
    cloud = back_project(depth, scene.camera, maps)
    assert (cloud.points.shape, cloud.features.shape, cloud.ptr.tolist()) == ((0, 3), (0, 5), [0, 0, 0])
    (cloud.points.sum() + cloud.features.sum()).backward()
    assert (depth.grad == 0).all()
    assert (maps.grad == 0).all()
    chosen = torch.tensor([7, 0, 7], device=device)
    cloud = back_project(depth, scene.camera, maps, pixels=chosen)
    assert cloud.points.isnan().all()
    assert cloud.valid.tolist() == [False] * 3
    assert_close(cloud.features, reference.back_project(depth, scene.camera, maps, pixels=chosen).features)


def test_a_cloud_says_what_it_holds():
    scene = make_scene(50, 2)
    cloud = back_project(torch.ones(2, *SIZE), scene.camera, scene.maps)
    assert isinstance(cloud, PointCloud)
    assert len(cloud) == 2 * 48 * 64
    assert repr(cloud) == "PointCloud(M=6144, features: C=5, torch.float32, cpu)"
    assert "features: none" in repr(back_project(scene.depth, scene.camera))


# Other people's libraries.


def test_kornia_lifts_to_the_same_points(device, dtype):
    depth_to_3d = pytest.importorskip("kornia.geometry.depth").depth_to_3d_v2
    scene = make_scene(200, 3, dtype, device=device)
    pose = scene.camera.world_from_camera
    in_camera = depth_to_3d(scene.depth, scene.camera.intrinsics)  # (B, H, W, 3)
    world = in_camera.flatten(1, 2) @ pose[:, :3, :3].mT + pose[:, None, :3, 3]
    cloud = back_project(scene.depth, scene.camera)
    assert_close(cloud.points, world.flatten(0, 1)[valid_of(scene.depth)])


def test_open3d_lifts_to_the_same_points_in_the_same_order():
    open3d = pytest.importorskip("open3d")
    scene = make_scene(200, 2, torch.float64)
    readings = scene.depth_mm.to(torch.int32)
    readings = torch.where(readings == 65535, 0, readings).to(torch.uint16)  # a reading of 65.535 m to Open3D
    clouds = []
    for image, k, pose in zip(readings, scene.camera.intrinsics, scene.camera.world_from_camera, strict=True):
        pinhole = open3d.camera.PinholeCameraIntrinsic(SIZE[1], SIZE[0], k.numpy())
        extrinsic = torch.linalg.inv(pose).numpy()
        clouds.append(
            open3d.geometry.PointCloud.create_from_depth_image(open3d.geometry.Image(image.numpy()), pinhole, extrinsic)
        )
    cloud = back_project(scene.depth_mm, scene.camera, depth_scale=1000.0)
    assert [len(c.points) for c in clouds] == cloud.ptr.diff().tolist()
    wanted = torch.from_numpy(np.concatenate([np.asarray(c.points) for c in clouds]))
    torch.testing.assert_close(cloud.points, wanted, rtol=1e-6, atol=1e-6)  # Open3D decodes depth in float32


# Errors.

CAMERA = Camera.cat([simple_camera((4, 6), dtype=torch.float32)] * 2)
DEPTH, MAPS, PIXELS = torch.ones(2, 4, 6), torch.ones(2, 5, 3, 4), torch.arange(3)
MM = DEPTH.to(torch.uint16)
BAD = {
    "depth of one view": ((DEPTH[0], CAMERA), {}, ValueError, r"depth must have shape \(2, 4, 6\), got \(4, 6\)"),
    "depth of fewer views": ((DEPTH[:1], CAMERA), {}, ValueError, r"depth must .*got \(1, 4, 6\)"),
    "depth of another size": ((DEPTH.mT, CAMERA), {}, ValueError, r"depth must .*got \(2, 6, 4\)"),
    "depth of integers": ((DEPTH.int(), CAMERA), {}, TypeError, r"depth must be .*uint16, got int32"),
    "depth in half precision": ((DEPTH.half(), CAMERA), {}, TypeError, r"depth must .*got float16"),
    "depth as a list": ((DEPTH.tolist(), CAMERA), {}, TypeError, r"depth must .*got list"),
    "depth elsewhere": ((DEPTH.to("meta"), CAMERA), {}, ValueError, r"depth must .*like camera, got meta"),
    "a camera that is a matrix": ((DEPTH, torch.eye(4)), {}, TypeError, r"camera must be a Camera, got Tensor"),
    "maps of one view": ((DEPTH, CAMERA, MAPS[0]), {}, ValueError, r"features must .*got \(5, 3, 4\)"),
    "maps of fewer views": ((DEPTH, CAMERA, MAPS[:1]), {}, ValueError, r"features must .*got \(1, 5, 3, 4\)"),
    "maps of integers": ((DEPTH, CAMERA, MAPS.long()), {}, TypeError, r"features must .*got int64"),
    "maps as an array": ((DEPTH, CAMERA, MAPS.numpy()), {}, TypeError, r"features must .*got ndarray"),
    "maps without cells": ((DEPTH, CAMERA, MAPS[..., :0]), {}, ValueError, r"features must .*got \(2, 5, 3, 0\)"),
    "maps elsewhere": ((DEPTH, CAMERA, MAPS.to("meta")), {}, ValueError, r"features must .*like depth, got meta"),
    "pixels of int32": ((DEPTH, CAMERA), {"pixels": PIXELS.int()}, TypeError, r"pixels must be int64, got int32"),
    "pixels as a mask": ((DEPTH, CAMERA), {"pixels": DEPTH > 0}, TypeError, r"pixels must be int64, got bool"),
    "pixels as a list": ((DEPTH, CAMERA), {"pixels": [0, 1]}, TypeError, r"pixels must .*got list"),
    "pixels as pairs": ((DEPTH, CAMERA), {"pixels": PIXELS[None]}, ValueError, r"pixels must .*got \(1, 3\)"),
    "pixels elsewhere": ((DEPTH, CAMERA), {"pixels": PIXELS.to("meta")}, ValueError, r"pixels must .*got meta"),
    "a pixel too far": ((DEPTH, CAMERA), {"pixels": PIXELS + 46}, ValueError, r"pixels must be from 0 to 47.*got 48"),
    "a negative pixel": ((DEPTH, CAMERA), {"pixels": PIXELS - 1}, ValueError, r"pixels must be from 0 to 47.*got -1"),
    "no depth_scale": ((MM, CAMERA), {}, ValueError, r"depth_scale must be given for uint16 depth"),
    "a depth_scale of metres": ((DEPTH, CAMERA), {"depth_scale": 1000.0}, ValueError, r"depth_scale must be None"),
    "a depth_scale of 0": ((MM, CAMERA), {"depth_scale": 0}, ValueError, r"depth_scale must be positive .*got 0"),
    "a negative depth_scale": ((MM, CAMERA), {"depth_scale": -1.0}, ValueError, r"depth_scale must .*got -1"),
    "an infinite depth_scale": ((MM, CAMERA), {"depth_scale": math.inf}, ValueError, r"depth_scale must .*got inf"),
    "an infinite float32": ((MM, CAMERA), {"depth_scale": 1e43}, ValueError, r"depth_scale must .*float32, got 1e\+43"),
    "a depth_scale that is NaN": ((MM, CAMERA), {"depth_scale": math.nan}, ValueError, r"depth_scale must .*got NaN"),
    "a depth_scale as text": ((MM, CAMERA), {"depth_scale": "1000"}, TypeError, r"depth_scale must .*got '1000'"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), BAD.values(), ids=BAD.keys())
def test_back_project_says_what_is_wrong(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        back_project(*arguments, **keywords)


def test_pixels_of_no_image_are_out_of_range():
    empty = Camera(torch.zeros(0, 3, 3), torch.zeros(0, 4, 4), (4, 6))
    with pytest.raises(ValueError, match="pixels must"):
        back_project(torch.zeros(0, 4, 6), empty, pixels=torch.tensor([0]))
