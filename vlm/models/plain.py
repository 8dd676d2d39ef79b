"""What reads sentences and stored features: its interface, and the reader that needs no training.

A plain encoder can be used at once, and whatever is trained (vlm.models.reader) is measured as a gain over it on the same features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder
from vlm.errors import InputError, NoWords
from vlm.models.curves import stretches
from vlm.types import Answer, Features, Grounded
from vlm.ward import nested_ranges

MOST_MOMENTS = 10
# CLIP's own inverse temperature: similarities of a video to options become shares by it. They are no calibrated probabilities.
OPTION_SCALE = 100.0
# The best tenth of a video's rows speaks for an option: an event fills a part of a video.
SPEAKING_SHARE = 0.1


class Reader(Protocol):
    """What search, grounding and questions need of a model."""

    @property
    def tells_presence(self) -> bool:
        """Whether what it grounds has a probability that the video shows the text at all."""

    def embed_video(self, features: Features) -> NDArray[np.float32]:
        """The unit vector (d,) of a video, or of a stretch of one."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d), comparable with those of videos."""

    def ground(self, texts: Sequence[str], features: Features) -> list[Grounded]:
        """Where each text is true, in the order of the texts. All read the same features."""

    def ground_each(self, text: str, videos: Sequence[Features]) -> list[Grounded]:
        """Where one text is true in each of several videos, in their order."""

    def holds(self, texts: Sequence[str], videos: Sequence[Features]) -> list[list[NDArray[np.float32]]] | None:
        """Of each text and in each video, how probable every row (t,) is to lie in a moment of it; None where none was trained to tell."""

    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        """The answer, one of ``options`` where there are any."""

    def probability(self, question: str, text: str, features: Features, *, options: Sequence[str] = ()) -> float:
        """How probable ``text`` is as the answer; it is one of ``options`` where there are any."""

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer | None:
        """What the question alone suggests for a video of this length; None where nothing was trained to tell."""


class PlainReader:
    """An encoder alone: mean pooling, stretches where the curve of similarities stands out, options by similarity."""

    tells_presence = False

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def embed_video(self, features: Features) -> NDArray[np.float32]:
        """The normalised mean of the rows.

        Raises:
            InputError: no rows, or rows that are not finite or cancel out.
        """
        check_features(features)
        mean = features.vectors.mean(axis=0, dtype=np.float64)
        length = np.linalg.norm(mean)
        if length < 1e-6:
            raise InputError(f"the {len(features.vectors)} rows of the video cancel out: they have no mean direction")
        unit: NDArray[np.float32] = (mean / length).astype(np.float32)
        return unit

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The encoder's own vectors."""
        return self._encoder.encode_text(list(texts))

    def ground(self, texts: Sequence[str], features: Features) -> list[Grounded]:
        """Stretches whose similarity stands out, with scores as ``curves.stretches`` tells them.

        Raises:
            InputError: no rows, or rows that are not finite.
        """
        if not texts:
            return []
        return _standing_out(texts, self.embed_texts(texts), features)

    def ground_each(self, text: str, videos: Sequence[Features]) -> list[Grounded]:
        """As ``ground``, of one text that is read once."""
        vector = self.embed_texts([text])
        return [found for features in videos for found in _standing_out([text], vector, features)]

    def holds(self, texts: Sequence[str], videos: Sequence[Features]) -> None:
        """Nothing: a similarity is no probability."""

    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        """The option whose sentence with the question is nearest to the best rows.

        Raises:
            NoWords: no options: an encoder alone has no words of its own. InputError: one option, options twice, or no rows.
        """
        if not options:
            raise NoWords(
                f"{self._encoder.name!r} alone cannot answer an open question: give it options (--choices), a larger answerer "
                "(--answerer), or train a model on your library (vlm train)"
            )
        check_options(options)
        found = self.ground([f"{question} {option}" for option in options], features)
        rows = max(1, round(SPEAKING_SHARE * len(features.times)))
        scores = np.array([np.sort(one.curve)[-rows:].mean() for one in found], dtype=np.float64)
        shares = softmax(OPTION_SCALE * scores)
        best = int(shares.argmax())
        evidence = found[best].moments[:1]
        return Answer(text=options[best], probability=float(shares[best]), options=ranked(options, shares), evidence=evidence)

    def probability(self, question: str, text: str, features: Features, *, options: Sequence[str] = ()) -> float:
        """The share of an option; raises as ``answer``."""
        return dict(self.answer(question, features, options=options).options)[text]

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer | None:
        """None: all options are alike to an encoder that sees nothing."""
        return None


def _standing_out(texts: Sequence[str], vectors: NDArray[np.float32], features: Features) -> list[Grounded]:
    """Where the curves of similarity of rows to the vectors (n, d) of texts stand out."""
    check_features(features)
    curves = vectors @ features.vectors.T
    edges = np.append(features.times, features.end)
    ranges = nested_ranges(features.vectors, edges)
    return [
        Grounded(text=text, moments=tuple(stretches(curve.astype(np.float64), edges, ranges, most=MOST_MOMENTS)), curve=curve)
        for text, curve in zip(texts, curves, strict=True)
    ]


def check_features(features: Features) -> None:
    """Raises InputError where there is no row, or one is not finite."""
    if not len(features.times):
        raise InputError("a video needs at least one row of features, got none: add it again (vlm add)")
    broken = np.flatnonzero(~np.isfinite(features.vectors).all(axis=1))
    if len(broken):
        raise InputError(f"features must be finite, got NaN or infinity in row {broken[0]} of {len(features.times)}: encode it again")


def check_options(options: Sequence[str]) -> None:
    """Raises InputError unless there are at least two options, all different and none empty."""
    if len(options) < 2:
        raise InputError(f"a choice needs at least two options, got {list(options)}")
    twice = sorted({option for option in options if options.count(option) > 1})
    if twice or not all(option.strip() for option in options):
        raise InputError(f"options must be different and not empty, got {twice[0] if twice else ''!r} in {list(options)}")


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares (n,) of scores (n,)."""
    shares = np.exp(scores - scores.max())
    normed: NDArray[np.float64] = shares / shares.sum()
    return normed


def ranked(options: Sequence[str], shares: NDArray[np.float64]) -> tuple[tuple[str, float], ...]:
    """The options with their shares, best first."""
    order = np.argsort(-shares, kind="stable")
    return tuple((options[place], float(shares[place])) for place in order)
