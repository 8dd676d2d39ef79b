"""A trained model as a reader of sentences and stored features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.encoders.base import Encoder, TextTokens, text_codec, text_tokens
from vlm.errors import NoWords, QueryError
from vlm.models.heads import Evidence, Grounding, best_spans, standing
from vlm.models.interaction import Fused, Watched
from vlm.models.model import Crossing, VideoTextModel, padded
from vlm.models.plain import MOST_MOMENTS, check_features, check_options, ranked, softmax
from vlm.types import Answer, Features, Grounded, Moment

# An answer may rest on several moments (a count does), each at least so likely as this share of the likeliest.
MOST_EVIDENCE, EVIDENCE_SHARE = 5, 0.5
# Rows that are fused with texts at once.
ROWS_AT_ONCE = 8192


class TrainedReader:
    """An encoder and the model that was trained on it.

    Raises:
        EncoderMismatch: the model was made for another encoder.
    """

    tells_presence = True

    def __init__(self, encoder: Encoder, model: VideoTextModel, *, device: str = "cpu") -> None:
        model.check_encoder(encoder)
        self._encoder, self._model, self._device = encoder, model.eval().to(device), torch.device(device)
        self._watched: tuple[Features, Watched] | None = None

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
        watched = self._watch(features)
        for first in range(0, len(texts), at_once):
            some = texts[first : first + at_once]
            _, made, _, summary, durations = self._read(some, features, watched)
            spans, curves = best_spans(made, durations, most=MOST_MOMENTS), _array(made.saliency)
            presence = cross.match(summary).sigmoid().tolist()
            for text, best, curve, present in zip(some, spans, curves, presence, strict=True):
                moments = tuple(Moment(span, score) for span, score in best)
                found.append(Grounded(text=text, moments=moments, curve=curve, presence=present))
        return found

    @torch.inference_mode()
    def ground_each(self, text: str, videos: Sequence[Features]) -> list[Grounded]:
        """As ``ground``; videos are fused with the text as many at once as ROWS_AT_ONCE holds, padded to the longest of them."""
        for features in videos:
            check_features(features)
        cross, found = self._model.cross(), []
        tokens, text_mask = self._words(text_tokens(self._encoder, [text]))
        for some in _groups(videos):
            frames, times, mask, durations = (part.to(self._device) for part in batch_of(some))
            n = len(some)
            fused = cross.fuse(tokens.expand(n, -1, -1), text_mask.expand(n, -1), cross.watch(frames, times, mask))
            made = cross.ground(fused, times, durations)
            presence = cross.match(cross.look(fused, made, durations)[1]).sigmoid().tolist()
            spans, curves = best_spans(made, durations, most=MOST_MOMENTS), _array(made.saliency)
            for features, best, curve, present in zip(some, spans, curves, presence, strict=True):
                moments = tuple(Moment(span, score) for span, score in best)
                found.append(Grounded(text=text, moments=moments, curve=curve[: len(features.times)], presence=present))
        return found

    @torch.inference_mode()
    def holds(self, texts: Sequence[str], videos: Sequence[Features]) -> list[list[NDArray[np.float32]]]:
        """The foreground's probabilities times that of presence: an event that a video does not show is in none of its rows. A video is
        watched once for all texts; raises as ``ground``."""
        for features in videos:
            check_features(features)
        cross, found = self._model.cross(), [list[NDArray[np.float32]]() for _ in texts]
        read = [self._words(text_tokens(self._encoder, [text])) for text in texts]
        for some in _groups(videos):
            frames, times, mask, durations = (part.to(self._device) for part in batch_of(some))
            watched = cross.watch(frames, times, mask)
            for curves, (tokens, text_mask) in zip(found, read, strict=True):
                fused = cross.fuse(tokens.expand(len(some), -1, -1), text_mask.expand(len(some), -1), watched)
                made = cross.ground(fused, times, durations)
                presence = cross.match(cross.look(fused, made, durations)[1]).sigmoid()
                inside = _array(made.foreground.sigmoid() * presence[:, None])
                curves += [row[: len(features.times)] for row, features in zip(inside, some, strict=True)]
        return found

    @torch.inference_mode()
    def answer(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer:
        """The best option; without options what the decoder says, or the likeliest of the model's own list where that is of the list.

        Raises:
            NoWords: no options, and the model has learnt no answers.
            InputError: one option, options twice, no rows.
        """
        check_features(features)
        cross = self._model.cross()
        watched = self._watch(features)
        fused, ground, looked, summary, durations = self._read([question], features, watched)
        answerable = float(cross.abstain(summary).sigmoid()[0])
        shown = best_spans(ground, durations, most=MOST_EVIDENCE)[0]
        evidence = tuple(Moment(span, score) for span, score in shown if score >= EVIDENCE_SHARE * shown[0][1])
        if options:
            check_options(options)
            ranked = self._chosen(cross, question, options, summary, features, watched)
        else:
            ranked = self._open(cross, fused, looked, summary)
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
        fused, _, looked, summary, _ = self._read([question], features, self._watch(features))
        tokens = torch.tensor([[*codec.encode(text), codec.end]], device=self._device)
        return float(cross.decoder.probability(fused, looked, summary, tokens)[0])

    def blind(self, question: str, features: Features, *, options: Sequence[str] = ()) -> Answer | None:
        """The answer to a video that is withheld, which training has shown among others; raises as ``answer``."""
        return self.answer(question, no_footage(features), options=options)

    def _chosen(
        self, cross: Crossing, question: str, options: Sequence[str], summary: Tensor, features: Features, watched: Watched
    ) -> tuple[tuple[str, float], ...]:
        """Options with their shares, best first: by the closed list where it holds them all; else each is read behind the question, and
        alone."""
        if cross.closed is not None and set(options) <= set(cross.closed.answers):
            scores = cross.closed(summary)[0, [cross.closed.answers.index(option) for option in options]]
        else:
            asked = [*(f"{question} {option}" for option in options), *options]
            _, _, looked, summary, _ = self._read(asked, features, watched)
            group = torch.zeros(len(options), dtype=torch.int64, device=self._device)
            alone = standing(looked.rows(torch.arange(len(options), len(asked), device=self._device)), group)
            scores = cross.option(summary[: len(options)], alone)
        return ranked(options, softmax(scores.double().cpu().numpy()))

    def _open(self, cross: Crossing, fused: Fused, looked: Evidence, summary: Tensor) -> tuple[tuple[str, float], ...]:
        """What the decoder says; where that is on the model's own list, the list, best first. The decoder has learnt to say those answers
        too: so what is said tells which kind of answer a question wants, and not which of two probabilities is higher that have nothing to
        do with each other."""
        closed: tuple[tuple[str, float], ...] = ()
        if cross.closed is not None:
            closed = ranked(cross.closed.answers, softmax(cross.closed(summary)[0].double().cpu().numpy()))
        codec = text_codec(self._encoder)
        if cross.decoder is not None and codec is not None:
            tokens, probability = cross.decoder.generate(fused, looked, summary)
            said = codec.decode([token for token in tokens[0].tolist() if token != codec.end])
            if said not in dict(closed):
                return ((said, float(probability[0])),)
        if not closed:
            raise NoWords("this model has learnt no answers of its own: give it options (--choices), or train it on questions (vlm train)")
        return closed

    def _read(self, texts: Sequence[str], features: Features, watched: Watched) -> tuple[Fused, Grounding, Evidence, Tensor, Tensor]:
        """One pass over texts of one video that was watched: fused, grounding, evidence, summary and durations."""
        cross, n = self._model.cross(), len(texts)
        tokens, mask = self._words(text_tokens(self._encoder, list(texts)))
        fused = cross.fuse(tokens, mask, watched.rows(torch.zeros(n, dtype=torch.int64, device=self._device)))
        durations = torch.full((n,), features.end, dtype=torch.float64, device=self._device)
        grounding = cross.ground(fused, torch.from_numpy(features.times).to(self._device).expand(n, -1), durations)
        return fused, grounding, *cross.look(fused, grounding, durations), durations

    def _watch(self, features: Features) -> Watched:
        """What depends on the video alone; of the same features as the last time it is not done again, but for long videos, which would
        keep memory."""
        held = self._watched
        if held is not None and held[0] is features:
            return held[1]
        watched = self._model.cross().watch(*self._video(features))
        self._watched = (features, watched) if len(features.times) <= ROWS_AT_ONCE else None
        return watched

    def _video(self, features: Features) -> tuple[Tensor, Tensor]:
        frames = torch.from_numpy(np.ascontiguousarray(features.vectors, dtype=np.float32))[None].to(self._device)
        return frames, torch.from_numpy(features.times)[None].to(self._device)

    def _words(self, words: TextTokens) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(words.vectors).to(self._device), torch.from_numpy(words.mask).to(self._device)


def _groups(videos: Sequence[Features]) -> Iterator[Sequence[Features]]:
    """The videos in their order, as many at once as make at most ROWS_AT_ONCE rows when padded, and at least one."""
    first = 0
    for last in range(1, len(videos) + 1):
        if last == len(videos) or max(len(one.times) for one in videos[first : last + 1]) * (last + 1 - first) > ROWS_AT_ONCE:
            yield videos[first:last]
            first = last


def batch_of(features: Sequence[Features]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Several videos as one batch: frames (b, t, d), times (b, t), mask (b, t), durations (b,)."""
    frames, mask = padded([torch.from_numpy(np.ascontiguousarray(one.vectors, dtype=np.float32)) for one in features])
    times, _ = padded([torch.from_numpy(one.times) for one in features])
    return frames, times, mask, torch.tensor([one.end for one in features], dtype=torch.float64)


def no_footage(features: Features) -> Features:
    """What stands for a video that is withheld: one row of zeros as long as the whole."""
    return Features(np.zeros_like(features.vectors[:1]), np.zeros(1), features.end)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
