"""Does the demo say of a folder what the operations say, and does it say so when a folder is unusable?"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pyproj2d3d import Camera, FeatureCache, fuse_views, project, reference, visibility
from pyproj2d3d.data import Frame, read_posed_folder, write_room
from pyproj2d3d.demo import DemoError, Stopwatch, demo, match
from pyproj2d3d.demo_cache import kept_picture
from pyproj2d3d.demo_clouds import Lifted, ThinnedCloud, VoxelGrid, lift, spacing, thin

SIZE = (48, 64)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("room")
    write_room(folder, frames=3, points=4000, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def out(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo(room, tmp_path_factory.mktemp("out")).parent


@pytest.fixture(scope="module")
def page(out: Path) -> str:
    return (out / "report.html").read_text(encoding="utf-8")


def rows_below(heading: str, page: str) -> list[list[str]]:
    """The cells of the first table below it."""
    table = re.search(rf"<h2>{heading}</h2>.*?<tbody>(.*?)</tbody>", page, re.S)[1]
    return [re.split("<td>", row)[1:] for row in re.split("<tr[^>]*>", table)[1:]]


def count_rows(page: str) -> list[list[str]]:
    return rows_below("Counts", page)


def tiles_below(heading: str, page: str) -> list[str]:
    """The numbers of the first row of tiles below it."""
    tiles = re.search(rf'<h2>{heading}</h2>.*?<div class="tiles">(.*?</div>)</div>', page, re.S)[1]
    return re.findall("<b>(.*?)</b>", tiles)


def fused_colors(scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean colour of each point over the frames that see it, and how many these are."""
    camera = Camera.cat([frame.camera for frame in scene.frames])
    depth = torch.stack([frame.depth() for frame in scene.frames])
    maps = torch.stack([frame.color() for frame in scene.frames]).permute(0, 3, 1, 2).float()
    return fuse_views(maps, visibility(scene.points, camera, depth, depth_scale=1000.0), len(scene.points), SIZE)


def test_every_frame_has_a_row_with_the_counts_that_visibility_gives(room, page):
    scene = read_posed_folder(room)
    rows = count_rows(page)
    assert [row[0] for row in rows] == ["all", *(frame.name for frame in scene.frames)]
    totals = [0, 0]
    for row, frame in zip(rows[1:], scene.frames, strict=True):
        inside = visibility(scene.points, frame.camera)
        seen = visibility(scene.points, frame.camera, frame.depth()[None], depth_scale=frame.depth_scale)
        assert row[1:3] == [f"{len(inside.point):,}", f"{len(seen.point):,}"]
        assert row[3] == f"{(len(inside.point) - len(seen.point)) / len(inside.point):.0%}"
        totals = [totals[0] + len(inside.point), totals[1] + len(seen.point)]
    assert rows[0][1:3] == [f"{n:,}" for n in totals]


def test_the_depth_filter_makes_pixels_agree_with_the_labels_of_their_points(page):
    for row in count_rows(page)[1:]:
        without, with_it = (float(share.rstrip("%")) for share in row[5].split("<")[0].split(" → "))
        assert with_it > 97  # the rest are pixels on an edge
        assert with_it > without


def test_the_voxels_are_counted_as_numpy_counts_them(room, page):
    scene = read_posed_folder(room)
    lifted = [
        reference.back_project(f.depth()[None], f.camera, depth_scale=f.depth_scale).points.float()
        for f in scene.frames
    ]
    rows = rows_below("The frames as voxels", page)
    for row, points in zip(rows, (torch.cat(lifted), scene.points), strict=True):
        counts = np.unique(np.floor(points.numpy() / np.float32(0.05)), axis=0, return_counts=True)[1]
        mean, most = len(points) / len(counts), counts.max()
        assert row[1:] == [f"{len(points):,}", f"{len(counts):,}", f"{mean:,.1f}", f"{most:,}"]
    assert "In voxels of 5 cm" in page


