"""Are instances matched and scored as ScanNet's evaluation does it?"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyproj2d3d.metrics import InstanceScores, instance_scores, match_instances

THRESHOLDS = [k / 100 for k in (50, 55, 60, 65, 70, 75, 80, 85, 90, 25)]
WALL, CHAIR, TABLE = 0, 1, 2
SCORED = (CHAIR, TABLE)


def targets(points: str, **label_of: int) -> tuple[Tensor, Tensor]:
    """Labels and instances of points in a row: a letter is an instance, of the label said, a dot is none."""
    labels = torch.tensor([label_of.get(c, -1) for c in points], dtype=torch.int64)
    return labels, torch.tensor([-1 if c == "." else ord(c) for c in points], dtype=torch.int64)


def predictions(*rows: tuple[str, int, float]) -> tuple[Tensor, Tensor, Tensor]:
    """Masks, labels and scores, of rows such as ("##..", CHAIR, 0.9)."""
    masks = torch.tensor([[c == "#" for c in row[0]] for row in rows])
    return masks, torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows])


def scored(*scenes, classes=SCORED, min_region: int = 1, device=None) -> InstanceScores:
    """Of pairs of predictions and targets."""
    return instance_scores(
        [match_instances(*(t.to(device) for t in (*p, *t)), classes, min_region=min_region) for p, t in scenes]
    )


def chairs(points: str, **label_of: int) -> tuple[Tensor, Tensor]:
    """Every instance is a chair unless said otherwise."""
    return targets(points, **dict.fromkeys(set(points) - {"."}, CHAIR) | label_of)


def test_what_is_found_exactly_scores_one(device):
    found = predictions(("####......", CHAIR, 0.9), ("......####", TABLE, 0.3))
    scores = scored((found, targets("aaaa..bbbb", a=CHAIR, b=TABLE)), device=device)
    assert scores.ap == scores.ap50 == scores.ap25 == 1
    assert scores.class_ap.tolist() == scores.class_ap50.tolist() == scores.class_ap25.tolist() == [1, 1]
    assert scores.ap.device.type == device.type


def test_nine_thresholds_from_50_to_90_and_iou_must_be_above_them():
    """6 of 8 points: 0.75 is above 0.5, 0.55, 0.6, 0.65 and 0.7."""
    scores = scored((predictions(("######..", CHAIR, 0.5)), chairs("aaaaaaaa")))
    assert scores.class_ap[0].item() == pytest.approx(5 / 9, abs=1e-15)
    assert scores.class_ap50[0] == scores.class_ap25[0] == 1


def test_half_is_not_above_half():
    scores = scored((predictions(("#####.....", CHAIR, 0.5)), chairs("aaaaaaaaaa")))
    assert (scores.class_ap[0], scores.class_ap50[0], scores.class_ap25[0]) == (0, 0, 1)


def test_a_quarter_is_not_above_a_quarter():
    assert scored((predictions(("##......", CHAIR, 0.5)), chairs("aaaaaaaa"))).class_ap25[0] == 0


def test_points_predicted_beyond_the_object_are_in_the_union():
    """6 of 6 points and 4 more: 0.6, above 0.5 and 0.55."""
    scores = scored((predictions(("##########", CHAIR, 0.5)), chairs("aaaaaa....")))
    assert scores.class_ap[0].item() == pytest.approx(2 / 9, abs=1e-15)


def test_an_object_not_found_costs_its_recall():
    assert scored((predictions(("####....", CHAIR, 0.5)), chairs("aaaabbbb"))).class_ap[0] == 1 / 2


def test_the_second_prediction_of_an_object_is_wrong():
    """Precision and recall: 1, 1/2; then 1/2, 1/2; then 2/3, 1. The area: 1/2 and 1/2 of the mean of 1/2 and 2/3."""
    found = predictions(("####....", CHAIR, 0.9), ("####....", CHAIR, 0.8), ("....####", CHAIR, 0.7))
    expected = pytest.approx(1 / 2 + 1 / 2 * (1 / 2 + 2 / 3) / 2, abs=1e-15)
    assert scored((found, chairs("aaaabbbb"))).class_ap[0].item() == expected


def test_of_two_predictions_of_an_object_the_one_with_the_higher_score_is_right_in_either_order():
    rows = ("####...", CHAIR, 0.2), ("####...", CHAIR, 0.9)
    for order in (rows, rows[::-1]):
        verdicts = match_instances(*predictions(*order), *chairs("aaaa..."), SCORED, min_region=1)
        half = verdicts.rows[verdicts.rows[:, 1] == 0]
        assert {(round(score, 3), right) for _, _, score, right in half.tolist()} == {(0.9, 1), (0.2, 0)}


def test_a_wrong_prediction_with_the_highest_score_costs_three_quarters():
    """From precision 1 at recall 0 down to 0 at 0, then to 1/2 at 1."""
    found = predictions(("....####", CHAIR, 0.9), ("####....", CHAIR, 0.8))
    assert scored((found, targets("aaaabbbb", a=CHAIR, b=TABLE))).class_ap50[0] == 1 / 4


def test_predictions_of_equal_score_are_one_point_of_the_curve():
    """One right and one wrong together: straight from precision 1 at recall 0 to 1/2 at 1."""
    found = predictions(("....####", CHAIR, 0.8), ("####....", CHAIR, 0.8))
    assert scored((found, targets("aaaabbbb", a=CHAIR, b=TABLE))).class_ap50[0] == 3 / 4


def test_an_object_is_not_found_under_another_label():
    scores = scored((predictions(("####", TABLE, 0.9)), chairs("aaaa")))
    assert scores.class_ap50[0] == 0
    assert scores.class_ap50[1].isnan(), "there is no table"


def test_one_instance_of_two_labels_is_two_objects():
    found = predictions(("####....", CHAIR, 0.9), ("....####", TABLE, 0.9))
    labels = torch.tensor(4 * [CHAIR] + 4 * [TABLE])
    assert scored((found, (labels, torch.full((8,), 7)))).class_ap.tolist() == [1, 1]


@pytest.mark.parametrize(
    "void", [targets("aaaa....bbbbbb", a=CHAIR, b=TABLE), targets("aaaawwwwbbbbbb", a=1, w=0, b=2)]
)
def test_a_wrong_prediction_is_ignored_where_more_of_it_than_the_threshold_is_void(void):
    """4 of its 10 points have no label, or are wall, which is not scored: wrong at 0.5, ignored at 0.25."""
    found = predictions(("....##########", CHAIR, 0.9), ("####..........", CHAIR, 0.8))
    scores = scored((found, void))
    assert scores.class_ap50[0] == 1 / 4
    assert scores.class_ap25[0] == 1


def test_exactly_the_threshold_on_void_is_not_ignored():
    found = predictions(("....########", CHAIR, 0.9), ("####........", CHAIR, 0.8))
    assert scored((found, targets("aaaa....bbbb", a=CHAIR, b=TABLE))).class_ap50[0] == 1 / 4


def test_a_label_without_an_instance_is_void():
    labels, instances = targets("aaaabbbb", a=CHAIR, b=CHAIR)
    instances[4:] = -1
    for found in (("####....", CHAIR, 0.8),), (("####....", CHAIR, 0.8), ("....####", CHAIR, 0.9)):
        verdicts = match_instances(*predictions(*found), labels, instances, SCORED, min_region=1)
        assert verdicts.targets.tolist() == [1, 0]
        assert verdicts.rows[:, 2:].unique(dim=0).tolist() == [[pytest.approx(0.8), 1]]


def test_too_small_an_object_need_not_be_found_and_may_be():
    small = chairs("aaaaaabbb...")
    right = ("######......", CHAIR, 0.5)
    for exact in ("......###...", "......####.."):
        assert scored((predictions(right, (exact, CHAIR, 0.9)), small), min_region=4).class_ap[0] == 1
    assert scored((predictions(right), small), min_region=4).class_ap[0] == 1
    assert scored((predictions(right), small), min_region=3).class_ap[0] == 1 / 2


def test_a_prediction_mostly_on_too_small_an_object_is_ignored():
    """Half of it, b and not c, is no more than the threshold of 0.5; with the point of void beyond c it is."""
    scene, right = targets("aaaaaabbbccc.", a=CHAIR, b=CHAIR, c=TABLE), ("######.......", CHAIR, 0.5)
    for wrong, expected in (("......######.", 1 / 4), ("......#######", 1)):
        found = predictions((wrong, CHAIR, 0.9), right)
        assert scored((found, scene), min_region=4).class_ap50[0] == expected


def test_too_small_a_prediction_does_not_count():
    found = predictions(("......##", CHAIR, 0.9), ("####....", CHAIR, 0.8))
    scene = targets("aaaabbbb", a=CHAIR, b=TABLE)
    assert scored((found, scene), min_region=3).class_ap50[0] == 1
    assert scored((found, scene), min_region=2).class_ap50[0] == 1 / 4


def test_a_hundred_points_are_enough_and_99_are_not():
    points = torch.arange(199)
    labels, instances = torch.full((199,), CHAIR), (points >= 100).long()
    masks = torch.stack((points < 100, points >= 100))
    verdicts = match_instances(masks, torch.tensor([CHAIR, CHAIR]), torch.tensor([0.9, 0.8]), labels, instances, SCORED)
    assert verdicts.targets.tolist() == [1, 0]
    assert verdicts.rows[:, 2].unique().tolist() == [pytest.approx(0.9)]


def test_at_a_quarter_one_prediction_finds_one_of_two_objects():
    """It covers both, each with an IoU of 1/2."""
    verdicts = match_instances(*predictions(("########", CHAIR, 0.9)), *chairs("aaaabbbb"), SCORED, min_region=1)
    assert verdicts.rows.tolist() == [
        *([0, t, pytest.approx(0.9), 0] for t in range(9)),
        [0, 9, pytest.approx(0.9), 1],
    ]


def test_at_a_quarter_the_second_finder_of_an_object_may_still_find_the_next():
    """As ScanNet's script has it: wrong at a, where the first came before it, and right at b."""
    found = predictions(("####....", CHAIR, 0.9), ("########", CHAIR, 0.8))
    verdicts = match_instances(*found, *chairs("aaaabbbb"), SCORED, min_region=1)
    quarter = verdicts.rows[verdicts.rows[:, 1] == 9]
    assert sorted((round(score, 3), right) for _, _, score, right in quarter.tolist()) == [(0.8, 0), (0.8, 1), (0.9, 1)]


