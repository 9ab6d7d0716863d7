"""Do numbers mean the right boxes, do points vote where they should, and is the loss VoteNet's?"""

import math
from typing import NamedTuple

import pytest
import torch
from scenes import assert_same_bits
from torch import Tensor

from pyproj2d3d.losses.votenet import nearest, votenet_loss
from pyproj2d3d.losses.votenet_boxes import BoxCoder, detections, mean_sizes, points_inside
from pyproj2d3d.losses.votenet_targets import PackedBoxes, boxes_of_instances, vote_targets, votes_in_boxes
from pyproj2d3d.metrics import detection_scores, match_boxes

SIZES = torch.tensor([[1.0, 2.0, 0.5], [0.4, 0.4, 1.0], [2.0, 1.0, 1.0]], dtype=torch.float64)
PARTS = ("vote", "objectness", "center", "heading_class", "heading_residual", "size_class", "size_residual", "label")


class Said(NamedTuple):
    seed_xyz: Tensor
    vote_xyz: Tensor
    ptr: Tensor
    xyz: Tensor
    numbers: Tensor


def coder(n_headings: int = 12, dtype: torch.dtype = torch.float64, device="cpu") -> BoxCoder:
    return BoxCoder(SIZES.to(device, dtype), n_headings)


def rows(*values, dtype=torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def offsets(*counts: int) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


def some_boxes(n: int, seed: int = 0, turned: bool = True) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    place, size, turn = torch.rand(3, n, 3, generator=rng, dtype=torch.float64)
    label = torch.randint(3, (n,), generator=rng)
    heading = 20 * turn[:, :1] - 10 if turned else torch.zeros(n, 1, dtype=torch.float64)
    return torch.cat((4 * place, SIZES[label] * (0.5 + size), heading), dim=1), label


def numbers_of(code: BoxCoder, box: Tensor, label: Tensor, xyz: Tensor, sure: float = 50.0) -> Tensor:
    """What a network says that knows these boxes, as the module's table has it."""
    h, c, row = code.n_headings, code.n_classes, torch.arange(len(box))
    want = code.encode(box, label)
    numbers = torch.zeros(len(box), code.n_numbers, dtype=box.dtype)
    numbers[:, 1] = sure
    numbers[:, 2:5] = box[:, :3] - xyz
    numbers[row, 5 + want.heading] = sure
    numbers[row, 5 + h + want.heading] = want.heading_residual
    numbers[row, 5 + 2 * h + label] = sure
    for axis in range(3):
        numbers[row, 5 + 2 * h + c + 3 * label + axis] = want.size_residual[:, axis]
    numbers[row, 5 + 2 * h + 4 * c + label] = sure
    return numbers


def of_proposals(xyz: Tensor, numbers: Tensor, *counts: int) -> Said:
    """Whose seeds and votes do not matter."""
    return Said(xyz.new_zeros(0, 3), xyz.new_zeros(0, 3), offsets(*(counts or (len(xyz),))), xyz, numbers)


def no_votes(dtype=torch.float64) -> tuple[Tensor, Tensor]:
    return torch.zeros(0, 1, 3, dtype=dtype), torch.zeros(0, dtype=torch.bool)


# Boxes and numbers.


def test_headings_fall_into_bins_of_30_degrees_around_their_middles():
    degrees = rows(0, 14, 16, 20, -20, 180, -180, 350, 720 + 44)
    box = torch.cat((torch.ones(9, 6, dtype=torch.float64), degrees.deg2rad()[:, None]), dim=1)
    want = coder().encode(box, torch.zeros(9, dtype=torch.int64))
    assert want.heading.tolist() == [0, 0, 1, 1, 11, 6, 6, 0, 1]
    wanted = [0, 14 / 15, -14 / 15, -2 / 3, 2 / 3, 0, 0, -2 / 3, 14 / 15]
    assert want.heading_residual.tolist() == pytest.approx(wanted, abs=1e-12)


def test_a_size_is_told_by_how_much_it_exceeds_the_mean_of_its_class():
    want = coder().encode(rows([1, 2, 3, 1.5, 1.0, 0.5, 0]), torch.tensor([0]))
    assert want.size_residual.tolist() == [[0.5, -0.5, 0]]
    assert want.center.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("n_headings", [1, 2, 12])
def test_decoding_gives_back_what_was_encoded(n_headings):
    code, (box, label) = coder(n_headings), some_boxes(200, turned=n_headings > 1)
    xyz = box[:, :3] + 0.1
    out = code.decode(numbers_of(code, box, label, xyz), xyz)
    torch.testing.assert_close(out[:, :6], box[:, :6], rtol=1e-12, atol=1e-12)
    turn = (out[:, 6] - box[:, 6] + math.pi).remainder(2 * math.pi) - math.pi
    assert turn.abs().max() < 1e-12
    assert ((out[:, 6] >= -math.pi) & (out[:, 6] <= math.pi)).all()


@pytest.mark.parametrize("n_headings", [2, 3, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_heading_has_a_bin_and_a_residual_within_it(n_headings, dtype):
    borders = torch.arange(-40, 41, dtype=torch.float64) * math.pi / n_headings
    near = torch.cat((borders, borders + 1e-7, borders - 1e-7, rows(-1e-300, 1e-300, -0.0, 1e6))).to(dtype)
    box = torch.cat((torch.ones(len(near), 6, dtype=dtype), near[:, None]), dim=1)
    want = coder(n_headings, dtype).encode(box, torch.zeros(len(near), dtype=torch.int64))
    assert 0 <= want.heading.min() <= want.heading.max() == n_headings - 1
    assert want.heading_residual.abs().max() <= 1
    assert want.heading_residual.dtype == dtype


def test_with_one_bin_boxes_stand_along_the_axes_whatever_is_said():
    code, (box, label) = coder(1), some_boxes(4, turned=False)
    numbers = numbers_of(code, box, label, box[:, :3])
    numbers[:, 6] = 0.7
    assert torch.equal(code.decode(numbers, box[:, :3])[:, 6], torch.zeros(4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"heading 0 where n_headings is 1, got 0\.25"):
        code.encode(rows([0, 0, 0, 1, 1, 1, 0.25]), torch.tensor([0]))


def test_the_mean_sizes_are_those_of_each_class_and_of_all_for_one_without_boxes():
    box = torch.zeros(3, 7)
    box[:, 3:6] = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [5.0, 5.0, 5.0]])
    sizes = mean_sizes(box, torch.tensor([0, 0, 2]), 3)
    assert sizes.tolist() == [[2, 2, 2], [3, 3, 3], [5, 5, 5]]


def test_flat_things_have_a_mean_size_to_compare_with():
    box = torch.tensor([[0.0, 0, 0, 1, 0.5, 0, 0]])
    sizes = mean_sizes(box, torch.tensor([0]), 1)
    assert sizes.tolist() == [[1, 0.5, pytest.approx(0.01)]]
    assert BoxCoder(sizes).encode(box, torch.tensor([0])).size_residual.tolist() == [[0, 0, -1]]


def test_the_mean_sizes_are_saved_and_are_no_parameters():
    code, other = coder(), BoxCoder(torch.ones(3, 3, dtype=torch.float64), 12)
    other.load_state_dict(code.state_dict())
    assert torch.equal(other.mean_sizes, SIZES)
    assert list(code.parameters()) == []
    assert code.n_numbers == 2 + 3 + 12 * 2 + 3 * 4 + 3


def test_a_point_is_in_a_box_up_to_its_faces_and_turned_counter_clockwise():
    box = rows([0, 0, 0, 2, 1, 1, 0], [0, 0, 0, 10, 0.2, 1, math.pi / 4], [0, 0, 0, -1, 1, 1, 0])
    points = rows([1, 0.5, 0.5], [1.001, 0, 0], [3, 3, 0], [3, -3, 0], [0, 0, 0], [4, 4, 0])
    assert points_inside(points, box).tolist() == [
        *([True, False, False], [False, False, False], [False, True, False]),
        *([False, False, False], [True, True, False], [False, False, False]),
    ]


# What is found.


def found(code, numbers, xyz, *counts, **options):
    return detections(code, of_proposals(xyz, numbers, *counts), **options)


def test_perfect_proposals_score_a_map_of_one():
    code, verdicts = coder(), []
    for seed in range(3):
        box, label = some_boxes(5 * seed + 1, seed)
        box[:, :3] += 3 * torch.arange(len(box))[:, None]  # apart
        numbers = numbers_of(code, box, label, box[:, :3], sure=10.0)
        (one,) = found(code, numbers, box[:, :3])
        verdicts.append(match_boxes(one.box, one.label, one.score, box, label, 3))
    scores = detection_scores(verdicts)
    assert scores.map25 == scores.map50 == 1


def test_of_boxes_on_each_other_the_surest_of_each_class_stays():
    """Of the class, whatever the class of its size."""
    code, box = BoxCoder(torch.ones(3, 3, dtype=torch.float64)), rows(*[[0, 0, 0, 1, 1, 1, 0]] * 3)
    numbers = numbers_of(code, box, torch.tensor([2, 2, 2]), box[:, :3])
    numbers[:, -3:] = rows([9, 0, 0], [0, 9, 0], [9, 0, 0])
    numbers[:, 1] = rows(1, 2, 3)
    (one,) = found(code, numbers, box[:, :3], per_class=False)
    assert one.label.tolist() == [0, 1]
    assert one.score.tolist() == pytest.approx([1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-2))])


