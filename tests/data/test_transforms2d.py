"""Does every pixel of a transformed image show what its camera says it sees, and is nothing made up?"""

import colorsys
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from samples import camera_of, generator, make_view
from scenes import assert_close, assert_same_bits

from pyproj2d3d import Camera, back_project, project
from pyproj2d3d.data import Room, read_posed_folder, write_room
from pyproj2d3d.data.scene import Frame
from pyproj2d3d.data.transforms import Compose
from pyproj2d3d.data.transforms2d import (
    Blur,
    Crop,
    Flip,
    PhotometricJitter,
    RandomCrop,
    RandomResize,
    Resize,
    Roll,
)
from pyproj2d3d.data.views import MEAN_COLOR, View

GEOMETRIC = [
    Resize((5, 7)),
    RandomResize(scale=(0.5, 2.0)),
    RandomResize(longer=(4, 12)),
    Crop(1, -2, 4, 9),
    RandomCrop((4, 12)),
    Flip(0.5),
    Flip(0.5, horizontal=False),
    Roll(0.5, 0.7),
]
PHOTOMETRIC = [PhotometricJitter(gamma=0.4), Blur()]


def named(transforms):
    return {"argvalues": transforms, "ids": [f"{i}-{type(t).__name__}" for i, t in enumerate(transforms)]}


def parts(view):
    return view.color, view.depth, view.semantic, view.instance, view.pixel, view.camera


def assert_same_view(one, other):
    assert one.size == other.size
    assert_same_bits([p for p in parts(one) if p is not None], [p for p in parts(other) if p is not None])


def row_of_depth(*metres):
    """An image of one row."""
    depth = torch.tensor([metres], dtype=torch.float32)
    return View(torch.zeros(1, len(metres), 3, dtype=torch.uint8), depth, camera_of((1, len(metres))))


# What a view is


def test_a_view_is_as_large_as_its_camera_says():
    view = make_view((6, 8))
    assert view.size == view.camera.size == (6, 8)


