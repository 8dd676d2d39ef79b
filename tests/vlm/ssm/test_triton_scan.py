"""The Triton kernels without a GPU: run by Triton's interpreter in a child, and compiled for real GPUs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vlm.ssm.problems import GRADIENT_TOLERANCE, TOLERANCE, problem
from vlm.errors import BackendUnavailable
from vlm.ssm import triton_scan
from vlm.ssm.inputs import ScanInputs
from vlm.ssm.scan import selective_scan

triton = pytest.importorskip("triton", reason="Triton is not installed here: it comes with torch on Linux")
from tests.vlm.ssm.triton_cases import CASES  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """What the interpreter made of every case."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-m", "tests.vlm.ssm.triton_cases"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", CASES)
def test_kernels_give_the_recurrence_and_its_gradients(name: str, interpreted: dict[str, Any]):
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    for result, distance in interpreted["cases"][name].items():
        tolerance = GRADIENT_TOLERANCE[dtype] if result.startswith("grad") else TOLERANCE[dtype]
        assert distance <= tolerance, result


def test_kernels_give_the_same_bits_again(interpreted: dict[str, Any]):
    assert interpreted["same bits"]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("is_full", [True, False])
@pytest.mark.parametrize("name", ["scan_forward", "scan_backward"])
def test_kernels_compile_for_gpus(name: str, is_full: bool, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vlm.ssm import triton_kernels

    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    kernel = getattr(triton_kernels, name)
    constants: dict[str, object] = {"SOFTPLUS": True, "REVERSE": True, "TILE": 32, "BLOCK_D": 32, "BLOCK_N": 16}
    if not is_full:
        constants |= dict.fromkeys(("z", "D", "delta_bias", "initial_state", "grad_z", "grad_last"))
    given = [parameter for parameter in inspect.signature(kernel.fn).parameters if parameter not in constants]
    types = {"starts": "*i64", "lengths": "*i64", "first_tiles": "*i64", "d": "i32", "n": "i32", "num_rows": "i32"}
    kept = {"checkpoints", "scratch", "last_state", "initial_state", "A", "D", "delta_bias", "grad_A", "grad_D", "grad_bias", "grad_last"}
    signature = {
        parameter: types.get(parameter, "i32" if parameter.endswith("stride") else "*fp32" if parameter in kept else "*bf16")
        for parameter in given
    }
    names = set(inspect.signature(kernel.fn).parameters)
    constants = {parameter: value for parameter, value in constants.items() if parameter in names}
    source = ASTSource(fn=kernel, signature=signature | dict.fromkeys(constants, "constexpr"), constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 1})
    assert compiled.asm["cubin"]
    assert ".local" not in compiled.asm["ptx"]  # all states stay in registers


def inputs(dtype: torch.dtype = torch.float32, n: int = 4) -> ScanInputs:
    given = problem(1, 3, 2, n, dtype=dtype).arguments()
    return ScanInputs(**given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert triton_scan.missing() == "it needs a CUDA device, and torch sees none"
    given = problem(1, 3, 2, 4, dtype=torch.float32).arguments()
    with pytest.raises(BackendUnavailable, match="'triton' is missing: it needs a CUDA device"):
        selective_scan(**given, backend="triton")


def test_without_the_package_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(triton_scan, "find_spec", lambda _name: None)
    assert str(triton_scan.missing()).startswith("the package triton is not installed")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (inputs(torch.float64), "computes in float32, got float64 tensors"),
        (inputs(n=300), "at most 256 states a channel in registers, got 300"),
    ],
)
def test_what_it_cannot_take_is_said(given: ScanInputs, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert reason in str(triton_scan.unsupported(given))


def test_tensors_on_the_cpu_need_the_interpreter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert triton_scan.unsupported(inputs()) == "needs tensors on a CUDA device, got cpu"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_scan.unsupported(inputs()) is None
