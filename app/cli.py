"""The command ``vlm``: its commands, and the outermost door at which every error becomes one clear line.

Importing this loads neither torch nor faiss nor av; a command loads what it needs.
"""

from __future__ import annotations

import errno
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from vlm import __version__
from vlm.app.commands import (
    add,
    anticipate,
    ask,
    caption,
    catalog,
    check,
    demo,
    doctor,
    duplicates,
    export,
    ground,
    localize,
    models,
    recognize,
    search,
    segment,
    toybox,
    train,
    when,
    why,
)
from vlm.app.console import emit, fail, leave_stdout, note, unwritable_stdout
from vlm.app.exits import ExitCode
from vlm.errors import VlmError

# What a full disk says, wherever a command meets it that no part of it expected.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(slots=True)
class Session:
    """What the options before the command say."""

    debug: bool = False


def _print_version(wanted: bool) -> None:
    if wanted:
        emit(f"vlm {__version__}")
        raise typer.Exit


def _before_every_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", envvar="VLM_DEBUG", help="Print the traceback of an error.")] = False,
) -> None:
    """Search your own videos by text."""
    context.obj.debug = debug


def build() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="vlm",
        callback=_before_every_command,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 some files could not be used, 4 nothing found, 130 interrupted.",
    )
    app.command("add")(add.add)
    app.command("search")(search.search)
    app.command("why")(why.why)
    app.command("when")(when.when)
    app.command("ground")(ground.ground)
    app.command("ask")(ask.ask)
    app.command("export")(export.export)
    app.command("localize")(localize.localize)
    app.command("segment")(segment.segment)
    app.command("anticipate")(anticipate.anticipate)
    app.command("recognize")(recognize.recognize)
    app.command("caption")(caption.caption)
    app.command("duplicates")(duplicates.duplicates)
    app.command("list")(catalog.list_videos)
    app.command("show")(catalog.show)
    app.command("rm")(catalog.remove)
    app.command("stats")(catalog.stats)
    app.command("check")(check.check)
    app.command("train")(train.train)
    app.command("attach")(train.attach)
    app.command("detach")(train.detach)
    app.command("doctor")(doctor.doctor)
    app.command("models")(models.models)
    app.command("demo")(demo.demo)
    app.add_typer(toybox.toybox, name="toybox")
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; returns the exit code."""
    session = Session()
    try:
        build()(args=list(arguments), prog_name="vlm", obj=session)
    except SystemExit as end:  # how typer ends, with usage errors already told
        return end.code if isinstance(end.code, int) else ExitCode.OK
    except VlmError as error:
        if session.debug:
            traceback.print_exc()
        fail(str(error))
        return ExitCode.ERROR
    except Exception as error:
        if session.debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno in _FULL:
            fail(f"{error.strerror}: {error.filename or 'stdout, or a folder for passing files, such as ' + tempfile.gettempdir()}")
        else:
            _tell_of_bug(error, arguments)
        return ExitCode.ERROR
    return ExitCode.OK


def _tell_of_bug(error: Exception, arguments: Sequence[str]) -> None:
    fail(f"{type(error).__name__}: {error}")
    note("This is a bug in vlm, not a mistake of yours. See where it happened with: " + shlex.join(["vlm", "--debug", *arguments]))


def main() -> None:
    """Entry point of the command ``vlm``."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter shows its number
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        leave_stdout()
        code = ExitCode.CLOSED_PIPE
    except OSError as error:
        leave_stdout()
        if code == ExitCode.OK:
            fail(str(unwritable_stdout(error)))
            code = ExitCode.ERROR
    sys.exit(code)