def test_each_box_is_given_for_every_class_with_its_probability():
    code, box = coder(1), rows([0, 0, 0, 1, 1, 1, 0], [5, 0, 0, 1, 1, 1, 0])
    numbers = numbers_of(code, box, torch.tensor([0, 2]), box[:, :3])
    numbers[:, :2] = rows([0, 0], [0, math.log(3)])
    numbers[:, -3:] = rows([math.log(2), 0, 0], [0, 0, math.log(2)])
    (one,) = found(code, numbers, box[:, :3])
    assert one.label.tolist() == [0, 0, 1, 1, 2, 2]
    assert one.box[:, 0].tolist() == [5, 0] * 3  # the surer one first
    assert one.score.tolist() == pytest.approx([0.75 / 4, 0.5 / 2, 0.75 / 4, 0.5 / 4, 0.75 / 2, 0.5 / 4])


def test_a_proposal_that_is_hardly_an_object_is_not_found():
    code, box = coder(1), rows([0, 0, 0, 1, 1, 1, 0], [5, 0, 0, 1, 1, 1, 0])
    numbers = numbers_of(code, box, torch.tensor([0, 0]), box[:, :3])
    numbers[:, 1] = rows(math.log(0.04 / 0.96), math.log(0.06 / 0.94))
    for least, places in ((0.05, [5]), (0.07, []), (0, [5, 0])):
        (one,) = found(code, numbers, box[:, :3], per_class=False, min_objectness=least)
        assert one.box[:, 0].tolist() == places


