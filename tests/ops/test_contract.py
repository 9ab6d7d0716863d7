"""Does every operation keep the promises that are common to all?"""

import contextlib
import warnings
from dataclasses import replace

import numpy
import pytest
import torch
from cases import CASES, cotangent, gradients, leaves
from scenes import CPU, SIZE, assert_close, assert_same_bits, make_scene, strided, tensors_of, transposed
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

import pyproj2d3d
from pyproj2d3d import Matches, _native, reference, splat, voxelize, zbuffer
from pyproj2d3d.ops import _register

every_case = pytest.mark.parametrize("case", CASES, ids=str)
differentiable_case = pytest.mark.parametrize("case", [c for c in CASES if c.differentiable], ids=str)


@every_case
@pytest.mark.parametrize(("n", "views"), [(0, 3), (50, 0), (0, 0), (1, 1)])
def test_empty_input_gives_empty_output(case, n, views, device, dtype):
    scene = make_scene(n, views, dtype, dtype, device)
    assert_close(case(scene), case(scene, reference))
    if case.differentiable:
        wanted = [t.shape for t in tensors_of(case.arguments(scene)[0]) if t.is_floating_point()]
        assert [g.shape for g in gradients(case.call(), case.arguments(scene))] == wanted


@every_case
@pytest.mark.parametrize("layout", [strided, transposed])
def test_memory_layout_does_not_matter(case, layout, device, dtype, feature_dtype):
    positional, keywords = case.arguments(make_scene(200, 3, dtype, feature_dtype, device, finite=True))
    elsewhere = tuple(layout(a) for a in positional), {k: layout(v) for k, v in keywords.items()}
    assert_same_bits(case.call()(*elsewhere[0], **elsewhere[1]), case.call()(*positional, **keywords))
    if case.differentiable:
        assert_same_bits(gradients(case.call(), elsewhere), gradients(case.call(), (positional, keywords)))


@every_case
def test_functors_of_cuda_give_the_same_bits_when_rehearsed_on_the_cpu(case, dtype, feature_dtype, monkeypatch):
    """Where the two devices have functors of different widths; the kernels that a warp shares run on CUDA alone."""
    scene = make_scene(500, 3, dtype, feature_dtype, CPU, finite=True)
    wanted = case(scene)
    wanted_gradients = gradients(case.call(), case.arguments(scene)) if case.differentiable else None
    monkeypatch.setattr(_register, "rehearse_cuda", True)
    assert_same_bits(case(scene), wanted)
    if wanted_gradients is not None:
        assert_same_bits(gradients(case.call(), case.arguments(scene)), wanted_gradients)


@every_case
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(case, mode, device):
    with mode():
        scene = make_scene(100, 2, device=device)
        assert_close(case(scene), case(scene, reference))


@every_case
def test_inputs_are_left_as_they_were(case, device):
    positional, keywords = case.arguments(make_scene(200, 3, device=device))
    before = [t.clone() for t in tensors_of(positional)]
    case.call()(*positional, **keywords)
    assert_same_bits(tensors_of(positional), before)


@differentiable_case
def test_gradients_agree_with_reference(case, device):
    scene = make_scene(400, 3, torch.float64, torch.float64, device, finite=True)
    ours = gradients(case.call(), case.arguments(scene))
    for mine, wanted in zip(ours, gradients(case.call(reference), case.arguments(scene)), strict=True):
        scale = wanted.abs().max().item()  # a point beside a camera has a gradient of 1e6 that enters a sum
        torch.testing.assert_close(mine, wanted, rtol=1e-9, atol=1e-11 * max(scale, 1.0))
        assert scale > 0


@differentiable_case
def test_gradients_take_a_weight_that_is_one_expanded_number(case, device, dtype):
    """What ``out.sum().backward()`` hands over: strides of 0."""
    arguments = case.arguments(make_scene(100, 2, dtype, dtype, device, finite=True))
    expanded = gradients(case.call(), arguments, lambda t: t.new_ones(()).expand(t.shape))
    assert_same_bits(expanded, gradients(case.call(), arguments, torch.ones_like))


