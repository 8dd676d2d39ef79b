"""A dual encoder of clips that was trained here, TimeMamba in an encoder's vision tower or a ViViM in its place, as a WindowEncoder.

clips:FOLDER      the folder ``model`` of python -m vlm.train clip-finetune or suite-mir
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from vlm.encoders.base import Encoder, Preprocessing, Window
from vlm.encoders.weights import digest_of_tensors, read_json, read_tensors
from vlm.errors import BadVectors, InputError, WeightsUnavailable

if TYPE_CHECKING:
    from vlm.models.clip_model import ClipModel

PREFIX = "clips:"
# Texts and clips that are encoded at a time.
TEXTS, CLIPS = 64, 4
# What the encoder beneath says of itself, which holds for the whole.
HANDED_ON = ("languages", "unread_text", "unknown_words", "scope", "background_texts")


class ClipEncoder:
    """Windows and texts to unit vectors; what is trained here lies on top of ``base``."""

    thread_safe = False

    def __init__(self, model: ClipModel, base: Encoder, *, name: str, weights: str) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._name = name
        self._dim = base.dim
        self._preprocessing = Preprocessing(model.framing, base.preprocessing.mean, base.preprocessing.std)
        told = json.dumps([base.fingerprint, weights, asdict(model.window), asdict(self._preprocessing)], sort_keys=True)
        self._fingerprint = xxhash.xxh3_128_hexdigest(told.encode())
        for attribute in HANDED_ON:
            if hasattr(base, attribute):
                setattr(self, attribute, getattr(base, attribute))

    @property
    def name(self) -> str:
        """The spec that loads it again."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """A digest of the encoder beneath, of what was trained, and of the window."""
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
    def window(self) -> Window:
        """The windows that it reads."""
        return self._model.window

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._model.access.device

    def encode_windows(self, frames: NDArray[np.uint8], times: NDArray[np.float64]) -> NDArray[np.float32]:
        """Unit vectors (b, d) of windows (b, t, h, w, 3) uint8.

        Raises:
            InputError: another type, size or number of frames. BadVectors: a vector is not finite.
        """
        framing, count = self._preprocessing.framing, self.window.frames
        wanted = (count, framing.height, framing.width, 3)
        if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[1:] != wanted:
            raise InputError(f"windows must be uint8 (b, {', '.join(map(str, wanted))}), got {frames.dtype} {frames.shape}")
        parts = [self._vectors(frames[first : first + CLIPS]) for first in range(0, len(frames), CLIPS)]
        return np.concatenate(parts) if parts else np.zeros((0, self._dim), np.float32)

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Single frames (n, h, w, 3) as windows in which nothing moves; raises as ``encode_windows``."""
        still = np.repeat(frames[:, None], self.window.frames, axis=1)
        return self.encode_windows(still, np.zeros(still.shape[:2]))

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d) of texts."""
        with self._lock, torch.inference_mode():
            parts = [self._model.encode_text(list(texts[first : first + TEXTS])).cpu().numpy() for first in range(0, len(texts), TEXTS)]
        return self._checked(np.concatenate(parts)) if parts else np.zeros((0, self._dim), np.float32)

    def _vectors(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        # A tower with an adapter knows how many frames it sees now: two threads would tell it different numbers.
        with self._lock, torch.inference_mode():
            return self._checked(self._model.encode_video(torch.from_numpy(np.array(frames))).float().cpu().numpy())

    def _checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(vectors).all():
            raise BadVectors(f"encoder {self._name!r} gave a vector that is not finite: the weights are broken")
        return vectors


def load_clips(spec: str, *, device: str = "auto", offline: bool = False) -> ClipEncoder:
    """The encoder of ``clips:FOLDER``; the one beneath is loaded by the name that the folder holds.

    Raises:
        WeightsUnavailable: there is no such folder, it holds no such model, or one over a plug-in, whose code no folder may choose.
        EncoderMismatch: the encoder of that name is no longer the one that it was trained on. Others as ``registry.load_encoder``.
    """
    from vlm.encoders.registry import load_encoder, reopens_by_itself
    from vlm.errors import CheckpointUnusable
    from vlm.models.clip_model import CONFIG, WEIGHTS, load_clip_model

    folder = Path(spec.removeprefix(PREFIX)).expanduser().absolute()
    if not folder.is_dir():
        raise WeightsUnavailable(f"folder {str(folder)!r} of encoder {spec!r} does not exist")
    held: dict[str, Any] = read_json(folder / CONFIG)
    beneath = str(held.get("encoder", ""))
    if not reopens_by_itself(beneath):
        raise WeightsUnavailable(
            f"the model in {str(folder)!r} stands on the plug-in {beneath!r}, and a folder never chooses code to run: "
            "use vlm.models.clip_model.load_clip_model with an encoder that you load yourself"
        )
    base = load_encoder(beneath, device=device, precision="float32", offline=offline)
    try:
        model = load_clip_model(folder, base)
    except CheckpointUnusable as error:
        raise WeightsUnavailable(str(error)) from error
    return ClipEncoder(model, base, name=f"{PREFIX}{folder}", weights=digest_of_tensors([read_tensors(folder / WEIGHTS)]))
