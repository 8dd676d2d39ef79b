from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.vlm.ssm.mixers import CONFIGS, TOLERANCE, WIDTH, tokens
from vlm.errors import InputError
from vlm.ssm.stack import Stack, StackConfig, StackState

LENGTH = 9


def stack(dtype: torch.dtype = torch.float64) -> Stack:
    """Three layers of Mamba with feed-forwards, away from their initial values."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = StackConfig(CONFIGS["mamba"], 3, norm="rms", ffn_expand=2).build()
        for parameter in made.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made.to(dtype).eval()


def in_chunks(made: Stack, x: Tensor, sizes: list[int]) -> tuple[Tensor, StackState]:
    states, parts = made.init_state(x.shape[0]), []
    for chunk in x.split(sizes, dim=1):
        part, states = made.forward_on(chunk, states)
        parts.append(part)
    return torch.cat(parts, dim=1), states


def one_by_one(made: Stack, x: Tensor) -> tuple[Tensor, StackState]:
    states, parts = made.init_state(x.shape[0]), []
    for x_t in x.unbind(dim=1):
        part, states = made.step(x_t, states)
        parts.append(part)
    return torch.stack(parts, dim=1), states


def assert_same(found: tuple[Tensor, StackState], truth: tuple[Tensor, StackState], tolerance: float) -> None:
    torch.testing.assert_close(found[0], truth[0], rtol=0, atol=tolerance)
    for one, other in zip(found[1], truth[1], strict=True):
        torch.testing.assert_close(one.conv, other.conv, rtol=0, atol=tolerance)
        torch.testing.assert_close(one.scan, other.scan, rtol=0, atol=tolerance)


@given(st.lists(st.integers(0, LENGTH), max_size=4))
@settings(max_examples=10, deadline=None)
def test_a_stack_in_any_chunks_equals_the_whole(cuts: list[int]):
    made, x = stack(), tokens(2, LENGTH)
    sizes = [end - start for start, end in pairwise([0, *sorted(cuts), LENGTH])]
    whole = made.forward_on(x, made.init_state(2))
    assert_same(in_chunks(made, x, sizes), whole, TOLERANCE[torch.float64])
    torch.testing.assert_close(whole[0], made(x), rtol=0, atol=TOLERANCE[torch.float64])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_stack_one_token_at_a_time_equals_the_whole(dtype: torch.dtype):
    made, x = stack(dtype), tokens(3, LENGTH, dtype)
    assert_same(one_by_one(made, x), made.forward_on(x, made.init_state(3)), TOLERANCE[dtype])


def test_packed_items_of_a_stack_carry_states_of_their_own():
    made, x = stack(), tokens(2, LENGTH)
    _, states = made.forward_on(x[:, :4], made.init_state(2))
    packed = torch.cat([x[0, None, 4:7], x[1, None, 4:6]], dim=1)
    found, _ = made.forward_on(packed, states, cu_seqlens=torch.tensor([0, 3, 5]))
    whole = made(x)
    torch.testing.assert_close(found[0], torch.cat([whole[0, 4:7], whole[1, 4:6]]), rtol=0, atol=TOLERANCE[torch.float64])


def test_states_of_a_stack_are_not_changed_by_what_follows():
    made, x = stack(), tokens(1, LENGTH)
    _, states = made.forward_on(x[:, :4], made.init_state(1))
    kept = [(state.conv.clone(), state.scan.clone()) for state in states]
    made.step(x[:, 4], states)
    made.forward_on(x[:, 4:], states)
    for state, (conv, scan) in zip(states, kept, strict=True):
        assert torch.equal(state.conv, conv)
        assert torch.equal(state.scan, scan)


@pytest.mark.parametrize(("name", "kind"), [("vim", "ViM"), ("dbm", "DBM"), ("attention", "Attention")])
def test_a_stack_that_sees_the_future_carries_no_state(name: str, kind: str):
    with pytest.raises(InputError, match=f"only 'mamba' carries a state from chunk to chunk, got a layer of {kind}$"):
        StackConfig(CONFIGS[name], 2).build().init_state(1)


def test_states_of_another_stack_are_refused():
    made = stack()
    with pytest.raises(InputError, match="one state for each of 3 layers, got 2; start from init_state"):
        made.step(torch.zeros(1, WIDTH).double(), made.init_state(1)[:2])
    with pytest.raises(InputError, match=re.escape("state.conv must have the shape (2, 3, 24), got (1, 3, 24)")):
        made.step(torch.zeros(2, WIDTH).double(), made.init_state(1))
