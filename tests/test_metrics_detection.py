"""Do boxes overlap as they do in space, and are they matched and scored as VoteNet's evaluation does it?"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection
from torch import Tensor

from pyproj2d3d.metrics import Verdicts, box_iou, detection_scores, match_boxes

CUBE = [0.0, 0, 0, 1, 1, 1, 0]


def iou(a, b, device=None, dtype=torch.float64) -> float:
    return box_iou(torch.tensor([a], device=device, dtype=dtype), torch.tensor([b], device=device, dtype=dtype)).item()


def boxes(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).view(-1, 7)


def along(*places: float) -> Tensor:
    """Cubes of 1 m at these places on the x axis; 0.1 m apart their IoU is 9/11, 0.5 m apart 1/3."""
    return boxes(*([x, 0, 0, 1, 1, 1, 0] for x in places))


def random_boxes(n: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    centre, size, heading = torch.rand(3, n, 3, generator=rng, dtype=torch.float64)
    return torch.cat((2 * centre, 0.3 + 1.5 * size, 10 * heading[:, :1] - 5), dim=1).to(dtype)


def test_cubes_half_a_side_apart_share_a_third(device, dtype):
    for shift in ([0.5, 0, 0], [0, -0.5, 0], [0, 0, 0.5]):
        assert iou(CUBE, [*shift, *CUBE[3:]], device, dtype) == pytest.approx(1 / 3, abs=1e-15)


def test_a_cube_turned_by_45_degrees_shares_an_octagon():
    octagon = 2 * (math.sqrt(2) - 1)
    assert iou(CUBE, [*CUBE[:6], math.pi / 4]) == pytest.approx(octagon / (2 - octagon), abs=1e-15)


def test_a_quarter_turn_exchanges_length_and_width():
    assert iou([1, 2, 3, 4, 1, 1, 0], [1, 2, 3, 1, 4, 1, math.pi / 2]) == pytest.approx(1, abs=1e-14)
    assert iou([1, 2, 3, 4, 1, 1, 0], [1, 2, 3, 4, 1, 1, math.pi / 2]) == pytest.approx(1 / 7, abs=1e-14)


def test_the_heading_is_counter_clockwise_from_x_seen_from_above():
    beam = [0, 0, 0, 10, 0.2, 1, math.pi / 4]
    assert iou(beam, [3, 3, 0, 0.5, 0.5, 1, 0]) > 0
    assert iou(beam, [3, -3, 0, 0.5, 0.5, 1, 0]) == 0


@pytest.mark.parametrize("turns", [-1, 0.5, 1, 7])
def test_half_turns_do_not_matter(turns):
    a, b = [0, 0, 0, 1, 2, 1, 0.3], [0.25, 0.5, 0.125, 1, 1, 2, 1.2]
    assert 0.1 < iou(a, b) < 0.5
    assert iou([*a[:6], a[6] + turns * 2 * math.pi], b) == pytest.approx(iou(a, b), abs=1e-13)


def test_a_box_inside_another_shares_its_own_volume():
    assert iou([0, 0, 0, 4, 4, 4, 0.3], [0.5, 0.2, -0.1, 1, 2, 1, 1.1]) == pytest.approx(2 / 64, abs=1e-15)


@pytest.mark.parametrize(
    "other", [[0, 0, 2, 1, 1, 1, 0.3], [0, 0, 1, 1, 1, 1, 0], [1, 0, 0, 1, 1, 1, 0], [3, 3, 0, 1, 1, 1, 1]]
)
def test_boxes_above_beside_and_touching_share_nothing(other):
    assert iou(CUBE, other) == 0


@pytest.mark.parametrize("heading", [0, 1e-300, 1e-17, 1e-9, 0.1, 0.5, math.pi / 4, 1, math.pi / 2, 3, 100])
@pytest.mark.parametrize("size", [[1, 1, 1], [8, 1e-3, 1e-3], [0.3, 2.5, 1]])
def test_a_box_is_wholly_itself(heading, size):
    box = [12.3, -4.5, 6.7, *size, heading]
    assert iou(box, box) == pytest.approx(1, abs=1e-12)
    assert iou(box, [*box[:6], heading + 1e-12]) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("size", [[0, 1, 1], [1, 1, 0], [-1, 1, 1], [1, -1, 1], [1, 1, -1], [-1, -1, 1]])
def test_a_box_with_a_size_that_is_not_positive_is_empty(size):
    empty = [0, 0, 0, *size, 0.4]
    assert iou(empty, CUBE) == iou(CUBE, empty) == iou(empty, empty) == 0


def test_boxes_far_from_the_origin_overlap_as_they_do_near_it():
    a, b = [0, 0, 0, 1, 2, 1, 0.3], [0.25, 0.5, 0.125, 1, 1, 2, 1.2]
    far_a, far_b = [1e6, -1e6, 1e6, *a[3:]], [1e6 + 0.25, 0.5 - 1e6, 1e6 + 0.125, *b[3:]]
    assert iou(far_a, far_b) == iou(a, b)


def test_every_pair_has_its_place(device, dtype):
    a, b = random_boxes(3, 0, dtype).to(device), random_boxes(4, 1, dtype).to(device)
    ious = box_iou(a, b)
    assert ious.shape == (3, 4)
    assert ious.dtype == torch.float64
    assert ious[2, 1] == box_iou(a[2:], b[1:2])
    torch.testing.assert_close(ious, box_iou(b, a).T, rtol=0, atol=1e-13)
    assert box_iou(a[:0], b).shape == (0, 4)
    assert box_iou(a, b[:0]).shape == (3, 0)


def clipped(polygon: list[complex], begin: complex, end: complex) -> list[complex]:
    """What lies to the left of a line, by Sutherland and Hodgman."""
    out = []
    for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        p_side, q_side = (((end - begin).conjugate() * (z - begin)).imag for z in (p, q))
        out += [p] if p_side >= 0 else []
        out += [p + (q - p) * p_side / (p_side - q_side)] if p_side * q_side < 0 else []
    return out


def footprint(box: list[float]) -> list[complex]:
    x, y, _, length, width, _, heading = box
    turn = complex(math.cos(heading), math.sin(heading))
    return [
        complex(x, y) + turn * complex(i * length / 2, j * width / 2) for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))
    ]


def iou_by_clipping(a: list[float], b: list[float]) -> float:
    polygon, around = footprint(a), footprint(b)
    for begin, end in zip(around, around[1:] + around[:1], strict=True):
        polygon = clipped(polygon, begin, end)
    area = sum((p.conjugate() * q).imag for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True)) / 2
    shared = area * max(0, min(a[2] + a[5] / 2, b[2] + b[5] / 2) - max(a[2] - a[5] / 2, b[2] - b[5] / 2))
    return shared / (a[3] * a[4] * a[5] + b[3] * b[4] * b[5] - shared)


def test_iou_agrees_with_clipping_one_polygon_by_the_other():
    a, b = random_boxes(40, 0), random_boxes(40, 1)
    expected = torch.tensor([[iou_by_clipping(x, y) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)
    assert 100 < (expected > 0).sum() < expected.numel()
    torch.testing.assert_close(box_iou(a, b), expected, rtol=0, atol=1e-13)


def half_spaces(box: list[float]) -> np.ndarray:
    """(6, 4): those whose intersection the box is, n x + d <= 0."""
    centre, half, heading = np.array(box[:3]), np.array(box[3:6]) / 2, box[6]
    axes = np.array([[math.cos(heading), math.sin(heading), 0], [-math.sin(heading), math.cos(heading), 0], [0, 0, 1]])
    normals = np.concatenate((axes, -axes))
    return np.column_stack((normals, -normals @ centre - np.tile(half, 2)))


@pytest.mark.parametrize("seed", range(3))
def test_iou_agrees_with_the_intersection_of_half_spaces(seed):
    """Qhull, of bodies in space: it knows nothing of an up axis."""
    pairs = 0
    for a, b in zip(random_boxes(12, seed).tolist(), random_boxes(12, seed + 10).tolist(), strict=True):
        spaces = np.concatenate((half_spaces(a), half_spaces(b)))
        room = linprog([0, 0, 0, -1], np.column_stack((spaces[:, :3], np.ones(12))), -spaces[:, 3], bounds=(None, None))
        if room.x[3] < 1e-3:  # the radius of the largest ball in both
            assert iou(a, b) < 0.01
            continue
        shared = ConvexHull(HalfspaceIntersection(spaces, room.x[:3]).intersections).volume
        expected = shared / (np.prod(a[3:6]) + np.prod(b[3:6]) - shared)
        assert iou(a, b) == pytest.approx(expected, abs=1e-9)
        pairs += 1
    assert pairs >= 5


def scene(at, scores, targets_at, labels=None, target_labels=None, n_classes=1, device=None) -> Verdicts:
    """Cubes on the x axis, predicted and true; all of class 0 unless said otherwise."""
    labels, target_labels = labels or len(at) * [0], target_labels or len(targets_at) * [0]
    found = along(*at), torch.tensor(labels).long(), torch.tensor(scores, dtype=torch.float64)
    true = along(*targets_at), torch.tensor(target_labels).long()
    return match_boxes(*(t.to(device) for t in (*found, *true)), n_classes)


def right_at(verdicts: Verdicts, threshold: float) -> dict[float, bool]:
    """Which scores are right."""
    rows = verdicts.rows[verdicts.rows[:, 1] == (0.25, 0.5).index(threshold)]
    return {score: bool(right) for _, _, score, right in rows.tolist()}


def test_what_is_found_exactly_scores_one(device):
    scores = detection_scores([scene([0, 5], [0.9, 0.4], [0, 5], [0, 1], [0, 1], n_classes=2, device=device)])
    assert scores.map25 == scores.map50 == 1
    assert scores.class_ap25.tolist() == scores.class_recall50.tolist() == [1, 1]
    assert scores.map25.device.type == device.type


def test_a_third_is_enough_at_a_quarter_and_not_at_a_half():
    scores = detection_scores([scene([0.5], [0.9], [0])])
    assert (scores.map25, scores.map50) == (1, 0)
    assert (scores.class_recall25[0], scores.class_recall50[0]) == (1, 0)


@pytest.mark.parametrize("height", [0.25, 0.5])
def test_iou_must_be_above_the_threshold(height):
    """The lower part of a cube has exactly this IoU with it."""
    part, zero = boxes([0, 0, (height - 1) / 2, 1, 1, height, 0]), torch.tensor([0])
    assert box_iou(part, boxes(CUBE)).item() == height
    verdicts = match_boxes(part, zero, torch.tensor([0.5]), boxes(CUBE), zero, 1)
    assert right_at(verdicts, height) == {0.5: False}
    assert right_at(verdicts, 0.25) == {0.5: height > 0.25}


def test_the_second_prediction_of_an_object_is_wrong():
    assert right_at(scene([0, 0.1], [0.3, 0.8], [0]), 0.5) == {0.8: True, 0.3: False}


def test_of_equal_scores_the_lower_index_is_right():
    assert scene([0, 0], [0.5, 0.5], [0]).rows[:, 3].tolist() == [1, 0, 1, 0]


def test_a_prediction_has_no_second_choice():
    """The second is nearer to the first object, which is taken; it would be enough for the second object too."""
    assert right_at(scene([0, 0.45], [0.9, 0.8], [0, 1]), 0.25) == {0.9: True, 0.8: False}
    assert right_at(scene([0, 0.45], [0.9, 0.8], [1]), 0.25) == {0.9: False, 0.8: True}


def test_an_object_is_not_found_under_another_class():
    scores = detection_scores([scene([0], [0.9], [0], labels=[1], n_classes=2)])
    assert scores.class_ap25[0] == 0
    assert scores.class_ap25[1].isnan()


def test_a_prediction_finds_nothing_in_another_scene():
    scenes = [scene([0], [0.9], [5]), scene([5], [0.8], [5])]
    scores = detection_scores(scenes)
    assert scores.class_recall25[0] == 1 / 2
    assert scores.class_ap25[0] == 1 / 4, "wrong first, then right: precision 1/2 up to recall 1/2"


def test_a_wrong_prediction_with_the_highest_score_halves_the_area():
    assert detection_scores([scene([9, 0], [0.9, 0.8], [0])]).map25 == 1 / 2


def test_precision_is_the_highest_at_that_recall_or_above():
    """Right, wrong, wrong, right, right of three: 1 up to 1/3, then 3/5, though it is 2/4 at 2/3."""
    verdicts = scene([0, 9, 9, 3, 6], [0.9, 0.8, 0.7, 0.6, 0.5], [0, 3, 6])
    assert detection_scores([verdicts]).map25.item() == pytest.approx(1 / 3 + 2 / 3 * 3 / 5, abs=1e-15)


def test_what_is_never_found_adds_nothing():
    scores = detection_scores([scene([0], [0.9], [0, 3, 6, 9])])
    assert scores.map25 == scores.class_recall25[0] == 1 / 4


def test_a_class_without_objects_is_nan_and_left_out_of_the_means():
    scores = detection_scores([scene([0, 5], [0.9, 0.8], [0], [0, 2], [0], n_classes=3)])
    assert scores.class_ap25.tolist() == pytest.approx([1, math.nan, math.nan], nan_ok=True)
    assert scores.class_recall25.tolist() == pytest.approx([1, math.nan, math.nan], nan_ok=True)
    assert scores.map25 == scores.map50 == 1


def test_a_class_with_objects_and_no_prediction_is_zero():
    scores = detection_scores([scene([0], [0.9], [0, 5], [0], [0, 1], n_classes=2)])
    assert scores.class_ap25.tolist() == scores.class_recall25.tolist() == [1, 0]
    assert scores.map25 == 1 / 2


@pytest.mark.parametrize(("at", "targets_at"), [([], []), ([], [0]), ([0], [])])
def test_a_scene_without_predictions_or_objects_is_scored(at, targets_at, device):
    scores = detection_scores([scene(at, len(at) * [0.5], targets_at, device=device)])
    assert scores.class_ap25[0].isnan() if not targets_at else scores.class_ap25[0] == 0


def test_equal_scores_are_the_least_that_any_order_of_them_gives():
    at, targets_at = [0, 9, 3, 9.5, 6], [0, 3, 6, 12]
    tied = detection_scores([scene(at, [0.9, 0.5, 0.5, 0.5, 0.5], targets_at)])
    every_order = [
        detection_scores([scene(at, [0.9, *(0.5 + k / 100 for k in order)], targets_at)]).map25.item()
        for order in itertools.permutations(range(4))
    ]
    assert tied.map25.item() == min(every_order) < max(every_order)


def random_scene(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Boxes of three classes; most predictions are true ones moved a little."""
    n_true, n_found = int(rng.integers(0, 6)), int(rng.integers(0, 15))
    lowest, highest = [-1.5] * 3 + [0.3] * 3 + [-4], [1.5] * 3 + [2] * 3 + [4]
    true, found = (rng.uniform(lowest, highest, (n, 7)) for n in (n_true, n_found))
    true_labels, labels = rng.integers(0, 3, n_true), rng.integers(0, 3, n_found)
    for p in range(n_found):
        if n_true and rng.random() < 0.8:
            g = rng.integers(n_true)
            found[p], labels[p] = true[g] + rng.normal(0, rng.choice([0.02, 0.1]), 7), true_labels[g]
    return found, labels, rng.permutation(n_found) / 100 + rng.random() / 1000, true, true_labels


