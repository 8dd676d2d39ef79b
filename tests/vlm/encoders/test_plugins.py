"""A plug-in's mistake is told by its name at the call that made it; and the plug-ins of the tests are what the tests need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.small_models import save_open_clip
from vlm.encoders.base import Encoder, Preprocessing, TextTokens, TowerAccess, WindowEncoder, text_tokens
from vlm.encoders.plugins import checked
from vlm.encoders.registry import load_encoder
from vlm.errors import BadVectors, EncoderError
from vlm.types import Framing

REPOSITORY = Path(__file__).resolve().parents[3]
FRAMES = np.zeros((3, 8, 8, 3), np.uint8)


class Plain:
    name, fingerprint, dim = "plain", "plain-1", 4
    preprocessing = Preprocessing(Framing(height=8, width=8))

    def encode_frames(self, frames: Any) -> Any:
        return np.full((len(frames), 4), 0.5, np.float32)

    def encode_text(self, texts: Any) -> Any:
        return np.full((len(texts), 4), 0.5, np.float32)


def changed(**members: Any) -> Encoder:
    made: Encoder = type("Changed", (Plain,), members)()
    return made


GOOD = np.full((3, 4), 0.5, np.float32)


def test_good_vectors_pass_unchanged() -> None:
    encoder = checked(Plain())
    np.testing.assert_array_equal(encoder.encode_frames(FRAMES), GOOD)
    assert checked(encoder) is encoder
    assert encoder.encode_frames(FRAMES[:0]).shape == (0, 4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (GOOD[:2], r"\(2, 4\) for 3 inputs"),
        (GOOD[:, :3], r"\(3, 3\)"),
        (GOOD[0], r"\(4,\)"),
        (GOOD.astype(np.float64), "float64, not float32"),
        (GOOD * 2, "row 0 with length 2"),
        (GOOD * np.array([[1], [np.nan], [1]], np.float32), "row 1 with length nan"),
        (GOOD * np.array([[1], [1], [0]], np.float32), "row 2 with length 0"),
        (GOOD.tolist(), "list"),
        (None, "NoneType"),
    ],
)
@pytest.mark.parametrize("method", ["encode_frames", "encode_text"])
def test_bad_vectors_name_the_plugin_and_the_method(method: str, wrong: Any, told: str) -> None:
    encoder = checked(changed(**{method: lambda self, rows: wrong}), name="python:mine.py:mine")
    with pytest.raises(BadVectors, match=f"'python:mine.py:mine': {method} gave .*{told}"):
        getattr(encoder, method)(FRAMES if method == "encode_frames" else ["a", "b", "c"])


@pytest.mark.parametrize(
    ("member", "value"), [("dim", 0), ("dim", "4"), ("fingerprint", ""), ("preprocessing", Framing(height=8, width=8))]
)
def test_bad_properties_are_told_when_it_is_loaded(member: str, value: Any) -> None:
    with pytest.raises(EncoderError, match=member):
        checked(changed(**{member: value}))


@pytest.mark.parametrize(
    ("vectors", "mask", "told"),
    [
        (np.ones((1, 2, 3), np.float32), np.ones((1, 2), bool), r"\(n, q, 4\)"),
        (np.ones((1, 2, 4), np.float32), np.ones((1, 3), bool), r"mask \(1, 3\)"),
        (np.ones((1, 2, 4)), np.ones((1, 2), bool), "float64"),
        (np.ones((1, 2, 4), np.float32), np.array([[True, False]]), "not zero outside"),
        (np.full((1, 2, 4), np.inf, np.float32), np.ones((1, 2), bool), "not finite"),
    ],
)
def test_bad_token_vectors_are_told(vectors: Any, mask: Any, told: str) -> None:
    encoder = checked(changed(encode_text_tokens=lambda self, texts: TextTokens(vectors, mask)))
    with pytest.raises(BadVectors, match=told):
        text_tokens(encoder, ["a"])


def test_what_a_plugin_does_not_offer_is_not_offered_by_the_check() -> None:
    encoder = checked(Plain())
    assert not hasattr(encoder, "thread_safe")
    assert not hasattr(encoder, "encode_text_tokens")
    assert text_tokens(encoder, ["a", "b"]).vectors.shape == (2, 1, 4)


def test_tower_access_stays_behind_the_check(tmp_path: Path) -> None:
    inner = load_encoder(f"openclip:local-dir:{save_open_clip(tmp_path)}", device="cpu")
    outer = checked(inner)
    assert isinstance(outer, TowerAccess)
    assert outer.vision is inner.vision  # type: ignore[attr-defined]
    assert outer.thread_safe is True  # type: ignore[attr-defined]


def test_bad_window_vectors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    encoder = load_encoder("python:tests/plugins/motion.py:motion")
    assert isinstance(encoder, WindowEncoder)
    windows = np.zeros((2, 4, 32, 32, 3), np.uint8)
    assert encoder.encode_windows(windows, np.zeros((2, 4))).shape == (2, 8)
    inner = encoder._encoder  # type: ignore[attr-defined]
    monkeypatch.setattr(inner, "encode_windows", lambda frames, times: np.zeros((2, 8), np.float32))
    with pytest.raises(BadVectors, match="encode_windows gave row 0 with length 0"):
        encoder.encode_windows(windows, np.zeros((2, 4)))


# The plug-ins of the tests and of the documentation

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 50, 220)}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Encoder]:
    monkeypatch.chdir(REPOSITORY)
    return load_encoder


def plain_frames(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.stack([np.full((size, size, 3), colour, np.uint8) for colour in COLOURS.values()])


@pytest.mark.parametrize("spec", ["python:tests/plugins/blocks.py:blocks", "python:docs/examples/histogram_encoder.py:histogram"])
def test_colour_words_find_frames_of_that_colour(spec: str, load: Callable[[str], Encoder]) -> None:
    encoder = load(spec)
    similarity = encoder.encode_text([f"something {word} here" for word in COLOURS]) @ encoder.encode_frames(plain_frames(64)).T
    assert similarity.argmax(axis=1).tolist() == [0, 1, 2]
    assert (np.sort(similarity)[:, -1] - np.sort(similarity)[:, -2] > 0.3).all()


def test_the_window_plugin_tells_motion_from_stillness(load: Callable[[str], Encoder]) -> None:
    encoder = load("python:tests/plugins/motion.py:motion")
    assert isinstance(encoder, WindowEncoder)
    still = np.zeros((4, 32, 32, 3), np.uint8)
    moving = still.copy()
    for t in range(4):
        moving[t, :, 8 * t : 8 * t + 8] = (200, 0, 0)
    still[:, :, :8] = (200, 0, 0)
    vectors = encoder.encode_windows(np.stack([still, moving]), np.zeros((2, 4)))
    similarity = encoder.encode_text(["red still", "red moving"]) @ vectors.T
    assert similarity.argmax(axis=1).tolist() == [0, 1]


def test_the_photo_plugin_is_the_shared_script(shared: Path, load: Callable[[str], Encoder]) -> None:
    encoder = load("python:tests/plugins/photo.py:photo")
    assert encoder.fingerprint.startswith("photo-")
    assert encoder.thread_safe is False  # type: ignore[attr-defined]
    frames = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    script = encoder._encoder._encoder  # type: ignore[attr-defined]
    np.testing.assert_array_equal(encoder.encode_frames(frames), script.encode_frames(frames))
    texts = ["a dog runs over the grass", "two words"]
    tokens = text_tokens(encoder, texts)
    assert tokens.vectors.shape == (2, 24, 384)
    assert tokens.mask.sum(axis=1).tolist() == [6, 2]
    np.testing.assert_array_equal(encoder.encode_text(texts), script.encode_text(texts))
