"""QVHighlights: queries with their windows and the saliency of 2 s clips, and submissions to its scorer (Lei, Berg and Bansal 2021).

One JSON object a line: ``qid, query, duration, vid, relevant_clip_ids, saliency_scores, relevant_windows``; the unlabelled test split has
the first four. The same lines, without the clips, are how later toolkits publish Charades-STA, ActivityNet Captions, TACoS and Ego4D NLQ.

Traps: a clip id is a number, clip i is ``[2 i, 2 i + 2)`` s, and the scorer fails on the id of a last clip that is cut short;
``saliency_scores`` has a row for each relevant clip, not for each clip of the video, and a column for each of three people (0 very bad to
4 very good); ``qid`` is a number here and a text in TACoS and Ego4D.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, dump_json, read_json_lines, write_json_lines, write_text
from vlm.data.formats.records import Annotations, Extra, Fault, ScoredWindow, Window, checked, need_duration, windows_faults

CLIP_SECONDS = 2
RATINGS = (0, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentQuery:
    """A query with the windows that answer it.

    Attributes:
        windows: None where the file gives no truth.
        clip_ids: the relevant 2 s clips, ascending; None where the file gives none.
        saliency: for each relevant clip the ratings of each person, 0 to 4.
    """

    query_id: int | str
    query: str
    video_id: str
    duration_seconds: float
    windows: tuple[Window, ...] | None = None
    clip_ids: tuple[int, ...] | None = None
    saliency: tuple[tuple[float, ...], ...] | None = None
    extra: Extra = field(default_factory=dict)

    def __post_init__(self) -> None:
        need_duration(self.duration_seconds)

    @property
    def name(self) -> str:
        """The query's id as a text."""
        return str(self.query_id)

    def faults(self) -> Iterator[Fault]:
        """Windows that are no spans of the video, clips that do not fit them, ratings off the scale."""
        yield from windows_faults("relevant_windows", self.windows or (), self.duration_seconds)
        clip_ids = self.clip_ids or ()
        num_clips = num_clips_of(self.duration_seconds)
        for position, clip in enumerate(clip_ids):
            if not 0 <= clip < num_clips:
                yield Fault(f"relevant_clip_ids[{position}]", repr(clip), f"lies within the {num_clips} whole clips of the video")
        if any(later <= earlier for earlier, later in pairwise(clip_ids)):
            yield Fault("relevant_clip_ids", repr(list(clip_ids)), "ascends")
        if self.clip_ids is not None and self.windows is not None:
            covered = clips_of(self.windows, self.duration_seconds)
            if tuple(sorted(clip_ids)) != covered:
                yield Fault("relevant_clip_ids", repr(list(clip_ids)), f"holds the clips of relevant_windows, {list(covered)}")
        if self.saliency is not None:
            if self.clip_ids is not None and len(self.saliency) != len(self.clip_ids):
                yield Fault("saliency_scores", f"{len(self.saliency)} rows", f"has a row for each of the {len(self.clip_ids)} clips")
            low, high = RATINGS
            for position, ratings in enumerate(self.saliency):
                if not all(low <= rating <= high for rating in ratings):
                    yield Fault(f"saliency_scores[{position}]", repr(list(ratings)), f"lies within {low}..{high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a system answers to one query.

    Attributes:
        windows: best first; the scorer reads the first for R1 and the first ten for mAP.
        saliency: one score for each 2 s clip of the video, in any unit; None where not predicted.
    """

    query_id: int | str
    query: str
    video_id: str
    windows: tuple[ScoredWindow, ...]
    saliency: tuple[float, ...] | None = None
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The query's id as a text."""
        return str(self.query_id)

    def faults(self) -> Iterator[Fault]:
        """Windows that are no spans; the duration is not in a submission."""
        yield from windows_faults("pred_relevant_windows", [scored.window for scored in self.windows], None)


def num_clips_of(duration_seconds: float) -> int:
    """How many whole clips a video has: as many saliency scores as the public scorer keeps. A rest of less than 2 s belongs to none."""
    return int(duration_seconds // CLIP_SECONDS)


def clips_of(windows: Iterable[Window], duration_seconds: float) -> tuple[int, ...]:
    """The ids of the whole clips that windows touch, ascending."""
    found: set[int] = set()
    for window in windows:
        if window.end > window.start:
            first, last = int(max(window.start, 0) // CLIP_SECONDS), int(-(-min(window.end, duration_seconds) // CLIP_SECONDS))
            found.update(range(first, min(last, num_clips_of(duration_seconds))))
    return tuple(sorted(found))


def read_queries(path: PathLike) -> Annotations[MomentQuery]:
    """The queries of a file, labelled or not."""
    return checked((_query(fields) for fields in read_json_lines(path)), unique="qid")


def write_queries(path: PathLike, queries: Iterable[MomentQuery]) -> None:
    """Writes queries, each with the fields that it has."""
    write_json_lines(path, (query_json(query) for query in queries))


def read_submissions(path: PathLike) -> Annotations[Submission]:
    """The answers of a system."""
    return checked((_submission(fields) for fields in read_json_lines(path)), unique="qid")


def write_submissions(path: PathLike, submissions: Iterable[Submission]) -> None:
    """Writes answers as the public scorer reads them."""
    write_text(path, submissions_text(submissions))


def submissions_text(submissions: Iterable[Submission]) -> str:
    """The text of a file of answers."""
    return "".join(f"{dump_json(_submission_json(submission))}\n" for submission in submissions)


def _query(fields: Fields) -> MomentQuery:
    return MomentQuery(
        query_id=fields.identity("qid"),
        query=fields.text("query"),
        video_id=fields.text("vid"),
        duration_seconds=fields.positive("duration"),
        windows=fields.windows("relevant_windows") if "relevant_windows" in fields else None,
        clip_ids=fields.integers("relevant_clip_ids") if "relevant_clip_ids" in fields else None,
        saliency=fields.tuples("saliency_scores") if "saliency_scores" in fields else None,
        extra=fields.rest(),
    )


def query_json(query: MomentQuery) -> dict[str, object]:
    """The row of a query as JSON, without the fields that it does not have."""
    row: dict[str, object] = {"qid": query.query_id, "query": query.query, "duration": query.duration_seconds, "vid": query.video_id}
    if query.clip_ids is not None:
        row["relevant_clip_ids"] = query.clip_ids
    if query.saliency is not None:
        row["saliency_scores"] = query.saliency
    if query.windows is not None:
        row["relevant_windows"] = [(window.start, window.end) for window in query.windows]
    return {**row, **query.extra}


def _submission(fields: Fields) -> Submission:
    windows = fields.tuples("pred_relevant_windows", length=3)
    return Submission(
        query_id=fields.identity("qid"),
        query=fields.text("query"),
        video_id=fields.text("vid"),
        windows=tuple(ScoredWindow(Window(start, end), score) for start, end, score in windows),
        saliency=fields.numbers("pred_saliency_scores") if "pred_saliency_scores" in fields else None,
        extra=fields.rest(),
    )


def _submission_json(submission: Submission) -> dict[str, object]:
    windows = [(scored.window.start, scored.window.end, scored.score) for scored in submission.windows]
    row: dict[str, object] = {
        "qid": submission.query_id,
        "query": submission.query,
        "vid": submission.video_id,
        "pred_relevant_windows": windows,
    }
    if submission.saliency is not None:
        row["pred_saliency_scores"] = submission.saliency
    return {**row, **submission.extra}
