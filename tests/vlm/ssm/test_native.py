"""What only the compiled kernels have: their own exponential, sets of instructions, and an installation that may lack them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import REPOSITORY
from tests.vlm.ssm.problems import problem
from vlm.errors import BackendUnavailable
from vlm.ssm import backends
from vlm.ssm.inputs import ScanInputs
from vlm.ssm.native import library
from vlm.ssm.scan import selective_scan

compiled = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))
INSTRUCTIONS = [name for name in library.INSTRUCTION_SETS if library.missing() is None and library.load().can_run(name)]


def apply(function: str, instructions: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.concatenate([values, np.zeros(-len(values) % 16, np.float32)])
    found = np.empty_like(padded)
    run = getattr(library.load().functions, f"vlm_scan_{function}")
    run(instructions.encode(), padded.ctypes.data, found.ctypes.data, len(padded))
    return found[: len(values)]


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_the_exponential_is_right_over_the_whole_range(instructions: str):
    near_zero = np.float32(10) ** np.arange(-40, 1, 0.01, dtype=np.float32)
    values = np.concatenate([np.linspace(-87.3, 88.6, 2_000_003, dtype=np.float32), near_zero, -near_zero, [np.float32(0)]])
    truth = np.exp(values.astype(np.float64))
    assert np.abs(apply("exponential", instructions, values) / truth - 1).max() < 2e-7


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_the_exponential_ends_in_nothing_and_in_infinity(instructions: str):
    values = np.array([-np.inf, -1e30, -200, -104, 0, 89, 1e30, np.inf, np.nan], np.float32)
    np.testing.assert_allclose(apply("exponential", instructions, values), [0, 0, 0, 0, 1, np.inf, np.inf, np.inf, np.nan], atol=1e-44)


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_softplus_is_right_over_the_whole_range(instructions: str):
    values = np.concatenate([np.linspace(-87, 100, 1_000_003, dtype=np.float32), np.array([1e30], np.float32)])
    truth = np.logaddexp(0, values.astype(np.float64))
    assert np.abs(apply("softplus", instructions, values) / truth - 1).max() < 4e-7


@compiled
def test_a_set_of_instructions_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(library.INSTRUCTIONS_VARIABLE, "avx1024")
    with pytest.raises(BackendUnavailable, match=r"VLM_SCAN_INSTRUCTIONS must be one of .*plain on this processor, got 'avx1024'"):
        selective_scan(**problem(dtype=torch.float32).arguments(), backend="native")


@compiled
def test_auto_takes_native_for_float32_and_torch_for_float64():
    asked = problem(dtype=torch.float32)
    assert backends.choose_backend("auto", ScanInputs(**asked.arguments())).name == "native"
    assert backends.choose_backend("auto", ScanInputs(**asked.to(torch.float64).arguments())).name == "torch"


@compiled
def test_float64_is_refused_by_name_and_not_replaced():
    with pytest.raises(BackendUnavailable, match="scan backend 'native' computes in float32, and one of the tensors is float64"):
        selective_scan(**problem().arguments(), backend="native")


def test_without_kernels_auto_takes_torch_and_native_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "not_built.txt").write_text("CompileError: no such file: g++\n")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    asked = problem(dtype=torch.float32)
    assert backends.choose_backend("auto", ScanInputs(**asked.arguments())).name == "torch"
    with pytest.raises(BackendUnavailable, match=r"'native' is missing: it was not compiled \(CompileError: no such file: g\+\+\)"):
        selective_scan(**asked.arguments(), backend="native")


def test_a_damaged_library_is_a_reason_and_no_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    library.load.cache_clear()
    (tmp_path / f"kernels{library.EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    assert "cannot be loaded" in str(library.missing())
    library.load.cache_clear()


@pytest.mark.slow
def test_installing_without_a_compiler_succeeds_and_the_package_says_so(tmp_path: Path):
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY, source, symlinks=True, ignore=shutil.ignore_patterns(".git", ".*_cache", "*.so", "build", "*.egg-info"))
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv/bin/python"
    # This interpreter's packages are lent to the new environment, all but vlm itself: nothing is downloaded.
    site = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (site / "lent.pth").write_text("\n".join(lent))
    bare = {"PATH": str(tmp_path / "venv/bin"), "HOME": str(tmp_path), "PYTHONNOUSERSITE": "1"}
    command = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--ignore-installed", "--quiet", str(source)]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    code = (
        "import torch, vlm.ssm.native as native, vlm.ssm.scan as scan\n"
        "print(native.__file__); print(native.missing())\n"
        "x = torch.ones(1, 3, 2); print(scan.selective_scan(x, x, -torch.ones(2, 1), x[..., :1], x[..., :1]).sum().isfinite().item())"
    )
    told = subprocess.run([python, "-c", code], cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    file, reason, finite = told.stdout.splitlines()
    assert file.startswith(os.fspath(tmp_path))
    assert re.match(r"it was not compiled \(\w+Error: .*(g\+\+|gcc|cc)", reason), reason
    assert finite == "True"