def covered(pixel: torch.Tensor, radius: int) -> np.ndarray:
    """Which pixels of every eighth row and column a square around any of these pixels covers."""
    painted = np.zeros(SIZE, dtype=bool)
    for v, u in zip(*np.divmod(pixel.numpy(), SIZE[1]), strict=True):
        painted[max(0, v - radius) : v + radius + 1, max(0, u - radius) : u + radius + 1] = True
    return painted[::8, ::8]


def test_coverage_is_the_share_of_kept_pixels_that_points_cover(room, page):
    scene, rows = read_posed_folder(room), count_rows(page)
    shares = []
    for row, frame in zip(rows[1:], scene.frames, strict=True):
        seen = visibility(scene.points, frame.camera, frame.depth()[None], depth_scale=frame.depth_scale)
        shares.append([covered(seen.pixel, radius).mean() for radius in (0, 1)])
        assert row[6] == "{:.1%} → {:.1%}".format(*shares[-1])
        for share in shares[-1]:
            assert f"<b>{share:.1%}</b>" in page
        assert 0 < shares[-1][0] < shares[-1][1] < 1
    plain, dilated = np.mean(shares, axis=0)
    assert rows[0][6] == f"{plain:.1%} → {dilated:.1%}"
    assert tiles_below("What a feature cache keeps", page)[:2] == [f"{plain:.1%}", f"{dilated:.1%}"]


def test_the_cache_holds_the_fused_colour_of_the_nearest_seen_point_at_every_eighth_pixel(room, out):
    scene, cache = read_posed_folder(room), FeatureCache.open(out / "features.safetensors")
    fused, _ = fused_colors(scene)
    assert cache.names == tuple(frame.name for frame in scene.frames)
    assert (cache.stride, cache.radius, cache.dtype) == (8, 1, torch.float16)
    for frame in scene.frames:
        seen = visibility(scene.points, frame.camera, frame.depth()[None], depth_scale=frame.depth_scale)
        uvz = reference.project(scene.points, frame.camera)
        index = reference.zbuffer(uvz, SIZE, radius=1, matches=seen)[0][0, ::8, ::8]
        features, mask = cache[frame.name].dense()
        assert torch.equal(mask, index >= 0)
        assert torch.equal(features.permute(1, 2, 0)[mask], fused[index[mask]].half())


def test_the_size_of_the_cache_is_that_of_its_file_and_of_full_maps(out, page):
    rows = sum(len(frame.features) for frame in FeatureCache.open(out / "features.safetensors"))
    size, dense = (out / "features.safetensors").stat().st_size, 3 * SIZE[0] * SIZE[1] * 3 * 2
    tiles = tiles_below("What a feature cache keeps", page)
    assert tiles[2:] == [f"{size / 1e6:.1f} MB", f"{dense / 1e6:.1f} MB"]
    assert f"on disk: {rows:,} rows of 3 channels in float16" in page
    assert f"every frame: {dense / size:.0f} times as much" in page


def test_a_kept_pixel_is_drawn_as_the_block_that_it_stands_for():
    image = torch.full((10, 17, 3), 100, dtype=torch.uint8)
    colors = torch.arange(18.0).view(3, 2, 3)
    drawn = kept_picture(image, colors, torch.tensor([[True, False, True], [False, True, False]]))
    assert drawn.shape == image.shape
    assert drawn[:8, :8].reshape(-1, 3).unique(dim=0).tolist() == [[0, 6, 12]]
    assert drawn[:8, 16:].reshape(-1, 3).unique(dim=0).tolist() == [[2, 8, 14]]
    assert drawn[8:, 8:16].reshape(-1, 3).unique(dim=0).tolist() == [[4, 10, 16]]
    assert (
        drawn[:8, 8:16].unique().tolist() == drawn[8:, :8].unique().tolist() == drawn[8:, 16:].unique().tolist() == [30]
    )


