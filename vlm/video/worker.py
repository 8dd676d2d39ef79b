"""The decoding child: ``python -m vlm.video.worker`` answers requests on its standard input until that is closed.

It is a program of its own rather than a multiprocessing worker, which would import the user's main module again.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from base64 import b64decode
from typing import IO

import av

from vlm.errors import DecoderCrashed, VideoError
from vlm.types import Frames, VideoInfo
from vlm.video import wire
from vlm.video.decode import decode_request
from vlm.video.files import display_name
from vlm.video.probe import probe

_SECONDS_BETWEEN_REPORTS = 0.25


class _Reporter:
    """Sends what decoding reports, at most a few times a second."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._next_report = 0.0

    def reached(self, phase: str, position: int) -> None:
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + _SECONDS_BETWEEN_REPORTS
            wire.send(self._out, {"kind": "reached", "phase": phase, "position": position})

    def expects(self, start_seconds: float, end_seconds: float) -> None:
        wire.send(self._out, {"kind": "expects", "start_seconds": start_seconds, "end_seconds": end_seconds})


def main() -> None:
    """Serves requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole foreground group; the parent decides what it means
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever native code prints must not fall between the messages
    av.logging.set_level(None)
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    requests: queue.SimpleQueue[wire.Header] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        header = requests.get()
        try:
            _answer(header, out, threads)
        except VideoError as error:
            wire.send(out, wire.pack_error(error))
        except BrokenPipeError:
            os._exit(0)
        except Exception as error:  # the outermost door of this process
            traceback.print_exc()
            name = display_name(b64decode(header["path"]))
            wire.send(out, wire.pack_error(DecoderCrashed(f"{name} broke the decoder: {type(error).__name__}: {error}")))


def _listen(requests: queue.SimpleQueue[wire.Header]) -> None:
    """Queues the requests; ends the process when the parent is gone, whatever the main thread does at that moment."""
    while (message := wire.receive(sys.stdin.buffer)) is not None:
        requests.put(message[0])
    os._exit(0)


def _answer(header: wire.Header, out: IO[bytes], threads: int) -> None:
    if header["kind"] == "probe":
        wire.send(out, wire.pack_info(probe(b64decode(header["path"]), digest=header["digest"])))
        return
    for item in decode_request(wire.unpack_request(header), threads=threads, listener=_Reporter(out)):
        if isinstance(item, VideoInfo):
            wire.send(out, wire.pack_info(item))
        elif isinstance(item, Frames):
            head, blobs = wire.pack_frames(item)
            wire.send(out, head, *blobs)
        else:
            wire.send(out, wire.pack_outcome(item))


if __name__ == "__main__":
    main()
