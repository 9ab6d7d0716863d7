"""Is importing the package cheap, and does it say what to do where it cannot work?"""

import subprocess
import sys
import tempfile

HEAVY = (
    "torchmetrics",
    "lightning",
    "spconv",
    "open3d",
    "h5py",
    "PIL",
    "scipy",
    "safetensors",
    "tqdm",
    "torchvision",
    "kornia",
    "matplotlib",
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Away from a checkout, whose source tree would hide an installed package."""
    command, away = [sys.executable, "-c", code], tempfile.gettempdir()
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=away)


def test_importing_brings_nothing_heavier_than_torch_and_numpy():
    """Of what torch itself imports nothing is held against us."""
    code = "import sys, torch, numpy; before = set(sys.modules); import pyproj2d3d; print(*set(sys.modules) - before)"
    done = run(code)
    assert done.returncode == 0, done.stderr
    brought = {name.partition(".")[0] for name in done.stdout.split()}
    assert "pyproj2d3d" in brought
    assert not brought & set(HEAVY)


def test_a_checkout_that_is_not_built_says_what_to_do():
    code = """
import sys

class NoNative:
    def find_spec(self, name, path=None, target=None):
        if name == "pyproj2d3d._native":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoNative())
import pyproj2d3d
"""
    done = run(code)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: pyproj2d3d")
    assert "pip install -e ." in last


def test_the_public_names_are_those_that_are_documented():
    import pyproj2d3d

    assert set(pyproj2d3d.__all__) >= {
        "Camera",
        "KernelMap",
        "Matches",
        "PointCloud",
        "ViewFuser",
        "Voxels",
        "back_project",
        "ball_query",
        "box_iou_3d",
        "cluster",
        "farthest_point_sample",
        "fuse_views",
        "kernel_map",
        "nms_3d",
        "project",
        "render_depth",
        "sample",
        "scatter",
        "splat",
        "superpoints",
        "three_nn",
        "visibility",
        "voxelize",
        "zbuffer",
    }
    for name in pyproj2d3d.__all__:
        assert getattr(pyproj2d3d, name).__doc__, name
