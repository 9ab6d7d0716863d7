"""Do points move as they should, keep their own numbers, and take cameras and matches along?"""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import camera_of, generator, make_cloud, make_points
from scenes import assert_close, assert_same_bits, make_matches

from pyproj2d3d import project
from pyproj2d3d.data.points import Points
from pyproj2d3d.data.scene import Cloud
from pyproj2d3d.data.transforms import Compose
from pyproj2d3d.data.transforms3d import (
    Center,
    ColorJitter,
    CropBox,
    CropSphere,
    Drop,
    ElasticDistortion,
    FlipAxis,
    LinearJitter,
    Relabel,
    Rotate,
    Scale,
    Shift,
    Subset,
)

AFFINE = [Center(), FlipAxis(0), FlipAxis(2, 1.0), Rotate(0.2, 0.3), Scale((0.5, 2.0)), Shift(3.0), LinearJitter()]
CROPS = [CropBox((2.0, 2.0, math.inf)), CropSphere(1.5), CropSphere(most=20), Drop(0.4), Subset(20)]
ALL = [*AFFINE, *CROPS, ElasticDistortion(p=1.0), ColorJitter()]
FIELDS = ("colors", "normals", "semantic", "instance", "superpoint")


def named(transforms):
    return {"argvalues": transforms, "ids": [f"{i}-{type(t).__name__}" for i, t in enumerate(transforms)]}


def parts(points):
    fields = (getattr(points, name) for name in ("xyz", "index", "points_from_world", *FIELDS))
    return [f for f in fields if f is not None]


def of_xyz(*xyz, dtype=torch.float64):
    return Points.of(Cloud(torch.tensor(xyz, dtype=dtype).view(-1, 3)))


# Points


def test_points_begin_as_the_cloud_they_are_of():
    cloud = make_cloud(7)
    points = Points.of(cloud)
    assert len(points) == points.n_cloud == 7
    assert points.index.tolist() == list(range(7))
    assert points.xyz is cloud.points
    assert torch.equal(points.points_from_world, torch.eye(4, dtype=torch.float64))
    assert all(getattr(points, name) is getattr(cloud, name) for name in FIELDS)


def test_kept_points_keep_all_that_is_known_of_them():
    points = make_points(6)
    mask = torch.tensor([True, False, True, True, False, False])
    some = points.keep(mask)
    assert some.index.tolist() == [0, 2, 3]
    for name in ("xyz", *FIELDS):
        assert torch.equal(getattr(some, name), getattr(points, name)[mask])
    again = some.keep(torch.tensor([2, 0, 2]))
    assert again.index.tolist() == [3, 0, 3]
    assert torch.equal(again.instance, points.instance[[3, 0, 3]])
    assert again.n_cloud == 6


def test_a_scaled_and_shifted_point_is_where_it_should_be():
    matrix = torch.tensor([[2.0, 0, 0, 1], [0, 2, 0, 0], [0, 0, 2, -1], [0, 0, 0, 1]])
    points = of_xyz([1.0, 2, 3]).moved(matrix)
    assert points.xyz.tolist() == [[3, 4, 5]]
    assert points.points_from_world.tolist() == matrix.tolist()
    assert points.moved(matrix).xyz.tolist() == [[7, 8, 9]]


def test_points_keep_their_dtype():
    for dtype in (torch.float32, torch.float64):
        for transform in ALL:
            new = transform(make_points(50, dtype=dtype), generator())
            assert new.xyz.dtype == new.normals.dtype == dtype
            assert new.colors.dtype == torch.uint8


def test_float32_points_are_rounded_once():
    cloud = make_cloud(100, dtype=torch.float32)
    turn = Rotate(1.0, 1.0)
    exact = turn(Points.of(replace(cloud, points=cloud.points.double(), normals=cloud.normals.double())), generator())
    assert torch.equal(turn(Points.of(cloud), generator()).xyz, exact.xyz.float())


