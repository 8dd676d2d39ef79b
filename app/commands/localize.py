"""``vlm localize``: which actions take place in a video, and from when to when."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, JsonOption
from vlm.app.out import FormatOption, OutputOption, chosen_format
from vlm.app.render import Column, stretch
from vlm.app.suite import ModelOption, SuiteEncoderOption, SuiteLibraryOption, VideoArgument, labelled_moments, model_and_footage, tell

if TYPE_CHECKING:
    from vlm.app.schemas import Output
    from vlm.models.suite.actions import FoundAction


def localize(
    video: VideoArgument,
    model: ModelOption,
    top_k: Annotated[int, typer.Option("-k", "--top-k", min=1, metavar="N", help="At most so many actions.")] = 100,
    min_score: Annotated[float, typer.Option("--min-score", min=0.0, max=1.0, help="Leave out actions that score lower.")] = 0.1,
    written_as: FormatOption = None,
    output: OutputOption = None,
    library: SuiteLibraryOption = None,
    encoder: SuiteEncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find the actions of a video that a trained model knows, best first, with their times.

    The model names the encoder that it reads; a file of any length is read by it now, at the model's frames a second.
    """
    from vlm.models.suite.actions import find_actions
    from vlm.models.suite.localization import ActionMamba

    chosen = chosen_format(written_as, output, as_json=as_json)
    localizer, footage = model_and_footage(ActionMamba, model, video, library=library, encoder=encoder, device=device)
    found = find_actions(localizer, footage.features, most=top_k, least_score=max(min_score, 1e-3))
    found = [replace(action, span=footage.span(action.span)) for action in found]

    def document() -> Output:
        from vlm.app import schemas_ask, schemas_suite

        return schemas_suite.LocalizeOutput(
            video=schemas_ask.FootageOutput.of(footage),
            classes=list(localizer.config.classes),
            actions=[schemas_suite.ActionOutput.of(action) for action in found],
            warnings=list(footage.notes),
        )

    columns = [Column("#", numbers=True), Column("score", numbers=True), Column("time"), Column("action")]
    moments = partial(labelled_moments, found, footage)
    tell(footage, chosen, output, columns=columns, cells=partial(_cells, found), document=document, moments=moments)
    if not found:
        raise typer.Exit(ExitCode.NO_HIT)


def _cells(found: list[FoundAction], for_people: bool) -> list[list[str]]:
    if for_people:
        return [
            [str(rank), f"{action.score:.3f}", stretch(action.span.start, action.span.end), action.label]
            for rank, action in enumerate(found, start=1)
        ]
    return [
        [str(rank), f"{action.score:.4f}", f"{action.span.start:.3f}", f"{action.span.end:.3f}", action.label]
        for rank, action in enumerate(found, start=1)
    ]
