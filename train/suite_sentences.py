"""Videos whose events are told in sentences: what captioning learns from, Toybox or ActivityNet Captions beside a folder of videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vlm.data.formats import activitynet_captions
from vlm.data.toybox.language import words
from vlm.data.toybox.truth import captions_of, paragraph_of
from vlm.encoders.base import Encoder
from vlm.encoders.pocket_text import MOST_ENTRIES, build_vocabulary, split_words
from vlm.errors import InputError
from vlm.train.examples import FeatureSource
from vlm.train.features import open_features
from vlm.train.suite import OwnFiles
from vlm.train.suite_data import SuiteDataConfig, toybox_worlds
from vlm.train.suite_files import FileFeatures, files_of
from vlm.types import Span
from vlm.video.sample import Sampling

# Words of the vocabulary; rarer ones are told in pieces, for which the rest of it has room.
MOST_WORDS = MOST_ENTRIES - 500


@dataclass(frozen=True, slots=True)
class ToldStretch:
    """An event of a video: phrasings of it that each stand alone, and the sentence of a paragraph, which may look back."""

    span: Span
    phrasings: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class ToldVideos:
    """Videos with their features and what is told of them, in order of start; ``classes`` are the tokens of a vocabulary for it."""

    ids: tuple[str, ...]
    features: FeatureSource
    events: tuple[tuple[ToldStretch, ...], ...]
    classes: tuple[str, ...]


def vocabulary_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The commonest words of texts, and pieces for the others."""
    counts = Counter(word for text in texts for word in split_words(text))
    return tuple(build_vocabulary(word for word, _ in counts.most_common(MOST_WORDS)))


def toybox_vocabulary() -> tuple[str, ...]:
    """A vocabulary for all that Toybox says of events."""
    return tuple(build_vocabulary(words()))


def toybox_sentences(data: SuiteDataConfig, encoder: Encoder, cache: Path, *, split: str, workers: int = 1) -> ToldVideos:
    """Toybox as a captioner learns it: every event with its phrasings, and the paragraph of its world."""
    worlds = toybox_worlds(data, split=split)
    features = open_features(worlds, encoder, cache, frames_per_second=data.frames_per_second, workers=workers)
    events = tuple(
        tuple(
            ToldStretch(span, phrasings, sentence)
            for phrasings, (sentence, span) in zip(captions_of(world), paragraph_of(world), strict=True)
        )
        for world in worlds
    )
    return ToldVideos(tuple(world.name for world in worlds), features, events, toybox_vocabulary())


def file_sentences(files: OwnFiles, encoder: Encoder, cache: Path) -> ToldVideos:
    """Videos of a file of ActivityNet Captions, or of YouCook2 in that form (``vlm.data.formats.activitynet_captions``).

    Raises:
        InputError: the file breaks its format, tells no stretch of a video, or is asked for a subset, or the file of a video is missing.
    """
    if files.subset is not None or files.label_rate is not None:
        raise InputError("a file of captions is one subset and has no labels: leave out --subset and --label-rate")
    events = {}
    for video in activitynet_captions.read_videos(files.annotations):
        sound = [
            ToldStretch(caption.window.span, (caption.sentence.strip(),), caption.sentence.strip())
            for caption in video.captions
            if caption.sentence.strip() and not any(caption.window.faults("timestamps", video.duration_seconds))
        ]
        if sound:
            events[video.video_id] = tuple(sorted(sound, key=lambda event: (event.span.start, event.span.end)))
    if not events:
        raise InputError(f"{str(files.annotations)!r} tells no stretch of a video: name a file of ActivityNet Captions")
    ids = tuple(events)
    features = FileFeatures(files_of(files.videos, ids), encoder, Sampling.parse(f"every:{files.rate:g}"), cache)
    vocabulary = vocabulary_of(event.sentence for told in events.values() for event in told)
    return ToldVideos(ids, features, tuple(events.values()), vocabulary)
