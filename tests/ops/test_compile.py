"""Do operations compile, alone and together, for sizes and numbers that vary, and do compiled ones look at indices?"""

from dataclasses import replace

import pytest
import torch
import torch._inductor.config
from cases import CASES, gradients
from scenes import SIZE, assert_same_bits, make_matches, make_scene, simple_camera, tensors_of
from torch.autograd import forward_ad

from pyproj2d3d import (
    Matches,
    back_project,
    ball_query,
    cluster,
    farthest_point_sample,
    fuse_views,
    kernel_map,
    project,
    reference,
    sample,
    scatter,
    splat,
    superpoints,
    three_nn,
    visibility,
    voxelize,
    zbuffer,
)

compiled_case = pytest.mark.parametrize("case", [c for c in CASES if c.compiled], ids=str)
# dynamo looks at .grad of every input, and a camera's tensors are seldom leaves
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@pytest.fixture
def compiled():
    torch._dynamo.reset()
    yield lambda call, backend="eager": torch.compile(call, fullgraph=True, backend=backend)
    torch._dynamo.reset()


@compiled_case
def test_compiles_into_one_graph(case, compiled, device):
    arguments = case.arguments(make_scene(300, 2, device=device, finite=True))
    call = compiled(lambda *args, **kwargs: tensors_of(case.call()(*args, **kwargs)), "aot_eager")
    assert_same_bits(call(*arguments[0], **arguments[1]), case.call()(*arguments[0], **arguments[1]))
    if case.differentiable:
        assert_same_bits(gradients(call, arguments), gradients(case.call(), arguments))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # inductor's own
def test_a_pipeline_compiles_with_inductor(compiled, device):
    def render(points, features, camera):
        index, depth = zbuffer(project(points, camera), SIZE, radius=1)
        return splat(features * 2, index) + depth[:, None]

    scene = make_scene(300, 2, device=device, finite=True)
    arguments = ((scene.points, scene.features, scene.camera), {})
    call = compiled(render, "inductor")
    with torch._inductor.config.patch(
        force_disable_caches=True
    ):  # its cache on disk keeps a backward that has changed since
        result, ours = call(*arguments[0]), gradients(call, arguments)
    assert_same_bits(result, render(*arguments[0]))
    for mine, eager in zip(ours, gradients(render, arguments), strict=True):
        torch.testing.assert_close(mine, eager, rtol=1e-4, atol=1e-5 * eager.abs().max().item())


def test_one_compiled_call_serves_clouds_of_any_size(compiled, device):
    call = compiled(lambda points, camera: tensors_of(visibility(points, camera, tolerance=0.0)))
    for n in (300, 301, 1000, 7):
        scene = make_scene(n, 2, device=device)
        assert_same_bits(
            call(scene.points, scene.camera), reference.visibility(scene.points, scene.camera, tolerance=(0.0,) * 3)
        )


def test_between_two_graphs_an_operation_runs_as_it_is():
    """How many voxels there are ends a graph; torch.compile then looked into our Python, and failed on its fakes."""
    torch._dynamo.reset()
    call = torch.compile(lambda points: voxelize(points, 0.1).coords + 1, backend="eager")
    for n in (300, 295, 7):
        points = torch.rand(n, 3)
        assert torch.equal(call(points), voxelize(points, 0.1).coords + 1)
    torch._dynamo.reset()


def given(i, device):
    """Points, camera, depth, maps and a number, of other sizes and another value for each i."""
    rng = torch.Generator().manual_seed(i)
    size = (12 + i, 16 + 2 * i)
    camera = simple_camera(size, 20.0, (8.0, 6.0), torch.float32, device)
    points = torch.rand(50 + i, 3, generator=rng) + torch.tensor([-0.5, -0.5, 3.0])
    depth = torch.rand(1, *size, generator=rng) + 3
    depth[0, :i] = 0
    maps = torch.randn(1, 3, 4, 5 + i, generator=rng)
    return points.to(device), camera, depth.to(device), maps.to(device), 0.2 + 0.1 * i


def lifted(depth, camera):
    return back_project(depth, camera).points


def whole(points):
    return points.new_zeros(points.shape[0], dtype=torch.int64)


