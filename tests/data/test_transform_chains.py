"""Do a point and its pixel stay together through any chain of transforms, in 2D, in 3D and in both?

The map of pixels is worked out again here, transform by transform, from the conventions alone: u' = (u + 0.5) s - 0.5
under resizing, u - left under a crop, W - 1 - u under a flip, a turn of the ray under a roll.
"""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import generator, lifted, make_cloud, make_view
from scenes import assert_same_bits

from pyproj2d3d import Matches, back_project, project, visibility
from pyproj2d3d.data import Room, read_posed_folder
from pyproj2d3d.data.points import Points
from pyproj2d3d.data.scene import Cloud
from pyproj2d3d.data.transforms import Compose
from pyproj2d3d.data.transforms2d import Blur, Crop, Flip, PhotometricJitter, RandomCrop, RandomResize, Resize, Roll
from pyproj2d3d.data.transforms3d import (
    Center,
    ColorJitter,
    CropBox,
    CropSphere,
    Drop,
    ElasticDistortion,
    FlipAxis,
    LinearJitter,
    Rotate,
    Scale,
    Shift,
    Subset,
)
from pyproj2d3d.data.views import View

sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))
places = st.integers(-9, 9)
resizes = st.builds(lambda size: ("resized", size), sizes)
crops = st.builds(lambda top, left, size: ("cropped", top, left, *size), places, places, sizes)
flips = st.builds(lambda horizontal: ("flipped", horizontal), st.booleans())
rolls = st.builds(lambda angle: ("rolled", angle), st.floats(-4, 4))
changes = st.one_of(resizes, crops, flips, rolls)
chains = st.lists(changes, max_size=5)


def changed(view, chain):
    for name, *arguments in chain:
        view = getattr(view, name)(*arguments)
    return view


