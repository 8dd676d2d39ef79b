"""``vlm ask``: a question about one video, a stretch of it, or the whole library; an answer with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit_json, emit_row, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.options import (
    DeviceOption,
    EncoderOption,
    JsonOption,
    LibraryOption,
    WithinOption,
    library_folder,
    named_video_library,
    stretch_of,
)
from vlm.app.render import print_facts, stretch

if TYPE_CHECKING:
    from vlm.index.ask import Asked


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What is to be answered.")],
    video: Annotated[
        str | None,
        typer.Argument(metavar="[VIDEO]", help="A video of the library, by id or path, or any other file. Default: the library."),
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option("--choices", metavar="A,B,...", help="What can be answered; given again, each is one choice as it stands."),
    ] = None,
    within: WithinOption = None,
    answerer: Annotated[
        str | None,
        typer.Option("--answerer", metavar="hf:NAME", help="A larger model of transformers that is shown the frames of the moment found."),
    ] = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Answer a question, and show what the answer rests on.

    Beside the answer stand the moments that it was read from and two figures: what the question alone suggests, and how much of the
    probability is lost when those moments are taken out of the video.
    """
    from vlm.app import schemas_ask
    from vlm.index.library import Library

    span = stretch_of(within)
    options = _choices(choices or ())
    larger = None
    if answerer is not None:
        from vlm.models.answerer_hf import load_answerer

        larger = load_answerer(answerer, device=device)
    folder: Path | None
    if video is None:
        folder = library_folder(library)
        with Library.open(folder, encoder=encoder, device=device, create=False) as held:
            asked = held.ask(question, choices=options, within=span, answerer=larger)
    else:
        with named_video_library(library, video, encoder=encoder, device=device) as (held, folder):
            asked = held.ask(question, video, choices=options, within=span, answerer=larger)
    if as_json:
        emit_json(schemas_ask.AskOutput.of(asked, library=None if folder is None else str(folder)))
    elif results_go_to_people():
        _print_answer(asked)
    else:
        _emit_answer(asked)
    for warning in asked.warnings:
        warn(warning)
    if asked.is_shown is False:
        raise typer.Exit(ExitCode.NO_HIT)


def _choices(given: Sequence[str]) -> list[str]:
    """Choices as they stand; a single one is a list with commas."""
    parts = given[0].split(",") if len(given) == 1 else given
    return [part.strip() for part in parts]


def _emit_answer(asked: Asked) -> None:
    answer, path = asked.answer, asked.footage.path
    said = answer.text if asked.is_shown is not False else ""
    best = answer.evidence[0].span if answer.evidence else None
    emit_row(
        said,
        f"{answer.probability:.4f}",
        None if answer.faithfulness is None else f"{answer.faithfulness:.4f}",
        None if best is None else f"{best.start:.3f}",
        None if best is None else f"{best.end:.3f}",
        asked.footage.video_id,
        path,
    )


def _print_answer(asked: Asked) -> None:
    answer = asked.answer
    facts = []
    if asked.is_shown is False:
        facts.append(("answer", f"the video does not show this (it shows what is asked with probability {answer.answerable:.2f})"))
        facts.append(("if it did", f"{answer.text}  {answer.probability:.2f}"))
    else:
        facts.append(("answer", f"{answer.text}  {answer.probability:.2f}"))
    others = [f"{text} {share:.2f}" for text, share in answer.options if text != answer.text][:4]
    if others:
        facts.append(("or", ", ".join(others)))
    if answer.evidence:
        facts.append(("seen at", ", ".join(stretch(moment.span.start, moment.span.end) for moment in answer.evidence)))
    facts.append(("video", asked.footage.path or f"video {asked.footage.video_id}"))
    prior = "none" if answer.prior is None else ", ".join(f"{text} {share:.2f}" for text, share in answer.prior[:3])
    facts.append(("blind prior", prior))
    facts.append(("faithfulness", "not measured" if answer.faithfulness is None else f"{answer.faithfulness:.2f}"))
    print_facts(facts)