def test_boxes_without_volume_or_without_points_are_not_found():
    code, box = coder(1), rows(*([x, 0, 0, 1, 1, 1, 0] for x in (0.0, 5.0, 9.0)))
    numbers = numbers_of(code, box, torch.tensor([0, 0, 0]), box[:, :3])
    points = rows([0, 0, 0], [0.1, 0, 0], [9, 0, 0], [9, 0, 0])
    some = {"points": points, "point_ptr": torch.tensor([0, 2, 4])}
    places = [one.box[:, 0].tolist() for one in found(code, numbers, box[:, :3], 2, 1, per_class=False, **some)]
    assert places == [[], []]  # 5 points are wanted
    some["min_points"] = 2
    places = [one.box[:, 0].tolist() for one in found(code, numbers, box[:, :3], 2, 1, per_class=False, **some)]
    assert places == [[0], [9]]
    numbers[0, 5 + 2 + 3 + 2] = -1.5  # the height of class 0
    (one,) = found(code, numbers, box[:, :3], per_class=False)
    assert one.box[:, 0].tolist() == [5, 9]


def test_a_sample_without_proposals_finds_nothing():
    code, (box, label) = coder(), some_boxes(2)
    first, none, last = found(code, numbers_of(code, box, label, box[:, :3]), box[:, :3], 1, 0, 1, per_class=False)
    assert (len(first.box), len(none.box), len(last.box)) == (1, 0, 1)
    assert (none.box.shape, none.label.shape, none.score.shape) == ((0, 7), (0,), (0,))
    assert torch.equal(last.label, label[1:])


# Targets.


def test_points_vote_for_the_middle_of_the_box_around_their_object():
    points = rows([0, 0, 0], [2, 4, 1], [9, 9, 9], [5, 5, 5], [0.5, 0, 0], [7, 7, 7])
    semantic, instance = torch.tensor([1, 1, -1, 0, 1, 2]), torch.tensor([4, 4, 7, -1, 4, 4])
    ptr = torch.tensor([0, 5, 6])
    votes, voting = vote_targets(points, semantic, instance, ptr)
    assert voting.tolist() == [True, True, False, False, True, True]
    assert votes.tolist() == [[v] for v in ([1, 2, 0.5], [-1, -2, -0.5], [0] * 3, [0] * 3, [0.5, 2, 0.5], [0] * 3)]
    boxes = boxes_of_instances(points, semantic, instance, ptr)
    assert boxes.box.tolist() == [[1, 2, 0.5, 2, 4, 1, 0], [7, 7, 7, 0, 0, 0, 0]]
    assert boxes.label.tolist() == [1, 2]
    assert boxes.ptr.tolist() == [0, 1, 2]


def test_an_object_has_the_class_of_most_of_its_points_that_have_one():
    points = torch.rand(7, 3)
    semantic, instance = torch.tensor([-1, -1, -1, 2, 2, 1, 1]), torch.tensor([3, 3, 3, 3, 3, 3, 3])
    assert boxes_of_instances(points, semantic, instance, offsets(7)).label.tolist() == [1]  # the lower of two
    nowhere = boxes_of_instances(points, torch.full((7,), -1), instance, offsets(7))
    assert (len(nowhere.box), nowhere.ptr.tolist()) == (0, [0, 0])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_point_that_is_not_finite_belongs_to_no_object(bad):
    points = rows([0, 0, 0], [1, 1, 1], [0, bad, 0])
    votes, voting = vote_targets(points, torch.zeros(3).long(), torch.zeros(3).long(), offsets(3))
    assert voting.tolist() == [True, True, False]
    assert votes[:2, 0].tolist() == [[0.5] * 3, [-0.5] * 3]


