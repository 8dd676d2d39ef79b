"""Texts are read once for all that one request makes of them: its first stage, its trained model, and its second look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder, TextTokens, text_tokens
from vlm.encoders.threads import one_thread


class ReadOnce:
    """An encoder that keeps what it made of texts, all else as the encoder that it stands for. Made for one request and dropped with it:
    weights that change meanwhile would not be noticed.

    Texts are few here, and are read on one thread (``one_thread``).
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._pooled: dict[tuple[str, ...], NDArray[np.float32]] = {}
        self._tokens: dict[tuple[str, ...], TextTokens] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d), as the encoder's."""
        key = tuple(texts)
        if key not in self._pooled:
            both = getattr(self._encoder, "encode_text_and_tokens", None)
            with one_thread():
                if both is None:
                    self._pooled[key] = self._encoder.encode_text(texts)
                else:
                    self._pooled[key], self._tokens[key] = both(texts)
        return self._pooled[key]

    def encode_text_tokens(self, texts: Sequence[str]) -> TextTokens:
        """Per-token features, as ``text_tokens`` gives them of the encoder."""
        key = tuple(texts)
        if key not in self._tokens:
            self.encode_text(texts)
        if key not in self._tokens:
            with one_thread():
                self._tokens[key] = text_tokens(self._encoder, texts)
        return self._tokens[key]
