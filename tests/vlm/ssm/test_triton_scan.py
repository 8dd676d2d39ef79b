"""The Triton kernels without a GPU: run by Triton's interpreter in a child, and compiled for real GPUs."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vlm.ssm.problems import GRADIENT_TOLERANCE, TOLERANCE, problem
from vlm.errors import BackendUnavailable
from vlm.ssm import triton_device, triton_scan
from vlm.ssm.inputs import ScanInputs
from vlm.ssm.scan import selective_scan

triton = pytest.importorskip("triton", reason="Triton is not installed here: it comes with torch on Linux")
from tests.vlm.ssm.triton_cases import CASES, CONVOLUTIONS  # noqa: E402

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


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_kernels_give_the_convolution_and_its_gradients(name: str, interpreted: dict[str, Any]):
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    assert {key: distance for key, distance in interpreted["convolutions"][name].items() if not distance <= TOLERANCE[dtype]} == {}


def test_kernels_give_the_same_bits_again(interpreted: dict[str, Any]):
    assert interpreted["same bits"]


KERNELS = {
    "pack_weights": "triton_kernels",
    "chunk_states": "triton_kernels",
    "link_chunks": "triton_kernels",
    "scan_forward": "triton_kernels",
    "chunk_flows": "triton_backward",
    "scan_backward": "triton_backward",
    "sum_weights": "triton_backward",
    "convolve": "triton_conv_kernels",
    "conv_slopes": "triton_conv_kernels",
}
OPTIONAL = ("z", "D", "delta_bias", "bias", "initial", "grad_z", "bounds", "items", "lengths", "before")


def compiled(name: str, *, is_full: bool, is_reverse: bool, capability: int = 90) -> Any:
    """A kernel with all that is optional or nothing of it, as ``vlm.ssm.triton_scan`` launches it for rows of a multiple of 16 numbers."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(import_module(f"vlm.ssm.{KERNELS[name]}"), name)
    tuning = triton_scan.TUNING
    constants: dict[str, object] = {
        "SOFTPLUS": True,
        "REVERSE": is_reverse,
        "BACKWARD": is_reverse,
        "KEEP": True,
        "GROUP": triton_scan.LINKED,
    }
    constants |= {"TILE": tuning.tile, "PART": tuning.forward_part, "BLOCK_D": tuning.forward_channels, "BLOCK_N": 16, "TAPS": 4}
    constants |= {"lengths": None} if is_full else dict.fromkeys(OPTIONAL)  # a batch is packed or has lengths, not both
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {parameter: value for parameter, value in constants.items() if parameter in names}
    types = {"bounds": "*i64", "items": "*i64", "before": "*i64"}
    types |= dict.fromkeys(("t", "chunk_steps", "d", "n", "tiles", "slots", "num_slots", "blocks", "num_rows", "stride"), "i32")
    types |= dict.fromkeys(("u", "delta", "z", "B", "C", "out", "grad_out", "grad_u", "grad_delta", "grad_z", "x", "grad"), "*bf16")
    signature, hints = {}, {}
    for place, parameter in enumerate(names):
        signature[parameter] = types.get(parameter, "i32" if parameter.endswith("stride") else "*fp32")
        if parameter in constants:
            signature[parameter] = "constexpr"
        elif signature[parameter].startswith("*") or parameter in ("d", "n") or parameter.endswith("stride"):
            hints[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=hints)
    num_warps = 4 if "conv" in KERNELS[name] else 1
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": num_warps})


@pytest.fixture
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("is_full", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_compile_for_gpus(name: str, is_full: bool, capability: int):
    kernel = compiled(name, is_full=is_full, is_reverse=is_full, capability=capability)
    assert kernel.asm["cubin"]
    assert ".local" not in kernel.asm["ptx"]  # all states stay in registers


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("is_reverse", [False, True])
@pytest.mark.parametrize("name", ["chunk_states", "chunk_flows"])
def test_a_scan_along_time_needs_no_other_thread(name: str, is_reverse: bool):
    ptx = compiled(name, is_full=True, is_reverse=is_reverse).asm["ptx"]
    assert "shfl" not in ptx
    assert "ld.shared" not in ptx


@pytest.mark.usefixtures("_own_cache")
def test_gradients_are_not_added_atomically():
    ptx = [compiled(name, is_full=True, is_reverse=False).asm["ptx"] for name in ("scan_backward", "sum_weights", "conv_slopes")]
    assert not any(instruction in text for text in ptx for instruction in ("atom.global", "red.global"))


def inputs(dtype: torch.dtype = torch.float32) -> ScanInputs:
    given = problem(1, 3, 2, 4, dtype=dtype).arguments()
    return ScanInputs(**given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert triton_scan.missing() == "it needs a CUDA device, and torch sees none"
    given = problem(1, 3, 2, 4, dtype=torch.float32).arguments()
    with pytest.raises(BackendUnavailable, match="'triton' is missing: it needs a CUDA device"):
        selective_scan(**given, backend="triton")


def test_without_the_package_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(triton_device, "find_spec", lambda _name: None)
    assert str(triton_scan.missing()).startswith("the package triton is not installed")


def test_what_it_cannot_take_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_scan.unsupported(inputs(torch.float64)) == "computes in float32, got float64 tensors"


def test_checkpoints_have_the_shape_that_compilers_are_told():
    given = inputs()
    slots = triton_scan.checkpoint_shape(given)[0]
    assert triton_scan.checkpoint_shape(given) == (slots, 4, 2)
    assert slots * triton_scan.TUNING.tile >= given.u.shape[1]


def test_tensors_on_the_cpu_need_the_interpreter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert triton_scan.unsupported(inputs()) == "needs tensors on a CUDA device, got cpu"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_scan.unsupported(inputs()) is None
