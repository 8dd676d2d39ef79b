"""``vlm recognize``: which of the actions that a model knows a video shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.options import DeviceOption, JsonOption, WithinOption, stretch_of
from vlm.app.out import FormatOption, OutputOption, chosen_format
from vlm.app.render import Column, stretch
from vlm.app.suite import ModelOption, SuiteEncoderOption, labelled_moments, open_recogniser, tell

if TYPE_CHECKING:
    from vlm.app.schemas import Output
    from vlm.models.suite.recognised import RecognisedClip


@dataclass(frozen=True, slots=True)
class _Watched:
    """The file that was looked at."""

    path: str
    video_id: int | None = None
    notes: tuple[str, ...] = ()


def recognize(
    video: Annotated[str, typer.Argument(metavar="VIDEO", path_type=str, readable=False, help="A video file.")],
    model: ModelOption,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, metavar="N", help="So many classes, the likeliest first.")] = 5,
    within: WithinOption = None,
    every: Annotated[
        float | None,
        typer.Option("--every", metavar="SECONDS", help="Not the whole at once, but one window of this length after the other."),
    ] = None,
    written_as: FormatOption = None,
    output: OutputOption = None,
    encoder: SuiteEncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Tell which of the actions that a trained model knows a video shows, likeliest first.

    The model looks at a few pictures that are spread evenly over the video, over --within, or over each window of --every.
    """
    from vlm.models.suite.recognised import recognise_file
    from vlm.video.supervise import SupervisedDecoder

    chosen = chosen_format(written_as, output, as_json=as_json)
    if every is not None and not every > 0:
        raise typer.BadParameter(f"{every:g} is no length of a window: name seconds above 0", param_hint="--every")
    span = stretch_of(within)
    recogniser = open_recogniser(model, encoder=encoder, device=device)
    with SupervisedDecoder() as decoder:
        found = list(recognise_file(recogniser, video, decoder, within=span, every=every, most=top_k))

    def document() -> Output:
        from vlm.app import schemas, schemas_recognize

        return schemas_recognize.RecognizeOutput(
            video=schemas.PlaceOutput.of(video),
            classes=list(recogniser.classes),
            clips=[schemas_recognize.RecognisedOutput.of(clip) for clip in found],
        )

    columns = [Column("time"), Column("probability", numbers=True), Column("label")]
    watched = _Watched(video)
    moments = partial(labelled_moments, found, watched)
    tell(watched, chosen, output, columns=columns, cells=partial(_cells, found), document=document, moments=moments)


def _cells(found: Sequence[RecognisedClip], for_people: bool) -> list[list[str]]:
    rows = []
    for clip in found:
        for one in clip.labels:
            label = f"{one.group}: {one.label}" if one.group else one.label
            if for_people:
                rows.append([stretch(clip.span.start, clip.span.end), f"{one.probability:.2f}", label])
            else:
                rows.append([f"{clip.span.start:.3f}", f"{clip.span.end:.3f}", f"{one.probability:.4f}", label])
    return rows