@pytest.mark.parametrize("case", [c for c in CASES if c.differentiable and c.how != "first"], ids=str)  # torch's own
def test_a_second_derivative_is_refused_not_silently_wrong(case, device):
    positional, keywords = case.arguments(make_scene(30, 2, torch.float64, torch.float64, device, finite=True))
    positional = leaves(positional)
    asked = [t for t in tensors_of(positional) if t.requires_grad]
    out = next(t for t in tensors_of(case.call()(*positional, **keywords)) if t.requires_grad)
    first = torch.autograd.grad((out**2).sum(), asked, create_graph=True, materialize_grads=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(
            [g for g in first if g.requires_grad], asked, [cotangent(g) for g in first if g.requires_grad]
        )


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of torch itself, entering forward mode
@pytest.mark.parametrize("case", [c for c in CASES if c.differentiable and c.how != "first"], ids=str)  # torch's own
def test_a_derivative_in_forward_mode_is_refused_not_silently_zero(case, device):
    positional, keywords = case.arguments(make_scene(30, 2, torch.float64, torch.float64, device, finite=True))
    at = next(i for i, a in enumerate(positional) if isinstance(a, torch.Tensor) and a.is_floating_point())

    def call(value):
        return tensors_of(case.call()(*positional[:at], value, *positional[at + 1 :], **keywords))

    with pytest.raises(NotImplementedError, match="no derivative in forward mode"):
        torch.func.jvp(call, (positional[at],), (torch.ones_like(positional[at]),))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="no derivative in forward mode"):
        call(forward_ad.make_dual(positional[at], torch.ones_like(positional[at])))


def bits_of(case, scene) -> tuple[torch.Tensor, ...]:
    """All that a case computes: its results and its gradients."""
    results = tensors_of(case(scene))
    return results + gradients(case.call(), case.arguments(scene)) if case.differentiable else results


@every_case
def test_the_same_bits_with_any_number_of_threads(case, set_threads, dtype):
    scene = make_scene(10_000, 3, dtype, dtype, finite=True, cells=(24, 32))
    set_threads(1)
    alone = bits_of(case, scene)
    for threads in (2, 3):
        set_threads(threads)
        assert_same_bits(bits_of(case, scene), alone)


@every_case
def test_the_same_bits_twice(case, device, feature_dtype):
    scene = make_scene(5000, 3, feature_dtype=feature_dtype, device=device, finite=True)
    first = bits_of(case, scene)
    for _ in range(3):
        assert_same_bits(bits_of(case, scene), first)


SAME_BITS = (
    *("project", "visibility", "zbuffer", "voxelize", "superpoints"),
    *("farthest_point_sample", "ball_query", "three_nn", "kernel_map", "cluster"),
)


@every_case
def test_the_cpu_and_cuda_agree_and_integers_to_the_bit(case, device, dtype, feature_dtype):
    if device == CPU:
        pytest.skip("takes a CUDA device")
    there, here = (case(make_scene(5000, 3, dtype, feature_dtype, where)) for where in (device, CPU))
    (assert_same_bits if case.op in SAME_BITS else assert_close)([t.cpu() for t in tensors_of(there)], here)


@pytest.mark.parametrize("case", [c for c in CASES if not c.synchronises and not c.host_only], ids=str)
def test_can_be_captured_in_a_cuda_graph(case, device):
    """So it never synchronises, and works on the current stream."""
    if device == CPU:
        pytest.skip("takes a CUDA device")
    positional, keywords = case.arguments(make_scene(5000, 3, device=device))
    expected = case.call()(*positional, **keywords)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = case.call()(*positional, **keywords)
    for t in tensors_of(captured):
        t.zero_()
    graph.replay()
    assert_same_bits(captured, expected)


@pytest.mark.parametrize("case", [c for c in CASES if c.synchronises and c.how != "far"], ids=str)
def test_synchronises_once(case, device):
    if device == CPU:
        pytest.skip("takes a CUDA device")
    positional, keywords = case.arguments(make_scene(5000, 3, device=device))
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            case.call()(*positional, **keywords)
        finally:
            torch.cuda.set_sync_debug_mode(before)
    assert len([w for w in said if "called a synchronizing" in str(w.message)]) == 1


@every_case
def test_works_on_the_current_stream(case, device):
    if device == CPU:
        pytest.skip("takes a CUDA device")
    positional, keywords = case.arguments(make_scene(5000, 3, device=device))
    expected = case.call()(*positional, **keywords)
    inputs = [(t, t.clone()) for t in tensors_of(positional)]
    for t, _ in inputs:
        t.zero_()
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(10_000_000)
        for t, values in inputs:  # on this stream alone they come back, and late
            t.copy_(values)
        result = case.call()(*positional, **keywords)
    side.synchronize()
    assert_same_bits(result, expected)


