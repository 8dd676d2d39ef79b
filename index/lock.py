"""One writer at a time: an operating-system lock on a file, gone with the process that held it however that ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from vlm.errors import LibraryBusy, LibraryReadOnly


class WriterLock:
    """The writer's lock of one library; may be taken again by the one who holds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = filelock.FileLock(folder / "writer.lock", timeout=0)
        self._note = folder / "writer.pid"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock inside.

        Raises:
            LibraryBusy: another process holds it; names the process.
        """
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise LibraryBusy(
                f"library {str(self._folder)!r} is being written by another process{self._holder()}: "
                "wait for it to end; searching works meanwhile"
            ) from None
        except OSError as error:
            raise LibraryReadOnly(f"cannot lock library {str(self._folder)!r} for writing: {error.strerror or error}") from error
        try:
            if self._lock.lock_counter == 1:
                self._note.write_text(str(os.getpid()))
            yield
        finally:
            self._lock.release()

    def free_to_write(self) -> bool:
        """Whether the lock could be taken just now."""
        try:
            with self.held():
                return True
        except (LibraryBusy, LibraryReadOnly):
            return False

    def release(self) -> None:
        """Lets go, whatever was held."""
        self._lock.release(force=True)

    def _holder(self) -> str:
        try:
            return f" (process {int(self._note.read_text())})"
        except (OSError, ValueError):
            return ""
