"""What a training tells, and to whom."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.tiny import CONFIG, train
from vlm.errors import BackendUnavailable
from vlm.train.log import TENSORBOARD, read_log


def test_tensorboard_shows_what_the_log_holds_whatever_was_cut(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(CONFIG, tensorboard=True)
    train(tmp_path, config, stop_after=5)
    train(tmp_path, config, resume=True)
    board = EventAccumulator(str(tmp_path / TENSORBOARD))
    board.Reload()
    shown = [(event.step, event.value) for event in board.Scalars("loss")]
    assert shown == [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in read_log(tmp_path)]


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BackendUnavailable, match=r"vlm-retrieval\[tensorboard\]"):
        train(tmp_path, replace(CONFIG, tensorboard=True))
