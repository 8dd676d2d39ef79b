"""What an EventCaptioner tells of one video: events with their stretches and sentences, as anyone can use them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm.errors import InputError
from vlm.models.suite.captioning import EventCaptioner, Seen
from vlm.models.suite.events import Places
from vlm.types import Features, Span

# Events that are told at once: what their sentences take of memory does not grow with the video.
TOLD_AT_ONCE = 256
# Rows: what is found shorter than this is none.
LEAST_ROWS = 0.1


@dataclass(frozen=True, slots=True)
class ToldEvent:
    """An event: its sentence, the stretch in seconds, how sure it is that there is one, and that of its sentence, each in [0, 1]."""

    sentence: str
    span: Span
    score: float
    probability: float


@torch.inference_mode()
def tell_events(model: EventCaptioner, features: Features, *, most: int | None = None) -> list[ToldEvent]:
    """The events of a video of any length with their sentences, in order of their starts, each inside ``[0, features.end]``.

    As many as the model expects there to be, the surest ones.

    Args:
        features: of the model's encoder, at its frames a second. most: how many events at most.

    Raises:
        InputError: no rows, rows of another width or that are not finite, or a model that does not find stretches.
    """
    frames = _frames(model, features)
    seen = model.eval()(frames)
    assert seen.expected is not None
    last = seen.proposed[-1]
    bounds = last.places.stretches.double().cpu().numpy().clip(0.0, float(frames.shape[1]))
    score = last.logits.sigmoid().double().cpu().numpy()
    is_stretch = np.flatnonzero(bounds[:, 1] - bounds[:, 0] >= LEAST_ROWS)
    wanted = round(float(seen.expected)) if most is None else min(most, round(float(seen.expected)))
    chosen = is_stretch[np.argsort(-score[is_stretch], kind="stable")][:wanted]
    chosen = chosen[np.lexsort((bounds[chosen, 1], bounds[chosen, 0]))]
    told = _told(model, seen, chosen, bounds[chosen])
    spans = [Span(*map(float, pair)) for pair in seconds_of_rows(bounds[chosen], features)]
    return [
        ToldEvent(text, span, float(score[number]), sure) for number, span, (text, sure) in zip(chosen, spans, told, strict=True) if text
    ]


@torch.inference_mode()
def tell_spans(model: EventCaptioner, features: Features, spans: Sequence[Span]) -> list[ToldEvent]:
    """A sentence for each stretch of a video, in the order given.

    Raises:
        InputError: as ``tell_events``, or a span that does not begin inside the video.
    """
    for span in spans:
        if span.start >= features.end:
            raise InputError(
                f"a stretch must begin inside the video, which ends at {features.end:g} s, got {span.start:g} to {span.end:g} s"
            )
    if not spans:
        return []
    frames = _frames(model, features)
    bounds = rows_of_seconds(np.array([(span.start, span.end) for span in spans]), features)
    bounds[:, 1] = np.maximum(bounds[:, 1], bounds[:, 0] + LEAST_ROWS)
    order = np.lexsort((bounds[:, 1], bounds[:, 0]))
    stretches = torch.from_numpy(bounds[order]).to(frames)
    given = Places.of(stretches, torch.tensor([len(spans)], device=frames.device))
    seen = model.eval()(frames, given=given)
    found: list[ToldEvent | None] = [None] * len(spans)
    for place, (text, sure) in zip(order, _told(model, seen, np.arange(len(spans)), bounds[order]), strict=True):
        found[place] = ToldEvent(text, spans[place], 1.0, sure)
    return [one for one in found if one is not None]


def paragraph_text(sentences: Iterable[str]) -> str:
    """Sentences as one text, each with a capital and a full stop."""
    texts = (sentence.strip() for sentence in sentences)
    return " ".join(f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}" for text in texts if text)


def rows_of_seconds(seconds: NDArray[np.float64], features: Features) -> NDArray[np.float64]:
    """Times (...) as places in rows: row j stands for ``[j, j + 1)``; beyond the ends it is the ends."""
    edges = _edges(features)
    return np.asarray(np.interp(seconds, edges, np.arange(len(edges))), dtype=np.float64)


def seconds_of_rows(rows: NDArray[np.float64], features: Features) -> NDArray[np.float64]:
    """Places in rows (...) as times; the first row's stretch begins at 0."""
    edges = _edges(features)
    return np.asarray(np.interp(rows, np.arange(len(edges)), edges), dtype=np.float64)


def _edges(features: Features) -> NDArray[np.float64]:
    """Where the stretches of rows (t) begin, and where the last one ends (t + 1)."""
    return np.append(features.times, max(features.end, features.times[-1]))


def _frames(model: EventCaptioner, features: Features) -> Tensor:
    if not len(features.times):
        raise InputError("a video needs at least one row, got none: encode it again")
    return torch.from_numpy(np.ascontiguousarray(features.vectors, dtype=np.float32))[None].to(model.position.device)


def _told(model: EventCaptioner, seen: Seen, chosen: NDArray[np.int64], bounds: NDArray[np.float64]) -> list[tuple[str, float]]:
    """The sentence of each of some queries, told from its stretch in rows (k, 2), and how probable all of it is."""
    found: list[tuple[str, float]] = []
    for first in range(0, len(chosen), TOLD_AT_ONCE):
        some = slice(first, first + TOLD_AT_ONCE)
        numbers = torch.from_numpy(chosen[some]).to(seen.queries.device)
        item = torch.zeros_like(numbers)
        rows = model.told_from(seen.held, item, torch.from_numpy(bounds[some]).to(seen.queries))
        tokens, probability = model.teller.tell(rows, seen.queries[numbers], most_tokens=model.config.most_words)
        ends = model.tokenizer.end
        for row, sure in zip(tokens.tolist(), probability.tolist(), strict=True):
            said = row[: row.index(ends)] if ends in row else row
            found.append((model.tokenizer.decode(said), float(sure)))
    return found
