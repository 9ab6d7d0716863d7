"""On which devices and in which dtypes do the tests run?"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# So that tests, and workers they spawn, can import the helpers beside this file.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda", "all"), default="cpu", help="where the operations run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--device")
        names = ("cpu", "cuda") if chosen == "all" else (chosen,)
        no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device that torch can use")
        marks = {"cpu": (), "cuda": (no_cuda,)}
        metafunc.parametrize("device", [pytest.param(torch.device(n), marks=marks[n], id=n) for n in names])


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Of geometry."""
    return request.param


@pytest.fixture(
    params=[torch.float16, torch.bfloat16, torch.float32, torch.float64],
    ids=["float16", "bfloat16", "float32", "float64"],
)
def feature_dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def set_threads():
    """:func:`torch.set_num_threads`, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Where a file or folder of real recordings is, by its name; without it the test is skipped, and says why."""
    root = os.environ.get("PYPROJ2D3D_REAL_DATA")

    def place(name: str) -> Path:
        if not root:
            pytest.skip("PYPROJ2D3D_REAL_DATA is not set: no real recordings")
        if not (Path(root) / name).exists():
            pytest.skip(f"{name} is not below PYPROJ2D3D_REAL_DATA")
        return Path(root) / name

    return place
