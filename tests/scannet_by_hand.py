"""One scene in ScanNet's layout, small enough to know all of it by heart."""

import json
import re

import numpy as np
from PIL import Image

from pyproj2d3d.data.ply import write_mesh_ply
from pyproj2d3d.data.scannet_labels import LABEL_MAP
from pyproj2d3d.data.sens import write_sens

NAME = "scene0007_01"
DEPTH, COLOR = (6, 8), (12, 16)
K = np.diag([10.0, 10, 1])
K_COLOR = np.diag([20.0, 20, 1])
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [1, 2, 0], [9, 9, 9]], np.float32)
TEXT = "axisAlignment = 0 -1 0 5 1 0 0 6 0 0 1 7 0 0 0 1\nnumDepthFrames = 3\nsceneType = Bedroom / Hotel\n"
GROUPS = [
    {"id": 0, "objectId": 4, "segments": [30, 7], "label": "office chair"},
    {"id": 1, "objectId": 2, "segments": [12], "label": "trash can"},
]
TSV = """id\traw_category\tcategory\tnyu40id
1\twall\twall\t1
10\toffice chair\tchair\t5
56\ttrash can\t\t39
300\tcup\tcup\t40
"""


def says(file, text):
    return re.escape(str(file)) + ".*" + text


def write_mesh(path, labels=None):
    fields = [(n, "<f4") for n in "xyz"] + [(n, "u1") for n in ("red", "green", "blue", "alpha")]
    vertices = np.zeros(len(VERTICES), fields + ([] if labels is None else [("label", "<u2")]))
    for i, axis in enumerate("xyz"):
        vertices[axis] = VERTICES[:, i]
    vertices["red"] = range(len(VERTICES))
    if labels is not None:
        vertices["label"] = labels
    write_mesh_ply(path, vertices, np.array([[0, 1, 2], [2, 1, 4]]))


def pose_at(x):
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def color_of(i):
    return np.full((*COLOR, 3), 20 * i, np.uint8)


def depth_of(i):
    return np.full(DEPTH, 1000 + i, np.uint16)


def write_text_matrix(path, matrix):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(" ".join(map(str, row)) for row in matrix.tolist()))


def write_images(folder, stem, intrinsics, frames=3):
    for i in range(frames):
        for kind, pixels in (("color", color_of(i)), ("depth", depth_of(i))):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{stem.format(i)}.{'jpg' if kind == 'color' else 'png'}")
        write_text_matrix(folder / "pose" / f"{stem.format(i)}.txt", pose_at(i))
    for kind, matrix in (("depth", K), ("color", K_COLOR)):
        square = np.eye(4)
        square[:3, :3] = matrix
        write_text_matrix(folder / intrinsics.format(kind), square)


def write_recording(path, poses=(0, 1, 2)):
    frames = [
        (pose_at(x) if np.isfinite(x) else np.full((4, 4), -np.inf), color_of(i), depth_of(i))
        for i, x in enumerate(poses)
    ]
    sizes = {"color_size": COLOR, "depth_size": DEPTH, "color_intrinsics": K_COLOR, "depth_intrinsics": K}
    write_sens(path, frames, **sizes)


def write_labels(folder, dtype, name="0"):
    ids = np.zeros(COLOR, dtype)
    ids[0, :4] = (1, 10, 5, 39) if dtype == np.uint8 else (1, 10, 56, 300)
    folder.mkdir(parents=True)
    Image.fromarray(ids).save(folder / f"{name}.png")


def write_scene(root):
    """All that belongs to the scene, and the tables beside; gives its folder."""
    scene = root / "scans" / NAME
    scene.mkdir(parents=True)
    write_mesh(scene / f"{NAME}_vh_clean_2.ply")
    write_mesh(scene / f"{NAME}_vh_clean_2.labels.ply", [5, 5, 39, 5, 40, 0])
    segments = {"sceneId": NAME, "segIndices": [30, 30, 12, 7, 99, 98]}
    (scene / f"{NAME}_vh_clean_2.0.010000.segs.json").write_text(json.dumps(segments))
    (scene / f"{NAME}.aggregation.json").write_text(json.dumps({"sceneId": NAME, "segGroups": GROUPS}))
    (scene / f"{NAME}.txt").write_text(TEXT)
    write_recording(scene / f"{NAME}.sens")
    (root / LABEL_MAP).write_text(TSV)
    (root / "scannetv2_train.txt").write_text(f"{NAME}\n")
    return scene
