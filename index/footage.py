"""A video that can be asked: its features, of the library or straight from a file, and which stretch of it is meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vlm.encoders.base import Encoder, WindowEncoder
from vlm.errors import InputError, SpanError, VideoError
from vlm.index import catalog
from vlm.index.pipeline import Broken, Claim, Decision, Decoded, Failed, FramePipeline, Opened, Rows
from vlm.index.scan import PathLike, scan, stamp_of
from vlm.index.store import Store
from vlm.types import Answer, DecodeOutcome, Features, Grounded, Moment, Span, VideoInfo
from vlm.video.picture import read_picture
from vlm.video.sample import Sampling

# Seconds of the file that have been read.
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """The rows of a video, or of a stretch of it.

    Attributes:
        path: where the file lies or lay; empty where no place is known. video_id: in the library; None for a file that is not of it.
        features: with times from ``offset_seconds`` of the video on.
        duration_seconds: of the whole video. coverage: the share of it that could be decoded.
        notes: what should be known of it, a sentence each.
    """

    path: str
    video_id: int | None
    features: Features
    duration_seconds: float
    coverage: float = 1.0
    offset_seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def within(self, span: Span) -> Footage:
        """The rows whose middle lies in ``span``.

        Raises:
            SpanError: it begins behind the end of the video, or holds no row.
        """
        if span.start >= self.duration_seconds:
            raise SpanError(
                f"the stretch {span.start:g} to {span.end:g} s begins behind the end of {self.name}, which is {self.duration_seconds:g} s "
                "long: give one inside it"
            )
        times = self.features.times
        middles = (times + np.append(times[1:], self.features.end)) / 2 + self.offset_seconds
        rows = np.flatnonzero((middles >= span.start) & (middles < span.end))
        if not len(rows):
            raise SpanError(f"no frame of {self.name} was looked at from {span.start:g} to {span.end:g} s: give a longer stretch")
        first, last = int(rows[0]), int(rows[-1]) + 1
        return replace(self, features=self.features.part(first, last), offset_seconds=self.offset_seconds + float(times[first]))

    @property
    def name(self) -> str:
        """What people call it."""
        return repr(self.path) if self.path else f"video {self.video_id}"

    def on_its_clock(self, found: Grounded) -> Grounded:
        """What was found in the rows, with the times of the whole video."""
        return replace(found, moments=tuple(map(self.moment, found.moments)))

    def answered(self, answer: Answer) -> Answer:
        """What was answered from the rows, with the times of the whole video."""
        return replace(answer, evidence=tuple(map(self.moment, answer.evidence)))

    def moment(self, moment: Moment) -> Moment:
        """A moment of the rows, with the times of the whole video."""
        return replace(moment, span=self.span(moment.span))

    def span(self, span: Span) -> Span:
        """A span of the rows, with the times of the whole video."""
        return Span(span.start + self.offset_seconds, span.end + self.offset_seconds)


def stored(store: Store, video_id: int) -> Footage:
    """A video of the library. Raises UnknownVideo."""
    features = store.features(video_id)
    paths, duration, coverage = store.hit_rows([video_id])[video_id]
    names = [os.fsdecode(path) for path in paths]
    path = next((name for name in names if os.path.isfile(name)), names[0] if names else "")
    notes = () if coverage >= 1.0 else (f"only {coverage:.0%} of {path!r} could be decoded when it was added",)
    return Footage(
        path=path, video_id=video_id, features=features, duration_seconds=max(duration, features.end), coverage=coverage, notes=notes
    )


def found(store: Store, reference: str, read: Callable[[str], Footage]) -> Footage:
    """The footage that an id or a path means: stored rows where the library holds the file as it is now, else ``read`` from it.

    Raises:
        UnknownVideo: no such id and no such file. VideoError: the file cannot be used.
    """
    path = os.path.abspath(os.path.expanduser(os.fsencode(reference)))
    known = store.find_location(path)
    if reference.isdecimal() or not os.path.isfile(path):
        return stored(store, catalog.resolve(store, reference))
    if known is None or not known[2]:
        return read(reference)
    if stamp_of(path) == known[1]:
        return stored(store, known[0])
    made = read(reference)
    return replace(made, notes=(*made.notes, f"{reference!r} has changed since it was added, and was read anew: run vlm add again"))


def sampled(store: Store, reference: str, sampling: str, stored_sampling: str, read: Callable[[str], Footage]) -> Footage:
    """As ``found``, but with stored rows only where they were sampled as ``sampling`` says; others are ``read`` from the file.

    Raises:
        InputError: they were not, and the file is gone. UnknownVideo, VideoError: as ``found``.
    """
    held = found(store, reference, read)
    if held.video_id is None or sampling == stored_sampling:
        return held
    if not os.path.isfile(held.path):
        raise InputError(
            f"{held.name} was sampled {stored_sampling} and {sampling} is needed, and its file is gone: bring the file back, or add it to "
            f"a library with --sampling {sampling}"
        )
    return replace(read(held.path), video_id=held.video_id)


def picture(path: str, encoder: Encoder) -> Footage:
    """A picture file as footage of one frame.

    Raises:
        InputError: it cannot be read, or the encoder reads stretches of video alone. BadVectors: it gives no sound vector.
    """
    if isinstance(encoder, WindowEncoder):
        raise InputError(f"{encoder.name!r} reads stretches of video, and {path!r} is one picture: give it a video")
    vectors = encoder.encode_frames(read_picture(path, encoder.preprocessing.framing)[None])
    return Footage(path=path, video_id=None, features=Features(vectors, np.zeros(1), 1.0), duration_seconds=1.0)


def read_file(
    path: PathLike, encoder: Encoder, sampling: Sampling, *, deadline_seconds: float = 60.0, on_progress: Progress | None = None
) -> Footage:
    """A file's footage, decoded and encoded now; stored nowhere. Vectors are rounded as a library rounds them.

    Raises:
        InputError: it is no single file. VideoError: it cannot be used. EncoderError: the encoder gives no sound vectors.
    """
    seen = scan(path)
    if seen.unusable or len(seen.files) != 1:
        reason = seen.unusable[0].reason if seen.unusable else f"{len(seen.files)} videos are there"
        raise InputError(f"one video file is needed, got {os.fsdecode(path)!r}: {reason}")
    name = os.fsdecode(seen.files[0].path)
    rows: list[Rows] = []
    info: VideoInfo | None = None
    outcome: DecodeOutcome | None = None
    num_chunks: int | None = None
    with FramePipeline(seen.files, encoder, sampling, deadline_seconds) as pipeline:
        while num_chunks is None or len(rows) < num_chunks:
            event = pipeline.events.get()
            if isinstance(event, Claim):
                event.answer.put(Decision(decode=True))
            elif isinstance(event, Opened):
                info = event.info
            elif isinstance(event, Rows):
                rows.append(event)
                if on_progress is not None and info is not None and len(event.pts):
                    on_progress(float(info.clock.seconds(event.pts[-1:])[0]))
            elif isinstance(event, Decoded):
                num_chunks, outcome = event.num_chunks, event.outcome
            elif isinstance(event, Failed) and rows and info is not None and isinstance(event.error, VideoError):
                outcome = _cut_short(info, rows, str(event.error))  # what came before is kept, as add keeps it
                break
            elif isinstance(event, Failed | Broken):
                raise event.error
    assert info is not None
    assert outcome is not None
    rows.sort(key=lambda one: one.chunk)
    times = info.clock.seconds(np.concatenate([one.pts for one in rows]))
    vectors = np.concatenate([one.vectors for one in rows]).astype(np.float16).astype(np.float32)
    end = max(outcome.end_seconds, float(np.nextafter(times[-1], np.inf)))
    notes = [] if outcome.status == "complete" else [f"only {outcome.coverage:.0%} of {name!r} could be decoded: {outcome.reason}"]
    judged = sum(one.num_judged for one in rows)
    if judged and 2 * sum(one.num_unfamiliar for one in rows) > judged:
        notes.append(f"{encoder.name!r} knows nothing that looks like {name!r}: what it finds there means little")
    return Footage(
        path=name,
        video_id=None,
        features=Features(vectors, times, end),
        duration_seconds=end,
        coverage=outcome.coverage,
        notes=tuple(notes),
    )


def _cut_short(info: VideoInfo, rows: list[Rows], reason: str) -> DecodeOutcome:
    """The outcome of a file whose decoding broke off after some rows."""
    last = max(float(info.clock.seconds(one.pts[-1:])[0]) for one in rows)
    coverage = min(1.0, last / info.promised_seconds) if info.promised_seconds else 0.0
    return DecodeOutcome(status="partial", coverage=coverage, end_seconds=last, reason=reason)
