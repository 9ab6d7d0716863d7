"""Do the torchmetrics classes give what the functions do, over batches, epochs and processes?"""

import json
import os
import pickle
import subprocess
import sys
import tempfile

import pytest
import torch
from torch import Tensor

from pyproj2d3d import metrics

pytest.importorskip("torchmetrics", reason="needs torchmetrics")

from torchmetrics import Metric, MetricCollection

from pyproj2d3d.metrics.accumulate import DetectionMetric, InstanceMetric, ReleasedGadMetric, SegmentationMetric

NAMES = ["segmentation", "released_gad", "instances", "detection"]


def make(name: str) -> Metric:
    return {
        "segmentation": lambda: SegmentationMetric(4),
        "released_gad": lambda: ReleasedGadMetric(4),
        "instances": lambda: InstanceMetric((1, 2), min_region=3),
        "detection": lambda: DetectionMetric(3),
    }[name]()


def batch(name: str, seed: int) -> tuple[Tensor, ...]:
    """What one update takes."""
    rng = torch.Generator().manual_seed(seed)
    if name in ("segmentation", "released_gad"):
        prediction, target = torch.randint(-1, 4, (2, 3, 6, 5), generator=rng)
        return torch.where(torch.rand(target.shape, generator=rng) < 0.5, target, prediction), target
    labels = torch.randint(1, 3, (9,), generator=rng)
    scores = torch.rand(9, generator=rng)
    if name == "instances":
        instances = torch.arange(60) // 15
        masks = (instances == torch.arange(9)[:, None] % 4) & (torch.rand(9, 60, generator=rng) < 0.8)
        return masks, labels, scores, torch.tensor([-1, 1, 2, 2])[instances], instances
    boxes = torch.rand(4, 7, generator=rng) + torch.tensor([0.0, 0, 0, 0.5, 0.5, 0.5, 0])
    found = boxes[torch.arange(9) % 4] + 0.1 * torch.randn(9, 7, generator=rng)
    return found, labels, scores, boxes, labels[:4]


