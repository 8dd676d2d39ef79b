"""Where an encoder runs, and in which precision: chosen once, refused loudly, never by guess."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from vlm.errors import BackendUnavailable, InputError

PrecisionName = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]

# bfloat16 must win by this much: a tie is noise, and float32 is the exact one.
WORTHWHILE_GAIN = 1.1
TRIAL_ROWS, TRIAL_ROUNDS = 8, 3


@dataclass(frozen=True, slots=True)
class Precision:
    """The precision of ``encode_frames`` and how it was chosen.

    Frames a second are those of the trial, None where none was run.
    """

    name: PrecisionName
    reason: str
    float32_frames_per_second: float | None = None
    bfloat16_frames_per_second: float | None = None


def resolve_device(device: str) -> torch.device:
    """The torch device that ``device`` names; ``auto`` takes a GPU where there is one.

    Raises:
        BackendUnavailable: torch does not know it, or it is not in this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        named = torch.device(device)
    except RuntimeError as error:
        raise BackendUnavailable(f"device {device!r} is unknown; use 'auto', 'cpu', 'cuda:N' or 'mps'") from error
    if named.type == "cuda" and (named.index or 0) >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise BackendUnavailable(f"device {device!r} is not in this machine (CUDA devices that torch sees: {count}); use 'auto' or 'cpu'")
    if named.type == "mps" and not torch.backends.mps.is_available():
        raise BackendUnavailable("device 'mps' is not in this machine; use 'auto' or 'cpu'")
    if named.type not in ("cpu", "cuda", "mps"):
        raise BackendUnavailable(f"device {device!r} is not supported; use 'auto', 'cpu', 'cuda:N' or 'mps'")
    return named


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 in hardware; where it does not, bfloat16 is emulated and slow."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu_flags())
    return False


def _cpu_flags() -> set[str]:
    """What Linux says the processor can do; empty elsewhere."""
    if platform.system() != "Linux":
        return set()
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def check_precision(precision: str, device: torch.device) -> PrecisionChoice:
    """``precision``, when it is a name and ``device`` can do it.

    Raises:
        InputError: the name is unknown. BackendUnavailable: the device has no bfloat16.
    """
    if precision not in get_args(PrecisionChoice):
        raise InputError(f"precision must be 'auto', 'float32' or 'bfloat16', got {precision!r}")
    if precision == "bfloat16" and not has_bfloat16(device):
        raise BackendUnavailable(
            f"precision 'bfloat16' needs a device that multiplies it in hardware, which {device} does not; use 'auto' or 'float32'"
        )
    return precision  # type: ignore[return-value]  # checked above


def faster_precision(float32: Callable[[], object], bfloat16: Callable[[], object], device: torch.device) -> Precision:
    """The faster of two runs over TRIAL_ROWS frames each: the best of a few alternating rounds after one to warm up."""
    best = {"float32": float("inf"), "bfloat16": float("inf")}
    for turn in range(TRIAL_ROUNDS + 1):
        for name, run in (("float32", float32), ("bfloat16", bfloat16)):
            seconds = _seconds(run, device)
            if turn:
                best[name] = min(best[name], seconds)
    rates = {name: TRIAL_ROWS / seconds for name, seconds in best.items()}
    gain = rates["bfloat16"] / rates["float32"]
    chosen: PrecisionName = "bfloat16" if gain >= WORTHWHILE_GAIN else "float32"
    return Precision(chosen, f"bfloat16 measured {gain:.2f} times as fast as float32 on {device}", rates["float32"], rates["bfloat16"])


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    begin = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin
