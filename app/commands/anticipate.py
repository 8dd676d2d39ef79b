"""``vlm anticipate``: what is about to be done, told from what a video has shown so far."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.options import DeviceOption, JsonOption
from vlm.app.out import OutputOption, chosen_format
from vlm.app.render import Column, clock_time
from vlm.app.suite import ModelOption, SuiteEncoderOption, SuiteLibraryOption, VideoArgument, model_and_footage, tell

if TYPE_CHECKING:
    from vlm.app.schemas import Output
    from vlm.models.suite.outlook import Expected


def anticipate(
    video: VideoArgument,
    model: ModelOption,
    at: Annotated[
        list[float] | None,
        typer.Option("--at", min=0.0, metavar="SECONDS", help="After so much of the video; may be given again. Default: after all of it."),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option("--every", min=0.1, metavar="SECONDS", help="After so much of the video, and again every so many seconds."),
    ] = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, metavar="N", help="So many actions for each moment.")] = 5,
    output: OutputOption = None,
    library: SuiteLibraryOption = None,
    encoder: SuiteEncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Tell which action begins soon, by a trained model that sees only the frames before a moment; the likeliest first.

    The model names the encoder that it reads, and how far ahead it tells.
    """
    from vlm.models.suite.anticipation import Anticipator
    from vlm.models.suite.outlook import chances_at, most_expected

    if at and every is not None:
        raise typer.BadParameter("--at and --every both say when: give one of them", param_hint="--every")
    chosen = chosen_format(None, output, as_json=as_json)
    anticipator, footage = model_and_footage(Anticipator, model, video, library=library, encoder=encoder, device=device)
    end = footage.features.end
    moments = at or ([end] if every is None else [number * every for number in range(1, int(end / every + 1e-6) + 1)])
    chances = chances_at(anticipator, footage.features, moments)
    expected = [most_expected(anticipator.config, chances, number, most=top_k) for number in range(len(moments))]

    def document() -> Output:
        from vlm.app import schemas_anticipate, schemas_ask

        return schemas_anticipate.AnticipateOutput(
            video=schemas_ask.FootageOutput.of(footage),
            verbs=list(anticipator.config.verbs),
            nouns=list(anticipator.config.nouns),
            horizons=list(anticipator.config.horizons),
            moments=[
                schemas_anticipate.OutlookOutput(at=moment, expected=[schemas_anticipate.ExpectedOutput.of(one) for one in found])
                for moment, found in zip(moments, expected, strict=True)
            ],
            warnings=list(footage.notes),
        )

    columns = [Column("after"), Column("begins at"), Column("probability", numbers=True), Column("action")]
    tell(footage, chosen, output, columns=columns, cells=partial(_cells, moments, expected), document=document)


def _cells(moments: list[float], expected: list[list[Expected]], for_people: bool) -> list[list[str]]:
    rows = [(moment, moment + one.horizon, one) for moment, found in zip(moments, expected, strict=True) for one in found]
    if for_people:
        return [[clock_time(now), clock_time(then), f"{one.probability:.2f}", f"{one.verb} {one.noun}"] for now, then, one in rows]
    return [[f"{now:.3f}", f"{then:.3f}", f"{one.probability:.4f}", one.verb, one.noun] for now, then, one in rows]
