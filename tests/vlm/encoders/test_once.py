"""An encoder for one request: every text is read once, and what is given is what the encoder gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plugins.blocks import Blocks
from tests.small_models import OpenClipKind
from tests.vlm.encoders.conftest import TEXTS
from vlm.encoders.base import text_tokens
from vlm.encoders.once import ReadOnce
from vlm.encoders.towers import TorchEncoder


class Counting(Blocks):
    """Remembers what it was asked to read."""

    def __init__(self) -> None:
        self.read: list[tuple[str, ...]] = []

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.read.append(tuple(texts))
        return super().encode_text(texts)


def test_a_text_is_read_once_however_often_it_is_asked_for():
    encoder = Counting()
    once = ReadOnce(encoder)
    for _ in range(3):
        np.testing.assert_array_equal(once.encode_text(["a red dog"]), Blocks().encode_text(["a red dog"]))
    once.encode_text(["a red dog", "a cat"])
    assert encoder.read == [("a red dog",), ("a red dog", "a cat")]


def test_all_else_is_the_encoders_own():
    encoder = Counting()
    once = ReadOnce(encoder)
    assert (once.name, once.fingerprint, once.dim, once.preprocessing) == (
        encoder.name,
        encoder.fingerprint,
        encoder.dim,
        encoder.preprocessing,
    )
    assert getattr(once, "unread_text", None) is None


def test_an_encoder_without_tokens_gives_its_vector_as_the_one_token():
    once = ReadOnce(Counting())
    tokens = once.encode_text_tokens(["red", "blue"])
    np.testing.assert_array_equal(tokens.vectors[:, 0], Blocks().encode_text(["red", "blue"]))
    assert tokens.mask.tolist() == [[True], [True]]


@pytest.mark.parametrize("texts", [TEXTS, [], TEXTS[:1]], ids=len)
def test_vectors_and_tokens_come_from_one_pass_through_the_tower(
    texts: list[str], open_clip_encoder: Callable[[OpenClipKind], TorchEncoder], monkeypatch: pytest.MonkeyPatch
):
    encoder = open_clip_encoder("clip")
    pooled, tokens = encoder.encode_text(texts), text_tokens(encoder, texts)
    passes: list[int] = []
    forward = encoder.forward_text
    monkeypatch.setattr(encoder, "forward_text", lambda ids: (passes.append(len(ids)), forward(ids))[1])
    once = ReadOnce(encoder)
    np.testing.assert_array_equal(once.encode_text(texts), pooled)
    found = text_tokens(once, texts)
    np.testing.assert_array_equal(found.vectors, tokens.vectors)
    np.testing.assert_array_equal(found.mask, tokens.mask)
    assert passes == ([len(texts)] if texts else [])
