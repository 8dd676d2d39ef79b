"""``vlm localize``: which actions take place in a video, and from when to when."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit_row, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, JsonOption
from vlm.app.out import Format, FormatOption, OutputOption, chosen_format, put, write_found
from vlm.app.render import Column, print_table, stretch
from vlm.app.suite import ModelOption, SuiteEncoderOption, SuiteLibraryOption, VideoArgument, read_footage
from vlm.data.formats.found import FoundMoment

if TYPE_CHECKING:
    from vlm.index.footage import Footage
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
    from vlm.encoders.device import resolve_device
    from vlm.models.suite.actions import find_actions
    from vlm.models.suite.localization import ActionMamba

    chosen = chosen_format(written_as, output, as_json=as_json)
    localizer = ActionMamba.from_pretrained(model)
    footage = read_footage(localizer.config, video, library=library, encoder=encoder, device=device)
    found = find_actions(localizer.to(resolve_device(device)), footage.features, most=top_k, least_score=max(min_score, 1e-3))
    found = [replace(action, span=footage.span(action.span)) for action in found]
    if chosen is Format.TABLE:
        _print_actions(found)
    elif chosen is Format.JSON:
        from vlm.app import schemas_ask, schemas_suite

        document = schemas_suite.LocalizeOutput(
            video=schemas_ask.FootageOutput.of(footage),
            classes=list(localizer.config.classes),
            actions=[schemas_suite.ActionOutput.of(action) for action in found],
            warnings=list(footage.notes),
        )
        put(document.model_dump_json(by_alias=True, indent=2) + "\n", output)
    else:
        write_found(_rows(found, footage), chosen, output)
    for warning in footage.notes:
        warn(warning)
    if not found:
        raise typer.Exit(ExitCode.NO_HIT)


def _rows(found: list[FoundAction], footage: Footage) -> list[FoundMoment]:
    """The actions as moments whose query is the label; the rank counts over all of them."""
    return [
        FoundMoment(query=action.label, video=footage.path, span=action.span, score=action.score, rank=rank, video_id=footage.video_id)
        for rank, action in enumerate(found, start=1)
    ]


def _print_actions(found: list[FoundAction]) -> None:
    if not results_go_to_people():
        for rank, action in enumerate(found, start=1):
            emit_row(rank, f"{action.score:.4f}", f"{action.span.start:.3f}", f"{action.span.end:.3f}", action.label)
        return
    print_table(
        [Column("#", numbers=True), Column("score", numbers=True), Column("time"), Column("action")],
        [
            [str(rank), f"{action.score:.3f}", stretch(action.span.start, action.span.end), action.label]
            for rank, action in enumerate(found, start=1)
        ],
        paths=False,
    )
