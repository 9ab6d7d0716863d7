"""Do batches hold exactly what the files hold, packed, and the same whoever reads them?"""

import math
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Subset as DataSubset

from pyproj2d3d import Camera, project, sample, visibility
from pyproj2d3d.data import Boxes, Cloud, PosedFolders, Scene, SceneDataset, write_room
from pyproj2d3d.data.points import Points
from pyproj2d3d.data.sampler import SeededSampler
from pyproj2d3d.data.samples import FrameSamples, Sample, SceneSamples, collate
from pyproj2d3d.data.sharing import stacked
from pyproj2d3d.data.transforms import Compose
from pyproj2d3d.data.transforms2d import Flip, PhotometricJitter, RandomCrop
from pyproj2d3d.data.transforms3d import ElasticDistortion, FlipAxis, LinearJitter, Rotate, Scale, Shift, Subset
from pyproj2d3d.data.views import View

SIZE = (24, 32)
FRAMES, POINTS = (5, 3, 4), (300, 200, 100)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms")
    for i, (frames, points) in enumerate(zip(FRAMES, POINTS, strict=True)):
        write_room(root / f"room{i}", frames=frames, points=points, seed=i, size=SIZE)
    return PosedFolders(root)


def same(one, other):
    """Whether two batches hold the same bits."""
    for name in one.__dataclass_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, Camera):
            a, b = (torch.cat([c.intrinsics.flatten(), c.world_from_camera.flatten()]) for c in (a, b))
        if isinstance(a, torch.Tensor):
            if not torch.equal(a, b):
                return False
        elif name == "matches":
            if (a is None) != (b is None):
                return False
            if a is not None and not all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("ptr", "point", "pixel")):
                return False
        elif a != b:
            return False
    return True


def test_every_frame_is_a_sample_and_every_other_one_where_asked_for(rooms):
    samples = FrameSamples(rooms)
    assert len(samples) == sum(FRAMES)
    assert [samples[i].scene for i in (0, 4, 5, -1)] == ["room0", "room0", "room1", "room2"]
    assert [samples[i].frames for i in (0, 6)] == [("frame-000000",), ("frame-000001",)]
    every_other = FrameSamples(rooms, every=2)
    assert [every_other[i].frames[0] for i in range(3)] == ["frame-000000", "frame-000002", "frame-000004"]
    assert len(every_other) == 3 + 2 + 2


def test_samples_are_asked_for_by_numbers_of_any_kind_and_by_nothing_else(rooms):
    frames, scenes = FrameSamples(rooms), SceneSamples(rooms)
    assert len(list(DataSubset(frames, np.arange(3)))) == len(list(DataSubset(scenes, torch.arange(3)))) == 3
    assert torch.equal(frames[1, np.int64(7)].views[0].color, frames[1].views[0].color)
    for wrong in ([0, 1], (0, 1, 2), 1.0, (0, None)):
        with pytest.raises(TypeError, match=re.escape(f"or that and a seed, got {wrong!r}")):
            frames[wrong]


def test_an_index_error_of_a_transform_does_not_end_a_loop(rooms):
    def broken(of, rng):
        return [][0]

    for samples in (FrameSamples(rooms, transform=broken), SceneSamples(rooms, point_transform=broken)):
        with pytest.raises(IndexError, match="list index out of range"):
            list(samples)
    assert len(list(FrameSamples(rooms))) == sum(FRAMES)


def test_a_batch_of_frames_holds_their_pixels_and_cameras(rooms):
    samples = FrameSamples(rooms)
    batch = collate([samples[i] for i in (1, 6, 11)])
    assert len(batch) == 3
    assert batch.scenes == ("room0", "room1", "room2")
    assert batch.frames == ("frame-000001", "frame-000001", "frame-000003")
    assert batch.view_ptr.tolist() == [0, 1, 2, 3]
    assert batch.ptr.tolist() == [0, 0, 0, 0]
    for v, (scene, i) in enumerate(((0, 1), (1, 1), (2, 3))):
        frame = rooms[scene].frames[i]
        assert torch.equal(batch.color[v], frame.color())
        assert torch.equal(batch.depth[v], frame.metres())
        assert torch.equal(batch.semantic[v], frame.semantic())
        assert torch.equal(batch.camera[v].world_from_camera, frame.camera.world_from_camera)
    assert batch.points is batch.matches is batch.instance is None


