"""How an ``add`` that is under way is shown: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vlm.app.console import note, note_console
from vlm.app.render import clock_time, duration

if TYPE_CHECKING:
    from vlm.index.records import AddProgress

_LINE_EVERY_SECONDS = 30.0


def describe(progress: AddProgress) -> str:
    """Files, length of video, frames a second and the time that is left: ``12/80 files  1.2 h of video  84 frames/s  3:12 left``."""
    rate = progress.num_rows / progress.elapsed_seconds if progress.elapsed_seconds > 0 else 0.0
    length = duration(progress.seconds_of_video)
    parts = [f"{progress.done_files}/{progress.total_files} files", f"{length} of video", f"{rate:.0f} frames/s"]
    if progress.eta_seconds is not None:
        parts.append(f"{clock_time(progress.eta_seconds)} left")
    return "  ".join(parts)


class AddDisplay:
    """Shows progress on stderr until it is closed; quiet before the first event, so that a download can draw its own bar.

    ``visible`` is False where the results on stdout share the terminal with the bar.
    """

    def __init__(self, *, visible: bool = True) -> None:
        self._visible = visible
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._told_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, progress: AddProgress) -> None:
        """Shows the state of ``progress``."""
        if not self._visible:
            return
        if sys.stderr.isatty():
            self._update_bar(progress)
        elif time.monotonic() - self._told_at >= _LINE_EVERY_SECONDS:
            self._told_at = time.monotonic()
            note(describe(progress))

    def _update_bar(self, progress: AddProgress) -> None:
        if self._bar is None:
            columns = (BarColumn(bar_width=12), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=note_console(), transient=True)
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()
        share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 1.0
        self._bar.update(self._task, completed=share, description=describe(progress))


class CountDisplay:
    """Shows on a terminal's stderr how many of a known number are done, with the time that is left, until it is closed."""

    def __init__(self, noun: str) -> None:
        columns = (BarColumn(bar_width=12), TaskProgressColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn())
        self._bar = Progress(*columns, console=note_console(), transient=True, disable=not sys.stderr.isatty())
        self._noun = noun
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` are done."""
        if self._task is None:
            self._task = self._bar.add_task("", total=total)
        self._bar.update(self._task, completed=done, total=total, description=f"{done}/{total} {self._noun}")
