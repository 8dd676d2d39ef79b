"""``vlm search``: from a sentence to ranked, timed stretches of video."""

from __future__ import annotations

import os
import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vlm.app.clips import ClipsOption, CutMode, CutOption, check_new_folder, clips_of_hits, write_clips
from vlm.app.console import emit_row, note, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.last import keep_last
from vlm.app.options import (
    DeviceOption,
    EncoderOption,
    IndexDeviceOption,
    JsonOption,
    LibraryOption,
    library_folder,
    seconds_of,
    stretch_of,
)
from vlm.app.out import Format, FormatOption, OutputOption, chosen_format, put, write_found
from vlm.app.player import play
from vlm.app.render import Column, clock_time, count, order_of, print_table, stretch
from vlm.data.formats.found import FoundMoment
from vlm.errors import InputError, QueryError

if TYPE_CHECKING:
    from vlm.index.footage import Footage
    from vlm.index.library import Library
    from vlm.types import Hit

_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?):(?=\s*\D)")
# Looking for changed files must not make a search wait: what is found by then is told.
_CHANGES_BUDGET_SECONDS = 0.3


class GroupBy(StrEnum):
    """One hit per video, or every stretch by itself."""

    VIDEO = "video"
    SEGMENT = "segment"


def search(
    query: Annotated[
        list[str] | None, typer.Argument(metavar="[QUERY]", help="What is to be seen, in words; quotes may be left out.")
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option("--like", metavar="FILE|ID[@START-END]", help="A picture, a video or a stretch of one that hits should look like."),
    ] = None,
    plus: Annotated[list[str] | None, typer.Option("--plus", metavar="[WEIGHT:]TEXT", help="What hits should be more like.")] = None,
    minus: Annotated[list[str] | None, typer.Option("--minus", metavar="[WEIGHT:]TEXT", help="What hits should be less like.")] = None,
    library: LibraryOption = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, metavar="N", help="How many hits.")] = 10,
    skip: Annotated[int, typer.Option("--skip", min=0, metavar="N", help="Leave out the first N hits: the next page.")] = 0,
    paths: Annotated[
        list[str] | None, typer.Option("--path", metavar="PATTERN", help="Only videos whose path fits, as in '*.mkv' or 'holiday/*'.")
    ] = None,
    min_length: Annotated[str | None, typer.Option("--min-length", metavar="TIME", help="Only videos of at least this length.")] = None,
    max_length: Annotated[str | None, typer.Option("--max-length", metavar="TIME", help="Only videos of at most this length.")] = None,
    since: Annotated[datetime | None, typer.Option("--since", formats=_DATES, help="Only files changed at this time or later.")] = None,
    until: Annotated[datetime | None, typer.Option("--until", formats=_DATES, help="Only files changed at this time or earlier.")] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option("--min-confidence", min=0.0, max=1.0, metavar="P", help="Only hits that the library shows with this probability."),
    ] = None,
    group_by: Annotated[GroupBy, typer.Option(help="One hit per video, or several stretches of the same one.")] = GroupBy.VIDEO,
    second_look: Annotated[
        bool, typer.Option("--second-look/--no-second-look", help="Read the best videos again for the exact moment (one text alone).")
    ] = True,
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", metavar="MS", help="How long the second look may take; what it skips is told.")
    ] = None,
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Put a picture of each hit into --json.")] = False,
    open_hit: Annotated[int | None, typer.Option("--open", min=1, metavar="N", help="Play hit N from its first second on.")] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw the hits as strips of pictures into a new PNG.")
    ] = None,
    written_as: FormatOption = None,
    output: OutputOption = None,
    clips: ClipsOption = None,
    cut: CutOption = CutMode.EXACT,
    encoder: EncoderOption = None,
    device: DeviceOption = "auto",
    index_device: IndexDeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find the stretches of video that a sentence describes, or that look like a picture or another video.

    The score is the cosine between the query and the stretch: it ranks, it is no probability.
    """
    from vlm.app import schemas_search
    from vlm.index.filters import Filters
    from vlm.index.library import Library

    if open_hit is not None and not skip < open_hit <= skip + top_k:
        raise typer.BadParameter(f"hit {open_hit} is not among hits {skip + 1} to {skip + top_k} that are asked for", param_hint="--open")
    chosen = chosen_format(written_as, output, as_json=as_json)
    check_new_folder(clips)
    sentence = _readable(" ".join(query or ()))
    if not (sentence or like or plus or minus):
        raise typer.BadParameter("say what is to be seen, or name what it looks like with --like", param_hint="QUERY")
    more, less = ([_weighed(text) for text in texts or ()] for texts in (plus, minus))
    only = Filters(
        paths=tuple(paths or ()),
        min_seconds=None if min_length is None else seconds_of(min_length, "--min-length"),
        max_seconds=None if max_length is None else seconds_of(max_length, "--max-length"),
        since=since,
        until=until,
    )
    if sheet is not None:
        from vlm.app.sheet import check_free

        check_free(sheet)
    grouping: Literal["video", "segment"] = group_by.value
    folder = library_folder(library)
    with Library.open(folder, encoder=encoder, device=device, index_device=index_device, create=False) as held:
        looks = [_look(held, named) for named in like or ()]
        result = held.search(
            sentence,
            like=looks,
            plus=more,
            minus=less,
            only=only,
            top_k=top_k,
            skip=skip,
            group_by=grouping,
            min_confidence=min_confidence,
            second_look=second_look,
            latency_ms=latency_ms,
        )
        pictures = [held.thumbnail(hit.video_id, (hit.span.start + hit.span.end) / 2) for hit in result.hits] if thumbnails else []
        warnings = [*result.warnings, *_change_warnings(held)]
        wanted = [] if clips is None else clips_of_hits(held, result.hits)
    moments = [found_moment(result.query, hit) for hit in result.hits]
    keep_last(folder, "search", [result.query], moments)
    if chosen is Format.TABLE:
        _print_hits(result.hits)
    elif chosen is Format.JSON:
        document = schemas_search.SearchOutput.of(
            result, library=str(folder), group_by=grouping, min_confidence=min_confidence, warnings=warnings, thumbnails=pictures
        )
        put(document.model_dump_json(by_alias=True, indent=2) + "\n", output)
    else:
        write_found(moments, chosen, output)
    for warning in warnings:
        warn(warning)
    if not result.hits:
        note(_nothing(result.query, only=bool(only), min_confidence=min_confidence))
        raise typer.Exit(ExitCode.NO_HIT)
    if sheet is not None:
        from vlm.app.sheet import Row, write_sheet

        write_sheet(sheet, [Row(result.query, result.hits)])
        note(f"contact sheet: {sheet}")
    is_whole = clips is None or write_clips(clips, wanted, cut)
    if open_hit is not None:
        _open(result.hits, open_hit)
    if not is_whole:
        raise typer.Exit(ExitCode.PARTIAL)


def _nothing(query: str, *, only: bool, min_confidence: float | None) -> str:
    """What to say where there is no hit."""
    told = f"nothing found for {query!r}" + (" among the videos that pass the filters" if only else "")
    if min_confidence is None:
        return told
    from vlm.index.confidence import rate_at

    return f"{told} with confidence {min_confidence:g}, which {rate_at(min_confidence):.2%} of queries for what is not there would reach"


def found_moment(query: str, hit: Hit) -> FoundMoment:
    """A hit as result formats write it."""
    return FoundMoment(
        query=query,
        video=hit.path,
        span=hit.span,
        score=hit.score,
        rank=hit.rank,
        video_id=hit.video_id,
        confidence=hit.confidence,
    )


def _weighed(text: str) -> tuple[str, float]:
    """``WEIGHT:TEXT``, or a text alone with weight 1, as rclip reads them."""
    found = _WEIGHT.match(text)
    return (text, 1.0) if found is None else (text[found.end() :], float(found[1]))


def _look(library: Library, named: str) -> str | Footage:
    """What ``--like`` names; a file of that very name comes before a stretch of another."""
    reference, mark, within = named.rpartition("@")
    if not mark or os.path.exists(named):
        return named
    span = stretch_of(within, "--like")
    assert span is not None
    return library.footage(reference).within(span)


def _readable(query: str) -> str:
    try:
        query.encode("utf-8")
    except UnicodeEncodeError as error:
        raise QueryError(f"the query {query!r} is not valid UTF-8") from error
    return query


def _change_warnings(library: Library) -> list[str]:
    """What is not as the last ``add`` saw it, in one sentence."""
    changes = library.changed_files(budget_seconds=_CHANGES_BUDGET_SECONDS)
    if not changes:
        return []
    parts = []
    if changes.changed:
        parts.append(f"{count(len(changes.changed), 'file')} changed")
    if changes.missing:
        parts.append(f"{count(len(changes.missing), 'file')} went away")
    example = (*changes.changed, *changes.missing)[0]
    at_least = "" if changes.complete else "at least "
    return [f"{at_least}{' and '.join(parts)} since the last add, for example {example!r}: run vlm add again"]


def _print_hits(hits: tuple[Hit, ...]) -> None:
    if not results_go_to_people():
        for hit in hits:
            emit_row(hit.rank, f"{hit.score:.4f}", f"{hit.span.start:.3f}", f"{hit.span.end:.3f}", hit.video_id, hit.path)
    elif hits:
        longest = max(len(clock_time(hit.span.start)) for hit in hits)
        ordered_by, values = order_of(hits)
        rows = [
            [
                str(hit.rank),
                value,
                *([] if hit.confidence is None else [f"{hit.confidence:.0%}"]),
                " " * (longest - len(clock_time(hit.span.start))) + stretch(hit.span.start, hit.span.end),
                str(hit.video_id),
                hit.path or "(no file left)",
            ]
            for hit, value in zip(hits, values, strict=True)
        ]
        confidence = [Column("sure", numbers=True)] if any(hit.confidence is not None for hit in hits) else []
        columns = [Column("#", numbers=True), ordered_by, *confidence, Column("time"), Column("id", numbers=True)]
        columns.append(Column("video"))
        print_table(columns, rows)


def _open(hits: tuple[Hit, ...], rank: int) -> None:
    hit = next((hit for hit in hits if hit.rank == rank), None)
    if hit is None:
        raise InputError(f"there is no hit {rank} to open: the search found {hits[-1].rank}")
    path = next((place for place in hit.locations if os.path.isfile(place)), hit.path)
    player = play(path, hit.span.start)
    if player.seeks:
        note(f"{player.name} plays {path} from {clock_time(hit.span.start)} on")
    else:
        note(f"{player.name} cannot be started at a moment: go to {clock_time(hit.span.start)} of {path}")
