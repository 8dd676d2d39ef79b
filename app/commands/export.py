"""``vlm export``: what was found, for editors and other tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.clips import ClipsOption, CutMode, CutOption, check_new_folder, clips_of_found, write_clips
from vlm.app.console import emit_json, note, warn
from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, EncoderOption, JsonOption, LibraryOption, library_folder
from vlm.app.out import OutputOption, check_new, put, put_each
from vlm.data.formats.chapters import chapters_text
from vlm.data.formats.edl import edl_text
from vlm.data.formats.fiftyone import fiftyone_text
from vlm.data.formats.found import FoundMoment, only_video_of, submissions_of
from vlm.data.formats.framed import FramedMoment, FrameRange
from vlm.data.formats.otio import otio_text
from vlm.data.formats.qvhighlights import submissions_text
from vlm.errors import InputError
from vlm.timecode import USUAL_RATES, rate_name

if TYPE_CHECKING:
    from vlm.index.last import LastResult
    from vlm.index.library import Library

LAST = "LAST"
_HITS = re.compile(r"(\d+)(?:-(\d+))?")
_TOP_K = 10


class ExportFormat(StrEnum):
    """What is written."""

    EDL = "edl"
    OTIO = "otio"
    CHAPTERS = "chapters"
    QVHIGHLIGHTS = "qvhighlights"
    FIFTYONE = "fiftyone"


_TEXTS: dict[ExportFormat, Callable[[Sequence[FramedMoment]], str]] = {
    ExportFormat.EDL: edl_text,
    ExportFormat.OTIO: otio_text,
    ExportFormat.FIFTYONE: fiftyone_text,
}


def export(
    query: Annotated[
        list[str],
        typer.Argument(metavar="LAST|QUERY", help="LAST: what vlm search or vlm ground found last. Else: what is to be found now."),
    ],
    written_as: Annotated[ExportFormat | None, typer.Option("--format", help="What is written (docs/cli.md).")] = None,
    output: OutputOption = None,
    hits: Annotated[str | None, typer.Option("--hits", metavar="RANKS", help="Only these hits, as in 1-3,5.")] = None,
    drop_frame: Annotated[
        bool | None, typer.Option("--drop-frame/--no-drop-frame", help="How an EDL counts 29.97 and 59.94 frames/s; else as the file does.")
    ] = None,
    clips: ClipsOption = None,
    cut: CutOption = CutMode.EXACT,
    top_k: Annotated[int | None, typer.Option("-k", "--top-k", min=1, metavar="N", help="Of a query: how many hits (10).")] = None,
    min_confidence: Annotated[
        float | None, typer.Option("--min-confidence", min=0.0, max=1.0, metavar="P", help="Of a query: as in vlm search.")
    ] = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write hits for editors and other tools: an edit list, a timeline, chapters, a submission, temporal detections; and cut them.

    Times are exact to the frame, at variable rates too.
    """
    from vlm.app.framing import framed_moments, sources_of
    from vlm.index.library import Library

    _check(written_as, output, clips, drop_frame, as_json=as_json)
    chosen_ranks = None if hits is None else _ranks(hits)
    is_last = query == [LAST]
    if is_last and (top_k is not None or min_confidence is not None):
        raise typer.BadParameter("LAST is taken as it was found: choose among it with --hits, or name a query", param_hint="LAST")
    folder = library_folder(library)
    with Library.open(folder, encoder=encoder, device=device, create=False) as held:
        result = _last(folder) if is_last else _found(held, " ".join(query), top_k or _TOP_K, min_confidence)
        moments = _chosen(result.moments, chosen_ranks)
        sources = sources_of(held, moments, result.stamps)
    if not moments:
        if as_json:
            _print_json(folder, written_as, None, None, [], [], [], is_last=is_last)
        note(f"nothing to export: {'the last result' if is_last else repr(' '.join(query))} has no hit")
        raise typer.Exit(ExitCode.NO_HIT)
    needs_frames = written_as not in (None, ExportFormat.QVHIGHLIGHTS)
    framed = framed_moments(moments, sources, drop_frame=drop_frame) if needs_frames else []
    warnings = _warnings(framed) if written_as is ExportFormat.EDL else []
    if written_as is not None:
        _write(written_as, moments, framed, output)
    for warning in warnings:
        warn(warning)
    is_whole = clips is None or write_clips(clips, clips_of_found(moments, sources), cut)
    if as_json:
        _print_json(folder, written_as, output, clips, moments, framed, warnings, is_last=is_last)
    if not is_whole:
        raise typer.Exit(ExitCode.PARTIAL)


