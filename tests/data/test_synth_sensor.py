"""Is measured depth what a structured-light sensor gives? Millimetres, noise that grows with depth, holes in blobs."""

import math
import zlib

import numpy as np
import pytest

from pyproj2d3d.data.synth import RoomOptions, SynthRoom
from pyproj2d3d.data.synth.materials import (
    CLOTH,
    GLASS,
    LAMPSHADE,
    LEATHER,
    METAL,
    MIRROR,
    PLASTIC,
    SCREEN,
    STYLES,
    WOOD,
    material,
    own_color,
)
from pyproj2d3d.data.synth.sensor import BASELINE, NOISE, blobs, facing, measured_depth, shadow
from pyproj2d3d.data.synth.trace import trace

each_style = pytest.mark.parametrize("style", list(STYLES))
PLAIN = material(PLASTIC)
NO, NOISY, HOLED = RoomOptions(), RoomOptions(noise=True), RoomOptions(holes=True)
K = np.array([[400.0, 0, 159.5], [0, 400.0, 119.5], [0, 0, 1]])


def wall_at(z, size=(240, 320)):
    return np.full(size, float(z))


def seen(depth, of=0, options=NO, seed=0):
    return measured_depth(depth, np.broadcast_to(np.int64(of), depth.shape), K, seed, options)


def test_without_noise_and_holes_depth_is_rounded_to_the_millimetre():
    depth = np.array([[1.0004, 1.0006, 1.0005], [0.0001, 65.5341, 1000.0]])
    assert seen(depth).tolist() == [[1000, 1001, 1001], [1, 65534, 65534]]
    assert seen(depth).dtype == np.uint16


@pytest.mark.parametrize("z", [1.0, 2.0, 4.0])
def test_noise_grows_with_the_square_of_depth(z):
    millimetres = seen(wall_at(z), options=NOISY).astype(float)
    expected = math.hypot(1000 * NOISE * z * z, 1 / math.sqrt(12))  # and the rounding
    assert abs(millimetres.std() / expected - 1) < 0.02
    assert abs(millimetres.mean() - 1000 * z) < 5 * expected / math.sqrt(millimetres.size)
    assert np.abs(millimetres - 1000 * z).max() < 4 * expected + 1  # sums of integers have no long tails


def test_noise_leaves_depth_present_and_makes_edges_ragged():
    depth = wall_at(3.0)
    depth[:, 160:] = 1.5
    noisy = seen(depth, options=NOISY)
    assert noisy.min() > 0
    near = noisy < 2250
    first = near.argmax(axis=1)
    assert set(first.tolist()) >= {159, 160}
    assert 158 < first.min() <= first.max() < 164


CHECKSUM = 140375804


def slope():
    """A tilted floor with a step; made of sums and quotients, whose bits are the same everywhere."""
    row, column = np.indices((60, 80))
    depth = 1 / (0.15 + row / 150 + column / 900)
    depth[20:40, 30:50] = 1.25
    return depth


def test_millimetres_are_the_same_on_every_machine():
    of = np.where(np.indices((60, 80))[1] < 20, material(MIRROR), PLAIN)
    options = RoomOptions(noise=True, holes=True)
    got = measured_depth(slope(), of, K, 7, options)
    assert zlib.crc32(got.astype("<u2").tobytes()) == CHECKSUM
    assert np.array_equal(got, measured_depth(slope(), of, K, 7, options))
    assert not np.array_equal(got, measured_depth(slope(), of, K, 8, options))


def test_holes_do_not_change_the_depth_beside_them():
    exact, holed = seen(slope()), seen(slope(), options=HOLED)
    assert (holed == 0).any()
    assert np.array_equal(holed[holed > 0], exact[holed > 0])


def test_the_projector_on_the_right_leaves_a_shadow_on_the_left_of_what_is_near():
    depth = wall_at(2.0)
    depth[100:140, 200:240] = 1.0
    hidden = shadow(depth, 400.0)
    wide = 400 * BASELINE * (1 / 1.0 - 1 / 2.0)  # 15 pixels
    assert wide == 15
    expected = np.zeros(depth.shape, dtype=bool)
    expected[100:140, 200 - 15 + 1 : 200] = True
    assert np.array_equal(hidden | expected, hidden)
    assert hidden.sum() - expected.sum() <= 40  # one column on the border
    assert not shadow(wall_at(2.0), 400.0).any()
    assert np.array_equal(shadow(depth[:, ::-1], -400.0), hidden[:, ::-1])  # the image mirrored


