from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vlm.ssm.problems import TOLERANCE, distance, naive, problem, run
from vlm.errors import InputError
from vlm.ssm import reference
from vlm.ssm.inputs import ScanInputs
from vlm.ssm.scan import selective_scan


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """Options of a scan of 3 rows and 6 steps, or of one row of 6 steps that holds 3 items."""
    changed: dict[str, Any] = {"reverse": draw(st.booleans()), "delta_softplus": draw(st.booleans())}
    changed |= {name: None for name in ("D", "z", "delta_bias", "initial_state") if draw(st.booleans())}
    layout = draw(st.sampled_from(["plain", "lengths", "cu_seqlens"]))
    if layout == "lengths":
        changed["lengths"] = torch.tensor(draw(st.lists(st.integers(0, 6), min_size=3, max_size=3)))
    elif layout == "cu_seqlens":
        changed["cu_seqlens"] = torch.tensor([0, *sorted(draw(st.lists(st.integers(0, 6), min_size=2, max_size=2))), 6])
    return changed


@given(changes())
@settings(max_examples=60, deadline=None)
def test_the_reference_is_the_recurrence(changed: dict[str, Any]):
    asked = problem(1 if "cu_seqlens" in changed else 3, 6, 3, 2, **changed)
    output, state = run(asked, "reference")
    true_output, true_state = naive(asked)
    assert distance(output, torch.from_numpy(true_output)) < TOLERANCE[torch.float64]
    assert distance(state, torch.from_numpy(true_state)) < TOLERANCE[torch.float64]


def test_gradients_pass_gradcheck_in_float64():
    asked = problem(2, 4, 2, 2, lengths=torch.tensor([4, 2]), reverse=True)
    floats = asked.floats()

    def scan(*values: torch.Tensor) -> Any:
        replaced = asked.arguments() | dict(zip(floats, values, strict=True))
        return selective_scan(**replaced, return_last_state=True, backend="reference")

    assert torch.autograd.gradcheck(scan, [value.requires_grad_() for value in floats.values()])


def test_second_gradients_pass_gradgradcheck_in_float64():
    asked = problem(1, 4, 2, 2, cu_seqlens=torch.tensor([0, 3, 3, 4]))
    floats = asked.floats()

    def scan(*values: torch.Tensor) -> Any:
        replaced = asked.arguments() | dict(zip(floats, values, strict=True))
        return selective_scan(**replaced, return_last_state=True, backend="reference")

    assert torch.autograd.gradgradcheck(scan, [value.requires_grad_() for value in floats.values()], fast_mode=True)


def test_one_step_of_zero_order_hold_worked_out_by_hand():
    # delta = ln 2 and A = -1: A_bar = 1/2, B_bar = (1 - 1/2) B. From h = 4 with u = 3, B = 10: h = 4/2 + 10 * 3/2 = 17; C = 2, D = 1: 37.
    # Euler takes ln 2 instead of 1/2 for B_bar / B: h = 2 + 30 ln 2.
    def number(value: float, *shape: int) -> torch.Tensor:
        return torch.full(shape, value, dtype=torch.float64)

    u, delta, A = number(3, 1, 1, 1), number(2, 1, 1, 1).log(), number(-1, 1, 1)
    inputs = ScanInputs(u, delta, A, number(10, 1, 1, 1), number(2, 1, 1, 1), D=number(1, 1), initial_state=number(4, 1, 1, 1))
    output, state = reference.scan(inputs, discretisation="zoh")
    assert (output.item(), state.item()) == pytest.approx((37, 17), rel=1e-12)
    assert reference.scan(inputs)[1].item() == pytest.approx(2 + 30 * delta.item(), rel=1e-12)


def test_a_discretisation_that_is_unknown_is_refused():
    with pytest.raises(InputError, match="discretisation must be 'euler' or 'zoh', got 'bilinear'"):
        reference.scan(ScanInputs(**problem().arguments()), discretisation="bilinear")  # type: ignore[arg-type]


def test_zero_order_hold_is_the_exact_solution_for_a_constant_input():
    # h' = A h + B u with constant u: h(t) = (exp(A t) - 1) / A * B u, however the time is cut into steps.
    steps = torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64)
    A = torch.tensor([[-2.0, 0.0]], dtype=torch.float64)
    ones = torch.ones(1, 3, 1, dtype=torch.float64)
    inputs = ScanInputs(ones, steps[None, :, None], A, ones.expand(1, 3, 2), ones.expand(1, 3, 2))
    _, state = reference.scan(inputs, discretisation="zoh")
    torch.testing.assert_close(state[0, 0], torch.tensor([(1 - torch.exp(torch.tensor(-2.0, dtype=torch.float64))) / 2, 1.0]).double())


def test_euler_and_zero_order_hold_agree_for_small_steps():
    asked = problem(delta_softplus=False, delta_bias=None)
    small = ScanInputs(**(asked.arguments() | {"delta": asked.delta.abs() * 1e-6}))
    euler, zoh = reference.scan(small)[0], reference.scan(small, discretisation="zoh")[0]
    assert 0 < distance(zoh, euler) < 1e-4


def test_autocast_does_not_reach_inside():
    asked = problem(dtype=torch.float32)
    plain, _ = run(asked, "reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = run(asked, "reference")
    assert torch.equal(plain, inside)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_computed_in_float32(dtype: torch.dtype):
    asked = problem(t=50, dtype=dtype)
    output, state = run(asked, "reference")
    truth, _ = run(asked.to(torch.float32), "reference")
    assert (output.dtype, state.dtype) == (dtype, torch.float32)
    assert torch.equal(output, truth.to(dtype))
