"""``vlm check``: whether a library is whole, and the two ways to repair it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vlm.app.console import emit, emit_json, hint, note, printable, results_go_to_people
from vlm.app.exits import ExitCode
from vlm.app.options import JsonOption, LibraryOption, library_folder
from vlm.app.render import count

if TYPE_CHECKING:
    from vlm.index.records import FileChanges


def check(
    library: LibraryOption = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="First cut all videos into segments again and build the index anew. Decodes nothing."),
    ] = False,
    compact: Annotated[bool, typer.Option("--compact", help="First give the space of removed videos back to the disk.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that a library is whole. Exit code 1 tells that it is not."""
    from vlm.app import schemas, schemas_catalog
    from vlm.index.library import Library

    folder = library_folder(library)
    with Library.open(folder, create=False) as held:
        if rebuild:
            held.rebuild()
        if compact:
            held.compact()
        problems = held.verify()
        changes = held.changed_files()
    if as_json:
        emit_json(
            schemas_catalog.CheckOutput(
                library=schemas.PlaceOutput.of(str(folder)),
                done=[*(("rebuilt",) if rebuild else ()), *(("compacted",) if compact else ())],
                problems=problems,
                changed_files=[schemas.PlaceOutput.of(path) for path in changes.changed],
                missing_files=[schemas.PlaceOutput.of(path) for path in changes.missing],
            )
        )
    else:
        _print_findings(problems, changes, did="rebuilt, " * rebuild + "compacted, " * compact)
    if problems:
        raise typer.Exit(ExitCode.ERROR)


def _print_findings(problems: list[str], changes: FileChanges, *, did: str) -> None:
    for problem in problems:
        emit(printable(problem))
    if problems:
        note(f"{did}{count(len(problems), 'problem')}; `vlm check --rebuild` makes segments and index anew from the stored features")
    elif results_go_to_people() or did:
        note(f"{did}the library is whole")
    if changes.changed:
        hint(f"{count(len(changes.changed), 'file')} changed since the last add: vlm add takes them in")
    if changes.missing:
        hint(f"{count(len(changes.missing), 'file')} went away since the last add: vlm rm --missing removes their videos")