TOGETHER = {
    "voxels of lifted pixels": lambda p, c, d, m, x: voxelize(lifted(d, c), x),
    "voxels from a corner": lambda p, c, d, m, x: voxelize(p, x, origin=(x, 0.0, 1)),
    "kernel map of voxels": lambda p, c, d, m, x: kernel_map(voxelize(p, x).coords, 3),
    "halves of voxels": lambda p, c, d, m, x: kernel_map(voxelize(p, x).coords, 2, stride=2),
    "features of voxels": lambda p, c, d, m, x: scatter(q := lifted(d, c), voxelize(q, x)),
    "maxima of voxels": lambda p, c, d, m, x: scatter(p, voxelize(p, x), "max", return_arg=True),
    "labels of voxels": lambda p, c, d, m, x: scatter(whole(p), voxelize(p, x), "mode"),
    "neighbours of lifted pixels": lambda p, c, d, m, x: three_nn(lifted(d, c), p),
    "balls around lifted pixels": lambda p, c, d, m, x: ball_query(p, lifted(d, c), x, 4),
    "clusters of lifted pixels": lambda p, c, d, m, x: cluster(q := lifted(d, c), whole(q), x),
    "samples of lifted pixels": lambda p, c, d, m, x: farthest_point_sample(lifted(d, c), 5, start=1),
    "lifted pixels seen again": lambda p, c, d, m, x: visibility(lifted(d, c), c, d, tolerance=x, z_max=4 + x),
    "seen in their own depth": lambda p, c, d, m, x: visibility(p, c, "zbuffer", tolerance=(x, 0, 0), radius=1),
    "millimetres": lambda p, c, d, m, x: back_project((d * 1000).to(torch.uint16), c, depth_scale=1000 * x),
    "nearest points as images": lambda p, c, d, m, x: splat(p, zbuffer(project(p, c), d.shape[-2:])[0]),
    "matches as images": lambda p, c, d, m, x: splat(p, visibility(p, c), c.size),
    "nearest of the matches": lambda p, c, d, m, x: zbuffer(project(p, c), c.size, matches=visibility(p, c)),
    "views fused": lambda p, c, d, m, x: fuse_views(m, visibility(q := lifted(d, c), c), q.shape[0], c.size),
    "maps at matches": lambda p, c, d, m, x: sample(m, visibility(p, c), c.size),
    "maps of an image's size": lambda p, c, d, m, x: sample(m, project(p, c)[..., :2], d.shape[-2:]),
    "maps at chosen pixels": lambda p, c, d, m, x: back_project(d, c, m, pixels=torch.arange(p.shape[0])).features,
    "a smaller image": lambda p, c, d, m, x: project(p, c.resized((d.shape[1] // 2, d.shape[2]))),
    "part of an image": lambda p, c, d, m, x: project(p, c.cropped(d.shape[1] - 9, 1, 6, d.shape[2] - 2)),
    "segments": lambda p, c, d, m, x: superpoints(p, p, torch.arange(40).view(20, 2), k=x, min_size=2),
}  # fmt: skip


@pytest.mark.parametrize("call", TOGETHER.values(), ids=TOGETHER.keys())
def test_operations_compile_together_for_sizes_and_numbers_that_vary(call, compiled):
    """As torch.compile knows neither how many points another operation finds, nor, from the second call on, a number
    or a size that was another before."""
    compiled_call = compiled(lambda *args: tensors_of(call(*args)))
    for i in range(3):
        args = given(i, torch.device("cpu"))
        assert_same_bits(compiled_call(*args), call(*args))


def test_a_pipeline_from_pixels_to_voxels_compiles_with_its_gradients(compiled, device):
    def step(depth, maps, camera, size):
        cloud = back_project(depth, camera, maps, normalize=True)
        voxels = voxelize(cloud.points, size)
        middle = scatter(cloud.points, voxels)
        near, index = three_nn(middle, cloud.points)
        matches = visibility(cloud.points, camera, depth)
        fused = fuse_views(maps, matches, cloud.points.shape[0], camera.size, reduce="max")[0]
        seen, z = zbuffer(project(cloud.points, camera), camera.size, matches=matches)
        image = splat(fused, seen)
        return scatter(cloud.features, voxels, "max"), torch.where(index >= 0, near, 0), image, z

    call = compiled(step, "aot_eager")
    for i in range(3):
        _, camera, depth, maps, size = given(i, device)
        assert_same_bits(call(depth, maps, camera, size), step(depth, maps, camera, size))
        ours, wanted = (gradients(c, ((depth, maps, camera, size), {})) for c in (call, step))
        assert_same_bits(ours, wanted)
        assert all(g.abs().sum() > 0 for g in wanted)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch itself, entering forward mode
def test_a_compiled_call_too_has_no_derivative_in_forward_mode_and_says_so(compiled):
    points, camera, *_ = given(0, torch.device("cpu"))
    call = compiled(lambda p: project(p, camera) * 2, "aot_eager")
    with forward_ad.dual_level():
        assert torch.equal(call(points), project(points, camera) * 2)  # without a tangent there is nothing to lose
        with pytest.raises(NotImplementedError, match="project has no derivative in forward mode"):
            call(forward_ad.make_dual(points, torch.ones_like(points)))


VOXELS = voxelize(torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [1.5, 0, 0]]), 1.0)
ROWS, MAPS = torch.ones(3, 2), torch.ones(1, 2, 2, 2)
FAR = torch.tensor([0, 99])
SEEN = make_matches([[(0, 3), (9, 99)]])
WRONG = {
    "splat": (lambda: splat(ROWS, torch.tensor([[[0, 50]]])), "index must be within -1 and 2, got 0 to 50"),
    "splat matches": (lambda: splat(ROWS, SEEN, (2, 2)), "match 1 is point 9 at pixel 99"),
    "zbuffer": (lambda: zbuffer(ROWS.new_ones(1, 3, 3), (2, 2), matches=SEEN), "match 1 is point 9 at pixel 99"),
    "sample": (lambda: sample(MAPS, SEEN, (2, 2)), "match 1 is point 9 at pixel 99"),
    "fuse_views": (lambda: fuse_views(MAPS, SEEN, 3, (2, 2)), "match 1 is point 9 at pixel 99"),
    "points": (lambda: back_project(ROWS.new_ones(1, 2, 2), CAMERA, pixels=FAR).points, "pixels must be .* got 99"),
    "features alone": (
        lambda: back_project(ROWS.new_ones(1, 2, 2), CAMERA, MAPS, pixels=FAR).features,  # no point is asked for
        "pixels must be .* got 99",
    ),
    "sums": (lambda: scatter(ROWS, replace(VOXELS, order=VOXELS.order + 1)), "voxels.order must be .* got 1 to 3"),
    "maxima": (lambda: scatter(ROWS, replace(VOXELS, ptr=VOXELS.ptr + 1), "max"), "voxels.ptr must ascend from 0"),
    "labels": (
        lambda: scatter(ROWS.long(), replace(VOXELS, inverse=VOXELS.inverse + 9), "mode"),
        "voxels.inverse must be within -1 and 1, got 9 to 10",
    ),
    "samples": (lambda: farthest_point_sample(ROWS.new_ones(3, 3), 4), "n must be at most the 3 points, got 4"),
    "a first sample": (
        lambda: farthest_point_sample(ROWS.new_ones(3, 3), 1, start=3),
        "start must be below the 3 points",
    ),
}  # fmt: skip
CAMERA = simple_camera((2, 2), dtype=torch.float32)


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_compiled_operation_refuses_an_index_that_is_not_there(call, message, compiled):
    """It read memory that is not ours, or wrote to it."""
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(ValueError, match=message):
        compiled(call, "aot_eager")()


def test_each_index_is_looked_at_once(monkeypatch):
    looks = []
    monkeypatch.setattr(torch.Tensor, "aminmax", lambda t: looks.append(t) or torch.aminmax(t))
    splat(ROWS, torch.tensor([[[0, 1]]])), scatter(ROWS, VOXELS), scatter(ROWS.long(), VOXELS, "mode")
    scatter(ROWS, VOXELS, "first"), scatter(ROWS, VOXELS, "max")
    back_project(ROWS.new_ones(1, 2, 2), CAMERA, MAPS, pixels=FAR[:1])
    assert len(looks) == 1 + 2 + 2 + 2 + 2 + 1


def test_matches_are_looked_at_once(monkeypatch):
    looks, seen = [], Matches(SEEN.ptr - torch.tensor([0, 1]), SEEN.point[:1], SEEN.pixel[:1])
    count = lambda *args: looks.append(args) or 1  # noqa: E731
    monkeypatch.setattr("pyproj2d3d.ops._check.native.first_bad_match", count)
    splat(ROWS, seen, (2, 2)), sample(MAPS, seen, (2, 2)), fuse_views(MAPS, seen, 3, (2, 2))
    zbuffer(ROWS.new_ones(1, 3, 3), (2, 2), matches=seen)
    assert len(looks) == 4
