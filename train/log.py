"""What a training tells: one JSON line a step, and a line for people now and then."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from vlm.errors import BackendUnavailable

FILE, TENSORBOARD = "log.jsonl", "tensorboard"


class Log:
    """The record of one training in ``folder``.

    Lines of ``log.jsonl`` hold the step and its figures, and no clock: two runs compare equal. ``tensorboard`` writes the figures into
    the folder of that name too.

    Raises:
        BackendUnavailable: ``tensorboard`` is asked for and not installed.
    """

    def __init__(
        self, folder: Path, *, total: int, first_step: int, every: int, console: Console | None = None, tensorboard: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._board = _board(folder / TENSORBOARD, first_step) if tensorboard else None
        self._path = folder / FILE
        self._keep_before(first_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._total, self._first, self._every = total, first_step, every
        self._begin = time.monotonic()
        self._console = console or Console(stderr=True)

    def _keep_before(self, step: int) -> None:
        """Drop what a killed run wrote after its last checkpoint, a half-written line included: those steps are run again."""
        lines = self._path.read_text("utf-8").splitlines(keepends=True) if self._path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
        self._path.write_text("".join(kept), "utf-8")

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Record step ``step``."""
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
        done = step + 1 - self._first
        if (step + 1) % self._every == 0 or step + 1 == self._total:
            rate = done / max(1e-9, time.monotonic() - self._begin)
            left = (self._total - step - 1) / rate
            shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self.say(f"step {step + 1}/{self._total}  {shown}  {rate:.2f} steps/s, {_clock(left)} left")

    def flush(self) -> None:
        """Bring all lines to the disk: a checkpoint must not know of steps that the record lacks."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def say(self, text: str) -> None:
        """A line for people."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Write out what is held back."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _board(folder: Path, first_step: int) -> Any:
    """A writer for TensorBoard that shows nothing of what a killed run wrote from ``first_step`` on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BackendUnavailable(
            "tensorboard = true in [loop] needs TensorBoard: pip install 'vlm-retrieval[tensorboard]', or set it to false"
        ) from error
    writer: Any = SummaryWriter(str(folder), purge_step=first_step)
    return writer


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's record, in order."""
    return [json.loads(line) for line in (folder / FILE).read_text("utf-8").splitlines()]
