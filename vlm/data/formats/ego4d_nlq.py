"""Ego4D natural language queries as JSON lines in QVHighlights' names, and predictions for its server (Grauman et al. 2022).

``{"qid", "query", "duration", "vid", "video_uid", "relevant_windows"}``: ``vid`` is the clip, some eight minutes, and ``video_uid`` the
long video that it was cut from; times count from the start of the CLIP. Predictions: ``{"version", "challenge", "results": [{"clip_uid",
"annotation_uid", "query_idx", "predicted_times": [[start, end], ...]}]}``.

Traps: one row in eleven has a window of no length; windows pass the end of the clip by some hundredths of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from vlm.data.formats import qvhighlights
from vlm.data.formats.fields import Fields
from vlm.data.formats.files import PathLike, read_object, write_json, write_json_lines
from vlm.data.formats.qvhighlights import MomentQuery
from vlm.data.formats.records import Annotations, Extra, Fault, Window, checked, windows_faults

_CHALLENGE = {"version": "1.0", "challenge": "ego4d_nlq_challenge"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPrediction:
    """The windows that a system finds for one query, best first; ``query_index`` counts within the annotation."""

    clip_id: str
    annotation_id: str
    query_index: int
    windows: tuple[Window, ...]
    extra: Extra = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The annotation's id and the position of the query in it."""
        return f"{self.annotation_id}_{self.query_index}"

    def faults(self) -> Iterator[Fault]:
        """Windows that are no spans."""
        yield from windows_faults("predicted_times", self.windows, None)


def read_queries(path: PathLike) -> Annotations[MomentQuery]:
    """The queries of a file; ``extra["video_uid"]`` is the long video."""
    return qvhighlights.read_queries(path)


def write_queries(path: PathLike, queries: Iterable[MomentQuery]) -> None:
    """Writes queries, the id of the long video before the windows as published."""
    bare = ((qvhighlights.query_json(replace(query, windows=None)), query.windows) for query in queries)
    rows = (
        (row, {} if windows is None else {"relevant_windows": [(window.start, window.end) for window in windows]}) for row, windows in bare
    )
    write_json_lines(path, ({**row, **windows} for row, windows in rows))


def read_predictions(path: PathLike) -> Annotations[ClipPrediction]:
    """The predictions of a file; the header holds version and challenge."""
    fields = read_object(path)
    return checked([_prediction(row) for row in fields.rows("results")], unique="query_idx", header=fields.rest())


def write_predictions(path: PathLike, predictions: Iterable[ClipPrediction], *, header: Extra | None = None) -> None:
    """Writes predictions as the server takes them."""
    results = [
        {
            "clip_uid": row.clip_id,
            "annotation_uid": row.annotation_id,
            "query_idx": row.query_index,
            "predicted_times": [(window.start, window.end) for window in row.windows],
            **row.extra,
        }
        for row in predictions
    ]
    write_json(path, {**(_CHALLENGE if header is None else header), "results": results})


def _prediction(fields: Fields) -> ClipPrediction:
    return ClipPrediction(
        clip_id=fields.text("clip_uid"),
        annotation_id=fields.text("annotation_uid"),
        query_index=fields.integer("query_idx"),
        windows=fields.windows("predicted_times"),
        extra=fields.rest(),
    )