def _check(written_as: ExportFormat | None, output: Path | None, clips: Path | None, drop_frame: bool | None, *, as_json: bool) -> None:
    """Raises where the options contradict each other, or what they name is there already."""
    if written_as is None and clips is None:
        raise typer.BadParameter("say what to write (--format), or where to cut clips into (--clips)", param_hint="--format")
    if written_as is None and output is not None:
        raise typer.BadParameter("say what to write into it (--format)", param_hint="--output")
    if drop_frame is not None and written_as is not ExportFormat.EDL:
        raise typer.BadParameter("timecodes stand in an EDL alone: leave it out, or take --format edl", param_hint="--drop-frame")
    if as_json and written_as is not None and output is None:
        raise typer.BadParameter("both would go to stdout: write the export into a file (-o)", param_hint="--json")
    if output is not None:
        check_new(output)
    check_new_folder(clips)


def _ranks(text: str) -> set[int]:
    """The ranks that ``1-3,5`` means."""
    ranks: set[int] = set()
    for part in text.split(","):
        found = _HITS.fullmatch(part.strip())
        first, last = (0, 0) if found is None else (int(found[1]), int(found[2] or found[1]))
        if not 1 <= first <= last <= 100_000:
            raise typer.BadParameter(f"{text!r} names no hits: write ranks and ranges of them, as in 1-3,5", param_hint="--hits")
        ranks.update(range(first, last + 1))
    return ranks


def _last(folder: Path) -> LastResult:
    from vlm.index.last import recall

    return recall(folder)


def _found(library: Library, query: str, top_k: int, min_confidence: float | None) -> LastResult:
    """What the library has for a query now."""
    from vlm.app.commands.search import found_moment
    from vlm.index.last import LastResult

    result = library.search(query, top_k=top_k, min_confidence=min_confidence)
    for warning in result.warnings:
        warn(warning)
    return LastResult(command="export", queries=(result.query,), moments=tuple(found_moment(result.query, hit) for hit in result.hits))


def _chosen(moments: Sequence[FoundMoment], ranks: set[int] | None) -> list[FoundMoment]:
    """The moments with these ranks; all where None are named."""
    if ranks is None or not moments:
        return list(moments)
    there = {moment.rank for moment in moments}
    if missing := sorted(ranks - there):
        raise InputError(f"there is no hit {missing[0]} to export: the ranks are {min(there)} to {max(there)}")
    return [moment for moment in moments if moment.rank in ranks]


def _write(chosen: ExportFormat, moments: Sequence[FoundMoment], framed: Sequence[FramedMoment], output: Path | None) -> None:
    if chosen is ExportFormat.QVHIGHLIGHTS:
        put(submissions_text(submissions_of(moments)), output)
    elif chosen is not ExportFormat.CHAPTERS:
        put(_TEXTS[chosen](framed), output)
    elif output is None:
        only_video_of(moments)
        put(chapters_text(framed), None)
    else:
        of_videos: dict[int | str, list[FramedMoment]] = {}
        for one in framed:
            of_videos.setdefault(one.found.source, []).append(one)
        put_each([(some[0].found.video_name, chapters_text(some)) for some in of_videos.values()], output, suffix=".ffmetadata")


def _warnings(framed: Sequence[FramedMoment]) -> list[str]:
    """What should be known of the timecodes, each once."""
    told = []
    for one in framed:
        name, rate = one.found.video, rate_name(one.frames.rate)
        if one.frames.is_variable:
            told.append(
                f"{name!r} has a variable frame rate: its timecodes are points in time, {rate} a second; the frames stand in the comments"
            )
        elif one.frames.rate not in USUAL_RATES:
            told.append(f"{name!r} has {rate} frames/s, a rate that few editors know")
    return list(dict.fromkeys(told))


def _print_json(
    folder: Path,
    chosen: ExportFormat | None,
    output: Path | None,
    clips: Path | None,
    moments: Sequence[FoundMoment],
    framed: Sequence[FramedMoment],
    warnings: list[str],
    *,
    is_last: bool,
) -> None:
    from vlm.app.schemas import PlaceOutput
    from vlm.app.schemas_export import ExportedOutput, ExportOutput

    rows: list[tuple[FoundMoment, FrameRange | None]] = [(one.found, one.frames) for one in framed]
    rows = rows or [(moment, None) for moment in moments]
    emit_json(
        ExportOutput(
            library=PlaceOutput.of(str(folder)),
            result="last" if is_last else "query",
            format=None if chosen is None else chosen.value,
            output=None if output is None else PlaceOutput.of(str(output)),
            clips=None if clips is None else PlaceOutput.of(str(clips)),
            moments=[ExportedOutput.of(found, frames) for found, frames in rows],
            warnings=warnings,
        )
    )
