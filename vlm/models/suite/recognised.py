"""What a recogniser says of a video file: of all of it, of a stretch, or of one window after the other."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm.errors import InputError, SpanError
from vlm.models.suite.clip_classes import Likely, Recognises, likeliest, recognise
from vlm.types import Span
from vlm.video.files import PathLike, display_name
from vlm.video.strip import clip_at
from vlm.video.supervise import SupervisedDecoder

# Clips that are decoded and recognised at a time.
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class RecognisedClip:
    """A stretch of a video with its likeliest classes, best first, and of two groups the verbs before the nouns."""

    span: Span
    labels: tuple[Likely, ...]

    @property
    def label(self) -> str:
        """The likeliest class; of two groups the likeliest of each, "take plate"."""
        return " ".join(one.label for one in self._best())

    @property
    def score(self) -> float:
        """How probable that is, in (0, 1]."""
        return math.prod(one.probability for one in self._best())

    def _best(self) -> list[Likely]:
        return list({one.group: one for one in reversed(self.labels)}.values())[::-1]


def recognise_file(
    model: Recognises, path: PathLike, decoder: SupervisedDecoder, *, within: Span | None = None, every: float | None = None, most: int = 5
) -> Iterator[RecognisedClip]:
    """The classes of a video file: of the whole, or of each window.

    Args:
        within: this stretch alone. every: seconds of a window; the last may be shorter, unless less than half of one is left, which belongs
            to the window before. None is one window.
        most: classes of each group.

    Raises:
        SpanError: the stretch begins behind the end of the video. VideoError: the file cannot be used.
        InputError: it does not say how long it is, and nor does ``within``.
    """
    spans = windows(_stretch(path, decoder, within), every)
    for first in range(0, len(spans), AT_ONCE):
        some = spans[first : first + AT_ONCE]
        probabilities = _probabilities(model, path, decoder, some)
        for number, span in enumerate(some):
            own = {group: rows[number] for group, rows in probabilities.items()}
            yield RecognisedClip(span, tuple(likeliest(own, model.classes, most=most)))


def windows(stretch: Span, every: float | None) -> list[Span]:
    """``stretch`` in windows of ``every`` seconds, as ``recognise_file`` says."""
    if every is None:
        return [stretch]
    if not every > 0:
        raise InputError(f"a window needs a positive number of seconds, got {every:g}")
    count = max(1, math.floor(stretch.seconds / every + 0.5))
    edges = [stretch.start + number * every for number in range(count)] + [stretch.end]
    return [Span(start, end) for start, end in itertools.pairwise(edges)]


def _stretch(path: PathLike, decoder: SupervisedDecoder, within: Span | None) -> Span:
    promised = decoder.probe(os.fsencode(path)).promised_seconds
    if within is None and promised is None:
        raise InputError(f"{display_name(path)} does not say how long it is: name the stretch that you mean")
    if within is None:
        assert promised is not None
        return Span(0.0, promised)
    if promised is None:
        return within
    if within.start >= promised:
        raise SpanError(
            f"the stretch {within.start:g} to {within.end:g} s begins behind the end of {display_name(path)}, which is {promised:g} s "
            "long: give one inside it"
        )
    return Span(within.start, min(within.end, promised))


def _probabilities(model: Recognises, path: PathLike, decoder: SupervisedDecoder, spans: Sequence[Span]) -> dict[str, NDArray[np.float64]]:
    count = model.reading.num_frames
    moments = np.concatenate([span.start + (np.arange(count) + 0.5) * span.seconds / count for span in spans])
    pixels = clip_at(path, moments.tolist(), decoder, model.reading.framing)
    return recognise(model, pixels.reshape(len(spans), count, *pixels.shape[1:]))
