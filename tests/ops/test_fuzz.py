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

from pyproj2d3d import (
    Camera,
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
    superpoints,
    three_nn,
    visibility,
    voxelize,
    zbuffer,
)

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


@st.composite
def depth_images(
    draw: st.DrawFn, shape: tuple[int, ...], dtype: torch.dtype, millimetres: bool
) -> tuple[torch.Tensor, float | None]:
    """And their scale."""
    reading = st.sampled_from([0, 1, 500, 1000, 2000, 65534, 65535]) if millimetres else coordinate
    readings = draw(st.lists(reading, min_size=math.prod(shape), max_size=math.prod(shape)))
    if not millimetres:
        return torch.tensor(readings, dtype=dtype).view(shape), None
    scale = draw(st.sampled_from([1000.0, 512.0, 0.3]))
    return torch.tensor(readings, dtype=torch.int32).to(torch.uint16).view(shape), scale


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
    if source in ("metres", "millimetres"):
        depth, keywords["depth_scale"] = data.draw(depth_images(shape, points.dtype, source == "millimetres"))
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


@fuzz
@hypothesis.given(
    scenes(), st.data(), st.booleans(), st.booleans(), st.tuples(st.integers(1, 9), st.integers(1, 9)), st.booleans()
)
def test_back_project_of_any_depth(scene, data, millimetres, chosen, cells, flag):
    points, camera = scene
    shape = (len(camera), *camera.size)
    depth, scale = data.draw(depth_images(shape, points.dtype, millimetres))
    maps = torch.randn(len(camera), 3, *cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keywords = {"depth_scale": scale, "align_corners": flag, "normalize": not flag}
    if chosen and depth.numel():
        pixels = data.draw(st.lists(st.integers(0, depth.numel() - 1), max_size=20))
        keywords["pixels"] = torch.tensor(pixels, dtype=torch.int64)
    cloud, wanted = (module(depth, camera, maps, **keywords) for module in (back_project, reference.back_project))
    assert_same_bits((cloud.points, cloud.pixel, cloud.valid), (wanted.points, wanted.pixel, wanted.valid))
    assert_close(cloud.features, wanted.features)
    if cloud.ptr is not None:
        assert torch.equal(cloud.ptr, wanted.ptr)
        for pixel in cloud.pixel.split(cloud.ptr.diff().tolist()):
            assert (pixel.diff() > 0).all()  # raster order


@st.composite
def clouds_and_batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor | None]:
    near = st.integers(-8, 8).map(lambda n: n / 2) | st.sampled_from([0.1, 0.3, -0.7, math.nan, math.inf])
    far = draw(st.sampled_from([1.0, 1e4, 2.0**28]))
    points = [[far * x for x in p] for p in draw(st.lists(st.tuples(near, near, near), max_size=40))]
    number = st.sampled_from([0, 1, 5, 2**31 - 2])
    batch = draw(st.none() | st.lists(number, min_size=len(points), max_size=len(points)))
    points = torch.tensor(points, dtype=torch.float64).reshape(-1, 3).to(draw(dtypes))
    return points, None if batch is None else torch.tensor(batch, dtype=torch.int64)


edge = st.sampled_from([1.0, 0.5, 0.7, 0.1, 1e-5, 3e7])


@fuzz
@hypothesis.given(clouds_and_batches(), edge | st.tuples(edge, edge, edge), st.sampled_from([0.0, 0.3, -1e8]))
def test_voxelize_of_any_points(cloud, size, origin):
    points, batch = cloud
    keywords = {"batch": batch, "origin": (origin, 0.0, -origin)}
    finite = points[points.isfinite().all(1)]
    cell = torch.floor((finite - finite.new_tensor(keywords["origin"])) / finite.new_tensor(size))
    if not ((cell >= -(2**31)) & (cell < 2**31)).all():
        with pytest.raises(ValueError, match="within int32"):
            voxelize(points, size, **keywords)
        return
    voxels = voxelize(points, size, **keywords)
    assert_same_bits(voxels, reference.voxelize(points, size, **keywords))

    n, m, known = len(points), len(voxels), int(voxels.ptr[-1])
    assert voxels.order.sort()[0].tolist() == list(range(n))
    assert voxels.ptr.tolist() == [0, *voxels.counts.cumsum(0).tolist()]
    assert voxels.coords.tolist() == sorted(map(list, set(map(tuple, voxels.coords.tolist()))))
    assert torch.equal(voxels.inverse[voxels.order[:known]], torch.arange(m).repeat_interleave(voxels.counts))
    assert (voxels.inverse[voxels.order[known:]] == -1).all()
    for of_voxel in voxels.order.split([*voxels.counts.tolist(), n - known]):
        assert (of_voxel.diff() > 0).all()


