"""``vlm doctor``: what this machine has, and whether a library is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from vlm.app.console import emit_json, emit_row, printable, result_console, results_go_to_people
from vlm.app.exits import ExitCode
from vlm.app.options import JsonOption, LibraryOption, default_library_folder, library_folder

if TYPE_CHECKING:
    from vlm.app.schemas_machine import FindingOutput

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """Tell versions, devices, scan backends, models, players and the health of a library, with reasons. Exit code 1 if anything fails."""
    from vlm.app import diagnosis
    from vlm.app.schemas_machine import DoctorOutput

    folder = library_folder(library) if library is not None else default_library_folder()
    findings = [found for section in diagnosis.SECTIONS for found in section()]
    findings += diagnosis.library(folder, was_named=library is not None)
    worst = max((found.status for found in findings), key=list(_STYLES).index)
    if as_json:
        emit_json(DoctorOutput(status=worst, findings=findings))
    elif results_go_to_people():
        _print_table(findings)
    else:
        for found in findings:
            emit_row(found.status, found.area, found.name, found.finding, found.reason)
    if worst == "fail":
        raise typer.Exit(ExitCode.ERROR)


def _print_table(findings: list[FindingOutput]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    area = ""
    for found in findings:
        if found.area != area:
            area = found.area
            table.add_row("", Text(area, style="underline"), "")
        words = Text(printable(found.finding))
        if found.reason:
            words.append("\n" if found.status == "fail" else "  ").append(printable(found.reason), style="dim")
        table.add_row(Text(found.status, style=_STYLES[found.status]), Text(found.name), words)
    result_console().print(table)
