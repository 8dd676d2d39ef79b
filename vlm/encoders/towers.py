"""Two torch towers as an Encoder and a TowerAccess: what open_clip and transformers models have in common.

``Towers`` is what a backend builds; ``TorchEncoder`` is what the rest of the house holds.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vlm.encoders.base import Preprocessing, TextCodec, TextTokens
from vlm.encoders.device import TRIAL_ROWS, Precision, PrecisionChoice, check_precision, faster_precision, has_bfloat16, resolve_device
from vlm.errors import BackendUnavailable, BadVectors, InputError

ROWS_CPU, ROWS_GPU = 16, 64
TEXTS = 64
# A cut inside a word goes back to the start of that word, unless the "word" is longer than words are (Chinese, Thai).
LONGEST_WORD = 30


@dataclass(frozen=True, slots=True)
class Towers:
    """A dual encoder, taken apart.

    Attributes:
        vision: normalised pixels (n, 3, h, w) to pooled, projected vectors (n, d).
        vision_blocks: its blocks, first to last; empty where the architecture has none that could be told apart.
        text: token ids (n, q) to pooled (n, d), per token (n, q, d) and mask (n, q); projected, not normalised.
        tokenize: texts to token ids (n, q) int64, padded or cut to the context.
        num_tokens: how many tokens a text has, special ones included, before it is cut.
        context: how many tokens the text tower reads.
        codec: the tokenizer both ways; None where texts cannot be made of tokens.
    """

    vision: nn.Module
    vision_blocks: tuple[nn.Module, ...]
    text: nn.Module
    tokenize: Callable[[Sequence[str]], Tensor]
    num_tokens: Callable[[str], int]
    context: int
    codec: TextCodec | None = None


class TorchEncoder:
    """Encoder and TowerAccess over ``towers``; ``encode_frames`` may run in several threads, each with its own intra-op threads.

    Texts are always encoded in float32. Frames run in float32 or bfloat16: ``precision`` "auto" measures both on the first frames
    where the processor has bfloat16. The float32 tower stays the truth: whoever takes ``vision`` (to train it) ends the use of the
    bfloat16 copy, which would no longer be its copy.
    """

    thread_safe = True

    def __init__(
        self,
        towers: Towers,
        *,
        name: str,
        fingerprint: str,
        dim: int,
        preprocessing: Preprocessing,
        languages: tuple[str, ...] = ("en",),
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self._device = resolve_device(device)
        self._choice: PrecisionChoice = check_precision(precision, self._device)
        self._towers = towers
        self._name = name
        self._fingerprint = fingerprint
        self._dim = dim
        self._preprocessing = preprocessing
        self.languages = languages
        self._precision: Precision | None = None
        self._half: nn.Module | None = None
        self._lock = threading.Lock()
        self._tokenizer_lock = threading.Lock()
        self._place()

    def _place(self) -> None:
        for tower in (self._towers.vision, self._towers.text):
            try:
                tower.to(self._device).eval()
            except torch.OutOfMemoryError as error:
                raise BackendUnavailable(
                    f"the weights of {self._name!r} do not fit on {self._device}: use device='cpu' or a smaller encoder"
                ) from error
        # (pixel / 255 - mean) / std as pixel * scale + shift, repeated along a row of pixels: one pass over memory as it lies.
        mean, std = torch.tensor(self._preprocessing.mean), torch.tensor(self._preprocessing.std)
        width = self._preprocessing.framing.width
        self._scale = (1 / (255 * std)).repeat(width).to(self._device)
        self._shift = (-mean / std).repeat(width).to(self._device)

    # Encoder

    @property
    def name(self) -> str:
        """The spec string that loads this encoder again."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """A digest of weights, architecture, activation, preprocessing and tokenizer; device and precision do not enter."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Width d of the shared space."""
        return self._dim

    @property
    def preprocessing(self) -> Preprocessing:
        """How frames must come in."""
        return self._preprocessing

    @property
    def text_codec(self) -> TextCodec | None:
        """The tokenizer both ways, for models that answer in words; None where there is none."""
        return self._towers.codec

    @property
    def precision(self) -> Precision | None:
        """The precision of ``encode_frames`` and why; None before the first frames have decided it."""
        return self._precision

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of frames (n, h, w, 3) uint8 RGB that already have ``preprocessing.framing``.

        Raises:
            InputError: another shape or type. BadVectors: the tower gave NaN or infinity. BackendUnavailable: out of device memory.
        """
        framing = self._preprocessing.framing
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (framing.height, framing.width, 3):
            raise InputError(f"frames must be uint8 (n, {framing.height}, {framing.width}, 3), got {frames.dtype} {frames.shape}")
        if len(frames) == 0:
            return np.zeros((0, self._dim), np.float32)
        vision = self._fast_vision(frames)
        rows = ROWS_CPU if self._device.type == "cpu" else ROWS_GPU
        parts: list[NDArray[np.float32]] = []
        first = 0
        while first < len(frames):
            try:
                parts.append(self._run_vision(vision, frames[first : first + rows]))
            except torch.OutOfMemoryError as error:
                if rows == 1:
                    raise BackendUnavailable(
                        f"{self._device} has no memory left for one frame of {framing.height} x {framing.width} through {self._name!r}: "
                        "end what else runs there, use device='cpu', or a smaller encoder"
                    ) from error
                rows = max(1, rows // 2)
                continue
            first += rows
        return self._checked(np.concatenate(parts), "frame")

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of texts, pooled.

        Raises:
            BadVectors: the tower gave NaN or infinity.
        """
        return self._pooled_of(self._run_text(texts))

    def encode_text_tokens(self, texts: Sequence[str]) -> TextTokens:
        """Projected vectors of every token, unnormalised, zero where the mask is False."""
        return self._tokens_of(self._run_text(texts), len(texts))

    def encode_text_and_tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], TextTokens]:
        """What ``encode_text`` and ``encode_text_tokens`` give, in one pass."""
        parts = self._run_text(texts)
        return self._pooled_of(parts), self._tokens_of(parts, len(texts))

    def unread_text(self, text: str) -> str:
        """The tail of ``text`` that lies beyond the context, from the first word that is not wholly read; "" when all is read."""
        with self._tokenizer_lock:
            return unread_tail(text, self._towers.num_tokens, self._towers.context)

    # TowerAccess

    @property
    def device(self) -> str:
        """Where the towers live, as torch spells it."""
        return str(self._device)

    @property
    def vision(self) -> nn.Module:
        """The vision tower in float32; taking it ends the use of a bfloat16 copy."""
        with self._lock:
            self._precision = Precision("float32", "the towers were opened with TowerAccess")
            self._half = None
        return self._towers.vision

    @property
    def vision_blocks(self) -> Sequence[nn.Module]:
        """Its transformer blocks, first to last; taking them ends the use of a bfloat16 copy."""
        self.vision  # noqa: B018  # the side effect is wanted
        return self._towers.vision_blocks

    @property
    def text(self) -> nn.Module:
        """The text tower."""
        return self._towers.text

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids (n, q) int64 on ``device``."""
        with self._tokenizer_lock:  # the tokenizers of transformers may not be shared between threads
            return self._towers.tokenize(list(texts)).to(self._device)

    def preprocess(self, frames: Tensor) -> Tensor:
        """Normalised pixels (n, 3, h, w) float32 on ``device`` of frames (n, h, w, 3) uint8; only bytes travel there."""
        n, h, w, _ = frames.shape
        rows = frames.to(self._device, non_blocking=True).reshape(n, h, w * 3).float()
        pixels = torch.addcmul(self._shift, rows, self._scale)
        return pixels.view(n, h, w, 3).permute(0, 3, 1, 2)  # (n, 3, h, w), channels last in memory

    def forward_frames(self, pixels: Tensor) -> Tensor:
        """Pooled, projected, not yet normalised (n, d) of normalised pixels (n, 3, h, w)."""
        vectors: Tensor = self.vision(pixels)
        return vectors

    def forward_text(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled (n, d), per token (n, q', d), mask (n, q') of token ids (n, q); q' <= q where a causal tower was cut."""
        pooled, per_token, mask = self._towers.text(tokens)
        return pooled, per_token, mask

    # What stands behind it

    @torch.inference_mode()
    def _run_vision(self, vision: nn.Module, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        # torch takes no array that it might not write to: frames from shared memory are copied, those of a decoder are not.
        owned = np.ascontiguousarray(frames) if frames.flags.writeable else frames.copy()
        pixels = self.preprocess(torch.from_numpy(owned))
        if vision is self._half:
            pixels = pixels.to(torch.bfloat16)
        return _unit(vision(pixels))

    def _run_text(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor, Tensor]]:
        with torch.inference_mode():
            return [self.forward_text(self.tokenize(texts[first : first + TEXTS])) for first in range(0, len(texts), TEXTS)]

    def _pooled_of(self, parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> NDArray[np.float32]:
        vectors = [_unit(pooled) for pooled, _, _ in parts]
        return self._checked(np.concatenate(vectors), "text") if vectors else np.zeros((0, self._dim), np.float32)

    def _tokens_of(self, read: Sequence[tuple[Tensor, Tensor, Tensor]], num_texts: int) -> TextTokens:
        parts = [(tokens * mask[..., None], mask) for _, tokens, mask in read]
        longest = max((mask.shape[1] for _, mask in parts), default=0)
        vectors = np.zeros((num_texts, longest, self._dim), np.float32)
        held = np.zeros((num_texts, longest), np.bool_)
        for part, (tokens, mask) in enumerate(parts):
            rows = slice(part * TEXTS, part * TEXTS + len(mask))
            vectors[rows, : mask.shape[1]] = tokens.float().cpu().numpy()
            held[rows, : mask.shape[1]] = mask.cpu().numpy()
        return TextTokens(vectors=self._checked(vectors, "text"), mask=held)

    def _fast_vision(self, frames: NDArray[np.uint8]) -> nn.Module:
        """The tower that ``encode_frames`` runs; decides the precision on the first frames."""
        with self._lock:
            if self._precision is None:
                self._precision = self._decide(frames)
            return self._towers.vision if self._half is None else self._half

    def _decide(self, frames: NDArray[np.uint8]) -> Precision:
        if self._choice == "float32":
            return Precision("float32", "asked for")
        if not has_bfloat16(self._device):
            return Precision("float32", f"{self._device} has no bfloat16 in hardware")
        half = copy.deepcopy(self._towers.vision).to(torch.bfloat16)
        self._half = half
        if self._choice == "bfloat16":
            return Precision("bfloat16", "asked for")
        rows = np.resize(frames, (TRIAL_ROWS, *frames.shape[1:]))
        outcome = faster_precision(lambda: self._run_vision(self._towers.vision, rows), lambda: self._run_vision(half, rows), self._device)
        if outcome.name == "float32":
            self._half = None
        return outcome

    def _checked(self, vectors: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        finite = np.isfinite(vectors).all(axis=tuple(range(1, vectors.ndim)))
        if not finite.all():
            row = int(np.argmin(finite))
            raise BadVectors(
                f"encoder {self._name!r} gave a vector that is not finite for {what} {row} of {len(vectors)}: "
                "the weights are broken, or the precision is too low (precision='float32')"
            )
        return vectors


def _unit(vectors: Tensor) -> NDArray[np.float32]:
    wide = vectors.float()
    # No epsilon: a vector of zeros becomes NaN, and is refused by name.
    unit: NDArray[np.float32] = (wide / wide.norm(dim=-1, keepdim=True)).cpu().numpy()
    return unit


def unread_tail(text: str, num_tokens: Callable[[str], int], context: int) -> str:
    """The part of ``text`` beyond ``context`` tokens, from the first word that is not wholly read."""
    if num_tokens(text) <= context:
        return ""
    low, high = 0, len(text)  # text[:low] fits, text[:high] does not
    while high - low > 1:
        middle = (low + high) // 2
        if num_tokens(text[:middle]) <= context:
            low = middle
        else:
            high = middle
    if low and not text[low].isspace() and not text[low - 1].isspace():
        word = next((at + 1 for at in range(low - 1, max(-1, low - LONGEST_WORD), -1) if text[at].isspace()), low)
        low = word
    return text[low:].lstrip()
