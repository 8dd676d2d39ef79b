"""``vlm duplicates``: stretches that videos of a library share."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit_row, note, results_go_to_people
from vlm.app.exits import ExitCode
from vlm.app.options import JsonOption, LibraryOption, library_folder
from vlm.app.out import Format, FormatOption, OutputOption, chosen_format, put
from vlm.app.progress import CountDisplay
from vlm.app.render import Column, clock_time, print_table, stretch

if TYPE_CHECKING:
    from pathlib import Path

    from vlm.index.duplicates import SharedStretch

COLUMNS = ("similarity", "one_id", "one_start", "one_end", "one_path", "other_id", "other_start", "other_end", "other_path")
_FORMATS = (Format.TABLE, Format.JSON, Format.JSONL, Format.CSV)


def duplicates(
    video: Annotated[
        str | None,
        typer.Argument(metavar="[ID|PATH]", path_type=str, readable=False, help="Only what this video of the library shares with others."),
    ] = None,
    library: LibraryOption = None,
    min_seconds: Annotated[float, typer.Option("--min-seconds", metavar="S", help="Leave out what is shorter.")] = 5.0,
    repeats: Annotated[bool, typer.Option("--repeats", help="Also find what one video shows twice.")] = False,
    written_as: FormatOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find stretches that videos share, also re-encoded, a little cropped or at another frame rate.

    Black, bars, cards and other stretches in which nothing moves do not count. Reads what the library holds; no file is opened.
    """
    from vlm.index.library import Library

    if not 0 < min_seconds < math.inf:
        raise typer.BadParameter(f"{min_seconds:g} is no length: give seconds above 0", param_hint="--min-seconds")
    chosen = chosen_format(written_as, output, as_json=as_json)
    if chosen not in _FORMATS:
        raise typer.BadParameter(f"{chosen} cannot hold pairs of stretches: use {', '.join(_FORMATS)}", param_hint="--format")
    folder = library_folder(library)
    with Library.open(folder, create=False) as held, CountDisplay("comparisons") as display:
        video_id = None if video is None else held.resolve(video)
        found = held.duplicates(video_id, min_seconds=min_seconds, repeats=repeats, on_progress=display.update)
    if chosen is Format.TABLE:
        _print(found)
    elif chosen is Format.JSON:
        from vlm.app import schemas, schemas_duplicates

        document = schemas_duplicates.DuplicatesOutput(
            library=schemas.PlaceOutput.of(str(folder)),
            video_id=video_id,
            min_seconds=min_seconds,
            repeats=repeats,
            duplicates=[schemas_duplicates.SharedStretchOutput.of(shared) for shared in found],
        )
        put(document.model_dump_json(by_alias=True, indent=2) + "\n", output)
    else:
        _put_lines(found, chosen, output)
    if not found:
        whose = "no two videos share" if video is None else f"no other video shares with {video!r}"
        note(f"{whose} a stretch of {min_seconds:g} s or more in which anything moves")
        raise typer.Exit(ExitCode.NO_HIT)


def _put_lines(found: Sequence[SharedStretch], chosen: Format, output: Path | None) -> None:
    if chosen is Format.JSONL:
        from vlm.app import schemas_duplicates

        put("".join(schemas_duplicates.SharedStretchOutput.of(shared).model_dump_json() + "\n" for shared in found), output)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(map(_cells, found))
    put(text.getvalue(), output)


def _cells(shared: SharedStretch) -> list[str]:
    """The values of ``COLUMNS``."""
    places = [
        cell
        for side in (shared.one, shared.other)
        for cell in (str(side.video_id), f"{side.span.start:.3f}", f"{side.span.end:.3f}", side.path)
    ]
    return [f"{shared.similarity:.4f}", *places]


def _print(found: Sequence[SharedStretch]) -> None:
    if not results_go_to_people():
        for shared in found:
            emit_row(*_cells(shared))
        return
    rows = []
    for number, shared in enumerate(found, start=1):
        facts = [str(number), clock_time(shared.one.span.seconds), f"{shared.similarity:.2f}"]
        for side in (shared.one, shared.other):
            rows.append([*facts, stretch(side.span.start, side.span.end), str(side.video_id), side.path or "(no file left)"])
            facts = ["", "", ""]
    if rows:
        numbers = [Column(title, numbers=True) for title in ("#", "length", "alike")]
        print_table([*numbers, Column("time"), Column("id", numbers=True), Column("video")], rows)
