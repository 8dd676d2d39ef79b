"""Where text goes: results to stdout, everything said about them to stderr, and nothing a terminal would obey."""

from __future__ import annotations

import os
import sys
import unicodedata
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from vlm.app.exits import ExitCode
from vlm.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

# Joiners that scripts and emoji need; all other invisible characters are escaped.
_JOINERS = "\u200c\u200d"
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""``text`` on one line, with everything a terminal would obey or hide escaped.

    Control characters, line ends, and marks that change the direction of writing become ``\n``, ``\x1b``, ``\u202e``; bytes of a file name
    that are not UTF-8 become ``\xe9``. Such a text is for people: ``--json`` keeps names exact.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _UNPRINTABLE and c not in _JOINERS else c for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how os.fsdecode carries a byte that it cannot read
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def results_go_to_people() -> bool:
    """Whether stdout is a terminal: tables there, tab-separated lines elsewhere."""
    return sys.stdout.isatty()


def result_console() -> Console:
    """The terminal that tables are printed on."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def note_console() -> Console:
    """The console on stderr: notes, warnings, errors and progress."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def emit(line: str) -> None:
    """Writes one line of results at once, so that a reader sees it even if this process is ended.

    Raises:
        typer.Exit: the reader has closed the pipe; this ends the command quietly.
        InputError: what stdout leads to takes no more, as a full disk.
    """
    try:
        print(line, flush=True)  # noqa: T201  # the one place that does
    except BrokenPipeError:
        leave_stdout()
        raise typer.Exit(ExitCode.CLOSED_PIPE) from None
    except OSError as error:
        leave_stdout()
        raise unwritable_stdout(error) from error


def emit_row(*cells: object) -> None:
    """Writes one tab-separated line; text is escaped, None is an empty cell."""
    emit("\t".join("" if cell is None else printable(str(cell)) for cell in cells))


def emit_json(model: BaseModel, *, indent: int | None = 2) -> None:
    """Writes one JSON document; with ``indent=None`` on a single line."""
    emit(model.model_dump_json(by_alias=True, indent=indent))


def unwritable_stdout(error: OSError) -> InputError:
    """The error where stdout leads to something that takes no more."""
    return InputError(f"stdout cannot be written, and what is there may be cut short: {error.strerror}. Send it where there is room")


def leave_stdout() -> None:
    """Points stdout at nothing, so that what is still buffered raises no second error at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(message: str) -> None:
    """Tells people something on stderr that is no part of the result."""
    _say("", "", message)


def hint(message: str) -> None:
    """Like ``note``, but faint: what only some will want to know."""
    _say("", "dim", message)


def warn(message: str) -> None:
    """Tells of something that may mislead."""
    _say("warning: ", "yellow", message)


def fail(message: str) -> None:
    """Tells in one line why the command ends."""
    _say("error: ", "bold red", message)


def _say(label: str, style: str, message: str) -> None:
    words = printable(" ".join(message.split("\n")))
    text = Text.assemble((label, style), words) if label else Text(words, style=style)
    note_console().print(text)
