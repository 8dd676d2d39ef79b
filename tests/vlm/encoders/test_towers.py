"""TowerAccess, precision, threads, memory and broken weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.small_models import HFKind, OpenClipKind
from tests.vlm.encoders.conftest import TEXTS, loaded
from vlm.encoders import device as device_module
from vlm.encoders import towers as towers_module
from vlm.encoders.base import Encoder, TowerAccess
from vlm.encoders.device import Precision, faster_precision, has_bfloat16, resolve_device
from vlm.encoders.registry import load_encoder
from vlm.encoders.towers import TorchEncoder
from vlm.errors import BackendUnavailable, BadVectors, InputError

Frames = NDArray[np.uint8]
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this processor has no bfloat16")


@pytest.fixture
def fresh(open_clip_folder: Callable[..., Path]) -> Callable[..., TorchEncoder]:
    return lambda precision="float32": loaded(f"openclip:local-dir:{open_clip_folder('clip')}", precision=precision)


def with_vision(encoder: TorchEncoder, vision: nn.Module) -> TorchEncoder:
    encoder._towers = replace(encoder._towers, vision=vision)
    return encoder


def both_backends() -> list[tuple[str, OpenClipKind | HFKind]]:
    return [("open_clip", "clip"), ("open_clip", "siglip"), ("open_clip", "timm"), ("open_clip", "coca"), ("hf", "clip"), ("hf", "siglip")]


@pytest.fixture(params=both_backends(), ids=lambda pair: "-".join(pair))
def encoder(request: pytest.FixtureRequest, open_clip_folder: Callable[..., Path], hf_folder: Callable[..., Path]) -> TorchEncoder:
    backend, kind = request.param
    return loaded(f"openclip:local-dir:{open_clip_folder(kind)}" if backend == "open_clip" else f"hf:{hf_folder(kind)}")


def test_an_encoder_is_both_protocols_and_thread_safe(encoder: TorchEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder, TowerAccess)
    assert encoder.thread_safe


def test_forward_frames_normalised_equals_encode_frames(encoder: TorchEncoder, frames: Frames) -> None:
    pixels = encoder.preprocess(torch.from_numpy(frames))
    with torch.no_grad():
        vectors = nn.functional.normalize(encoder.forward_frames(pixels), dim=-1)
    np.testing.assert_allclose(vectors.numpy(), encoder.encode_frames(frames), atol=1e-5)


def test_gradients_reach_the_first_vision_block_and_the_text_tower(encoder: TorchEncoder, frames: Frames) -> None:
    encoder.forward_frames(encoder.preprocess(torch.from_numpy(frames[:2]))).square().sum().backward()
    pooled, per_token, mask = encoder.forward_text(encoder.tokenize(TEXTS[:2]))
    (pooled.sum() + per_token[mask].sum()).backward()
    assert len(encoder.vision_blocks) >= 3
    for module in (encoder.vision_blocks[0], encoder.text):
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        assert any(bool(g.abs().sum() > 0) for g in gradients)


def test_a_training_step_changes_what_encode_frames_gives(encoder: TorchEncoder, frames: Frames) -> None:
    before = encoder.encode_frames(frames)
    optimiser = torch.optim.SGD(encoder.vision.parameters(), lr=0.1)
    encoder.forward_frames(encoder.preprocess(torch.from_numpy(frames))).norm(dim=-1).sum().backward()
    optimiser.step()
    assert np.abs(encoder.encode_frames(frames) - before).max() > 1e-4


def test_training_does_not_write_into_the_weight_file(open_clip_folder: Callable[..., Path]) -> None:
    """Parameters live in the mapped file's memory until they are written to."""
    file = open_clip_folder("clip") / "open_clip_model.safetensors"
    before = file.read_bytes()
    encoder = loaded(f"openclip:local-dir:{open_clip_folder('clip')}")
    with torch.no_grad():
        for parameter in encoder.vision.parameters():
            parameter.zero_()
    assert file.read_bytes() == before


