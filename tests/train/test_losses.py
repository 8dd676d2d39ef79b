"""Every loss against a loop that spells it out, and its gradient against differences."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlm.train.losses.answers import choice_loss, decoder_loss
from vlm.train.losses.focal import focal_loss, weighted_bce
from vlm.train.losses.margin import max_margin
from vlm.train.losses.multi_positive import multi_positive_nce
from vlm.train.losses.ranking import saliency_ranking
from vlm.train.losses.spans import diou_loss, giou_loss


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coin(*shape: int, seed: int = 0, share: float = 0.5) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


@pytest.mark.parametrize(("gamma", "positive_share"), [(0.0, None), (2.0, None), (2.0, 0.25)])
def test_focal_loss_is_that_of_a_loop(gamma: float, positive_share: float | None) -> None:
    logits, target, mask = numbers(3, 5), coin(3, 5, seed=1).double(), coin(3, 5, seed=2, share=0.8)
    total = 0.0
    for x, y, real in zip(logits.flatten().tolist(), target.flatten().tolist(), mask.flatten().tolist(), strict=True):
        right = sigmoid(x) if y else 1 - sigmoid(x)
        weight = 1.0 if positive_share is None else positive_share if y else 1 - positive_share
        total += -weight * (1 - right) ** gamma * log(right) if real else 0.0
    found = focal_loss(logits, target, mask, gamma=gamma, positive_share=positive_share)
    assert float(found) == pytest.approx(total / max(1, int((target.bool() & mask).sum())), abs=1e-12)


def test_background_weighs_less_and_each_item_the_same() -> None:
    logits, target = numbers(2, 4), torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.float64)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    items = []
    for item in range(2):
        real = [n for n in range(4) if mask[item, n]]
        costs = [-log(sigmoid(float(logits[item, n]) * (1 if target[item, n] else -1))) * (1 if target[item, n] else 0.1) for n in real]
        items.append(sum(costs) / len(real))
    assert float(weighted_bce(logits, target, mask, background=0.1)) == pytest.approx(sum(items) / 2, abs=1e-12)


SPANS = st.tuples(st.floats(0, 50), st.floats(0.1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(max_examples=100, deadline=None)
@given(SPANS, SPANS)
def test_span_losses_are_those_of_their_definitions(one: tuple[float, float], other: tuple[float, float]) -> None:
    inside = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    union = one[1] - one[0] + other[1] - other[0] - inside
    hull = max(one[1], other[1]) - min(one[0], other[0])
    tensors = [torch.tensor(span, dtype=torch.float64) for span in (one, other)]
    assert float(giou_loss(*tensors)) == pytest.approx(1 - (inside / union - (hull - union) / hull), abs=1e-9)
    apart = (sum(one) - sum(other)) / 2
    assert float(diou_loss(*tensors)) == pytest.approx(1 - inside / union + (apart / hull) ** 2, abs=1e-9)


def test_spans_that_do_not_touch_are_drawn_together() -> None:
    far = torch.tensor([[0.0, 1.0]], requires_grad=True)
    for loss in (giou_loss, diou_loss):
        (gradient,) = torch.autograd.grad(loss(far, torch.tensor([[5.0, 6.0]])).sum(), far)
        assert float(gradient[0, 1]) < 0


def test_saliency_ranking_is_that_of_a_loop() -> None:
    scores, mask = numbers(3, 6), coin(3, 6, seed=1, share=0.8)
    relevance = torch.randint(0, 4, (3, 6), generator=torch.Generator().manual_seed(2))
    items = []
    for item in range(3):
        real = [n for n in range(6) if mask[item, n]]
        costs = []
        for level in sorted({int(relevance[item, n]) for n in real}):
            above = [n for n in real if relevance[item, n] >= level]
            if len(above) < len(real):
                top, whole = (sum(exp(float(scores[item, n]) / 0.5) for n in rows) for rows in (above, real))
                costs.append(-log(top / whole))
        if costs:
            items.append(sum(costs) / len(costs))
    assert len(items) > 1
    assert float(saliency_ranking(scores, relevance, mask)) == pytest.approx(sum(items) / len(items), abs=1e-12)


def test_saliency_that_is_the_same_everywhere_costs_nothing_and_breaks_nothing() -> None:
    scores = numbers(2, 4).requires_grad_()
    loss = saliency_ranking(scores, torch.ones(2, 4, dtype=torch.int64), torch.ones(2, 4, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))  # type: ignore[arg-type]


def test_max_margin_is_that_of_a_loop() -> None:
    s, excluded = numbers(4, 4) * 0.3, coin(4, 4, seed=1, share=0.3)
    costs = []
    for i in range(4):
        for j in range(4):
            if i != j and not excluded[i, j]:
                costs += [max(0.0, 0.2 - float(s[i, i]) + float(s[i, j])), max(0.0, 0.2 - float(s[j, j]) + float(s[i, j]))]
    assert float(max_margin(s, margin=0.2, excluded=excluded)) == pytest.approx(sum(costs) / len(costs), abs=1e-12)


def test_several_positives_are_those_of_a_loop() -> None:
    s, positive = numbers(4, 5), coin(4, 5, seed=1, share=0.4)
    positive[2] = False
    total = []
    for matrix, own in ((s, positive), (s.T, positive.T)):
        costs = [
            -log(sum(exp(float(x)) for x, is_own in zip(row, mine, strict=True) if is_own) / sum(exp(float(x)) for x in row))
            for row, mine in zip(matrix, own, strict=True)
            if mine.any()
        ]
        total.append(sum(costs) / len(costs))
    assert float(multi_positive_nce(s, positive)) == pytest.approx(sum(total) / 2, abs=1e-12)


def test_a_choice_is_among_the_options_that_an_item_has() -> None:
    logits, options = numbers(2, 4), torch.tensor([[True] * 4, [True, True, False, False]])
    right = torch.tensor([3, 0])
    costs = []
    for item in range(2):
        given_ones = [exp(float(logits[item, n])) for n in range(4) if options[item, n]]
        costs.append(-log(exp(float(logits[item, right[item]])) / sum(given_ones)))
    assert float(choice_loss(logits, right, options)) == pytest.approx(sum(costs) / 2, abs=1e-12)


def test_each_text_counts_the_same_however_long() -> None:
    logits, tokens = numbers(3, 4, 7), torch.randint(0, 7, (3, 4), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 4, [True, False, False, False], [False] * 4])
    texts = []
    for item in range(2):
        costs = [
            -log(exp(float(logits[item, n, tokens[item, n]])) / sum(exp(float(x)) for x in logits[item, n]))
            for n in range(4)
            if mask[item, n]
        ]
        texts.append(sum(costs) / len(costs))
    assert float(decoder_loss(logits, tokens, mask)) == pytest.approx(sum(texts) / 2, abs=1e-12)


def test_gradients_are_those_of_differences() -> None:
    mask, relevance = coin(2, 4, seed=1, share=0.8), torch.tensor([[0, 1, 2, 0], [1, 0, 0, 3]])
    x = numbers(2, 4).requires_grad_()
    target = coin(2, 4, seed=3).double()
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, target, mask), x)
    assert torch.autograd.gradcheck(lambda x: saliency_ranking(x, relevance, mask), x)
    assert torch.autograd.gradcheck(lambda x: multi_positive_nce(x, relevance > 0), x)
    spans = torch.tensor([[0.0, 2.0], [3.0, 7.0]], dtype=torch.float64, requires_grad=True)
    true = torch.tensor([[1.0, 2.5], [8.0, 9.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda spans: giou_loss(spans, true), spans)
    assert torch.autograd.gradcheck(lambda spans: diou_loss(spans, true), spans)
