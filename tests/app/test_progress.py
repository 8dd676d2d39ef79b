from __future__ import annotations

import pytest

from vlm.app import progress
from vlm.app.progress import AddDisplay, describe
from vlm.index.records import AddProgress


def half_way(**changes: float) -> AddProgress:
    facts = {"total_files": 80, "done_files": 12, "total_bytes": 1000, "done_bytes": 500.0, "num_rows": 8400, "elapsed_seconds": 100.0}
    return AddProgress(**{**facts, "seconds_of_video": 8400.0, **changes})  # type: ignore[arg-type]


def test_progress_tells_files_length_speed_and_time_left():
    assert describe(half_way()) == "12/80 files  2.3 h of video  84 frames/s  1:40 left"


def test_before_anything_is_done_no_time_is_promised():
    assert describe(half_way(done_bytes=0, num_rows=0, elapsed_seconds=0)) == "12/80 files  2.3 h of video  0 frames/s"


def test_away_from_a_terminal_a_line_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with AddDisplay() as display:
        for now in (0.25, 29.0, 30.5, 31.0, 61.0):  # noqa: B007  # read by the lambda
            display.update(half_way())
    assert capsys.readouterr().err.splitlines() == [describe(half_way())] * 2


def test_a_display_that_is_not_visible_tells_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", 0.0)
    with AddDisplay(visible=False) as display:
        display.update(half_way())
    assert capsys.readouterr().err == ""
