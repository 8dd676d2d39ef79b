"""The table of backends: which there are, why one cannot be had, and which one ``auto`` takes."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Protocol, cast

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
    module: str
    purpose: str

    def missing(self) -> str | None:
        """Why the backend cannot run on this machine; None where it can."""
        try:
            return self.load().missing()
        except ImportError as error:
            return f"cannot be imported: {error}"

    def unsupported(self, inputs: ScanInputs) -> str | None:
        """Why the backend, which is not missing, cannot take ``inputs``; None where it can."""
        return self.load().unsupported(inputs)

    def load(self) -> Scanner:
        """Its module."""
        return cast(Scanner, import_module(self.module))


BACKENDS = (
    Backend("native", "vlm.ssm.native", "C++ on the CPU, forward and backward fused"),
    Backend("triton", "vlm.ssm.triton_scan", "GPU kernels in Triton"),
    Backend("mamba_ssm", "vlm.ssm.external", "the official CUDA kernel"),
    Backend("torch", "vlm.ssm.fallback", "chunks in plain torch, where nothing was compiled"),
    Backend("reference", "vlm.ssm.reference", "the recurrence step by step: the truth, and slow"),
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
