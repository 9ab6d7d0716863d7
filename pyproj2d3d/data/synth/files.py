"""What do the writers of all layouts share? Files whose bytes follow from their content."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np


def write_image(path: Path, pixels: np.ndarray, quality: int = 90) -> None:
    """PNG, or JPEG of that quality, by the name of the file."""
    from PIL import Image

    if path.suffix == ".jpg":
        Image.fromarray(pixels).save(path, quality=quality)
    else:
        Image.fromarray(pixels).save(path, compress_level=1)


def write_matrix(path: Path, matrix: np.ndarray) -> None:
    """As text that reads back to the same bits."""
    path.write_text("".join(" ".join(map(repr, row)) + "\n" for row in matrix.tolist()))


def matlab_cell(texts: Sequence[str]) -> np.ndarray:
    """A cell array (1, N)."""
    cell = np.empty((1, len(texts)), dtype=object)
    cell[0] = texts
    return cell


def number_within(kinds: Sequence[Hashable]) -> np.ndarray:
    """(O,) int64: 1 for the first object of its kind, 2 for the second."""
    count: dict[Hashable, int] = {}
    numbers = []
    for kind in kinds:
        count[kind] = count.get(kind, 0) + 1
        numbers.append(count[kind])
    return np.array(numbers, dtype=np.int64)