def test_a_class_without_objects_is_nan_and_left_out_of_the_means():
    scores = scored((predictions(("####..", CHAIR, 0.9), ("..####", TABLE, 0.9)), chairs("aaaa..")))
    assert scores.class_ap.tolist() == pytest.approx([1, math.nan], nan_ok=True)
    assert scores.ap == scores.ap50 == scores.ap25 == 1


def test_a_class_with_objects_and_no_prediction_is_zero():
    scores = scored((predictions(("####....", CHAIR, 0.9)), targets("aaaabbbb", a=CHAIR, b=TABLE)))
    assert scores.class_ap.tolist() == [1, 0]
    assert scores.ap == 1 / 2


def test_a_class_whose_predictions_are_all_ignored_is_zero():
    assert scored((predictions(("....####", CHAIR, 0.9)), chairs("aaaa...."))).class_ap.tolist()[0] == 0


def test_a_prediction_of_a_label_that_is_not_scored_does_not_count():
    scene = targets("aaaawwww", a=CHAIR, w=WALL)
    scores = scored((predictions(("....####", WALL, 0.9), ("####....", CHAIR, 0.8)), scene))
    assert scores.class_ap.tolist()[0] == 1


def test_classes_come_in_the_order_asked_for():
    scene = predictions(("####....", CHAIR, 0.9)), targets("aaaabbbb", a=CHAIR, b=TABLE)
    assert scored(scene, classes=(TABLE, CHAIR)).class_ap.tolist() == [0, 1]


