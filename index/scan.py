"""Which files an ``add`` looks at: folders are walked once each, whatever links lead where."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vlm.index.store import FileStamp

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# Inside folders only these names are taken; a file named by the user is always tried.
SUFFIXES = frozenset(
    b".3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .ivf .m1v .m2t .m2ts .m2v .m4v .mjpeg .mkv .mov .mp4 .mpe .mpeg .mpg .mpv .mts .mxf"
    b" .mjpg .nut .ogm .ogv .ps .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file to be considered, by absolute path."""

    path: bytes
    stamp: FileStamp


@dataclass(frozen=True, slots=True)
class Unusable:
    """A named path that is no readable regular file or folder."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """Files in order of path as they were named; ``ignored`` counts files in folders that are no videos by name."""

    files: tuple[FileEntry, ...]
    unusable: tuple[Unusable, ...]
    ignored: int

    @property
    def num_bytes(self) -> int:
        """Size of all files together."""
        return sum(f.stamp.num_bytes for f in self.files)


def stamp_of(path: bytes) -> FileStamp | None:
    """The present stamp of a regular file; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return FileStamp(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def scan(paths: PathLike | Iterable[PathLike]) -> Scan:
    """The files below ``paths``, each once.

    Folders are walked with links followed, but no folder twice: one that links to itself ends. Hidden files and folders inside a folder are
    left out. Devices, pipes and sockets are unusable.
    """
    named = [paths] if isinstance(paths, str | bytes | os.PathLike) else list(paths)
    files: dict[bytes, FileEntry] = {}
    unusable: list[Unusable] = []
    ignored = 0
    seen_folders: set[tuple[int, int]] = set()
    for name in named:
        path = os.path.abspath(os.path.expanduser(os.fsencode(name)))
        if not os.path.isdir(path):
            _take(path, files, unusable)
            continue
        for found in _walk(path, seen_folders, unusable):
            if os.path.splitext(found)[1].lower() in SUFFIXES:
                _take(found, files, unusable)
            else:
                ignored += 1
    return Scan(tuple(files.values()), tuple(unusable), ignored)


def _take(path: bytes, files: dict[bytes, FileEntry], unusable: list[Unusable]) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        unusable.append(Unusable(path, f"{error.strerror or error}"))
        return
    if stat.S_ISREG(status.st_mode):
        files.setdefault(path, FileEntry(path, FileStamp(status.st_size, status.st_mtime_ns)))
    else:
        unusable.append(Unusable(path, "not a regular file"))


def _walk(folder: bytes, seen: set[tuple[int, int]], unusable: list[Unusable]) -> Iterator[bytes]:
    """Files below ``folder`` in order of name; visible ones only."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted((e for e in os.scandir(here) if not e.name.startswith(b".")), key=lambda e: e.name)
        except OSError as error:
            unusable.append(Unusable(here, f"{error.strerror or error}"))
            continue
        yield from (e.path for e in entries if not _is_folder(e))
        waiting.extend(e.path for e in reversed(entries) if _is_folder(e))


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle: is no folder, and _take names it
        return False