SIX = torch.zeros(6, 8, 3, dtype=torch.uint8), torch.zeros(6, 8), camera_of((6, 8))
BAD_VIEWS = {
    "float colours": ((SIX[0].float(), *SIX[1:]), TypeError, "color must be uint8, got float32"),
    "channels first": ((SIX[0].permute(2, 0, 1), *SIX[1:]), ValueError, r"color must have shape \(6, 8, 3\)"),
    "depth in millimetres": ((SIX[0], SIX[1].to(torch.uint16), SIX[2]), TypeError, "depth must be float32, got uint16"),
    "other depth": ((SIX[0], SIX[1][:3], SIX[2]), ValueError, r"depth must have shape \(6, 8\), got \(3, 8\)"),
    "short labels": ((*SIX, torch.zeros(6, 8).int()), TypeError, "semantic must be int64, got int32"),
    "other objects": ((*SIX, None, torch.zeros(8, 6).long()), ValueError, r"instance must have shape \(6, 8\)"),
    "long pixels": ((*SIX, None, None, torch.zeros(6, 8).long()), TypeError, "pixel must be int32, got int64"),
    "no camera": ((SIX[0], SIX[1], None), TypeError, "camera must be a Camera, got NoneType"),
    "two cameras": ((SIX[0], SIX[1], Camera.cat([SIX[2]] * 2)), ValueError, "camera must be of one view, got 2"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_VIEWS.values(), ids=BAD_VIEWS.keys())
def test_a_view_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        View(*arguments)


# Pixels by hand


def test_resizing_four_pixels_to_two_takes_the_ones_that_the_new_centres_fall_into():
    # the centre of the first new pixel lies on the border of pixels 0 and 1, which is pixel 1's
    assert row_of_depth(1, 2, 3, 4).resized((1, 2)).depth.tolist() == [[2, 4]]


def test_resizing_nine_pixels_to_three_takes_every_middle_one():
    assert row_of_depth(*range(1, 10)).resized((1, 3)).depth.tolist() == [[2, 5, 8]]


def test_resizing_two_pixels_to_four_doubles_them():
    assert row_of_depth(1, 2).resized((1, 4)).depth.tolist() == [[1, 1, 2, 2]]


def test_the_depth_of_a_resized_edge_is_that_of_one_side():
    view = make_view((20, 30))
    for size in ((7, 11), (20, 31), (33, 30), (1, 1)):
        assert torch.isin(view.resized(size).depth, view.depth).all()


@pytest.mark.parametrize("old", [1, 2, 7, 480, 640])
def test_what_a_resized_pixel_reads_is_within_half_an_old_pixel_of_its_centre(old):
    most = 0.0
    view = row_of_depth(*[1.0] * old).numbered()
    for new in (1, 2, 3, 7, 100, 320, 641):
        read = view.resized((1, new)).pixel[0].double()
        place = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
        assert torch.equal(read, (place + 0.5).floor())
        most = max(most, float((read - place).abs().max()))
    assert most <= 0.5
    assert most == 0.5 or old in (1, 7)  # reached where a side is halved


def test_resizing_keeps_one_colour():
    view = make_view((9, 13))
    view = replace(view, color=torch.full_like(view.color, 77))
    for size in ((4, 5), (30, 13), (1, 40)):
        assert (view.resized(size).color == 77).all()
        assert view.resized(size).color.shape == (*size, 3)


@pytest.mark.parametrize("old", [(1, 1), (2, 5), (9, 1), (9, 13)])
@pytest.mark.parametrize("new", [(1, 1), (1, 6), (3, 1), (5, 4), (30, 41)])
@pytest.mark.parametrize("layout", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_resized_colours_are_those_of_pillow_however_they_lie_in_memory(old, new, layout):
    view = make_view(old)
    color = view.color.permute(layout).contiguous().permute(tuple(torch.tensor(layout).argsort().tolist()))
    resized = replace(view, color=color).resized(new).color
    expected = Image.fromarray(view.color.numpy()).resize(new[::-1], Image.Resampling.BILINEAR)
    assert (resized.int() - torch.from_numpy(np.array(expected)).int()).abs().max() <= 1


def test_an_image_resized_to_one_column_keeps_the_colours_of_its_rows():
    view = make_view((5, 6))
    view = replace(view, color=view.color[:, :1].expand(5, 6, 3))
    for height in (1, 3, 5, 9):
        two = view.resized((height, 2)).color
        assert torch.equal(two[:, 0], two[:, 1])
        one = view.resized((height, 1)).color
        assert (one[:, 0].int() - two[:, 0].int()).abs().max() <= 1


def test_resizing_to_the_same_size_changes_nothing():
    view = make_view()
    assert view.resized((6, 8)) is view


def test_a_crop_within_the_image_is_a_slice():
    view = make_view()
    crop = view.cropped(2, 1, 3, 5)
    for new, old in zip(parts(crop)[:5], parts(view)[:5], strict=True):
        assert torch.equal(new, old[2:5, 1:6])


def test_padding_has_the_fill_colour_no_depth_and_no_label():
    view = make_view((2, 2))
    crop = view.cropped(-1, -2, 4, 5, fill=(1, 2, 3))
    inside = torch.zeros(4, 5, dtype=torch.bool)
    inside[1:3, 2:4] = True
    assert torch.equal(crop.depth[inside], view.depth.flatten())
    assert torch.equal(crop.color[inside], view.color.flatten(0, 1))
    assert (crop.color[~inside] == torch.tensor([1, 2, 3])).all()
    assert (crop.depth[~inside] == 0).all()
    for ids in (crop.semantic, crop.instance, crop.pixel):
        assert (ids[~inside] == -1).all()
        assert (ids[inside] >= 0).all()


@pytest.mark.parametrize("place", [(6, 0), (0, 8), (-3, 0), (0, -4), (100, 100), (-(2**31), 2**31)])
def test_a_crop_beside_the_image_is_padding_alone(place):
    crop = make_view().cropped(*place, 3, 4)
    assert crop.size == (3, 4)
    assert (crop.depth == 0).all()
    assert (crop.pixel == -1).all()
    assert (crop.color == torch.tensor(MEAN_COLOR)).all()


def test_flipping_mirrors_and_twice_changes_nothing():
    view = make_view()
    assert torch.equal(view.flipped().depth, view.depth[:, range(7, -1, -1)])
    assert torch.equal(view.flipped(horizontal=False).semantic, view.semantic[range(5, -1, -1)])
    for horizontal in (True, False):
        assert_same_view(view.flipped(horizontal).flipped(horizontal), view)


def square_view():
    """With square pixels and the principal point in the middle of the pixel in the middle."""
    view = make_view((5, 5))
    intrinsics = torch.tensor([[4.0, 0, 2], [0, 4, 2], [0, 0, 1]], dtype=torch.float64)
    return replace(view, camera=Camera(intrinsics, view.camera.world_from_camera, (5, 5)))


def test_a_quarter_of_a_roll_is_a_quarter_of_a_turn_clockwise():
    view = square_view()
    rolled = view.rolled(math.pi / 2)
    for new, old in zip(parts(rolled)[:5], parts(view)[:5], strict=True):
        assert torch.equal(new, torch.rot90(old, -1))
    assert torch.equal(rolled.camera.intrinsics, view.camera.intrinsics)


def test_a_whole_roll_and_none_change_no_pixel():
    view = square_view()
    for angle in (0.0, 2 * math.pi):
        assert_same_bits(parts(view.rolled(angle))[:5], parts(view)[:5])


def test_a_roll_pads_where_nothing_was_seen():
    rolled = square_view().rolled(math.pi / 4, fill=(9, 9, 9))
    corner = rolled.pixel < 0
    assert corner[0, 0]
    assert not corner[2].any()
    assert (rolled.color[corner] == 9).all()
    assert (rolled.depth[corner] == 0).all()


@pytest.mark.parametrize("change", [Resize((3, 4)), Crop(-1, 2, 9, 3), Flip(1.0), Roll(p=1.0)])
def test_a_view_without_labels_has_none_afterwards(change):
    view = change(replace(make_view(), semantic=None, instance=None, pixel=None))
    assert (view.semantic, view.instance, view.pixel) == (None, None, None)


def test_a_change_leaves_the_view_as_it_was():
    view, twin = make_view(), make_view()
    for transform in (*GEOMETRIC, *PHOTOMETRIC):
        transform(view, generator())
    assert_same_view(view, twin)


# Frames


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """One camera for depth and colour, and two."""
    found = {}
    for layout in ("7scenes", "scannet"):
        folder = tmp_path_factory.mktemp(layout)
        write_room(folder, frames=2, seed=3, points=0, layout=layout, size=(48, 64))
        found[layout] = read_posed_folder(folder).frames[1]
    return found


@pytest.mark.parametrize("at", ["depth", "color"])
def test_a_frame_of_one_camera_is_taken_as_it_is(frames, at):
    frame = frames["7scenes"]
    view = View.of(frame, at)
    assert_same_bits((view.color, view.depth, view.semantic), (frame.color(), frame.metres(), frame.semantic()))
    camera = frame.camera if at == "depth" else frame.color_camera
    assert_same_bits(
        (view.camera.intrinsics, view.camera.world_from_camera), (camera.intrinsics, camera.world_from_camera)
    )


def looked_up(pixels, size, here, there):
    """What (N,) pixels of a camera see in an image of another in the same place: row, column, and whether they do."""
    cloud = back_project(torch.ones(1, *size, dtype=torch.float64), here)
    u, v, _ = project(cloud.points, there)[0, pixels].T
    column, row = (u + 0.5).floor().long(), (v + 0.5).floor().long()
    inside = (column >= 0) & (column < there.size[1]) & (row >= 0) & (row < there.size[0])
    return row[inside], column[inside], inside


def shifted(frame):
    """The frame with a colour camera that sees a part of what depth sees, and a little beside it."""
    k = frame.color_camera.intrinsics.clone()
    k[0, :2, 2] += torch.tensor([-30.3, 11.7])
    k[0, [0, 1], [0, 1]] *= torch.tensor([1.13, 1.07])
    return replace(frame, color_cameras=Camera(k, frame.color_camera.world_from_camera, frame.color_camera.size))


@pytest.mark.parametrize("other", [False, True], ids=["as written", "shifted"])
def test_labels_are_those_of_the_nearest_colour_pixel_on_the_same_ray(frames, other):
    frame = shifted(frames["scannet"]) if other else frames["scannet"]
    view = View.of(frame)
    for part in ("intrinsics", "world_from_camera"):
        assert torch.equal(getattr(view.camera, part), getattr(frame.camera, part))
    assert torch.equal(view.depth, frame.metres())
    row, column, inside = looked_up(torch.arange(48 * 64), (48, 64), frame.camera, frame.color_camera)
    assert torch.equal(view.semantic.flatten()[inside], frame.semantic()[row, column])
    assert (view.semantic.flatten()[~inside] == -1).all()
    assert (view.color.flatten(0, 1)[~inside] == torch.tensor(MEAN_COLOR)).all()
    assert bool(inside.all()) is not other


def test_at_the_colour_camera_depth_is_that_of_the_nearest_pixel_on_the_same_ray(frames):
    frame = shifted(frames["scannet"])
    wide = frame.camera.cropped(5, 7, 48, 64)  # depth that does not see what colour sees on two sides
    frame = replace(frame, cameras=wide)
    view = View.of(frame, at="color")
    assert view.camera is frame.color_camera
    assert_same_bits((view.color, view.semantic), (frame.color(), frame.semantic()))
    size = frame.color_camera.size
    row, column, inside = looked_up(torch.arange(size[0] * size[1]), size, frame.color_camera, wide)
    assert torch.equal(view.depth.flatten()[inside], frame.metres()[row, column])
    assert (view.depth.flatten()[~inside] == 0).all()
    assert not inside.all()


def ramp_frame(k, size, here):
    """A frame whose colour is 40 + 2 u, 30 + 3 v, 7 of its own image."""
    v, u = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    color = torch.stack((40 + 2 * u, 30 + 3 * v, torch.full_like(u, 7)), dim=2).to(torch.uint8).numpy()
    camera = Camera(torch.tensor(k, dtype=torch.float64), here.world_from_camera, size)
    depth = torch.ones(here.size).numpy()
    return Frame("one", here, camera, None, lambda: depth, lambda: color)


@pytest.mark.parametrize("zoom", [0.5, 0.9, 1.7, 3.1])
def test_colour_is_interpolated_at_the_place_where_the_ray_meets_it(zoom):
    here = camera_of((24, 32))
    fx, fy, cx, cy = here.intrinsics[0, [0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    k = [[zoom * fx, 0, zoom * cx + 0.37], [0, 1.2 * zoom * fy, 1.2 * zoom * cy - 2.41], [0, 0, 1]]
    frame = ramp_frame(k, (60, 80), here)
    view = View.of(frame)
    cloud = back_project(torch.ones(1, 24, 32, dtype=torch.float64), here)
    u, v, _ = project(cloud.points, frame.color_camera)[0].T
    reach = max(1.2 * zoom, 1.0) + 1  # pixels of the colour image that take part
    inner = (u > reach) & (u < 79 - reach) & (v > reach) & (v < 59 - reach)
    assert inner.sum() > 100
    red, green, blue = view.color.flatten(0, 1)[inner].double().T
    assert (red - (40 + 2 * u[inner])).abs().max() < 0.75  # of it 0.5 for bytes: an eighth of a pixel
    assert (green - (30 + 3 * v[inner])).abs().max() < 0.75
    assert (blue == 7).all()


def test_registered_colour_looks_as_if_it_were_taken_by_the_depth_camera(frames):
    view, frame = View.of(frames["scannet"]), frames["scannet"]
    _, labels, color = Room(3).render(frame.camera)
    assert (view.semantic == labels[0]).double().mean() > 0.99
    apart = (view.color.float() - color[0].float()).abs()
    assert apart.median() < 3


@pytest.mark.parametrize("at", ["depth", "color"])
def test_depth_and_colour_of_other_poses_cannot_be_one_view(frames, at):
    frame = frames["scannet"]
    pose = frame.camera.world_from_camera.clone()
    pose[0, 1, 3] += 0.025
    camera = Camera(frame.color_camera.intrinsics, pose, frame.color_camera.size)
    with pytest.raises(ValueError, match=rf"frame {frame.name}: .* same pose .* 0\.02(5|49)\d* apart"):
        View.of(replace(frame, color_cameras=camera), at)


def test_depth_and_colour_must_have_something_in_common(frames):
    frame = frames["scannet"]
    with pytest.raises(ValueError, match="must see something in common, they share no columns"):
        View.of(replace(frame, cameras=frame.camera.cropped(0, 500, 48, 64)))
    with pytest.raises(ValueError, match="they share no rows"):
        View.of(replace(frame, cameras=frame.camera.cropped(-500, 0, 48, 64)))


def test_depth_and_colour_must_be_mirrored_alike(frames):
    frame = frames["scannet"]
    with pytest.raises(ValueError, match="must have focal lengths of one sign"):
        View.of(replace(frame, cameras=frame.camera.flipped()))
    both = replace(frame, cameras=frame.camera.flipped(), color_cameras=frame.color_camera.flipped())
    assert (View.of(both).semantic >= 0).all()


def test_a_view_is_at_depth_or_at_colour(frames):
    with pytest.raises(ValueError, match="at must be 'depth' or 'color', got 'both'"):
        View.of(frames["7scenes"], "both")


# Transforms


@pytest.mark.parametrize("transform", **named([*GEOMETRIC, *PHOTOMETRIC]))
def test_equal_seeds_give_equal_views(transform):
    view = make_view((6, 9))
    first, again = (transform(view, generator(5)) for _ in range(2))
    assert_same_view(first, again)
    torch.manual_seed(5)  # without a generator it is torch's own, as workers have it
    assert_same_view(transform(view), first)
    assert_same_view(pickle.loads(pickle.dumps(transform))(view, generator(5)), first)


@pytest.mark.parametrize(
    "transform", **named([t for t in (*GEOMETRIC, *PHOTOMETRIC) if not isinstance(t, Resize | Crop)])
)
def test_other_seeds_give_other_views(transform):
    view = make_view((6, 9))
    colors = {tuple(transform(view, generator(seed)).color.flatten().tolist()) for seed in range(12)}
    assert len(colors) > 1


@pytest.mark.parametrize("transform", **named([*GEOMETRIC, *PHOTOMETRIC]))
def test_an_image_of_one_pixel_is_an_image(transform):
    for seed in range(4):
        view = transform(make_view((1, 1)), generator(seed))
        assert view.color.shape == (*view.camera.size, 3)


def test_a_chain_draws_on():
    view, jitter = make_view(), RandomCrop((3, 3))
    rng = generator(1)
    by_hand = jitter(jitter(view, rng), rng)
    assert_same_view(Compose([jitter, jitter])(view, generator(1)), by_hand)
    assert Compose([])(view) is view


def test_a_random_resize_takes_every_length_of_its_range_and_keeps_proportions():
    view, rng = make_view((6, 8)), generator()
    sizes = {RandomResize(longer=(4, 7))(view, rng).size for _ in range(60)}
    assert sizes == {(3, 4), (4, 5), (5, 6), (5, 7)}  # three quarters, half upwards
    heights = {RandomResize(scale=(0.5, 2.0))(view, rng).size[0] for _ in range(200)}
    assert heights == set(range(3, 13))
    assert RandomResize(scale=(0.01, 0.01))(view, rng).size == (1, 1)


def test_a_random_crop_is_anywhere_with_its_first_and_last_place():
    view, rng = make_view((4, 5)), generator()
    first = {int(RandomCrop((2, 3))(view, rng).pixel[0, 0]) for _ in range(100)}
    assert first == {5 * v + u for v in range(3) for u in range(3)}


def test_an_image_smaller_than_its_random_crop_is_whole_and_anywhere_in_it():
    view, rng = make_view((2, 5)), generator()
    places = set()
    for _ in range(60):
        crop = RandomCrop((4, 3))(view, rng)
        rows = (crop.pixel >= 0).all(dim=1)
        assert rows.sum() == 2
        places.add((rows.tolist().index(True), int(crop.pixel.max()) % 5))
    assert places == {(v, u) for v in range(3) for u in (2, 3, 4)}


@pytest.mark.parametrize("horizontal", [True, False])
def test_a_flip_happens_as_often_as_it_should(horizontal):
    view, rng = make_view(), generator()
    assert Flip(0.0, horizontal)(view, rng) is view
    assert_same_view(Flip(1.0, horizontal)(view, rng), view.flipped(horizontal))
    flips = sum(Flip(0.3, horizontal)(view, rng) is not view for _ in range(300))
    assert 60 < flips < 120


def test_a_roll_stays_within_its_angle():
    view, rng = square_view(), generator()
    assert Roll(0.5, 0.0)(view, rng) is view
    angles = []
    for _ in range(100):
        turn = (
            torch.linalg.inv(Roll(0.5, 1.0)(view, rng).camera.world_from_camera[0]) @ view.camera.world_from_camera[0]
        )
        angles.append(math.atan2(turn[1, 0], turn[0, 0]))
    assert -0.5 <= min(angles) < -0.4
    assert 0.4 < max(angles) <= 0.5


@pytest.mark.parametrize("transform", **named(PHOTOMETRIC))
def test_colour_alone_is_changed_by_what_changes_colour(transform):
    view = make_view()
    new = transform(view, generator(1))
    assert not torch.equal(new.color, view.color)
    for name in ("depth", "camera", "semantic", "instance", "pixel"):
        assert getattr(new, name) is getattr(view, name)


def of_color(*rgb):
    view = make_view((4, 4))
    return replace(view, color=torch.tensor(rgb, dtype=torch.uint8).expand(4, 4, 3).contiguous())


def test_no_jitter_changes_no_byte():
    view = make_view((16, 16))
    assert torch.equal(PhotometricJitter(0, 0, 0, 0)(view, generator()).color, view.color)


def test_brightness_is_a_factor():
    view, rng = of_color(50, 100, 20), generator()
    drawn = []
    for _ in range(40):
        red, green, blue = PhotometricJitter(0.5, 0, 0, 0)(view, rng).color[0, 0].double().tolist()
        assert abs(green - 2 * red) <= 1.5
        assert abs(green - 5 * blue) <= 3
        drawn.append(green / 100)
    assert 0.5 <= min(drawn) < 0.6
    assert 1.4 < max(drawn) <= 1.5


def test_contrast_keeps_the_mean_grey_and_grey_images_have_none():
    assert torch.equal(PhotometricJitter(0, 0.9, 0, 0)(of_color(9, 9, 9), generator()).color, of_color(9, 9, 9).color)
    view = make_view((16, 16))
    view = replace(view, color=view.color // 4 + 96)  # far from black and white
    new = PhotometricJitter(0, 0.4, 0, 0)(view, generator(3)).color.double()
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    assert abs(((new - view.color) @ grey).mean()) < 0.1
    assert abs(new.std() / view.color.double().std() - 1) > 0.05


def test_saturation_keeps_every_pixels_grey_and_leaves_grey_alone():
    assert torch.equal(PhotometricJitter(0, 0, 0.9, 0)(of_color(9, 9, 9), generator()).color, of_color(9, 9, 9).color)
    view = make_view((16, 16))
    view = replace(view, color=view.color // 4 + 96)
    new = PhotometricJitter(0, 0, 0.5, 0)(view, generator(3)).color.double()
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    assert ((new - view.color) @ grey).abs().max() < 0.6
    assert not torch.equal(new, view.color.double())


def test_hue_turns_as_in_hsv():
    view = make_view((12, 12))
    new = PhotometricJitter(0, 0, 0, 0.3)(view, generator(2)).color.double() / 255
    turns = []
    for old_rgb, new_rgb in zip(view.color.flatten(0, 1).double() / 255, new.flatten(0, 1), strict=True):
        (h0, s0, v0), (h1, s1, v1) = colorsys.rgb_to_hsv(*old_rgb.tolist()), colorsys.rgb_to_hsv(*new_rgb.tolist())
        assert abs(v0 - v1) < 0.003
        assert abs(s0 * v0 - s1 * v1) < 0.005
        if s0 * v0 > 0.4:
            turns.append((h1 - h0 + 0.5) % 1 - 0.5)
    assert len(turns) > 50
    assert max(turns) - min(turns) < 0.01
    assert 0.01 < abs(turns[0]) <= 0.305


def test_gamma_keeps_black_and_white():
    for grey in (0, 255):
        assert (PhotometricJitter(0, 0, 0, 0, 0.5)(of_color(grey, grey, grey), generator()).color == grey).all()
    new = PhotometricJitter(0, 0, 0, 0, 0.5)(of_color(64, 64, 64), generator(1)).color
    exponent = math.log(float(new[0, 0, 0]) / 255) / math.log(64 / 255)
    assert 0.5 < exponent < 1.5
    assert abs(exponent - 1) > 0.05


def test_a_blur_spreads_a_dot_evenly_and_keeps_one_colour():
    view = make_view((9, 9))
    dot = torch.zeros(9, 9, 3, dtype=torch.uint8)
    dot[4, 4] = 200
    spread = Blur(p=1.0)(replace(view, color=dot)).color
    assert torch.equal(spread, spread.flip(0))
    assert torch.equal(spread, spread.transpose(0, 1))
    assert (spread[..., 0] > 0).nonzero().amin(dim=0).tolist() == [2, 2]
    assert abs(int(spread[..., 0].sum()) - 200) <= 12
    assert (Blur(p=1.0)(replace(view, color=torch.full_like(dot, 90))).color == 90).all()
    assert torch.equal(Blur(size=1, p=1.0)(view).color, view.color)


BAD = {
    "no height": (lambda: Resize((0, 4)), ValueError, "size must be positive"),
    "a size of floats": (lambda: Resize((4.0, 4.0)), TypeError, "size must be two integers"),
    "no range": (lambda: RandomResize(), ValueError, "must be given scale or longer, got None and None"),
    "two ranges": (lambda: RandomResize((1, 2), (3, 4)), ValueError, "must be given scale or longer"),
    "a falling range": (lambda: RandomResize(scale=(2.0, 1.0)), ValueError, r"scale must ascend, got \(2.0, 1.0\)"),
    "a scale of 0": (lambda: RandomResize(scale=(0.0, 1.0)), ValueError, "scale must be positive and finite, got 0.0"),
    "one number": (lambda: RandomResize(scale=2.0), TypeError, r"scale must be two numbers \(low, high\), got 2.0"),
    "half a pixel": (lambda: RandomResize(longer=(1.5, 4)), TypeError, "longer must be an integer, got 1.5"),
    "an empty crop": (lambda: Crop(0, 0, 0, 4), ValueError, r"\(height, width\) must be positive"),
    "a crop at a half": (lambda: Crop(0.5, 0, 4, 4), TypeError, "top must be an integer, got 0.5"),
    "a crop far away": (lambda: Crop(0, 2**32, 4, 4), ValueError, "left must be at most"),
    "a crop of nothing": (lambda: RandomCrop((4, -1)), ValueError, "size must be positive"),
    "a float fill": (lambda: RandomCrop((4, 4), (0.5, 0.5, 0.5)), ValueError, "fill must be three integers from 0 to"),
    "two fills": (lambda: Crop(0, 0, 1, 1, (1, 2)), ValueError, "fill must be three integers"),
    "a bright fill": (lambda: Roll(fill=(0, 0, 256)), ValueError, "fill must be three integers"),
    "more than always": (lambda: Flip(1.5), ValueError, "p must be from 0 to 1, got 1.5"),
    "less than never": (lambda: Roll(p=-0.1), ValueError, "p must be from 0 to 1, got -0.1"),
    "a negative angle": (lambda: Roll(-1.0), ValueError, "angle must not be negative, and finite, got -1.0"),
    "angle nan": (lambda: Roll(math.nan), ValueError, "angle must be a number, got NaN"),
    "brightness": (lambda: PhotometricJitter(brightness=-1), ValueError, "brightness must not be negative"),
    "a turn of hue": (lambda: PhotometricJitter(hue=0.6), ValueError, "hue must be at most 0.5 turns, got 0.6"),
    "gamma": (lambda: PhotometricJitter(gamma=1.0), ValueError, "gamma must be below 1, got 1.0"),
    "an even blur": (lambda: Blur(4), ValueError, "size must be odd, got 4"),
    "a sharp blur": (lambda: Blur(5, 0.0), ValueError, "sigma must be positive and finite, got 0.0"),
    "a string": (lambda: Flip("often"), TypeError, "p must be a number, got 'often'"),
    "an endless roll": (lambda: make_view().rolled(math.inf), ValueError, "angle must be finite, got inf"),
    "an empty resize": (lambda: make_view().resized((4, 0)), ValueError, "size must be positive"),
    "an empty view": (lambda: make_view().cropped(0, 0, 0, 1), ValueError, "must be positive"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_a_transform_says_what_is_wrong(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_camera_of_a_negative_focal_length_rolls_too():
    view = make_view((9, 9)).flipped()
    points = torch.tensor([[0.3, 0.2, 1.0], [-0.1, 0.4, 2.0]], dtype=torch.float64)
    world = points @ view.camera.world_from_camera[0, :3, :3].T + view.camera.world_from_camera[0, :3, 3]
    k = view.camera.intrinsics[0]
    u, v, z = project(world, view.camera)[0].T
    angle = 0.4
    a, b = (u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1]
    expected = torch.stack(
        (
            k[0, 0] * (math.cos(angle) * a - math.sin(angle) * b) + k[0, 2],
            k[1, 1] * (math.sin(angle) * a + math.cos(angle) * b) + k[1, 2],
            z,
        ),
        dim=1,
    )
    assert_close(project(world, view.rolled(angle).camera)[0], expected)
