"""The loop: learns, stops on nonsense, and goes on exactly where it was killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from tests.train.tiny import CONFIG, Line, regression, train
from vlm.errors import CheckpointUnusable, InputError, TrainingDiverged, TrainingTooLarge
from vlm.train.checkpoint import load_checkpoint
from vlm.train.log import FILE, read_log
from vlm.train.loop import FREE, LATER, LoopConfig, _digest, run

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = load_checkpoint(folder)
    assert state is not None
    return {f"{part}.{name}": value for part in ("module", "average") for name, value in state[part].items()}


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / FILE).read_text() == (other / FILE).read_text()
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_loss_falls(tmp_path: Path) -> None:
    train(tmp_path, replace(CONFIG, steps=60))
    losses = [line["loss"] for line in read_log(tmp_path)]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_processes_that_make_the_batches_change_nothing(tmp_path: Path) -> None:
    train(tmp_path / "alone")
    train(tmp_path / "cut", stop_after=5, workers=2)
    train(tmp_path / "cut", resume=True, workers=1)
    assert_same_run(tmp_path / "alone", tmp_path / "cut")


def test_the_log_has_one_line_a_step_with_rate_and_gradient(tmp_path: Path) -> None:
    train(tmp_path)
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == list(range(12))
    assert all({"loss", "worst", "gradient", "rate"} <= line.keys() for line in lines)


def test_two_runs_are_the_same_run(tmp_path: Path) -> None:
    for name in ("one", "other"):
        train(tmp_path / name)
    assert_same_run(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize(("step", "matrix_rate"), [(1, 0.0), (4, 0.0), (7, 0.0), (4, 10.0)])
def test_a_run_that_was_cut_short_ends_as_one_that_was_not(step: int, matrix_rate: float, tmp_path: Path) -> None:
    config = replace(CONFIG, matrix_rate=matrix_rate)
    train(tmp_path / "whole", config)
    train(tmp_path / "cut", config, stop_after=step)
    train(tmp_path / "cut", config, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_process_killed_at_any_moment_resumes_to_the_same_weights(tmp_path: Path) -> None:
    steps = "150"

    def command(folder: Path) -> list[str]:
        return [sys.executable, "-m", "tests.train.tiny", str(folder), steps, "--resume"]

    quiet = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command(tmp_path / "whole"), check=True, **quiet)  # type: ignore[call-overload]
    kills = 0
    while True:
        process = subprocess.Popen(command(tmp_path / "killed"), **quiet)  # type: ignore[call-overload]
        before = _size(tmp_path / "killed" / "checkpoint.pt")
        deadline = time.monotonic() + 60
        while process.poll() is None and (kills == 2 or _size(tmp_path / "killed" / "checkpoint.pt") == before):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if process.poll() is not None:
            break
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0
    assert kills >= 1
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def _size(path: Path) -> int:
    """When the file was last replaced, 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def test_half_a_line_of_a_killed_run_is_dropped(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    train(tmp_path / "cut", stop_after=5)
    with (tmp_path / "cut" / FILE).open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 1.0}) + '\n{"step": 6, "lo')
    train(tmp_path / "cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_loss_that_is_no_number_stops_with_step_and_batch_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    told = r"loss is nan at step 6, batch 13 of the line: the outputs of all layers are finite"
    with pytest.raises(TrainingDiverged, match=told):
        run(regression(), Line(poison=13), CONFIG, tmp_path)
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["module"].values())


