"""``vlm train``: a model by a recipe, or one for your own library from your own rows; ``vlm attach`` and ``vlm detach``."""

from __future__ import annotations

import io
import shlex
import shutil
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit, emit_json, emit_row, note, results_go_to_people, warn
from vlm.app.exits import ExitCode
from vlm.app.options import DeviceOption, EncoderOption, JsonOption, LibraryOption, library_folder
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
    attaches: Annotated[
        bool, typer.Option("--attach/--no-attach", help="With --data: whether the library takes the model and searches by it.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Train a model on top of an encoder.

    With --data: for your own library, from the features that it holds; the library then searches by it. The recipe clip-finetune takes
    --data too, and trains an encoder itself on your clips.
    """
    from vlm.train.recipe import recipe_path, task_of

    path = recipe_path(recipe or OWN)
    task = task_of(path)
    _check_usage(recipe or OWN, task, data or [], out, attaches=attaches)
    instead = {name: value for name, value in (("steps", steps), ("seed", seed), ("mixer", mixer)) if value is not None}
    if data and task == OWN:
        if threads is not None:
            _limit_threads(threads)
        folder = library_folder(library)
        done = train_for_library(folder, data, path, out, encoder=encoder, device=device, resume=resume, attaches=attaches, instead=instead)
        _tell(done, folder, path, as_json=as_json)
        return
    rows = data[0] if data else None
    named = {"--data": rows, "--cache": cache, "--encoder": encoder, "--threads": threads} | {
        f"--{name}": value for name, value in instead.items()
    }
    model = _train_by_recipe([str(path), "--out", str(out), *(["--resume"] if resume else []), *_options(named)])
    if as_json:
        from vlm.app.schemas_train import TrainOutput

        emit_json(TrainOutput.of(task, path, model, out))
    else:
        emit(str(model))


def _check_usage(recipe: str, task: str, data: Sequence[Path], out: Path | None, *, attaches: bool) -> None:
    """Raises ``typer.BadParameter`` where options do not go together."""
    from vlm.train.recipe import TASKS

    if (task in (OWN, CLIP)) != bool(data):
        others = ", ".join(one for one in TASKS if one not in (OWN, CLIP))
        way_out = f"a recipe of {others} draws its own" if data else "name your captions and questions with --data FILE (docs/train.md)"
        raise typer.BadParameter(f"the recipe {recipe!r} learns from {'no ' if data else ''}rows: {way_out}", param_hint="--data")
    if task == OWN:
        return
    if not attaches:
        raise typer.BadParameter(f"the recipe {recipe!r} attaches nothing: leave the option out", param_hint="--no-attach")
    if out is None:
        raise typer.BadParameter("name a folder for the log, the checkpoints and the model", param_hint="--out")
    if len(data) > 1:
        raise typer.BadParameter(f"the recipe {recipe!r} takes one file, got {len(data)}", param_hint="--data")


def _options(named: Mapping[str, object]) -> list[str]:
    return [word for name, value in named.items() if value is not None for word in (name, str(value))]


def _train_by_recipe(words: Sequence[str]) -> Path:
    """Trains as ``python -m vlm.train`` does; the folder of the model, which is all that it writes to stdout."""
    from vlm.train.__main__ import main

    with redirect_stdout(io.StringIO()) as said:
        code = main(list(words))
    if code:
        raise typer.Exit(code)
    return Path(said.getvalue().removesuffix("\n"))


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True)
class OwnTraining:
    """A training for a library that has ended.

    Attributes:
        model: the folder in which the model lies now. run: that of log and checkpoints, None where they were removed.
        attached: the name that the library knows the model by, None where it has not got it.
    """

    report: OwnReport
    model: Path
    run: Path | None
    attached: str | None


def train_for_library(
    folder: Path,
    data: Sequence[Path],
    recipe: Path,
    out: Path | None,
    *,
    encoder: str | None,
    device: str,
    resume: bool,
    attaches: bool,
    instead: Mapping[str, object],
) -> OwnTraining:
    """Trains on ``data``; where it ``attaches`` the model and ``out`` names no folder to keep, the library alone keeps it."""
    from vlm.index.library import Library
    from vlm.index.model import FOLDER
    from vlm.train.own import train_own

    target = out or folder / "training"
    with Library.open(folder, encoder=encoder, device=device, create=False) as library:
        try:
            report = train_own(library, data, recipe, target, resume=resume, **instead)
        except KeyboardInterrupt:
            note(f"interrupted; --resume goes on from the last checkpoint in {target}; the library is unchanged")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if not attaches:
            return OwnTraining(report, report.folder, target, None)
        with CountDisplay("videos") as display:
            name = library.attach(report.folder, on_progress=display.update)
    if out is not None:
        return OwnTraining(report, report.folder, target, name)
    shutil.rmtree(target)  # the library holds the model; the checkpoints are of no more use
    return OwnTraining(report, folder / FOLDER / name, None, name)


def _tell(done: OwnTraining, folder: Path, recipe: Path, *, as_json: bool) -> None:
    """Tells what was used and what became of it."""
    if as_json:
        from vlm.app.schemas_train import OwnTrainingOutput, TrainOutput

        own = OwnTrainingOutput.of(done.report, library=str(folder), attached=done.attached)
        emit_json(TrainOutput.of(OWN, recipe, done.model, done.run, own))
    else:
        _print_report(done.report, done.attached or str(done.model))
    for what in done.report.notes:
        warn(what)
    if done.attached is None:
        command = shlex.join(["vlm", "attach", str(done.model), "--library", str(folder)])
        note(f"the library is unchanged; it takes the model with: {command}")
    else:
        note(f"attached to {folder}; vlm detach --library {folder} goes back to the encoder alone")


def _print_report(report: OwnReport, model: str) -> None:
    rows = report.rows
    facts = [
        ("model", model),
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
