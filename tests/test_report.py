"""Does the report show in a browser what it was given, with and without WebGL, and load nothing from elsewhere?"""

import base64
import html
import io
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pyproj2d3d import project
from pyproj2d3d.data import write_room
from pyproj2d3d.demo import demo
from pyproj2d3d.report import CacheFacts, FrameCounts, Report, VoxelCounts, write_report
from pyproj2d3d.report_3d import (
    SMALL_SIZE,
    CloudView,
    Viewpoint,
    VoxelView,
    count_colors,
    packed_voxels,
    viewpoint_of,
    voxel_pictures,
)
from pyproj2d3d.report_colors import depth_colors, label_colors, scale_colors

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
NO_WEBGL = ["--disable-gpu", "--disable-3d-apis"]
WIDTH = {"laptop": 1280, "phone": 500}  # no window of Chromium is narrower

# What a person would check by eye, written where --dump-dom shows it. It reports after the page's own script.
# With #voxels it chooses the last of the looks that the 3D view offers.
PROBE = """<script>
addEventListener("error", (e) => document.documentElement.dataset.error = e.message);
addEventListener("unhandledrejection", (e) => document.documentElement.dataset.error = e.reason);
addEventListener("load", () => {
  const images = [...document.images], box = document.querySelector(".cloud").getBoundingClientRect();
  const shown = images.filter((i) => i.naturalWidth > 0 && i.clientWidth > 0).length;
  const loaded = performance.getEntriesByType("resource").filter((r) => !r.name.startsWith("data:")).length;
  document.documentElement.dataset.probe = JSON.stringify({
    images: images.length, shown, loaded, overflow: document.documentElement.scrollWidth - innerWidth,
    box: [box.left, box.top, box.right, box.bottom],
  });
  const waiting = location.hash === "#voxels" && setInterval(() => {
    if (document.documentElement.dataset.cloud !== "webgl") return;
    clearInterval(waiting);
    [...document.querySelectorAll("[name=coloring]")].at(-1).click();
  }, 20);
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room's report that tells how it was shown."""
    folder = tmp_path_factory.mktemp("room")
    write_room(folder, frames=3, points=30_000, size=(120, 160))
    path = demo(folder, folder / "out")
    path.write_text(path.read_text(encoding="utf-8").replace("<head>", f"<head>{PROBE}", 1), encoding="utf-8")
    return path


def chromium(page: Path, folder: Path, width: int, *options: str, anchor: str = "") -> tuple[str, np.ndarray]:
    """The document after its scripts, and a screenshot (H, W, 3)."""
    from PIL import Image

    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    common = [CHROMIUM, "--headless", "--no-sandbox", *quiet, "--disable-sync", "--hide-scrollbars", *options]
    common += ["--virtual-time-budget=10000", f"--window-size={width},1200"]
    outputs = ["--dump-dom"], [f"--screenshot={folder / 'shot.png'}"]
    texts = []
    for number, output in enumerate(outputs):
        profile = f"--user-data-dir={folder / f'profile{number}'}"
        run = subprocess.run(
            [*common, profile, *output, page.as_uri() + anchor], capture_output=True, text=True, timeout=120
        )
        texts.append(run.stdout)
    return texts[0], np.asarray(Image.open(folder / "shot.png").convert("RGB"))


def attribute(document: str, name: str) -> str | None:
    found = re.search(rf'<html[^>]* data-{name}="([^"]*)"', document)
    return found and html.unescape(found[1])


