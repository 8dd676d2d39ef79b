"""Checkpoints survive what happens to disks and processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vlm.errors import CheckpointUnsaved, CheckpointUnusable, InputError
from vlm.train.checkpoint import CURRENT, PREVIOUS, begin_from, load_checkpoint, save_checkpoint


def saved(folder: Path, *steps: int) -> Path:
    for step in steps:
        save_checkpoint(folder, {"step": step, "weight": torch.full((3,), float(step))})
    return folder


def test_the_newest_checkpoint_is_read_and_the_one_before_is_kept(tmp_path: Path) -> None:
    state = load_checkpoint(saved(tmp_path, 1, 2, 3))
    assert state is not None
    assert (state["step"], state["weight"].tolist()) == (3, [3.0] * 3)
    assert torch.load(tmp_path / PREVIOUS, weights_only=True)["step"] == 2


def test_a_training_begins_with_the_averages_of_one_of_the_same_parts(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    save_checkpoint(tmp_path, {"step": 1, "average": {"weight": torch.ones(3, 2), "bias": torch.full((3,), 2.0)}})
    begin_from(tmp_path, module)
    assert module.weight.tolist() == [[1.0, 1.0]] * 3
    assert module.bias.tolist() == [2.0] * 3
    for other in (nn.Linear(2, 4), nn.Linear(2, 3, bias=False)):
        with pytest.raises(InputError, match="of other parts, for example 'bias'"):
            begin_from(tmp_path, other)
    with pytest.raises(InputError, match="no checkpoint to begin with"):
        begin_from(tmp_path / "none", module)
    other = nn.Linear(2, 3)
    with torch.no_grad():
        other.bias.fill_(7.0)
    begin_from(tmp_path, other, only=["weight"])
    assert other.weight.tolist() == [[1.0, 1.0]] * 3
    assert other.bias.tolist() == [7.0] * 3


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    (tmp_path / CURRENT).write_bytes((tmp_path / CURRENT).read_bytes()[:100])
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_when_none_can_be_read_each_is_named_with_its_reason(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    for name in (CURRENT, PREVIOUS):
        (tmp_path / name).write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointUnusable, match=rf"{CURRENT}.*{PREVIOUS}"):
        load_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 1)

    def full(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointUnsaved, match=r"step 2 .*No space left.*free space.*--resume"):
        save_checkpoint(tmp_path, {"step": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == [CURRENT]
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_a_disk_that_is_really_full_leaves_the_checkpoint_that_was_there(tmp_path: Path) -> None:
    """A file may not grow over 100 kB, which fails as a full disk does: torch's own writer meets it."""
    code = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from vlm.train.checkpoint import load_checkpoint, save_checkpoint\n"
        "folder = Path(sys.argv[1])\n"
        "save_checkpoint(folder, {'step': 1})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "save_checkpoint(folder, {'step': 2, 'weight': torch.zeros(100_000)})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "CheckpointUnsaved: the checkpoint of step 2 cannot be written" in done.stderr
    assert "File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [CURRENT]
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_a_checkpoint_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    torch.save({"step": Path("x")}, tmp_path / CURRENT)
    with pytest.raises(CheckpointUnusable, match=CURRENT):
        load_checkpoint(tmp_path)
