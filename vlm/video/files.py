"""Opening a path that may be anything, without waiting and without surprises."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from vlm.errors import VideoUnreadable

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def display_name(path: PathLike) -> str:
    """The path as it is printed in messages: quoted, with undecodable bytes escaped."""
    return repr(os.fsdecode(path))


@contextmanager
def reading_errors(path: PathLike) -> Iterator[None]:
    """Turns errors of the operating system inside the block into VideoUnreadable."""
    try:
        yield
    except OSError as error:
        raise VideoUnreadable(f"{display_name(path)} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise VideoUnreadable(f"{display_name(path)} cannot be read: {error}") from error


def open_regular(path: PathLike) -> int:
    """A file descriptor of a regular file; never waits on a pipe or a device.

    Raises:
        VideoUnreadable: missing, no permission, or anything but a regular file.
    """
    with reading_errors(path):
        # O_NONBLOCK: opening a named pipe without a writer returns at once instead of waiting for one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VideoUnreadable(f"{display_name(path)} is not a regular file; give the video file itself")
    return descriptor