def test_a_prediction_finds_nothing_in_another_scene():
    """Right in the one, in the other on a table: one of two chairs found, and as many wrong before it."""
    first = predictions(("####", CHAIR, 0.5)), chairs("aaaa")
    second = predictions(("####", CHAIR, 0.9)), targets("aaaa", a=TABLE)
    assert scored(first, second).class_ap50[0] == 1 / 4


@pytest.mark.parametrize("n_points", [0, 8])
def test_a_scene_without_predictions_or_points_is_scored(n_points, device):
    nothing = torch.zeros(0, n_points, dtype=torch.bool), torch.zeros(0).long(), torch.zeros(0)
    scores = scored((nothing, chairs(n_points * "a")), device=device)
    assert scores.class_ap[0].isnan() if n_points == 0 else scores.class_ap[0] == 0


def test_predictions_without_points_do_not_count():
    assert scored((predictions(("....", CHAIR, 0.9), ("####", CHAIR, 0.8)), chairs("aaaa"))).class_ap[0] == 1


def test_memory_layout_does_not_matter():
    masks, labels, scores = predictions(("####....", CHAIR, 0.9), ("....####", TABLE, 0.8))
    scene = targets("aaaabbbb", a=CHAIR, b=TABLE)
    doubled = (torch.stack((t, t), dim=-1)[..., 0] for t in (masks, labels, scores, *scene))
    assert match_instances(*doubled, SCORED).rows.equal(match_instances(masks, labels, scores, *scene, SCORED).rows)