def test_the_page_has_all_its_parts(page):
    first, *others = "What all frames together say", "The frames as voxels", "What the depth filter does"
    for heading in (first, *others, "What a feature cache keeps", "Counts", "Time by step"):
        assert f"<h2>{heading}" in page
    assert page.count("<article>") == 2 * 3
    assert page.count('<img src="data:image/jpeg;base64,') == 3 * (5 + 3)
    assert page.count('<img src="data:image/png;base64,') == 3
    steps = ["lift depth", "gather the frames in voxels", "visibility without depth", "visibility with depth"]
    steps += [
        "sample colours",
        "fuse colours",
        "choose the pixels",
        "write the feature",
        "read the feature",
        "z-buffer",
    ]
    for step in steps:
        assert f"<tr><td>{step}" in page


def test_without_data_a_synthetic_room_is_made_and_removed_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = demo(out=tmp_path / "new" / "out", frames=1)
    assert path == tmp_path / "new" / "out" / "report.html"
    assert "A synthetic room" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["new"]
    assert f"Open {path}" in capsys.readouterr().out


def test_a_folder_without_a_cloud_is_lifted(tmp_path, room):
    write_room(tmp_path, frames=2, points=0, size=SIZE)
    page = demo(tmp_path, tmp_path / "out").read_text(encoding="utf-8")
    assert "The depth images lifted to points" in page
    for row in count_rows(page)[1:]:
        seen = int(row[2].replace(",", ""))
        assert seen > 0.9 * SIZE[0] * SIZE[1]  # each view sees its own pixels again, but what voxels merge


def test_a_colour_camera_of_its_own_is_obeyed(tmp_path):
    write_room(tmp_path, frames=2, points=4000, size=SIZE, layout="scannet")
    scene = read_posed_folder(tmp_path)
    frame = scene.frames[1]
    assert frame.color_camera.size != frame.camera.size
    inside, seen = match(scene.points, frame, frame.depth(), Stopwatch())
    uv = project(scene.points, frame.color_camera)[0, :, :2]
    for matches in (inside, seen):
        u, v = (uv[matches.point.long()] + 0.5).floor().long().T
        assert torch.equal(matches.pixel.long(), v * frame.color_camera.size[1] + u)
    agreement = frame.semantic().flatten()[seen.pixel.long()] == scene.cloud.semantic[seen.point.long()]
    assert agreement.float().mean() > 0.97
    rows = count_rows(demo(tmp_path, tmp_path / "out").read_text(encoding="utf-8"))
    assert rows[2][2] == f"{len(seen.point):,}"


def test_a_frame_that_cannot_be_decoded_is_left_out_and_named(tmp_path, capsys):
    write_room(tmp_path, frames=3, points=500, size=SIZE)
    broken = tmp_path / "frame-000001.depth.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    page = demo(tmp_path, tmp_path / "out").read_text(encoding="utf-8")
    assert [row[0] for row in count_rows(page)] == ["all", "frame-000000", "frame-000002"]
    assert "<h2>Left out</h2>" in page
    assert page.count("frame-000001.depth.png") == 1
    assert "frame-000001.depth.png" in capsys.readouterr().out


def test_a_torn_label_image_leaves_its_frame_out(tmp_path):
    write_room(tmp_path, frames=2, points=500, size=SIZE)
    torn = tmp_path / "frame-000000.label.png"
    torn.write_bytes(torn.read_bytes()[:-60])
    page = demo(tmp_path, tmp_path / "out").read_text(encoding="utf-8")
    assert [row[0] for row in count_rows(page)] == ["all", "frame-000001"]
    assert page.count("frame-000000.label.png") == 1


def test_frames_without_any_depth_reading_give_an_empty_report(tmp_path):
    from PIL import Image

    write_room(tmp_path, frames=1, points=0, size=SIZE)
    Image.fromarray(torch.zeros(SIZE, dtype=torch.uint16).numpy()).save(tmp_path / "frame-000000.depth.png")
    rows = count_rows(demo(tmp_path, tmp_path / "out").read_text(encoding="utf-8"))
    assert rows[1][:4] == ["frame-000000", "0", "0", "–"]
    assert rows[1][-1] == "0.0% → 0.0%"