def test_objects_and_votes_equal_those_found_one_by_one():
    rng = torch.Generator().manual_seed(0)
    counts = (40, 0, 30, 1)
    points = torch.randn(71, 3, generator=rng, dtype=torch.float64)
    semantic, instance = (torch.randint(-1, k, (71,), generator=rng) for k in (4, 9))
    instance[instance == 8] = 2**40  # numbers may be any
    ptr = offsets(*counts)
    boxes, (votes, voting) = (f(points, semantic, instance, ptr) for f in (boxes_of_instances, vote_targets))
    k = 0
    wanted, wanted_votes, per_sample, members_of_all = [], torch.zeros_like(points), [], set()
    for b in range(4):
        here = range(int(ptr[b]), int(ptr[b + 1]))
        for number in sorted({int(instance[i]) for i in here} - {-1}):
            members = [i for i in here if instance[i] == number]
            classes = [int(semantic[i]) for i in members if semantic[i] >= 0]
            if classes:
                low, high = points[members].amin(0), points[members].amax(0)
                best = min(set(classes), key=lambda c: (-classes.count(c), c))
                wanted.append([*((low + high) / 2), *(high - low), 0.0, best])
                wanted_votes[members] = (low + high) / 2 - points[members]
                members_of_all.update(members)
                k += 1
        per_sample.append(k)
    torch.testing.assert_close(torch.cat((boxes.box, boxes.label[:, None]), dim=1), torch.tensor(wanted).double())
    assert boxes.ptr.tolist() == [0, *per_sample]
    torch.testing.assert_close(votes[:, 0], wanted_votes)
    assert voting.nonzero()[:, 0].tolist() == sorted(members_of_all)


def test_a_point_votes_for_up_to_three_boxes_that_it_is_in():
    box = rows(*([x, 0, 0, 10, 10, 10, 0] for x in (1.0, 2.0, 50.0, 3.0, 4.0)), [0, 0, 0, 1, 1, 1, 0])
    boxes = PackedBoxes(box, torch.zeros(6).long(), torch.tensor([0, 5, 5, 6]))
    points = rows([0, 0, 0], [50, 1, 0], [99, 0, 0], [0, 0, 0], [0.25, 0, 0])
    votes, voting = votes_in_boxes(points, torch.tensor([0, 3, 4, 5]), boxes)
    assert voting.tolist() == [True, True, False, False, True]
    assert votes[0].tolist() == [[1, 0, 0], [2, 0, 0], [3, 0, 0]]  # the fourth box is left out
    assert votes[1].tolist() == [[0, -1, 0]] * 3
    assert votes[2:4].abs().max() == 0
    assert votes[4].tolist() == [[-0.25, 0, 0]] * 3


def test_a_point_in_very_many_boxes_votes_for_the_lowest_three():
    box = torch.cat(
        (torch.arange(100.0)[:, None], torch.zeros(100, 2), torch.full((100, 3), 999), torch.zeros(100, 1)), 1
    )
    votes, _ = votes_in_boxes(torch.zeros(1, 3), offsets(1), PackedBoxes(box, torch.zeros(100).long(), offsets(100)))
    assert votes[0, :, 0].tolist() == [0, 1, 2]


def test_a_point_in_two_boxes_votes_for_the_first_of_them_twice():
    box = rows([1, 0, 0, 9, 9, 9, 0], [50, 0, 0, 1, 1, 1, 0], [2, 0, 0, 9, 9, 9, 0])
    votes, _ = votes_in_boxes(rows([0, 0, 0]), offsets(1), PackedBoxes(box, torch.zeros(3).long(), offsets(3)))
    assert votes[0, :, 0].tolist() == [1, 2, 1]


# The loss, in the head.


def test_a_vote_is_as_far_off_as_from_its_nearest_target():
    seed_xyz = rows([1, 1, 1], [2, 2, 2], [3, 3, 3])
    said = Said(seed_xyz, seed_xyz + rows([0.1, 0, 0], [0, -0.2, 0], [9, 9, 9]), offsets(0), seed_xyz[:0], seed_xyz[:0])
    said = said._replace(numbers=torch.zeros(0, coder().n_numbers, dtype=torch.float64))
    votes = rows(*[[[0.3, 0, 0], [0, 0.4, 0]]] * 3)
    boxes = PackedBoxes(*some_boxes(1), offsets(1))
    losses = votenet_loss(coder(), said, boxes, votes, torch.tensor([True, True, False]))
    assert losses.vote.item() == pytest.approx((0.2 + 0.5) / 2)
    assert losses.total.item() == pytest.approx(10 * 0.35)  # no proposals: their parts are 0


