"""Does the demo say of a folder what the operations say, and does it say so when a folder is unusable?"""

import os
import re
from pathlib import Path

import pytest
import torch

from pyproj2d3d import Camera, Matches, fuse_views, project, visibility
from pyproj2d3d.data import read_posed_folder, write_room
from pyproj2d3d.demo import DemoError, Stopwatch, demo, first_in_voxel, lift, match, spacing

SIZE = (48, 64)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("room")
    write_room(folder, frames=3, points=4000, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def page(room: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return demo(room, tmp_path_factory.mktemp("out")).read_text(encoding="utf-8")


def count_rows(page: str) -> list[list[str]]:
    """The cells of the first table, the one of counts."""
    table = re.search(r"<table>(.*?)</tbody>", page, re.S)[1]
    return [re.split("<td>", row)[1:] for row in re.split("<tr[^>]*>", table.split("<tbody>")[1])[1:]]


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


def test_the_page_has_all_its_parts(page):
    for heading in ("What all frames together say", "What the depth filter does", "Counts", "Time by step"):
        assert f"<h2>{heading}" in page
    assert page.count("<article>") == 3
    assert page.count('<img src="data:image/jpeg;base64,') == 3 * 5
    assert page.count('<img src="data:image/png;base64,') == 1
    for step in ("visibility without depth", "visibility with depth", "sample colours", "fuse colours", "z-buffer and"):
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
        assert (
            seen > 0.7 * SIZE[0] * SIZE[1] / 4
        )  # each view sees its own every second row and column again, but what voxels merge


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
    agreement = frame.labels().flatten()[seen.pixel.long()] == scene.labels[seen.point.long()]
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


def test_frames_without_any_depth_reading_give_an_empty_report(tmp_path):
    from PIL import Image

    write_room(tmp_path, frames=1, points=0, size=SIZE)
    Image.fromarray(torch.zeros(SIZE, dtype=torch.uint16).numpy()).save(tmp_path / "frame-000000.depth.png")
    rows = count_rows(demo(tmp_path, tmp_path / "out").read_text(encoding="utf-8"))
    assert rows[1][:4] == ["frame-000000", "0", "0", "–"]


def test_folders_that_cannot_be_used_are_named(tmp_path, room):
    with pytest.raises(DemoError, match="nowhere"):
        demo(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemoError, match="empty"):
        demo(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DemoError, match=r"cannot write to .*file/out"):
        demo(room, tmp_path / "file" / "out")


@pytest.mark.skipif("PYPROJ2D3D_REAL_DATA" not in os.environ, reason="PYPROJ2D3D_REAL_DATA is not set")
def test_real_frames_give_a_report_in_which_the_filter_brings_colours_closer(tmp_path):
    page = demo(Path(os.environ["PYPROJ2D3D_REAL_DATA"]) / "redkitchen_7scenes", tmp_path).read_text(encoding="utf-8")
    rows = count_rows(page)[1:]
    assert len(rows) == 50
    for row in rows:
        without, with_it = (float(difference) for difference in row[4].split(" → "))
        assert with_it < without
    assert len(page) < 10e6


def test_lifted_points_project_back_to_their_pixels_and_depths():
    depth = torch.tensor([[0, 1500, 65535], [2000, 1, 3000], [7, 8, 9]], dtype=torch.uint16)
    pose = torch.tensor([[0.0, 0, 1, 4], [-1, 0, 0, 5], [0, -1, 0, 6], [0, 0, 0, 1]])
    camera = Camera(torch.tensor([[50.0, 0, 1.3], [0, -60, 0.9], [0, 0, 1]]), pose, (3, 3))
    uvz = project(lift(depth, camera, 1000.0, step=1).double(), camera)[0]
    expected = [[1, 0, 1.5], [0, 1, 2.0], [1, 1, 0.001], [2, 1, 3], [0, 2, 0.007], [1, 2, 0.008], [2, 2, 0.009]]
    at_a_metre = uvz[:, 2] > 1  # float32 of a world metres away leaves few digits to a millimetre
    assert torch.allclose(uvz[:, 2], torch.tensor(expected, dtype=torch.float64)[:, 2], atol=1e-6)
    assert torch.allclose(uvz[at_a_metre], torch.tensor(expected, dtype=torch.float64)[at_a_metre], atol=1e-4)
    assert len(lift(depth, camera, 1000.0, step=2)) == 2  # of the four corners, two have a reading


def test_the_lowest_point_of_each_voxel_is_kept():
    points = torch.tensor([[0.9, 0, 0], [-0.1, 0, 0], [0.1, 0, 0], [-0.9, 0.5, 0.5], [5, 0, 0]])
    assert first_in_voxel(points, 1.0).tolist() == [1, 0, 4]
    assert first_in_voxel(points[:0], 1.0).tolist() == []


def test_spacing_of_a_flat_grid_is_its_step():
    v, u = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    assert spacing(0.02 * torch.stack((u, v, torch.zeros_like(u)), dim=-1).view(-1, 3)) == pytest.approx(0.02, rel=0.05)


def test_fusing_frame_by_frame_is_fusing_all_at_once(room):
    from pyproj2d3d.demo import Cloud, _match_and_fuse

    scene = read_posed_folder(room)
    fused, _ = _match_and_fuse(scene, Cloud(scene.points, scene.colors, scene.labels, ""), [], Stopwatch())
    camera = Camera.cat([frame.camera for frame in scene.frames])
    depth = torch.stack([frame.depth() for frame in scene.frames])
    matches: Matches = visibility(scene.points, camera, depth, depth_scale=1000.0)
    maps = torch.stack([frame.color() for frame in scene.frames]).permute(0, 3, 1, 2).float()
    mean, count = fuse_views(maps, matches, len(scene.points), SIZE)
    assert torch.equal(fused.views, count)
    assert torch.allclose(fused.filtered, mean, atol=1e-3)
    once = (count == 1).nonzero()[0, 0]
    view = matches.view[(matches.point == once).nonzero()[0, 0]]
    assert torch.allclose(fused.seen_from[once], camera.world_from_camera[view, :3, 3].float())
