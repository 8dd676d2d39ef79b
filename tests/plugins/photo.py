"""The real-world encoder of ../shared as a plug-in: two MobileNets and a small text network; no CLIP, and for tests only."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import xxhash
from numpy.typing import NDArray

from vlm.encoders.base import Preprocessing, TextTokens
from vlm.types import Framing

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "real_encoder"
NEEDED = (
    "photo.safetensors",
    "words.json",
    "mobilenet_v2_1.0_224_quant.tflite",
    "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite",
)


class Photo:
    """Frames (n, 224, 224, 3) and texts to unit vectors (n, 384); per-token text for the first 24 words. Not thread-safe."""

    name = "python:tests/plugins/photo.py:photo"
    dim = 384
    thread_safe = False
    preprocessing = Preprocessing(Framing(height=224, width=224, resize="squash", interpolation="bilinear", scale_from="planes"))

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # The script reads a layer inside the network; the runtime warns that this costs memory.
            warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors", category=UserWarning)
            self._encoder = _script().Photo()
        digest = xxhash.xxh3_128()
        for name in NEEDED:
            digest.update((FOLDER / name).read_bytes())
        self.fingerprint = f"photo-{digest.hexdigest()}"

    def encode_frames(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._encoder.encode_frames(frames)
        return vectors

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        vectors: NDArray[np.float32] = self._encoder.encode_text(list(texts))
        return vectors

    def encode_text_tokens(self, texts: Sequence[str]) -> TextTokens:
        _, states = self._encoder.encode_text(list(texts), tokens=True)
        return TextTokens(vectors=states, mask=states.any(axis=-1))


def _script() -> ModuleType:
    """The script beside the weights, loaded by its path."""
    found = importlib.util.spec_from_file_location("shared_photo", FOLDER / "photo.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["shared_photo"] = module
    found.loader.exec_module(module)
    return module


def photo() -> Photo:
    return Photo()