def test_facing_is_the_cosine_to_the_ray_on_planes():
    u, v = (np.arange(320) - 159.5) / 400, ((np.arange(240) - 119.5) / 400)[:, None]
    length = np.sqrt(u * u + v * v + 1)
    np.testing.assert_allclose(facing(wall_at(2.0), K), 1 / length, rtol=1e-9)
    tilted = 2 / (1 + u + 0 * v)  # n = (1, 0, 1) / sqrt(2)
    np.testing.assert_allclose(facing(tilted, K), (u + 1) / (math.sqrt(2) * length), rtol=1e-9)


def test_what_is_seen_at_a_grazing_angle_is_missing():
    v = ((np.arange(240) + 1) / 400)[:, None]
    floor = np.broadcast_to(0.12 / v, (240, 320))  # from 12 cm above it
    k = K.copy()
    k[1, 2] = -1
    cosine = facing(floor, k)
    holed = measured_depth(floor, np.zeros(floor.shape, dtype=np.int64), k, 0, HOLED) == 0
    assert holed[cosine < 0.08].all()
    middle = (cosine > 0.25) & (floor > 0.45)
    assert middle.any()
    assert not holed[middle].any()


@pytest.mark.parametrize(
    ("of", "low", "high"),
    [
        (material(WOOD), 0.0, 0.0),
        (material(GLASS), 0.7, 1.0),
        (material(MIRROR), 0.6, 0.95),
        (material(SCREEN), 0.45, 0.85),
        (material(LAMPSHADE), 0.35, 0.75),
        (material(METAL, 0, 0), 0.1, 0.5),
        (material(LEATHER, 0, 0), 0.02, 0.3),
    ],
)
def test_glass_screens_and_metal_have_holes_and_wood_has_none(of, low, high):
    missing = np.mean([(seen(wall_at(2.0), of, HOLED, s) == 0).mean() for s in range(4)])
    assert low <= missing <= high


def test_dark_cloth_has_more_holes_than_bright_cloth():
    dark, bright = material(CLOTH, 0, 9), material(CLOTH, 0, 5)
    assert sum(own_color(dark, "studio")) < 150 < sum(own_color(bright, "studio"))
    options = RoomOptions(holes=True, style="studio")
    assert (seen(wall_at(2.0), dark, options) == 0).mean() > 0.05
    assert (seen(wall_at(2.0), bright, options) == 0).mean() == 0


def test_holes_come_in_blobs():
    missing = seen(wall_at(2.0), material(METAL), HOLED) == 0
    changes = (missing[:, 1:] != missing[:, :-1]).mean()
    independent = 2 * missing.mean() * (1 - missing.mean())
    assert changes < 0.5 * independent


def test_what_is_too_near_or_too_far_is_missing():
    missing = [(seen(wall_at(z), options=HOLED) == 0).mean() for z in (0.3, 0.5, 4.9, 6.0, 7.1)]
    assert (missing[0], missing[1], missing[2], missing[4]) == (1, 0, 0, 1)
    assert 0.2 < missing[3] < 0.8


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (3, 3)])
def test_the_smallest_images_have_depth_too(size):
    options = RoomOptions(noise=True, holes=True)
    got = seen(wall_at(2.0, size), options=options)
    assert got.shape == size
    assert (np.abs(got.astype(int) - 2000) < 40).all()


@each_style
def test_a_few_percent_of_the_depth_of_furnished_rooms_are_missing(style):
    missing = []
    for seed in range(8):
        options = RoomOptions(frames=24, size=(60, 80), style=style, holes=True)
        room = SynthRoom(seed, options)
        camera = room.camera()
        for view in (0, 6, 12, 18):
            k, pose = camera.intrinsics[view].numpy(), camera.world_from_camera[view].numpy()
            hits = trace(room.parts, room.extent, k, pose, camera.size)
            of = np.append(room.parts.material, 0)[hits.part]
            missing.append((measured_depth(hits.z, of, k, 24 * seed + view, options) == 0).mean())
    assert 0.015 < np.mean(missing) < 0.12
    assert max(missing) < 0.5


def test_blobs_are_even_and_smooth():
    values = np.concatenate([blobs((240, 320), np.random.default_rng(s)).reshape(-1) for s in range(8)])
    assert values.min() >= 0
    assert values.max() <= 255
    share = np.histogram(values, 4, (0, 256))[0] / len(values)
    assert share.min() > 0.15
