"""Run by test_triton_scan.py in a process whose environment asks for Triton's interpreter: prints the distances from the truth."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from tests.vlm.ssm.problems import Problem, distance, gradients, problem, run

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
    "one tile": lambda: case(32, 5),
    "tiles and a rest": lambda: case(129, 17, b=1),
    "several blocks of channels": lambda: case(7, 32 + 1, b=1),
    "states that are no power of two": lambda: case(7, 4, n=5),
    "one state": lambda: case(7, 4, n=1),
    "reverse": lambda: case(35, 7, reverse=True),
    "lengths": lambda: case(34, 6, b=4, lengths=torch.tensor([34, 33, 1, 0])),
    "lengths in reverse": lambda: case(34, 6, b=4, lengths=torch.tensor([33, 32, 2, 0], dtype=torch.int32), reverse=True),
    "packed": lambda: case(40, 6, b=1, cu_seqlens=torch.tensor([0, 33, 33, 34, 40])),
    "packed in reverse": lambda: case(40, 6, b=1, cu_seqlens=torch.tensor([0, 35, 40, 40], dtype=torch.int32), reverse=True),
    "nothing optional": lambda: replace(case(9, 4), **ABSENT),
    "no softplus": lambda: replace(case(9, 4), delta=case(9, 4).delta.abs() / 4, delta_bias=None, delta_softplus=False),
    "tiny and huge steps": lambda: replace(case(9, 4), delta=torch.tensor([-14.0, 50.0, -14.0, 50.0]).expand(2, 9, 4).clone()),
    "slow and fast rates": lambda: replace(case(9, 4), A=torch.tensor([-1e-6, -1.0, -50.0, -1e3]).expand(4, 4).clone()),
    "bfloat16": in_mixed_types,
    "not contiguous": not_contiguous,
    "no item": lambda: case(5, 3, b=0),
    "no step": lambda: case(0, 3),
}


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    for name, make in CASES.items():
        given = make()
        results = gradients(given, "triton")
        truth = gradients(given.to(torch.float64), "reference")
        # Of a scan of no step the truth has no gradients: nothing depends on anything.
        found[name] = {key: distance(value, truth.get(key, torch.zeros_like(value))) for key, value in results.items()}
        found[name]["results that are missing"] = float(len(truth.keys() - results.keys()))
    again = [run(CASES["reverse"](), "triton")[0] for _ in range(2)]
    json.dump({"cases": found, "same bits": torch.equal(*again)}, sys.stdout)


if __name__ == "__main__":
    main()
