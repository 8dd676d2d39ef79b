"""Exact padding: whatever stands beside and between its tokens, an item comes out as it would alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.vlm.ssm.mixers import CONFIGS, STACKS, TOLERANCE, WIDTH, build, tokens
from vlm.ssm.packed import Packing, item_of_row

ALL = [*CONFIGS, *STACKS]
HOLES = torch.tensor(
    [
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ],
    dtype=torch.bool,
)


def alone(module: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Each item by itself, without its pads, put back in its places."""
    out = torch.zeros_like(x)
    for i in range(len(x)):
        if mask[i].any():
            out[i, mask[i]] = module(x[i, mask[i]][None])[0]
    return out


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ALL)
def test_an_item_comes_out_of_any_batch_as_it_would_alone(name: str, dtype: torch.dtype):
    module, x = build(name, dtype), tokens(*HOLES.shape, dtype)
    assert (module(x, HOLES) - alone(module, x, HOLES)).abs().max() < TOLERANCE[dtype]


@given(st.integers(0, 3), st.integers(0, 6), st.data())
@settings(max_examples=12, deadline=None)
@pytest.mark.parametrize("name", ["vim", "dbm", "attention causal window"])
def test_no_mask_changes_what_an_item_becomes(name: str, b: int, t: int, data: st.DataObject):
    marks = data.draw(st.lists(st.booleans(), min_size=b * t, max_size=b * t))
    mask = torch.tensor(marks, dtype=torch.bool).view(b, t)
    module, x = build(name), tokens(b, t)
    torch.testing.assert_close(module(x, mask), alone(module, x, mask), rtol=0, atol=TOLERANCE[torch.float64])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_the_items_alone(name: str, dtype: torch.dtype):
    weight = tokens(*HOLES.shape, dtype, seed=2)

    def gradients(batched: bool) -> list[Tensor]:
        module, x = build(name, dtype), tokens(*HOLES.shape, dtype).requires_grad_()
        out = module(x, HOLES) if batched else alone(module, x, HOLES)
        (out * weight).sum().backward()
        return [leaf.grad for leaf in (x, *module.parameters()) if leaf.grad is not None]

    found, truth = gradients(batched=True), gradients(batched=False)
    assert len(found) == len(truth)
    for one, other in zip(found, truth, strict=True):
        # Weights sum over some forty tokens.
        assert (one - other).abs().max() < 10 * TOLERANCE[dtype] * max(1, other.abs().max().item())


@pytest.mark.parametrize("name", ALL)
def test_what_stands_at_pads_is_never_read(name: str):
    module, x = build(name), tokens(*HOLES.shape)
    poisoned = x.masked_fill(~HOLES[:, :, None], float("nan")).requires_grad_()
    out = module(poisoned, HOLES)
    out.sum().backward()
    assert torch.equal(out, module(x, HOLES))
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in (poisoned, *module.parameters()))


@pytest.mark.parametrize("name", ALL)
def test_pads_come_out_as_zeros_and_take_no_gradient(name: str):
    module, x = build(name), tokens(*HOLES.shape).requires_grad_()
    out = module(x, HOLES)
    out.square().sum().backward()
    assert x.grad is not None
    assert (out[~HOLES] == 0).all()
    assert (x.grad[~HOLES] == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_a_batch_of_pads_alone_gives_zeros(name: str):
    module, x = build(name), tokens(2, 5).requires_grad_()
    out = module(x, torch.zeros(2, 5, dtype=torch.bool))
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(x))


@pytest.mark.parametrize("name", ALL)
def test_a_mask_without_pads_changes_nothing(name: str):
    module, x = build(name), tokens(2, 5)
    assert torch.equal(module(x, torch.ones(2, 5, dtype=torch.bool)), module(x))


@pytest.mark.parametrize("bounds_dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_packed_items_are_mixed_as_if_alone(name: str, bounds_dtype: torch.dtype):
    module, x = build(name), tokens(1, 11)
    bounds = [0, 4, 4, 5, 11]  # one of them empty, one a single token
    out = module(x, cu_seqlens=torch.tensor(bounds, dtype=bounds_dtype))
    truth = torch.cat([module(x[:, a:b]) for a, b in pairwise(bounds)], dim=1)
    assert (out - truth).abs().max() < TOLERANCE[torch.float64]


def test_packing_takes_real_tokens_in_order_and_puts_them_back():
    mask = torch.tensor([[False, True, True], [False, False, False], [True, False, True]])
    packing, x = Packing.of_mask(mask), torch.arange(9.0).view(3, 3, 1)
    rows = packing.pack(x)
    assert rows.flatten().tolist() == [1, 2, 6, 8]
    assert packing.cu_seqlens.tolist() == [0, 2, 2, 4]
    assert packing.unpack(rows).flatten().tolist() == [0, 1, 2, 0, 0, 0, 6, 0, 8]


def test_packing_has_gradients_of_second_order():
    packing = Packing.of_mask(torch.tensor([[True, False, True], [False, True, True]]))
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: packing.unpack(packing.pack(x) ** 2), [x])


def test_rows_know_their_item_past_empty_ones():
    assert item_of_row(torch.tensor([0, 0, 2, 2, 3]), 3).tolist() == [1, 1, 3]


def test_the_width_of_tokens_is_kept():
    assert build("vim")(tokens(1, 3), torch.tensor([[True, False, True]])).shape == (1, 3, WIDTH)
