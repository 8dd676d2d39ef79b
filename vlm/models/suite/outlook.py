"""What an Anticipator expects of one video, or of a stream as it comes: actions with their probabilities, as anyone can use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vlm.data.action_names import verb_and_noun
from vlm.errors import InputError
from vlm.models.suite.anticipation import AnticipationConfig, Anticipator, Outlook
from vlm.models.suite.rows import Rows
from vlm.types import Features

# Moments that are told at once: what they take of memory does not grow with the video.
MOMENTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Chances:
    """How probable each class is to begin, (n, h, classes) of n moments and h horizons; of each of the three the sum is 1."""

    verbs: NDArray[np.float64]
    nouns: NDArray[np.float64]
    actions: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Expected:
    """An action that may begin ``horizon`` seconds after a moment, and its probability if any action begins then."""

    verb: str
    noun: str
    horizon: float
    probability: float


@torch.inference_mode()
def chances_at(model: Anticipator, features: Features, cuts: Sequence[float]) -> Chances:
    """What may begin after observations ``[0, cut)`` of a video, for each of ``cuts`` in seconds.

    Raises:
        InputError: no cut, one that is behind the end or has no row before it, rows of another width, or rows that are not finite.
    """
    lasts = [last_row(features, cut) for cut in cuts]
    if not lasts:
        raise InputError("cuts must be at least one moment, got none")
    if features.vectors.shape[1] != model.config.dim or not np.isfinite(features.vectors).all():
        raise InputError(f"rows must be finite, of width {model.config.dim}, got {features.vectors.shape}: encode the video again")
    device = model.queries.device
    vectors = torch.from_numpy(np.ascontiguousarray(features.vectors, dtype=np.float32)).to(device)
    rows = Rows.of(vectors, torch.tensor([0, len(vectors)], device=device))
    model.eval()
    found = []
    for first in range(0, len(lasts), MOMENTS_AT_ONCE):
        last = torch.tensor(lasts[first : first + MOMENTS_AT_ONCE], device=device)
        found.append(_chances(model.after(rows, torch.zeros_like(last), last)[0]))
    return Chances(*(np.concatenate([getattr(part, name) for part in found]) for name in ("verbs", "nouns", "actions")))


class Stream:
    """Frames as they come, and after each of them what may begin: ``stream.step(vector)``. What it keeps does not grow.

    The same as ``chances_at`` of all frames so far (``Anticipator.step``).
    """

    def __init__(self, model: Anticipator) -> None:
        self.model = model.eval()
        self.state = model.start()

    def step(self, vector: NDArray[np.float32]) -> Chances:
        """The chances (1, h, classes) after the next frame, whose vector (d) the model's encoder made.

        Raises:
            InputError: another width, or a vector that is not finite; the stream is as it was.
        """
        frame = torch.from_numpy(np.ascontiguousarray(vector, dtype=np.float32))[None].to(self.model.queries.device)
        outlook, self.state = self.model.step(frame, self.state)
        return _chances(outlook)


def last_row(features: Features, cut: float) -> int:
    """The last row of an observation of ``[0, cut)``.

    Raises:
        InputError: the cut is behind the end of the video, or no row is before it.
    """
    row = int(np.searchsorted(features.times, cut - 1e-6, side="left")) - 1
    if row < 0:
        raise InputError(f"a moment must have a frame before it, got {cut:g} s: give a later one")
    if cut > features.end + 1e-6:
        raise InputError(f"a moment must be inside the video, which is {features.end:g} s long, got {cut:g} s")
    return row


def most_expected(config: AnticipationConfig, chances: Chances, number: int, *, most: int) -> list[Expected]:
    """The likeliest actions after moment ``number`` of ``chances``: by horizon, then the likeliest first, at most ``most`` of each."""
    found = []
    for horizon, row in zip(config.horizons, chances.actions[number], strict=True):
        for place in np.argsort(-row, kind="stable")[:most]:
            found.append(Expected(*verb_and_noun(config.classes[place]), horizon, float(row[place])))
    return found


def _chances(outlook: Outlook) -> Chances:
    return Chances(*(part.double().softmax(dim=-1).cpu().numpy() for part in (outlook.verbs, outlook.nouns, outlook.actions)))
