"""``vlm train``: a model by a recipe, or one for your own library from your own rows; ``vlm attach`` and ``vlm detach``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit_row, note, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, EncoderOption, LibraryOption, library_folder
from vlm.app.progress import CountDisplay
from vlm.app.render import count, print_facts
from vlm.errors import InputError

if TYPE_CHECKING:
    from vlm.train.own import Judgement, OwnReport

OWN, CLIP = "own", "clip"  # the tasks that learn from rows of yours


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A TOML file, or the name of one that comes with vlm. With --data: own.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FILE", help="Your captions and questions, .jsonl or .csv (docs/train.md); may be repeated."),
    ] = None,
    library: LibraryOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for log, checkpoints and model. With --data: LIBRARY/training.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in DIR, or begin where there is none.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="Instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, metavar="N", help="Instead of the recipe's.")] = None,
    mixer: Annotated[str | None, typer.Option("--mixer", metavar="WORD", help="mamba, vim, dbm or attention, not the recipe's.")] = None,
    encoder: EncoderOption = None,
    device: DeviceOption = "auto",
    cache: Annotated[Path | None, typer.Option("--cache", metavar="DIR", help="Folder for rendered frames; not with --data.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, metavar="N", help="Of torch; by default all cores.")] = None,
) -> None:
    """Train a model on top of an encoder.

    With --data: for your own library, from the features that it holds; the library then searches by it. The recipe clip-finetune takes
    --data too, and trains an encoder itself on your clips.
    """
    from vlm.train.recipe import TASKS, recipe_path, task_of

    path = recipe_path(recipe or OWN)
    task = task_of(path)
    if (task in (OWN, CLIP)) != bool(data):
        others = ", ".join(one for one in TASKS if one not in (OWN, CLIP))
        way_out = f"a recipe of {others} draws its own" if data else "name your captions and questions with --data FILE (docs/train.md)"
        raise typer.BadParameter(f"the recipe {recipe or OWN!r} learns from {'no ' if data else ''}rows: {way_out}", param_hint="--data")
    instead = {name: value for name, value in (("steps", steps), ("seed", seed), ("mixer", mixer)) if value is not None}
    if data and task == OWN:
        if threads is not None:
            _limit_threads(threads)
        train_for_library(library_folder(library), data, path, out, encoder=encoder, device=device, resume=resume, instead=instead)
        return
    if out is None:
        raise typer.BadParameter("name a folder for the log, the checkpoints and the model", param_hint="--out")
    if data and len(data) > 1:
        raise typer.BadParameter(f"the recipe {recipe!r} takes one file, got {len(data)}", param_hint="--data")
    rows = data[0] if data else None
    named = {"--data": rows, "--cache": cache, "--encoder": encoder, "--threads": threads} | {
        f"--{name}": value for name, value in instead.items()
    }
    _train_by_recipe([str(path), "--out", str(out), *(["--resume"] if resume else []), *_options(named)])


def _options(named: Mapping[str, object]) -> list[str]:
    return [word for name, value in named.items() if value is not None for word in (name, str(value))]


def _train_by_recipe(words: Sequence[str]) -> None:
    from vlm.train.__main__ import main

    if code := main(list(words)):
        raise typer.Exit(code)


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def train_for_library(
    folder: Path,
    data: Sequence[Path],
    recipe: Path,
    out: Path | None,
    *,
    encoder: str | None,
    device: str,
    resume: bool,
    instead: Mapping[str, object],
) -> None:
    """Trains on ``data``, attaches the model, and tells what was used and what became of it."""
    from vlm.index.library import Library
    from vlm.train.own import train_own

    target = out or folder / "training"
    with Library.open(folder, encoder=encoder, device=device, create=False) as library:
        try:
            report = train_own(library, data, recipe, target, resume=resume, **instead)
        except KeyboardInterrupt:
            note(f"interrupted; --resume goes on from the last checkpoint in {target}; the library is unchanged")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        with CountDisplay("videos") as display:
            name = library.attach(report.folder, on_progress=display.update)
    if out is None:
        shutil.rmtree(target)  # the library holds the model; the checkpoints are of no more use
    _print_report(report, name, folder)


def _print_report(report: OwnReport, name: str, folder: Path) -> None:
    rows = report.rows
    facts = [
        ("model", name),
        ("captions", f"{rows.span_captions:,} of spans, {rows.whole_captions:,} of whole videos"),
        ("questions", f"{rows.choices:,} with options, {rows.open_questions:,} open, {rows.unanswered:,} left out without an answer"),
        ("videos", f"{rows.videos:,}"),
        ("steps", f"{report.steps:,}"),
        *((one.ability, _judged(one)) for one in report.judged),
        ("adapters", f"strength {report.strength:g}" if report.strength else "none: search stays as it was"),
        ("heads", ", ".join(report.skills) or "none: moments and answers come from the encoder alone"),
    ]
    if results_go_to_people():
        print_facts(facts)
    else:
        for fact, value in facts:
            emit_row(fact, value)
    for what in report.notes:
        warn(what)
    note(f"attached to {folder}; vlm detach --library {folder} goes back to the encoder alone")


def _judged(one: Judgement) -> str:
    verdict = "used" if one.is_better else "not used"
    return f"{count(one.rows, 'held-out row')}: {one.plain:.3f} by the encoder alone, {one.trained:.3f} by the model, which is {verdict}"


def attach(
    model: Annotated[Path, typer.Argument(metavar="FOLDER", help="A trained model: OUT/model of vlm train.")],
    library: LibraryOption = None,
) -> None:
    """Take a copy of a trained model into a library, which then searches by it. Decodes nothing."""
    from vlm.index.library import Library

    folder = library_folder(library)
    with Library.open(folder, create=False) as held, CountDisplay("videos") as display:
        name = held.attach(model, on_progress=display.update)
    emit_row(name) if not results_go_to_people() else note(f"attached {name}; vlm detach takes it out again")


def detach(library: LibraryOption = None) -> None:
    """Take the trained model out of a library, which then searches by its encoder alone again."""
    from vlm.index.library import Library

    folder = library_folder(library)
    with Library.open(folder, create=False) as held, CountDisplay("videos") as display:
        name = held.detach(on_progress=display.update)
    if name is None:
        raise InputError(f"library {str(folder)!r} has no trained model to take out")
    emit_row(name) if not results_go_to_people() else note(f"took {name} out")
