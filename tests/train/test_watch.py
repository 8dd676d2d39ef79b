"""Early stop: the best averaged weights are kept, however often the run was cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.tiny import CONFIG, Line, regression
from vlm.errors import InputError, TrainingDiverged
from vlm.train.checkpoint import load_checkpoint
from vlm.train.log import FILE, read_log
from vlm.train.loop import run
from vlm.train.optim import Average

WATCHED = replace(CONFIG, steps=12, validate_every=2, patience=2)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Measured:
    """Gives the figures of a list, in turn, and keeps what it was given."""

    def __init__(self, *figures: float) -> None:
        self.left = list(figures)
        self.seen: list[torch.Tensor] = []

    def __call__(self, module: nn.Module) -> float:
        assert not module.training
        assert not torch.is_grad_enabled()
        torch.rand(3)  # must not change what the run draws
        self.seen.append(next(module.parameters()).detach().clone())
        return self.left.pop(0)


def train(folder: Path, validate: Measured | None, *, resume: bool = False, stop_after: int | None = None) -> Average:
    return run(regression().train(), Line(), WATCHED, folder, validate=validate, resume=resume, stop_after=stop_after)


def test_a_training_that_no_longer_gains_ends_with_the_best_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = Measured(0.1, 0.5, 0.4, 0.5)
    average = train(tmp_path, measured)
    assert "stopped after step 8: 2 measurements in a row were no better than 0.5" in capsys.readouterr().err
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == list(range(8))
    assert [line["validation"] for line in lines if "validation" in line] == [0.1, 0.5, 0.4, 0.5]
    assert torch.equal(next(iter(average.values.values())), measured.seen[1])


def test_measuring_does_not_change_what_is_learnt(tmp_path: Path) -> None:
    train(tmp_path / "watched", Measured(*range(6)))
    run(regression().train(), Line(), replace(WATCHED, patience=0), tmp_path / "alone")
    one, other = load_checkpoint(tmp_path / "watched"), load_checkpoint(tmp_path / "alone")
    assert one is not None
    assert other is not None
    assert all(torch.equal(one["module"][name], other["module"][name]) for name in one["module"])


@pytest.mark.parametrize("cut", [3, 4, 7])
def test_a_watched_run_that_was_cut_short_ends_as_one_that_was_not(cut: int, tmp_path: Path) -> None:
    figures = (0.1, 0.5, 0.4, 0.5)
    whole = train(tmp_path / "whole", Measured(*figures))
    train(tmp_path / "cut", Measured(*figures), stop_after=cut)
    resumed = train(tmp_path / "cut", Measured(*figures[cut // 2 :]), resume=True)
    assert (tmp_path / "whole" / FILE).read_text() == (tmp_path / "cut" / FILE).read_text()
    assert all(torch.equal(whole.values[name], resumed.values[name]) for name in whole.values)


def test_a_run_that_ended_early_stays_ended(tmp_path: Path) -> None:
    first = train(tmp_path, Measured(0.5, 0.4, 0.4))
    again = train(tmp_path, Measured(), resume=True)
    assert len(read_log(tmp_path)) == 6
    assert all(torch.equal(first.values[name], again.values[name]) for name in first.values)


def test_patience_needs_something_to_measure_by(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="patience = 2 needs something to measure by"):
        train(tmp_path, None)


def test_a_figure_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="validates the training gave nan after step 1"):
        train(tmp_path, Measured(float("nan")))
