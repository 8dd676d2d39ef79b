"""Running the command ``vlm`` in tests: in this process, in one of its own, and on a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from vlm.app.cli import run

COMMAND = Path(sys.executable).with_name("vlm")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def rows(self) -> list[list[str]]:
        """The tab-separated lines of stdout."""
        return [line.split("\t") for line in self.out.splitlines()]


class Vlm:
    """Runs ``vlm`` in this process, with stdout and stderr caught as if they were piped."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: object, code: int = 0) -> Done:
        """Runs one command line, which must end with ``code``."""
        self._capture.readouterr()
        ended = run([os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments])
        done = Done(ended, *self._capture.readouterr())
        assert done.code == code, done
        return done


def run_process(*arguments: str | bytes | os.PathLike[str], environment: Mapping[str, str] | None = None) -> Done:
    """Runs ``vlm`` as users do, with both streams piped."""
    done = subprocess.run([COMMAND, *arguments], capture_output=True, env={**os.environ, **(environment or {})}, check=False)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_on_terminal(arguments: Sequence[str | os.PathLike[str]], *, columns: int) -> Done:
    """Runs ``vlm`` on a pseudo-terminal of that width; both streams are in ``out``."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    environment["TERM"] = "xterm"
    process = subprocess.Popen([COMMAND, *arguments], stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 65_536)
        except OSError:  # Linux: the last process has closed the terminal
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())  # colours and cursor movements
    return Done(process.wait(), text.replace("\r\n", "\n"), "")
