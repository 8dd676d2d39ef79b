"""The compiled kernels: where they are, why they are not there, and their C interface. vlm/ssm/native/scan.h is mirrored here."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from vlm.errors import BackendUnavailable

FOLDER = Path(__file__).resolve().parent
INSTRUCTION_SETS = ("avx512", "avx2", "plain")
# Forces one of INSTRUCTION_SETS, to measure it or to compare results between machines.
INSTRUCTIONS_VARIABLE = "VLM_SCAN_INSTRUCTIONS"


class Rows(ctypes.Structure):
    """A tensor (b, t, ...) whose last axis is contiguous; strides count elements."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("batch_stride", ctypes.c_int64),
        ("time_stride", ctypes.c_int64),
        ("type", ctypes.c_int64),
    )


class Item(ctypes.Structure):
    """One sequence."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("batch", "start", "length", "padded", "first_tile"))


class Scan(ctypes.Structure):
    """All that a forward or backward pass is given."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("num_items", "d", "n", "num_tiles", "softplus", "reverse", "threads")),
        *((name, ctypes.c_int64) for name in ("num_slots", "num_rows", "t")),
        ("items", ctypes.POINTER(Item)),
        *((name, Rows) for name in ("u", "delta", "z", "B", "C", "out")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "delta_bias", "initial_state", "last_state", "checkpoints")),
        *((name, Rows) for name in ("grad_out", "grad_u", "grad_delta", "grad_z")),
        *((name, ctypes.c_void_p) for name in ("grad_last", "grad_initial")),
        *((name, ctypes.c_void_p) for name in ("part_A", "part_D", "part_bias", "part_B", "part_C")),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """The loaded library and the numbers that are part of its arithmetic.

    ``tile`` is the number of steps between two checkpoints, ``chunk`` the number of channels of one unit of work.
    """

    functions: ctypes.CDLL
    tile: int
    chunk: int

    def forward(self, instructions: str, scan: Scan) -> None:
        """Runs the forward pass; its inputs and outputs are addresses in ``scan``."""
        _check_memory(self.functions.vlm_scan_forward(instructions.encode(), ctypes.byref(scan)))

    def backward(self, instructions: str, scan: Scan) -> None:
        """Runs the backward pass."""
        _check_memory(self.functions.vlm_scan_backward(instructions.encode(), ctypes.byref(scan)))

    def can_run(self, instructions: str) -> bool:
        """Whether this library has that set of instructions, and this processor too."""
        return bool(self.functions.vlm_scan_can_run(instructions.encode()))


def _check_memory(code: int) -> None:
    if code:
        raise MemoryError("no memory for the selective scan's working buffers")


def missing() -> str | None:
    """Why there are no kernels, and the way out; None where they are."""
    found = _find()
    if found is None:
        return f"it was not compiled ({_why_not_built()}); with a C++17 compiler, pip install vlm-retrieval again"
    try:
        load()
    except OSError as error:
        return f"{found.name} cannot be loaded: {error}"
    except BackendUnavailable as error:
        return str(error)
    return None


def _find() -> Path | None:
    paths = (FOLDER / f"kernels{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _why_not_built() -> str:
    note = FOLDER / "not_built.txt"
    return note.read_text(errors="replace").strip() if note.is_file() else "this copy of vlm was never built"


@cache
def load() -> Library:
    """The library.

    Raises:
        OSError: the file is not there or damaged. BackendUnavailable: it was built from other sources.
    """
    path = _find()
    if path is None:
        raise FileNotFoundError(f"no compiled kernels in {FOLDER}")
    functions = ctypes.CDLL(str(path))
    for name in ("abi", "tile", "chunk"):
        getattr(functions, f"vlm_scan_{name}").restype = ctypes.c_int64
    for name in ("forward", "backward"):
        function = getattr(functions, f"vlm_scan_{name}")
        function.argtypes, function.restype = (ctypes.c_char_p, ctypes.POINTER(Scan)), ctypes.c_int64
    functions.vlm_scan_can_run.argtypes, functions.vlm_scan_can_run.restype = (ctypes.c_char_p,), ctypes.c_int64
    functions.vlm_scan_add_parts.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
    functions.vlm_scan_add_parts.restype = None
    functions.vlm_scan_expect_writes.argtypes, functions.vlm_scan_expect_writes.restype = (ctypes.c_void_p, ctypes.c_int64), None
    for name in ("exponential", "softplus"):
        function = getattr(functions, f"vlm_scan_{name}")
        function.argtypes, function.restype = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64), None
    if functions.vlm_scan_abi() != ctypes.sizeof(Scan):
        raise BackendUnavailable(f"{path.name} was built from another version of vlm: pip install vlm-retrieval again")
    return Library(functions, functions.vlm_scan_tile(), functions.vlm_scan_chunk())


def instructions() -> str:
    """The set of instructions to use: the one that VLM_SCAN_INSTRUCTIONS names, else the best that this processor has.

    Raises:
        BackendUnavailable: the named one is unknown, or not to be had here.
    """
    able, named = _able(load()), os.environ.get(INSTRUCTIONS_VARIABLE)
    if named and named not in able:
        raise BackendUnavailable(f"{INSTRUCTIONS_VARIABLE} must be one of {', '.join(able)} on this processor, got {named!r}")
    return named or able[0]


@cache
def _able(library: Library) -> tuple[str, ...]:
    """The sets that both have, the best first."""
    return tuple(name for name in INSTRUCTION_SETS if library.can_run(name))
