"""Options and arguments that several commands share, and the folder of the library."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import platformdirs
import typer

from vlm.app.console import hint

if TYPE_CHECKING:
    from vlm.index.library import Library
    from vlm.types import Span

_TIME = r"(?:\d+:)?(?:\d+:)?\d+(?:\.\d+)?"
_STRETCH = re.compile(rf"({_TIME})\s*-\s*({_TIME})")

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
WithinOption = Annotated[
    str | None,
    typer.Option("--within", metavar="START-END", help="Only this stretch of the video: seconds, or m:ss, or h:mm:ss, as in 1:05-2:30."),
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


@contextmanager
def video_library(named: str | None, video: str, *, encoder: str | None, device: str) -> Iterator[Library]:
    """The library that a video is asked through, as ``named_video_library`` opens it."""
    with named_video_library(named, video, encoder=encoder, device=device) as (held, _):
        yield held


@contextmanager
def named_video_library(named: str | None, video: str, *, encoder: str | None, device: str) -> Iterator[tuple[Library, Path | None]]:
    """The library that a video is asked through, and its folder.

    A file needs none: where there is no library, it is read by ``encoder``, nothing is left behind, and the folder is None.
    """
    from vlm.index.database import FILE_NAME
    from vlm.index.library import Library

    folder = library_folder(named)
    if (folder / FILE_NAME).exists() or named is not None or not Path(video).is_file():
        with Library.open(folder, encoder=encoder, device=device, create=False) as held:
            yield held, folder
        return
    with tempfile.TemporaryDirectory() as empty, Library.open(Path(empty) / "library", encoder=encoder, device=device) as held:
        yield held, None


def stretch_of(text: str | None, option: str = "--within") -> Span | None:
    """The span that START-END means.

    Raises:
        typer.BadParameter: it is none.
    """
    from vlm.types import Span

    if text is None:
        return None
    found = _STRETCH.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no stretch of time: write START-END, as in 12-20.5 or 1:05-2:30", param_hint=option)
    start, end = (_seconds(part) for part in found.groups())
    if end <= start:
        raise typer.BadParameter(f"{text!r} ends before it begins", param_hint=option)
    return Span(start, end)


def seconds_of(text: str, option: str) -> float:
    """The seconds that a time means: ``90``, ``1:30`` or ``1:02:03``.

    Raises:
        typer.BadParameter: it is none.
    """
    if re.fullmatch(_TIME, text.strip()) is None:
        raise typer.BadParameter(f"{text!r} is no time: write seconds, m:ss or h:mm:ss", param_hint=option)
    return _seconds(text.strip())


def _seconds(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total