def test_folders_that_cannot_be_used_are_named(tmp_path, room):
    with pytest.raises(DemoError, match="nowhere"):
        demo(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemoError, match="empty"):
        demo(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DemoError, match=r"cannot write to .*file/out"):
        demo(room, tmp_path / "file" / "out")
    (tmp_path / "taken" / "features.safetensors").mkdir(parents=True)
    with pytest.raises(DemoError, match=r"cannot write to .*taken: .*features.safetensors: is a folder"):
        demo(room, tmp_path / "taken")


def test_real_frames_give_a_report_in_which_the_filter_brings_colours_closer(tmp_path, real_data):
    page = demo(real_data("redkitchen_7scenes"), tmp_path).read_text(encoding="utf-8")
    rows = count_rows(page)[1:]
    assert len(rows) == 50
    for row in rows:
        without, with_it = (float(difference) for difference in row[4].split(" → "))
        assert with_it < without
        plain, dilated = (float(share.rstrip("%")) for share in row[5].split(" → "))
        assert 3 * plain < dilated < 9 * plain + 0.5  # a point covers nine pixels instead of one; many share theirs
    assert len(page) < 10e6


def no_pixels():
    raise AssertionError("this frame has no files")


def frame_of(camera: Camera, color_camera: Camera | None = None) -> Frame:
    """A frame that has no files."""
    return Frame("by hand", camera, color_camera or camera, 1000.0, no_pixels, no_pixels)


def test_lifted_points_project_back_to_their_pixels_and_depths():
    depth = torch.tensor([[0, 1500, 65535], [2000, 1, 3000], [7, 8, 9]], dtype=torch.uint16)
    pose = torch.tensor([[0.0, 0, 1, 4], [-1, 0, 0, 5], [0, -1, 0, 6], [0, 0, 0, 1]])
    camera = Camera(torch.tensor([[50.0, 0, 1.3], [0, -60, 0.9], [0, 0, 1]]), pose, (3, 3))
    image = torch.arange(27, dtype=torch.uint8).view(3, 3, 3)
    lifted = lift(frame_of(camera), depth, image, None)
    uvz = project(lifted.points.double(), camera)[0]
    expected = [[1, 0, 1.5], [0, 1, 2.0], [1, 1, 0.001], [2, 1, 3], [0, 2, 0.007], [1, 2, 0.008], [2, 2, 0.009]]
    at_a_metre = uvz[:, 2] > 1  # float32 of a world metres away leaves few digits to a millimetre
    assert torch.allclose(uvz[:, 2], torch.tensor(expected, dtype=torch.float64)[:, 2], atol=1e-6)
    assert torch.allclose(uvz[at_a_metre], torch.tensor(expected, dtype=torch.float64)[at_a_metre], atol=1e-4)
    assert lifted.colors[:, 0].tolist() == [3, 9, 12, 15, 18, 21, 24]
    assert lifted.labels.tolist() == [-1] * 7
    assert lifted.seen_from.tolist() == [4, 5, 6]


def test_lifted_points_have_the_colours_and_labels_of_a_colour_camera_that_may_not_see_all():
    camera = Camera(torch.tensor([[4.0, 0, 1.5], [0, 4, 0], [0, 0, 1]]), torch.eye(4), (1, 4))
    narrow = camera.cropped(0, 1, 1, 3).resized((2, 6))  # twice as fine, without the first column
    image = torch.arange(36, dtype=torch.uint8).view(2, 6, 3)
    lifted = lift(
        frame_of(camera, narrow), torch.full((1, 4), 2000, dtype=torch.uint16), image, torch.arange(12).view(2, 6)
    )
    uv = project(lifted.points, narrow)[0, :, :2]
    assert uv.tolist() == [[0.5, 0.5], [2.5, 0.5], [4.5, 0.5]]
    assert lifted.labels.tolist() == [7, 9, 11]  # half a pixel rounds up
    assert lifted.colors[:, 0].tolist() == [21, 27, 33]


