"""One file under one checksum: what is read back is what was written, or StaleOrDamaged says why not.

Layout: 8 bytes that name the format, 16 bytes of XXH3-128 over all that follows, 4 bytes of header length, a JSON header, the body.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from vlm.errors import LibraryError

__all__ = ["StaleOrDamaged", "read_sealed", "write_sealed"]

_MAGIC = b"vlmsea\x00\x01"
_DIGEST_BYTES = 16
_LENGTH = struct.Struct("<I")

Write = Callable[[bytes], int]


class StaleOrDamaged(LibraryError):
    """A cache that may not be used: missing, damaged, or made for something else. Its owner rebuilds it."""


def write_sealed(path: Path, header: dict[str, Any], write_body: Callable[[Write], None]) -> None:
    """Writes the file in one step: another process sees the old file or the new one, also after a power cut.

    ``write_body`` is handed the function that takes the body's bytes, so that no whole body need be in memory. One writer at a
    time: the unfinished file has a fixed name beside ``path``, and what a killed writer left there is overwritten.

    Raises:
        OSError: no space, no permission; an existing file is as it was.
    """
    unfinished = path.with_name(path.name + ".partial")
    digest = xxhash.xxh3_128()
    try:
        with open(unfinished, "wb") as file:

            def write(chunk: bytes) -> int:
                digest.update(chunk)
                return file.write(chunk)

            file.write(_MAGIC + bytes(_DIGEST_BYTES))
            encoded = json.dumps(header).encode()
            write(_LENGTH.pack(len(encoded)) + encoded)
            write_body(write)
            file.seek(len(_MAGIC))
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def read_sealed(path: Path) -> Iterator[tuple[dict[str, Any], BinaryIO]]:
    """The header, and the file placed at the first byte of the body; the checksum has been compared before.

    Raises:
        StaleOrDamaged: the file is missing, is no sealed file, or does not match its checksum.
    """
    with _open_existing(path) as file:
        head = file.read(len(_MAGIC) + _DIGEST_BYTES)
        if len(head) < len(_MAGIC) + _DIGEST_BYTES or not head.startswith(_MAGIC):
            raise StaleOrDamaged(f"{path.name!r} is empty, cut short, or of another format")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole, memoryview(whole) as view:
            digest = xxhash.xxh3_128(view[len(head) :]).digest()
        if digest != head[len(_MAGIC) :]:
            raise StaleOrDamaged(f"{path.name!r} does not match its checksum")
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        yield json.loads(file.read(length)), file


def _open_existing(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise StaleOrDamaged(f"{path.name!r} cannot be read: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut; only POSIX lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