def by_functions(name: str, batches: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    if name == "segmentation":
        return metrics.segmentation_scores(sum(metrics.confusion_matrix(*b, 4) for b in batches))
    if name == "released_gad":
        return metrics.released_gad_scores([pair for b in batches for pair in zip(*b, strict=True)], 4)
    if name == "instances":
        return metrics.instance_scores([metrics.match_instances(*b, (1, 2), min_region=3) for b in batches])
    return metrics.detection_scores([metrics.match_boxes(*b, 3) for b in batches])


def assert_same_scores(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 0.0) -> None:
    assert type(actual) is type(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_updates_give_what_the_functions_give(name, device):
    metric, batches = make(name).to(device), [batch(name, seed) for seed in range(3)]
    for b in batches:
        metric.update(*(t.to(device) for t in b))
    scores = metric.compute()
    assert all(score.device.type == device.type for score in scores)
    expected = by_functions(name, batches)
    assert any(0 < score < 1 for score in expected if score.ndim == 0), "else there is nothing to see"
    assert_same_scores(type(scores)(*(score.cpu() for score in scores)), expected, tolerance=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_returns_the_scores_of_its_batch_and_keeps_those_of_all(name):
    metric, batches = make(name), [batch(name, seed) for seed in range(2)]
    for b in batches:
        assert_same_scores(metric(*b), by_functions(name, [b]))
    assert_same_scores(metric.compute(), by_functions(name, batches), tolerance=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_after_a_reset_nothing_is_left(name):
    metric = make(name)
    metric.update(*batch(name, 0))
    metric.compute()
    metric.reset()
    metric.update(*batch(name, 1))
    assert_same_scores(metric.compute(), by_functions(name, [batch(name, 1)]))


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_leaves_the_metric_as_it_was(name):
    metric = make(name)
    metric.update(*batch(name, 0))
    with pytest.raises((TypeError, ValueError)):
        metric.update(*(t.double() for t in batch(name, 1)))
    assert_same_scores(metric.compute(), by_functions(name, [batch(name, 0)]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_without_any_update_the_scores_are_nan_or_zero(name):
    for score in make(name).compute():
        assert (score.isnan() | (score == 0)).all()


def test_one_class_is_a_class_still():
    """torchmetrics itself makes numbers of tensors with one element."""
    labels, boxes = torch.zeros(3, 6, 5, dtype=torch.int64), torch.eye(2, 7) + 1
    instances, nothing = torch.arange(40) // 20, torch.zeros(2, dtype=torch.int64)
    ones, masks = torch.ones(2), instances == torch.arange(2)[:, None]
    made = {
        SegmentationMetric(1): (labels, labels),
        ReleasedGadMetric(1): (labels, labels),
        InstanceMetric([3], min_region=1): (masks, nothing + 3, ones, torch.full((40,), 3), instances),
        DetectionMetric(1): (boxes, nothing, ones, boxes, nothing),
    }
    for metric, given in made.items():
        for scores in (
            metric(*given),
            metric.compute(),
            metric.compute(),
            pickle.loads(pickle.dumps(metric)).compute(),
        ):
            for name, value in scores._asdict().items():
                assert value.tolist() == ([1.0] if name.startswith("class_") else 1.0), name


def test_a_subclass_may_give_one_score_alone():
    class Miou(SegmentationMetric):
        def compute(self):
            return super().compute().miou

    labels = torch.zeros(3, 6, 5, dtype=torch.int64)
    assert Miou(1)(labels, labels).item() == 1


def test_both_kinds_of_miou_in_one_collection():
    both = MetricCollection({"usual": SegmentationMetric(4), "released": ReleasedGadMetric(4)})
    for seed in range(2):
        both.update(*batch("segmentation", seed))
    scores, batches = both.compute(), [batch("segmentation", seed) for seed in range(2)]
    assert_same_scores(scores["usual"], by_functions("segmentation", batches))
    assert_same_scores(scores["released"], by_functions("released_gad", batches), tolerance=1e-15)


def test_the_released_metric_takes_batches_of_images():
    with pytest.raises(ValueError, match=r"target must have shape \(\*, \*, \*\), got \(6, 5\)"):
        ReleasedGadMetric(4).update(torch.zeros(6, 5).int(), torch.zeros(6, 5).int())
    with pytest.raises(ValueError, match=r"prediction must have shape \(2, 6, 5\), got \(1, 6, 5\)"):
        ReleasedGadMetric(4).update(torch.zeros(1, 6, 5).int(), torch.zeros(2, 6, 5).int())


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: SegmentationMetric(0), "n_classes must be at least 1, got 0"),
        (lambda: ReleasedGadMetric(0), "n_classes must be at least 1, got 0"),
        (lambda: DetectionMetric(0), "n_classes must be at least 1, got 0"),
        (lambda: InstanceMetric([]), "classes must be at least one label"),
        (lambda: InstanceMetric([1], min_region=0), "min_region must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_made_is_named(make_one, message):
    with pytest.raises(ValueError, match=message):
        make_one()


@pytest.mark.timeout(240)
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_three_processes_of_which_one_sees_nothing_agree_with_one():
    """torchmetrics gathers something of another type and shape for a process without rows, unless it is given some."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", __file__, f"file://{folder}/meeting"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
            for rank in range(3)
        ]
        try:
            printed = [process.communicate(timeout=200)[0] for process in started]
        finally:
            for process in started:
                process.kill()
    assert [process.returncode for process in started] == [0, 0, 0]
    for scores in map(json.loads, printed):
        for name in NAMES:
            expected = by_functions(name, [batch(name, seed) for seed in range(2)])
            for ours, theirs in zip(scores[name], expected, strict=True):
                torch.testing.assert_close(theirs.new_tensor(ours), theirs, rtol=0, atol=1e-15, equal_nan=True)


def _one_of_three(meeting: str, rank: int) -> None:
    """The first two processes see one batch each."""
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=3)
    scores = {}
    for name in NAMES:
        metric = make(name)
        for seed in range(2)[rank : rank + 1]:
            metric.update(*batch(name, seed))
        scores[name] = [score.tolist() for score in metric.compute()]
    print(json.dumps(scores))
    torch.distributed.destroy_process_group()


def test_torchmetrics_is_imported_only_where_it_is_asked_for():
    code = "import sys, pyproj2d3d.metrics; print('torchmetrics' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tempfile.gettempdir())
    assert done.stdout.strip() == "False", done.stderr


def test_without_torchmetrics_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "pyproj2d3d.metrics.accumulate")
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(ImportError, match=r'metrics.accumulate needs torchmetrics: pip install "pyproj2d3d\[train\]"'):
        __import__("pyproj2d3d.metrics.accumulate")


if __name__ == "__main__":
    _one_of_three(sys.argv[1], int(sys.argv[2]))