def test_the_lowest_point_of_each_voxel_is_kept():
    points = torch.tensor([[0.9, 0, 0], [-0.1, 0, 0], [0.1, 0, 0], [-0.9, 0.5, 0.5], [5, 0, 0]])
    keep, size = thin(points, 1.0, 3)
    assert (keep.tolist(), size) == ([1, 0, 4], 1.0)
    assert thin(points[:0], 1.0, 3)[0].tolist() == []


def test_voxels_grow_until_few_enough_points_are_left():
    points = torch.arange(100.0)[:, None].expand(100, 3)
    keep, size = thin(points, 1.0, 10)
    assert 5 < len(keep) <= 10
    assert size == pytest.approx(1.1 ** round(np.log(size) / np.log(1.1)))
    assert len((points / size).floor().unique(dim=0)) == len(keep) < len((1.1 * points / size).floor().unique(dim=0))


def lifted_at_random(seed: int, n: int = 2000) -> Lifted:
    rng = torch.Generator().manual_seed(seed)
    colors = torch.randint(256, (n, 3), generator=rng, dtype=torch.uint8)
    labels = torch.randint(-1, 5, (n,), generator=rng)
    return Lifted(torch.randn(n, 3, generator=rng), colors, labels, torch.randn(3, generator=rng))


def test_the_first_frame_that_saw_a_voxel_gives_its_point():
    thinned = ThinnedCloud(size=0.5)
    frames = [lifted_at_random(seed) for seed in range(3)]
    for frame in frames:
        thinned.add(frame)
    cloud = thinned.result()
    points, colors, labels = (torch.cat([getattr(f, name) for f in frames]) for name in ("points", "colors", "labels"))
    _, first = np.unique((points / 0.5).floor().numpy(), axis=0, return_index=True)
    assert torch.equal(cloud.points, points[first])
    assert torch.equal(cloud.colors, colors[first])
    assert torch.equal(cloud.labels, labels[first])
    assert "50.0 cm" in cloud.origin


@pytest.mark.parametrize(("most", "size"), [(10_000, 0.25), (2000, 0.5), (300, 1.0)])
def test_a_grid_filled_frame_by_frame_has_the_means_over_all_points(most, size):
    grid = VoxelGrid(size=0.25, most=most)
    frames = [lifted_at_random(seed) for seed in range(3)]
    for frame in frames:
        grid.add(frame)
    assert grid.size == size
    points = torch.cat([frame.points for frame in frames]).numpy()
    colors = torch.cat([frame.colors for frame in frames]).numpy()
    eyes = torch.cat([frame.seen_from.expand(2000, 3) for frame in frames]).numpy()
    cells, inverse, counts = np.unique(np.floor(points / size), axis=0, return_inverse=True, return_counts=True)
    assert grid.counts.tolist() == counts.tolist()
    assert np.allclose(grid.centers, (cells + 0.5) * size)
    for mean, values in ((grid.colors, colors), (grid.seen_from, eyes)):
        sums = np.zeros((len(cells), 3))
        np.add.at(sums, inverse.ravel(), values)
        assert np.allclose(mean, sums / counts[:, None], rtol=1e-5, atol=1e-5)


def test_spacing_of_a_flat_grid_is_its_step():
    v, u = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    assert spacing(0.02 * torch.stack((u, v, torch.zeros_like(u)), dim=-1).view(-1, 3)) == pytest.approx(0.02, rel=0.05)


def test_fusing_frame_by_frame_is_fusing_all_at_once(room):
    from pyproj2d3d.demo import Cloud, _match_and_fuse

    scene = read_posed_folder(room)
    fused, _, _ = _match_and_fuse(
        scene, Cloud(scene.points, scene.cloud.colors, scene.cloud.semantic, ""), [], Stopwatch()
    )
    mean, count = fused_colors(scene)
    assert torch.equal(fused.views, count)
    assert torch.allclose(fused.filtered, mean, atol=1e-3)
    once = (count == 1).nonzero()[0, 0]
    cameras = [
        f.camera.world_from_camera[0, :3, 3].float()
        for f in scene.frames
        if once in visibility(scene.points, f.camera, f.depth()[None], depth_scale=1000.0).point
    ]
    assert torch.allclose(fused.seen_from[once], *cameras)