class Fault(torch.nn.Module):
    """Behaves until a batch, and then as it is told to."""

    def __init__(self, at: int, error: BaseException | None = None) -> None:
        super().__init__()
        self.sound, self.culprit, self.head = torch.nn.Linear(3, 3), torch.nn.Identity(), torch.nn.Linear(3, 1)
        self.left, self.error = at, error
        self.culprit.register_forward_hook(self.fail)

    def fail(self, part: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left >= 0:
            return output
        if self.error is not None:
            raise self.error
        return output / 0

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.head(self.culprit(self.sound(batch[0]))).mean(), {}


def test_the_layer_that_broke_is_named(tmp_path: Path) -> None:
    told = r"step 2, batch 4 of the line: the first layer whose output is not finite is 'culprit' \(Identity\), from a finite input"
    with pytest.raises(TrainingDiverged, match=told):
        run(Fault(4), Line(), CONFIG, tmp_path)


def test_a_batch_that_is_not_finite_is_told_from_a_layer_that_breaks(tmp_path: Path) -> None:
    class Poisoned(Line):
        def batch(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = super().batch(index)
            return x / 0 if index == 3 else x, y

    with pytest.raises(TrainingDiverged, match=r"batch 3 .*'layers.0' \(Linear\), and its input is not finite either: look at the batch"):
        run(regression(), Poisoned(), CONFIG, tmp_path)


def test_a_step_that_does_not_fit_the_memory_says_what_to_lower(tmp_path: Path) -> None:
    full = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    with pytest.raises(TrainingTooLarge) as caught:
        run(Fault(10, full), Line(), CONFIG, tmp_path)
    message = str(caught.value)
    for part in ("step 5, batch 10 of the line", "batch[0] (16, 3)", "gradient_checkpointing", "bfloat16", "smaller", "20.00 GiB"):
        assert part in message
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 4


def test_new_settings_at_their_defaults_do_not_make_another_recipe() -> None:
    """The digest is that of before there were gate_rate and patience, so that older checkpoints can be resumed."""
    old = {name: value for name, value in asdict(CONFIG).items() if name not in FREE | LATER}
    assert _digest(CONFIG, "x") == hashlib.sha256(json.dumps([old, "x"], sort_keys=True).encode()).hexdigest()
    assert _digest(replace(CONFIG, gate_rate=2.0), "x") != _digest(CONFIG, "x")
    assert _digest(replace(CONFIG, matrix_rate=2.0), "x") != _digest(CONFIG, "x")
    assert _digest(replace(CONFIG, gradient_checkpointing=True), "x") == _digest(CONFIG, "x")


def test_gates_have_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    class Gated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.other = torch.nn.Parameter(torch.zeros(())), torch.nn.Parameter(torch.zeros(()))

        def forward(self, batch: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return -self.gate - self.other, {}

    module = Gated()
    run(module, Line(), replace(CONFIG, steps=3, gate_rate=10.0), tmp_path)
    assert float(module.gate.detach()) == pytest.approx(10 * float(module.other.detach()))


def test_a_gradient_that_is_not_finite_names_the_parameter(tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine, self.culprit = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.zeros(1))

        def forward(self, batch: object) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return (self.fine + self.culprit.sqrt()).sum(), {}

    with pytest.raises(TrainingDiverged, match=r"gradient of culprit .* step 0, batch 1 of the line"):
        run(Broken(), Line(), CONFIG, tmp_path)


def test_a_folder_with_a_training_is_not_overwritten(tmp_path: Path) -> None:
    train(tmp_path, stop_after=1)
    with pytest.raises(InputError, match=r"step 1.*--resume"):
        train(tmp_path)


def test_another_recipe_cannot_resume(tmp_path: Path) -> None:
    train(tmp_path, stop_after=1)
    with pytest.raises(CheckpointUnusable, match="another recipe"):
        train(tmp_path, replace(CONFIG, peak_rate=0.01), resume=True)


def test_how_often_is_saved_may_change_on_resuming(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    train(tmp_path / "cut", stop_after=3)
    train(tmp_path / "cut", replace(CONFIG, save_every=1, log_every=1), resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"accumulation": 0}, {"precision": "float16"}, {"patience": -1}, {"matrix_rate": -1}, {"validate_every": 0}]
)
def test_a_value_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        LoopConfig(**({"steps": 1} | wrong))  # type: ignore[arg-type]


def test_training_code_needs_no_library_of_the_other_rooms() -> None:
    code = (
        "import sys\n"
        "for name in ('av', 'faiss', 'open_clip', 'transformers', 'peft', 'tensorboard', 'typer'): sys.modules[name] = None\n"
        "import vlm.train.loop, vlm.train.pocket, vlm.train.__main__, vlm.encoders.pocket\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("has", [False, True])
def test_the_precision_auto_is_what_the_device_has_in_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr("vlm.train.loop.has_bfloat16", lambda device: has)
    chosen = train(tmp_path / "auto", replace(CONFIG, precision="auto"))
    named = train(tmp_path / "named", replace(CONFIG, precision="bfloat16" if has else "float32"))
    assert all(torch.equal(chosen.values[name], value) for name, value in named.values.items())
    other = replace(CONFIG, precision="float32" if has else "bfloat16")
    with pytest.raises(CheckpointUnusable, match="another recipe"):  # a run goes on in the precision in which it began
        train(tmp_path / "auto", other, resume=True)


def test_runs_of_both_precisions_follow_each_other_in_one_process(tmp_path: Path) -> None:
    for number, precision in enumerate(["float32", "bfloat16", "float32"]):
        train(tmp_path / str(number), replace(CONFIG, precision=precision))
    assert_same_run(tmp_path / "0", tmp_path / "2")
    assert (tmp_path / "0" / FILE).read_text() != (tmp_path / "1" / FILE).read_text()