def random_scene(rng: np.random.Generator) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Objects that are runs of points, and predictions of one or two of them with some points wrong."""
    n = int(rng.integers(30, 150))
    instance = np.searchsorted(np.sort(rng.integers(0, n, rng.integers(2, 8))), np.arange(n))
    label_of = rng.integers(-1, 3, n)
    masks, labels = [np.zeros((0, n), bool)], []
    for _ in range(rng.integers(0, 12)):
        k = rng.choice(instance)
        mask = (instance == k) | ((instance == k + 1) & (rng.random() < 0.4))
        masks.append((mask ^ (rng.random(n) < rng.choice([0, 0.05, 0.3])))[None])
        labels.append(label_of[k] if rng.random() < 0.8 else rng.integers(0, 3))
    scores = rng.choice([*rng.random(4), 0.5], len(labels))
    found = np.concatenate(masks), np.array(labels, dtype=np.int64), scores
    return tuple(map(torch.from_numpy, found)), tuple(map(torch.from_numpy, (label_of[instance], instance)))


def average_precision(scenes, label: int, threshold: float, min_region: int) -> float:
    """Of the objects as sets of points, with the steps of recall that ScanNet's script convolves."""
    rows, n_targets = [], 0
    for (masks, labels, scores), (target_labels, instances) in scenes:
        objects: dict[int, set[int]] = {}
        for i, (of, instance) in enumerate(zip(target_labels.tolist(), instances.tolist(), strict=True)):
            if of == label and instance >= 0:
                objects.setdefault(instance, set()).add(i)
        void = {i for i, of in enumerate(target_labels.tolist()) if of not in SCORED}
        found = [
            (set(np.flatnonzero(mask).tolist()), score)
            for mask, of, score in zip(masks.numpy(), labels.tolist(), scores.tolist(), strict=True)
            if of == label and mask.sum() >= min_region
        ]
        used = [False] * len(found)
        finds_any = [False] * len(found)
        for _, points in sorted(objects.items()):
            best = None
            for p, (mask, score) in enumerate(found):
                if len(mask & points) / len(mask | points) > threshold:
                    finds_any[p] = True
                    if used[p] or len(points) < min_region:
                        continue
                    if best is None:
                        best, used[p] = score, True
                    else:
                        rows.append((min(best, score), 0))
                        best = max(best, score)
            n_targets += len(points) >= min_region
            rows += [(best, 1)] if best is not None else []
        ignorable = void.union(*(points for points in objects.values() if len(points) < min_region))
        for finds, (mask, score) in zip(finds_any, found, strict=True):
            if not finds and len(mask & ignorable) / len(mask) <= threshold:
                rows.append((score, 0))
    if not n_targets:
        return math.nan
    precision, recall = [], []
    for limit in sorted({score for score, _ in rows}):
        kept = [right for score, right in rows if score >= limit]
        precision.append(sum(kept) / len(kept))
        recall.append(sum(kept) / n_targets)
    recall = [*recall[:1], *recall, 0, 0] if recall else [0, 0, 0]
    return float(np.dot([*precision, 1], np.convolve(recall, [-0.5, 0, 0.5], "valid")))


