"""Segments pooled by a trained temporal adapter, each as a video of its own: what an adapter learns to pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vlm.errors import BadVectors
from vlm.models.model import VideoTextModel
from vlm.models.reader import batch_of
from vlm.types import Features, Segment

# Rows that go through an adapter at once, pads included: about 100 MB for the widest encoders.
ROWS_AT_ONCE = 8192


class AdapterPool:
    """Pools segments by ``model``'s temporal adapter; called as ``segments.pool`` is."""

    def __init__(self, model: VideoTextModel, *, device: str = "cpu") -> None:
        self._model, self._device = model.eval().to(device), device

    @torch.inference_mode()
    def __call__(self, features: Features, segments: Sequence[Segment]) -> NDArray[np.float32]:
        """One unit vector per segment: (n, d) float32.

        Raises:
            InputError: a segment reaches past the rows. BadVectors: the model gives a vector that is not finite.
        """
        vectors = np.zeros((len(segments), features.vectors.shape[1]), np.float32)
        for numbers in _of_like_length(segments):
            parts = [features.part(segments[number].first, segments[number].last) for number in numbers]
            frames, times, mask, _ = (tensor.to(self._device) for tensor in batch_of(parts))
            vectors[numbers] = self._model.encode_video(frames, times, mask).pooled.float().cpu().numpy()
        broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(broken):
            worst = segments[int(broken[0])]
            raise BadVectors(
                f"the trained model gives no finite vector for rows {worst.first}..{worst.last - 1} of a video: train it again"
            )
        return vectors


def _of_like_length(segments: Sequence[Segment]) -> Iterator[list[int]]:
    """Numbers of segments, the shortest first, as many at once as fit."""
    batch: list[int] = []
    for number in sorted(range(len(segments)), key=lambda i: segments[i].last - segments[i].first):
        longest = segments[number].last - segments[number].first
        if batch and (len(batch) + 1) * longest > ROWS_AT_ONCE:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
