"""What a library was made with, and the proof that a model is still that one.

The passport records the encoder and the sampling. Canaries are generated inputs whose vectors were stored on the first day: a model that
gives other vectors for them is another model, whatever its name (open_clip#771: GELU for QuickGELU; frigate#24159: every vector the same).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder, Window, WindowEncoder
from vlm.errors import BadVectors, EncoderMismatch

CANARY_TEXTS = ("a dog runs over the grass", "a red car on a street at night", "two people talk in a kitchen", "waves on an empty beach")
NUM_CANARY_FRAMES = 6
# bfloat16 and another device move a vector by far less; another activation or preprocessing by more.
SAME_MODEL_COSINE = 0.99
# Vectors of unlike inputs that agree to this are dead. Float32 rounding alone is about 1e-7.
COLLAPSED_COSINE = 1 - 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Passport:
    """The model and the sampling of a library; canaries are unit vectors (k, d)."""

    encoder: str
    fingerprint: str
    dim: int
    sampling: str
    preprocessing: dict[str, Any]
    window: dict[str, Any] | None
    canary_frames: NDArray[np.float32]
    canary_texts: NDArray[np.float32]

    def to_json(self) -> str:
        """The passport as text; ``from_json`` is the inverse."""
        plain = {name: getattr(self, name) for name in ("encoder", "fingerprint", "dim", "sampling", "preprocessing", "window")}
        return json.dumps(plain | {"canary_frames": self.canary_frames.tolist(), "canary_texts": self.canary_texts.tolist()})

    @classmethod
    def from_json(cls, text: str) -> Passport:
        """The passport that ``to_json`` wrote."""
        fields: dict[str, Any] = json.loads(text)
        for name in ("canary_frames", "canary_texts"):
            fields[name] = np.asarray(fields[name], np.float32)
        return cls(**fields)


def issue(encoder: Encoder, sampling: str) -> Passport:
    """A new passport for ``encoder``.

    Raises:
        BadVectors: its vectors are not finite, or the same for unlike inputs.
    """
    frames, texts = _encode_canary_frames(encoder), encoder.encode_text(CANARY_TEXTS)
    refuse_collapse(frames, f"generated pictures by {encoder.name!r}")
    refuse_collapse(texts, f"sentences by {encoder.name!r}")
    window: Window | None = encoder.window if isinstance(encoder, WindowEncoder) else None
    return Passport(
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        sampling=sampling,
        preprocessing=asdict(encoder.preprocessing),
        window=None if window is None else asdict(window),
        canary_frames=frames,
        canary_texts=texts,
    )


def check_fingerprint(passport: Passport, encoder: Encoder) -> None:
    """Refuses an encoder that is not the library's.

    Raises:
        EncoderMismatch: names both and says how to go on.
    """
    if encoder.fingerprint != passport.fingerprint or encoder.dim != passport.dim:
        raise EncoderMismatch(
            f"the library was made with {passport.encoder!r} (fingerprint {passport.fingerprint[:12]}, {passport.dim} wide), not with "
            f"{encoder.name!r} (fingerprint {encoder.fingerprint[:12]}, {encoder.dim} wide): their vectors cannot be compared. "
            f"Open it with --encoder {passport.encoder}, or encode the videos again into a new library: "
            f"vlm add VIDEOS --library NEW --encoder {encoder.name}"
        )


def check_frames(passport: Passport, encoder: Encoder) -> None:
    """Refuses an encoder whose picture vectors have changed since the first day."""
    _check(passport.canary_frames, _encode_canary_frames(encoder), f"generated pictures by {encoder.name!r}")


def check_texts(passport: Passport, encoder: Encoder) -> None:
    """Refuses an encoder whose text vectors have changed since the first day."""
    _check(passport.canary_texts, encoder.encode_text(CANARY_TEXTS), f"sentences by {encoder.name!r}")


def _check(stored: NDArray[np.float32], now: NDArray[np.float32], what: str) -> None:
    cosine = float(np.min(np.sum(stored * now, axis=1)))
    if not cosine >= SAME_MODEL_COSINE:
        raise EncoderMismatch(
            f"the vectors of {what} have changed: cosine {cosine:.3f} with those of the library's first day "
            f"(at least {SAME_MODEL_COSINE}). The weights, an activation or a package is another one now: "
            "restore it, or encode the videos again into a new library"
        )


def refuse_collapse(vectors: NDArray[np.float32], what: str) -> None:
    """Refuses vectors (n, d) of unlike inputs that are not finite or all the same.

    Raises:
        BadVectors: says which.
    """
    if not np.isfinite(vectors).all():
        raise BadVectors(f"the vectors of {what} are not finite: the weights are broken or the precision is too low")
    wide = vectors.astype(np.float64)
    cosines = wide @ wide.T / np.outer(norms := np.linalg.norm(wide, axis=1), norms)
    if len(vectors) > 1 and not cosines.min() < COLLAPSED_COSINE:
        raise BadVectors(
            f"the vectors of unlike {what} are all the same (cosine {cosines.min():.7f}): "
            "the model is broken, nothing could be found with it"
        )


def _encode_canary_frames(encoder: Encoder) -> NDArray[np.float32]:
    framing = encoder.preprocessing.framing
    if isinstance(encoder, WindowEncoder):
        count = encoder.window.frames
        pictures = np.stack([canary_pictures(framing.height, framing.width, shift=3 * t) for t in range(count)], axis=1)  # (k, t, h, w, 3)
        times = np.broadcast_to(np.linspace(0, encoder.window.seconds, count, endpoint=False), pictures.shape[:2])
        return encoder.encode_windows(pictures, np.ascontiguousarray(times))
    return encoder.encode_frames(canary_pictures(framing.height, framing.width))


def canary_pictures(height: int, width: int, *, shift: int = 0) -> NDArray[np.uint8]:
    """Generated pictures (k, h, w, 3), the same on every machine: integer arithmetic only."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    x = x + shift
    gradient = (x * 255 // max(1, width - 1)) % 256
    checks = ((x * 8 // width + y * 8 // height) % 2) * 255
    bars = ((x * 6 // width) % 3)[..., None] == np.arange(3)
    disc = (2 * x - width) ** 2 + (2 * y - height) ** 2 < (min(height, width) // 2 * 2) ** 2 // 2
    noise = (x * 7919 + y * 104_729 + x * y * 31) % 251
    pictures: Sequence[NDArray[np.int64]] = (
        np.stack([gradient, 255 - gradient, np.full_like(gradient, 64)], -1),
        np.repeat(checks[..., None], 3, -1),
        bars.astype(np.int64) * 255,
        np.where(disc[..., None], np.array([220, 40, 30]), np.array([20, 60, 160])),
        np.stack([noise, (noise * 3) % 256, (noise * 5) % 256], -1),
        np.stack([y * 200 // max(1, height - 1), np.full_like(y, 120), np.full_like(y, 30)], -1),
    )
    return np.stack(pictures).astype(np.uint8)
