"""Two ranks of torchrun are one rank at the same batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.pairs import CONFIG, Pairs, contrast
from tests.train.tiny import Line
from vlm.errors import InputError
from vlm.train import loop
from vlm.train.checkpoint import load_checkpoint
from vlm.train.log import FILE, read_log
from vlm.train.loop import run
from vlm.train.ranks import gathered, mean_figures, share

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left; see pairs.main."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.train.pairs",
        str(folder),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return folder


def checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(folder)
    assert state is not None
    return {f"{part}.{name}": value for part in ("module", "average") for name, value in state[part].items()}


def test_two_ranks_learn_what_one_learns_from_the_same_batches(ranks: Path, tmp_path: Path) -> None:
    run(contrast(), Pairs(), CONFIG, tmp_path)
    one, two = checkpoint(tmp_path), checkpoint(ranks / "two")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-9 if value.dtype == torch.float64 else 1e-7, msg=name)
    assert not torch.equal(one["module.image.0.weight"], contrast().image[0].weight)


def test_figures_are_those_of_the_whole_batch_and_logged_once(ranks: Path, tmp_path: Path) -> None:
    run(contrast(), Pairs(), CONFIG, tmp_path)
    one, two = read_log(tmp_path), read_log(ranks / "two")
    assert [line["step"] for line in two] == list(range(CONFIG.steps))
    for left, right in zip(one, two, strict=True):
        assert left == pytest.approx(right, abs=1e-9)


def test_a_run_of_two_ranks_that_was_cut_short_ends_as_one_that_was_not(ranks: Path) -> None:
    whole, cut = checkpoint(ranks / "whole"), checkpoint(ranks / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert (ranks / "whole" / FILE).read_text() == (ranks / "cut" / FILE).read_text()


def test_a_loss_that_is_no_number_on_one_rank_stops_both_with_the_same_step(ranks: Path) -> None:
    """Of batch 5 the second rank has the poisoned pair, but both gather it."""
    for rank in (0, 1):
        said = (ranks / f"said-{rank}").read_text()
        assert "step 2, batch 5 of the pairs" in said
    assert "'image.0' (Linear), and its input is not finite either" in (ranks / "said-1").read_text()


def test_a_source_without_parts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "rank_and_ranks", lambda: (1, 2))
    with pytest.raises(InputError, match=r"Line cannot be shared by 2 ranks.*part\(index, rank, ranks\)"):
        run(contrast(), Line(), CONFIG, tmp_path)


def test_shares_are_equal_and_whole() -> None:
    assert [list(range(12))[share(12, rank, 3)] for rank in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    with pytest.raises(InputError, match="batch of 10 cannot be shared evenly by 4 ranks"):
        share(10, 0, 4)


def test_alone_nothing_is_gathered() -> None:
    rows = torch.ones(2, 3)
    assert gathered(rows) is rows
    assert mean_figures({"loss": 2.0}) == {"loss": 2.0}
