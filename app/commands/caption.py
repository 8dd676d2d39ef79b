"""``vlm caption``: what happens in a video, from when to when, in sentences or as one text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit
from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, JsonOption
from vlm.app.out import Format, FormatOption, OutputOption, chosen_format
from vlm.app.render import Column, stretch
from vlm.app.suite import ModelOption, SuiteEncoderOption, SuiteLibraryOption, VideoArgument, model_and_footage, tell
from vlm.data.formats.found import FoundMoment

if TYPE_CHECKING:
    from vlm.app.schemas import Output
    from vlm.index.footage import Footage
    from vlm.models.suite.captioning import EventCaptioner
    from vlm.models.suite.sentences import ToldEvent


def caption(
    video: VideoArgument,
    model: ModelOption,
    paragraph: Annotated[bool, typer.Option("--paragraph", help="Tell the video in one text; JSON holds it always.")] = False,
    segments: Annotated[
        Path | None,
        typer.Option(
            "--segments",
            metavar="FILE",
            help="Stretches to tell of (.csv, .jsonl, .srt or .vtt, as `vlm localize` writes them), for a model that does not find them.",
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option("-k", "--top-k", min=1, metavar="N", help="At most so many events, the surest.")] = None,
    written_as: FormatOption = None,
    output: OutputOption = None,
    library: SuiteLibraryOption = None,
    encoder: SuiteEncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Tell in sentences what happens in a video and when, by a trained model.

    The model names the encoder that it reads; a file of any length is read by it now, at the model's frames a second.
    """
    from vlm.models.suite.captioning import EventCaptioner
    from vlm.models.suite.sentences import paragraph_text

    chosen = chosen_format(written_as, output, as_json=as_json)
    if paragraph and chosen not in (Format.TABLE, Format.JSON):
        raise typer.BadParameter(f"one text has no times to write as {chosen}: leave one out", param_hint="--paragraph")
    captioner, footage = model_and_footage(EventCaptioner, model, video, library=library, encoder=encoder, device=device)
    found = [replace(one, span=footage.span(one.span)) for one in _told(captioner, footage, segments, top_k)]

    def document() -> Output:
        from vlm.app import schemas_ask, schemas_suite

        return schemas_suite.CaptionOutput(
            video=schemas_ask.FootageOutput.of(footage),
            events=[schemas_suite.ToldEventOutput.of(one) for one in found],
            paragraph=paragraph_text(one.sentence for one in found),
            warnings=list(footage.notes),
        )

    if paragraph and chosen is Format.TABLE and found:
        emit(paragraph_text(one.sentence for one in found))
    columns = [Column("time"), Column("score", numbers=True), Column("what happens")]
    cells = partial(_cells, [] if paragraph else found)
    tell(footage, chosen, output, columns=columns, cells=cells, document=document, moments=partial(_moments, found, footage))
    if not found:
        raise typer.Exit(ExitCode.NO_HIT)


def _told(captioner: EventCaptioner, footage: Footage, segments: Path | None, most: int | None) -> list[ToldEvent]:
    """The events with their sentences, in the time of the rows.

    Raises:
        InputError: the model needs stretches and none are named, or finds them and some are.
    """
    from vlm.data.formats.found_file import read_found
    from vlm.errors import InputError
    from vlm.models.suite.sentences import tell_events, tell_spans

    finds = captioner.config.segments == "found"
    if finds and segments is not None:
        raise InputError("this model finds its own stretches: leave out --segments, or name one that was trained with segments = 'given'")
    if finds:
        return tell_events(captioner, footage.features, most=most)
    if segments is None:
        raise InputError("this model tells of stretches that are given: name them with --segments FILE, such as what `vlm localize` wrote")
    spans = sorted({moment.span for moment in read_found(segments)}, key=lambda span: (span.start, span.end))
    return tell_spans(captioner, footage.features, spans[:most])


def _moments(found: list[ToldEvent], footage: Footage) -> list[FoundMoment]:
    """The events as moments whose query is the sentence; the rank is their place in time."""
    return [
        FoundMoment(query=one.sentence, video=footage.path, span=one.span, score=one.score, rank=place, video_id=footage.video_id)
        for place, one in enumerate(found, start=1)
    ]


def _cells(found: list[ToldEvent], for_people: bool) -> list[list[str]]:
    if for_people:
        return [[stretch(one.span.start, one.span.end), f"{one.score:.2f}", one.sentence] for one in found]
    return [[f"{one.span.start:.3f}", f"{one.span.end:.3f}", f"{one.score:.4f}", one.sentence] for one in found]
