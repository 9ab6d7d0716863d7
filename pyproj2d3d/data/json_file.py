"""How is a JSON file read so that whatever is wrong with it names the file?"""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """What the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or nested too deep.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except (ValueError, RecursionError) as error:  # broken JSON, and text that is no UTF-8
        raise ValueError(f"{path}: must be JSON, is it truncated? ({error})") from None


def brief(value: object) -> str:
    """The beginning of what came, for the text of an error, whatever its size."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring = 3, 80
    return short.repr(value)
