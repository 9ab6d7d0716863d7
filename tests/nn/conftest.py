"""spconv beside us, where it is installed."""

import pytest


@pytest.fixture
def spconv(set_threads, monkeypatch):
    """On one thread: on two its sums race. Its backward asks for a CUDA stream, on the CPU too."""
    set_threads(1)
    module = pytest.importorskip("spconv.pytorch")
    import spconv.pytorch.functional
    import spconv.pytorch.ops

    for part in (spconv.pytorch.ops, spconv.pytorch.functional):
        if hasattr(part, "get_current_stream"):
            monkeypatch.setattr(part, "get_current_stream", lambda: 0)
    return module
