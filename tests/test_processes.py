"""Do the operations work in the processes that loaders start, after the parent has used them with threads?"""

import multiprocessing
import os
import select
import signal

import pytest
import torch
from cases import CASES, EveryOperation
from scenes import assert_same_bits, make_scene, tensors_of
from torch.utils.data import DataLoader

# Python 3.12 warns at every fork of a process with threads: forking in spite of them is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(scope="module")
def used_by_parent() -> list[tuple[torch.Tensor, ...]]:
    """What every operation returns here, with two threads: from now on the parent has an OpenMP pool."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield list(EveryOperation())
    torch.set_num_threads(before)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader_return_what_the_parent_does(start, used_by_parent):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} on this system")
    loader = DataLoader(EveryOperation(), batch_size=None, num_workers=2, multiprocessing_context=start, timeout=60)
    for case, theirs, ours in zip(CASES, loader, used_by_parent, strict=True):
        assert_same_bits(theirs, ours)
        assert len(ours) > 0, case


def bytes_of(result: object) -> bytes:
    return b"".join(t.numpy().tobytes() for t in tensors_of(result))


@pytest.mark.timeout(120)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_forked_child_that_asks_for_two_threads_does_not_hang(case, used_by_parent):
    """OpenMP does: it waits for threads that the fork has not copied. Ours runs alone there.

    The scene is so small that torch, which does hang in such a child (where it fills, copies, sorts or searches more
    than it does alone), keeps to one thread; our loops would take two for anything beyond one element.
    """
    arguments = case.arguments(make_scene(150, 2))
    expected = bytes_of(case.call()(*arguments[0], **arguments[1]))
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(2)
            same = bytes_of(case.call()(*arguments[0], **arguments[1])) == expected
            os.write(into, b"same" if same else b"different")
        finally:
            os._exit(0)
    os.close(into)
    try:
        answered = select.select([out], [], [], 30)[0]
        assert answered, "the child hangs"
        assert os.read(out, 16) == b"same"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(out)
