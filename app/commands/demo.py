"""``vlm demo``: from nothing to ranked, timed hits without a download, on clips that it draws itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit, emit_row, note, results_go_to_people
from vlm.app.progress import AddDisplay, CountDisplay
from vlm.app.render import Column, clock_time, duration, order_of, print_table, stretch

if TYPE_CHECKING:
    from vlm.app.demo import Asked, Places, Told
    from vlm.types import Grounded


def demo(
    folder: Annotated[str, typer.Argument(metavar="DIR", path_type=str, readable=False, help="Where to put everything.")] = "demo",
) -> None:
    """Draw 24 clips of Toybox, add them to a library with the encoder pocket, search them, and ask about them. Again: only the searches."""
    from vlm.app import demo as steps
    from vlm.app.sheet import Row, write_sheet
    from vlm.index.library import Library
    from vlm.index.records import AddProgress

    places = steps.Places(Path(folder).expanduser())
    with CountDisplay("clips drawn") as counting:
        seconds = steps.prepare(places, counting.update)
    if seconds is not None:
        note(f"drew {steps.NUM_CLIPS} clips of Toybox as H.264 files in {duration(seconds)}")
    with Library.open(places.library, encoder=steps.ENCODER, sampling=steps.SAMPLING) as library:
        with AddDisplay() as display:
            report = library.add(places.videos, on_event=lambda event: display.update(event) if isinstance(event, AddProgress) else None)
        if report.num_rows:
            note(f"added {duration(report.seconds_of_video)} of video with {steps.ENCODER!r} in {duration(report.elapsed_seconds)}")
        asked = steps.ask(library)
        located = [steps.locate(library, query, places) for query in asked[-2:]]
        told = steps.tell(library, places)
    for number, query in enumerate(asked, start=1):
        _print_query(number, query)
    for query, grounded in zip(asked[-2:], located, strict=True):
        _print_moment(query, grounded)
    for one in told:
        _print_answer(one)
    places.sheet.unlink(missing_ok=True)
    write_sheet(places.sheet, [Row(query.text, query.hits) for query in asked])
    _print_end(asked, places)


def _print_query(number: int, asked: Asked) -> None:
    if not results_go_to_people():
        for hit in asked.hits:
            emit_row(asked.text, hit.rank, f"{hit.score:.4f}", f"{hit.span.start:.3f}", f"{hit.span.end:.3f}", hit.path)
        return
    emit(f"\n{number}. {asked.text}")
    ordered_by, values = order_of(asked.hits)
    rows = [
        [str(hit.rank), value, stretch(hit.span.start, hit.span.end), "yes" if _is_true(hit.path, asked) else "", hit.path]
        for hit, value in zip(asked.hits, values, strict=True)
    ]
    print_table([Column("#", numbers=True), ordered_by, Column("time"), Column("true"), Column("video")], rows)
    emit(f"   true of {asked.video} at {clock_time(asked.span.start)}-{clock_time(asked.span.end, round_up=True)}")


def _print_moment(asked: Asked, grounded: Grounded) -> None:
    moment = grounded.moments[0]
    if not results_go_to_people():
        emit_row(asked.text, "moment", f"{moment.score:.4f}", f"{moment.span.start:.3f}", f"{moment.span.end:.3f}", asked.video)
        return
    emit(f"\nwhere in {asked.video}: {asked.text}")
    true = f"true {asked.span.start:.1f}-{asked.span.end:.1f} s"
    emit(f"   {moment.span.start:.1f}-{moment.span.end:.1f} s ({moment.score:.0%})   {true}")


def _print_answer(told: Told) -> None:
    answer = told.answer
    if not results_go_to_people():
        emit_row(told.question.text, "answer", f"{answer.probability:.4f}", answer.text, told.question.answer, told.video)
        return
    emit(f"\nabout {told.video}: {told.question.text}")
    seen = ", ".join(f"{moment.span.start:.1f}-{moment.span.end:.1f} s" for moment in answer.evidence[:2])
    emit(f"   {answer.text} ({answer.probability:.0%})   true: {told.question.answer}" + (f"   seen at {seen}" if seen else ""))


def _is_true(path: str, asked: Asked) -> bool:
    return Path(path).stem == asked.video


def _print_end(asked: list[Asked], places: Places) -> None:
    right = sum(query.is_found for query in asked)
    note(f"the first hit is right for {right} of {len(asked)} sentences; pocket knows the world of Toybox, not the real one")
    note(f"pictures of the hits: {places.sheet}")
    note(f"clips: {places.videos}   what is true of them: {places.truth}   library: {places.library}")
    note(f'go on: vlm search "{asked[0].text}" --library {places.library}')
