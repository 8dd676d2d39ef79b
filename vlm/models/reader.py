"""Sentences and stored features in, answers out: one interface, with training (``TrainedReader``) and without (``PlainReader``).

A plain encoder can be used at once, and whatever is trained is measured as a gain over the plain reader on the same features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.encoders.base import Encoder, TextTokens, text_codec, text_tokens
from vlm.errors import InputError, QueryError
from vlm.models.curves import stretches
from vlm.models.heads import Grounding, best_spans
from vlm.models.interaction import Fused
from vlm.models.model import Crossing, VideoTextModel, padded
from vlm.types import Answer, Features, Grounded, Moment

MOST_MOMENTS = 10
# An answer may rest on several moments (a count does), each at least so likely as this share of the likeliest.
MOST_EVIDENCE, EVIDENCE_SHARE = 5, 0.5
# Rows that are fused with texts at once.
ROWS_AT_ONCE = 8192
# CLIP's own inverse temperature: similarities of a video to options become shares by it. They are no calibrated probabilities.
OPTION_SCALE = 100.0
# The best tenth of a video's rows speaks for an option: an event fills a part of a video.
SPEAKING_SHARE = 0.1
# A change between two rows that is this many deviations above the median change is a cut.
CUT_DEVIATIONS = 6.0


class Reader(Protocol):
    """What search, grounding and questions need of a model."""

    def embed_video(self, features: Features) -> NDArray[np.float32]:
        """The unit vector (d,) of a video, or of a stretch of one."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (n, d), comparable with those of videos."""

    def ground(self, texts: Sequence[str], features: Features) -> list[Grounded]:
        """Where each text is true, in the order of the texts. All read the same features."""

    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        """The answer, one of ``options`` where there are any."""

    def probability(self, question: str, text: str, features: Features, *, options: Sequence[str] = ()) -> float:
        """How probable ``text`` is as the answer; it is one of ``options`` where there are any."""

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer | None:
        """What the question alone suggests for a video of this length; None where nothing was trained to tell."""


class PlainReader:
    """An encoder alone: mean pooling, stretches where the curve of similarities stands out, options by similarity."""

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
        """Stretches whose similarity stands out; the scores of moments are contrasts in standard errors.

        Raises:
            InputError: no rows, or rows that are not finite.
        """
        check_features(features)
        if not texts:
            return []
        curves = self.embed_texts(texts) @ features.vectors.T
        edges, cuts = np.append(features.times, features.end), cut_seconds(features)
        return [
            Grounded(text=text, moments=tuple(stretches(curve.astype(np.float64), edges, boundaries=cuts, most=MOST_MOMENTS)), curve=curve)
            for text, curve in zip(texts, curves, strict=True)
        ]

    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        """The option whose sentence with the question is nearest to the best rows.

        Raises:
            QueryError: no options: an encoder alone has no words of its own. InputError: one option, options twice, or no rows.
        """
        if not options:
            raise QueryError(
                f"{self._encoder.name!r} alone cannot answer an open question: give it options (--choices), a larger answerer "
                "(--answerer), or train a model on your library (vlm train)"
            )
        check_options(options)
        found = self.ground([f"{question} {option}" for option in options], features)
        rows = max(1, round(SPEAKING_SHARE * len(features.times)))
        scores = np.array([np.sort(one.curve)[-rows:].mean() for one in found], dtype=np.float64)
        shares = _softmax(OPTION_SCALE * scores)
        best = int(shares.argmax())
        evidence = found[best].moments[:1]
        return Answer(text=options[best], probability=float(shares[best]), options=_ranked(options, shares), evidence=evidence)

    def probability(self, question: str, text: str, features: Features, *, options: Sequence[str] = ()) -> float:
        """The share of an option; raises as ``answer``."""
        return dict(self.answer(question, features, options=options).options)[text]

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer | None:
        """None: all options are alike to an encoder that sees nothing."""
        return None


