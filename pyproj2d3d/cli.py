"""What can be done from the command line? ``pyproj2d3d info`` and ``pyproj2d3d demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input is one line on stderr and status 2."""
    parser = argparse.ArgumentParser(prog="pyproj2d3d", description="Moving knowledge between images and 3D.")
    parser.add_argument("--version", action="version", version=f"pyproj2d3d {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="{info,demo}")

    info = commands.add_parser("info", help="what was built, and what this machine offers")
    info.set_defaults(run=_info)

    demo = commands.add_parser(
        "demo",
        help="lift, match, fuse and voxelize posed RGB-D frames; write an HTML report and a feature cache",
        description="Finds the pixels that see each point, with and without the depth filter, carries features both "
        "ways, and leaves one self-contained report.html.",
    )
    demo.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a folder of posed RGB-D frames, named as in 7-Scenes or as ScanNet exports; absent: a synthetic room",
    )
    demo.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("demo_report"),
        help="where report.html and features.safetensors go (default: ./demo_report)",
    )
    demo.set_defaults(run=_demo)

    chosen = parser.parse_args(arguments)
    return chosen.run(chosen)


def _demo(chosen: argparse.Namespace) -> int:
    from .demo import DemoError, demo

    try:
        demo(chosen.data, chosen.out)
    except DemoError as error:
        print(f"pyproj2d3d demo: {error}", file=sys.stderr)
        return 2
    return 0


def _info(chosen: argparse.Namespace) -> int:
    import torch

    from .ops._register import native

    build = native.build_info()
    cuda = f"built with CUDA {build['cuda_version']} for {build['architectures']}" if build["cuda"] else "not built"
    rows = {
        "version": _version(),
        "CUDA": cuda,
        "compiler": build["compiler"],
        "CPU": f"{native.isa()}, {torch.get_num_threads()} threads",
        "torch": f"{torch.__version__}, its CUDA: {torch.version.cuda or 'none'}",
        "driver": _driver(),
        "devices": _devices() if build["cuda"] else "cpu",
    }
    for name, value in rows.items():
        print(f"{name:10}{value}")
    return 0


def _devices() -> str:
    import torch

    from .ops._register import native

    try:
        count = native.device_count()
    except RuntimeError as error:
        return f"cpu; no CUDA device: {error}"
    if not torch.cuda.is_available():  # this build of torch may be for the CPU alone
        return f"cpu; {count} CUDA device{'s' * (count != 1)}, which this torch cannot use"
    return "; ".join(["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count))])


def _driver() -> str:
    """As the kernel module states it; the number alone is what a toolkit is compared with."""
    import re

    stated = Path("/proc/driver/nvidia/version")
    if not stated.exists():
        return "none"
    number = re.search(r"\d+\.\d+(\.\d+)?", stated.read_text())
    return f"NVIDIA {number[0]}" if number else "NVIDIA, of no stated version"


def _version() -> str:
    from importlib.metadata import version

    return version("pyproj2d3d")


if __name__ == "__main__":
    sys.exit(main())
