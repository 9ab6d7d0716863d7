"""How well are pixels classified, and what would the released evaluation of geometry-aware distillation make of it?"""

import math

import pytest
import torch
from torch import Tensor

from pyproj2d3d.metrics import (
    SegmentationScores,
    confusion_matrix,
    released_gad_counts,
    released_gad_scores,
    segmentation_scores,
)

NAN = math.nan


def scored(prediction, target, n_classes: int, device=None) -> SegmentationScores:
    pair = (torch.tensor(labels, device=device) for labels in (prediction, target))
    return segmentation_scores(confusion_matrix(*pair, n_classes))


def image(*rows: str, device=None) -> Tensor:
    """(H, W) int64: a digit is a label, a dot is none."""
    return torch.tensor([[-1 if c == "." else int(c) for c in row] for row in rows], device=device)


def random_images(n: int, n_classes: int, seed: int, none: float = 0.2) -> list[tuple[Tensor, Tensor]]:
    """Pairs of prediction and target, half of whose pixels agree; some classes are in few images."""
    rng = torch.Generator().manual_seed(seed)
    images = []
    for _ in range(n):
        height, width = torch.randint(3, 9, (2,), generator=rng).tolist()
        known = torch.randperm(n_classes, generator=rng)[:3]
        target = known[torch.randint(3, (height, width), generator=rng)]
        target[torch.rand(height, width, generator=rng) < none] = -1
        other = torch.randint(-1, n_classes, (height, width), generator=rng)
        images.append((torch.where(torch.rand(height, width, generator=rng) < 0.5, target, other), target))
    return images


def test_scores_are_those_counted_on_the_fingers(device):
    """Class 0: of 3 pixels 2 found, and 1 of class 1 taken for it. Class 1: of 2 pixels 1 found, and 1 of class 0."""
    scores = scored([0, 0, 1, 1, 0], [0, 0, 0, 1, 1], 2, device)
    assert scores.pixel_accuracy.item() == 3 / 5
    assert scores.class_accuracy.tolist() == [2 / 3, 1 / 2]
    assert scores.mean_accuracy.item() == (2 / 3 + 1 / 2) / 2
    assert scores.class_iou.tolist() == [2 / 4, 1 / 3]
    assert scores.miou.item() == (2 / 4 + 1 / 3) / 2
    assert scores.miou.device.type == device.type


