"""Small files of SUN RGB-D, written one by one."""

import json

import numpy as np
import pytest
from PIL import Image

from pyproj2d3d.data.mat import create_mat73, write_mat

CHAIR = "kv2/kinect2data/000002_2014-05-26_14-23-37_260595134347_rgbf000103-resize"
OF_EACH_SENSOR = {
    "kv1": "kv1/NYUdata/NYU0001",
    "kv2": CHAIR,
    "realsense": "realsense/lg/2014_10_21-18_15_06-1311000073",
    "xtion": "xtion/sun3ddata/brown_bm_1/brown_bm_1/0000053-000001751421",
}
SIZES = {"kv1": (4, 6), "kv2": (5, 7), "realsense": (5, 6), "xtion": (4, 5)}
INTRINSICS = "500 0 4 \n0 400 3\n0 0 1\n"
NO_TILT = "1 0 0 0\n0 1 0 0\n0 0 1 0\n"


def write_image(root, name=CHAIR, size=(4, 6), *, intrinsics=INTRINSICS, tilt=NO_TILT, stem="0000103", scene="office"):
    """An image whose depth counts millimetres from 1, filled by 5,000 more; its colour is its depth."""
    folder = root / name
    for inner in ("image", "depth", "depth_bfx", "extrinsics", "annotation3Dfinal"):
        (folder / inner).mkdir(parents=True)
    millimetres = np.arange(1, 1 + size[0] * size[1], dtype=np.uint16).reshape(size)
    Image.fromarray(millimetres << 3).save(folder / "depth" / f"{stem}.png")
    Image.fromarray(millimetres + 5000 << 3).save(folder / "depth_bfx" / f"{stem}.png")
    Image.fromarray(np.stack([millimetres] * 3, axis=2).astype(np.uint8)).save(folder / "image" / f"{stem}.jpg")
    (folder / "intrinsics.txt").write_text(intrinsics)
    (folder / "extrinsics" / "20141221170930.txt").write_text(tilt)
    (folder / "scene.txt").write_text(scene)
    return folder


def cell(*texts):
    found = np.empty((1, len(texts)), dtype=object)
    found[0] = texts
    return found


def write_splits(root, train, test, *, place="SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"):
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    on_their_disk = [[f"/n/fs/sun3d/data/SUNRGBD/{name}" for name in split] for split in (train, test)]
    write_mat(root / place, {"alltrain": cell(*on_their_disk[0]), "alltest": cell(*on_their_disk[1])})


def write_segmentation(root, images):
    """One label image (H, W) for each image, in the toolbox's order."""
    import h5py

    path = root / "SUNRGBDtoolbox/Metadata/SUNRGBD2Dseg.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_mat73(path) as file:
        shelf = file.create_group("#refs#")
        rows = np.empty((len(images), 1), dtype=h5py.ref_dtype)
        rows[:, 0] = [shelf.create_dataset(f"r{i}", data=image.T).ref for i, image in enumerate(images)]
        file.create_group("SUNRGBD2Dseg").create_dataset("seglabel", data=rows, dtype=h5py.ref_dtype)
    return path


def struct(records):
    found = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]])
    for i, record in enumerate(records):
        found[0, i] = tuple(record.values())
    return found


def box_v2(name, centroid, coeffs, orientation):
    numbers = {"centroid": centroid, "coeffs": coeffs, "orientation": orientation}
    return {"classname": name, **{key: np.array([value], dtype=np.float64) for key, value in numbers.items()}}


def write_boxes_v2(root, images, **changed):
    """``images``: name to (tilt, boxes)."""
    records = [
        {
            "sequenceName": f"SUNRGBD/{name}",
            "Rtilt": np.array(tilt, dtype=np.float64),
            "groundtruth3DBB": struct(boxes) if boxes else np.zeros((0, 0)),
            **changed,
        }
        for name, (tilt, boxes) in images.items()
    ]
    write_mat(root / "SUNRGBDMeta3DBB_v2.mat", {"SUNRGBDMeta": struct(records)})
    return root / "SUNRGBDMeta3DBB_v2.mat"


def write_boxes_v1(folder, *objects):
    path = folder / "annotation3Dfinal" / "index.json"
    path.write_text(json.dumps({"objects": list(objects)}))
    return path


def outline(name, x, z, low, high):
    return {"name": name, "polygon": [{"X": x, "Z": z, "Ymin": -low, "Ymax": -high, "rectangle": True}]}


def fails(text, kind=ValueError):
    return pytest.raises(kind, match=text)