def test_a_proposal_is_an_object_within_30_cm_of_a_centre_and_none_beyond_60():
    code, xyz = coder(), rows([0, 0, 0.2], [0, 0, 0.4], [0, 0.7, 0], [0.2999999, 0, 0], [0, 0.6000001, 0])
    numbers = torch.zeros(5, code.n_numbers, dtype=torch.float64)
    boxes = PackedBoxes(rows([0, 0, 0, 1, 2, 0.5, 0]), torch.tensor([0]), offsets(1))
    losses = votenet_loss(code, of_proposals(xyz, numbers), boxes, *no_votes())
    assert losses.objectness.item() == pytest.approx((2 * 0.8 + 2 * 0.2) / 4 * math.log(2))
    assert (losses.positive.item(), losses.negative.item(), losses.accuracy.item()) == (0.4, 0.4, 0.5)
    assert losses.center.item() == pytest.approx((0.2**2 + 0.2999999**2) / 2 + 0.2**2)
    assert losses.heading_class.item() == pytest.approx(math.log(12))
    assert losses.size_class.item() == losses.label.item() == pytest.approx(math.log(3))
    assert losses.heading_residual.item() == losses.size_residual.item() == 0


def test_the_centre_counts_from_proposals_to_boxes_and_back():
    """Of two boxes the second has no positive, and its nearest proposal says a place 2 m from it."""
    code, xyz = coder(), rows([0.1, 0, 0], [3, 0, 0])
    numbers = torch.zeros(2, code.n_numbers, dtype=torch.float64)
    numbers[:, 2:5] = rows([0.2, 0, 0], [1, 0, 0])
    boxes = PackedBoxes(rows([0, 0, 0, 1, 1, 1, 0], [6, 0, 0, 1, 1, 1, 0]), torch.tensor([0, 0]), offsets(2))
    losses = votenet_loss(code, of_proposals(xyz, numbers), boxes, *no_votes())
    assert losses.center.item() == pytest.approx(0.3**2 + (0.3**2 + 2**2) / 2)


def test_residuals_count_where_they_are_said_for_the_right_bin_and_class():
    code, xyz = coder(), rows([0, 0, 0])
    box, label = rows([0, 0, 0, 0.4, 0.6, 4, math.pi / 6]), torch.tensor([1])
    numbers = torch.full((1, code.n_numbers), 7.0, dtype=torch.float64)
    numbers[0, 5 + 12 + 1] = 0.5  # heading residual of bin 1, which should be 0
    numbers[0, 5 + 24 + 3 + 3 : 5 + 24 + 3 + 6] = rows(0.2, 0.5, 0)  # of class 1, which should be 0, 0.5, 3
    losses = votenet_loss(code, of_proposals(xyz, numbers), PackedBoxes(box, label, offsets(1)), *no_votes())
    assert losses.heading_residual.item() == pytest.approx(0.5 * 0.5**2)
    assert losses.size_residual.item() == pytest.approx((0.5 * 0.2**2 + 0 + (3 - 0.5)) / 3)


def test_a_network_that_knows_everything_has_no_loss():
    code, (box, label) = coder(), some_boxes(6)
    xyz = box[:, :3] + 0.05
    seeds, votes = rows([0, 0, 0]), rows([[1, 2, 3]])
    said = Said(seeds, seeds + votes[:, 0], offsets(3, 3), xyz, numbers_of(code, box, label, xyz))
    losses = votenet_loss(code, said, PackedBoxes(box, label, offsets(3, 3)), votes, torch.tensor([True]))
    assert losses.total < 1e-12
    assert (losses.positive, losses.accuracy) == (1, 1)


def test_a_proposal_near_the_origin_is_no_object_where_its_sample_has_no_box():
    """VoteNet pads samples with boxes at the origin, and matches proposals to them."""
    code, xyz = coder(), rows([0, 0, 0], [0, 0, 0])
    numbers = torch.zeros(2, code.n_numbers, dtype=torch.float64)
    boxes = PackedBoxes(rows([5, 5, 5, 1, 1, 1, 0]), torch.tensor([0]), torch.tensor([0, 0, 1]))
    losses = votenet_loss(code, of_proposals(xyz, numbers, 1, 1), boxes, *no_votes())
    assert (losses.positive, losses.negative) == (0, 1)
    assert losses.objectness.item() == pytest.approx(0.2 * math.log(2))


# The loss, against a slow twin.


