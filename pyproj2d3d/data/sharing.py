"""How do the images of a worker reach the training process? In shared memory that is written, not mapped and filled."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


def stacked(tensors: Sequence[Tensor]) -> Tensor:
    """As :func:`torch.stack`; in a worker of a DataLoader, in memory that is shared already.

    There torch would stack, then copy the result into a shared file through a mapping. Touching its pages one by one
    costs more than the copy: writing all tensors to the file in one call takes half the time of torch's own collate.
    """
    first = tensors[0]
    alike = all(tensor.shape == first.shape and tensor.dtype == first.dtype for tensor in tensors)
    if get_worker_info() is None or not alike or not first.numel() or not hasattr(os, "memfd_create"):
        return torch.stack(list(tensors))
    buffers = [tensor.contiguous().numpy().data.cast("B") for tensor in tensors]
    size, strides = sum(map(len, buffers)), first.contiguous().stride()
    file = os.memfd_create("pyproj2d3d")
    try:
        written = 0
        while written < size:  # the system takes 2 GB at a time, and 1024 buffers
            written += os.writev(file, _after(buffers, written)[:1024])
        shared = torch.UntypedStorage._new_shared_fd_cpu  # type: ignore[attr-defined]  # as torch's own queues have it
        storage = shared(file, size)  # from here on it closes the file
    except BaseException:
        os.close(file)
        raise
    return torch.empty(0, dtype=first.dtype).set_(storage, 0, (len(tensors), *first.shape), (first.numel(), *strides))


def _after(buffers: list[memoryview], done: int) -> list[memoryview]:
    """What is left of the buffers after so many bytes."""
    left = []
    for buffer in buffers:
        if done < len(buffer):
            left.append(buffer[done:])
        done = max(done - len(buffer), 0)
    return left