@fuzz
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from([0.5, 1.5, -2.5, math.nan]), coordinate, st.integers(-3, 4)), max_size=40),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_scatter_of_any_features(rows, dtype):
    x, value, label = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3).T
    voxels = voxelize(torch.stack((x, x, x), dim=1), 1.0)
    features = torch.stack((value, label), dim=1).to(dtype)
    for reduce in ("max", "min", "first"):
        arguments = (features, voxels, reduce)
        assert_same_bits(scatter(*arguments, return_arg=True), reference.scatter(*arguments, return_arg=True))
    for reduce in ("mean", "sum"):
        assert_close(scatter(features, voxels, reduce), reference.scatter(features, voxels, reduce))
    labels = torch.stack((label, label.abs() // 2), dim=1).long()
    assert_same_bits(scatter(labels, voxels, "mode"), reference.scatter(labels, voxels, "mode"))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points, normals and edges; many weights are equal."""
    axis = st.sampled_from([(0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (0.6, 0.8, 0.0), (0.8, 0.6, 0.0)])
    rows = draw(st.lists(st.tuples(st.tuples(*[coordinate] * 3), axis | st.tuples(*[coordinate] * 3)), max_size=30))
    end = st.integers(0, max(len(rows) - 1, 0))
    edges = draw(st.lists(st.tuples(end, end), max_size=80)) if rows else []
    points, normals = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2, 3).to(draw(dtypes)).unbind(dim=1)
    return points, normals, torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)


@fuzz
@hypothesis.given(graphs(), st.sampled_from([0.0, 0.01, 0.3, 2.0, 1e30]) | st.floats(0, 4), st.integers(1, 8))
def test_superpoints_of_any_graph(graph, k, min_size):
    found = superpoints(*graph, k=k, min_size=min_size)
    assert torch.equal(found, reference.superpoints(*graph, k=k, min_size=min_size))
    points, _, edges = graph
    first = {s: found.tolist().index(s) for s in found.tolist()}
    assert list(first) == list(range(len(first)))  # numbered as they are met
    neighbours = dict.fromkeys(range(len(points)), frozenset())
    for a, b in edges.tolist():
        neighbours[a], neighbours[b] = neighbours[a] | {b}, neighbours[b] | {a}
    for s, start in first.items():  # each hangs together
        members = {i for i, of in enumerate(found.tolist()) if of == s}
        reached, new = {start}, {start}
        while new:
            new = {m for i in new for m in neighbours[i]} & members - reached
            reached |= new
        assert reached == members
        if len(members) < min_size:  # and is as large as it has to be, or has no neighbour
            assert not {m for i in members for m in neighbours[i]} - members


three = st.tuples(*[st.integers(1, 4)] * 3)


@fuzz
@hypothesis.given(
    st.lists(
        st.tuples(st.integers(0, 2), *[st.integers(-4, 4) | st.sampled_from([-(2**31), 2**31 - 1])] * 3), max_size=40
    ),
    st.booleans(),
    three,
    three,
    st.none() | st.tuples(three, st.tuples(*[st.integers(0, 3)] * 3), st.none() | st.tuples(*[st.integers(0, 5)] * 3)),
)
def test_kernel_map_of_any_voxels(rows, ascending, size, dilation, strided):
    rows = sorted(set(rows)) if ascending else list(dict.fromkeys(rows))
    coords = torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)
    rule = {"dilation": dilation}
    if strided is not None:
        rule |= dict(zip(("stride", "padding", "shape"), strided, strict=True))
    try:
        found = kernel_map(coords, size, **rule)
    except ValueError as error:
        hypothesis.assume("outputs within int32" not in str(error))
        raise
    wanted = reference.kernel_map(coords, size, **rule)
    assert_same_bits([*vars(found).values()], [*vars(wanted).values()])


@st.composite
def clouds(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and queries, many of them in one place."""
    dtype = draw(dtypes)
    points, queries = (torch.tensor(draw(points_of), dtype=torch.float64).reshape(-1, 3).to(dtype) for _ in range(2))
    return points, torch.cat((queries, points[::2]))


@fuzz
@hypothesis.given(clouds(), st.sampled_from([1e-15, 0.5, 1.0, 2.0, 1e15]) | st.floats(0.01, 8), st.integers(1, 50))
def test_ball_query_of_any_points(cloud, radius, k):
    index, count = ball_query(*cloud, radius, k)
    assert_same_bits((index, count), reference.ball_query(*cloud, radius, k))
    for row, n in zip(index.tolist(), count.tolist(), strict=True):
        found = row[: min(n, k)]
        assert found == sorted(set(found))
        assert row[min(n, k) :] == [-1] * (k - min(n, k))


@fuzz
@hypothesis.given(clouds())
def test_three_nn_of_any_points(cloud):
    assert_same_bits(three_nn(*cloud), reference.three_nn(*cloud))


@fuzz
@hypothesis.given(clouds(), st.data())
def test_farthest_point_sample_of_any_points(cloud, data):
    _, points = cloud
    if len(points) == 0:
        return
    n, start = data.draw(st.integers(1, len(points))), data.draw(st.integers(0, len(points) - 1))
    found = farthest_point_sample(points, n, start=start)
    assert torch.equal(found, reference.farthest_point_sample(points, n, start=start))
    chosen = found[found >= 0].tolist()
    assert len(set(chosen)) == len(chosen) == min(n, int(points.isfinite().all(1).sum()))


@fuzz
@hypothesis.given(
    st.lists(st.tuples(*[coordinate] * 3, st.integers(-1, 2)), max_size=60),
    st.sampled_from([0.5, 1.0, 0.1, 1e-6, 3.0, 1e9]) | st.floats(0.01, 4),
    st.integers(1, 4),
    dtypes,
)
def test_cluster_of_any_points(rows, radius, min_size, dtype):
    rows = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    points, labels = rows[:, :3].to(dtype), rows[:, 3].long()
    near = points.isfinite().all(1) & (points.abs().amax(1) < 1.2e9 * radius)
    points, labels = points[near | ~points.isfinite().all(1)], labels[near | ~points.isfinite().all(1)]
    found = cluster(points, labels, radius, min_size=min_size)
    assert torch.equal(found, reference.cluster(points, labels, radius, min_size=min_size))
    known = found[found >= 0]
    assert torch.equal(known.unique(), torch.arange(len(known.unique())))
    assert (torch.bincount(known) >= min_size).all()