class TrainedReader:
    """An encoder and the model that was trained on it.

    Raises:
        EncoderMismatch: the model was made for another encoder.
    """

    def __init__(self, encoder: Encoder, model: VideoTextModel, *, device: str = "cpu") -> None:
        model.check_encoder(encoder)
        self._encoder, self._model, self._device = encoder, model.eval().to(device), torch.device(device)

    @torch.inference_mode()
    def embed_video(self, features: Features) -> NDArray[np.float32]:
        """What the temporal adapter makes of the rows; raises InputError as it."""
        frames, times = self._video(features)
        return _array(self._model.encode_video(frames, times).pooled[0])

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What the text adapter makes of the words."""
        if not texts:
            return np.zeros((0, self._encoder.dim), np.float32)
        tokens, mask = self._words(text_tokens(self._encoder, list(texts)))
        pooled = torch.from_numpy(self._encoder.encode_text(list(texts))).to(self._device)
        return _array(self._model.encode_text(pooled, tokens, mask))

    @torch.inference_mode()
    def ground(self, texts: Sequence[str], features: Features) -> list[Grounded]:
        """Spans of the grounding head, with probabilities; the curve is its saliency.

        Raises:
            InputError: no rows, rows that are not finite, or a model for retrieval alone.
        """
        check_features(features)
        cross, found = self._model.cross(), []
        at_once = max(1, ROWS_AT_ONCE // len(features.times))  # a long video is as much as memory should hold
        for first in range(0, len(texts), at_once):
            some = texts[first : first + at_once]
            _, made, summary, durations = self._read(some, features)
            spans, curves = best_spans(made, durations, most=MOST_MOMENTS), _array(made.saliency)
            presence = cross.match(summary).sigmoid().tolist()
            for text, best, curve, present in zip(some, spans, curves, presence, strict=True):
                moments = tuple(Moment(span, score) for span, score in best)
                found.append(Grounded(text=text, moments=moments, curve=curve, presence=present))
        return found

    @torch.inference_mode()
    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        """The best option; without options the likeliest of the model's own list, or what its decoder says, whichever is surer.

        Raises:
            QueryError: no options, and the model has learnt no answers.
            InputError: one option, options twice, no rows.
        """
        check_features(features)
        cross = self._model.cross()
        fused, ground, summary, durations = self._read([question], features)
        answerable = float(cross.abstain(summary).sigmoid()[0])
        shown = best_spans(ground, durations, most=MOST_EVIDENCE)[0]
        evidence = tuple(Moment(span, score) for span, score in shown if score >= EVIDENCE_SHARE * shown[0][1])
        if options:
            check_options(options)
            ranked = self._chosen(cross, question, options, summary, features)
        else:
            ranked = self._open(cross, fused, summary)
        text, probability = ranked[0]
        return Answer(text=text, probability=probability, options=ranked, evidence=evidence, answerable=answerable)

    @torch.inference_mode()
    def probability(self, question: str, text: str, features: Features, *, options: Sequence[str] = ()) -> float:
        """The share of an option or of an answer of the closed list; of other words, how probable the decoder is to say them.

        Raises:
            QueryError: the words are none of these, and there is no decoder. InputError: as ``answer``.
        """
        check_features(features)
        cross = self._model.cross()
        if options or (cross.closed is not None and text in cross.closed.answers):
            return dict(self.answer(question, features, options=options).options)[text]
        codec = text_codec(self._encoder)
        if cross.decoder is None or codec is None:
            raise QueryError(f"this model has no words of its own to say {text!r} with: give it options (--choices)")
        fused, _, summary, _ = self._read([question], features)
        tokens = torch.tensor([[*codec.encode(text), codec.end]], device=self._device)
        return float(cross.decoder.probability(fused, summary, tokens)[0])

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer | None:
        """The answer to a video that is withheld, which training has shown among others; raises as ``answer``."""
        return self.answer(question, no_footage(features), options=options)

    def _chosen(
        self, cross: Crossing, question: str, options: Sequence[str], summary: Tensor, features: Features
    ) -> tuple[tuple[str, float], ...]:
        """Options with their shares, best first: by the closed list where it holds them all, else each read behind the question."""
        if cross.closed is not None and set(options) <= set(cross.closed.answers):
            scores = cross.closed(summary)[0, [cross.closed.answers.index(option) for option in options]]
        else:
            scores = torch.cat([cross.option(self._read([f"{question} {option}"], features)[2]) for option in options])
        return _ranked(options, _softmax(scores.double().cpu().numpy()))

    def _open(self, cross: Crossing, fused: Fused, summary: Tensor) -> tuple[tuple[str, float], ...]:
        found: list[tuple[str, float]] = []
        if cross.closed is not None:
            shares = cross.closed(summary)[0].softmax(dim=-1).double().cpu().numpy()
            found += _ranked(cross.closed.answers, shares)
        codec = text_codec(self._encoder)
        if cross.decoder is not None and codec is not None:
            tokens, probability = cross.decoder.generate(fused, summary)
            said = [token for token in tokens[0].tolist() if token != codec.end]
            found.append((codec.decode(said), float(probability[0])))
        if not found:
            raise QueryError(
                "this model has learnt no answers of its own: give it options (--choices), or train it on questions (vlm train)"
            )
        return tuple(sorted(found, key=lambda pair: -pair[1]))

    def _read(self, texts: Sequence[str], features: Features) -> tuple[Fused, Grounding, Tensor, Tensor]:
        """One pass: fused, grounding, summary and durations."""
        cross = self._model.cross()
        tokens, mask = self._words(text_tokens(self._encoder, list(texts)))
        frames, times = self._video(features)
        n = len(texts)
        frames, times = frames.expand(n, -1, -1), times.expand(n, -1)
        durations = torch.full((n,), features.end, dtype=torch.float64, device=self._device)
        fused = cross.fuse(tokens, mask, frames, times)
        grounding = cross.ground(fused, times, durations)
        return fused, grounding, cross.summarise(fused, grounding), durations

    def _video(self, features: Features) -> tuple[Tensor, Tensor]:
        frames = torch.from_numpy(np.ascontiguousarray(features.vectors, dtype=np.float32))[None].to(self._device)
        return frames, torch.from_numpy(features.times)[None].to(self._device)

    def _words(self, words: TextTokens) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(words.vectors).to(self._device), torch.from_numpy(words.mask).to(self._device)


def batch_of(features: Sequence[Features]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Several videos as one batch: frames (b, t, d), times (b, t), mask (b, t), durations (b,)."""
    frames, mask = padded([torch.from_numpy(np.ascontiguousarray(one.vectors, dtype=np.float32)) for one in features])
    times, _ = padded([torch.from_numpy(one.times) for one in features])
    return frames, times, mask, torch.tensor([one.end for one in features], dtype=torch.float64)


def no_footage(features: Features) -> Features:
    """What stands for a video that is withheld: one row of zeros as long as the whole."""
    return Features(np.zeros_like(features.vectors[:1]), np.zeros(1), features.end)


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


def cut_seconds(features: Features) -> list[float]:
    """The times at which the picture changes at once: rows whose distance from the row before is far above what is usual in this video."""
    if len(features.times) < 3:
        return []
    change = 1 - (features.vectors[1:] * features.vectors[:-1]).sum(axis=1, dtype=np.float64)
    middle = np.median(change)
    deviation = 1.4826 * np.median(np.abs(change - middle)) + 1e-4
    return [float(second) for second in features.times[1:][change > middle + CUT_DEVIATIONS * deviation]]


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(scores - scores.max())
    normed: NDArray[np.float64] = shares / shares.sum()
    return normed


def _ranked(options: Sequence[str], shares: NDArray[np.float64]) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-shares, kind="stable")
    return tuple((options[place], float(shares[place])) for place in order)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
