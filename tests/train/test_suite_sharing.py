"""What two ranks learn of the suite's tasks is what one rank learns from the same batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.suite_sharing import learn
from tests.train.suite_toys import TOYS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks left."""
    folder = tmp_path_factory.mktemp("shared")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.train.suite_sharing"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", TOYS)
def test_losses_and_gradients_are_those_of_the_whole_batch(shared: Path, name: str, one_torch_thread: None):
    two = torch.load(shared / "found.pt", weights_only=True)[name]
    for (loss, gradients), (other_loss, other_gradients) in zip(learn(name, 0, 1), two, strict=True):
        assert loss == pytest.approx(other_loss, rel=1e-5)
        for key, gradient in gradients.items():
            torch.testing.assert_close(gradient, other_gradients[key], rtol=1e-4, atol=1e-6, msg=key)