def twin(code: BoxCoder, said: Said, boxes: PackedBoxes, votes: Tensor, voting: Tensor) -> dict[str, float]:
    """Proposal by proposal and box by box, in numbers of Python."""
    h, c = code.n_headings, code.n_classes
    sums, counts = dict.fromkeys((*PARTS, "back"), 0.0), dict.fromkeys(("vote", "known", "positive", "boxes"), 0)

    def entropy(scores, right):
        return math.log(sum(math.exp(s) for s in scores)) - scores[right]

    def huber(x):
        return 0.5 * x * x if abs(x) <= 1 else abs(x) - 0.5

    def apart(p, q):
        return sum((a - b) ** 2 for a, b in zip(p, q, strict=True))

    for s in range(len(voting)):
        if voting[s]:
            offset = (said.vote_xyz[s] - said.seed_xyz[s]).tolist()
            near = [sum(abs(a - b) for a, b in zip(offset, target, strict=True)) for target in votes[s].tolist()]
            sums["vote"] += min(near)
            counts["vote"] += 1
    for b in range(len(said.ptr) - 1):
        here = [(box, int(label)) for box, label in zip(boxes.box.tolist(), boxes.label, strict=True)]
        here = here[int(boxes.ptr[b]) : int(boxes.ptr[b + 1])]
        centers = []
        for p in range(int(said.ptr[b]), int(said.ptr[b + 1])):
            place, n = said.xyz[p].tolist(), said.numbers[p].tolist()
            centers.append([a + d for a, d in zip(place, n[2:5], strict=True)])
            gaps = [math.sqrt(apart(place, box[:3])) for box, _ in here]
            least = min(gaps, default=math.inf)
            if 0.3 <= least <= 0.6:
                continue
            counts["known"] += 1
            sums["objectness"] += (0.8 if least < 0.3 else 0.2) * entropy(n[:2], int(least < 0.3))
            if least > 0.3:
                continue
            counts["positive"] += 1
            box, label = here[gaps.index(least)]
            sums["center"] += min(apart(centers[-1], other[:3]) for other, _ in here)
            width = 2 * math.pi / h
            angle = box[6] % (2 * math.pi)
            heading = min(range(h), key=lambda i: abs(math.remainder(angle - i * width, 2 * math.pi)))
            residual = math.remainder(angle - heading * width, 2 * math.pi) / (width / 2)
            sums["heading_class"] += entropy(n[5 : 5 + h], heading)
            sums["heading_residual"] += huber(n[5 + h + heading] - residual)
            at = 5 + 2 * h
            sums["size_class"] += entropy(n[at : at + c], label)
            for axis in range(3):
                mean = code.mean_sizes[label, axis].item()
                sums["size_residual"] += huber(n[at + c + 3 * label + axis] - (box[3 + axis] - mean) / mean) / 3
            sums["label"] += entropy(n[at + 4 * c :], label)
        for box, _ in here:
            if centers:
                sums["back"] += min(apart(box[:3], other) for other in centers)
                counts["boxes"] += 1
    of = {"vote": "vote", "objectness": "known", "back": "boxes"}
    mean = {name: total / max(counts[of.get(name, "positive")], 1) for name, total in sums.items()}
    mean["center"] += mean.pop("back")
    weight = {"objectness": 0.5, "heading_class": 0.1, "size_class": 0.1, "label": 0.1}
    mean["total"] = 10 * sum(weight.get(name, 1) * mean[name] for name in PARTS)
    return mean


def some_batch(box_counts, proposal_counts, n_headings=12, seed=0, dtype=torch.float64):
    """Proposals about 0.4 m from boxes where there are some, and seeds with three targets."""
    rng = torch.Generator().manual_seed(seed)
    code = coder(n_headings, dtype)
    box, label = (
        t.to(dtype) if t.is_floating_point() else t for t in some_boxes(sum(box_counts), seed, n_headings > 1)
    )
    ptr, n = offsets(*box_counts), sum(proposal_counts)
    xyz = 0.25 * torch.randn(n, 3, generator=rng, dtype=dtype)
    for b, of_sample in enumerate(torch.arange(n).split(proposal_counts)):
        if box_counts[b]:
            which = torch.randint(box_counts[b], (len(of_sample),), generator=rng) + ptr[b]
            xyz[of_sample] += box[which, :3]
    numbers = torch.randn(n, code.n_numbers, generator=rng, dtype=dtype)
    seed_xyz, vote_xyz, *targets = torch.randn(5, 20, 3, generator=rng, dtype=dtype)
    said = Said(seed_xyz, vote_xyz, offsets(*proposal_counts), xyz, numbers)
    return code, said, PackedBoxes(box, label, ptr), torch.stack(targets, 1), torch.rand(20, generator=rng) < 0.6


