"""What the exit code of a command tells its caller."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of all commands, as docs/cli.md lists them."""

    OK = 0
    ERROR = 1
    USAGE = 2
    PARTIAL = 3  # done, but a file was quarantined or only partly decoded
    NO_HIT = 4
    INTERRUPTED = 130  # 128 + SIGINT, as shells count
    CLOSED_PIPE = 141  # 128 + SIGPIPE: the reader left, as `head` does
