"""``vlm segment``: what is done in a video at every time of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit_row, results_go_to_people, warn
from vlm.app.options import DeviceOption, JsonOption
from vlm.app.out import Format, FormatOption, OutputOption, chosen_format, put, write_found
from vlm.app.render import Column, print_table, stretch
from vlm.app.suite import ModelOption, SuiteEncoderOption, SuiteLibraryOption, VideoArgument, read_footage
from vlm.data.formats.found import FoundMoment

if TYPE_CHECKING:
    from vlm.index.footage import Footage
    from vlm.models.suite.labels import LabelledStretch


def segment(
    video: VideoArgument,
    model: ModelOption,
    actions_only: Annotated[
        bool, typer.Option("--actions-only", help="Leave out stretches in which nothing of interest is done; JSON holds them always.")
    ] = False,
    written_as: FormatOption = None,
    output: OutputOption = None,
    library: SuiteLibraryOption = None,
    encoder: SuiteEncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Label every moment of a video by a trained model: stretches that meet and cover all of it.

    The model names the encoder that it reads; a file of any length is read by it now, at the model's frames a second.
    """
    from vlm.encoders.device import resolve_device
    from vlm.models.suite.labels import label_video
    from vlm.models.suite.segmentation import ASMamba

    chosen = chosen_format(written_as, output, as_json=as_json)
    segmenter = ASMamba.from_pretrained(model)
    footage = read_footage(segmenter.config, video, library=library, encoder=encoder, device=device)
    found = [replace(one, span=footage.span(one.span)) for one in label_video(segmenter.to(resolve_device(device)), footage.features)]
    shown = [one for one in found if not actions_only or one.label not in segmenter.config.background]
    if chosen is Format.TABLE:
        _print_stretches(shown)
    elif chosen is Format.JSON:
        from vlm.app import schemas_ask, schemas_suite

        document = schemas_suite.SegmentOutput(
            video=schemas_ask.FootageOutput.of(footage),
            classes=list(segmenter.config.classes),
            background=list(segmenter.config.background),
            segments=[schemas_suite.LabelledOutput.of(one) for one in found],
            warnings=list(footage.notes),
        )
        put(document.model_dump_json(by_alias=True, indent=2) + "\n", output)
    else:
        write_found(_rows(shown, footage), chosen, output)
    for warning in footage.notes:
        warn(warning)


def _rows(found: list[LabelledStretch], footage: Footage) -> list[FoundMoment]:
    """The stretches as moments whose query is the label; the rank is their place in time."""
    return [
        FoundMoment(query=one.label, video=footage.path, span=one.span, score=one.score, rank=place, video_id=footage.video_id)
        for place, one in enumerate(found, start=1)
    ]


def _print_stretches(found: list[LabelledStretch]) -> None:
    if not results_go_to_people():
        for one in found:
            emit_row(f"{one.span.start:.3f}", f"{one.span.end:.3f}", f"{one.score:.4f}", one.label)
        return
    print_table(
        [Column("time"), Column("probability", numbers=True), Column("label")],
        [[stretch(one.span.start, one.span.end), f"{one.score:.2f}", one.label] for one in found],
        paths=False,
    )
