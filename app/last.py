"""Keeping what was found for the commands that go on from it, ``vlm export LAST``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlm.app.console import hint

if TYPE_CHECKING:
    from vlm.data.formats.found import FoundMoment
    from vlm.index.store import FileStamp


def keep_last(folder: Path | None, command: str, queries: Sequence[str], moments: Sequence[FoundMoment]) -> None:
    """Keeps a result in the library's folder; where that takes no file a hint says so. None is no library: nothing is kept."""
    from vlm.index.last import LastResult, keep

    if folder is None:
        return
    try:
        kept = tuple(moment if moment.video_id is not None else replace(moment, video=os.path.abspath(moment.video)) for moment in moments)
        stamps = _stamps([moment.video for moment in kept if moment.video_id is None])
        keep(folder, LastResult(command=command, queries=tuple(queries), moments=kept, stamps=stamps))
    except OSError as error:
        hint(f"not kept for vlm export LAST: {str(folder)!r} takes no file ({error.strerror})")


def _stamps(paths: Sequence[str]) -> dict[str, FileStamp]:
    """How files are now."""
    from vlm.index.store import FileStamp

    found = {}
    for path in dict.fromkeys(paths):
        status = os.stat(path)
        found[path] = FileStamp(status.st_size, status.st_mtime_ns)
    return found
