"""One request to a child process that ends after it: the parent's side, with a deadline, and the child's, with reports of progress."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

import av

from vlm.errors import DecoderCrashed, DecoderStalled, SpanError, VideoError
from vlm.video import wire
from vlm.video.child import Child, Ended
from vlm.video.files import PathLike, display_name

# How far the work has come: a phase, and a position that grows within it.
Report = Callable[[str, int], None]

_SECONDS_BETWEEN_REPORTS = 0.25


def ask(command: Sequence[str], request: wire.Header, path: PathLike, *, answer: str, deadline_seconds: float) -> wire.Message:
    """The message of kind ``answer`` that the child's program sends at last; ``path`` is the file that errors name.

    Raises:
        SpanError, VideoError: what the child raised. DecoderStalled: it went ``deadline_seconds`` without getting any further.
        DecoderCrashed: it ended without an answer.
    """
    child = Child(command)
    try:
        return _answer_of(child, request, path, answer, deadline_seconds)
    finally:
        child.kill()


def serve(work: Callable[[wire.Header, Report], tuple[wire.Header, Sequence[bytes]]]) -> None:
    """The child's program: answers one request on its standard input with what ``work`` makes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever native code prints must not fall between the messages
    av.logging.set_level(None)
    message = wire.receive(sys.stdin.buffer)
    if message is None:
        return
    threading.Thread(target=_end_with_parent, args=(sys.stdin.buffer,), daemon=True).start()
    next_report = 0.0

    def report(phase: str, position: int) -> None:
        nonlocal next_report
        if time.monotonic() >= next_report:
            next_report = time.monotonic() + _SECONDS_BETWEEN_REPORTS
            wire.send(out, {"kind": "reached", "phase": phase, "position": position})

    try:
        header, blobs = work(message[0], report)
    except (VideoError, SpanError) as error:
        wire.send(out, {"kind": "error", "error": type(error).__name__, "message": str(error)})
        return
    wire.send(out, header, *blobs)


def _answer_of(child: Child, request: wire.Header, path: PathLike, answer: str, deadline_seconds: float) -> wire.Message:
    furthest: dict[str, int] = {}
    left, began = deadline_seconds, time.monotonic()
    try:
        child.send(request)
        while left > 0:
            message = child.receive(left)
            header: wire.Header = {"kind": ""} if message is None else message[0]
            if header["kind"] == "error":
                raise SpanError(header["message"]) if header["error"] == "SpanError" else wire.unpack_error(header)
            if message is not None and header["kind"] == answer:
                return message
            now = time.monotonic()
            if header["kind"] == "reached" and furthest.get(header["phase"], -1) < header["position"]:
                furthest[header["phase"]] = header["position"]
                began = now
            left = deadline_seconds - (now - began)
    except Ended:
        raise DecoderCrashed(f"{display_name(path)} crashed the decoder: {child.kill()}") from None
    raise DecoderStalled(f"{display_name(path)} kept the decoder for {deadline_seconds:g} s without getting any further")


def _end_with_parent(stdin: IO[bytes]) -> None:
    while stdin.read(1):
        pass
    os._exit(0)
