"""The last result is kept whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vlm.data.formats.found import FoundMoment
from vlm.errors import InputError
from vlm.index.last import LAST_FILE, LastResult, keep, recall
from vlm.index.store import FileStamp
from vlm.types import Span


def result(*queries: str) -> LastResult:
    moments = tuple(
        FoundMoment(query=query, video=os.fsdecode(b"/caf\xe9.mp4"), span=Span(0.1, 0.3), score=0.1 + 0.2, rank=1, video_id=None)
        for query in queries
    )
    return LastResult(command="ground", queries=queries, moments=moments, stamps={os.fsdecode(b"/caf\xe9.mp4"): FileStamp(5, 2**62)})


def test_what_was_kept_comes_back(tmp_path: Path):
    keep(tmp_path, result("a", "猫"))
    keep(tmp_path, result("b"))
    assert recall(tmp_path) == result("b")
    assert [path.name for path in tmp_path.iterdir()] == [LAST_FILE]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_one_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str):
    keep(tmp_path, result("a"))

    def full(*given: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(f"vlm.index.last.os.{step}", full)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path, result("b"))
    assert recall(tmp_path) == result("a")
    assert [path.name for path in tmp_path.iterdir()] == [LAST_FILE]


def test_none_at_all_says_what_to_do(tmp_path: Path):
    with pytest.raises(InputError, match="run vlm search or vlm ground first"):
        recall(tmp_path)


def test_one_of_a_later_version_is_refused(tmp_path: Path):
    (tmp_path / LAST_FILE).write_text('{"schema": "vlm.last/2"}')
    with pytest.raises(InputError, match=r"'vlm\.last/2', and this vlm reads 'vlm\.last/1'"):
        recall(tmp_path)
