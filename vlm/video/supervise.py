"""Decoding in a child process under a deadline: a hang or a crash of native code costs one file, never the parent.

The child is kept for many files and started again when it has died. Imports no PyAV.
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from types import TracebackType

from vlm.errors import DecoderCrashed, DecoderStalled, InputError, VideoError
from vlm.types import DecodeOutcome, Frames, VideoInfo
from vlm.video import wire
from vlm.video.child import Child, Ended, worker_command
from vlm.video.files import display_name
from vlm.video.request import DecodeRequest

__all__ = ["DecodeRequest", "SupervisedDecoder"]


class SupervisedDecoder:
    """A decoder in a child process. Used by one thread at a time; several instances run beside each other.

    ``deadline_seconds`` is how long the child may work without getting any further. Time in which the caller is busy with the frames does
    not count. ``command`` replaces the worker's command line, for tests.
    """

    def __init__(self, *, threads: int = 1, deadline_seconds: float = 60.0, command: Sequence[str] | None = None) -> None:
        if threads < 1:
            raise InputError(f"threads must be at least 1, got {threads}")
        if deadline_seconds <= 0:
            raise InputError(f"deadline_seconds must be positive, got {deadline_seconds:g}")
        self._deadline_seconds = deadline_seconds
        self._command = list(command) if command is not None else worker_command(threads)
        self._child: Child | None = None

    def __enter__(self) -> SupervisedDecoder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def child_pid(self) -> int | None:
        """The process id of the child; None while there is none."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """Ends the child. A later call starts another."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def decode(self, request: DecodeRequest) -> Iterator[VideoInfo | Frames | DecodeOutcome]:
        """VideoInfo, then Frames in the order of time, then DecodeOutcome.

        A child that hangs or dies after the first frames makes the outcome ``partial``. Closing the iterator early ends the child; the
        next call starts another.

        Raises:
            VideoError: the file yields no usable frame; the subclass says why.
        """
        path = os.path.abspath(request.path)
        received = _Received(request)
        is_done = False
        try:
            for header, blobs in self._exchange(wire.pack_request(request) | {"path": b64encode(path).decode()}, path):
                item = received.take(header, blobs)
                if item is not None:
                    is_done = isinstance(item, DecodeOutcome)
                    yield item
                if is_done:
                    return
        except (DecoderStalled, DecoderCrashed) as error:
            self.close()
            is_done = True
            if received.last_pts is None:
                raise
            yield received.partial(str(error))
        except VideoError:
            is_done = True
            raise
        finally:
            if not is_done:
                self.close()

    def probe(self, path: bytes, digest: str = "") -> VideoInfo:
        """What ``vlm.video.probe.probe`` says of the file, from the child.

        Raises:
            VideoError: as ``probe``, and DecoderStalled or DecoderCrashed.
        """
        path = os.path.abspath(path)
        is_done = False
        try:
            for header, _ in self._exchange({"kind": "probe", "path": b64encode(path).decode(), "digest": digest}, path):
                if header["kind"] == "info":
                    is_done = True
                    return wire.unpack_info(header)
        except (DecoderStalled, DecoderCrashed):
            raise
        except VideoError:
            is_done = True
            raise
        finally:
            if not is_done:
                self.close()
        raise AssertionError("an exchange ends with an answer or an error")

    def _exchange(self, request: wire.Header, path: bytes) -> Iterator[wire.Message]:
        """The messages that answer ``request``, without end; the caller stops at the one that it knows as the last."""
        child = self._ask(request)
        furthest: dict[str, int] = {}
        left = self._deadline_seconds
        while True:
            began = time.monotonic()
            try:
                message = child.receive(left)
            except Ended:
                raise DecoderCrashed(f"{display_name(path)} crashed the decoder: {child.kill()}") from None
            left -= time.monotonic() - began
            if message is not None:
                header, blobs = message
                if header["kind"] == "error":
                    raise wire.unpack_error(header)
                if header["kind"] != "reached" or furthest.get(header["phase"], -1) < header["position"]:
                    left = self._deadline_seconds
                if header["kind"] == "reached":
                    furthest[header["phase"]] = max(furthest.get(header["phase"], -1), header["position"])
                else:
                    yield header, blobs
            if left <= 0:
                raise DecoderStalled(f"{display_name(path)} kept the decoder for {self._deadline_seconds:g} s without getting any further")

    def _ask(self, request: wire.Header) -> Child:
        """A child that has been sent ``request``; one that died since the last file is replaced."""
        if self._child is not None:
            try:
                self._child.send(request)
                return self._child
            except Ended:
                self.close()
        self._child = Child(self._command)
        try:
            self._child.send(request)
        except Ended:
            pass  # receiving tells how it ended
        return self._child


class _Received:
    """What has come of one file so far."""

    def __init__(self, request: DecodeRequest) -> None:
        self._request = request
        self._info: VideoInfo | None = None
        self._expected: tuple[float, float] | None = None
        self._num_rows = 0
        self._first_pts = 0
        self.last_pts: int | None = None

    def take(self, header: wire.Header, blobs: list[bytearray]) -> VideoInfo | Frames | DecodeOutcome | None:
        """The item of one message; None where the message is for the supervisor alone."""
        if header["kind"] == "info":
            self._info = wire.unpack_info(header)
            return self._info
        if header["kind"] == "outcome":
            return wire.unpack_outcome(header)
        if header["kind"] == "expects":
            self._expected = header["start_seconds"], header["end_seconds"]
            return None
        frames = wire.unpack_frames(header, blobs)
        if not self._num_rows:
            self._first_pts = int(frames.pts[0].flat[0])
        self._num_rows += len(frames.pts)
        self.last_pts = int(frames.pts[-1].flat[0])
        return frames

    def partial(self, reason: str) -> DecodeOutcome:
        """The outcome of a file that broke off: the last row counts as long as the rows before it on average."""
        assert self._info is not None
        assert self._expected is not None
        assert self.last_pts is not None
        clock, (start, end) = self._info.clock, self._expected
        last = float(clock.exact_seconds(self.last_pts))
        ticks = max(1, (self.last_pts - self._first_pts) // max(1, self._num_rows - 1))
        reached = min(end, last + float(ticks * clock.time_base))
        return DecodeOutcome(status="partial", coverage=min(1.0, (reached - start) / (end - start)), end_seconds=reached, reason=reason)
