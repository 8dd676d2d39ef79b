"""How captioners do on Toybox worlds that training never showed; beside them who says always the same, and who knows the world itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from vlm.data.toybox.truth import captions_of, paragraph_of
from vlm.data.toybox.world import World
from vlm.eval.captions import Told, caption_figures
from vlm.eval.dense_captions import ToldEvent, dense_figures
from vlm.eval.suite import Video
from vlm.models.suite.captioning import EventCaptioner
from vlm.models.suite.sentences import paragraph_text, tell_events, tell_spans
from vlm.types import Span

TellEvents = Callable[[Video], Sequence[ToldEvent]]
TellSpans = Callable[[Video, Sequence[Span]], Sequence[str]]


def dense_captioner_figures(videos: Sequence[Video], tell: TellEvents) -> dict[str, float]:
    """Means over ActivityNet's overlaps of what ``tell`` gives; each of Toybox's phrasings counts as another person's."""
    truth, told = {}, {}
    for video in videos:
        phrasings = captions_of(video.world)
        people = zip(*phrasings, strict=True)
        truth[video.world.name] = [
            [ToldEvent(event.span, sentence) for event, sentence in zip(video.world.events, sentences, strict=True)] for sentences in people
        ]
        told[video.world.name] = tell(video)
    return dense_figures(truth, told).average()


def paragraph_figures(videos: Sequence[Video], tell: TellSpans) -> dict[str, float]:
    """Figures of whole paragraphs, told of the true stretches: each video's is one text, as in ActivityNet's paragraph captioning."""
    told = []
    for video in videos:
        sentences = paragraph_of(video.world)
        said = tell(video, [span for _, span in sentences])
        told.append(Told(paragraph_text(said), (paragraph_text([text for text, _ in sentences]),)))
    return asdict(caption_figures(told))


def events_by(model: EventCaptioner) -> TellEvents:
    """What a captioner finds and tells."""
    return lambda video: [ToldEvent(one.span, one.sentence) for one in tell_events(model, video.features)]


def sentences_by(model: EventCaptioner) -> TellSpans:
    """What a captioner tells of given stretches."""
    return lambda video, spans: [one.sentence for one in tell_spans(model, video.features, spans)]


def usual_events(worlds: Sequence[World]) -> TellEvents:
    """Who does not look: the commonest sentence of ``worlds``, at stretches as frequent and as long as theirs on average."""
    sentence = Counter(text for world in worlds for phrasings in captions_of(world) for text in phrasings).most_common(1)[0][0]
    seconds = float(np.mean([event.span.seconds for world in worlds for event in world.events]))
    every = sum(world.seconds for world in worlds) / sum(len(world.events) for world in worlds)

    def tell(video: Video) -> list[ToldEvent]:
        starts = np.arange(0.0, max(video.world.seconds - seconds, 0.0) + 1e-9, every)
        return [ToldEvent(Span(float(start), min(float(start) + seconds, video.world.seconds)), sentence) for start in starts]

    return tell


def usual_sentences(worlds: Sequence[World]) -> TellSpans:
    """Who does not look: the commonest sentence of the paragraphs of ``worlds``, of every stretch."""
    sentence = Counter(text for world in worlds for text, _ in paragraph_of(world)).most_common(1)[0][0]
    return lambda video, spans: [sentence] * len(spans)


def another_telling(video: Video) -> list[ToldEvent]:
    """Who knows the world, and says another phrasing of it: the second, full one, of the true stretches."""
    return [ToldEvent(event.span, phrasings[1]) for event, phrasings in zip(video.world.events, captions_of(video.world), strict=True)]


def plain_telling(video: Video, spans: Sequence[Span]) -> list[str]:
    """Who knows the world, and tells each event for itself: a full phrasing, without looking back."""
    return [phrasings[1] for phrasings in captions_of(video.world)]