def test_rows_are_targets_and_columns_are_predictions(device):
    confusion = confusion_matrix(torch.tensor([1, 1, 2], device=device), torch.tensor([0, 0, 1], device=device), 3)
    assert confusion.tolist() == [[0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert confusion.dtype == torch.int64


def test_a_pixel_without_a_label_counts_for_nothing_whatever_is_predicted_there():
    assert scored([0, 1, 1, -1], [0, 1, -1, -1], 2).miou.item() == 1


def test_to_predict_none_is_wrong_but_no_other_class_suffers_for_it():
    scores = scored([0, -1, 1], [0, 0, 1], 2)
    assert scores.pixel_accuracy.item() == 2 / 3
    assert scores.class_iou.tolist() == [1 / 2, 1]


def test_a_class_that_never_occurs_is_nan_and_left_out_of_the_means():
    scores = scored([0, 1], [0, 1], 3)
    assert scores.class_iou.isnan().tolist() == scores.class_accuracy.isnan().tolist() == [False, False, True]
    assert scores.miou.item() == scores.mean_accuracy.item() == 1


def test_a_class_that_is_only_predicted_has_iou_zero_which_counts():
    scores = scored([0, 1], [0, 0], 2)
    assert scores.class_iou.tolist() == [1 / 2, 0]
    assert scores.miou.item() == 1 / 4
    assert scores.mean_accuracy.item() == 1 / 2, "class 1 has no pixel to be found"


def test_iou_is_counted_over_the_dataset_not_over_images():
    """Class 0: 1 of 1 in the first image, 0 of 3 in the second; together 1 of 4, where the mean of images is 1/2."""
    first = confusion_matrix(image("0"), image("0"), 2)
    second = confusion_matrix(image("111"), image("000"), 2)
    assert segmentation_scores(first + second).class_iou[0].item() == 1 / 4


@pytest.mark.parametrize("target", [[], [-1, -1]], ids=["no pixel", "no label"])
def test_nothing_to_score_is_nan_throughout(target, device):
    prediction = torch.zeros(len(target), dtype=torch.int64, device=device)
    target = torch.tensor(target, dtype=torch.int64, device=device)
    scores = segmentation_scores(confusion_matrix(prediction, target, 2))
    assert all(score.isnan().all() for score in scores)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_labels_of_any_integer_type_count_alike(dtype, device):
    labels = torch.tensor([[0, 1, 2], [2, 1, 0]], device=device).to(dtype)
    assert confusion_matrix(labels, labels, 3).tolist() == [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]]


def test_shape_and_memory_layout_do_not_matter():
    (prediction, target), *_ = random_images(1, 5, seed=0)
    expected = confusion_matrix(prediction.flatten(), target.flatten(), 5)
    assert expected.equal(confusion_matrix(prediction.T, target.T.contiguous(), 5))
    assert expected.equal(confusion_matrix(prediction[None, None], target[None, None], 5))


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_sets_of_pixels(seed):
    """Every class that occurs, as the set of pixels where it is and of those where it was predicted."""
    n_classes, images = 7, random_images(4, 7, seed)
    truly, predicted, labelled, right = ([set() for _ in range(n_classes)] for _ in range(4))
    for i, (prediction, target) in enumerate(images):
        for v in range(target.shape[0]):
            for u in range(target.shape[1]):
                t, p = int(target[v, u]), int(prediction[v, u])
                if t >= 0:
                    truly[t].add((i, v, u))
                    labelled[0].add((i, v, u))
                    right[0] |= {(i, v, u)} if t == p else set()
                    if p >= 0:
                        predicted[p].add((i, v, u))
    iou = [len(t & p) / len(t | p) if t | p else NAN for t, p in zip(truly, predicted, strict=True)]
    accuracy = [len(t & p) / len(t) if t else NAN for t, p in zip(truly, predicted, strict=True)]

    scores = segmentation_scores(sum(confusion_matrix(*pair, n_classes) for pair in images))
    assert scores.class_iou.tolist() == pytest.approx(iou, nan_ok=True, abs=1e-14)
    assert scores.class_accuracy.tolist() == pytest.approx(accuracy, nan_ok=True, abs=1e-14)
    assert scores.miou.item() == pytest.approx(_mean(iou), abs=1e-14)
    assert scores.mean_accuracy.item() == pytest.approx(_mean(accuracy), abs=1e-14)
    assert scores.pixel_accuracy.item() == len(right[0]) / len(labelled[0])


def _mean(values: list[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known)


def test_scores_agree_with_those_of_torchmetrics_where_every_class_occurs():
    classification = pytest.importorskip("torchmetrics.classification")
    rng = torch.Generator().manual_seed(0)
    prediction, target = torch.randint(6, (2, 5, 40, 30), generator=rng)
    target[torch.rand(target.shape, generator=rng) < 0.3] = -1
    scores = segmentation_scores(confusion_matrix(prediction, target, 6))
    how = {"num_classes": 6, "ignore_index": -1}
    for ours, theirs in (
        (scores.pixel_accuracy, classification.MulticlassAccuracy(average="micro", **how)),
        (scores.mean_accuracy, classification.MulticlassAccuracy(average="macro", **how)),
        (scores.class_accuracy, classification.MulticlassAccuracy(average="none", **how)),
        (scores.miou, classification.MulticlassJaccardIndex(average="macro", **how)),
        (scores.class_iou, classification.MulticlassJaccardIndex(average="none", **how)),
    ):
        torch.testing.assert_close(ours, theirs(prediction, target).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("prediction", "target", "n_classes", "error", "message"),
    [
        ([0], torch.tensor([0]), 2, TypeError, "prediction must be a tensor, got list"),
        (torch.tensor([0.5]), torch.tensor([0]), 2, TypeError, "prediction must be integers, got float32"),
        (torch.tensor([0]), torch.tensor([True]), 2, TypeError, "target must be integers, got bool"),
        (torch.tensor([0]), torch.tensor([255]), 2, ValueError, "target must be from -1 to 1, got 255"),
        (torch.tensor([-2]), torch.tensor([0]), 2, ValueError, "prediction must be from -1 to 1, got -2"),
        (torch.zeros(2, 3).int(), torch.zeros(3).int(), 2, ValueError, r"shape \(3,\) like target, got \(2, 3\)"),
        (torch.tensor([0]), torch.tensor([0]), 0, ValueError, "n_classes must be at least 1, got 0"),
        (torch.tensor([0]), torch.tensor([0]), 2.0, TypeError, "n_classes must be an integer, got 2.0"),
        (torch.tensor([0]), torch.tensor([0], device="meta"), 2, ValueError, "prediction must be on meta like target"),
    ],
)
def test_what_cannot_be_counted_is_named(prediction, target, n_classes, error, message):
    with pytest.raises(error, match=message):
        confusion_matrix(prediction, target, n_classes)


def test_scores_want_the_matrix_as_it_comes():
    with pytest.raises(ValueError, match=r"confusion must have shape \(C, C \+ 1\), got \(2, 2\)"):
        segmentation_scores(torch.zeros(2, 2).int())
    with pytest.raises(TypeError, match="confusion must be integers, got float32"):
        segmentation_scores(torch.zeros(2, 3))


def test_released_an_image_where_a_class_is_missed_is_left_out(device):
    """Class 1 is found wholly in the first image and missed in the other nine."""
    found = image("11", device=device), image("11", device=device)
    missed = image("00", device=device), image("11", device=device)
    released = released_gad_scores([found] + 9 * [missed], 2)
    assert released.class_iou.tolist() == [0, 1]
    assert released.miou.item() == 1 / 2
    assert released.miou.device.type == device.type

    confusion = sum(confusion_matrix(*pair, 2) for pair in [found] + 9 * [missed])
    assert segmentation_scores(confusion).class_iou.tolist() == [0, 2 / 20]


def test_released_a_class_predicted_where_it_is_not_costs_nothing():
    images = [(image("11"), image("11")), (image("11"), image("00"))]
    assert released_gad_scores(images, 2).class_iou[1].item() == 1
    assert segmentation_scores(sum(confusion_matrix(*pair, 2) for pair in images)).class_iou[1].item() == 1 / 2


def test_released_the_union_has_pixels_without_a_label():
    prediction, target = image("1111"), image("11..")
    assert released_gad_scores([(prediction, target)], 2).class_iou[1].item() == 2 / 4
    assert segmentation_scores(confusion_matrix(prediction, target, 2)).class_iou[1].item() == 1


def test_released_a_class_in_no_image_is_zero_in_the_mean():
    assert released_gad_scores([(image("0"), image("0"))], 4).miou.item() == 1 / 4


def test_released_iou_is_a_mean_over_images():
    """1/2 of the union in a small image and 1 in a large one."""
    images = [(image("10"), image("11")), (image("1111", "1111"), image("1111", "1111"))]
    assert released_gad_scores(images, 2).class_iou[1].item() == (1 / 2 + 1) / 2


def test_released_mean_accuracy_is_a_mean_over_images_of_their_classes():
    """Image one: class 0 wholly, class 1 not at all. Image two: class 1 half, in four times the pixels."""
    images = [(image("00"), image("01")), (image("1100", "1100"), image("1111", "1111"))]
    released = released_gad_scores(images, 2)
    assert released.mean_accuracy.item() == ((1 + 0) / 2 + 1 / 2) / 2
    assert released.pixel_accuracy.item() == 5 / 10


def test_released_an_image_without_labels_is_left_out_of_the_mean_accuracy():
    images = [(image("0"), image("0")), (image("01"), image(".."))]
    assert released_gad_scores(images, 2)[:2] == (1, 1)


def test_released_without_images_the_accuracies_are_nan():
    released = released_gad_scores([], 2)
    assert released.pixel_accuracy.isnan()
    assert released.mean_accuracy.isnan()
    assert released.class_iou.tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_released_scores_agree_with_sets_of_pixels(seed):
    n_classes, images = 6, random_images(5, 6, seed)
    ious, accuracies, right, labelled = [[] for _ in range(n_classes)], [], 0, 0
    for prediction, target in images:
        where = [(v, u) for v in range(target.shape[0]) for u in range(target.shape[1])]
        recalls = []
        for c in range(n_classes):
            is_there = {p for p in where if target[p] == c}
            found = {p for p in where if prediction[p] == c}
            if is_there:
                recalls.append(len(is_there & found) / len(is_there))
                labelled += len(is_there)
                right += len(is_there & found)
                ious[c] += [len(is_there & found) / len(is_there | found)] if is_there & found else []
        accuracies.append(sum(recalls) / len(recalls))
    class_iou = [sum(iou) / len(iou) if iou else 0 for iou in ious]

    released = released_gad_scores(iter(images), n_classes)
    assert released.class_iou.tolist() == pytest.approx(class_iou, abs=1e-14)
    assert released.miou.item() == pytest.approx(sum(class_iou) / n_classes, abs=1e-14)
    assert released.mean_accuracy.item() == pytest.approx(sum(accuracies) / len(accuracies), abs=1e-14)
    assert released.pixel_accuracy.item() == right / labelled


def test_released_scores_want_one_image_at_a_time():
    """A batch scored as one image would be averaged wrongly, and nobody would see it."""
    batch = torch.zeros(2, 4, 4).int()
    with pytest.raises(ValueError, match=r"target must have shape \(\*, \*\), got \(2, 4, 4\)"):
        released_gad_counts(batch, batch, 3)
    with pytest.raises(ValueError, match="n_classes must be at least 1, got 0"):
        released_gad_scores([], 0)
