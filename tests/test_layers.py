"""Does every file know only what it may know, and does every operation have all its files?"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pyproj2d3d"
OPERATIONS = [
    *("project", "visibility", "zbuffer", "splat", "sample", "fuse_views"),
    *("back_project", "voxelize", "scatter", "superpoints", "kernel_map", "cluster"),
    *("farthest_point_sample", "ball_query", "three_nn"),
]

# What each module of the package may import from it, at the top of the file or inside a function.
MAY_IMPORT = {
    "camera": [],
    "results": [],
    "reference": ["reference", "camera", "results"],
    "ops": ["ops", "camera", "results", "_native"],
    "nn": ["nn", "ops", "camera", "results"],
    "losses": ["losses", "ops", "boxes"],
    "data": ["data", "ops", "camera"],
    "cache": ["cache", "ops", "camera"],
    "boxes": ["ops"],
    "metrics": ["metrics", "boxes"],
    "": ["camera", "results", "ops", "boxes", "data", "cache"],  # the package itself: its public names
    "report_colors": [],
    "report_3d": ["report_colors", ""],
    "report": ["report_3d", "report_colors"],
    "demo_clouds": ["data", ""],
    "demo_cache": ["report", ""],
    "demo": ["demo_clouds", "demo_cache", "report", "report_3d", "report_colors", "data", ""],
    "report_training": ["report_3d", "report_colors", "metrics"],
    "report_embedding": [],
    "report_boxes": ["report_colors"],
    "papers": [
        *("papers", "nn", "losses", "data", "cache", "metrics", "boxes", "ops", "camera", "results"),
        *("report_training", "report_embedding", "report_boxes"),
    ],
    "studies": ["papers", "data", "jobs", "report_study"],
    "train_resume": ["data"],
    "train": ["report_training", "train_resume"],  # and the paper it is asked for
    "jobs": ["data"],
    "report_study": ["report_training"],
    "reproduce": ["jobs", "data"],  # and the study it is asked for
    "cli": ["demo", "train", "reproduce", "data", "ops", ""],
}
# What a module may import from elsewhere at its top; inside a function it may import anything.
AT_THE_TOP = {
    "": {"torch", "numpy"},
    "camera": {"torch"},
    "results": {"torch"},
    "reference": {"torch"},
    "ops": {"torch"},
    "nn": {"torch"},
    "losses": {"torch"},
    "boxes": {"torch"},
    "metrics": {"torch", "torchmetrics"},
    "papers": {"torch", "lightning"},  # nothing imports a paper, or train, until it is trained
    "train": {"torch", "lightning", "yaml"},
    "train_resume": {"torch", "lightning"},
    "studies": {"lightning"},
    "jobs": {"tqdm"},  # nothing imports it, or reproduce, until a study is run
    "reproduce": {"torch"},
    "cli": set(),
}
AT_THE_TOP["demo"] = {"torch", "numpy", "tqdm"}  # nothing imports the demo until it is run
ONE_MODULE = {"data/datamodule.py": {"lightning"}}  # whose class is one of Lightning's; nothing imports it here

MODULES = sorted(PACKAGE.rglob("*.py"))
each_module = pytest.mark.parametrize("path", MODULES, ids=[str(m.relative_to(PACKAGE)) for m in MODULES])


def layer_of(path: Path) -> str:
    """The first part of the name below the package; empty for the package itself."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every absolute dotted name that the file imports, and whether it does so on being imported itself."""
    tree = ast.parse(path.read_text())
    inside = {
        id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f) if n is not f
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ("pyproj2d3d", *path.relative_to(PACKAGE).parent.parts)
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            names = [".".join(part for part in (*base, alias.name) if part) for alias in node.names]
        else:
            continue
        yield from ((name, id(node) not in inside) for name in names)


def test_the_imports_of_a_file_are_all_found(tmp_path, monkeypatch):
    """The rules below are worth what this finds."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "ops").mkdir()
    path = tmp_path / "ops" / "some.py"
    path.write_text(
        "import torch\nfrom ..camera import Camera\nfrom .. import _native\ndef f():\n    from ._check import a\n"
    )
    assert list(imports(path)) == [
        ("torch", True),
        ("pyproj2d3d.camera.Camera", True),
        ("pyproj2d3d._native", True),
        ("pyproj2d3d.ops._check.a", False),
    ]


@each_module
def test_a_module_imports_only_from_the_layers_below(path):
    layer = layer_of(path)
    assert layer in MAY_IMPORT, f"say in MAY_IMPORT what {layer} may import"
    known = {p.removesuffix(".py") for p in (m.relative_to(PACKAGE).parts[0] for m in MODULES)} | {"_native"}
    for name, _ in imports(path):
        package, _, rest = name.partition(".")
        if package == "pyproj2d3d":
            below = rest.partition(".")[0]
            below = below if below in known else ""  # a public name of the package
            assert below in MAY_IMPORT[layer], f"{layer or 'the package'} must not import {name}"


def test_a_paper_imports_no_other_paper():
    """What it keeps in more files, such as <paper>_baselines, begins with its name."""
    papers = {p.stem for p in (PACKAGE / "papers").glob("*.py")}

    def paper_of(file):
        return min((name for name in papers if file.startswith(name)), key=len)

    for path in (PACKAGE / "papers").glob("*.py"):
        for name, _ in imports(path):
            other = name.removeprefix("pyproj2d3d.papers.").partition(".")[0]
            if name.startswith("pyproj2d3d.papers.") and other in papers:
                assert paper_of(path.stem) == paper_of(other), f"{path.stem} imports {other}"


@each_module
def test_a_module_imports_heavy_libraries_only_inside_functions(path):
    allowed = AT_THE_TOP.get(layer_of(path), AT_THE_TOP[""]) | {"pyproj2d3d"} | sys.stdlib_module_names
    allowed |= ONE_MODULE.get(str(path.relative_to(PACKAGE)), set())
    at_the_top = {name.partition(".")[0] for name, top in imports(path) if top}
    assert at_the_top <= allowed


@each_module
def test_a_module_says_what_it_is_for(path):
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("op", OPERATIONS)
def test_an_operation_has_the_same_stem_everywhere(op):
    here = ("csrc/ops/{}.cu", "pyproj2d3d/ops/{}.py", "pyproj2d3d/reference/{}.py")
    for path in (*here, "tests/ops/test_{}.py", "benchmarks/bench_{}.py"):
        assert (ROOT / path.format(op)).is_file(), path.format(op)
    assert f"def {op}(" in (PACKAGE / "reference" / f"{op}.py").read_text()


def test_every_operation_is_on_the_list():
    """A file of ops is an operation with all its files, or is shared by operations and has an underscore."""
    files = {p.stem for p in (PACKAGE / "ops").glob("*.py") if not p.stem.startswith("_")}
    assert files == set(OPERATIONS)


def test_no_source_file_passes_400_lines():
    sources = [
        p
        for where in ("csrc", "pyproj2d3d")
        for p in (ROOT / where).rglob("*")
        if p.suffix in (".py", ".hpp", ".cu", ".cpp")
    ]
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in sources}
    assert len(lengths) > 10
    assert {name: n for name, n in lengths.items() if n > 400} == {}
