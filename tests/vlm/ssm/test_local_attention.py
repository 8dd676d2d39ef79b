from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vlm.ssm.local_attention import local_attention


def naive(queries: Tensor, keys: Tensor, values: Tensor, item: Tensor, window: int, causal: bool) -> Tensor:
    out = torch.empty(*queries.shape[:2], values.shape[2], dtype=values.dtype)
    for head, place in itertools.product(range(queries.shape[0]), range(queries.shape[1])):
        seen = [
            other
            for other in range(queries.shape[1])
            if item[other] == item[place] and abs(other - place) <= window and not (causal and other > place)
        ]
        scores = torch.stack([queries[head, place] @ keys[head, other] / queries.shape[2] ** 0.5 for other in seen]).softmax(dim=0)
        out[head, place] = sum(score * values[head, other] for score, other in zip(scores, seen, strict=True))
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("lengths", "window"), [([1], 3), ([7], 2), ([5, 1, 6], 2), ([4, 4], 0), ([3, 9], 50), ([8], 4)])
def test_it_is_the_plain_loop_with_its_gradients(lengths: list[int], window: int, causal: bool):
    generator = torch.Generator().manual_seed(0)
    m = sum(lengths)
    inputs = [torch.randn(2, m, width, dtype=torch.float64, generator=generator).requires_grad_() for width in (4, 4, 3)]
    item = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    found = local_attention(*inputs, item, window=window, causal=causal)
    wanted = naive(*inputs, item, window, causal)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    gradients = [torch.autograd.grad((made * weight).sum(), inputs) for made in (found, wanted)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_memory_grows_with_the_length_and_not_its_square():
    m = 40_000  # all pairs in float32 would take 6.4 GB
    x = torch.randn(1, m, 4, generator=torch.Generator().manual_seed(0))
    found = local_attention(x, x, x, torch.zeros(m, dtype=torch.int64), window=8)
    assert found.shape == (1, m, 4)
    middle = local_attention(x[:, 100:200], x[:, 100:200], x[:, 100:200], torch.zeros(100, dtype=torch.int64), window=8)
    torch.testing.assert_close(found[:, 150], middle[:, 50])
