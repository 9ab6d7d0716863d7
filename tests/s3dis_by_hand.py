"""Small files of S3DIS and 2D-3D-S, written line by line."""

import json
import re

import numpy as np
from PIL import Image

from pyproj2d3d.data.stanford2d3ds import MISSING_COLOR

CHAIR = "1.5 2.25 0.5 10 20 30\n1.5 2.25 1.0 11 21 31\n"
FLOOR = "0.0 0.0 0.0 255 0 7\n4.0 0.0 0.0 254 1 8\n4.0 3.0 0.0 253 2 9\n"
STAIRS = "3.0 3.0 3.0 100.000000 101.000000 102.000000\n"
LABELS = ["<UNK>_0_<UNK>_0_0", "chair_1_office_2_1", "floor_1_office_2_1", "stairs_1_office_2_1"]
SIZE = (4, 6)
TURNED = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # a camera that looks along x, its own x along -y


def write_room(folder, **objects):
    annotations = folder / "Annotations"
    annotations.mkdir(parents=True)
    for name, text in objects.items():
        (annotations / f"{name}.txt").write_text(text)
    (folder / f"{folder.name}.txt").write_text("".join(objects.values()))


def write_angles(root, area, **angles):
    lines = [f"## Global alignment angle per disjoint space in Area_{area} ##", "## Disjoint Space Name ... ##"]
    path = root / f"Area_{area}" / f"Area_{area}_alignmentAngle.txt"
    path.write_text("\n".join(lines + [f"{room} {angle}" for room, angle in angles.items()]) + "\n")


def write_frame(images, area, room, number, location=(1.0, 2.0, 1.5), uuid="ab12"):
    """Depth of 2 m but for one missing pixel; left half chair, right half floor, one pixel each of nothing."""
    data, stem = images / f"area_{area}" / "data", f"camera_{uuid}_{room}_frame_{number}_domain"
    for kind in ("rgb", "depth", "pose", "semantic"):
        (data / kind).mkdir(parents=True, exist_ok=True)
    depth = np.full(SIZE, 1024, np.uint16)
    depth[0, 0] = 65535
    color = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    index = np.where(np.arange(6) < 3, 1, 2) + np.zeros((4, 1), int)
    index[1, 1], index[2, 2], index[3, 3] = 0, MISSING_COLOR, 3
    semantic = np.stack([index >> 16, index >> 8 & 255, index & 255], axis=-1).astype(np.uint8)
    for kind, pixels in (("depth", depth), ("rgb", color), ("semantic", semantic)):
        Image.fromarray(pixels).save(data / kind / f"{stem}_{kind}.png")
    pose = {
        "camera_k_matrix": [[5.0, 0.0, 3.0], [0.0, 5.0, 2.0], [0.0, 0.0, 1.0]],
        "camera_rt_matrix": np.column_stack([TURNED, -TURNED @ location]).tolist(),
        "camera_location": list(location),
    }
    (data / "pose" / f"{stem}_pose.json").write_text(json.dumps(pose))


def three_rooms(tmp_path):
    """Three rooms of v1.2, in two areas, one with images."""
    root = tmp_path / "Stanford3dDataset_v1.2"
    write_room(root / "Area_1" / "office_2", chair_1=CHAIR, floor_1=FLOOR, stairs_1=STAIRS)
    write_room(root / "Area_1" / "office_10", wall_1=CHAIR)
    write_room(root / "Area_5" / "hallway_1", wall_1=FLOOR)
    write_angles(root, 1, office_2=90, office_10=0)
    write_angles(root, 5, hallway_1=180)
    images = root / "2D-3D-S"
    write_frame(images, "1", "office_2", 10)
    write_frame(images, "1", "office_2", 9)
    write_frame(images, "1", "office_10", 3)
    (images / "assets").mkdir()
    (images / "assets" / "semantic_labels.json").write_text(json.dumps(LABELS))
    return root


def office(root):
    return root / "Area_1" / "office_2"


def pose_file(root):
    return root / "2D-3D-S" / "area_1" / "data" / "pose" / "camera_ab12_office_2_frame_9_domain_pose.json"


def says(file, text):
    return re.escape(str(file)) + ".*" + text


def outcome(path, read):
    """What was read, or None where that is an error which names the file."""
    try:
        return read()
    except (ValueError, OSError) as error:
        if not str(error).startswith(f"{path}: "):
            raise AssertionError(f"{error!r} does not begin with {path}") from error
        return None