@pytest.mark.parametrize("seed", range(20))
def test_scores_agree_with_sets_of_points(seed):
    rng = np.random.default_rng(seed)
    scenes, min_region = [random_scene(rng) for _ in range(3)], int(rng.integers(1, 10))
    scores = scored(*scenes, min_region=min_region)
    expected = np.array([[average_precision(scenes, c, t, min_region) for t in THRESHOLDS] for c in SCORED])
    assert scores.class_ap.tolist() == pytest.approx(expected[:, :9].mean(axis=1).tolist(), nan_ok=True, abs=1e-12)
    assert scores.class_ap50.tolist() == pytest.approx(expected[:, 0].tolist(), nan_ok=True, abs=1e-12)
    assert scores.class_ap25.tolist() == pytest.approx(expected[:, 9].tolist(), nan_ok=True, abs=1e-12)


def test_the_order_of_scenes_does_not_matter():
    scenes = [random_scene(np.random.default_rng(seed)) for seed in range(6)]
    assert torch.equal(scored(*scenes).class_ap, scored(*scenes[::-1]).class_ap)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"masks": torch.zeros(2, 4)}, TypeError, "masks must be bool, got float32"),
        ({"masks": torch.zeros(4).bool()}, ValueError, r"masks must have shape \(\*, \*\), got \(4,\)"),
        ({"labels": torch.zeros(3).long()}, ValueError, r"labels must have shape \(2\), got \(3,\)"),
        ({"labels": torch.zeros(2)}, TypeError, "labels must be integers, got float32"),
        ({"scores": torch.zeros(2).long()}, TypeError, "scores must be floating, got int64"),
        ({"scores": torch.tensor([0.5, math.nan])}, ValueError, "scores must be finite, got nan"),
        ({"scores": [0.5, 0.4]}, TypeError, "scores must be a tensor, got list"),
        ({"target_labels": torch.zeros(5).long()}, ValueError, r"target_labels must have shape \(4\), got \(5,\)"),
        ({"target_instances": torch.zeros(4)}, TypeError, "target_instances must be integers, got float32"),
        ({"target_labels": torch.zeros(4, device="meta").int()}, ValueError, "target_labels must be on cpu like masks"),
        ({"classes": []}, ValueError, r"classes must be at least one label, each once, got \[\]"),
        ({"classes": [1, 1]}, ValueError, r"classes must be at least one label, each once, got \[1, 1\]"),
        ({"classes": [-1]}, ValueError, "a label of classes must be at least 0, got -1"),
        ({"classes": [0.5]}, TypeError, "a label of classes must be an integer, got 0.5"),
        ({"min_region": 0}, ValueError, "min_region must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_matched_is_named(changed, error, message):
    arguments = {
        "masks": torch.zeros(2, 4, dtype=torch.bool),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.5, 0.4]),
        "target_labels": torch.zeros(4).long(),
        "target_instances": torch.zeros(4).long(),
        "classes": SCORED,
    }
    with pytest.raises(error, match=message):
        match_instances(**arguments | changed)


def test_no_scene_is_an_error():
    with pytest.raises(ValueError, match="verdicts must be of at least one scene, got none"):
        instance_scores([])