BATCHES = {
    "two samples": ((4, 2), (30, 30)),
    "one without boxes": ((0, 5, 0), (10, 30, 4)),
    "no boxes at all": ((0, 0), (10, 10)),
    "one without proposals": ((3, 2), (0, 20)),
    "nothing": ((0,), (0,)),
}


@pytest.mark.parametrize("n_headings", [1, 12])
@pytest.mark.parametrize(("box_counts", "proposal_counts"), BATCHES.values(), ids=BATCHES.keys())
def test_every_part_equals_that_of_a_slow_twin(box_counts, proposal_counts, n_headings):
    batch = some_batch(box_counts, proposal_counts, n_headings)
    losses, wanted = votenet_loss(*batch)._asdict(), twin(*batch)
    assert {name: losses[name].item() for name in wanted} == pytest.approx(wanted, rel=1e-10, abs=1e-12)
    if sum(box_counts) > 4:
        assert min(wanted[name] for name in PARTS if name != "heading_class") > 0


@pytest.mark.parametrize(("box_counts", "proposal_counts"), BATCHES.values(), ids=BATCHES.keys())
def test_the_gradient_is_finite_and_zero_where_there_is_nothing_to_learn(box_counts, proposal_counts):
    code, said, boxes, votes, voting = some_batch(box_counts, proposal_counts)
    leaves = [said.vote_xyz, said.xyz, said.numbers]
    for leaf in leaves:
        leaf.requires_grad_()
    losses = votenet_loss(code, said, boxes, votes, voting)
    losses.total.backward()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)
    assert said.vote_xyz.grad[~voting].abs().max() == 0
    assert (said.vote_xyz.grad[voting] != 0).any(1).all()
    if not sum(box_counts):
        assert said.xyz.grad is None or not said.xyz.grad.any()
        assert not said.numbers.grad[:, 2:].any()
        assert bool(said.numbers.grad[:, :2].any()) == bool(len(said.xyz))


def test_gradients_are_those_of_the_formula():
    code, said, boxes, votes, voting = some_batch((3, 0, 2), (8, 2, 6), n_headings=3)

    def total(vote_xyz, xyz, numbers):
        losses = votenet_loss(code, said._replace(vote_xyz=vote_xyz, xyz=xyz, numbers=numbers), boxes, votes, voting)
        return losses.total

    inputs = [t.requires_grad_() for t in (said.vote_xyz, said.xyz, said.numbers)]
    assert torch.autograd.gradcheck(total, inputs)


def test_the_nearest_is_of_the_own_sample_and_the_lowest_of_several():
    points = rows([0, 0, 0], [2, 0, 0], [1, 0, 0])
    squared, found = nearest(
        rows([1, 0, 0], [9, 0, 0], [0, 0, 0]), offsets(1, 1, 1), points, torch.tensor([0, 2, 2, 3])
    )
    assert found.tolist() == [0, -1, 2]
    assert squared.tolist() == [1, math.inf, 1]


def test_processes_that_share_their_means_compute_the_loss_of_the_joint_batch():
    """Two processes give their sums and numbers, in the same order; the joint mean is of both."""
    code, said, boxes, votes, voting = some_batch((4, 0), (30, 9))
    wanted = votenet_loss(code, said, boxes, votes, voting)
    halves = []
    for b in range(2):
        p, k, s = slice(*said.ptr[b : b + 2]), slice(*boxes.ptr[b : b + 2]), slice(10 * b, 10 * b + 10)
        mine = Said(said.seed_xyz[s], said.vote_xyz[s], offsets(p.stop - p.start), said.xyz[p], said.numbers[p])
        of_sample = PackedBoxes(boxes.box[k], boxes.label[k], offsets(k.stop - k.start))
        halves.append((mine, of_sample, votes[s], voting[s]))

    def recorded(half) -> list[tuple[float, int]]:
        calls = []
        votenet_loss(code, *half, mean=lambda total, count: calls.append((total.item(), count.item())) or total)
        return calls

    counts = [a[1] + b[1] for a, b in zip(*map(recorded, halves), strict=True)]
    totals = []
    for half in halves:
        joint = iter(counts)
        losses = votenet_loss(code, *half, mean=lambda total, _, joint=joint: total / max(next(joint), 1))
        totals.append(losses)
    for name, value in wanted._asdict().items():
        assert sum(getattr(t, name).item() for t in totals) == pytest.approx(value.item(), rel=1e-10), name


def test_float32_boxes_and_float64_proposals_go_together():
    code, said, boxes, votes, voting = some_batch((4, 2), (30, 30))
    mixed = votenet_loss(code, said, boxes._replace(box=boxes.box.float()), votes, voting)
    assert mixed.total.item() == pytest.approx(votenet_loss(code, said, boxes, votes, voting).total.item(), rel=1e-5)


