"""``vlm ground``: where in a video a sentence is true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.clips import ClipsOption, CutMode, CutOption, check_new_folder, clips_of_moments, write_clips
from vlm.app.console import emit_row, note, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.last import keep_last
from vlm.app.options import DeviceOption, EncoderOption, JsonOption, LibraryOption, WithinOption, named_video_library, stretch_of
from vlm.app.out import Format, FormatOption, OutputOption, chosen_format, put, write_found
from vlm.app.render import Column, print_table, stretch
from vlm.data.formats.found import FoundMoment

if TYPE_CHECKING:
    from vlm.index.footage import Footage
    from vlm.types import Grounded

# People are shown moments that share less than this (IoU); evaluation keeps nearer ones apart.
_SAME = 0.3


def ground(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What is to be found, in words.")],
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video of the library, by id or path, or any other file.")],
    also: Annotated[list[str] | None, typer.Option("--also", metavar="QUERY", help="Another query; may be given again.")] = None,
    within: WithinOption = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, max=10, metavar="N", help="How many moments of each query.")] = 3,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the curves into a new PNG.")] = None,
    written_as: FormatOption = None,
    output: OutputOption = None,
    clips: ClipsOption = None,
    cut: CutOption = CutMode.EXACT,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find the moments of one video that a sentence describes.

    The video is read once for all queries. The score is a probability where the library has a model that was trained to find moments, else
    how far the moment stands out from the rest of the video. `sure` is how likely the library is to show the sentence, as in `vlm search`.
    """
    from vlm.app import schemas_ask
    from vlm.index.search import query_warnings

    chosen = chosen_format(written_as, output, as_json=as_json)
    check_new_folder(clips)
    span = stretch_of(within)
    if plot is not None:
        from vlm.app.sheet import check_free

        check_free(plot)
    with named_video_library(library, video, encoder=encoder, device=device) as (held, folder):
        footage = held.footage(video)
        if span is not None:
            footage = footage.within(span)
        texts = [query, *(also or ())]
        found = [_distinct(one, top_k) for one in held.ground(texts, footage)]
        wanted = [] if clips is None else clips_of_moments(held, footage, found)
        told = [warning for text in texts for warning in query_warnings(text, held.load_encoder())]
    warnings = list(dict.fromkeys([*told, *footage.notes]))
    rows = [moment for one in found for moment in _rows(one, footage)]
    keep_last(folder, "ground", texts, rows)
    is_probability = all(one.presence is not None for one in found)
    times = footage.features.times + footage.offset_seconds
    if plot is not None:
        from vlm.app.plot import write_plot

        write_plot(plot, footage.path or f"video {footage.video_id}", times, footage.offset_seconds + footage.features.end, found)
    if chosen is Format.TABLE:
        _print_moments(found)
    elif chosen is Format.JSON:
        document = schemas_ask.GroundOutput(
            video=schemas_ask.FootageOutput.of(footage),
            score="probability" if is_probability else "contrast",
            times=times.tolist(),
            queries=[schemas_ask.GroundedOutput.of(one) for one in found],
            warnings=warnings,
        )
        put(document.model_dump_json(by_alias=True, indent=2) + "\n", output)
    else:
        write_found(rows, chosen, output)
    for warning in warnings:
        warn(warning)
    if plot is not None:
        note(f"plot: {plot}")
    if not any(one.moments for one in found):
        raise typer.Exit(ExitCode.NO_HIT)
    if clips is not None and not write_clips(clips, wanted, cut):
        raise typer.Exit(ExitCode.PARTIAL)


def _distinct(found: Grounded, most: int) -> Grounded:
    """What was found without moments that show what a better one shows."""
    from vlm.models.curves import suppressed

    return replace(found, moments=tuple(suppressed(found.moments, most=most, overlap=_SAME)))


def _rows(found: Grounded, footage: Footage) -> list[FoundMoment]:
    return [
        FoundMoment(
            query=found.text,
            video=footage.path,
            span=moment.span,
            score=moment.score,
            rank=rank,
            video_id=footage.video_id,
            confidence=moment.confidence,
        )
        for rank, moment in enumerate(found.moments, start=1)
    ]


def _print_moments(found: list[Grounded]) -> None:
    several = len(found) > 1
    rows = [(one, rank, moment) for one in found for rank, moment in enumerate(one.moments, start=1)]
    if not results_go_to_people():
        for one, rank, moment in rows:
            emit_row(rank, f"{moment.score:.4f}", f"{moment.span.start:.3f}", f"{moment.span.end:.3f}", one.text)
        return
    sure = [Column("sure", numbers=True)] if any(moment.confidence is not None for _, _, moment in rows) else []
    columns = [Column("#", numbers=True), Column("score", numbers=True), *sure, Column("time"), *([Column("query")] if several else [])]
    print_table(
        columns,
        [
            [
                str(rank),
                f"{moment.score:.3f}",
                *([] if moment.confidence is None else [f"{moment.confidence:.0%}"]),
                stretch(moment.span.start, moment.span.end),
                *([one.text] if several else []),
            ]
            for one, rank, moment in rows
        ],
        paths=False,
    )
    for one in found:
        if one.presence is not None:
            note(f"the video shows {one.text!r} with probability {one.presence:.2f}")