def test_encoding_keeps_no_gradients(encoder: TorchEncoder, frames: Frames) -> None:
    encoder.encode_frames(frames)
    encoder.encode_text(TEXTS)
    assert all(p.grad is None for p in (*encoder.vision.parameters(), *encoder.text.parameters()))


def test_threads_give_the_vectors_of_one_thread(encoder: TorchEncoder, frames: Frames) -> None:
    chunks = [np.roll(frames, shift, axis=0) for shift in range(12)]
    alone = [encoder.encode_frames(chunk) for chunk in chunks]
    threads_before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encoder.encode_frames, chunks))
    assert torch.get_num_threads() == threads_before
    np.testing.assert_allclose(np.stack(together), np.stack(alone), atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((2, 16, 32, 3), np.uint8),
    ],
)
def test_frames_of_another_shape_or_type_are_refused(wrong: Any, open_clip_encoder: Callable[..., TorchEncoder]) -> None:
    with pytest.raises(InputError, match=r"uint8 \(n, 32, 32, 3\), got"):
        open_clip_encoder("clip").encode_frames(wrong)


def test_frames_that_are_a_view_are_taken(open_clip_encoder: Callable[..., TorchEncoder], frames: Frames) -> None:
    encoder = open_clip_encoder("clip")
    np.testing.assert_allclose(encoder.encode_frames(frames[::-2]), encoder.encode_frames(frames)[::-2], atol=1e-5)
    read_only = frames.copy()
    read_only.setflags(write=False)
    np.testing.assert_allclose(encoder.encode_frames(read_only), encoder.encode_frames(frames), atol=1e-6)


class Poisoned(nn.Module):
    """A tower that gives ``value`` in the row of the frame that is all zero."""

    def __init__(self, tower: nn.Module, value: float) -> None:
        super().__init__()
        self.tower, self.value = tower, value

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.tower(pixels).clone()
        vectors[pixels.flatten(1).std(dim=1) < 0.3] = self.value  # a frame of one colour keeps only its channels' means
        return vectors


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_vector_that_is_not_finite_names_its_row(value: float, fresh: Callable[..., TorchEncoder]) -> None:
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    frames[18] = 0
    encoder = fresh()
    with pytest.raises(BadVectors, match="frame 18 of 20"):
        with_vision(encoder, Poisoned(encoder.vision, value)).encode_frames(frames)


def test_a_broken_text_tower_is_told(fresh: Callable[..., TorchEncoder]) -> None:
    encoder = fresh()
    with torch.no_grad():
        next(encoder.text.parameters()).fill_(float("nan"))
    for encode in (encoder.encode_text, encoder.encode_text_tokens):
        with pytest.raises(BadVectors, match="text 0 of 2"):
            encode(["a", "b"])


class Narrow(nn.Module):
    """A tower that runs out of memory above ``rows`` frames."""

    def __init__(self, tower: nn.Module, rows: int) -> None:
        super().__init__()
        self.tower, self.rows = tower, rows

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        vectors: torch.Tensor = self.tower(pixels)
        return vectors


def test_a_full_device_is_given_smaller_batches(fresh: Callable[..., TorchEncoder], frames: Frames) -> None:
    encoder = fresh()
    many = np.tile(frames, (5, 1, 1, 1))
    expected = encoder.encode_frames(many)
    np.testing.assert_allclose(with_vision(encoder, Narrow(encoder.vision, 3)).encode_frames(many), expected, atol=1e-5)


def test_a_device_too_full_for_one_frame_says_what_to_do(fresh: Callable[..., TorchEncoder], frames: Frames) -> None:
    encoder = fresh()
    with pytest.raises(BackendUnavailable, match=r"no memory left for one frame.*device='cpu'"):
        with_vision(encoder, Narrow(encoder.vision, 0)).encode_frames(frames)


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "gpu", "meta", "cpu:x", ""])
def test_an_unknown_or_absent_device_is_refused(name: str, open_clip_folder: Callable[..., Path]) -> None:
    with pytest.raises(BackendUnavailable, match=f"'{name}'"):
        load_encoder(f"openclip:local-dir:{open_clip_folder('clip')}", device=name)