def average_precision(scenes, label: int, threshold: float) -> float:
    """Box by box from the highest score down, over all scenes."""
    objects = {(s, g) for s, (*_, of) in enumerate(scenes) for g in range(len(of)) if of[g] == label}
    ranked = sorted(
        (-scores[p], s, p) for s, (_, of, scores, *_) in enumerate(scenes) for p in range(len(of)) if of[p] == label
    )
    if not objects:
        return math.nan
    left, curve = set(objects), []
    for i, (_, s, p) in enumerate(ranked):
        found, _, _, true, _ = scenes[s]
        ious = {g: iou_by_clipping(found[p].tolist(), true[g].tolist()) for of, g in objects if of == s}
        best = max(ious, key=ious.__getitem__, default=None)
        if best is not None and ious[best] > threshold:
            left -= {(s, best)}
        curve.append(((len(objects) - len(left)) / len(objects), (len(objects) - len(left)) / (i + 1)))
    area, reached = 0.0, 0.0
    for r in sorted({recall for recall, _ in curve}):
        area += (r - reached) * max(precision for recall, precision in curve if recall >= r)
        reached = r
    return area


@pytest.mark.parametrize("seed", range(10))
def test_scores_agree_with_going_from_box_to_box(seed):
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng) for _ in range(4)]
    scores = detection_scores([match_boxes(*map(torch.from_numpy, s), 3) for s in scenes])
    for ours, threshold in ((scores.class_ap25, 0.25), (scores.class_ap50, 0.5)):
        expected = [average_precision(scenes, c, threshold) for c in range(3)]
        assert ours.tolist() == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_the_order_of_scenes_does_not_matter():
    rng = np.random.default_rng(0)
    verdicts = [match_boxes(*map(torch.from_numpy, random_scene(rng)), 3) for _ in range(6)]
    assert torch.equal(detection_scores(verdicts).class_ap25, detection_scores(verdicts[::-1]).class_ap25)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"boxes": torch.zeros(2, 6)}, ValueError, r"boxes must have shape \(\*, 7\), got \(2, 6\)"),
        ({"boxes": torch.zeros(2, 7).int()}, TypeError, "boxes must be floating, got int32"),
        ({"boxes": torch.full((2, 7), math.inf)}, ValueError, "boxes must be finite, got inf"),
        ({"labels": torch.tensor([0])}, ValueError, r"labels must have shape \(2\), got \(1,\)"),
        ({"labels": torch.tensor([0, 3])}, ValueError, "labels must be from 0 to 2, got 3"),
        ({"labels": torch.zeros(2)}, TypeError, "labels must be integers, got float32"),
        ({"scores": torch.tensor([0.5, math.nan])}, ValueError, "scores must be finite, got nan"),
        ({"target_boxes": torch.zeros(7)}, ValueError, r"target_boxes must have shape \(\*, 7\), got \(7,\)"),
        (
            {"target_boxes": torch.zeros(1, 7, device="meta")},
            ValueError,
            "target_boxes must be on cpu like boxes, got meta",
        ),
        ({"target_labels": torch.tensor([-1])}, ValueError, "target_labels must be from 0 to 2, got -1"),
        ({"target_labels": torch.tensor([True])}, TypeError, "target_labels must be integers, got bool"),
        ({"n_classes": 0}, ValueError, "n_classes must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_matched_is_named(changed, error, message):
    arguments = {
        "boxes": torch.ones(2, 7),
        "labels": torch.tensor([0, 1]),
        "scores": torch.tensor([0.5, 0.4]),
        "target_boxes": torch.ones(1, 7),
        "target_labels": torch.tensor([0]),
        "n_classes": 3,
    }
    with pytest.raises(error, match=message):
        match_boxes(**arguments | changed)


def test_what_has_no_iou_is_named():
    with pytest.raises(TypeError, match="a must be a tensor, got list"):
        box_iou([CUBE], boxes(CUBE))
    with pytest.raises(ValueError, match=r"b must have shape \(\*, 7\), got \(1, 6\)"):
        box_iou(boxes(CUBE), boxes(CUBE)[:, :6])


def test_no_scene_is_an_error():
    with pytest.raises(ValueError, match="verdicts must be of at least one scene, got none"):
        detection_scores([])
