"""The table of backends: which there are, why one cannot be had, and which one ``auto`` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

import torch
from torch import Tensor

from vlm.errors import BackendUnavailable, InputError
from vlm.ssm.inputs import ScanInputs


class Scanner(Protocol):
    """What a backend's module offers."""

    def missing(self) -> str | None:
        """Why the backend cannot run on this machine at all, and the way out; None where it can."""

    def unsupported(self, inputs: ScanInputs) -> str | None:
        """Why it cannot take these inputs, in words that follow "backend 'x' "; None where it can."""

    def scan(self, inputs: ScanInputs) -> tuple[Tensor, Tensor]:
        """Output (b, t, d) in the type of u, and last states (items, d, n) in ``inputs.compute_dtype``."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of the table. Its module is imported when it is first looked at: some need packages that may not be there."""

    name: str
    module: Callable[[], Scanner]
    purpose: str

    def missing(self) -> str | None:
        """Why the backend cannot run on this machine; None where it can."""
        reason: str | None = _why_missing(self.name)
        return reason

    def unsupported(self, inputs: ScanInputs) -> str | None:
        """Why the backend, which is not missing, cannot take ``inputs``; None where it can."""
        return self.load().unsupported(inputs)

    def load(self) -> Scanner:
        """Its module."""
        return self.module()


# A trace cannot follow a look at files, and need not: nothing is installed while a program runs.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _why_missing(name: str) -> str | None:
    try:
        return _by_name(name).load().missing()
    except ImportError as error:
        return f"cannot be imported: {error}"


# Import statements, because torch.compile can trace those.
def _native() -> Scanner:
    from vlm.ssm import native

    return native


def _triton() -> Scanner:
    from vlm.ssm import triton_scan

    return triton_scan


def _mamba_ssm() -> Scanner:
    from vlm.ssm import external

    return external


def _torch() -> Scanner:
    from vlm.ssm import fallback

    return fallback


def _reference() -> Scanner:
    from vlm.ssm import reference

    return reference


BACKENDS = (
    Backend("native", _native, "C++ on the CPU, forward and backward fused"),
    Backend("triton", _triton, "GPU kernels in Triton"),
    Backend("mamba_ssm", _mamba_ssm, "the official CUDA kernel"),
    Backend("torch", _torch, "chunks in plain torch, where nothing was compiled"),
    Backend("reference", _reference, "the recurrence step by step: the truth, and slow"),
)
# The reference is only ever asked for by name.
AUTO_ORDER = ("native", "triton", "mamba_ssm", "torch")


def get_backend(name: str) -> Backend:
    """The backend called ``name``, able to run on this machine.

    Raises:
        InputError: the name is unknown. BackendUnavailable: it is missing; the message says why.
    """
    backend = _by_name(name)
    if (reason := backend.missing()) is not None:
        raise BackendUnavailable(f"scan backend {name!r} is missing: {reason}; use backend='auto'")
    return backend


def choose_backend(name: str, inputs: ScanInputs) -> Backend:
    """The backend for ``inputs``: the one that is named, never another; with ``auto`` the first of AUTO_ORDER that takes them.

    Raises:
        InputError: the name is unknown. BackendUnavailable: the named one is missing, or cannot take the inputs.
    """
    if name != "auto":
        backend = get_backend(name)
        if (reason := backend.unsupported(inputs)) is not None:
            raise BackendUnavailable(f"scan backend {name!r} {reason}; use backend='auto'")
        return backend
    able = (_by_name(name) for name in AUTO_ORDER)
    return next(backend for backend in able if backend.missing() is None and backend.unsupported(inputs) is None)


def _by_name(name: str) -> Backend:
    table = {backend.name: backend for backend in BACKENDS}
    if name not in table:
        near = get_close_matches(name, table, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"backend must be 'auto' or one of {', '.join(map(repr, table))}, got {name!r}{hint}")
    return table[name]
