"""InfoNCE against loops that spell it out."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from vlm.train.losses.contrastive import info_nce


def units(*shape: int, seed: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def naive(image: Tensor, text: Tensor, scale: float, negatives: Tensor, excluded: Tensor) -> float:
    """One pair after the other."""
    n, texts = len(image), [*text, *negatives]

    def score(i: int, j: int) -> float:
        return exp(scale * sum(float(a) * float(b) for a, b in zip(image[i], texts[j], strict=True)))

    total = 0.0
    for i in range(n):
        to_texts = sum(score(i, j) for j in range(len(texts)) if j == i or not excluded[i, j])
        to_images = sum(score(j, i) for j in range(n) if j == i or not excluded[j, i])
        total += -log(score(i, i) / to_texts) - log(score(i, i) / to_images)
    return total / (2 * n)


@pytest.mark.parametrize("m", [0, 1, 7])
def test_the_loss_is_that_of_a_loop(m: int) -> None:
    image, text, negatives = units(5, 4, seed=0), units(5, 4, seed=1), units(m, 4, seed=2)
    excluded = torch.rand(5, 5 + m, generator=torch.Generator().manual_seed(3)) < 0.3
    found = info_nce(image, text, torch.tensor(7.0, dtype=torch.float64), negatives=negatives, excluded=excluded)
    assert float(found) == pytest.approx(naive(image, text, 7.0, negatives, excluded), abs=1e-12)


def test_gradients_are_those_of_differences() -> None:
    image, text, negatives = (units(3, 2, seed=seed).requires_grad_() for seed in (0, 1, 2))
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: info_nce(x[0], x[1], x[2], negatives=x[3]), (image, text, scale, negatives))


def test_a_hard_negative_equal_to_the_own_text_costs_the_image_side_one_bit() -> None:
    one = torch.tensor([[1.0, 0.0]])
    assert float(info_nce(one, one, torch.tensor(5.0), negatives=one)) == pytest.approx(log(2) / 2)


def test_an_own_pair_is_never_excluded() -> None:
    image, text = units(3, 4, seed=0), units(3, 4, seed=1)
    scale = torch.tensor(2.0, dtype=torch.float64)
    everything = torch.ones(3, 3, dtype=torch.bool)
    assert float(info_nce(image, text, scale, excluded=everything)) == pytest.approx(0.0)


@pytest.mark.parametrize("chunk", [1, 2, 5, 9])
def test_in_chunks_it_is_the_same_loss_with_the_same_gradients(chunk: int) -> None:
    leaves = [units(5, 4, seed=seed).requires_grad_() for seed in (0, 1)] + [units(6, 4, seed=2).requires_grad_()]
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    excluded = torch.rand(5, 11, generator=torch.Generator().manual_seed(3)) < 0.3
    whole, parts = (info_nce(leaves[0], leaves[1], scale, negatives=leaves[2], excluded=excluded, chunk=size) for size in (None, chunk))
    assert float(whole.detach()) == pytest.approx(float(parts.detach()), abs=1e-12)
    for one, other in zip(*(torch.autograd.grad(loss, [*leaves, scale]) for loss in (whole, parts)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
