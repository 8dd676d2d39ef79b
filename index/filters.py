"""Which of a library's videos a search may find: by path, length, and the date of the file."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass
from datetime import datetime

from vlm.errors import InputError
from vlm.index.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a video must be; all of it holds at once, and what is not given holds for every video.

    Attributes:
        paths: patterns of which one must fit a path of the video, as a shell matches names; ``*`` goes through folders too.
        min_seconds, max_seconds: length of the video.
        since, until: when a file of it was last changed; a time without a zone is local.

    Raises:
        InputError: a length below 0, or filters that no video can pass.
    """

    paths: tuple[str, ...] = ()
    min_seconds: float | None = None
    max_seconds: float | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("min_seconds", "max_seconds"):
            if (value := getattr(self, name)) is not None and not value >= 0:
                raise InputError(f"{name} must be at least 0, got {value:g}")
        if self.min_seconds is not None and self.max_seconds is not None and self.min_seconds > self.max_seconds:
            raise InputError(f"no video is at least {self.min_seconds:g} s and at most {self.max_seconds:g} s long: change one of the two")
        if self.since is not None and self.until is not None and self.since.timestamp() > self.until.timestamp():
            raise InputError(f"no file is of {self.since} or later and of {self.until} or earlier: change one of the two")

    def __bool__(self) -> bool:
        return self != Filters()

    def passing(self, store: Store) -> set[int]:
        """The ids of the videos that pass."""
        found = set()
        rows = store.query(
            "SELECT v.id, max(v.end_seconds, ifnull(v.promised_seconds, 0)), l.path, l.mtime_ns "
            "FROM videos v LEFT JOIN locations l ON l.video_id = v.id WHERE v.ready"
        )
        for video_id, seconds, path, mtime_ns in rows:
            if self._fits(seconds, path, mtime_ns):
                found.add(video_id)
        return found

    def _fits(self, seconds: float, path: bytes | None, mtime_ns: int | None) -> bool:
        if self.min_seconds is not None and seconds < self.min_seconds:
            return False
        if self.max_seconds is not None and seconds > self.max_seconds:
            return False
        if self.paths and (path is None or not any(_matches(os.fsdecode(path), pattern) for pattern in self.paths)):
            return False
        if self.since is None and self.until is None:
            return True
        if mtime_ns is None:
            return False
        changed = mtime_ns / 1e9
        return (self.since is None or changed >= self.since.timestamp()) and (self.until is None or changed <= self.until.timestamp())


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern fits a whole path, or the end of it from a folder's name on."""
    return fnmatch.fnmatchcase(path, os.path.expanduser(pattern)) or fnmatch.fnmatchcase(path, f"*/{pattern}")
