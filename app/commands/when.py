"""``vlm when``: where a query about time holds, with the proof of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len

from vlm.app.console import emit, emit_row, note, printable, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.last import keep_last
from vlm.app.options import DeviceOption, EncoderOption, JsonOption, LibraryOption, library_folder, named_video_library, seconds_of
from vlm.app.out import Format, FormatOption, OutputOption, chosen_format, put, write_found
from vlm.app.render import Column, clock_time, print_table, stretch
from vlm.data.formats.found import FoundMoment
from vlm.errors import GrammarError

if TYPE_CHECKING:
    from pathlib import Path

    from vlm.index.library import Library
    from vlm.index.temporal import HeldInterval, When
    from vlm.temporal.meaning import Proof

_EXAMPLE = '"a dog jumps" then "a cat" within 30s'


def when(
    query: Annotated[str, typer.Argument(metavar="QUERY", help=f"Sentences in double quotes, and how they lie in time: '{_EXAMPLE}'.")],
    video: Annotated[
        str | None,
        typer.Argument(metavar="[VIDEO]", help="Only this video of the library, by id or path, or any other file.", path_type=str),
    ] = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, metavar="N", help="How many intervals, the surest first.")] = 10,
    min_probability: Annotated[
        float | None,
        typer.Option("--min-probability", min=0.0, max=1.0, metavar="P", help="A second shows a sentence from this probability on."),
    ] = None,
    join: Annotated[
        str | None, typer.Option("--join", metavar="TIME", help="Stretches of one sentence so near to each other are one.")
    ] = None,
    most_read: Annotated[
        int | None,
        typer.Option(
            "--most-read", min=1, metavar="ROWS", help="Rows that a trained model reads, once for each sentence: more take longer."
        ),
    ] = None,
    written_as: FormatOption = None,
    output: OutputOption = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find when several things happen: one after the other, at once, for how long, how often. docs/temporal.md has the grammar.

    Every interval comes with its proof: which sentence is seen in which stretch, and how probable that is.
    """
    from vlm.temporal.grammar import parse

    chosen = chosen_format(written_as, output, as_json=as_json)
    join_seconds = None if join is None else seconds_of(join, "--join")
    if min_probability == 0:
        raise typer.BadParameter("from 0 on every second shows everything: give a probability above 0", param_hint="--min-probability")
    try:
        parse(query)  # before a model is loaded for it
        with _library(library, video, encoder=encoder, device=device) as (held, folder):
            told = held.when(query, video, top_k=top_k, min_probability=min_probability, join_seconds=join_seconds, most_read=most_read)
    except GrammarError as error:
        _point_at(error)
        raise
    moments = [_moment(query, one) for one in told.intervals]
    keep_last(folder, "when", [query], moments)
    if chosen is Format.TABLE:
        _print(told)
    elif chosen is Format.JSON:
        from vlm.app.schemas_when import WhenOutput

        document = WhenOutput.of(told, library=None if folder is None else str(folder))
        put(document.model_dump_json(by_alias=True, indent=2) + "\n", output)
    else:
        write_found(moments, chosen, output)
    for warning in told.warnings:
        warn(warning)
    if not told.intervals:
        note(f"nowhere holds {query} with probability {told.min_probability:g} in {told.num_videos:,} videos")
        raise typer.Exit(ExitCode.NO_HIT)
    if told.num_found > len(told.intervals):
        note(f"{len(told.intervals)} of {told.num_found:,} intervals; -k shows more")


@contextmanager
def _library(named: str | None, video: str | None, *, encoder: str | None, device: str) -> Iterator[tuple[Library, Path | None]]:
    """The library to ask and its folder, as ``named_video_library`` where a video is named."""
    from vlm.index.library import Library

    if video is not None:
        with named_video_library(named, video, encoder=encoder, device=device) as found:
            yield found
        return
    folder = library_folder(named)
    with Library.open(folder, encoder=encoder, device=device, create=False) as held:
        yield held, folder


def _point_at(error: GrammarError) -> None:
    """Shows the query with a caret under the character at which it went wrong, and the rule that was expected there."""
    note(printable(error.query))
    note(" " * cell_len(printable(error.query[: error.position])) + "^")
    note(error.rule)


def _moment(query: str, held: HeldInterval) -> FoundMoment:
    """An interval as result formats write it."""
    return FoundMoment(
        query=query,
        video=held.path,
        span=held.span,
        score=held.probability,
        rank=held.rank,
        video_id=held.video_id,
        confidence=held.probability,
    )


def _print(told: When) -> None:
    """Rows ``interval`` and ``proof``; on a terminal two tables."""
    if not results_go_to_people():
        for held in told.intervals:
            span = (f"{held.span.start:.3f}", f"{held.span.end:.3f}")
            emit_row("interval", held.rank, f"{held.probability:.4f}", *span, held.video_id, held.path)
            for part in held.proof:
                span = (f"{part.span.start:.3f}", f"{part.span.end:.3f}")
                shows = "shown" if part.shows else "absent"
                emit_row("proof", held.rank, f"{part.peak:.4f}", *span, shows, f"{part.peak_seconds:.3f}", part.sentence)
    elif told.intervals:
        columns = [Column("#", numbers=True), Column("sure", numbers=True), Column("time"), Column("id", numbers=True), Column("video")]
        print_table(columns, [_cells(held) for held in told.intervals])
        emit("")
        columns = [
            Column("#", numbers=True),
            Column("proof"),
            Column("time"),
            Column("peak", numbers=True),
            Column("at"),
            Column("sentence"),
        ]
        print_table(columns, [_proof_cells(held.rank, part) for held in told.intervals for part in held.proof], paths=False)


def _cells(held: HeldInterval) -> list[str]:
    number = "" if held.video_id is None else str(held.video_id)
    return [str(held.rank), f"{held.probability:.0%}", stretch(held.span.start, held.span.end), number, held.path or "(no file left)"]


def _proof_cells(rank: int, part: Proof) -> list[str]:
    shows = "shown" if part.shows else "absent"
    return [str(rank), shows, stretch(part.span.start, part.span.end), f"{part.peak:.0%}", clock_time(part.peak_seconds), part.sentence]