class Followed:
    """An image of ``size`` on its way through a chain, from the conventions alone."""

    def __init__(self, view):
        self.size = view.size
        self.fx, self.fy, self.cx, self.cy = view.camera.intrinsics[0, [0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        self.of_pixel = {(u, v): {v * self.size[1] + u} for v in range(self.size[0]) for u in range(self.size[1])}
        self.places = None  # (N, 2) u, v of points
        self.off = (0.0, 0.0)  # how far a pixel's content may lie from its centre, along u and v

    def through(self, chain):
        for name, *arguments in chain:
            getattr(self, name)(*arguments)
        return self

    def moved(self, forward, backward, size):
        """``forward`` maps places; ``backward`` gives u, v of the old pixel that each new one shows. Where rounding
        cannot say which of two it is, both will do."""
        self.places = [forward(u, v) for u, v in self.places]
        old, self.of_pixel, self.size = self.of_pixel, {}, size
        for v in range(size[0]):
            for u in range(size[1]):
                a, b = backward(u, v)
                found = [old.get((i, j), {-1}) for i in nearest(a) for j in nearest(b)]
                self.of_pixel[u, v] = set().union(*found)

    def resized(self, size):
        (height, width), (new_height, new_width) = self.size, size
        sx, sy = Fraction(new_width, width), Fraction(new_height, height)
        half = Fraction(1, 2)
        self.moved(
            lambda u, v: ((u + 0.5) * float(sx) - 0.5, (v + 0.5) * float(sy) - 0.5),
            lambda u, v: ((u + half) / sx - half, (v + half) / sy - half),
            size,
        )
        self.fx, self.fy = self.fx * float(sx), self.fy * float(sy)
        self.cx, self.cy = (self.cx + 0.5) * float(sx) - 0.5, (self.cy + 0.5) * float(sy) - 0.5
        self.off = (self.off[0] + 0.5) * float(sx), (self.off[1] + 0.5) * float(sy)

    def cropped(self, top, left, height, width):
        self.moved(lambda u, v: (u - left, v - top), lambda u, v: (u + left, v + top), (height, width))
        self.cx, self.cy = self.cx - left, self.cy - top

    def flipped(self, horizontal):
        height, width = self.size

        def mirrored(u, v):
            return (width - 1 - u, v) if horizontal else (u, height - 1 - v)

        self.moved(mirrored, mirrored, self.size)
        self.cx, self.cy = mirrored(self.cx, self.cy)
        self.fx, self.fy = (-self.fx, self.fy) if horizontal else (self.fx, -self.fy)

    def rolled(self, angle):
        def turned(by):
            def turn(u, v):
                x, y = (u - self.cx) / self.fx, (v - self.cy) / self.fy
                x, y = math.cos(by) * x - math.sin(by) * y, math.sin(by) * x + math.cos(by) * y
                return self.fx * x + self.cx, self.fy * y + self.cy

            return turn

        self.moved(turned(angle), turned(-angle), self.size)
        (a, b), c, s = self.off, abs(math.cos(angle)), abs(math.sin(angle))
        across, down = abs(self.fx / self.fy), abs(self.fy / self.fx)
        self.off = c * (a + 0.5) + across * s * (b + 0.5), c * (b + 0.5) + down * s * (a + 0.5)


def nearest(x):
    """floor(x + 0.5); both neighbours where a float falls on their border."""
    if isinstance(x, float):
        return {math.floor(x + 0.5 - 1e-9), math.floor(x + 0.5 + 1e-9)}
    return {math.floor(x + Fraction(1, 2))}


def same_ids(view, original):
    """All maps are those of the original at ``view.pixel``, padding where that is -1."""
    pixel = view.pixel.long()
    for name, pad in (("depth", 0), ("semantic", -1), ("instance", -1)):
        read = getattr(original, name).flatten()[pixel.clamp(min=0)]
        assert torch.equal(getattr(view, name), torch.where(pixel >= 0, read, torch.full_like(read, pad)))


@settings(deadline=None, max_examples=80)
@given(chain=chains, size=sizes, seed=st.integers(0, 5))
def test_every_pixel_shows_what_the_convention_names(chain, size, seed):
    view = make_view(size, seed)
    new, model = changed(view, chain), Followed(view)
    model.places = []
    model.through(chain)
    assert new.size == model.size
    for v, row in enumerate(new.pixel.tolist()):
        for u, pixel in enumerate(row):
            assert pixel in model.of_pixel[u, v]
    same_ids(new, view)


@settings(deadline=None, max_examples=80)
@given(chain=chains, size=sizes, seed=st.integers(0, 5))
def test_a_point_lands_where_the_composed_map_of_pixels_takes_it(chain, size, seed):
    view, rng = make_view(size, seed), generator(seed)
    new, model = changed(view, chain), Followed(view)
    u, v, z = 3 * torch.rand(3, 40, generator=rng, dtype=torch.float64) - 1  # also beside the image
    points = lifted(u * size[1], v * size[0], 1.5 + z.abs(), view.camera)
    before, after = (project(points, of.camera)[0] for of in (view, new))
    model.places = before[:, :2].tolist()
    model.through(chain)
    torch.testing.assert_close(after[:, :2], torch.tensor(model.places, dtype=torch.float64), rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(after[:, 2], before[:, 2], rtol=1e-12, atol=0)


@settings(deadline=None, max_examples=80)
@given(chain=chains, size=sizes, seed=st.integers(0, 5))
def test_the_pixel_that_a_point_lands_on_carries_its_id(chain, size, seed):
    """The centres of all pixels as points. Each lands within half a pixel of the centre of the new pixel it is on; what
    that shows lies there but for the half pixels that nearest sampling may have been off on the way."""
    view = make_view(size, seed)
    new, model = changed(view, chain), Followed(view)
    height, width = size
    v, u = (t.flatten() for t in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    points = lifted(u.double(), v.double(), torch.full((height * width,), 2.0, dtype=torch.float64), view.camera)
    model.places = []
    off = torch.tensor(model.through(chain).off, dtype=torch.float64)

    places = project(points, new.camera)[0, :, :2]  # by id
    row, column = (new.pixel >= 0).nonzero().T
    shown = places[new.pixel[row, column].long()]
    apart = (shown - torch.stack((column, row), dim=1)).abs()
    assert (apart <= off + 1e-9).all()

    column, row = (places + 0.5).floor().long().T
    inside = (column >= 0) & (column < new.size[1]) & (row >= 0) & (row < new.size[0])
    carried = new.pixel[row[inside], column[inside]].long()
    there = carried >= 0
    apart = (places[inside][there] - places[carried[there]]).abs()
    assert (apart <= off + 0.5 + 1e-9).all()
    if all(name in ("cropped", "flipped") for name, *_ in chain):
        assert torch.equal(carried[there], inside.nonzero()[:, 0][there])


def ramp_view(size):
    """Red is 20 + 4 u, green 20 + 5 v, blue 99."""
    view = make_view(size)
    v, u = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    return replace(view, color=torch.stack((20 + 4 * u, 20 + 5 * v, torch.full_like(u, 99)), dim=2).to(torch.uint8))


steps = st.one_of(
    st.builds(lambda y, x: ("scaled", y, x), st.floats(0.6, 1.6), st.floats(0.6, 1.6)),
    st.builds(lambda top, left: ("shifted", top, left), places, places),
    flips,
    st.builds(lambda angle: ("rolled", angle), st.floats(-0.5, 0.5)),
)


@settings(deadline=None, max_examples=60)
@given(chain=st.lists(steps, max_size=4), seed=st.integers(0, 5))
def test_colours_are_those_of_the_place_that_the_camera_sees(chain, seed):
    """Up to interpolation: a byte is rounded at every step, and the ramp has 4 or 5 levels for each pixel."""
    view = ramp_view((44, 56))
    new, resampled, reach = view, 0, 1.0
    for name, *by in chain:
        height, width = new.size
        if name == "scaled":
            size = max(round(by[0] * height), 1), max(round(by[1] * width), 1)
            reach = reach * max(size[0] / height, size[1] / width, 1) + 2
            name, by = "resized", [size]
        elif name == "shifted":
            name, by = "cropped", [*by, height, width]
        elif name == "rolled":
            reach = 1.5 * reach + 2  # pixels need not be square
        resampled += name in ("resized", "rolled")
        new = getattr(new, name)(*by)

    clean = torch.nn.functional.pad((new.pixel >= 0)[None, None].float(), (math.ceil(reach),) * 4)
    clean = 1 - torch.nn.functional.max_pool2d(1 - clean, 2 * math.ceil(reach) + 1, stride=1)[0, 0]
    row, column = (clean > 0).nonzero().T
    depth = torch.full((len(row),), 2.0, dtype=torch.float64)
    u, v, _ = project(lifted(column.double(), row.double(), depth, new.camera), view.camera)[0].T
    red, green, blue = new.color[row, column].double().T
    allowed = 0.01 + 1.1 * resampled
    assert ((red - (20 + 4 * u)).abs() <= allowed).all()
    assert ((green - (20 + 5 * v)).abs() <= allowed).all()
    assert ((blue - 99).abs() <= resampled).all()


@pytest.mark.parametrize("size", [(22, 28), (88, 112), (31, 50), (44, 57)])
def test_the_colours_of_one_resize_are_right_to_a_fraction_of_a_pixel(size):
    view = ramp_view((44, 56))
    new = view.resized(size)
    v, u = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    inner = (slice(6, -6), slice(6, -6))
    for channel, place, step, old, to in ((0, u, 4, 56, size[1]), (1, v, 5, 44, size[0])):
        expected = 20 + step * ((place + 0.5) * old / to - 0.5)
        assert (new.color[..., channel] - expected)[inner].abs().max() < 0.75  # of it 0.5 for bytes


# The room


@pytest.fixture(scope="module")
def room():
    """A view of a room, with exact depth, and points on its surfaces as a cloud, some of which it sees."""
    room, size = Room(2), (60, 80)
    camera = room.path(4, 1)[1].resized(size)
    depth, labels, colors = room.render(camera)
    view = View(colors[0], depth[0].float(), camera, labels[0], labels[0]).numbered()
    points, labels, colors = room.points(6000)
    normals = torch.nn.functional.normalize(points, dim=1)
    return view, Cloud(points, colors, normals, labels)


def linked(cloud_points, view, camera=None):
    return visibility(cloud_points, camera or view.camera, view.depth[None])


def test_the_view_of_the_room_sees_enough_of_it(room):
    view, cloud = room
    assert len(linked(cloud.points, view).point) > 500


@settings(deadline=None, max_examples=60)
@given(chain=st.lists(st.one_of(crops.map(lambda c: (*c[:3], 2 * c[3] + 9, 2 * c[4] + 9)), flips), max_size=5))
def test_flips_and_crops_keep_every_match_to_the_bit(room, chain):
    """Every point that was seen at a pixel which is still there is seen at it, and no other point is."""
    view, cloud = room
    new = changed(view, chain)
    before, after = linked(cloud.points, view), linked(cloud.points, new)
    where = torch.full((view.depth.numel(),), -1)
    kept = new.pixel.flatten() >= 0
    where[new.pixel.flatten()[kept].long()] = kept.nonzero()[:, 0]
    still = where[before.pixel.long()]
    assert torch.equal(after.point, before.point[still >= 0])
    assert torch.equal(after.pixel.long(), still[still >= 0])
    colors = new.color.flatten(0, 1)[after.pixel.long()]
    assert torch.equal(colors, view.color.flatten(0, 1)[before.pixel[still >= 0].long()])


random_2d = st.lists(
    st.sampled_from(
        [
            Resize((45, 64)),
            RandomResize(scale=(0.5, 2.0)),
            RandomResize(longer=(50, 100)),
            Crop(-3, 5, 50, 70),
            RandomCrop((48, 48)),
            RandomCrop((90, 40)),
            Flip(),
            Roll(0.3, 0.7),
            PhotometricJitter(),
            Blur(),
        ]
    ),
    max_size=5,
).map(Compose)


def coarseness(view, original):
    """Pixels of the original in one of the view, along the longer side of it."""
    return float((original.camera.intrinsics / view.camera.intrinsics)[0, [0, 1], [0, 1]].abs().max())


@settings(deadline=None, max_examples=60)
@given(transform=random_2d, seed=st.integers(0, 1000))
def test_points_of_the_room_are_seen_at_the_pixel_that_was_made_from_theirs(room, transform, seed):
    """After any random chain, links made anew in the new image agree with those in the old: what a point's new pixel
    shows lies beside the point's old pixel, by no more than nearest sampling may be off, and mostly has its label."""
    view, cloud = room
    new, rng, reach = view, generator(seed), 0.0
    for step in transform.transforms:
        if isinstance(step, Resize | RandomResize | Roll):
            reach = 1.4 * (reach + 0.5 * coarseness(new, view))  # a diagonal of what may be off, where it rolls
        new = step(new, rng)
    same_ids(new, view)
    matches = linked(cloud.points, new)
    u, v, z = project(cloud.points, view.camera)[0, matches.point.long()].T
    source = new.pixel.flatten()[matches.pixel.long()].long()
    assert (source >= 0).all()  # padding has no depth and sees nothing
    reach += 0.5 * 1.4 * coarseness(new, view) + 1e-9
    assert ((u - source % 80).abs() <= reach).all()
    assert ((v - source // 80).abs() <= reach).all()
    assert ((z - view.depth.flatten()[source]).abs() < 0.015 + 0.0075 * z + 0.0005 * z**2 + 1e-9).all()
    if len(source) > 200:
        assert (cloud.semantic[matches.point.long()] == view.semantic.flatten()[source]).double().mean() > 0.9


# 3D, and both

random_3d = st.lists(
    st.sampled_from(
        [
            Center(),
            FlipAxis(0),
            FlipAxis(1),
            Rotate(math.pi / 64, math.pi / 64),
            Scale(),
            Scale((0.5, 2.0)),
            Shift(2.0),
            LinearJitter(),
            CropBox((5.0, 5.0, math.inf)),
            CropSphere(4.0, most=2500),
            Drop(0.2),
            Subset(2000),
            ColorJitter(),
        ]
    ),
    max_size=6,
).map(Compose)


def by_hand(matches, index):
    """The matches of points ``index`` of a cloud, pair by pair."""
    pixels = dict(zip(matches.point.tolist(), matches.pixel.tolist(), strict=True))
    return [(i, pixels[old]) for i, old in enumerate(index.tolist()) if old in pixels]


@settings(deadline=None, max_examples=60)
@given(transform=random_3d, seed=st.integers(0, 1000))
def test_cameras_that_follow_see_every_point_where_they_saw_it(room, transform, seed):
    view, cloud = room
    points = transform(Points.of(cloud), generator(seed))
    before = project(cloud.points, view.camera)[:, points.index]
    after = project(points.xyz, points.follow(view.camera))
    front = before[0, :, 2] > 0.05  # close to the plane of the camera pixels are beyond all bounds
    torch.testing.assert_close(after[:, front], before[:, front], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(after[..., 2], before[..., 2], rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    chain_2d=random_2d,
    chain_3d=random_3d,
    elastic=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_point_and_its_pixel_stay_together_through_any_chains_of_both(room, chain_2d, chain_3d, elastic, seed):
    view, cloud = room
    rng = generator(seed)
    view = chain_2d(view, rng)
    points = chain_3d(Points.of(cloud), rng)
    if elastic:
        points = Compose([ElasticDistortion(), Scale()])(points, rng)
    for name in ("semantic", "normals", "colors"):
        assert getattr(points, name).shape[0] == len(points)
    assert torch.equal(points.semantic, cloud.semantic[points.index])

    of_cloud = linked(cloud.points, view)
    matches = points.matches(of_cloud)
    assert list(zip(matches.point.tolist(), matches.pixel.tolist(), strict=True)) == by_hand(of_cloud, points.index)
    if not elastic:  # the same links, made from the moved points and the cameras that followed
        assert_same_bits(linked(points.xyz, view, points.follow(view.camera)), matches)


@settings(deadline=None, max_examples=60)
@given(
    views=st.lists(st.lists(st.integers(0, 8), unique=True), max_size=4),
    keeps=st.lists(st.lists(st.integers(0, 100), max_size=12), max_size=3),
)
def test_matches_of_kept_points_are_those_of_their_originals(views, keeps):
    """Whatever is kept, in any order and any number of times."""
    ptr = torch.tensor([0, *(len(seen) for seen in views)]).cumsum(0)
    point = torch.tensor([p for seen in views for p in sorted(seen)], dtype=torch.int32)
    of_cloud = Matches(ptr, point, 10 * torch.arange(len(point), dtype=torch.int32), 9, (10, 20))
    points = Points.of(make_cloud(9))
    for which in keeps:
        if len(points):
            points = points.keep(torch.tensor(which, dtype=torch.int64) % len(points))
    new = points.matches(of_cloud)
    assert (len(new), new.n_points, new.size) == (len(views), len(points), (10, 20))
    for one, original in zip(new, of_cloud, strict=True):
        assert list(zip(one.point.tolist(), one.pixel.tolist(), strict=True)) == by_hand(original, points.index)


def test_lifted_points_of_the_kitchen_keep_their_pixels_and_colours_through_both_chains(real_data):
    frame = read_posed_folder(real_data("redkitchen_7scenes")).frames[0]
    view, rng = View.of(frame).numbered(), generator()
    lift = back_project(view.depth[None].double(), view.camera, view.color.permute(2, 0, 1)[None].double())
    cloud = Cloud(lift.points, lift.features.to(torch.uint8))
    new = Compose([RandomResize(scale=(0.5, 1.5)), Roll(p=1.0), RandomCrop((321, 321)), Flip(1.0)])(view, rng)
    moves = Compose([FlipAxis(p=1.0), Rotate(0.05, 0.05), Scale(), LinearJitter(), Subset(40_000)])
    points = moves(Points.of(cloud), rng)
    matches = points.matches(linked(cloud.points, new))
    assert len(matches.point) > 5000
    assert_same_bits(linked(points.xyz, new, points.follow(new.camera)), matches)
    of_point, of_pixel = lift.pixel[points.index[matches.point.long()]], new.pixel.flatten()[matches.pixel.long()]
    assert (of_point % 640 - of_pixel % 640).abs().max() <= 2
    assert (of_point // 640 - of_pixel // 640).abs().max() <= 2
    apart = new.color.flatten(0, 1)[matches.pixel.long()].int() - points.colors[matches.point.long()].int()
    assert apart.abs().double().mean() < 4  # of neighbouring pixels, interpolated
