"""Results in the format that was asked for, to stdout or into new files; nothing is ever overwritten."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vlm.app.console import emit, note
from vlm.data.formats.found import FoundMoment, only_video_of, submissions_of
from vlm.data.formats.found_csv import found_csv_text
from vlm.data.formats.found_jsonl import found_jsonl_text
from vlm.data.formats.qvhighlights import submissions_text
from vlm.data.formats.srt import srt_text
from vlm.data.formats.webvtt import webvtt_text
from vlm.errors import InputError


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    SRT = "srt"
    VTT = "vtt"
    QVHIGHLIGHTS = "qvhighlights"


FormatOption = Annotated[Format | None, typer.Option("--format", help="How the hits are written (docs/cli.md).")]
OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="PATH", help="Write a new file; for srt and vtt a new folder, one file a video.")
]
_SUBTITLES = {Format.SRT: srt_text, Format.VTT: webvtt_text}


def chosen_format(asked: Format | None, output: Path | None, *, as_json: bool) -> Format:
    """The format that the options ask for together.

    Raises:
        typer.BadParameter: they contradict each other.
        InputError: ``output`` exists, or its folder does not.
    """
    if as_json and asked not in (None, Format.JSON):
        raise typer.BadParameter(f"--json and --format {asked} contradict each other: leave one out", param_hint="--format")
    chosen = Format.JSON if as_json else asked or Format.TABLE
    if output is not None:
        if chosen is Format.TABLE:
            raise typer.BadParameter("a table goes to stdout alone: name another --format for a file", param_hint="--output")
        check_new(output)
    return chosen


def check_new(output: Path) -> None:
    """Raises InputError where ``output`` exists, or its folder does not."""
    if output.exists() or output.is_symlink():
        raise InputError(f"{str(output)!r} exists and is never overwritten: name another, or remove it first")
    if not output.parent.is_dir():
        raise InputError(f"there is no folder {str(output.parent)!r} to put {output.name!r} in")


def write_found(found: Sequence[FoundMoment], chosen: Format, output: Path | None) -> None:
    """Writes moments as lines, rows or subtitles; the table and the JSON document are the command's own.

    Raises:
        InputError: subtitles of several videos for stdout, a text that is no UTF-8, or a file that cannot be written.
    """
    if chosen in _SUBTITLES:
        _write_subtitles(found, chosen, output)
    elif chosen is Format.JSONL:
        put(found_jsonl_text(found), output)
    elif chosen is Format.CSV:
        put(found_csv_text(found), output)
    else:
        put(submissions_text(submissions_of(found)), output)


def put(text: str, output: Path | None) -> None:
    """Writes a text to stdout, or into a new file as ``write_new`` does."""
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object[error.start]!r} in a file name is not UTF-8: --format jsonl can hold it") from error
    if output is None:
        if text:
            emit(text.removesuffix("\n"))
        return
    write_new(output, content)
    note(f"wrote {output}")


def write_new(path: Path, content: bytes) -> None:
    """Writes a new file, of which nothing is left where it cannot be written whole.

    Raises:
        InputError: it exists, or the disk does not take it.
    """
    try:
        file = path.open("xb")
        try:
            with file:
                file.write(content)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def _write_subtitles(found: Sequence[FoundMoment], chosen: Format, output: Path | None) -> None:
    make = _SUBTITLES[chosen]
    if not found:
        return
    if output is None:
        only_video_of(found)
        put(make(found), None)
        return
    of_videos: dict[int | str, list[FoundMoment]] = {}
    for moment in found:
        of_videos.setdefault(moment.source, []).append(moment)
    put_each([(moments[0].video_name, make(moments)) for moments in of_videos.values()], output, suffix=f".{chosen}")


def put_each(texts: Sequence[tuple[str, str]], output: Path, *, suffix: str) -> None:
    """Writes the text of each video, given with the video's path, into a new folder, of which nothing is left where that fails.

    Raises:
        InputError: the folder cannot be made, a text is no UTF-8, or the disk does not take it.
    """
    try:
        output.mkdir()
    except OSError as error:
        raise InputError(f"the folder {str(output)!r} cannot be made: {error.strerror}") from error
    try:
        for number, (video, text) in enumerate(texts, start=1):
            put(text, output / f"{number:02}_{Path(video).stem[:80]}{suffix}")
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)  # made above: half of the files would look like all of them
        raise
