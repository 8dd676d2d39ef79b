"""Results as FiftyOne reads temporal detections from disk (``FiftyOneTemporalDetectionDataset``, labels.json).

``labels`` has a list for each video, of ``label`` (the query), ``support`` and, where there is one, ``confidence``. ``support`` is
``[first, last]``, both included, counted from 1 in the order in which frames are shown, as FiftyOne numbers them; at a variable rate too.
``media`` says where each video lies, and ``vlm`` in each detection the exact frames; FiftyOne passes over both. Videos are numbered from
"1" on. The package is not needed here; docs/formats.md shows how to load such a file with it.
"""

from __future__ import annotations

from collections.abc import Iterable

from vlm.data.formats.files import PathLike, dump_json, read_object, write_text
from vlm.data.formats.framed import FramedMoment, edited, framed_of, framed_row


def fiftyone_text(framed: Iterable[FramedMoment]) -> str:
    """The text of a file: videos in the order of their first moments, and the moments of each in theirs."""
    names: dict[int | str, str] = {}
    media: dict[str, str] = {}
    labels: dict[str, list[dict[str, object]]] = {}
    for one in framed:
        name = names.setdefault(one.found.source, str(len(names) + 1))
        media.setdefault(name, one.found.video)
        labels.setdefault(name, []).append(_detection(one))
    return dump_json({"labels": labels, "media": media}, indent=1) + "\n"


def write_fiftyone(path: PathLike, framed: Iterable[FramedMoment]) -> None:
    """Writes results."""
    write_text(path, fiftyone_text(framed))


def read_fiftyone(path: PathLike) -> tuple[FramedMoment, ...]:
    """The moments of a file that ``write_fiftyone`` made, video by video.

    Raises:
        InputError: a detection without its exact frames, or whose support is another: it was edited since.
    """
    found: list[FramedMoment] = []
    labels = read_object(path).inner("labels")
    for name in list(labels.rest()):
        for fields in labels.rows(name):
            support = fields.integers("support")
            one = framed_of(fields.inner("vlm"))
            if support != _support(one):
                raise edited(fields.place, f"support {list(support)}", list(_support(one)))
            found.append(one)
    return tuple(found)


def _support(one: FramedMoment) -> tuple[int, int]:
    return one.frames.first + 1, one.frames.last


def _detection(one: FramedMoment) -> dict[str, object]:
    sure = {} if one.found.confidence is None else {"confidence": one.found.confidence}
    return {"label": one.found.query, "support": list(_support(one)), **sure, "vlm": framed_row(one)}
