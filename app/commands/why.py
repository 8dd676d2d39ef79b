"""``vlm why``: why a search found a hit, and why it did not find another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vlm.app.commands.search import GroupBy
from vlm.app.console import emit_json, emit_row, note, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, EncoderOption, IndexDeviceOption, JsonOption, LibraryOption, library_folder
from vlm.app.render import Column, print_facts, print_table, stretch

if TYPE_CHECKING:
    from vlm.index.why import Rejected, Why
    from vlm.types import Hit


def why(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What was searched for, in words.")],
    video: Annotated[
        str | None, typer.Argument(metavar="[VIDEO]", help="A video of the library, by id or path: why it was found, or why not.")
    ] = None,
    rank: Annotated[int, typer.Option("--rank", min=1, metavar="N", help="Explain hit N; not with VIDEO.")] = 1,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, metavar="N", help="How many hits were asked for.")] = 10,
    paths: Annotated[list[str] | None, typer.Option("--path", metavar="PATTERN", help="As in vlm search.")] = None,
    min_confidence: Annotated[
        float | None, typer.Option("--min-confidence", min=0.0, max=1.0, metavar="P", help="As in vlm search.")
    ] = None,
    group_by: Annotated[GroupBy, typer.Option(help="As in vlm search.")] = GroupBy.VIDEO,
    second_look: Annotated[bool, typer.Option("--second-look/--no-second-look", help="As in vlm search.")] = True,
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Put a picture of each peak into --json.")] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw hit, peaks and the rejected candidate into a new PNG.")
    ] = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    device: DeviceOption = "auto",
    index_device: IndexDeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say why a hit was found: what each word adds, where it peaks, and what kept the nearest other candidate out.

    Words are left out one at a time; what the score of the stretch loses is the word's share.
    """
    from vlm.app.schemas_why import WhyOutput
    from vlm.index.filters import Filters
    from vlm.index.library import Library

    if video is not None and rank != 1:
        raise typer.BadParameter("name a video or a rank, not both", param_hint="--rank")
    if rank > top_k:
        raise typer.BadParameter(f"hit {rank} is not among the {top_k} hits that are asked for", param_hint="--rank")
    if sheet is not None:
        from vlm.app.sheet import check_free

        check_free(sheet)
    grouping: Literal["video", "segment"] = group_by.value
    folder = library_folder(library)
    with Library.open(folder, encoder=encoder, device=device, index_device=index_device, create=False) as held:
        told = held.why(
            query,
            rank=rank,
            video=None if video is None else held.resolve(video),
            only=Filters(paths=tuple(paths or ())),
            top_k=top_k,
            group_by=grouping,
            min_confidence=min_confidence,
            second_look=second_look,
        )
        video_id = None if told.footage is None else told.footage.video_id
        pictures = [held.thumbnail(video_id, peak.seconds) for peak in told.peaks] if thumbnails and video_id is not None else []
    if as_json:
        emit_json(WhyOutput.of(told, library=str(folder), thumbnails=pictures))
    elif results_go_to_people():
        _print_tables(told)
    else:
        _print_rows(told)
    for warning in told.warnings:
        warn(warning)
    if sheet is not None:
        _draw(sheet, told)
    if told.footage is None:
        note(f"nothing found for {told.query!r}")
        raise typer.Exit(ExitCode.NO_HIT)


def _print_rows(told: Why) -> None:
    if told.hit is not None:
        hit = told.hit
        emit_row("hit", hit.rank, f"{hit.score:.4f}", f"{hit.span.start:.3f}", f"{hit.span.end:.3f}", hit.video_id, hit.path)
    for word in told.words:
        emit_row("word", word.place, f"{word.drop:.4f}", f"{word.at:.3f}", f"{word.most:.4f}", word.word)
    for peak in told.peaks:
        emit_row("peak", f"{peak.seconds:.3f}", f"{peak.value:.4f}")
    if told.rejected is not None:
        one = told.rejected
        span = (f"{one.span.start:.3f}", f"{one.span.end:.3f}")
        emit_row("rejected", one.stage, f"{one.score:.4f}", *span, one.video_id, one.path, one.reason)


def _print_tables(told: Why) -> None:
    facts = []
    if told.hit is not None:
        facts.append((f"hit {told.hit.rank}", f"{told.hit.score:.3f}  {_place(told.hit)}"))
    if told.peaks:
        facts.append(("peaks", ", ".join(f"{peak.seconds:.1f} s {peak.value:.3f}" for peak in told.peaks)))
    if told.rejected is not None:
        name = "nearest rejected" if told.hit is not None or told.footage is None else "not a hit"
        facts += [
            (name, f"{told.rejected.score:.3f}  {_place(told.rejected)}"),
            ("because", f"{told.rejected.stage}: {told.rejected.reason}"),
        ]
    print_facts(facts)
    if told.words:
        columns = [Column("word"), Column("loses", numbers=True), Column("most", numbers=True), Column("at", numbers=True)]
        rows = [[word.word, f"{word.drop:.3f}", f"{word.most:.3f}", f"{word.at:.1f} s"] for word in told.words]
        print_table(columns, rows, paths=False)


def _place(one: Hit | Rejected) -> str:
    return f"{stretch(one.span.start, one.span.end)}  {one.path or f'video {one.video_id}'}"


def _draw(sheet: Path, told: Why) -> None:
    """The hit, a strip from each peak on, and the rejected candidate."""
    from vlm.app.sheet import Row, write_sheet
    from vlm.types import Hit, Span

    rows = []
    if told.hit is not None:
        peaks = tuple(
            replace(told.hit, rank=number, score=peak.value, span=Span(peak.seconds, min(peak.seconds + 1.0, told.hit.duration_seconds)))
            for number, peak in enumerate(told.peaks, start=1)
            if peak.seconds < told.hit.duration_seconds
        )
        rows += [Row(told.query, (told.hit,)), Row("peaks", peaks)]
    if told.rejected is not None:
        one = told.rejected
        shown = Hit(
            rank=one.first_rank or 0,
            score=one.score,
            video_id=one.video_id,
            segment_id=one.segment_id,
            path=one.path,
            span=one.span,
            duration_seconds=one.span.end,
            locations=(one.path,),
        )
        rows.append(Row(f"rejected ({one.stage})", (shown,)))
    write_sheet(sheet, rows)
    note(f"contact sheet: {sheet}")
