"""Options and arguments that several commands share, and the folder of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from vlm.app.console import hint

LIBRARY_VARIABLE = "VLM_LIBRARY"

LibraryOption = Annotated[
    str | None,
    typer.Option(
        "--library",
        "-l",
        metavar="DIR",
        path_type=str,
        readable=False,
        envvar=LIBRARY_VARIABLE,
        help="Folder of the library. Default: a folder of your user account.",
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option("--encoder", "-e", metavar="SPEC", help="Model; default: the library's own. `vlm models` lists presets and forms."),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="DEVICE", help="Where the model runs: auto, cpu, cuda, cuda:N or mps.")]
IndexDeviceOption = Annotated[
    str, typer.Option("--index-device", metavar="DEVICE", help="Where the vector index is searched: auto, cpu or cuda:N.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON (docs/json.md) instead of a table.")]
VideosArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID|PATH", path_type=str, readable=False, show_default=False, help="Videos, by id or by the path of a file."),
]


def default_library_folder() -> Path:
    """The library of this user account where no other is named."""
    return platformdirs.user_data_path("vlm", appauthor=False) / "library"


def library_folder(named: str | None) -> Path:
    """The folder that was named, else the default one, which is told on stderr."""
    if named is not None:
        if not named:
            raise typer.BadParameter("the name of the folder is empty", param_hint="--library")
        return Path(named).expanduser()
    folder = default_library_folder()
    hint(f"library: {folder} (the default; name another with --library or {LIBRARY_VARIABLE})")
    return folder