THREE = torch.zeros(3, 3), torch.arange(3), 3, torch.eye(4, dtype=torch.float64)
BAD_POINTS = {
    "two coordinates": ((torch.zeros(3, 2), *THREE[1:]), ValueError, r"xyz must have shape \(\*, 3\), got \(3, 2\)"),
    "integers": ((torch.zeros(3, 3).long(), *THREE[1:]), TypeError, "xyz must be float32 or float64, got int64"),
    "fewer numbers": ((THREE[0], torch.arange(2), *THREE[2:]), ValueError, r"index must have shape \(3\), got \(2,\)"),
    "short numbers": ((THREE[0], torch.arange(3).int(), *THREE[2:]), TypeError, "index must be int64, got int32"),
    "beyond the cloud": ((*THREE[:2], 2, THREE[3]), ValueError, "index must be within 2 points, got 0 to 2"),
    "before the cloud": ((THREE[0], torch.arange(3) - 1, *THREE[2:]), ValueError, "index must be within .*got -1 to 1"),
    "a 3x4 matrix": ((*THREE[:3], torch.eye(4)[:3]), ValueError, r"points_from_world must have shape \(4, 4\)"),
    "a flat world": ((*THREE[:3], torch.diag(torch.tensor([1.0, 1, 0, 1]))), ValueError, "must be invertible"),
    "a projective world": ((*THREE[:3], torch.ones(4, 4)), ValueError, "points_from_world must be finite and end in"),
    "a lost world": ((*THREE[:3], torch.eye(4) * math.nan), ValueError, "points_from_world must be finite"),
    "float colours": ((*THREE, torch.zeros(3, 3)), TypeError, "colors must be uint8, got float32"),
    "other normals": ((*THREE, None, torch.zeros(3, 3).double()), TypeError, "normals must be float32, got float64"),
    "fewer labels": ((*THREE, None, None, torch.zeros(2).long()), ValueError, r"semantic must have shape \(3\)"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_POINTS.values(), ids=BAD_POINTS.keys())
def test_points_say_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        Points(*arguments)


def test_what_is_kept_must_be_there():
    points = make_points(4)
    with pytest.raises(ValueError, match=r"which must have shape \(4\), got \(3,\)"):
        points.keep(torch.tensor([True, False, True]))
    with pytest.raises(ValueError, match="which must be within 4 points, got -1 to 4"):
        points.keep(torch.tensor([-1, 4]))
    with pytest.raises(TypeError, match="which must be bool or int64, got float32"):
        points.keep(torch.ones(4))
    with pytest.raises(TypeError, match="which must be a tensor, got list"):
        points.keep([0, 1])
    assert len(points.keep(torch.tensor([], dtype=torch.int64))) == 0


def test_points_are_moved_by_what_is_affine():
    with pytest.raises(ValueError, match="new_from_old must be invertible"):
        make_points(4).moved(torch.diag(torch.tensor([0.0, 1, 1, 1])))
    with pytest.raises(ValueError, match="new_from_old must be finite and end in the row"):
        make_points(4).moved(torch.ones(4, 4))


# Matches and cameras

OF_CLOUD = make_matches([[(0, 3), (2, 1)], [], [(1, 0), (2, 2)]], n_points=3, size=(2, 2))


def test_matches_follow_points_that_were_dropped_turned_and_doubled():
    points = of_xyz([0.0, 0, 0], [1, 1, 1], [2, 2, 2])
    assert_same_bits(points.matches(OF_CLOUD), OF_CLOUD)

    matches = points.keep(torch.tensor([2, 0, 2])).matches(OF_CLOUD)
    assert matches.ptr.tolist() == [0, 3, 3, 5]
    assert matches.point.tolist() == [0, 1, 2, 0, 2]  # 2, 0, 2 of the cloud in the first view, 2, 2 in the last
    assert matches.pixel.tolist() == [1, 3, 1, 2, 2]
    assert (matches.n_points, matches.size) == (3, (2, 2))
    assert [t.dtype for t in (matches.ptr, matches.point, matches.pixel)] == [torch.int64, torch.int32, torch.int32]

    none = points.keep(torch.tensor([1])).keep(torch.tensor([False])).matches(OF_CLOUD)
    assert none.ptr.tolist() == [0, 0, 0, 0]
    assert none.n_points == 0


def test_matches_of_another_cloud_are_refused():
    with pytest.raises(ValueError, match="of_cloud were made for 3 points, got 4"):
        make_points(4).matches(OF_CLOUD)
    by_hand = make_matches([[(0, 0), (5, 1)]])
    with pytest.raises(ValueError, match="of_cloud must hold points below 4"):
        make_points(4).matches(by_hand)


@pytest.mark.parametrize("transform", **named(AFFINE))
def test_cameras_follow_what_is_affine(transform):
    points, camera = make_points(50), camera_of((30, 40))
    for seed in range(5):
        new = transform(points, generator(seed))
        assert_close(project(new.xyz, new.follow(camera)), project(points.xyz, camera))
        assert new.follow(camera).intrinsics is camera.intrinsics
        homogeneous = torch.nn.functional.pad(points.xyz, (0, 1), value=1.0)
        assert_close(new.xyz, (homogeneous @ new.points_from_world.T)[:, :3])
        assert torch.equal(new.index, points.index)


def test_cameras_of_float32_stay_so():
    camera = camera_of((30, 40)).to(torch.float32)
    points = Compose(AFFINE)(make_points(), generator())
    assert points.follow(camera).dtype == torch.float32
    assert len(points.follow(camera)) == 1


def test_no_camera_follows_a_distortion():
    for p in (0.0, 1.0):
        points = Scale()(ElasticDistortion(p=p)(make_points()))
        assert points.points_from_world is None
        with pytest.raises(ValueError, match=r"these were distorted: use matches\(\)"):
            points.follow(camera_of((3, 4)))


@pytest.mark.parametrize("transform", **named(AFFINE))
def test_normals_stay_at_right_angles_to_their_surface_and_on_its_side(transform):
    points = make_points(50)
    along = torch.linalg.cross(points.normals, torch.randn(50, 3, generator=generator(9), dtype=torch.float64))
    cloud = torch.cat((points.xyz, points.xyz + along, points.xyz + points.normals))
    new = transform(Points.of(Cloud(cloud, normals=points.normals.repeat(3, 1))), generator(4))
    place, beside, above = new.xyz.view(3, 50, 3)
    normals = new.normals[:50]
    assert (beside - place).norm(dim=1).min() > 0.01
    assert ((beside - place) * normals).sum(dim=1).abs().max() < 1e-12
    assert ((above - place) * normals).sum(dim=1).min() > 0
    assert_close(normals.norm(dim=1), torch.ones(50, dtype=torch.float64))


def test_a_point_without_a_normal_gets_none():
    points = make_points(50)
    points = replace(points, normals=torch.zeros_like(points.normals))
    for transform in (*AFFINE, ElasticDistortion(p=1.0)):
        assert (transform(points, generator()).normals == 0).all()


# What moves


def test_flipping_changes_one_sign():
    points = replace(of_xyz([1.0, 2, 3]), normals=torch.tensor([[0.6, 0.8, 0]], dtype=torch.float64))
    flipped = FlipAxis(1, p=1.0)(points)
    assert flipped.xyz.tolist() == [[1, -2, 3]]
    assert flipped.normals.tolist() == [[0.6, -0.8, 0]]
    assert FlipAxis(1, p=0.0)(points) is points


def test_rotations_are_about_their_axis_and_within_their_angle():
    points, rng = of_xyz([1.0, 0, 0], [0, 1, 0], [0, 0, 1]), generator()
    drawn = []
    for _ in range(60):
        x, y, z = Rotate(z=0.5)(points, rng).xyz
        assert z.tolist() == [0, 0, 1]
        drawn.append(math.atan2(x[1], x[0]))
        assert_close(torch.linalg.cross(x, y), z)
    assert -0.5 <= min(drawn) < -0.4
    assert 0.4 < max(drawn) <= 0.5
    assert Rotate(x=0.5, z=0)(points, rng).xyz[0].tolist() == [1, 0, 0]
    assert Rotate(y=0.5, z=0)(points, rng).xyz[1].tolist() == [0, 1, 0]


def test_a_rotation_is_about_x_then_y_then_z():
    matrix = Rotate(0.3, 0.4, 0.5)(make_points(3), generator(8)).points_from_world[:3, :3]
    spatial = pytest.importorskip("scipy.spatial.transform")
    angles = spatial.Rotation.from_matrix(matrix.numpy()).as_euler("xyz")
    assert_close(torch.linalg.det(matrix), torch.ones((), dtype=torch.float64))
    assert (np.abs(angles) <= [0.3, 0.4, 0.5]).all()
    wide = Rotate(1.5, 1.5, 3.0)
    seen = [
        np.abs(
            spatial.Rotation.from_matrix(wide(make_points(1), generator(s)).points_from_world[:3, :3]).as_euler("xyz")
        )
        for s in range(40)
    ]
    assert (np.max(seen, axis=0) > [1.3, 1.3, 2.7]).all()
    assert (np.max(seen, axis=0) <= [1.5, 1.5, 3.0]).all()


def test_scale_and_shift_stay_in_their_range():
    points, rng = of_xyz([1.0, 1, 1]), generator()
    scales = [Scale((0.8, 1.25))(points, rng).xyz[0] for _ in range(60)]
    assert all(float(s.min()) == float(s.max()) for s in scales)
    assert 0.8 <= float(min(s[0] for s in scales)) < 0.85
    assert 1.2 < float(max(s[0] for s in scales)) <= 1.25
    shifts = torch.stack([Shift(0.5)(points, rng).xyz[0] - 1 for _ in range(60)])
    assert (shifts.abs() <= 0.5).all()
    assert (shifts.amax(dim=0) > 0.4).all()
    assert (shifts.amin(dim=0) < -0.4).all()


def test_a_centred_cloud_stands_on_the_origin():
    points = Center()(of_xyz([1.0, 5, 2], [3, 6, 7], [math.nan, 0, 0], [2, 5, 4]))
    assert points.xyz[[0, 1, 3]].tolist() == [[-1, -0.5, 0], [1, 0.5, 5], [0, -0.5, 2]]
    assert points.xyz[2, 0].isnan()


def test_a_linear_jitter_is_near_the_identity():
    apart = [LinearJitter(0.1)(make_points(1), generator(s)).points_from_world - torch.eye(4) for s in range(100)]
    assert 0.09 < torch.stack(apart)[:, :3, :3].std() < 0.11


def distorted_by_scipy(xyz, granularity, magnitude, rng):
    """Another program for the same field, from the same noise."""
    interpolate, ndimage = pytest.importorskip("scipy.interpolate"), pytest.importorskip("scipy.ndimage")
    low = xyz.min(axis=0)
    cells = ((xyz - low).max(axis=0) // granularity).astype(int) + 3
    noise = torch.randn(3, *cells, generator=rng).double().numpy()
    for _ in range(2):
        for axis in (1, 2, 3):
            noise = ndimage.convolve1d(noise, np.ones(3) / 3, axis=axis, mode="constant")
    nodes = [low[i] + granularity * np.arange(-1, cells[i] - 1) for i in range(3)]
    shift = [interpolate.RegularGridInterpolator(nodes, field)(xyz) for field in noise]
    return xyz + magnitude * np.stack(shift, axis=1)


@pytest.mark.parametrize("fields", [((0.2, 0.4),), ((0.8, 1.6),), ((0.5, 0.4), (0.9, 1.6))])
def test_elastic_distortion_is_noise_on_a_grid_smoothed_twice(fields):
    points = make_points(300)
    new = ElasticDistortion(fields, p=1.0)(points, generator(3))
    rng = generator(3)
    torch.rand((), dtype=torch.float64, generator=rng)  # whether to distort at all
    expected = points.xyz.numpy()
    for granularity, magnitude in fields:
        expected = distorted_by_scipy(expected, granularity, magnitude, rng)
    assert np.abs(new.xyz.numpy() - expected).max() < 1e-6  # smoothed in float32
    assert 0.01 < (new.xyz - points.xyz).std() < 0.3
    assert torch.equal(new.index, points.index)


def test_elastic_distortion_bends_normals_along_with_their_surface():
    points = make_points(1000)
    across = torch.linalg.cross(points.normals, torch.randn(1000, 3, generator=generator(9), dtype=torch.float64))
    along = 1e-6 * torch.stack((across, torch.linalg.cross(points.normals, across)))
    cloud = torch.cat((points.xyz, points.xyz + along[0], points.xyz + along[1]))
    new = ElasticDistortion(p=1.0)(Points.of(Cloud(cloud, normals=points.normals.repeat(3, 1))), generator(1))
    place, one, other = new.xyz.view(3, 1000, 3)
    surface = torch.nn.functional.normalize(torch.linalg.cross(one - place, other - place), dim=1, eps=1e-30)
    cosine = (surface * new.normals[:1000]).sum(dim=1)
    # not where a fold turned the surface over, or a cell of the field ended between the three
    assert (cosine.abs() > 1 - 1e-6).double().mean() > 0.999
    assert (cosine > 0).double().mean() > 0.95
    turned = (points.normals * new.normals[:1000]).sum(dim=1)
    assert turned.median() < 0.995  # by more than 5 degrees


def test_elastic_distortion_leaves_points_that_are_not_finite():
    points = of_xyz([0.0, 0, 0], [math.nan, 0, 0], [1, 1, 1], [0, math.inf, 0])
    new = ElasticDistortion(p=1.0)(points, generator())
    assert_same_bits(new.xyz[[1, 3]], points.xyz[[1, 3]])
    assert (new.xyz[[0, 2]] != points.xyz[[0, 2]]).all()
    nothing = of_xyz([math.nan, 0, 0])
    assert_same_bits(ElasticDistortion(p=1.0)(nothing, generator()).xyz, nothing.xyz)


@pytest.mark.parametrize("far", [1e4, 1e30, 1e308])
def test_an_elastic_field_over_points_far_apart_is_refused_before_it_is_made(far):
    points = of_xyz([-far, -far, -far], [far, far, far])
    with pytest.raises(ValueError, match=r"points must extend over less than 16777216 cells of 0.2 m, .*far outliers"):
        ElasticDistortion(p=1.0)(points)


def test_one_point_can_be_distorted():
    new = ElasticDistortion(p=1.0)(of_xyz([1.0, 2, 3]), generator())
    assert torch.isfinite(new.xyz).all()
    assert (new.xyz != torch.tensor([1.0, 2, 3])).all()


# What is kept


def test_a_box_keeps_what_is_in_it():
    points = make_points(400)
    for seed in range(10):
        new = CropBox((1.0, 1.5, math.inf))(points, generator(seed))
        extent = new.xyz.amax(dim=0) - new.xyz.amin(dim=0)
        assert extent[0] <= 1.0
        assert extent[1] <= 1.5
        assert extent[2] > 3  # the whole height
        assert (new.index.diff() > 0).all()
        kept = torch.zeros(400, dtype=torch.bool)
        kept[new.index] = True
        apart = (points.xyz[:, None] - points.xyz).abs()  # (400, 400, 3)
        around = (apart[..., :2] <= torch.tensor([0.5, 0.75])).all(dim=2)
        assert (around == kept).all(dim=1).any()  # all that is around one of the points


def test_a_sphere_keeps_the_nearest_in_their_order():
    points = make_points(400)
    for seed in range(10):
        new = CropSphere(1.2)(points, generator(seed))
        few = CropSphere(1.2, most=9)(points, generator(seed))
        assert len(few) == min(9, len(new))
        assert (new.index.diff() > 0).all()
        assert (few.index.diff() > 0).all()
        assert torch.isin(few.index, new.index).all()
        spans = torch.cdist(few.xyz, points.xyz)
        centres = (spans.sort(dim=1).values[:, len(few) - 1] >= spans[:, few.index].amax(dim=1)).nonzero()
        assert len(centres) >= 1  # from one of them these are the nearest of all
        spans = torch.cdist(new.xyz, points.xyz)
        assert ((spans <= 1.2).sum(dim=1) == len(new)).any()
    assert len(CropSphere(most=1000)(points, generator())) == 400


def test_crops_are_around_points_that_are_finite():
    points = of_xyz([math.nan, 0, 0], [1, 1, 1], [math.inf, 0, 0])
    for seed in range(8):
        for crop in (CropBox((1.0, 1.0, 1.0)), CropSphere(1.0), CropSphere(most=3)):
            assert crop(points, generator(seed)).index.tolist() == [1]
    nothing = points.keep(torch.tensor([0]))
    assert len(CropBox((1.0, 1.0, 1.0))(nothing, generator())) == len(CropSphere()(nothing, generator())) == 0


def test_a_subset_has_exactly_as_many_points():
    points = make_points(10)
    few = Subset(4)(points, generator())
    assert len(set(few.index.tolist())) == len(few) == 4
    assert (few.index.diff() > 0).all()
    many = Subset(25)(points, generator())
    assert len(many) == 25
    assert set(torch.bincount(many.index, minlength=10).tolist()) == {2, 3}
    assert torch.equal(many.xyz, points.xyz[many.index])
    assert Subset(10)(points, generator()).index.tolist() == list(range(10))
    with pytest.raises(ValueError, match="points must not be empty where 3 of them are wanted"):
        Subset(3)(make_points(0))


def test_points_are_dropped_each_for_itself():
    points = make_points(1000)
    assert 250 < len(Drop(0.7)(points, generator())) < 350
    assert len(Drop(0.0)(points, generator())) == 1000
    assert len(Drop(1.0)(points, generator())) == 0


def test_colours_get_a_common_shift_and_noise_of_their_own():
    points = make_points(2000)
    points = replace(points, colors=torch.full_like(points.colors, 128))
    shifted = ColorJitter(0.1, 0.0, p=1.0)(points, generator()).colors
    assert (shifted == shifted[0]).all()
    assert len(set(shifted[0].tolist())) == 3
    assert (shifted[0].int() - 128).abs().max() <= 26
    noisy = ColorJitter(0.0, 0.05, p=1.0)(points, generator()).colors.float()
    assert (noisy.mean(dim=0) - 128).abs().max() < 1.5
    assert abs(float(noisy.std()) - 0.05 * 255) < 0.5
    assert torch.equal(ColorJitter(0.0, 0.0, p=1.0)(points, generator()).colors, points.colors)
    assert ColorJitter(p=0.0)(points, generator()) is points


def test_classes_get_other_numbers_and_no_label_stays_none():
    points = replace(make_points(5), semantic=torch.tensor([2, 0, -1, 1, 2]))
    assert Relabel((1, -1, 0))(points).semantic.tolist() == [0, 1, -1, -1, 0]
    unlabelled = replace(points, semantic=None)
    assert Relabel((1,))(unlabelled) is unlabelled
    assert len(Relabel((1,))(points.keep(torch.zeros(5, dtype=torch.bool)))) == 0
    with pytest.raises(ValueError, match="points must have classes from -1 to 1, got 2"):
        Relabel((1, 0))(points)
    with pytest.raises(ValueError, match="points must have classes from -1 to 2, got -2"):
        Relabel((1, 0, 2))(replace(points, semantic=torch.tensor([2, 0, -2, 1, 2])))
    with pytest.raises(ValueError, match="table must be at least -1, got -3"):
        Relabel((1, -3))


def test_a_cloud_without_colours_or_labels_stays_so():
    points = of_xyz(*torch.randn(50, 3, generator=generator()).tolist())
    for transform in ALL:
        new = transform(points, generator())
        assert all(getattr(new, name) is None for name in FIELDS)


@pytest.mark.parametrize("transform", **named([t for t in ALL if not isinstance(t, Subset)]))
def test_an_empty_cloud_stays_empty(transform):
    new = transform(make_points(0), generator())
    assert len(new) == 0
    assert new.xyz.shape == new.normals.shape == new.colors.shape == (0, 3)
    assert new.matches(make_matches([[], []], 0)).ptr.tolist() == [0, 0, 0]


@pytest.mark.parametrize("transform", **named(ALL))
def test_equal_seeds_give_equal_points(transform):
    points = make_points(60)
    first, again = (transform(points, generator(5)) for _ in range(2))
    assert_same_bits(parts(first), parts(again))
    torch.manual_seed(5)
    assert_same_bits(parts(transform(points)), parts(first))
    assert_same_bits(parts(pickle.loads(pickle.dumps(transform))(points, generator(5))), parts(first))
    assert_same_bits(parts(points), parts(make_points(60)))  # as they were


BAD = {
    "an axis": (lambda: FlipAxis(3), ValueError, "axis must be 0, 1 or 2, got 3"),
    "more than always": (lambda: FlipAxis(0, 2.0), ValueError, "p must be from 0 to 1, got 2.0"),
    "a negative turn": (lambda: Rotate(z=-1.0), ValueError, "z must not be negative, and finite, got -1.0"),
    "an endless turn": (lambda: Rotate(x=math.inf), ValueError, "x must not be negative, and finite, got inf"),
    "no scale": (lambda: Scale((0.0, 1.0)), ValueError, "scale must be positive and finite, got 0.0"),
    "a falling scale": (lambda: Scale((1.1, 0.9)), ValueError, "scale must ascend"),
    "a shift": (lambda: Shift(-1.0), ValueError, "distance must not be negative"),
    "a jitter": (lambda: LinearJitter(math.nan), ValueError, "std must be a number, got NaN"),
    "granularity": (lambda: ElasticDistortion(((0.0, 1.0),)), ValueError, "granularity must be positive and finite"),
    "magnitude": (lambda: ElasticDistortion(((1.0, -1.0),)), ValueError, "magnitude must not be negative"),
    "three numbers": (lambda: ElasticDistortion(((1, 2, 3),)), ValueError, r"pairs \(granularity, magnitude\), got"),
    "a flat box": (lambda: CropBox((1.0, 0.0, 1.0)), ValueError, "size must be three positive numbers"),
    "a box of two": (lambda: CropBox((1.0, 1.0)), ValueError, "size must be three positive numbers"),
    "a box of text": (lambda: CropBox(("1", 1.0, 1.0)), TypeError, "size must be a number, got '1'"),
    "no radius": (lambda: CropSphere(0.0), ValueError, "radius must be positive, got 0.0"),
    "most of none": (lambda: CropSphere(1.0, 0), ValueError, "most must be at least 1, got 0"),
    "a subset of none": (lambda: Subset(0), ValueError, "n must be at least 1, got 0"),
    "half a subset": (lambda: Subset(0.5), TypeError, "n must be an integer, got 0.5"),
    "a share": (lambda: Drop(1.1), ValueError, "share must be from 0 to 1, got 1.1"),
    "noise": (lambda: ColorJitter(noise=-0.1), ValueError, "noise must not be negative"),
    "colour shift": (lambda: ColorJitter(shift=math.inf), ValueError, "shift must not be negative, and finite"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_a_transform_says_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make()
