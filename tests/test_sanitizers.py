"""Do the sanitizers see all of the native core? scripts/sanitize.sh builds and runs tests/native."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def code_of(path: Path) -> str:
    """The file without its comments and strings."""
    return re.sub(r'//.*|"(?:\\.|[^"\\])*"', "", path.read_text())


DRIVERS = {path.stem: code_of(path) for path in (ROOT / "tests" / "native").glob("*.cpp")}


def test_the_sanitizer_driver_calls_every_native_operation():
    operations = re.findall(r"(\w+)\(const Exec &on\b", code_of(ROOT / "csrc" / "ops.hpp"))
    assert len(operations) > 25
    calls = "".join(DRIVERS.values())
    assert [op for op in operations if not re.search(rf"\b{op}(<[\w, ]+>)?\(\s*\w", calls)] == []


def test_the_sanitizer_driver_has_a_file_for_every_file_of_operations_and_runs_it():
    stems = {path.stem for path in (ROOT / "csrc" / "ops").glob("*.cu")}
    assert stems - {"sample_grad"} == DRIVERS.keys() - {"main"}  # the gradients of sample need its driver's inputs
    for stem in stems & DRIVERS.keys():
        assert f"void drive_{stem}() {{" in DRIVERS[stem]
        assert f"drive_{stem}}}" in DRIVERS["main"]
