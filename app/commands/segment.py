"""``vlm segment``: what is done in a video at every time of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.options import DeviceOption, JsonOption
from vlm.app.out import FormatOption, OutputOption, chosen_format
from vlm.app.render import Column, stretch
from vlm.app.suite import ModelOption, SuiteEncoderOption, SuiteLibraryOption, VideoArgument, labelled_moments, model_and_footage, tell

if TYPE_CHECKING:
    from vlm.app.schemas import Output
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
    from vlm.models.suite.labels import label_video
    from vlm.models.suite.segmentation import ASMamba

    chosen = chosen_format(written_as, output, as_json=as_json)
    segmenter, footage = model_and_footage(ASMamba, model, video, library=library, encoder=encoder, device=device)
    found = [replace(one, span=footage.span(one.span)) for one in label_video(segmenter, footage.features)]
    shown = [one for one in found if not actions_only or one.label not in segmenter.config.background]

    def document() -> Output:
        from vlm.app import schemas_ask, schemas_suite

        return schemas_suite.SegmentOutput(
            video=schemas_ask.FootageOutput.of(footage),
            classes=list(segmenter.config.classes),
            background=list(segmenter.config.background),
            segments=[schemas_suite.LabelledOutput.of(one) for one in found],
            warnings=list(footage.notes),
        )

    columns = [Column("time"), Column("probability", numbers=True), Column("label")]
    moments = partial(labelled_moments, shown, footage)
    tell(footage, chosen, output, columns=columns, cells=partial(_cells, shown), document=document, moments=moments)


def _cells(found: list[LabelledStretch], for_people: bool) -> list[list[str]]:
    if for_people:
        return [[stretch(one.span.start, one.span.end), f"{one.score:.2f}", one.label] for one in found]
    return [[f"{one.span.start:.3f}", f"{one.span.end:.3f}", f"{one.score:.4f}", one.label] for one in found]
