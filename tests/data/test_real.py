"""Do the conventions hold on real recordings? Needs the folder named by ``PYPROJ2D3D_REAL_DATA``."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyproj2d3d import Camera, project, visibility
from pyproj2d3d.data import read_posed_folder

REAL_DATA = os.environ.get("PYPROJ2D3D_REAL_DATA")
pytestmark = pytest.mark.skipif(not REAL_DATA, reason="PYPROJ2D3D_REAL_DATA is not set: no real recordings")


def real(name):
    folder = Path(REAL_DATA) / name
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder


def rounded(uvz, size):
    """In the frame and in front, and the nearest pixel there."""
    u, v = torch.floor(uvz[:, 0] + 0.5), torch.floor(uvz[:, 1] + 0.5)
    inside = (uvz[:, 2] > 0) & (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    return inside, u[inside].long(), v[inside].long()


def metres(frame, dtype):
    depth = frame.depth().to(dtype)
    return torch.where(depth == 65535, 0, depth) / frame.depth_scale


@pytest.mark.parametrize(
    ("dtype", "millimetres"), [(torch.float64, 0.1), (torch.float32, 0.2)], ids=["float64", "float32"]
)
@pytest.mark.parametrize(("i", "j"), [(0, 1), (10, 12), (25, 26), (39, 44), (48, 47)])
def test_a_kitchen_frame_seen_from_another_agrees_with_the_pose_check(i, j, dtype, millimetres):
    spec = importlib.util.spec_from_file_location("check_pose_consistency", real("check_pose_consistency.py"))
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    folder = real("redkitchen_7scenes")
    a, b = (check.load_sequence(str(folder))[n] for n in (i, j))
    wanted = check.compare(a["depth"](), a["K"], a["T"], b["depth"](), b["K"], b["T"])

    frames = read_posed_folder(folder).frames
    assert [frames[i].name, frames[j].name] == [a["name"], b["name"]]
    k, pose = (t[0].to(dtype) for t in (frames[i].camera.intrinsics, frames[i].camera.world_from_camera))
    depth = metres(frames[i], dtype)
    v, u = (depth > 0).nonzero(as_tuple=True)
    z = depth[v, u]
    xyz = torch.stack(((u - k[0, 2]) * z / k[0, 0], (v - k[1, 2]) * z / k[1, 1], z), dim=1)  # (N, 3)
    uvz = project(xyz @ pose[:3, :3].T + pose[:3, 3], frames[j].camera)[0]
    inside, u, v = rounded(uvz, frames[j].camera.size)
    there = metres(frames[j], dtype)[v, u]
    apart = (uvz[inside, 2] - there)[there > 0]

    assert wanted["n"] > 50_000
    assert abs(len(apart) - wanted["n"]) <= 1e-4 * wanted["n"]
    assert abs(apart.abs().double().quantile(0.5).item() - wanted["med"]) < millimetres / 1000
    assert abs((apart.abs() < 0.05).double().mean().item() - wanted["share"]) < 0.001


@pytest.mark.parametrize("scan", ["000001", "000002"])
def test_every_sun_rgbd_point_hits_the_pixel_of_its_own_colour(scan):
    scipy_io = pytest.importorskip("scipy.io")
    folder = real("sunrgbd_votenet")
    points = scipy_io.loadmat(folder / "depth" / f"{scan}.mat")[
        "instance"
    ]  # (N, 6): x right, y forward, z up; rgb 0..1
    image = np.array(Image.open(folder / "image" / f"{scan}.jpg").convert("RGB"))
    tilt, intrinsics = (row.reshape(3, 3).T for row in np.loadtxt(folder / "calib" / f"{scan}.txt"))  # column by column
    intrinsics = intrinsics - [[0, 0, 1], [0, 0, 1], [0, 0, 0]]  # MATLAB counts pixels from 1
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ tilt.T
    camera = Camera(torch.from_numpy(intrinsics), torch.from_numpy(np.linalg.inv(camera_from_world)), image.shape[:2])
    inside, u, v = rounded(project(torch.from_numpy(points[:, :3].copy()), camera)[0], camera.size)
    assert inside.all()
    assert len(points) > 250_000
    assert (image[v, u] == (255 * points[:, 3:]).round()).all()


@pytest.mark.parametrize(("image", "correlation"), [("00000", 0.81), ("00011", 0.80), ("00102", 0.75)])
def test_scannet_vertices_have_the_colours_of_the_images_they_project_into(image, correlation):
    folder = real("scannet_scene0000_00")
    vertices = np.load(folder / "scene0000_00_vert_all.npy").astype(np.float64)
    aligned = torch.from_numpy(vertices[:, :3].copy())
    undo = torch.from_numpy(np.linalg.inv(np.loadtxt(folder / "axis_align_matrix.txt")))
    points = aligned @ undo[:3, :3].T + undo[:3, 3]  # in the world of the poses
    pixels = np.array(Image.open(folder / "color" / f"{image}.jpg").convert("RGB"))
    intrinsics = np.loadtxt(folder / "intrinsic" / "intrinsic_color.txt")[:3, :3]
    pose = np.loadtxt(folder / "pose" / f"{image}.txt")
    camera = Camera(torch.from_numpy(intrinsics.copy()), torch.from_numpy(pose), pixels.shape[:2])

    def colors_of_seen(points):
        """Of the vertices that a z-buffer of an eighth of the image leaves, so coarse that surfaces are closed."""
        coarse = camera.resized([n // 8 for n in camera.size])
        seen = visibility(points, coarse, "zbuffer", tolerance=(0.05, 0.0, 0.0), radius=1).point.long()
        inside, u, v = rounded(project(points[seen], camera)[0], camera.size)
        return vertices[seen[inside].numpy(), 3:], pixels[v, u].astype(np.float64)

    cloud, photo = colors_of_seen(points)
    assert len(cloud) > 2000
    found = np.corrcoef(cloud.mean(axis=1), photo.mean(axis=1))[0, 1]
    assert abs(found - correlation) < 0.04  # the figure was made with another rule for what is hidden
    assert np.median(np.abs(cloud - photo)) < 20

    cloud, photo = colors_of_seen(aligned)
    assert len(cloud) < 100 or np.corrcoef(cloud.mean(axis=1), photo.mean(axis=1))[0, 1] < 0.3
