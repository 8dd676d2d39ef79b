"""Small saved models, loaded once, and frames that tell pictures apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.small_models import IMAGE, HFKind, OpenClipKind, save_hf, save_open_clip
from vlm.encoders.registry import load_encoder
from vlm.encoders.towers import TorchEncoder

TEXTS = ["a dog jumps", "The CAT runs over red, red grass!", "waves", "it's two people: they talk on a beach and the dog runs"]


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Models this small only wait at the barriers of several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[OpenClipKind], Path]:
    root = tmp_path_factory.mktemp("open_clip")
    return cache(lambda kind: save_open_clip(root / kind, kind))


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[HFKind], Path]:
    root = tmp_path_factory.mktemp("hf")
    return cache(lambda kind: save_hf(root / kind, kind))


@pytest.fixture(scope="session")
def open_clip_encoder(open_clip_folder: Callable[[OpenClipKind], Path]) -> Callable[[OpenClipKind], TorchEncoder]:
    return cache(lambda kind: loaded(f"openclip:local-dir:{open_clip_folder(kind)}"))


@pytest.fixture(scope="session")
def hf_encoder(hf_folder: Callable[[HFKind], Path]) -> Callable[[HFKind], TorchEncoder]:
    return cache(lambda kind: loaded(f"hf:{hf_folder(kind)}"))


def loaded(spec: str, *, precision: str = "float32") -> TorchEncoder:
    encoder = load_encoder(spec, device="cpu", precision=precision)
    assert isinstance(encoder, TorchEncoder)
    return encoder


@pytest.fixture(scope="session")
def frames() -> NDArray[np.uint8]:
    """Frames (7, 32, 32, 3): colours, gradients and noise."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (7, IMAGE, IMAGE, 3), dtype=np.uint8)
    pictures[0] = (220, 30, 30)
    pictures[1, :, :, 1] = np.linspace(0, 255, IMAGE, dtype=np.uint8)
    pictures[2] = 0
    return pictures
