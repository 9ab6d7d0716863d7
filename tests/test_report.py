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

from pyproj2d3d.data import write_room
from pyproj2d3d.demo import demo
from pyproj2d3d.report import CloudView, FrameCounts, Report, depth_colors, label_colors, scale_colors, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
NO_WEBGL = ["--disable-gpu", "--disable-3d-apis"]
WIDTH = {"laptop": 1280, "phone": 500}  # no window of Chromium is narrower

# What a person would check by eye, written where --dump-dom shows it. It reports after the page's own script.
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


def chromium(page: Path, folder: Path, width: int, *options: str) -> tuple[str, np.ndarray]:
    """The document after its scripts, and a screenshot (H, W, 3)."""
    from PIL import Image

    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    common = [CHROMIUM, "--headless", "--no-sandbox", *quiet, "--disable-sync", "--hide-scrollbars", *options]
    common += ["--virtual-time-budget=10000", f"--window-size={width},1200"]
    outputs = ["--dump-dom"], [f"--screenshot={folder / 'shot.png'}"]
    texts = []
    for number, output in enumerate(outputs):
        profile = f"--user-data-dir={folder / f'profile{number}'}"
        run = subprocess.run([*common, profile, *output, page.as_uri()], capture_output=True, text=True, timeout=120)
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
    assert seen["shown"] == seen["images"] == 1 + 3 * 5
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
    values = {"name": "a <b> & c", "cloud_origin": "By hand.", "points": 3, "unseen": 0, "machine": "A machine."}
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


def test_numbers_and_names_are_shown_as_text(tmp_path):
    write_report(tmp_path / "report.html", tiny_report())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>a &lt;b&gt; &amp; c</h1>" in text
    assert "<td>&lt;frame&gt; &amp; 1<td>1,000<td>250<td>75%<td>30.0 → 4.5" in text
    assert "<li>frame 7: &lt;torn&gt;" in text
    assert "<b>2.0 s</b>" in text
    assert "same label" not in text  # no frame has labels


def test_an_empty_cloud_still_makes_a_page(tmp_path):
    none = torch.empty(0, 3)
    cloud = CloudView(none, none, {"first": none}, torch.eye(4)[None], 0.01)
    write_report(tmp_path / "report.html", tiny_report(cloud=cloud, points=0, frames=[], seconds={}))
    assert '"n": 0' in (tmp_path / "report.html").read_text(encoding="utf-8")


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