def test_auto_is_a_device_of_this_machine() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == expected


def test_an_unknown_precision_is_refused(fresh: Callable[..., TorchEncoder]) -> None:
    with pytest.raises(InputError, match="'float16'"):
        fresh("float16")


def test_bfloat16_is_refused_where_it_would_be_emulated(fresh: Callable[..., TorchEncoder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_cpu_flags", lambda: {"avx2", "fma"})
    with pytest.raises(BackendUnavailable, match="bfloat16"):
        fresh("bfloat16")


def test_without_bfloat16_auto_is_float32_and_says_so(
    fresh: Callable[..., TorchEncoder], frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(towers_module, "has_bfloat16", lambda device: False)
    encoder = fresh("auto")
    assert encoder.precision is None
    encoder.encode_frames(frames)
    assert encoder.precision == Precision("float32", "cpu has no bfloat16 in hardware")


@pytest.mark.parametrize("winner", ["float32", "bfloat16"])
def test_the_faster_precision_is_taken(
    winner: Any, fresh: Callable[..., TorchEncoder], frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(towers_module, "has_bfloat16", lambda device: True)
    ran: list[int] = []

    def measured(float32: Callable[[], Any], bfloat16: Callable[[], Any], device: torch.device) -> Precision:
        ran.extend((len(float32()), len(bfloat16())))
        return Precision(winner, "measured", 10.0, 20.0)

    monkeypatch.setattr(towers_module, "faster_precision", measured)
    encoder = fresh("auto")
    vectors = encoder.encode_frames(frames)
    encoder.encode_frames(frames)
    assert ran == [device_module.TRIAL_ROWS] * 2  # once, not at every call
    assert encoder.precision == Precision(winner, "measured", 10.0, 20.0)
    exact = fresh().encode_frames(frames)
    assert (np.abs(vectors - exact).max() < 1e-6) == (winner == "float32")


@pytest.mark.parametrize(("bfloat16_seconds", "chosen"), [(0.4, "bfloat16"), (0.75, "float32"), (2.0, "float32")])
def test_bfloat16_needs_a_clear_gain(bfloat16_seconds: float, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first round is warm-up, and of the others the best counts: neighbours can only make a run slower."""
    taken = {"float32": [9.0, 3.0, 0.8, 5.0], "bfloat16": [0.01, 4.0, 6.0, bfloat16_seconds]}
    monkeypatch.setattr(device_module, "_seconds", lambda run, device: run())
    outcome = faster_precision(lambda: taken["float32"].pop(0), lambda: taken["bfloat16"].pop(0), torch.device("cpu"))
    assert outcome.name == chosen
    assert outcome.float32_frames_per_second == pytest.approx(device_module.TRIAL_ROWS / 0.8)
    assert outcome.bfloat16_frames_per_second == pytest.approx(device_module.TRIAL_ROWS / bfloat16_seconds)
    assert f"{0.8 / bfloat16_seconds:.2f} times" in outcome.reason


@needs_bfloat16
def test_bfloat16_vectors_are_close_to_float32(fresh: Callable[..., TorchEncoder], frames: Frames) -> None:
    half, full = fresh("bfloat16").encode_frames(frames), fresh().encode_frames(frames)
    assert half.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)
    cosine = np.sum(half * full, axis=1)
    assert cosine.min() > 0.99  # these weights are twice as large as trained ones; benchmarks/encode.py prints it for CLIP's size
    assert np.abs(half - full).max() > 1e-4  # it did run in bfloat16


@needs_bfloat16
def test_opening_the_towers_ends_the_use_of_a_bfloat16_copy(fresh: Callable[..., TorchEncoder], frames: Frames) -> None:
    encoder = fresh("bfloat16")
    encoder.encode_frames(frames)
    assert next(encoder.vision.parameters()).dtype == torch.float32
    np.testing.assert_allclose(encoder.encode_frames(frames), fresh().encode_frames(frames), atol=1e-6)
    assert encoder.precision is not None
    assert encoder.precision.name == "float32"
