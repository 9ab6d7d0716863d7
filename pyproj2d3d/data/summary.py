"""What is in a dataset? Scenes, frames, classes and what is missing, a line each, without decoding a pixel."""

from __future__ import annotations

from collections import Counter

from .scene import SceneDataset


def summary_of(dataset: SceneDataset) -> list[str]:
    """Lines for a person: the dataset, its scenes, frames and classes, and all that is missing or cannot be opened.

    Every scene is opened for its frames (poses and headers; no pixels, no points, no boxes: what is wrong with these is
    an error when they are read). A scene that cannot be opened is a line of its own, which begins with "broken".
    """
    from tqdm import tqdm

    sizes: Counter[str] = Counter()
    bare = []
    having: Counter[str] = Counter()
    skipped, broken = [], []
    for i, name in enumerate(tqdm(dataset.names, desc="open", disable=None, leave=False)):
        try:
            scene = dataset[i]
            frames = scene.frames
        except (OSError, ValueError) as error:
            broken.append(f"{name}: {error}")
            continue
        if not frames:
            bare.append(name)
        skipped += [f"{name}: {line}" for line in frames.skipped]
        sizes.update("{}x{}".format(*frame.camera.size) for frame in frames)
        having["clouds"] += scene.read_cloud is not None
        having["boxes"] += scene.read_boxes is not None
        having["labelled"] += any(frame.read_semantic is not None for frame in frames)
    of_sizes = ", ".join(f"{n:,} of {size}" for size, n in sizes.most_common())
    split = "all" if dataset.split is None else dataset.split
    lines = [
        ("dataset", f"{dataset.TITLE}, {dataset.root}"),
        ("split", split),
        ("scenes", f"{len(dataset):,}: {_some(dataset.names)}" if len(dataset) else "0"),
        ("frames", f"{sizes.total():,}: {of_sizes} (depth, height x width)" if sizes else "0"),
        ("clouds", f"{having['clouds']:,} scenes have points"),
        ("boxes", f"{having['boxes']:,} scenes have boxes"),
        ("labels", f"{having['labelled']:,} scenes have labelled images"),
        ("classes", f"{len(dataset.classes)}: {', '.join(dataset.classes)}" if dataset.classes else "ids as stored"),
        *([("boxes of", ", ".join(dataset.box_classes))] if dataset.box_classes != dataset.classes else []),
        *(("missing", line) for line in dataset.missing),
        *([("missing", f"frames of {len(bare)} scenes: {_some(tuple(bare))}")] if bare else []),
        *(("skipped", line) for line in skipped),
        *(("broken", line) for line in broken),
    ]
    return [f"{name:10}{text}" for name, text in lines]


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]}, ..., {names[-1]}"