def test_a_batch_of_scenes_packs_points_and_says_whose_they_are(rooms):
    batch = collate([SceneSamples(rooms)[i] for i in range(3)])
    assert batch.ptr.tolist() == [0, 300, 500, 600]
    assert batch.view_ptr.tolist() == [0, 0, 0, 0]
    for b, (low, high) in enumerate(((0, 300), (300, 500), (500, 600))):
        cloud = rooms[b].cloud
        assert torch.equal(batch.points[low:high], cloud.points)
        assert torch.equal(batch.point_semantic[low:high], cloud.semantic)
        assert torch.equal(batch.point_colors[low:high], cloud.colors)
        assert batch.index[low:high].tolist() == list(range(high - low))
        assert (batch.sample_of_point[low:high] == b).all()
    assert torch.equal(batch.points_from_world, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    assert batch.camera is batch.color is None


def test_matches_of_a_batch_are_those_of_each_scene_on_its_own(rooms):
    samples = [SceneSamples(rooms, views=2, spread=True, match=True)[i] for i in range(3)]
    batch = collate(samples)
    assert batch.view_ptr.tolist() == [0, 2, 4, 6]
    assert batch.matches.size == SIZE
    assert batch.matches.n_points == 600
    for v in range(6):
        b = v // 2
        frame = next(f for f in rooms[b].frames if f.name == batch.frames[v])
        alone = visibility(rooms[b].points, frame.camera, frame.metres()[None])
        here = batch.matches[v]
        assert torch.equal(here.point - batch.ptr[b].int(), alone.point)
        assert torch.equal(here.pixel, alone.pixel)
        assert len(here.point) > 5


def test_pairs_survive_every_transform_of_points_and_views(rooms):
    """The label image read at the matches gives the label of the point as often as it does without transforms."""
    views = Compose([RandomCrop((20, 28)), Flip(), PhotometricJitter()])
    points = Compose([FlipAxis(0), Rotate(), ElasticDistortion(), Subset(150)])
    changed = SceneSamples(rooms, views=3, match=True, view_transform=views, point_transform=points)
    plain = SceneSamples(rooms, views=3, match=True)

    def agreement(batch):
        m = batch.matches
        at_pixel = batch.semantic.flatten(1)[m.view.long(), m.pixel.long()]
        return (at_pixel == batch.point_semantic[m.point.long()]).float().mean().item()

    batch = collate([changed[i, 7] for i in range(3)])
    assert batch.ptr.tolist() == [0, 150, 300, 450]  # of 100 points half are there twice
    assert batch.points_from_world is None
    assert len(batch.matches.point) > 50
    assert agreement(batch) > agreement(collate([plain[i, 7] for i in range(3)])) - 0.05
    read = sample(batch.color.permute(0, 3, 1, 2).float(), batch.matches, (20, 28))  # operations take them as they are
    assert read.shape == (len(batch.matches.point), 3)


def test_views_are_drawn_without_repetition_and_in_order(rooms):
    samples = SceneSamples(rooms, views=3)
    drawn = {samples[0, seed].frames for seed in range(40)}
    assert all(len(set(names)) == 3 and list(names) == sorted(names) for names in drawn)
    assert len(drawn) > 5
    assert samples[1, 0].frames == tuple(f"frame-{i:06d}" for i in range(3))  # no more than there are
    spread = SceneSamples(rooms, views=2, spread=True)
    assert spread[0].frames == spread[0].frames == ("frame-000001", "frame-000003")


@pytest.mark.parametrize(("workers", "method"), [(1, "fork"), (2, "fork"), (2, "spawn")])
def test_batches_do_not_depend_on_who_reads_them(rooms, workers, method):
    samples = SceneSamples(rooms, views=2, match=True, view_transform=RandomCrop((16, 16)), point_transform=Subset(50))

    def batches(**keywords):
        loader = DataLoader(
            samples, 2, sampler=SeededSampler(samples, shuffle=True, seed=5), collate_fn=collate, **keywords
        )
        return [batch for _ in range(2) for batch in loader]

    wanted = batches()
    got = batches(num_workers=workers, multiprocessing_context=method, persistent_workers=True)
    assert len(wanted) == len(got) == 4
    assert all(same(a, b) for a, b in zip(wanted, got, strict=True))
    assert not same(wanted[0], wanted[2])  # the second pass is another one


class Maps(Dataset):
    """Maps (2, 3, 5), every second column of a wider one."""

    def __len__(self):
        return 7

    def __getitem__(self, i):
        return torch.arange(60, dtype=torch.int16).view(2, 3, 10)[..., ::2] + 100 * i


@pytest.mark.parametrize("most", [None, 7], ids=["in one write", "in writes of 7 bytes"])
def test_what_a_worker_stacks_is_shared_and_the_same(monkeypatch, most):
    if most:
        writev = os.writev
        monkeypatch.setattr(os, "writev", lambda file, buffers: writev(file, [buffers[0][:most]]))
    loader = DataLoader(Maps(), 3, num_workers=1, multiprocessing_context="fork", collate_fn=stacked)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert all(batch.is_shared() for batch in batches)
    assert torch.equal(torch.cat(batches), torch.stack([Maps()[i] for i in range(7)]))
    assert not stacked([torch.ones(2), torch.ones(2)]).is_shared()  # here is no worker


def test_a_sampler_goes_on_where_it_is_set_to():
    samples = range(10)
    sampler = SeededSampler(samples, shuffle=True, seed=1)
    passes = [list(sampler) for _ in range(3)]
    assert len(sampler) == 10
    assert all(sorted(i for i, _ in drawn) == list(range(10)) for drawn in passes)
    assert len({tuple(drawn) for drawn in passes}) == 3
    later = SeededSampler(samples, shuffle=True, seed=1)
    later.set_epoch(2)
    assert list(later) == passes[2]
    within = SeededSampler(samples, shuffle=True, seed=1)
    within.begin = 3
    assert [list(within), list(within)] == [passes[0][3:], passes[1]]  # of one pass alone
    steady = SeededSampler(samples, shuffle=False)
    assert list(steady) == list(steady)
    assert [i for i, _ in steady] == list(range(10))


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_of_all_processes_are_together_those_of_one(shuffle):
    one = list(SeededSampler(range(10), shuffle=shuffle))
    samplers = [SeededSampler(range(10), shuffle=shuffle, rank=r, processes=3) for r in range(3)]
    parts = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
    assert [len(part) for part in parts] == ([3, 3, 3] if shuffle else [4, 3, 3])
    for step in range(0, 9, 3):
        assert [part[step // 3] for part in parts] == one[step : step + 3]
    assert shuffle or parts[0][3] == one[9]
    with pytest.raises(ValueError, match="rank must be below the 2 processes, got 2"):
        SeededSampler(range(3), shuffle=True, rank=2, processes=2)


def test_a_batch_moves_to_a_device_and_dtype_tensors_keep_theirs(rooms):
    batch = collate([SceneSamples(rooms, views=1, match=True)[0, 0]])
    moved = batch.to("meta")
    assert moved.points.device.type == moved.camera.device.type == moved.matches.point.device.type == "meta"
    assert moved.semantic.dtype == torch.int64
    assert moved.scenes == batch.scenes
    assert same(batch.to("cpu"), batch)
    for wide in (batch.to(torch.float64), batch.to("cpu", torch.float64), batch.to(device="cpu", dtype=torch.float64)):
        assert wide.points.dtype == wide.depth.dtype == wide.camera.dtype == torch.float64
        assert same(replace(wide, points=batch.points, depth=batch.depth, camera=batch.camera), batch)
    assert batch.to("meta", torch.float64).ptr.device.type == "meta"
    for given in ((torch.float64, True), (torch.zeros(1, dtype=torch.float64),), ("cpu", torch.float64, True)):
        wide = batch.to(*given)
        assert same(replace(wide, points=batch.points, depth=batch.depth, camera=batch.camera), batch)
        assert wide.points.dtype == torch.float64
    with pytest.raises(TypeError, match=r"dtype must be floating, got torch\.int64"):
        batch.to(torch.int64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_a_batch_comes_in_page_locked_memory(rooms):
    assert collate([FrameSamples(rooms)[0]]).pin_memory().color.is_pinned()


def by_hand(size=(2, 3), **views):
    camera = Camera(torch.eye(3), torch.eye(4), size)
    view = View(torch.zeros(*size, 3, dtype=torch.uint8), torch.ones(size), camera)
    return replace(view, **views)


def test_a_sample_without_points_or_labels_among_others_is_named(rooms):
    labelled = by_hand(semantic=torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="semantic must be in all samples of a batch or in none, got 1 of 2"):
        collate([Sample("a", ("0",), (by_hand(),)), Sample("b", ("0",), (labelled,))])
    points = Points(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), 1, None)
    with pytest.raises(ValueError, match="points must be in all samples of a batch or in none, got 1 of 2"):
        collate([Sample("a"), Sample("b", points=points)])
    with pytest.raises(ValueError, match=r"views must have one size to be a batch, got \[\(2, 3\), \(4, 5\)\]"):
        collate([Sample("a", ("0",), (by_hand(),)), Sample("b", ("0",), (by_hand((4, 5)),))])
    with pytest.raises(ValueError, match="samples must be at least one, got none"):
        collate([])


def test_an_empty_cloud_has_its_place_in_a_batch():
    none = Points(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 0, None)
    one = Points(torch.zeros(2, 3), torch.arange(2), 2, None)
    batch = collate([Sample("a", points=one), Sample("b", points=none), Sample("c", points=one)])
    assert batch.ptr.tolist() == [0, 2, 2, 4]
    assert batch.sample_of_point.tolist() == [0, 0, 2, 2]


def test_tensors_that_differ_are_not_stacked_in_a_worker_either(monkeypatch):
    monkeypatch.setattr("pyproj2d3d.data.sharing.get_worker_info", lambda: "a worker")
    assert stacked([torch.ones(2, 3), torch.zeros(2, 3)]).is_shared()
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        stacked([torch.ones(2, 2), torch.ones(2, 3)])
    assert torch.equal(stacked([torch.ones(1), torch.ones(1, dtype=torch.float64)]), torch.ones(2, 1).double())


def test_what_samples_cannot_be_made_of_is_named(rooms, tmp_path):
    with pytest.raises(TypeError, match="dataset must be a SceneDataset, as open_dataset gives it, got str"):
        FrameSamples("rooms")
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        FrameSamples(rooms, every=0)
    with pytest.raises(ValueError, match="at must be 'depth' or 'color', got 'both'"):
        FrameSamples(rooms, at="both")
    with pytest.raises(ValueError, match="views must be at least 0, got -1"):
        SceneSamples(rooms, views=-1)
    with pytest.raises(ValueError, match="views must be at least 1 without points and boxes, got 0"):
        SceneSamples(rooms, points=False)
    with pytest.raises(ValueError, match="match must go with points and views, got points=True and views=0"):
        SceneSamples(rooms, match=True)
    with pytest.raises(ValueError, match="point_transform must go with points, got points=False"):
        SceneSamples(rooms, points=False, boxes=True, point_transform=Shift(1.0))
    with pytest.raises(ValueError, match="view_transform must go with views, got views=0"):
        SceneSamples(rooms, view_transform=Flip())
    with pytest.raises(ValueError, match="matches must go with views, got none"):
        collate([replace(SceneSamples(rooms, views=1, match=True)[0, 0], views=(), frames=())])
    with pytest.raises(IndexError, match="sample 12 is not among 12"):
        FrameSamples(rooms)[12]
    write_room(tmp_path / "bare", frames=1, points=0, size=SIZE)
    with pytest.raises(ValueError, match="scene bare: must have points, its files have none"):
        SceneSamples(PosedFolders(tmp_path))[0]
    without = Without(PosedFolders(tmp_path))
    with pytest.raises(ValueError, match="scene bare: must have frames to be matched with, it has none"):
        SceneSamples(without, views=2, match=True)[0]


class Without(SceneDataset):
    """The scenes of another dataset without their frames."""

    def __init__(self, dataset):
        object.__setattr__(self, "names", dataset.names)

    @staticmethod
    def is_in(names):
        return False

    def _open(self, name):
        return Scene(name)


# Boxes.

SIGNS = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)


def corners_of(box):
    """(K, 8, 3) of boxes (K, 7)."""
    local = SIGNS.to(box.dtype) * box[:, None, 3:6]
    cos, sin = box[:, 6, None].cos(), box[:, 6, None].sin()
    x, y, z = local.unbind(2)
    return torch.stack((cos * x - sin * y, sin * x + cos * y, z), dim=2) + box[:, None, :3]


def turned_by(angle):
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turn[:3, 3] = torch.tensor([1.0, 2, 3])
    return turn


class Furnished(Without):
    """Scenes i = 0, 1, ... with i boxes, whose corners are all their points; the last with another class."""

    def __init__(self, n=3, boxes=True):
        object.__setattr__(self, "names", tuple(map(str, range(n))))
        object.__setattr__(self, "with_boxes", boxes)

    def _open(self, name):
        n, rng = int(name), torch.Generator().manual_seed(int(name))
        place, size = 4 * torch.rand(n, 3, generator=rng) - 2, 0.2 + torch.rand(n, 3, generator=rng)
        heading = 6 * torch.rand(n, 1, generator=rng) - 3
        boxes = Boxes(torch.cat((place, size, heading), dim=1), torch.arange(n))
        cloud = Cloud(corners_of(boxes.box).flatten(0, 1))
        return Scene(name, Without, lambda: cloud, (lambda: boxes) if self.with_boxes else None, lambda: turned_by(0.3))


def test_boxes_of_a_batch_are_packed_and_say_whose_they_are():
    furnished = Furnished(4)
    batch = collate([SceneSamples(furnished, boxes=True)[i] for i in (2, 0, 3)])
    assert batch.box_ptr.tolist() == [0, 2, 2, 5]
    assert batch.box_label.tolist() == [0, 1, 0, 1, 2]
    assert torch.equal(batch.box[:2, :6], furnished[2].boxes.box[:, :6])
    torch.testing.assert_close(batch.box[2:], furnished[3].boxes.box)
    assert batch.to(torch.float64).box.dtype == torch.float64
    assert collate([SceneSamples(furnished)[2]]).box is None


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize(
    "moves",
    [
        *([FlipAxis(0, 1.0)], [FlipAxis(1, 1.0)], [FlipAxis(2, 1.0)], [Rotate()], [Scale((0.5, 0.6))], [Shift(3.0)]),
        [FlipAxis(0), Rotate(), Scale((0.5, 2)), FlipAxis(1), Shift(1.0), Rotate()],
    ],
    ids=lambda moves: "-".join(type(move).__name__ for move in moves),
)
def test_boxes_go_where_their_points_go(moves, aligned):
    samples = SceneSamples(Furnished(4), boxes=True, aligned=aligned, point_transform=Compose(moves))
    for seed in range(4):
        sample = samples[3, seed]
        wanted, got = sample.points.xyz.view(3, 8, 3), corners_of(sample.boxes.box)
        apart = torch.cdist(wanted, got)
        assert apart.amin(1).max() < 1e-5
        assert apart.amin(2).max() < 1e-5
        assert sample.boxes.label.tolist() == [0, 1, 2]


def test_a_box_faces_where_it_faced_also_in_a_mirror():
    furnished = Furnished(2)
    before = furnished[1].boxes.box[0]
    after = SceneSamples(furnished, boxes=True, point_transform=FlipAxis(0, 1.0))[1].boxes.box[0]
    assert after[6].cos().item() == pytest.approx(-before[6].cos().item(), abs=1e-6)
    assert after[6].sin().item() == pytest.approx(before[6].sin().item(), abs=1e-6)


def test_aligned_points_and_boxes_are_in_the_axes_along_the_walls():
    furnished = Furnished(2)
    scene, sample = furnished[1], SceneSamples(furnished, boxes=True, aligned=True)[1]
    turn = turned_by(0.3)
    wanted = (scene.points.double() @ turn[:3, :3].T + turn[:3, 3]).float()
    torch.testing.assert_close(sample.points.xyz, wanted)
    assert torch.equal(sample.points.points_from_world, turn)
    assert sample.boxes.box[0, 6].item() == pytest.approx(scene.boxes.box[0, 6].item() + 0.3, abs=1e-6)


def test_matches_are_those_of_the_cloud_wherever_its_points_are_turned(rooms, monkeypatch):
    straight = SceneSamples(rooms, views=2, spread=True, match=True)[0]
    monkeypatch.setattr(Scene, "aligned_from_world", turned_by(1.0))
    turned = SceneSamples(rooms, views=2, spread=True, match=True, aligned=True)[0]
    assert torch.equal(turned.matches.point, straight.matches.point)
    assert torch.equal(turned.matches.pixel, straight.matches.pixel)
    assert not torch.equal(turned.points.xyz, straight.points.xyz)


def test_boxes_alone_are_read_without_points():
    sample = SceneSamples(Furnished(3), points=False, boxes=True, aligned=True)[2]
    assert sample.points is None
    assert sample.boxes.box.shape == (2, 7)
    torch.testing.assert_close(sample.boxes.box, SceneSamples(Furnished(3), boxes=True, aligned=True)[2].boxes.box)


def test_boxes_that_are_not_there_or_cannot_follow_are_named():
    with pytest.raises(ValueError, match="scene 1: must have boxes, its files have none"):
        SceneSamples(Furnished(2, boxes=False), boxes=True)[1]
    distorted = SceneSamples(Furnished(2), boxes=True, point_transform=ElasticDistortion())
    with pytest.raises(ValueError, match="points must be moved by affine maps alone for boxes to follow, these were"):
        distorted[1]
    for bend in (Rotate(x=0.1), LinearJitter(0.1)):
        with pytest.raises(ValueError, match="points must be turned about z alone for boxes to follow, and not shea"):
            SceneSamples(Furnished(2), boxes=True, point_transform=bend)[1, 3]
    whole, bare = (SceneSamples(Furnished(2), boxes=b)[1] for b in (True, False))
    with pytest.raises(ValueError, match="boxes must be in all samples of a batch or in none, got 1 of 2"):
        collate([whole, bare])


def test_a_scene_of_one_image_has_what_it_sees_for_a_cloud_where_asked_for(tmp_path):
    write_room(tmp_path / "one", frames=1, points=0, size=SIZE)
    write_room(tmp_path / "two", frames=2, points=0, size=SIZE)
    samples = SceneSamples(PosedFolders(tmp_path), lift=True)
    frame, points = PosedFolders(tmp_path)["one"].frames[0], samples[0].points
    depth = frame.metres()
    there = depth > 0
    assert len(points) == there.sum() > 300
    assert torch.equal(points.colors, frame.color()[there])
    uvz = project(points.xyz, frame.camera)[0]
    v, u = there.nonzero().unbind(1)
    torch.testing.assert_close(uvz, torch.stack((u, v, depth[there]), dim=1), rtol=0, atol=1e-3)
    assert points.semantic is points.instance is None
    with pytest.raises(ValueError, match="scene two: must have points, its files have none"):
        samples[1]
