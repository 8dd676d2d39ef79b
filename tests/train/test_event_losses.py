from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from vlm.models.suite.events import Places, Proposed
from vlm.train.losses.answers import mention_loss
from vlm.train.losses.events import FOREGROUND, OVERLAP, count_loss, event_loss, match_events


def proposed(stretches: Tensor, logits: Tensor, counts: list[int]) -> Proposed:
    return Proposed(torch.zeros(len(logits), 4), logits, Places.of(stretches, torch.tensor(counts)))


def random_stretches(count: int, generator: torch.Generator) -> Tensor:
    start = 20 * torch.rand(count, 1, generator=generator)
    return torch.cat([start, start + 1 + 8 * torch.rand(count, 1, generator=generator)], dim=1)


def pair_cost(stretch: list[float], logit: float, true: list[float]) -> float:
    """By the definitions, in plain numbers."""
    (a, b), (c, d) = stretch, true
    inside = max(0.0, min(b, d) - max(a, c))
    union, hull = (b - a) + (d - c) - inside, max(b, d) - min(a, c)
    giou = inside / union - (hull - union) / hull
    p = 1 / (1 + math.exp(-logit))
    turn = -0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)
    return OVERLAP * (1 - giou) + FOREGROUND * turn


@pytest.mark.parametrize("queries_each", [1, 2])
def test_pairs_are_the_cheapest_of_all_there_are(queries_each: int):
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        queries, events = [4, 5], [2, 1]
        made = proposed(random_stretches(9, generator), torch.randn(9, generator=generator), queries)
        true = random_stretches(3, generator)
        found_queries, found_events = match_events(made, true, torch.tensor(events), queries_each=queries_each)
        total = sum(
            pair_cost(made.places.stretches[q].tolist(), float(made.logits[q]), true[e].tolist())
            for q, e in zip(found_queries.tolist(), found_events.tolist(), strict=True)
        )
        best = 0.0
        for first, of_item, known in ((0, 4, [0, 1]), (4, 5, [2])):
            wanted = known * queries_each
            best += min(
                sum(
                    pair_cost(made.places.stretches[q].tolist(), float(made.logits[q]), true[e].tolist())
                    for q, e in zip(chosen, wanted, strict=True)
                )
                for chosen in itertools.permutations(range(first, first + of_item), len(wanted))
            )
        assert total == pytest.approx(best, rel=1e-5)
        assert len(set(found_queries.tolist())) == len(found_queries) == queries_each * 3


def test_more_events_than_queries_leave_some_without():
    made = proposed(torch.tensor([[0.0, 4.0]]), torch.zeros(1), [1])
    queries, events = match_events(made, torch.tensor([[10.0, 12.0], [0.0, 4.0]]), torch.tensor([2]))
    assert (queries.tolist(), events.tolist()) == ([0], [1])


def test_the_truth_itself_costs_nothing_but_its_doubt():
    stretches = torch.tensor([[0.0, 4.0], [8.0, 12.0], [20.0, 22.0]])
    sure = torch.tensor([12.0, -12.0, 12.0])
    total, parts, pairs = event_loss([proposed(stretches, sure, [3])], torch.tensor([2.0]), stretches[[0, 2]], torch.tensor([2]))
    assert [pair.tolist() for pair in pairs[0]] == [[0, 2], [0, 1]]
    assert float(parts["events"]) == pytest.approx(0.0, abs=1e-6)
    assert float(parts["spans"]) == pytest.approx(0.0, abs=1e-6)
    assert float(total) == pytest.approx(0.5 * (2 - 2 * math.log(2)), abs=1e-5)


def test_a_batch_without_events_still_teaches_that_there_are_none():
    logits = torch.zeros(3, requires_grad=True)
    made = proposed(random_stretches(3, torch.Generator().manual_seed(0)), logits, [2, 1])
    total, _, _ = event_loss([made], torch.tensor([0.5, 0.5]), torch.zeros(0, 2), torch.tensor([0, 0]))
    total.backward()
    assert logits.grad is not None
    assert bool((logits.grad > 0).all())


def test_the_count_is_what_costs_least():
    expected = torch.tensor([3.0], requires_grad=True)
    count_loss(expected, torch.tensor([3])).backward()
    assert float(expected.grad) == 0.0  # type: ignore[arg-type]
    around = [float(count_loss(torch.tensor([value]), torch.tensor([3]))) for value in (2.5, 3.0, 3.5)]
    assert around[1] == min(around)


def test_mentions_count_words_in_any_order():
    logits, tokens = torch.randn(2, 5), torch.tensor([[1, 4, 4], [2, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    logs = logits.log_softmax(dim=1)
    first, second = -(logs[0, 1] + 2 * logs[0, 4]) / 3, -logs[1, 2]
    torch.testing.assert_close(mention_loss(logits, tokens, mask), (first + second) / 2)
    turned = tokens.flip(1)
    torch.testing.assert_close(mention_loss(logits, turned, mask.flip(1)), mention_loss(logits, tokens, mask))
    assert float(mention_loss(logits[:0], tokens[:0], mask[:0])) == 0.0
