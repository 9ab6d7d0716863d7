"""What do depth, camera and maps get back from the points and features that were made of them?"""

import math

import pytest
import torch
from scenes import SIZE, assert_close, assert_same_bits, make_camera, make_scene, simple_camera, unit_camera

from pyproj2d3d import Camera, back_project, reference

NO_READING = [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf]


def parts_of(camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """What is free: fx, fy, cx, cy (V, 4) and the first three rows of the pose (V, 3, 4), asking for gradients."""
    k = camera.intrinsics
    free = torch.stack((k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]), dim=-1)
    return free.requires_grad_(), camera.world_from_camera[:, :3].clone().requires_grad_()


def camera_of(free: torch.Tensor, pose: torch.Tensor, size: tuple[int, int]) -> Camera:
    fx, fy, cx, cy = free.T
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    intrinsics = torch.stack((fx, zero, cx, zero, fy, cy, zero, zero, one), dim=-1).view(-1, 3, 3)
    last = torch.tensor([0.0, 0, 0, 1], dtype=pose.dtype, device=pose.device).expand(len(pose), 1, 4)
    return Camera(intrinsics, torch.cat((pose, last), dim=1), size)


@pytest.mark.parametrize(("align_corners", "normalize"), [(False, False), (True, True)])
@pytest.mark.parametrize("chosen", [None, [0, 11, 3, 11, 5, 7]], ids=["all", "chosen"])
def test_gradients_to_maps_depth_and_camera(chosen, align_corners, normalize, device):
    size, rng = (2, 3), torch.Generator().manual_seed(5)
    depth = 1 + torch.rand(2, *size, generator=rng, dtype=torch.float64)
    depth[0, 0, 2], depth[0, 1, 2], depth[1, 0, 1], depth[1, 1, 0] = torch.nan, -1.0, torch.inf, torch.nan
    maps = torch.randn(2, 2, 2, 2, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    free, pose = parts_of(make_camera(2, rng).to(device))
    pixels = None if chosen is None else torch.tensor(chosen, device=device)

    def lifted(d, m, f, t):
        camera, how = camera_of(f, t, size), {"align_corners": align_corners, "normalize": normalize}
        cloud = back_project(d, camera, m, pixels=pixels, **how)
        return torch.where(cloud.valid[:, None], cloud.points, 0), cloud.features

    assert torch.autograd.gradcheck(lifted, (depth.to(device).requires_grad_(), maps, free, pose))


def test_the_gradient_is_the_pinhole_derivative(device):
    """x = (u - cx) / fx z with u = 3, cx = 1, fx = 4, z = 2."""
    intrinsics = simple_camera((1, 4), 4.0, (1.0, 0.0), torch.float32, device).intrinsics.requires_grad_()
    pose = torch.eye(4, device=device).requires_grad_()
    depth = torch.tensor([[[0.0, 0.0, 0.0, 2.0]]], device=device, requires_grad=True)
    back_project(depth, Camera(intrinsics, pose, (1, 4))).points[0, 0].backward()
    assert depth.grad.tolist() == [[[0, 0, 0, 0.5]]]
    assert intrinsics.grad[0].tolist() == [[-0.25, 0, -0.5], [0, 0, 0], [0, 0, 0]]
    assert pose.grad.tolist() == [[1, 0, 2, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_pixel_chosen_twice_gets_both_gradients(device, dtype):
    depth = torch.ones(1, 1, 3, dtype=dtype, device=device, requires_grad=True)
    maps = torch.ones(1, 1, 1, 3, device=device, requires_grad=True)
    chosen = torch.tensor([2, 0, 2], device=device)
    cloud = back_project(depth, unit_camera(3, 1, dtype, device), maps, pixels=chosen)
    weight = torch.tensor([[1.0], [2.0], [4.0]], device=device)
    (cloud.points[:, 2:] * weight).sum().backward(retain_graph=True)
    assert depth.grad.tolist() == [[[2, 0, 5]]]
    (cloud.features * weight).sum().backward()
    assert maps.grad.flatten().tolist() == [2, 0, 5]


@pytest.mark.parametrize("missing", NO_READING, ids=str)
def test_a_pixel_without_a_reading_has_no_gradient_even_of_nan(missing, device, dtype):
    """Whoever squares the NaN of its point sends a NaN back: it must reach neither depth nor camera."""
    depth = torch.tensor([[[2.0, missing], [1.0, 4.0]]], dtype=dtype, device=device, requires_grad=True)
    free, pose = parts_of(simple_camera((2, 2), 2.0, (0.5, 0.5), dtype, device))
    maps = torch.ones(1, 1, 2, 2, dtype=dtype, device=device, requires_grad=True)
    chosen = torch.tensor([1, 0, 3, 1, 2], device=device)
    cloud = back_project(depth, camera_of(free, pose, (2, 2)), maps, pixels=chosen)
    assert cloud.valid.tolist() == [False, True, True, False, True]
    gradients = torch.autograd.grad((cloud.points**2).sum() + cloud.features.sum(), (depth, free, pose, maps))
    assert all(g.isfinite().all() for g in gradients)
    assert gradients[0][0, 0, 1] == 0
    assert gradients[3].flatten().tolist() == [1, 2, 1, 1]  # the features of pixel 1 are there, twice

    without = back_project(depth, camera_of(free, pose, (2, 2)))
    wanted = torch.autograd.grad((without.points**2).sum(), (depth, free, pose))
    assert_close(gradients[:3], wanted)


def test_dropped_pixels_have_no_gradient_to_the_maps(device):
    depth = torch.tensor([[[1.0, 0.0, 2.0]]], device=device)
    maps = torch.ones(1, 2, 1, 3, device=device, requires_grad=True)
    back_project(depth, unit_camera(3, device=device), maps).features.sum().backward()
    assert maps.grad.tolist() == [[[[1, 0, 1]], [[1, 0, 1]]]]


@pytest.mark.parametrize("chosen", [False, True])
def test_uint16_depth_leaves_gradients_to_camera_and_maps(chosen, device):
    scene = make_scene(100, 2, torch.float64, torch.float64, device)
    free, pose = parts_of(scene.camera)
    maps = scene.maps.clone().requires_grad_()
    pixels = torch.arange(scene.depth.numel(), device=device).flip(0).repeat(2)[::3] if chosen else None

    def gradients(lift, depth, **scale):
        cloud = lift(depth, camera_of(free, pose, SIZE), maps, pixels=pixels, **scale)
        loss = (cloud.points[cloud.valid] ** 2).sum() + (cloud.features**2).sum()
        return torch.autograd.grad(loss, (free, pose, maps))

    ours = gradients(back_project, scene.depth_mm, depth_scale=1000.0)
    wanted = gradients(back_project, reference.metres(scene.depth_mm, 1000.0, torch.float64))
    assert_same_bits(ours, wanted)
    for mine, plain in zip(ours, gradients(reference.back_project, scene.depth_mm, depth_scale=1000.0), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-10, atol=1e-10 * plain.abs().max().item())


def test_a_camera_of_another_dtype_gets_its_gradient_in_its_own(device):
    scene = make_scene(100, 2, torch.float32, device=device)
    pose = scene.camera.world_from_camera.double().requires_grad_()
    camera = Camera(scene.camera.intrinsics.double(), pose, SIZE)
    cloud = back_project(scene.depth, camera)
    assert cloud.points.dtype == torch.float32
    cloud.points.sum().backward()
    assert pose.grad.dtype == torch.float64
    assert_close(pose.grad[:, 0, 3], cloud.ptr.diff().double())  # each point moves as its camera does


def test_the_gradient_to_the_camera_does_not_lose_digits_over_many_pixels(device):
    """A million times 0.1 in one running sum of float32 is 100958."""
    depth = torch.full((1, 1000, 1000), 0.1, device=device)
    pose = torch.eye(4, device=device).requires_grad_()
    camera = Camera(simple_camera((1000, 1000), dtype=torch.float32, device=device).intrinsics, pose, (1000, 1000))
    back_project(depth, camera).points[:, 2].sum().backward()
    assert pose.grad[2, 2:].tolist() == [100_000, 1_000_000]


@pytest.mark.parametrize("short", [torch.float16, torch.bfloat16])
def test_gradients_of_short_maps_are_summed_in_float32(short, device):
    maps = torch.zeros(1, 1, 1, 1, dtype=short, device=device, requires_grad=True)
    depth = torch.ones(1, 50, 60, device=device)
    back_project(depth, unit_camera(60, 50, device=device), maps).features.sum().backward()
    assert maps.grad.item() == torch.tensor(3000.0).to(short).item()


def test_only_what_asks_for_a_gradient_gets_one(device):
    scene = make_scene(50, 2, device=device)
    cloud = back_project(scene.depth, scene.camera, scene.maps.clone().requires_grad_())
    assert cloud.features.requires_grad
    assert not cloud.points.requires_grad
    cloud = back_project(scene.depth.clone().requires_grad_(), scene.camera, scene.maps)
    assert cloud.points.requires_grad
    assert not cloud.features.requires_grad
    assert not cloud.pixel.requires_grad
