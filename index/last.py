"""The last result of a library, kept in its folder for the commands that go on from it.

Written beside its place and moved there whole: a reader finds the one before or the new one, also after a crash.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vlm.data.formats.files import dump_json, read_object
from vlm.data.formats.found import FoundMoment, found_row, moment_of
from vlm.errors import InputError
from vlm.index.store import FileStamp

LAST_FILE = "last.json"
_SCHEMA = "vlm.last/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastResult:
    """What was found.

    Attributes:
        command: that found it.
        queries: in the order in which they were asked.
        stamps: by path, of the files of moments that are not of the library: how they were when they were read.
    """

    command: str
    queries: tuple[str, ...]
    moments: tuple[FoundMoment, ...]
    stamps: dict[str, FileStamp] = field(default_factory=dict)


def keep(folder: Path, last: LastResult) -> None:
    """Puts a result in the place of the one before. Raises OSError where the folder does not take it; the one before stays then."""
    row = {
        "schema": _SCHEMA,
        "command": last.command,
        "queries": last.queries,
        "moments": [found_row(moment) for moment in last.moments],
        "stamps": [{"path": path, "num_bytes": stamp.num_bytes, "mtime_ns": stamp.mtime_ns} for path, stamp in last.stamps.items()],
    }
    partial = folder / f".{LAST_FILE}-{secrets.token_hex(8)}.part"
    try:
        with partial.open("xb") as file:
            file.write(dump_json(row).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / LAST_FILE)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def recall(folder: Path) -> LastResult:
    """The result that was kept.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / LAST_FILE
    if not path.exists():
        raise InputError(
            f"library {str(folder)!r} has no last result yet: run vlm search or vlm ground first, or name a query instead of LAST"
        )
    fields = read_object(path)
    if (schema := fields.text("schema")) != _SCHEMA:
        raise InputError(f"{str(path)!r} is {schema!r}, and this vlm reads {_SCHEMA!r}: run vlm search or vlm ground again")
    stamps = {row.text("path"): FileStamp(row.integer("num_bytes"), row.integer("mtime_ns")) for row in fields.rows("stamps")}
    moments = tuple(moment_of(row, absent=None) for row in fields.rows("moments"))
    return LastResult(command=fields.text("command"), queries=fields.texts("queries"), moments=moments, stamps=stamps)
