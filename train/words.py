"""Texts as a frozen text tower gives them, read once: what training on top of it needs of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.encoders.base import Encoder, text_tokens

TEXTS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Words:
    """Texts of one batch: pooled (n, d) unit vectors, and words (n, q, d) with their mask (n, q); zeros at pads."""

    pooled: Tensor
    tokens: Tensor
    mask: Tensor

    def to(self, device: torch.device | str) -> Words:
        """The same on a device, in float32."""
        return Words(self.pooled.to(device).float(), self.tokens.to(device).float(), self.mask.to(device))


class TextBank:
    """Many texts, each read once, its words in float16 without pads."""

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        self._rows: dict[str, int] = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        pooled, words, lengths = [], [], []
        for some in _parts(list(self._rows)):
            read = text_tokens(encoder, some)
            pooled.append(encoder.encode_text(some).astype(np.float16))
            words.append(read.vectors[read.mask].astype(np.float16))
            lengths.append(read.mask.sum(axis=1))
        self._pooled: NDArray[np.float16] = np.concatenate(pooled) if pooled else np.zeros((0, encoder.dim), np.float16)
        self._words: NDArray[np.float16] = np.concatenate(words) if words else np.zeros((0, encoder.dim), np.float16)
        self._bounds = np.concatenate([[0], np.cumsum(np.concatenate(lengths) if lengths else [])]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def words(self, texts: Sequence[str]) -> Words:
        """Some of the texts as a batch.

        Raises:
            KeyError: a text was not read.
        """
        rows = [self._rows[text] for text in texts]
        lengths = self._bounds[1:][rows] - self._bounds[:-1][rows]
        tokens = np.zeros((len(rows), int(lengths.max(initial=1)), self._words.shape[1]), np.float16)
        for place, row in enumerate(rows):
            tokens[place, : lengths[place]] = self._words[self._bounds[row] : self._bounds[row + 1]]
        mask = np.arange(tokens.shape[1]) < lengths[:, None]
        return Words(torch.from_numpy(self._pooled[rows]), torch.from_numpy(tokens), torch.from_numpy(mask))


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        yield texts[first : first + TEXTS_AT_ONCE]