def test_the_same_bits_for_any_number_of_threads(set_threads):
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        code, said, boxes, votes, voting = some_batch((40, 30), (500, 500), dtype=torch.float32)
        leaves = [t.requires_grad_() for t in (said.vote_xyz, said.xyz, said.numbers)]
        losses = votenet_loss(code, said, boxes, votes, voting)
        results.append((losses.center, losses.vote, *torch.autograd.grad(losses.center + losses.vote, leaves)))
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


# Bad input.


BATCH = some_batch((2, 1), (5, 6))
CODE, SAID, BOXES, VOTES, VOTING = BATCH
BOX, LABEL = BOXES.box, BOXES.label
POINTS, IDS = torch.rand(4, 3), torch.zeros(4, dtype=torch.int64)


def loss_with(said=SAID, boxes=BOXES, votes=VOTES, voting=VOTING):
    return votenet_loss(CODE, said, boxes, votes, voting)


BAD = {
    "no mean size": (lambda: BoxCoder(SIZES[:0]), ValueError, "mean_sizes must be positive and finite"),
    "a mean size of 0": (lambda: BoxCoder(SIZES * 0), ValueError, "mean_sizes must be positive and finite"),
    "mean sizes of two": (lambda: BoxCoder(SIZES[:, :2]), ValueError, r"mean_sizes must have shape \(\*, 3\)"),
    "no heading": (lambda: BoxCoder(SIZES, 0), ValueError, "n_headings must be at least 1, got 0"),
    "six numbers": (lambda: CODE.encode(BOX[:, :6], LABEL), ValueError, r"box must have shape \(\*, 7\), got \(3, 6\)"),
    "labels of floats": (lambda: CODE.encode(BOX, LABEL.float()), TypeError, "label must be int64, got float32"),
    "a label too high": (lambda: CODE.encode(BOX, LABEL * 0 + 3), ValueError, "from 0 to 2, got 3 to 3"),
    "a label of -1": (lambda: CODE.encode(BOX, LABEL - 9), ValueError, "map the classes"),
    "a box of NaN": (lambda: CODE.encode(BOX * math.nan, LABEL), ValueError, "box must be finite, got nan"),
    "too few numbers": (lambda: CODE.read(SAID.numbers[:, 1:], SAID.xyz), ValueError, r"have shape \(\*, 44\)"),
    "another dtype": (lambda: CODE.read(SAID.numbers, SAID.xyz.float()), TypeError, "xyz must be float64, got float32"),
    "no boxes to average": (lambda: mean_sizes(BOX[:0], LABEL[:0], 3), ValueError, "at least one box"),
    "NaN in detection": (
        lambda: detections(CODE, SAID._replace(numbers=SAID.numbers * math.nan)), ValueError, "numbers must be finite",
    ),
    "points alone": (lambda: detections(CODE, SAID, points=POINTS), ValueError, "must be given together"),
    "points of one sample": (
        lambda: detections(CODE, SAID, points=POINTS, point_ptr=offsets(4)), ValueError, "must be of 2 samples",
    ),
    "a threshold of 2": (lambda: detections(CODE, SAID, threshold=2), ValueError, "threshold must be from 0 to 1"),
    "a target for no seed": (lambda: loss_with(votes=VOTES[1:]), ValueError, r"votes must have shape \(20, \*, 3\)"),
    "no target": (lambda: loss_with(votes=VOTES[:, :0]), ValueError, "votes must have at least one target"),
    "a mask of integers": (lambda: loss_with(voting=VOTING.long()), TypeError, "voting must be bool, got int64"),
    "one sample more": (
        lambda: loss_with(boxes=BOXES._replace(ptr=torch.tensor([0, 2, 3, 3]))), ValueError,
        "boxes.ptr must be of 2 samples, got 3",
    ),
    "too few boxes": (lambda: loss_with(boxes=BOXES._replace(ptr=torch.tensor([0, 2, 2]))), ValueError, "from 0 to 3"),
    "offsets that descend": (
        lambda: loss_with(said=SAID._replace(ptr=torch.tensor([0, 12, 11]))), ValueError, "proposals.ptr must",
    ),
    "an instance less": (lambda: vote_targets(POINTS, IDS, IDS[1:], offsets(4)), ValueError, "instance must have"),
    "classes of int32": (lambda: vote_targets(POINTS, IDS.int(), IDS, offsets(4)), TypeError, "semantic must be int64"),
    "a point more": (lambda: boxes_of_instances(POINTS, IDS, IDS, offsets(3)), ValueError, "ascend from 0 to 4"),
    "no samples": (lambda: boxes_of_instances(POINTS, IDS, IDS, IDS[:0]), ValueError, r"ptr must have B \+ 1 entries"),
    "boxes of others": (lambda: votes_in_boxes(POINTS.double(), offsets(4), BOXES), ValueError, "must be of 1 sample"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()
