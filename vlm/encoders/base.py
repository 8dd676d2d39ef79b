"""What the rest of the house knows of a model: three Protocols, and the preprocessing that comes with one.

``Encoder`` is all that inference needs and all that a plug-in must offer. ``WindowEncoder`` adds towers that see several frames at once.
``TowerAccess`` opens the towers for training: adapters inside, LoRA, whole towers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError
from vlm.types import Framing

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Geometry of the input frames and the normalisation that follows it: ``(pixel / 255 - mean) / std`` per channel.

    The video room applies ``framing`` while it decodes; the encoder normalises on its own device.
    """

    framing: Framing
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if any(s <= 0 for s in self.std):
            raise InputError(f"std must be positive, got {self.std}")


@dataclass(frozen=True, slots=True)
class TextTokens:
    """Per-token text features.

    Shapes:
        vectors: (n, q, d) float32, zero where ``mask`` is False.
        mask: (n, q) bool, True = real token.
    """

    vectors: NDArray[np.float32]
    mask: NDArray[np.bool_]


class TextCodec(Protocol):
    """A tokenizer both ways, with the tokens that open and close a text."""

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""

    @property
    def start(self) -> int:
        """The token before a text."""

    @property
    def end(self) -> int:
        """The token behind a text."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without start and end."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without start and end."""


@runtime_checkable
class Encoder(Protocol):
    """Frames and texts to unit vectors in one space.

    Optional attributes, read where present:
        thread_safe: bool, False by default: ``encode_frames`` may run in several threads at once.
        languages: tuple[str, ...], ("en",) by default; ("*",) for a multilingual text tower.
        encode_text_tokens: Callable[[Sequence[str]], TextTokens]; without it the pooled vector is the one token.
        encode_text_and_tokens: what ``encode_text`` and ``encode_text_tokens`` give, in one pass; without it there are two.
        text_codec: TextCodec, its tokenizer as models that answer in words need it; without it they cannot.
        unread_text: Callable[[str], str]: the tail of a text that exceeds the context, "" when all of it is read.
        scope: str, what a model that was not trained on the world at large knows: "the drawn world of Toybox".
        unfamiliar: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]: which frames, as ``encode_frames`` takes them, lie outside the scope.
        background_texts: Callable[[int], list[str]]: so many different sentences of the kind that it is asked for, always the same; scores
            are held against those of sentences that a library is unlikely to show.
        unknown_words: Callable[[Sequence[str]], list[str]]: words of texts that the text tower never saw in training.
    """

    @property
    def name(self) -> str:
        """The spec string that loads this encoder again."""

    @property
    def fingerprint(self) -> str:
        """A digest of everything that changes the vectors: weights, activation, preprocessing."""

    @property
    def dim(self) -> int:
        """Width d of the shared space."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How frames must come in."""

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of frames (n, h, w, 3) uint8 RGB that already have ``preprocessing.framing``."""

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of texts, pooled."""


@dataclass(frozen=True, slots=True)
class Window:
    """The grid of a window encoder: ``frames`` pictures spread evenly over ``seconds``, a window every ``stride`` seconds."""

    frames: int
    seconds: float
    stride: float

    def __post_init__(self) -> None:
        if self.frames < 1 or self.seconds <= 0 or self.stride <= 0:
            raise InputError(f"a window needs frames >= 1, seconds > 0 and stride > 0, got {self}")


@runtime_checkable
class WindowEncoder(Encoder, Protocol):
    """A tower that sees several frames at once; segments can later be cut only on its window grid."""

    @property
    def window(self) -> Window:
        """The grid that the library records in its passport."""

    def encode_windows(self, frames: NDArray[np.uint8], times: NDArray[np.float64]) -> NDArray[np.float32]:
        """Unit vectors (b, d) of windows (b, t, h, w, 3) uint8 RGB with times (b, t) in seconds."""


@runtime_checkable
class TowerAccess(Protocol):
    """The two towers of a dual encoder, open for training. Everything keeps gradients and stays on ``device``."""

    @property
    def device(self) -> str:
        """Where the towers live, as torch spells it."""

    @property
    def vision(self) -> nn.Module:
        """The vision tower."""

    @property
    def vision_blocks(self) -> Sequence[nn.Module]:
        """Its transformer blocks, first to last."""

    @property
    def text(self) -> nn.Module:
        """The text tower."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids (n, q) int64."""

    def preprocess(self, frames: Tensor) -> Tensor:
        """Normalised pixels (n, 3, h, w) of frames (n, h, w, 3) uint8."""

    def forward_frames(self, pixels: Tensor) -> Tensor:
        """Pooled, projected, not yet normalised (n, d) of normalised pixels (n, 3, h, w)."""

    def forward_text(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled (n, d), per token (n, q, d), mask (n, q) of token ids (n, q)."""


def text_codec(encoder: Encoder) -> TextCodec | None:
    """The encoder's tokenizer both ways; None where it has none."""
    codec: TextCodec | None = getattr(encoder, "text_codec", None)
    return codec


def text_tokens(encoder: Encoder, texts: Sequence[str]) -> TextTokens:
    """Per-token features of ``texts``; the pooled vector as one token where the encoder has no others."""
    per_token = getattr(encoder, "encode_text_tokens", None)
    if per_token is not None:
        tokens: TextTokens = per_token(texts)
        return tokens
    pooled = encoder.encode_text(texts)
    return TextTokens(vectors=pooled[:, None, :], mask=np.ones((len(pooled), 1), dtype=np.bool_))
