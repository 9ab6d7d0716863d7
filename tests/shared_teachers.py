"""What teachers compute in two processes, each with every second frame of a batch, and in one with all of them.

A process that is started anew imports this file, which is beside conftest.py, and not the test.
"""

from __future__ import annotations

import torch
from labelled_frames import CLASSES, Images

from pyproj2d3d.data.samples import FrameSamples, collate
from pyproj2d3d.nn.distributed import processes, sum_over_processes
from pyproj2d3d.papers.teachers import ClassifierTeacher, MoCoTeacher, SegmentationTeacher

OBJECTS = {"width": 4, "crop": 16, "min_pixels": 100}
BATCHES = [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7]]  # frames; their order in a batch is no matter
KINDS = ["classifier", "moco", "segmentation", "classifier, one process without objects", "moco, likewise"]


def teacher_of(kind, **options):
    torch.manual_seed(0)
    if kind.startswith("classifier"):
        return ClassifierTeacher(list(CLASSES), **{**OBJECTS, **options})
    if kind.startswith("moco"):
        return MoCoTeacher(**{**OBJECTS, "dim": 8, "queue": 64, **options})
    return SegmentationTeacher(list(CLASSES), **{"width": 4, **options})


def batch_of(frames, without=()):
    """Some of the frames of training; of those in ``without`` nothing is labelled."""
    samples = FrameSamples(Images("train"))
    batch = collate([samples[i] for i in frames])
    for place, frame in enumerate(frames):
        if frame in without:
            batch.semantic[place] = batch.instance[place] = -1
    return batch


def learned(kind, rank):
    """Two steps: the losses, and what the last has left; gradients are the mean over the processes, as DDP's."""
    model = teacher_of(kind)
    model.log = lambda *_, **__: None
    model.double()
    if kind.startswith("segmentation"):
        model.net.classifier[3].p = 0.0
    type(model).global_rank = property(lambda _: rank)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    n, found = processes(), {}
    for step, frames in enumerate(BATCHES):
        mine = frames[rank::n]
        without = frames[1::2] if "," in kind and step == 0 else ()
        optimizer.zero_grad()
        loss = model.training_step(batch_of(mine, without), 0)
        loss.backward()
        for p in (p for p in model.parameters() if p.requires_grad):
            p.grad = sum_over_processes(p.grad) / n
        optimizer.step()
        found[f"loss {step}"] = sum_over_processes(loss.detach()) / n
    found |= dict(model.state_dict())
    if "queue" in found:  # two processes line up in another order
        found["queue"] = found["queue"][found["queue"].sum(1).argsort()]
    return found


def all_of_it(rank):
    """Everything in one meeting: to start a process takes longer than what it computes here."""
    return {kind: learned(kind, rank) for kind in KINDS}