GOOD = {"ptr": [0, 2, 3], "point": [0, 2, 1], "pixel": [3, 0, 3]}  # of 3 points in two images of 2 x 2
BAD_MATCHES = {
    "ptr that does not begin at 0": ({"ptr": [1, 2, 3]}, r"ptr must ascend from 0 to 3, got \[1, 2, 3\]"),
    "ptr that ends early": ({"ptr": [0, 2, 2]}, r"ptr must ascend from 0 to 3, got \[0, 2, 2\]"),
    "ptr that falls": ({"ptr": [0, 4, 3]}, r"ptr must ascend from 0 to 3, got \[0, 4, 3\]"),
    "no ptr": ({"ptr": []}, r"ptr must have V \+ 1 entries"),
    "a point beyond the cloud": ({"point": [0, 3, 1]}, "match 1 is point 3 at pixel 0"),
    "a negative point": ({"point": [-1, 2, 1]}, "match 0 is point -1 at pixel 3"),
    "a pixel beyond the image": ({"pixel": [3, 0, 4]}, "match 2 is point 1 at pixel 4"),
    "a negative pixel": ({"pixel": [3, -1, 3]}, "match 1 is point 2 at pixel -1"),
    "points that do not ascend": ({"point": [2, 0, 1]}, "ascending within a view; match 1 is point 0"),
    "a point twice in a view": ({"point": [1, 1, 1]}, "ascending within a view; match 1 is point 1"),
    "fewer pixels than points": ({"pixel": [3, 0]}, r"pixel must have shape \(3\), got \(2,\)"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_MATCHES.values(), ids=BAD_MATCHES.keys())
def test_matches_made_by_hand_that_cannot_be_are_refused(change, message):
    """On the CPU, where looking costs no synchronisation: anything else would read memory that is not ours."""
    parts = {k: torch.tensor(v, dtype=torch.int64 if k == "ptr" else torch.int32) for k, v in (GOOD | change).items()}
    matches = Matches(**parts)
    maps, features = torch.ones(2, 1, 2, 2), torch.ones(3, 1)
    calls = [
        lambda: zbuffer(torch.ones(2, 3, 3), (2, 2), matches=matches),
        lambda: splat(features, matches, (2, 2)),
        lambda: pyproj2d3d.fuse_views(maps, matches, 3, (2, 2)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("flag", ["align_corners", "normalize"])
@pytest.mark.parametrize("value", ["no", None, 2.0, 1], ids=str)
def test_a_flag_is_true_or_false_and_nothing_else(flag, value):
    scene = make_scene(20, 2)
    maps, matches, how = scene.maps, scene.matches, {flag: value}
    calls = [
        lambda: pyproj2d3d.sample(maps, matches, SIZE, **how),
        lambda: pyproj2d3d.fuse_views(maps, matches, 20, SIZE, **how),
        lambda: pyproj2d3d.ViewFuser(20, maps.shape[1]).add(maps[0], matches[0], SIZE, **how),
        lambda: pyproj2d3d.back_project(scene.depth, scene.camera, maps, **how),
        lambda: pyproj2d3d.scatter(maps[0, 0], voxelize(maps[0, 0, :, :3], 1.0), "max", return_arg=value),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=f"({flag}|return_arg) must be True or False, got {value!r}"):
            call()
    pyproj2d3d.sample(maps, matches, SIZE, **{flag: numpy.bool_(True)})


@pytest.mark.parametrize("n", [2**31, 2**70])
def test_a_count_beyond_int32_is_refused_by_name(n):
    points, matches = torch.zeros(6, 3), Matches(torch.zeros(2).long(), torch.zeros(0).int(), torch.zeros(0).int())
    calls = [
        ("k", lambda: pyproj2d3d.ball_query(points, points, 1.0, n)),
        ("n", lambda: pyproj2d3d.farthest_point_sample(points, n, ptr=torch.tensor([0, 6]))),
        ("start", lambda: pyproj2d3d.farthest_point_sample(points, 1, start=n)),
        ("n_points", lambda: pyproj2d3d.ViewFuser(n, 1)),
        ("n_points", lambda: pyproj2d3d.fuse_views(torch.ones(1, 1, 1, 1), matches, n, (1, 1))),
    ]
    for name, call in calls:
        with pytest.raises(ValueError, match=f"{name} must be fewer than 2\\*\\*31, got {n}"):
            call()


def test_a_cloud_beyond_int32_is_refused_by_name():
    """One row that stands for all: nothing of that size is made before it is refused."""
    n, few, camera = 2**31, torch.zeros(1, 3), make_scene(1, 1).camera
    many = few.expand(n, 3)
    calls = [
        ("points", lambda: voxelize(many, 1.0)),
        ("points", lambda: pyproj2d3d.visibility(many, camera)),
        ("points", lambda: pyproj2d3d.visibility(many, camera, "zbuffer")),
        ("points of uvz", lambda: zbuffer(many[None], SIZE)),
        ("points", lambda: pyproj2d3d.cluster(many, torch.zeros(1).long().expand(n), 1.0)),
        ("points", lambda: pyproj2d3d.farthest_point_sample(many, 1)),
        ("points", lambda: pyproj2d3d.three_nn(many, few)),
        ("queries", lambda: pyproj2d3d.ball_query(few, many, 1.0, 1)),
        ("coords", lambda: pyproj2d3d.kernel_map(torch.zeros(1, 4).int().expand(n, 4), 3)),
        ("edges", lambda: pyproj2d3d.superpoints(few, few, torch.zeros(1, 2).long().expand(n, 2), k=1, min_size=1)),
    ]
    for name, call in calls:
        with pytest.raises(ValueError, match=f"{name} must be fewer than 2\\*\\*31, got {n}"):
            call()


class Recorder(TorchDispatchMode):
    """Notes every call of a registered operation."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "pyproj2d3d":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def recorded_calls(device=CPU) -> list:
    """The calls that all cases, forward and backward, make of the registered operations."""
    with Recorder() as recorder:
        scene = make_scene(20, 2, torch.float64, torch.float64, device, finite=True, cells=(3, 4))
        whole = scene.depth.nan_to_num(1, 1).clamp(min=0.5)  # opcheck takes a NaN in a result for a difference
        for case in CASES:
            arguments = case.arguments(replace(scene, depth=whole))
            case.call()(*arguments[0], **arguments[1])
            if case.differentiable:
                gradients(case.call(), arguments)
    return recorder.calls


def test_every_registered_operation_is_checked():
    registered = {
        n.removeprefix("pyproj2d3d::") for n in torch._C._dispatch_get_all_op_names() if n.startswith("pyproj2d3d::")
    }
    assert registered == {func._opname for func, _ in recorded_calls()}
    assert len(registered) > 6


WITHOUT_GRADIENT = (
    *("visibility", "zbuffer_points", "voxelize", "scatter_mode", "superpoints"),
    *("farthest_point_sample", "ball_query", "cluster", "kernel_map"),
)
TRACK = {"fuse_views": 6, "scatter_extreme": 5}  # the argument without which a maximum has none


# newer versions of opcheck look at .grad of tensors that are not leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_opcheck(device):
    """Schema, fake kernel, autograd and AOT dispatch of every registered operation, in every form that is used."""
    seen = set()
    for func, args in recorded_calls(device):
        form = (
            func,
            *(type(a) if isinstance(a, torch.Tensor) else tuple(a) if isinstance(a, list) else a for a in args),
        )
        if form in seen:
            continue
        seen.add(form)
        asks = not func._opname.endswith("_grad") and func._opname not in WITHOUT_GRADIENT
        asks = asks and (func._opname not in TRACK or args[TRACK[func._opname]])
        plain = [
            a.detach().clone().requires_grad_(asks and a.is_floating_point()) if isinstance(a, torch.Tensor) else a
            for a in args
        ]
        assert set(torch.library.opcheck(func, tuple(plain)).values()) == {"SUCCESS"}, form
    assert len(seen) > 10


@pytest.fixture
def set_isa():
    before = _native.isa()
    yield _native.set_isa
    _native.set_isa(before)


def instruction_sets(set_isa) -> list[str]:
    """Those beyond the plainest that this CPU has."""
    available = []
    for name in ("x86-64-v3", "x86-64-v4"):
        with contextlib.suppress(ValueError):
            set_isa(name)
            available.append(name)
    return available


@every_case
def test_the_same_bits_with_every_instruction_set(case, set_isa, dtype):
    scene = make_scene(5000, 3, dtype, dtype, finite=True)
    set_isa("x86-64")
    plain = bits_of(case, scene)
    for name in instruction_sets(set_isa):
        set_isa(name)
        assert _native.isa() == name
        assert_same_bits(bits_of(case, scene), plain)


def test_an_unknown_instruction_set_is_refused(set_isa):
    before = _native.isa()
    with pytest.raises(ValueError, match="avx9"):
        set_isa("avx9")
    assert _native.isa() == before


def test_without_a_driver_cuda_is_a_readable_error():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    if not _native.build_info()["cuda"]:
        pytest.skip("built without CUDA")
    with pytest.raises(RuntimeError, match=r"(?i)driver"):
        _native.device_count()
