from __future__ import annotations

import pytest
import torch

from tests.vlm.ssm.mixers import WIDTH, build, tokens
from vlm.errors import InputError
from vlm.ssm.attention import Attention
from vlm.ssm.stack import count_parameters


def test_a_window_hides_what_is_farther_away():
    mixer, x = build("attention window"), tokens(1, 10)
    changed = x.clone()
    changed[:, 5] += 1
    moved = (mixer(x) != mixer(changed)).any(dim=2)[0]
    assert moved.tolist() == [3 <= i <= 7 for i in range(10)]


def test_a_window_is_counted_in_real_tokens():
    mixer, x = build("attention window"), tokens(1, 10)
    mask = torch.tensor([[True, True, False, False, False, True, False, True, True, True]])
    changed = x.clone()
    changed[:, 5] += 1  # the third real token
    moved = (mixer(x, mask) != mixer(changed, mask)).any(dim=2)[0]
    assert moved.nonzero().flatten().tolist() == [0, 1, 5, 7, 8]


def test_it_has_four_times_width_squared_weights():
    assert count_parameters(Attention(128)) == 4 * 128**2


@pytest.mark.parametrize(("d_model", "heads"), [(512, 8), (64, 1), (48, 1)])
def test_a_head_is_64_wide_unless_told(d_model: int, heads: int):
    assert Attention(d_model).num_heads == heads


@pytest.mark.parametrize(
    ("changes", "message"), [({"num_heads": 5}, "d_model=12, num_heads=5"), ({"num_heads": 0}, "num_heads=0"), ({"window": -1}, "got -1")]
)
def test_numbers_that_break_a_rule_are_refused(changes: dict[str, int], message: str):
    with pytest.raises(InputError, match=message):
        Attention(WIDTH, **changes)
