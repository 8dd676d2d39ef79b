"""One decoding child process: its pipes, the threads that empty them, and its end."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO

from vlm.video import wire

# Messages that wait for the parent. When it is slower the child blocks on its pipe: memory stays bounded.
_QUEUED_MESSAGES = 4
_STDERR_LINES = 20
_STDERR_LINE_BYTES = 400


class Ended(Exception):  # an event, not an error of its own
    """The child closed its pipe: it is dead or about to be."""


def worker_command(threads: int) -> list[str]:
    """The command of the real worker."""
    return [sys.executable, "-P", "-m", "vlm.video.worker", str(threads)]


class Child:
    """A running child. Used by one thread; ``kill`` may be called at any time."""

    def __init__(self, command: Sequence[str]) -> None:
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._messages: queue.Queue[wire.Message | None] = queue.Queue(_QUEUED_MESSAGES)
        self._last_words: deque[str] = deque(maxlen=_STDERR_LINES)
        self._is_closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._read_messages, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send(self, header: wire.Header) -> None:
        """Sends one request. Raises Ended where nobody reads it."""
        assert self._process.stdin is not None
        self._last_words.clear()
        try:
            wire.send(self._process.stdin, header)
        except OSError as error:
            raise Ended from error

    def receive(self, timeout_seconds: float) -> wire.Message | None:
        """The next message; None where none comes in time. Raises Ended where none will come."""
        try:
            message = self._messages.get(timeout=max(0.0, timeout_seconds))
        except queue.Empty:
            return None
        if message is None:
            raise Ended
        return message

    def kill(self) -> str:
        """Ends the process and its threads; says how it ended and its last words."""
        try:
            # A child that closed its pipe is on its way out: its own end says more than ours.
            self._process.wait(timeout=1.0 if self._messages_ended else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._is_closed.set()
        code = self._process.wait()
        for thread in self._threads:
            thread.join()
        self._tell_of_the_end()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                pass  # an unsent rest of a request has nobody to go to
        how = f"signal {_signal_name(-code)}" if code < 0 else f"exit status {code}"
        words = next((line for line in reversed(self._last_words) if line), "")
        return f"{how} ({words})" if words else how

    def _tell_of_the_end(self) -> None:
        """Wakes whoever still waits in ``receive``: nobody else puts messages any more."""
        while True:
            try:
                self._messages.put_nowait(None)
            except queue.Full:
                self._messages.get_nowait()
            else:
                return

    @property
    def _messages_ended(self) -> bool:
        return not self._threads[0].is_alive()

    def _read_messages(self, stdout: IO[bytes]) -> None:
        message: wire.Message | None
        while not self._is_closed.is_set():
            try:
                message = wire.receive(stdout)
            except ValueError as error:
                self._last_words.append(f"the decoder sent no message: {error}")
                message = None
            self._put(message)
            if message is None:
                return

    def _put(self, message: wire.Message | None) -> None:
        while not self._is_closed.is_set():
            try:
                self._messages.put(message, timeout=0.1)
            except queue.Full:
                continue
            return

    def _read_stderr(self, stderr: IO[bytes]) -> None:
        while line := stderr.readline(_STDERR_LINE_BYTES):
            self._last_words.append(line.decode(errors="replace").strip())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
