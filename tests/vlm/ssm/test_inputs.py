from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.vlm.ssm.problems import problem
from vlm.errors import BackendUnavailable, InputError
from vlm.ssm.scan import selective_scan


def scan(**changes: Any) -> torch.Tensor:
    return selective_scan(**(problem().arguments() | {"backend": "reference"} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"u": torch.ones(7, 5)}, r"u must have the shape \(b, t, d\), got \(7, 5\)"),
        ({"A": torch.ones(6, 4)}, r"A must have the shape \(d, n\) with d = 5 as in u, got \(6, 4\)"),
        ({"A": torch.ones(5, 0)}, r"A must hold at least one state"),
        ({"delta": torch.ones(2, 7, 4)}, r"delta must have the shape \(b, t, d\) = \(2, 7, 5\), got \(2, 7, 4\)"),
        ({"B": torch.ones(2, 4, 7)}, r"B must have the shape \(b, t, n\) = \(2, 7, 4\), got \(2, 4, 7\)"),
        ({"C": torch.ones(2, 4, 7)}, r"C must have the shape"),
        ({"D": torch.ones(4)}, r"D must have the shape \(d\) = \(5,\), got \(4,\)"),
        ({"z": torch.ones(2, 7, 5).int()}, r"z must be float16, bfloat16, float32 or float64, got torch.int32"),
        ({"delta_bias": torch.ones(5, 1)}, r"delta_bias must have the shape \(d\)"),
        ({"initial_state": torch.ones(2, 4, 5)}, r"initial_state must have the shape \(b, d, n\) = \(2, 5, 4\)"),
        ({"D": torch.ones(5, device="meta")}, r"D must be on cpu as u is, got meta; move it"),
        ({"lengths": torch.tensor([1, 8])}, r"lengths must lie in \[0, 7\], got \[1, 8\]"),
        ({"lengths": torch.tensor([1])}, r"lengths must have the shape \(b\) = \(2,\), got \(1,\)"),
        ({"lengths": torch.tensor([1.0, 2.0])}, r"lengths must be int32 or int64, got torch.float32"),
        ({"cu_seqlens": torch.tensor([0, 7])}, r"cu_seqlens needs all items in one row.*got b = 2"),
        ({"lengths": torch.tensor([1, 2]), "cu_seqlens": torch.tensor([0, 7])}, r"exclude each other"),
    ],
)
def test_a_wrong_argument_is_named_with_its_rule(changes: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        scan(**changes)


@pytest.mark.parametrize("bounds", [[0, 6], [1, 7], [0, 5, 3, 7], [-1, 7]])
def test_bounds_of_items_must_rise_from_zero_to_t(bounds: list[int]):
    with pytest.raises(InputError, match=r"cu_seqlens must rise from 0 to t = 7, got"):
        selective_scan(**problem(1, cu_seqlens=torch.tensor(bounds)).arguments())


def test_an_unknown_backend_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match=r"got 'refernce'; did you mean 'reference'\?"):
        scan(backend="refernce")


def test_a_missing_backend_is_refused_with_its_reason_and_never_replaced():
    with pytest.raises(BackendUnavailable, match=r"scan backend 'mamba_ssm' is missing: .+; use backend='auto'"):
        scan(backend="mamba_ssm")
