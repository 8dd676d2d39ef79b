from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.vlm.ssm.mixers import TOLERANCE, WIDTH, build, tokens
from vlm.errors import InputError
from vlm.ssm.blocks import Mamba
from vlm.ssm.state import MambaState

LENGTH = 9


def mamba(dtype: torch.dtype = torch.float64) -> Mamba:
    mixer = build("mamba", dtype)
    assert isinstance(mixer, Mamba)
    return mixer


def in_chunks(mixer: Mamba, x: Tensor, sizes: list[int]) -> tuple[Tensor, MambaState]:
    state, parts = mixer.init_state(x.shape[0]), []
    for chunk in x.split(sizes, dim=1):
        part, state = mixer(chunk, state=state, return_state=True)
        parts.append(part)
    return torch.cat(parts, dim=1), state


@given(st.lists(st.integers(0, LENGTH), max_size=4))
@settings(max_examples=20, deadline=None)
def test_the_whole_equals_any_split_into_chunks(cuts: list[int]):
    mixer, x = mamba(), tokens(2, LENGTH)
    places = [0, *sorted(cuts), LENGTH]
    sizes = [end - start for start, end in pairwise(places)]
    split, after = in_chunks(mixer, x, sizes)
    whole, state = mixer(x, return_state=True)
    for found, truth in ((split, mixer(x)), (whole, mixer(x)), (after.scan, state.scan), (after.conv, state.conv)):
        torch.testing.assert_close(found, truth, rtol=0, atol=TOLERANCE[torch.float64])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_whole_equals_one_token_after_the_other(dtype: torch.dtype):
    mixer, x = mamba(dtype), tokens(3, LENGTH, dtype)
    state, parts = mixer.init_state(3), []
    for x_t in x.unbind(dim=1):
        part, state = mixer.step(x_t, state)
        parts.append(part)
    whole, after = mixer(x, return_state=True)
    for found, truth in ((torch.stack(parts, dim=1), whole), (state.scan, after.scan), (state.conv, after.conv)):
        torch.testing.assert_close(found, truth, rtol=0, atol=TOLERANCE[dtype])


def test_chunks_and_single_tokens_can_take_turns():
    mixer, x = mamba(), tokens(1, LENGTH)
    first, state = mixer(x[:, :4], state=mixer.init_state(1), return_state=True)
    one, state = mixer.step(x[:, 4], state)
    rest = mixer(x[:, 5:], state=state)
    torch.testing.assert_close(torch.cat([first, one[:, None], rest], dim=1), mixer(x), rtol=0, atol=TOLERANCE[torch.float64])


def test_gradients_flow_through_the_state():
    def gradients(sizes: list[int]) -> list[Tensor]:
        mixer, x = mamba(), tokens(2, LENGTH).requires_grad_()
        out, state = in_chunks(mixer, x, sizes)
        (out.square().sum() + state.scan.sum() + state.conv.sum()).backward()
        return [leaf.grad for leaf in (x, *mixer.parameters()) if leaf.grad is not None]

    for found, truth in zip(gradients([2, 1, 6]), gradients([LENGTH]), strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-12)


def test_each_item_of_a_padded_chunk_goes_on_from_its_own_end():
    mixer, x = mamba(), tokens(4, LENGTH)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)
    start = mixer(x[:, 5:], return_state=True)[1]
    out, state = mixer(x[:, :5], mask, state=start, return_state=True)
    for i in range(4):
        mine = MambaState(start.conv[i : i + 1], start.scan[i : i + 1])
        truth, after = mixer(x[i : i + 1, :5][:, mask[i]], state=mine, return_state=True)
        torch.testing.assert_close(out[i, mask[i]][None], truth, rtol=0, atol=TOLERANCE[torch.float64])
        torch.testing.assert_close(state.scan[i : i + 1], after.scan, rtol=0, atol=TOLERANCE[torch.float64])
        torch.testing.assert_close(state.conv[i : i + 1], after.conv, rtol=0, atol=TOLERANCE[torch.float64])


def test_a_step_leaves_the_state_that_it_is_given():
    mixer = mamba()
    state = mixer.init_state(1)
    mixer.step(tokens(1, 1)[:, 0], state)
    assert not state.conv.any()
    assert not state.scan.any()


def test_a_step_under_autocast_keeps_the_memory_in_float32():
    mixer = mamba(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out, state = mixer.step(tokens(1, 1, torch.float32)[:, 0], mixer.init_state(1))
    assert out.dtype == torch.bfloat16
    assert (state.conv.dtype, state.scan.dtype) == (torch.float32, torch.float32)


def test_the_memory_of_a_bfloat16_mixer_is_float32():
    mixer = mamba(torch.bfloat16)
    out, state = mixer.step(tokens(1, 1, torch.bfloat16)[:, 0], mixer.init_state(1))
    again, later = mixer(tokens(1, 3, torch.bfloat16), state=state, return_state=True)
    assert {out.dtype, again.dtype} == {torch.bfloat16}
    assert {part.dtype for given in (state, later) for part in (given.conv, given.scan)} == {torch.float32}


@pytest.mark.parametrize("way", ["forward", "step"])
def test_a_state_of_another_batch_is_refused(way: str):
    mixer = mamba()
    with pytest.raises(InputError, match=re.escape(f"state.conv must have the shape (2, 3, {2 * WIDTH}), got (1, 3, {2 * WIDTH})")):
        if way == "forward":
            mixer(tokens(2, 3), state=mixer.init_state(1))
        else:
            mixer.step(tokens(2, 1)[:, 0], mixer.init_state(1))
