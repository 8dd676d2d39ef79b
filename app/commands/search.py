"""``vlm search``: from a sentence to ranked, timed stretches of video."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vlm.app.console import emit_json, emit_row, note, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, EncoderOption, IndexDeviceOption, JsonOption, LibraryOption, library_folder
from vlm.app.player import play
from vlm.app.render import Column, clock_time, count, print_table, stretch
from vlm.errors import InputError, QueryError

if TYPE_CHECKING:
    from vlm.index.library import Library
    from vlm.types import Hit

# Looking for changed files must not make a search wait: what is found by then is told.
_CHANGES_BUDGET_SECONDS = 0.3


class GroupBy(StrEnum):
    """One hit per video, or every stretch by itself."""

    VIDEO = "video"
    SEGMENT = "segment"


def search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="What is to be seen, in words; quotes may be left out.")],
    library: LibraryOption = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, metavar="N", help="How many hits.")] = 10,
    group_by: Annotated[GroupBy, typer.Option(help="One hit per video, or several stretches of the same one.")] = GroupBy.VIDEO,
    open_hit: Annotated[int | None, typer.Option("--open", min=1, metavar="N", help="Play hit N from its first second on.")] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw the hits as strips of pictures into a new PNG.")
    ] = None,
    encoder: EncoderOption = None,
    device: DeviceOption = "auto",
    index_device: IndexDeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find the stretches of video that a sentence describes.

    The score is the cosine between the sentence and the stretch: it ranks, it is no probability.
    """
    from vlm.app import schemas
    from vlm.index.library import Library

    if open_hit is not None and open_hit > top_k:
        raise typer.BadParameter(f"hit {open_hit} is not among the {top_k} that -k asks for", param_hint="--open")
    sentence = _readable(" ".join(query))
    if sheet is not None:
        from vlm.app.sheet import check_free

        check_free(sheet)
    grouping: Literal["video", "segment"] = group_by.value
    folder = library_folder(library)
    with Library.open(folder, encoder=encoder, device=device, index_device=index_device, create=False) as held:
        result = held.search(sentence, top_k=top_k, group_by=grouping)
        warnings = [*result.warnings, *_change_warnings(held)]
    if as_json:
        emit_json(schemas.SearchOutput.of(result, library=str(folder), group_by=grouping, warnings=warnings))
    else:
        _print_hits(result.hits)
    for warning in warnings:
        warn(warning)
    if not result.hits:
        note(f"nothing found for {sentence!r}")
        raise typer.Exit(ExitCode.NO_HIT)
    if sheet is not None:
        from vlm.app.sheet import Row, write_sheet

        write_sheet(sheet, [Row(sentence, result.hits)])
        note(f"contact sheet: {sheet}")
    if open_hit is not None:
        _open(result.hits, open_hit)


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
        rows = [
            [
                str(hit.rank),
                f"{hit.score:.3f}",
                " " * (longest - len(clock_time(hit.span.start))) + stretch(hit.span.start, hit.span.end),
                str(hit.video_id),
                hit.path or "(no file left)",
            ]
            for hit in hits
        ]
        columns = [Column("#", numbers=True), Column("score", numbers=True), Column("time"), Column("id", numbers=True), Column("video")]
        print_table(columns, rows)


def _open(hits: tuple[Hit, ...], rank: int) -> None:
    if rank > len(hits):
        raise InputError(f"there is no hit {rank} to open: the search found {len(hits)}")
    hit = hits[rank - 1]
    path = next((place for place in hit.locations if os.path.isfile(place)), hit.path)
    player = play(path, hit.span.start)
    if player.seeks:
        note(f"{player.name} plays {path} from {clock_time(hit.span.start)} on")
    else:
        note(f"{player.name} cannot be started at a moment: go to {clock_time(hit.span.start)} of {path}")
