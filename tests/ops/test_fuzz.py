"""Do the operations agree with the reference on scenes that nobody would think of?

A short run of the same examples every time, unless the environment has ``PYPROJ2D3D_FUZZ=long``: then a few thousand
new ones (minutes)::

    PYPROJ2D3D_FUZZ=long pytest tests/ops/test_fuzz.py
"""

import math
import os

import pytest
import torch
from scenes import assert_close, assert_same_bits

from pyproj2d3d import Camera, fuse_views, project, reference, sample, visibility, zbuffer

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

LONG = os.environ.get("PYPROJ2D3D_FUZZ") == "long"
fuzz = hypothesis.settings(
    max_examples=2000 if LONG else 40, derandomize=not LONG, deadline=None, database=None, print_blob=True
)
pytestmark = pytest.mark.timeout(3600 if LONG else 120)

ODD = [0.0, -0.0, 0.5, -0.5, 1.0, 2.0, -1.0, 0.01, math.nan, math.inf, -math.inf, 1e-30, -1e-30, 1e-42, 1e30, 3e38]
coordinate = st.sampled_from(ODD) | st.integers(-8, 8).map(lambda n: n / 2) | st.floats(-4, 4, width=32)
points_of = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=40)
focal = st.sampled_from([1.0, -1.0, 2.0, 0.7, -37.3, 1e-20, 1e20])
centre = st.integers(-4, 20).map(lambda n: n / 2) | st.floats(-5, 12, width=32)
entry = st.sampled_from([0.0, 1.0, -1.0, 0.5]) | st.floats(-2, 2, width=32)
dtypes = st.sampled_from([torch.float32, torch.float64])


@st.composite
def cameras(draw: st.DrawFn, views: int, size: tuple[int, int]) -> Camera:
    """Off-centre, with negative focal lengths, and poses that are no rotations, half of them exact."""
    intrinsics = torch.zeros(views, 3, 3, dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    for k, t in zip(intrinsics, pose, strict=True):
        k[0, 0], k[1, 1], k[0, 2], k[1, 2], k[2, 2] = draw(focal), draw(focal), draw(centre), draw(centre), 1.0
        if draw(st.booleans()):
            t[:3] = torch.tensor(draw(st.lists(entry, min_size=12, max_size=12)), dtype=torch.float64).view(3, 4)
    hypothesis.assume(bool((torch.linalg.det(pose[:, :3, :3]) != 0).all()))
    return Camera(intrinsics, pose, size)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[torch.Tensor, Camera]:
    views, size = draw(st.integers(0, 3)), (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    camera = draw(cameras(views, size))
    points = torch.tensor(draw(points_of), dtype=torch.float64).reshape(-1, 3)
    if draw(st.booleans()):
        points = torch.cat((points, points))  # twins
    dtype = draw(dtypes)
    return points.to(dtype), camera.to(dtype)


@st.composite
def uvz_and_size(draw: st.DrawFn) -> tuple[torch.Tensor, tuple[int, int]]:
    """Straight, not through a camera: so that many points share pixels and depths."""
    depth = st.sampled_from([0.5, 1.0, 2.0]) | coordinate
    pixel = st.integers(-2, 14).map(lambda n: n / 2) | coordinate
    uvz = torch.tensor(draw(st.lists(st.tuples(pixel, pixel, depth), max_size=40)), dtype=torch.float64).reshape(-1, 3)
    views = draw(st.integers(1, 2))
    return uvz[: len(uvz) // views * views].view(views, -1, 3).to(draw(dtypes)), (
        draw(st.integers(1, 7)),
        draw(st.integers(1, 7)),
    )


@fuzz
@hypothesis.given(scenes())
def test_project_on_any_scene(scene):
    assert_same_bits(project(*scene), reference.project(*scene))


@fuzz
@hypothesis.given(
    scenes(),
    st.data(),
    st.sampled_from(["frame", "metres", "millimetres", "zbuffer"]),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    st.integers(0, 3),
    st.sampled_from([(0.01, math.inf), (0.0, 2.0), (0.5, 1.0), (2.0, 1.0)]),
)
def test_visibility_on_any_scene(scene, data, source, tolerance, border, z_range):
    points, camera = scene
    shape = (len(camera), *camera.size)
    keywords = {"tolerance": tolerance, "border": border, "z_min": z_range[0], "z_max": z_range[1]}
    depth = None
    if source == "metres":
        readings = st.lists(coordinate, min_size=math.prod(shape), max_size=math.prod(shape))
        depth = torch.tensor(data.draw(readings), dtype=points.dtype).view(shape)
    elif source == "millimetres":
        readings = st.lists(
            st.sampled_from([0, 1, 500, 1000, 2000, 65534, 65535]), min_size=math.prod(shape), max_size=math.prod(shape)
        )
        depth = torch.tensor(data.draw(readings), dtype=torch.int32).to(torch.uint16).view(shape)
        keywords["depth_scale"] = data.draw(st.sampled_from([1000.0, 512.0, 0.3]))
    elif source == "zbuffer":
        depth, keywords["radius"] = "zbuffer", data.draw(st.integers(0, 2))
    assert_same_bits(
        visibility(points, camera, depth, **keywords), reference.visibility(points, camera, depth, **keywords)
    )


@fuzz
@hypothesis.given(uvz_and_size(), st.integers(0, 3), st.integers(1, 4))
def test_zbuffer_on_any_points(scene, radius, stride):
    uvz, size = scene
    keywords = {"radius": radius, "stride": stride}
    assert_same_bits(zbuffer(uvz, size, **keywords), reference.zbuffer(uvz, size, **keywords))


@fuzz
@hypothesis.given(uvz_and_size(), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.booleans(), st.booleans())
def test_sample_at_any_pixels(scene, cells, align_corners, normalize):
    uvz, size = scene
    maps = torch.randn(len(uvz), 3, *cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
        uvz.dtype
    )
    for mode in ("bilinear", "nearest"):
        keywords = {"mode": mode, "align_corners": align_corners, "normalize": normalize}
        ours, wanted = (module(maps, uvz[..., :2], size, **keywords) for module in (sample, reference.sample))
        (assert_close if mode == "bilinear" or normalize else assert_same_bits)(ours, wanted)


@fuzz
@hypothesis.given(scenes(), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from(["mean", "max"]))
def test_fuse_views_on_any_scene(scene, cells, reduce):
    points, camera = scene
    maps = torch.randn(len(camera), 3, *cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matches = visibility(points, camera, tolerance=0.0)
    arguments = (maps, matches, len(points), camera.size)
    assert_close(fuse_views(*arguments, reduce=reduce), reference.fuse_views(*arguments, reduce=reduce))
