"""Files to vectors on all cores: decoding children beside encoding threads, with bounded queues between them.

    file workers  (hash, ask, decode in a supervised child)  ──frames──►  encode workers  ──events──►  the one who asked

One encoding thread per core, each with a single intra-op thread, shares two cores with the decoders better than one thread with two:
there is no barrier at which a core waits for the other. Every event arrives in one queue; whoever reads it owns the database.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vlm.encoders.base import Encoder, WindowEncoder
from vlm.encoders.threads import one_thread
from vlm.errors import BadVectors, VideoError
from vlm.index.scan import FileEntry
from vlm.types import DecodeOutcome, Frames, Thumbnail, VideoInfo
from vlm.video.probe import content_digest
from vlm.video.sample import Sampling
from vlm.video.supervise import DecodeRequest, SupervisedDecoder

ENCODE_ROWS_CPU, ENCODE_ROWS_GPU = 16, 64
THUMBNAIL_SECONDS = 10.0
# Frames of a chunk that are asked whether they lie outside what the encoder knows: enough for a majority over a video.
JUDGED_A_CHUNK = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """A file worker read ``entry`` and asks what to do with its content; it waits for ``answer``."""

    entry: FileEntry
    digest: str
    answer: queue.SimpleQueue[Decision]


@dataclass(frozen=True, slots=True)
class Decision:
    """``decode`` the file, rows after ``after_pts`` only; or leave it."""

    decode: bool
    after_pts: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A file's header was read."""

    entry: FileEntry
    info: VideoInfo


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded rows (n,) and (n, d) of a file; chunk numbers count from 0 and may arrive in any order.

    Of ``num_judged`` frames, ``num_unfamiliar`` lie outside what the encoder says that it knows.
    """

    entry: FileEntry
    chunk: int
    pts: NDArray[np.int64]
    vectors: NDArray[np.float32]
    thumbnails: tuple[Thumbnail, ...]
    num_judged: int = 0
    num_unfamiliar: int = 0


@dataclass(frozen=True, slots=True)
class Decoded:
    """All of a file was handed to the encoders, in ``num_chunks`` chunks."""

    entry: FileEntry
    num_chunks: int
    outcome: DecodeOutcome


@dataclass(frozen=True, slots=True)
class Failed:
    """A file cannot be used; what arrived before may be kept."""

    entry: FileEntry
    error: VideoError | BadVectors


@dataclass(frozen=True, slots=True)
class Broken:
    """A worker met an error that is not about one file."""

    error: BaseException


Event = Claim | Opened | Rows | Decoded | Failed | Broken


@dataclass(frozen=True, slots=True)
class _Chunk:
    entry: FileEntry
    number: int
    frames: Frames
    times: NDArray[np.float64]


@dataclass(slots=True)
class FramePipeline:
    """Runs the workers over ``entries``; ``events`` is to be read until every entry is settled.

    Use as a context manager: leaving it stops all workers and ends the children, whatever they do.
    """

    entries: Sequence[FileEntry]
    encoder: Encoder
    sampling: Sampling
    deadline_seconds: float = 60.0
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    _frames: queue.Queue[_Chunk | None] = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _decoders: list[SupervisedDecoder] = field(default_factory=list)

    def __enter__(self) -> FramePipeline:
        cores = os.cpu_count() or 1
        on_cpu = str(getattr(self.encoder, "device", "cpu")).startswith("cpu")
        num_encoders = cores if on_cpu and getattr(self.encoder, "thread_safe", False) else 1
        rows = ENCODE_ROWS_CPU if on_cpu else ENCODE_ROWS_GPU
        self._frames = queue.Queue(maxsize=2 * num_encoders)
        iterator = iter(self.entries)
        for _ in range(max(1, min(cores, len(self.entries)))):
            decoder = SupervisedDecoder(threads=min(cores, 4), deadline_seconds=self.deadline_seconds)
            self._decoders.append(decoder)
            self._start(self._work_on_files, iterator, decoder, rows)
        for _ in range(num_encoders):
            self._start(self._encode, num_encoders > 1, rows)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for decoder in self._decoders:
            decoder.close()
        while any(t.is_alive() for t in self._threads):
            with suppress(queue.Empty):  # room for a worker that waits to hand over frames
                self._frames.get_nowait()
            with suppress(queue.Full):
                self._frames.put_nowait(None)
            for thread in self._threads:
                thread.join(timeout=0.02)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                if not self._stop.is_set():
                    self.events.put(Broken(error))

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work_on_files(self, entries: Iterator[FileEntry], decoder: SupervisedDecoder, rows: int) -> None:
        while not self._stop.is_set():
            with self._lock:
                entry = next(entries, None)
            if entry is None:
                return
            try:
                digest = content_digest(entry.path)
                answer: queue.SimpleQueue[Decision] = queue.SimpleQueue()
                self.events.put(Claim(entry, digest, answer))
                decision = self._wait(answer)
                if decision is not None and decision.decode:
                    self._decode(entry, digest, decision.after_pts, decoder, rows)
            except VideoError as error:
                if not self._stop.is_set():
                    self.events.put(Failed(entry, error))

    def _wait(self, answer: queue.SimpleQueue[Decision]) -> Decision | None:
        while not self._stop.is_set():
            with suppress(queue.Empty):
                return answer.get(timeout=0.1)
        return None

    def _decode(self, entry: FileEntry, digest: str, after_pts: int | None, decoder: SupervisedDecoder, rows: int) -> None:
        request = DecodeRequest(
            path=entry.path,
            digest=digest,
            sampling=self.sampling,
            framing=self.encoder.preprocessing.framing,
            after_pts=after_pts,
            thumbnail_seconds=THUMBNAIL_SECONDS,
            batch_rows=rows,
        )
        number, clock = 0, None
        for item in decoder.decode(request):
            if isinstance(item, VideoInfo):
                clock = item.clock
                self.events.put(Opened(entry, item))
            elif isinstance(item, Frames):
                assert clock is not None, "a decoder tells of the file before its frames"
                self._hand_over(_Chunk(entry, number, item, clock.seconds(item.pts)))
                number += 1
            else:
                self.events.put(Decoded(entry, number, item))
            if self._stop.is_set():
                return

    def _hand_over(self, chunk: _Chunk) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                self._frames.put(chunk, timeout=0.1)
                return

    def _encode(self, alone_on_its_core: bool, rows: int) -> None:
        with one_thread() if alone_on_its_core else nullcontext():
            while not self._stop.is_set() and (chunk := self._frames.get()) is not None:
                chunks = [chunk]
                while sum(len(c.frames.pts) for c in chunks) < rows:
                    try:
                        more = self._frames.get_nowait()
                    except queue.Empty:
                        break
                    if more is None:
                        break
                    chunks.append(more)
                self._encode_together(chunks)

    def _encode_together(self, chunks: list[_Chunk]) -> None:
        pixels = chunks[0].frames.pixels if len(chunks) == 1 else np.concatenate([c.frames.pixels for c in chunks])
        times = np.concatenate([c.times for c in chunks])
        try:
            vectors = (
                self.encoder.encode_windows(pixels, times)
                if isinstance(self.encoder, WindowEncoder)
                else self.encoder.encode_frames(pixels)
            )
            if not np.isfinite(vectors).all():
                raise BadVectors(f"{self.encoder.name!r} gave a vector that is not finite for a frame of this file")
        except BadVectors as error:
            if len(chunks) > 1:  # find the file whose frames they are
                for chunk in chunks:
                    self._encode_together([chunk])
            else:
                self.events.put(Failed(chunks[0].entry, error))
            return
        at = 0
        for chunk in chunks:
            part = vectors[at : at + len(chunk.frames.pts)]
            at += len(part)
            pts = chunk.frames.pts if chunk.frames.pts.ndim == 1 else chunk.frames.pts[:, 0]
            judged, unfamiliar = self._judge(chunk.frames.pixels)
            self.events.put(Rows(chunk.entry, chunk.number, pts, part, chunk.frames.thumbnails, judged, unfamiliar))

    def _judge(self, pixels: NDArray[np.uint8]) -> tuple[int, int]:
        """How many of some frames were looked at, and how many of these lie outside what the encoder knows."""
        judge: Callable[[NDArray[np.uint8]], NDArray[np.bool_]] | None = getattr(self.encoder, "unfamiliar", None)
        if judge is None:
            return 0, 0
        some = pixels[:: max(1, len(pixels) // JUDGED_A_CHUNK)]
        return len(some), int(judge(some).sum())
