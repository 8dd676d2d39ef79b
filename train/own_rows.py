"""A user's own rows before a library: whose video each is about, whether its span is there, and what training can learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlm.data.formats.own import OwnCaption, OwnQuestion, read_rows
from vlm.errors import BadVectors, InputError, UnknownVideo
from vlm.index.library import Library
from vlm.spans import overlap_seconds
from vlm.train.examples import Example
from vlm.train.features import FeatureCache
from vlm.types import Features, Span

# Ends are often written in whole tenths: so far a span may pass the end of its video.
ROUNDING_SECONDS = 0.1
MOST_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Label:
    """A row with its place, ``PATH:LINE``, and the video of the library that it is about."""

    place: str
    video_id: int
    row: OwnCaption | OwnQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """How many rows of which kind were used; only questions without an answer are not."""

    videos: int
    span_captions: int
    whole_captions: int
    choices: int
    open_questions: int
    unanswered: int


def read_labels(library: Library, paths: Sequence[Path]) -> list[Label]:
    """The rows of all files, each with its video. A relative path is looked for from the file's folder, then from the current one.

    Raises:
        InputError: a file cannot be read, or rows name videos that the library does not hold or spans outside of them; the message
            lists the first of these, and how many more there are.
    """
    labels: list[Label] = []
    problems: list[str] = []
    for path in paths:
        for place, row in read_rows(path):
            try:
                video_id = _resolve(library, row.path, path.parent)
                _check_span(library, video_id, row)
                labels.append(Label(place, video_id, row))
            except InputError as error:
                problems.append(f"{place}: {error}")
    if problems:
        more = f"\nand {len(problems) - MOST_PROBLEMS} more rows" if len(problems) > MOST_PROBLEMS else ""
        raise InputError("\n".join(problems[:MOST_PROBLEMS]) + more)
    if not any(_teaches(label.row) for label in labels):
        files = ", ".join(map(str, paths))
        raise InputError(
            f"{files}: nothing can be learnt from {len(labels)} rows: at least one must have a caption, or a question with its answer"
        )
    return labels


def count_rows(labels: Sequence[Label]) -> RowCounts:
    """How many of which kind."""
    captions = [label.row for label in labels if isinstance(label.row, OwnCaption)]
    questions = [label.row for label in labels if isinstance(label.row, OwnQuestion)]
    answered = [row for row in questions if row.answer is not None]
    return RowCounts(
        videos=len({label.video_id for label in labels}),
        span_captions=sum(row.span is not None for row in captions),
        whole_captions=sum(row.span is None for row in captions),
        choices=sum(bool(row.options) for row in answered),
        open_questions=sum(not row.options for row in answered),
        unanswered=len(questions) - len(answered),
    )


def _teaches(row: OwnCaption | OwnQuestion) -> bool:
    return isinstance(row, OwnCaption) or row.answer is not None


def _resolve(library: Library, path: str, folder: Path) -> int:
    tried = dict.fromkeys((str(folder / Path(path).expanduser()), path))
    for reference in tried:
        try:
            return library.resolve(reference)
        except UnknownVideo:
            continue
    places = " or ".join(repr(str(Path(reference).expanduser().absolute())) for reference in tried)
    raise UnknownVideo(
        f"path {path!r} is no video of library {str(library.path)!r} (looked for {places}): add it with vlm add, or write the path as "
        "vlm list shows it"
    )


def _check_span(library: Library, video_id: int, row: OwnCaption | OwnQuestion) -> None:
    if row.span is None:
        return
    video = library.video(video_id)
    given = f"span [{row.span.start:g}, {row.span.end:g}) s"
    if row.span.end > video.duration_seconds + ROUNDING_SECONDS:
        raise InputError(
            f"{given} must end by the end of video {row.path!r}, {video.duration_seconds:.3f} s: correct it, or leave start and end out"
        )
    if row.span.start >= video.end_seconds:
        raise InputError(
            f"{given} must begin before {video.end_seconds:.3f} s, up to which {row.path!r} could be decoded ({video.reason}): "
            "leave the row out, or add a whole copy of the video"
        )


def stored_features(library: Library, video_ids: Sequence[int]) -> FeatureCache:
    """The stored features of some videos, in their order, in memory.

    Raises:
        BadVectors: a video holds a vector that is not finite.
    """
    found = [library.features(video_id) for video_id in video_ids]
    for video_id, features in zip(video_ids, found, strict=True):
        if not np.isfinite(features.vectors).all():
            raise BadVectors(f"video {video_id} holds a vector that is not finite: remove it (vlm rm {video_id}) and add it again")
    return FeatureCache(
        np.concatenate([features.vectors.astype(np.float16) for features in found]),
        np.concatenate([features.times for features in found]),
        np.cumsum([0, *(len(features.times) for features in found)]),
        np.array([features.end for features in found]),
    )


@dataclass(frozen=True, slots=True)
class View:
    """Rows ``[first, last)`` of video number ``video``, every ``stride``-th of them, as training sees them."""

    video: int
    first: int
    last: int
    stride: int = 1


class Views:
    """Features of views of videos. A video of more than ``most_rows`` rows is seen in part: thinned as a whole, or around a span."""

    def __init__(self, features: FeatureCache, *, most_rows: int) -> None:
        self._features, self._most_rows = features, most_rows
        self._numbers: dict[View, int] = {}
        self._views: list[View] = []

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, number: int) -> Features:
        """The rows of a view; its time begins with the first of them."""
        view = self._views[number]
        part = self._features[view.video].part(view.first, view.last)
        return Features(part.vectors[:: view.stride], part.times[:: view.stride], part.end)

    def whole(self, video: int) -> int:
        """The view of a whole video."""
        rows = len(self._features[video].times)
        return self._number(View(video, 0, rows, stride=-(-rows // self._most_rows)))

    def stretch(self, video: int, span: Span) -> int:
        """The view of the rows that stand for a part of ``span``, thinned where they are too many."""
        first, last = self._rows(video, span)
        return self._number(View(video, first, last, stride=-(-(last - first) // self._most_rows)))

    def around(self, video: int, span: Span) -> tuple[int, float]:
        """A view that holds ``span``, as much of the video as may be; and the second of the video at which it begins."""
        times = self._features[video].times
        first, last = self._rows(video, span)
        if len(times) <= self._most_rows or last - first >= self._most_rows:
            return self.whole(video), float(times[0])
        begin = min(max(0, (first + last - self._most_rows) // 2), len(times) - self._most_rows)
        return self._number(View(video, begin, begin + self._most_rows)), float(times[begin])

    def _rows(self, video: int, span: Span) -> tuple[int, int]:
        """The rows [first, last) that stand for a part of ``span``; at least one."""
        times = self._features[video].times
        first = max(0, int(np.searchsorted(times, span.start, side="right")) - 1)
        return first, max(first + 1, int(np.searchsorted(times, span.end, side="left")))

    def _number(self, view: View) -> int:
        if view not in self._numbers:
            self._numbers[view] = len(self._views)
            self._views.append(view)
        return self._numbers[view]


@dataclass(frozen=True, slots=True)
class Said:
    """A text and all that is known of where one video shows it; no spans: somewhere, or all of the time."""

    video: int
    row: OwnCaption | OwnQuestion
    text: str
    spans: tuple[Span, ...]


def gather(labels: Sequence[Label], numbers: dict[int, int]) -> list[Said]:
    """Rows that say the same of the same video as one, in the order of the first; ``numbers`` are those of videos by id.

    A caption of several spans is true in all of them; one that some row gives to the whole video has no span.
    """
    found: dict[tuple[object, ...], list[Label]] = {}
    for label in labels:
        row = label.row
        if _teaches(row):
            said = (row.caption,) if isinstance(row, OwnCaption) else (row.question, row.options, row.answer)
            found.setdefault((label.video_id, *said), []).append(label)
    gathered = []
    for same in found.values():
        row, spans = same[0].row, [label.row.span for label in same]
        known = tuple(sorted({span for span in spans if span is not None})) if None not in spans else ()
        gathered.append(Said(numbers[same[0].video_id], row, row.caption if isinstance(row, OwnCaption) else row.question, known))
    return gathered


def positives(said: Sequence[Said], views: Views, answers: Sequence[str]) -> list[Example]:
    """What is true: captions in their spans, and questions with their answers. Open questions choose from all of ``answers``."""
    found = []
    for one in said:
        number, begin = views.around(one.video, one.spans[0]) if one.spans else (views.whole(one.video), 0.0)
        spans = _shifted(one.spans, begin, views[number].end)
        if isinstance(one.row, OwnCaption):
            levels = {second: 1 for span in spans for second in range(int(span.start), int(np.ceil(span.end)))}
            found.append(Example(video=number, text=one.text, spans=spans, has_moments=bool(spans), levels=levels, is_true=True))
        else:
            kind = "choice" if one.row.options else "open"
            options, answer = one.row.options or tuple(answers), one.row.answer
            assert answer is not None, "questions without an answer teach nothing"
            found.append(
                Example(
                    video=number,
                    text=one.text,
                    kind=kind,
                    side=answer,
                    spans=spans,
                    has_moments=bool(spans),
                    is_answerable=True,
                    options=options,
                    answer=answer,
                )
            )
    return found


def _shifted(spans: Sequence[Span], begin: float, end: float) -> tuple[Span, ...]:
    """The parts of ``spans`` in a view of ``end`` seconds that begins at the second ``begin``, in its time."""
    inside = [span for span in spans if overlap_seconds(span, Span(begin, begin + end)) > 0]
    return tuple(Span(max(0.0, span.start - begin), min(end, span.end - begin)) for span in inside)


def open_answers(said: Sequence[Said]) -> tuple[str, ...]:
    """The closed list of answers to open questions, in the order of the rows; empty where nothing open is asked.

    Raises:
        InputError: all have the same answer, which leaves nothing to choose.
    """
    asked = [one.row.answer for one in said if isinstance(one.row, OwnQuestion) and not one.row.options]
    answers = tuple(dict.fromkeys(answer for answer in asked if answer is not None))
    if len(answers) == 1:
        raise InputError(
            f"all {len(asked)} questions without options have the answer {answers[0]!r}: at least two must differ, or give options"
        )
    return answers
