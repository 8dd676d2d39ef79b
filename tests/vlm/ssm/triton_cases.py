"""Run by test_triton_scan.py in a process whose environment asks for Triton's interpreter: prints the distances from the truth."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from tests.vlm.ssm.problems import Problem, distance, gradients, problem
from vlm.ssm import triton_conv, triton_scan
from vlm.ssm.conv import causal_conv1d

# As a GPU has it but for the widths: the interpreter takes as long for what is masked away. Chunks of two tiles of two parts.
SMALL = triton_scan.Tuning(tile=8, forward_part=4, backward_part=4, forward_channels=8, backward_channels=8, least_chunk=16)
ABSENT = dict.fromkeys(("D", "z", "delta_bias", "initial_state"))


def case(t: int, d: int, n: int = 4, b: int = 2, dtype: torch.dtype = torch.float32, **changes: Any) -> Problem:
    return problem(b, t, d, n, dtype=dtype, seed=t, **changes)


def in_mixed_types() -> Problem:
    low = case(33, 8).to(torch.bfloat16)
    exact = {name: getattr(low, name).float() for name in ("A", "D", "delta_bias", "initial_state")}
    return replace(low, **exact)


def not_contiguous() -> Problem:
    given = case(9, 6)
    wide = torch.stack([given.u, given.u], dim=3)[..., 0]
    return replace(given, u=wide, B=given.B.transpose(0, 1).contiguous().transpose(0, 1), C=torch.cat([given.C, given.C], dim=2)[:, :, :4])


CASES: dict[str, Callable[[], Problem]] = {
    "one step": lambda: case(1, 3),
    "as on a GPU": lambda: case(18, 3, n=2, b=1),
    "one tile": lambda: case(8, 5),
    "a chunk": lambda: case(16, 5),
    "more chunks than are linked at a time": lambda: case(16 * 5 + 1, 3, n=2, b=1),
    "several blocks of channels": lambda: case(7, 8 + 1, b=1),
    "states that are no power of two": lambda: case(7, 4, n=5),
    "one state": lambda: case(7, 4, n=1),
    "reverse": lambda: case(35, 7, n=2, reverse=True),
    "lengths": lambda: case(34, 6, n=2, b=4, lengths=torch.tensor([34, 33, 1, 0])),
    "lengths in reverse": lambda: case(34, 6, n=2, b=4, lengths=torch.tensor([33, 32, 2, 0], dtype=torch.int32), reverse=True),
    "packed": lambda: case(40, 6, n=2, b=1, cu_seqlens=torch.tensor([0, 33, 33, 34, 40])),
    "packed in reverse": lambda: case(40, 6, n=2, b=1, cu_seqlens=torch.tensor([0, 35, 40, 40], dtype=torch.int32), reverse=True),
    "nothing optional": lambda: replace(case(9, 4), **ABSENT),
    "no softplus": lambda: replace(case(9, 4), delta=case(9, 4).delta.abs() / 4, delta_bias=None, delta_softplus=False),
    "tiny and huge steps": lambda: replace(case(9, 4), delta=torch.tensor([-14.0, 50.0, -14.0, 50.0]).expand(2, 9, 4).clone()),
    "slow and fast rates": lambda: replace(case(9, 4), A=torch.tensor([-1e-6, -1.0, -50.0, -1e3]).expand(4, 4).clone()),
    "bfloat16": in_mixed_types,
    "not contiguous": not_contiguous,
    "no item": lambda: case(5, 3, b=0),
    "no step": lambda: case(0, 3),
}


def convolution(cu_seqlens: list[int] | None, reverse: bool, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Distances of the convolution's kernels from plain torch in float64."""
    b, t, d, K = (2 if cu_seqlens is None else 1), 37, 5, 4
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, grad = (torch.randn(shape, generator=generator) for shape in ((b, t, d), (d, K), (d,), (b, t, d)))
    x, grad = x.to(dtype), grad.to(dtype)
    bounds = None if cu_seqlens is None else torch.tensor(cu_seqlens, dtype=torch.int32)
    assert triton_conv.can_take(x, weight)
    found = triton_conv.forward(x, weight, bias, bounds, reverse), *triton_conv.backward(grad, x, weight, bias, bounds, reverse)
    leaves = [tensor.double().requires_grad_() for tensor in (x, weight, bias)]
    out = causal_conv1d(*leaves, cu_seqlens=bounds, reverse=reverse)
    truth = out.detach(), *torch.autograd.grad(out, leaves, grad.double())
    assert [tensor.dtype for tensor in found] == [dtype, dtype, torch.float32, torch.float32]
    return {
        name: distance(one, other) for name, one, other in zip(("out", "grad x", "grad weight", "grad bias"), found, truth, strict=True)
    }


CONVOLUTIONS: dict[str, Callable[[], dict[str, float]]] = {
    "forward": lambda: convolution(None, False),
    "reverse": lambda: convolution(None, True),
    "packed": lambda: convolution([0, 3, 3, 4, 20, 37], False),
    "packed in reverse": lambda: convolution([0, 3, 3, 4, 20, 37], True),
    "bfloat16": lambda: convolution(None, False, torch.bfloat16),
}


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    full, triton_scan.LINKED = triton_scan.TUNING, 4  # type: ignore[misc]
    for name, make in CASES.items():
        triton_scan.TUNING = full if name == "as on a GPU" else SMALL  # type: ignore[misc]
        given = make()
        results = gradients(given, "triton")
        truth = gradients(given.to(torch.float64), "reference")
        # Of a scan of no step the truth has no gradients: nothing depends on anything.
        found[name] = {key: distance(value, truth.get(key, torch.zeros_like(value))) for key, value in results.items()}
        found[name]["results that are missing"] = float(len(truth.keys() - results.keys()))
    triton_scan.TUNING = SMALL  # type: ignore[misc]
    again = [gradients(CASES["reverse"](), "triton") for _ in range(2)]
    same = all(torch.equal(again[0][key], again[1][key]) for key in again[0])
    convolutions = {name: make() for name, make in CONVOLUTIONS.items()}
    json.dump({"cases": found, "convolutions": convolutions, "same bits": same}, sys.stdout)


if __name__ == "__main__":
    main()