@needs_chromium
@pytest.mark.parametrize("options", [WEBGL, NO_WEBGL], ids=["webgl", "picture"])
@pytest.mark.parametrize("screen", ["laptop", "phone"])
def test_a_browser_shows_the_cloud_and_every_image(page, tmp_path, options, screen):
    document, shot = chromium(page, tmp_path, WIDTH[screen], *options)
    assert attribute(document, "cloud") == ("webgl" if options is WEBGL else "picture"), attribute(document, "why")
    assert attribute(document, "error") is None
    seen = json.loads(attribute(document, "probe"))
    assert seen["shown"] == seen["images"] == 1 + 2 + 3 * (5 + 3)
    assert seen["loaded"] == 0
    assert seen["overflow"] <= 0
    left, top, right, bottom = (round(edge) for edge in seen["box"])
    cloud = shot[top + 8 : bottom - 8, left + 8 : right - 8]
    stage = cloud[0, 0]
    covered = (np.abs(cloud.astype(int) - stage).max(axis=2) > 8).mean()
    assert 0.1 < covered < 0.95
    assert len(np.unique(cloud.reshape(-1, 3) // 16, axis=0)) > 20  # colours of a room, not of an error


@needs_chromium
def test_the_3d_view_begins_where_the_picture_was_taken(page, tmp_path):
    views = []
    for name, options in (("webgl", WEBGL), ("picture", NO_WEBGL)):
        (tmp_path / name).mkdir()
        document, shot = chromium(page, tmp_path / name, WIDTH["laptop"], *options)
        left, top, right, bottom = (round(edge) for edge in json.loads(attribute(document, "probe"))["box"])
        box = shot[top:bottom, left:right].astype(float)
        coarse = box[: len(box) // 16 * 16, : box.shape[1] // 16 * 16]
        views.append(coarse.reshape(len(coarse) // 16, 16, -1, 16, 3).mean(axis=(1, 3)))
    webgl, picture = views
    blank = np.broadcast_to(picture[0, 0], picture.shape)
    mirrored = picture[:, ::-1]
    assert np.abs(webgl - picture).mean() < 0.25 * np.abs(webgl - blank).mean()
    assert np.abs(webgl - picture).mean() < 0.25 * np.abs(webgl - mirrored).mean()


@needs_chromium
def test_the_3d_view_shows_the_voxels_as_their_picture_does(page, tmp_path):
    from PIL import Image

    document, shot = chromium(page, tmp_path, WIDTH["laptop"], *WEBGL, anchor="#voxels")
    left, top, right, bottom = (round(edge) for edge in json.loads(attribute(document, "probe"))["box"])
    view, size = Image.fromarray(shot[top:bottom, left:right]), (64, 36)
    stage = view.getpixel((40, 3))  # behind the rounded corner
    urls = re.findall(r'<img src="data:image/png;base64,([^"]*)"', page.read_text(encoding="utf-8"))
    coarse = []
    for url in urls:  # the cloud, the voxels in colour, and by their counts
        picture = Image.open(io.BytesIO(base64.b64decode(url)))
        on_stage = Image.alpha_composite(Image.new("RGBA", picture.size, stage), picture).convert("RGB")
        coarse.append(np.asarray(on_stage.resize(size, Image.Resampling.BOX), dtype=float))
    webgl = np.asarray(view.resize(size, Image.Resampling.BOX), dtype=float)
    cloud, colored, counted = (np.abs(webgl - picture).mean() for picture in coarse)
    assert colored < 0.1 * np.abs(webgl - np.array(stage)).mean()
    assert colored < 0.5 * min(cloud, counted)


def test_the_page_refers_to_nothing_outside_itself(page):
    text = re.sub(r"[A-Za-z0-9+/=]{100,}", "", page.read_text(encoding="utf-8"))
    assert (
        re.findall(r"https?:|@import|url\(|\bfetch\(|<link(?! rel=\"icon\" href=\"data:)|<script[^>]* src", text) == []
    )
    assert "{{" not in text


def tiny_report(**changes: object) -> Report:
    points = torch.tensor([[0.0, 0, 1], [1, 0, 2], [0, 1, 3]])
    cloud = CloudView(
        points=points,
        seen_from=torch.zeros(3, 3),
        colorings={"first": torch.tensor([[1, 2, 3], [40, 50, 60], [255, 0, 9]]), "second": torch.full((3, 3), 7.0)},
        world_from_camera=torch.eye(4)[None],
        spacing=0.1,
    )
    frames = [FrameCounts("<frame> & 1", 1000, 250, [30.0, 4.5], [None, None])]
    voxels = VoxelView(0.5, points, torch.zeros(3, 3), 50 + 100 * torch.eye(3), torch.tensor([1, 20, 400]))
    coverage = {"<frame> & 1": [0.125, 0.5]}
    cache = CacheFacts("<a>.safetensors", 8, 1, 96, "float16", 1234, 5_500_000, 2_200_000_000, coverage)
    values = {"name": "a <b> & c", "cloud_origin": "By hand.", "points": 3, "unseen": 0, "machine": "A machine."}
    values |= {"voxels": voxels, "voxel_counts": [VoxelCounts("<all>", 4210, 3, 4000)], "cache": cache}
    values |= {"frames": frames, "pictures": [], "cloud": cloud, "seconds": {"see": 1.5, "draw": 0.5}}
    return Report(**(values | {"skipped": ["frame 7: <torn>"]} | changes))


def test_the_cloud_is_packed_as_the_page_unpacks_it(tmp_path):
    write_report(tmp_path / "report.html", tiny_report())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    shape = json.loads(re.search(r'id="shape">(.*?)</script>', text)[1])
    packed = zlib.decompress(base64.b64decode(re.search(r'id="points">(.*?)</script>', text)[1]))
    n = shape["n"]
    assert (n, len(packed)) == (3, 3 * (6 + 3 + 3 + 3))
    at = np.frombuffer(packed, "<u2", 3 * n).reshape(n, 3) / 65535 * shape["extent"] + shape["low"]
    # this camera looks along world z, with y down: away is z and up is -y
    assert np.allclose(at, [[0, 1, 0], [1, 2, 0], [0, 3, -1]], atol=1e-4)
    facing = np.frombuffer(packed, np.int8, 3 * n, 6 * n).reshape(n, 3) / 127
    assert np.allclose(facing[0], [0, -1, 0])
    assert np.allclose(np.linalg.norm(facing, axis=1), 1, atol=0.02)
    first = np.frombuffer(packed, np.uint8, 3 * n, 9 * n).reshape(n, 3)
    assert first.tolist() == [[1, 2, 3], [40, 50, 60], [255, 0, 9]]
    assert set(packed[12 * n :]) == {7}


def test_voxels_are_packed_as_the_page_unpacks_them():
    report = tiny_report()
    packed, shape = packed_voxels(report.voxels, viewpoint_of(report.cloud))
    data, n = zlib.decompress(base64.b64decode(packed)), shape["n"]
    assert (n, len(data)) == (3, 3 * (6 + 3 + 3 + 3))
    edges = np.array(shape["edges"]).reshape(3, 3)  # of x, y and z, each a half; away is z and up is -y
    assert np.allclose(edges, [[0.25, 0, 0], [0, 0, -0.25], [0, 0.25, 0]])
    places = np.frombuffer(data, "<u2", 3 * n).reshape(n, 3)
    assert places.tolist() == [[0, 0, 0], [2, 0, 2], [0, 2, 4]]
    assert np.allclose(2 * places @ edges + shape["low"], [[0, 1, 0], [1, 2, 0], [0, 3, -1]])
    facing = np.frombuffer(data, np.int8, 3 * n, 6 * n).reshape(n, 3) / 127
    assert np.allclose(facing[0], [0, -1, 0])
    assert np.frombuffer(data, np.uint8, 3 * n, 9 * n).tolist() == [150, 50, 50, 50, 150, 50, 50, 50, 150]
    assert set(data[12 * n :]) == {3}  # no two of them touch


def test_the_page_is_told_where_voxels_have_neighbours():
    cells = torch.tensor([[5, -3, 0], [0, 0, 0], [4, -3, 0], [0, 0, 1], [9, 9, 9], [9, 8, 9]])  # three pairs
    voxels = VoxelView(0.5, 0.5 * (cells + 0.5), torch.zeros(6, 3), torch.zeros(6, 3), torch.ones(6).long())
    packed, _ = packed_voxels(voxels, viewpoint_of(tiny_report().cloud))
    alone = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8, 3 * 6, 12 * 6).reshape(6, 3)
    assert alone.tolist() == [[2, 3, 3], [3, 3, 1], [1, 3, 3], [3, 3, 2], [3, 2, 3], [3, 1, 3]]


def one_voxel(turn: float, size: float) -> tuple[VoxelView, Viewpoint]:
    """White, at the origin, seen from above; the world is turned about the vertical."""
    cos, sin = np.cos(turn), np.sin(turn)
    view_from_world = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float32)
    viewpoint = Viewpoint(view_from_world, torch.zeros(3), 4.0)
    seen_from = (view_from_world.T @ viewpoint.eye)[None]
    return VoxelView(size, torch.zeros(1, 3), seen_from, torch.full((1, 3), 200.0), torch.ones(1).long()), viewpoint


@pytest.mark.parametrize("turn", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("size", [0.05, 0.7, 2.0])
def test_a_voxel_is_drawn_as_the_outline_of_its_corners_without_holes(turn, size):
    from scipy.spatial import ConvexHull

    voxels, viewpoint = one_voxel(turn, size)
    (picture,) = voxel_pictures(voxels, [voxels.colors], viewpoint)
    camera, _ = viewpoint.camera(SMALL_SIZE)
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3) * size @ viewpoint.view_from_world.T
    hull = ConvexHull(project(corners, camera)[0, :, :2].numpy())
    v, u = np.mgrid[: SMALL_SIZE[0], : SMALL_SIZE[1]]
    beyond = (hull.equations @ np.stack((u, v, np.ones_like(u))).reshape(3, -1)).max(axis=0).reshape(SMALL_SIZE)
    drawn = picture[..., 3].numpy() == 255
    assert drawn[beyond < -0.8].all()
    assert not drawn[beyond > 0.8].any()
    shades = picture[drawn].unique(dim=0)
    assert len(shades) == (2 if turn == 0 else 3)  # of its faces those that can be seen
    assert shades[:, :3].min() > 130
    assert shades[:, :3].max() <= 200
    if size > 0.1:
        second = drawn.any(axis=1).argmax() + 1  # of its rows; the first is an edge
        assert picture[second][drawn[second]].unique(dim=0).tolist() == shades[-1:].tolist()  # light from above


def test_the_nearer_voxel_hides_the_farther_and_a_surface_is_hidden_from_behind():
    _, viewpoint = one_voxel(0.0, 1.0)
    along = viewpoint.eye / viewpoint.distance  # to the eye
    centers, colors = torch.stack((-along, along)), torch.tensor([[250.0, 0, 0], [0, 250, 0]])
    middle = SMALL_SIZE[0] // 2, SMALL_SIZE[1] // 2
    for seen_from, expected in ((viewpoint.eye, [0, 250, 0]), (-viewpoint.eye, None)):
        voxels = VoxelView(0.5, centers, seen_from.expand(2, 3), colors, torch.tensor([5, 6]))
        picture = voxel_pictures(voxels, [colors], viewpoint)[0][middle]
        assert picture[3] == (0 if expected is None else 255)
        if expected is not None:
            assert (picture[:3] > 0).tolist() == [False, True, False]


def test_a_face_is_drawn_where_the_voxel_before_it_is_hidden():
    """Four white cubes in a row, of which the upper two were seen from below and are hidden from above."""
    _, viewpoint = one_voxel(0.0, 1.0)
    centers = 0.5 * (torch.tensor([[0, 0, k] for k in range(4)]) + 0.5)
    seen_from = torch.tensor([[0.0, 0, 9], [0, 0, 9], [0, 0, -9], [0, 0, -9]])
    white = torch.full((4, 3), 200.0)
    whole, lower, same = (
        voxel_pictures(VoxelView(0.5, centers[:n], seen, white[:n], torch.ones(n).long()), [white[:n]], viewpoint)[0]
        for n, seen in ((4, seen_from[:2].repeat(2, 1)), (2, seen_from[:2]), (4, seen_from))
    )
    assert torch.equal(lower, same)
    assert (whole[..., 3] > 0).sum() > 1.5 * (lower[..., 3] > 0).sum()


def test_more_points_are_lighter():
    brightness = count_colors(torch.tensor([1, 10, 100, 1000])).int().sum(-1)
    assert (brightness.diff() > 50).all()
    assert torch.equal(count_colors(torch.tensor([1, 1000]))[1], scale_colors(torch.tensor(0.0)))
    assert len(count_colors(torch.tensor([1, 1])).unique(dim=0)) == 1


def test_numbers_and_names_are_shown_as_text(tmp_path):
    write_report(tmp_path / "report.html", tiny_report())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in text
    assert "<td>&lt;frame&gt; &amp; 1<td>1,000<td>250<td>75%<td>30.0 → 4.5<td>12.5% → 50.0%" in text
    assert "<td>&lt;all&gt;<td>4,210<td>3<td>1,403.3<td>4,000" in text
    assert "<code>&lt;a&gt;.safetensors</code>" in text
    assert "<b>5.5 MB</b><span>on disk: 1,234 rows of 96 channels in float16<" in text
    assert "<b>2.2 GB</b><span>for the same at every pixel of every frame: 400 times as much<" in text
    assert "voxels of 50 cm" in text
    assert "<li>frame 7: &lt;torn&gt;" in text
    assert "<b>2.0 s</b>" in text
    assert "same label" not in text  # no frame has labels


def test_an_empty_cloud_still_makes_a_page(tmp_path):
    none = torch.empty(0, 3)
    cloud = CloudView(none, none, {"first": none}, torch.eye(4)[None], 0.01)
    voxels = VoxelView(0.05, none, none, none, torch.empty(0, dtype=torch.int64))
    changes = {"cloud": cloud, "points": 0, "voxels": voxels, "voxel_counts": [VoxelCounts("all", 0, 0, 0)]}
    write_report(tmp_path / "report.html", tiny_report(**changes, seconds={}))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count('"n": 0') == 2
    assert "<td>all<td>0<td>0<td>0.0<td>0" in text


def test_nearer_is_lighter_and_no_reading_is_grey():
    near, middle, far = scale_colors(torch.tensor([0.0, 0.5, 1.0])).int().sum(-1).tolist()
    assert near > middle > far
    colors = depth_colors(torch.tensor([1.0, 3.0, 9.0, 0.0]), 1.0, 3.0)
    assert colors[0].tolist() == scale_colors(torch.tensor(0.0)).tolist()
    assert colors[1].tolist() == colors[2].tolist() == scale_colors(torch.tensor(1.0)).tolist()
    assert colors[3].tolist() == [96, 96, 96]


def test_labels_have_colours_of_their_own():
    colors = label_colors(torch.arange(-1, 40))
    assert colors[0].tolist() == [96, 96, 96]
    assert len(colors.unique(dim=0)) == 41


def test_photos_are_kept_small_and_pictures_keep_their_transparency():
    from PIL import Image

    from pyproj2d3d.report import _data_url

    photo = _data_url(torch.zeros(1000, 2000, 3, dtype=torch.uint8))
    assert Image.open(io.BytesIO(base64.b64decode(photo.removeprefix("data:image/jpeg;base64,")))).size == (800, 400)
    picture = _data_url(torch.full((2, 2, 4), 5, dtype=torch.uint8))
    assert Image.open(io.BytesIO(base64.b64decode(picture.removeprefix("data:image/png;base64,")))).mode == "RGBA"
