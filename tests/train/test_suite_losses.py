from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlm.models.suite.localization import Points, Proposals, points_of
from vlm.train.losses.actions import action_loss, point_targets
from vlm.train.losses.segments import segment_loss, smoothness

LEVELS, FIRST, CLASSES = 3, 2.0, 4


def some_points(*lengths: int) -> Points:
    times = torch.cat([torch.arange(length, dtype=torch.float64) / 2 for length in lengths])
    durations = torch.tensor([length / 2 for length in lengths], dtype=torch.float64)
    return points_of(torch.tensor(lengths), times, durations, levels=LEVELS, frames_per_second=2.0)


def some_truth(random: torch.Generator, seconds: float) -> tuple[Tensor, Tensor]:
    count = int(torch.randint(0, 4, (1,), generator=random))
    starts = torch.rand(count, 1, dtype=torch.float64, generator=random) * (seconds - 1)
    ends = starts + 0.3 + torch.rand(count, 1, dtype=torch.float64, generator=random) * (seconds - starts)
    return torch.cat([starts, ends], dim=1), torch.randint(0, CLASSES, (count,), generator=random)


def naive_targets(points: Points, spans: list[Tensor], labels: list[Tensor]) -> tuple[list[list[float]], list[list[float] | None]]:
    """One point and one action at a time, in rows of the features, as ActionFormer counts."""
    classes, bounds = [], []
    for item, level, centre in zip(points.item.tolist(), points.level.tolist(), points.centres.tolist(), strict=True):
        at, stride = centre * 2.0, 2.0**level
        least = 0.0 if level == 0 else FIRST * 2.0 ** (level - 1)
        most = float("inf") if level == LEVELS - 1 else FIRST * 2.0**level
        mine = []
        for (start, end), label in zip(spans[item].tolist(), labels[item].tolist(), strict=True):
            a, b = start * 2.0, end * 2.0
            near = max(a, (a + b) / 2 - 1.5 * stride) < at < min(b, (a + b) / 2 + 1.5 * stride)
            if near and least <= max(at - a, b - at) <= most:
                mine.append((end - start, label, [start, end]))
        shortest = min((length for length, _, _ in mine), default=None)
        told = [0.0] * CLASSES
        for length, label, _ in mine:
            if length <= shortest + 1e-3:
                told[label] = 1.0
        classes.append(told)
        bounds.append(next((span for length, _, span in mine if length == shortest), None))
    return classes, bounds


@pytest.mark.parametrize("seed", range(20))
def test_targets_are_those_of_the_plain_loop(seed: int):
    random = torch.Generator().manual_seed(seed)
    points = some_points(9, 24, 1)
    spans, labels = zip(*(some_truth(random, seconds) for seconds in (4.5, 12.0, 2.0)), strict=True)
    found = point_targets(points, spans, labels, num_classes=CLASSES, num_levels=LEVELS, first_range=FIRST, seconds_per_row=0.5)
    classes, bounds = naive_targets(points, list(spans), list(labels))
    assert found.classes.tolist() == classes
    assert found.is_inside.tolist() == [span is not None for span in bounds]
    for row, span in enumerate(bounds):
        assert span is None or found.bounds[row].tolist() == span


def test_two_actions_of_one_length_are_both_told():
    points = some_points(8)
    spans, labels = torch.tensor([[0.0, 4.0], [0.0005, 4.0]], dtype=torch.float64), torch.tensor([1, 3])
    found = point_targets(points, [spans], [labels], num_classes=CLASSES, num_levels=LEVELS, first_range=FIRST, seconds_per_row=0.5)
    assert found.is_inside.any()
    assert {tuple(row) for row in found.classes[found.is_inside].tolist()} == {(0.0, 1.0, 0.0, 1.0)}


def test_the_loss_is_that_of_one_point_after_the_other():
    random = torch.Generator().manual_seed(3)
    points = some_points(12)
    truth = torch.tensor([[0.5, 2.5], [3.0, 5.9]], dtype=torch.float64), torch.tensor([0, 2])
    targets = point_targets(points, [truth[0]], [truth[1]], num_classes=CLASSES, num_levels=LEVELS, first_range=FIRST, seconds_per_row=0.5)
    proposals = Proposals(torch.randn(len(points.item), CLASSES, generator=random), torch.rand(len(points.item), 2, generator=random) + 0.1)
    focal, spans, positive, inside = 0.0, 0.0, 0, 0
    for row in range(len(points.item)):
        for label in range(CLASSES):
            p, is_true = proposals.logits[row, label].sigmoid().item(), bool(targets.classes[row, label])
            right = p if is_true else 1 - p
            focal += (0.25 if is_true else 0.75) * (1 - right) ** 2 * -torch.tensor(right).log().item()
            positive += is_true
        if targets.is_inside[row]:
            left, on = (proposals.offsets[row] * points.stride[row]).tolist()
            a, b = points.centres[row].item() - left, points.centres[row].item() + on
            c, d = targets.bounds[row].tolist()
            shared = max(0.0, min(b, d) - max(a, c))
            hull = max(b, d) - min(a, c)
            spans += 1 - shared / ((b - a) + (d - c) - shared) + (((a + b) / 2 - (c + d) / 2) / hull) ** 2
            inside += 1
    total, parts = action_loss(proposals, points, targets)
    assert inside >= 3
    assert parts["classes"].item() == pytest.approx(focal / positive, rel=1e-5)
    assert parts["spans"].item() == pytest.approx(spans / inside, rel=1e-5)
    assert total.item() == pytest.approx(focal / positive + spans / inside, rel=1e-5)


def test_videos_without_actions_have_a_loss_and_a_gradient():
    points = some_points(6)
    logits = torch.zeros(len(points.item), CLASSES, requires_grad=True)
    offsets = torch.ones(len(points.item), 2, requires_grad=True)
    nothing = torch.zeros(0, 2, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    targets = point_targets(
        points, [nothing[0]], [nothing[1]], num_classes=CLASSES, num_levels=LEVELS, first_range=FIRST, seconds_per_row=0.5
    )
    total, parts = action_loss(Proposals(logits, offsets), points, targets)
    total.backward()
    assert total.item() == parts["classes"].item() > 0
    assert parts["spans"].item() == 0
    assert bool((logits.grad > 0).all())


def test_smoothness_is_that_of_one_frame_after_the_other():
    logits = 5 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    item = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    told, steps = logits.log_softmax(dim=1), []
    for row in range(1, 7):
        if item[row] == item[row - 1]:
            steps += [min(16.0, (told[row, label] - told[row - 1, label]).item() ** 2) for label in range(3)]
    assert len(steps) == 12
    assert max(steps) == 16.0
    assert smoothness(logits, item).item() == pytest.approx(sum(steps) / len(steps), rel=1e-5)
    assert smoothness(logits[:1], item[:1]).item() == 0.0


def test_the_frame_before_has_no_gradient():
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.5]], requires_grad=True)
    smoothness(logits, torch.zeros(2, dtype=torch.int64)).backward()
    assert logits.grad[0].tolist() == [0.0, 0.0]
    assert logits.grad[1].abs().sum() > 0


def test_every_stage_counts():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels, item = torch.tensor([0, 1, 2, 2, 0]), torch.zeros(5, dtype=torch.int64)
    one = segment_loss([logits], labels, item)
    wanted = torch.nn.functional.cross_entropy(logits, labels) + 0.15 * smoothness(logits, item)
    torch.testing.assert_close(one, wanted)
    torch.testing.assert_close(segment_loss([logits, logits], labels, item), 2 * one)
