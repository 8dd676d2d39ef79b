"""The adapter to the official package, held against a stand-in with the official signature that computes naively."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.vlm.ssm.problems import GRADIENT_TOLERANCE, TOLERANCE, Problem, distance, problem
from vlm.errors import BackendUnavailable
from vlm.ssm import external, reference
from vlm.ssm.inputs import ScanInputs


def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False):
    """The official function's layout (b, d, t), types and results, one step after the other."""
    assert {tensor.dtype for tensor in (delta, B, C)} == {u.dtype}
    assert {tensor.dtype for tensor in (A, D, delta_bias) if tensor is not None} <= {torch.float32}
    assert all(tensor.is_contiguous() for tensor in (u, delta, B, C))
    steps = delta.float() if delta_bias is None else delta.float() + delta_bias[:, None]
    steps = functional.softplus(steps) if delta_softplus else steps
    h, outputs = u.new_zeros(u.shape[0], *A.shape, dtype=torch.float32), []
    for i in range(u.shape[2]):
        h = torch.exp(steps[:, :, i, None] * A) * h + (steps[:, :, i] * u[:, :, i].float())[:, :, None] * B[:, None, :, i].float()
        outputs.append((h * C[:, None, :, i].float()).sum(-1))
    out = torch.stack(outputs, dim=2)
    out = out if D is None else out + D[:, None] * u.float()
    out = (out if z is None else out * functional.silu(z.float())).to(u.dtype)
    return (out, h) if return_last_state else out


@pytest.fixture(autouse=True)
def official(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in under the official name."""
    module = ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = selective_scan_fn  # type: ignore[attr-defined]
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


LAYOUTS = {
    "plain": {},
    "reverse": {"reverse": True},
    "lengths": {"lengths": torch.tensor([9, 4, 0])},
    "lengths in reverse": {"lengths": torch.tensor([8, 1, 9]), "reverse": True},
    "packed": {"cu_seqlens": torch.tensor([0, 4, 4, 5, 9])},
    "packed in reverse": {"cu_seqlens": torch.tensor([0, 4, 9], dtype=torch.int32), "reverse": True},
}


def given(layout: str, dtype: torch.dtype = torch.float32) -> Problem:
    changes = LAYOUTS[layout]
    return replace(problem(1 if "cu_seqlens" in changes else 3, 9, 4, 3, dtype=dtype, **changes), initial_state=None)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("is_bare", [False, True])
def test_the_adapter_gives_the_recurrence(layout: str, is_bare: bool):
    asked = given(layout)
    if is_bare:
        asked = replace(asked, D=None, z=None, delta_softplus=False, delta=asked.delta.abs() / 4, delta_bias=torch.full((4,), 0.1))
    found, truth = external.scan(ScanInputs(**asked.arguments())), reference.scan(ScanInputs(**asked.to(torch.float64).arguments()))
    for one, other in zip(found, truth, strict=True):
        assert distance(one, other) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_go_through_the_adapter(layout: str):
    def gradients(asked: Problem, scan) -> list[Tensor]:
        leaves = replace(asked, **{name: value.detach().requires_grad_() for name, value in asked.floats().items()})
        out, _ = scan(ScanInputs(**leaves.arguments()))
        return list(torch.autograd.grad(out.square().sum(), list(leaves.floats().values())))

    asked = given(layout)
    for one, other in zip(gradients(asked, external.scan), gradients(asked.to(torch.float64), reference.scan), strict=True):
        assert distance(one, other) < GRADIENT_TOLERANCE[torch.float32]


def test_what_lies_beyond_an_end_is_not_read():
    asked = given("lengths")
    beyond = torch.arange(9)[None, :, None] >= LAYOUTS["lengths"]["lengths"][:, None, None]
    poisoned = replace(asked, **{name: getattr(asked, name).masked_fill(beyond, torch.nan) for name in ("u", "delta", "B", "C", "z")})
    for one, other in zip(external.scan(ScanInputs(**poisoned.arguments())), external.scan(ScanInputs(**asked.arguments())), strict=True):
        assert torch.equal(one, other)


def test_low_precision_goes_in_and_comes_out():
    low = given("reverse").to(torch.bfloat16)
    out, state = external.scan(ScanInputs(**low.arguments()))
    assert (out.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert distance(out, reference.scan(ScanInputs(**low.to(torch.float64).arguments()))[0]) < TOLERANCE[torch.bfloat16]


def test_a_gradient_of_the_last_state_is_refused_not_taken_for_zero():
    asked = given("plain")
    asked.u.requires_grad_()
    _, state = external.scan(ScanInputs(**asked.arguments()))
    with pytest.raises(BackendUnavailable, match="no gradient of the last state"):
        state.sum().backward()


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3)])
def test_nothing_gives_nothing(shape: tuple[int, int, int]):
    out, state = external.scan(ScanInputs(**replace(problem(*shape, 2, dtype=torch.float32), initial_state=None).arguments()))
    assert out.shape == shape
    assert state.shape == (shape[0], 3, 2)


@pytest.mark.parametrize(
    ("is_installed", "has_gpu", "reason"),
    [(False, True, "the package mamba_ssm is not installed"), (True, False, "it needs a CUDA device"), (True, True, "None")],
)
def test_why_it_is_missing_is_said(is_installed: bool, has_gpu: bool, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(external, "find_spec", lambda _name: object() if is_installed else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert str(external.missing()).startswith(reason)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (given("plain"), "needs tensors on a CUDA device, got cpu"),
        (problem(1, 2, 3, 4, dtype=torch.float32), "always starts from a state of zeros, got initial_state"),
        (given("plain", torch.float64), "computes in float32, got float64 tensors"),
        (replace(problem(1, 2, 3, 257, dtype=torch.float32), initial_state=None), "at most 256 states a channel, got 257"),
    ],
)
def test_what_it_cannot_take_is_said(asked: Problem, reason: str):
    assert reason in str(external.unsupported(ScanInputs(**asked.arguments())))
