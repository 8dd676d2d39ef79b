"""Tokenizers of open_clip and transformers both ways, for models that answer in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlm.encoders.base import TextCodec


class BytePairCodec:
    """open_clip's own tokenizer (``SimpleTokenizer``), which CLIP was trained with: lower case, byte pairs."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.vocabulary_size, self.start, self.end = int(tokenizer.vocab_size), int(tokenizer.sot_token_id), int(tokenizer.eot_token_id)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without start and end."""
        return [int(token) for token in self._tokenizer.encode(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; words stand apart by one space."""
        said = [token for token in tokens if token not in (self.start, self.end)]
        return str(self._tokenizer.decode(said)).strip()


class HubCodec:
    """A tokenizer of transformers."""

    def __init__(self, tokenizer: Any, start: int, end: int) -> None:
        self._tokenizer = tokenizer
        self.vocabulary_size, self.start, self.end = len(tokenizer), start, end

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without start and end."""
        return [int(token) for token in self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


def hub_codec(tokenizer: Any) -> TextCodec | None:
    """The codec of a tokenizer of transformers: it opens a text by its first special token and closes it by its last.

    None where it has no token to close a text with, so that an answer could not end.
    """
    ends = [tokenizer.eos_token_id, tokenizer.sep_token_id]
    end = next((int(token) for token in ends if token is not None), None)
    if end is None:
        return None
    starts = [tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.pad_token_id]
    start = next((int(token) for token in starts if token is not None and token != end), end)
    return HubCodec(tokenizer, start, end)
