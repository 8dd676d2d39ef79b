"""Adding videos: which files are new, what became of each, and every row safely in the store.

The pipeline's events are read by one thread, which alone writes. Rows are committed while a file is being decoded, so that a run that is
killed goes on inside a long video; a video is found by search only when it is whole and its segments are there.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from vlm.encoders.base import Encoder
from vlm.errors import BadVectors, VideoError, VideoUnreadable
from vlm.index import segments
from vlm.index.pipeline import Broken, Claim, Decision, Decoded, Failed, FramePipeline, Opened, Rows
from vlm.index.records import AddEvent, AddProgress, AddReport, FileDone, FileStatus
from vlm.index.scan import FileEntry, Scan, stamp_of
from vlm.index.store import Store
from vlm.types import DecodeOutcome, VideoInfo
from vlm.video.sample import Sampling

COMMIT_ROWS = 256
COMMIT_SECONDS = 5.0
REPORT_SECONDS = 0.25


@dataclass(slots=True)
class _Job:
    """One file between its claim and its end."""

    entry: FileEntry
    digest: str
    video_id: int | None = None
    stored_rows: int = 0
    resumed: bool = False
    info: VideoInfo | None = None
    next_chunk: int = 0
    early: dict[int, Rows] = field(default_factory=dict)
    pending: list[Rows] = field(default_factory=list)
    pending_since: float = 0.0
    outcome: DecodeOutcome | None = None
    num_chunks: int | None = None
    seconds: float = 0.0
    followers: list[FileEntry] = field(default_factory=list)
    num_judged: int = 0
    num_unfamiliar: int = 0

    @property
    def name(self) -> str:
        return os.fsdecode(self.entry.path)


class Adder:
    """One run of ``add``; ``run`` may be called once.

    ``prepare`` gives the encoder, the sampling and what pools segments; it is called only when a file has to be read, so that a run
    without news loads no model.
    """

    def __init__(
        self,
        store: Store,
        prepare: Callable[[], tuple[Encoder, Sampling, segments.Pool]],
        *,
        retry: bool = False,
        deadline_seconds: float = 60.0,
        on_event: Callable[[AddEvent], None] | None = None,
    ) -> None:
        self._store = store
        self._prepare = prepare
        self._retry = retry
        self._deadline_seconds = deadline_seconds
        self._tell = on_event or (lambda event: None)
        self._jobs: dict[bytes, _Job] = {}
        self._by_digest: dict[str, _Job] = {}
        self._done: list[FileDone] = []
        self._encoder: Encoder | None = None
        self._pool: segments.Pool = segments.pool
        self._unfamiliar: list[str] = []
        self._num_rows = 0
        self._seconds = 0.0
        self._started = self._reported = time.monotonic()
        self._total_files = self._total_bytes = self._done_bytes = 0

    def run(self, scan: Scan) -> AddReport:
        """Adds what is new or changed among the files of ``scan``.

        Ctrl-C ends it early: what was encoded is committed and the report says ``interrupted``.
        """
        self._total_files, self._total_bytes = len(scan.files) + len(scan.unusable), scan.num_bytes
        for unusable in scan.unusable:
            self._settle(unusable.path, "quarantined", None, reason=f"VideoUnreadable: {unusable.reason}")
        waiting = [entry for entry in scan.files if not self._settled_before(entry)]
        with _deferred_interrupt() as interrupted:
            if waiting:
                self._run_pipeline(waiting, interrupted)
            for job in self._jobs.values():
                self._flush(job)
        return AddReport(
            files=tuple(self._done),
            num_rows=self._num_rows,
            seconds_of_video=self._seconds,
            elapsed_seconds=time.monotonic() - self._started,
            ignored_files=scan.ignored,
            interrupted=interrupted.is_set(),
            warnings=self._scope_warnings(),
        )

    def _scope_warnings(self) -> tuple[str, ...]:
        """Says so where videos do not look like anything that the encoder knows."""
        if not self._unfamiliar or self._encoder is None:
            return ()
        scope = getattr(self._encoder, "scope", "little")
        which = f"{self._unfamiliar[0]!r}" + (f" and {len(self._unfamiliar) - 1:,} more" if len(self._unfamiliar) > 1 else "")
        return (
            f"{which}: most frames look like nothing that {self._encoder.name!r} knows, which is {scope}. "
            "Searches in them will find nothing of use; a model of the real world is needed: vlm models lists some",
        )

    def _run_pipeline(self, waiting: list[FileEntry], interrupted: threading.Event) -> None:
        open_files = {entry.path for entry in waiting}
        encoder, sampling, self._pool = self._prepare()
        self._encoder = encoder
        with FramePipeline(waiting, encoder, sampling, self._deadline_seconds) as pipeline:
            while open_files and not interrupted.is_set():
                try:
                    event = pipeline.events.get(timeout=REPORT_SECONDS)
                except queue.Empty:
                    self._report_progress()
                    continue
                if isinstance(event, Broken):
                    raise event.error
                if event.entry.path in open_files:  # of a file that failed, more may still be on its way
                    open_files.difference_update(self._handle(event))
                self._report_progress()

    def _settled_before(self, entry: FileEntry) -> bool:
        known = self._store.find_location(entry.path)
        if known is not None and known[1] == entry.stamp and known[2]:
            self._settle(entry.path, "unchanged", known[0], num_bytes=entry.stamp.num_bytes)
            return True
        if not self._retry and (bad := self._store.find_quarantined(entry.path)) is not None and bad[0] == entry.stamp:
            self._settle(
                entry.path,
                "quarantined",
                None,
                reason=f"{bad[1]}: {bad[2]} (as before; try again with --retry)",
                num_bytes=entry.stamp.num_bytes,
            )
            return True
        return False

    def _handle(self, event: Claim | Opened | Rows | Decoded | Failed) -> list[bytes]:
        """Takes in one event; the paths that are settled with it."""
        if isinstance(event, Claim):
            return self._claim(event)
        job = self._jobs.get(event.entry.path)
        if isinstance(event, Failed):
            return self._fail(event.entry, job, event.error)
        assert job is not None, "a file is claimed before anything else is told of it"
        if isinstance(event, Opened):
            job.info = event.info
        elif isinstance(event, Rows):
            self._take_rows(job, event)
        elif isinstance(event, Decoded):
            job.outcome, job.num_chunks = event.outcome, event.num_chunks
        return self._finish(job) if job.num_chunks == job.next_chunk else []

    def _claim(self, claim: Claim) -> list[bytes]:
        entry = claim.entry
        if (running := self._by_digest.get(claim.digest)) is not None:
            running.followers.append(entry)
            claim.answer.put(Decision(decode=False))
            return []
        known = self._store.find_digest(claim.digest)
        if known is not None and known[1]:
            claim.answer.put(Decision(decode=False))
            self._link(entry, known[0])
            return [entry.path]
        job = _Job(entry, claim.digest)
        after_pts = None
        if known is not None:
            job.video_id, job.resumed = known[0], True
            after_pts = self._store.last_pts(known[0])
            job.stored_rows = self._store.num_rows(known[0])
        self._jobs[entry.path] = self._by_digest[claim.digest] = job
        claim.answer.put(Decision(decode=True, after_pts=after_pts))
        return []

    def _link(self, entry: FileEntry, video_id: int) -> None:
        """Records that ``entry`` holds a video that is already there."""
        before = self._store.find_location(entry.path)
        with self._store.transaction():
            self._place(entry, video_id)
        status: FileStatus = "unchanged" if before is not None and before[0] == video_id else "linked" if before is None else "updated"
        self._settle(entry.path, status, video_id, num_bytes=entry.stamp.num_bytes)

    def _place(self, entry: FileEntry, video_id: int) -> None:
        orphan = self._store.set_location(entry.path, video_id, entry.stamp)
        if orphan is not None:
            self._store.remove_video(orphan)

    def _take_rows(self, job: _Job, rows: Rows) -> None:
        job.early[rows.chunk] = rows
        while (ready := job.early.pop(job.next_chunk, None)) is not None:
            job.next_chunk += 1
            job.pending_since = job.pending_since if job.pending else time.monotonic()
            job.pending.append(ready)
            self._num_rows += len(ready.pts)
            job.num_judged += ready.num_judged
            job.num_unfamiliar += ready.num_unfamiliar
            if job.info is not None and len(ready.pts):
                self._advance(job, float(job.info.clock.exact_seconds(int(ready.pts[-1]))))
        if sum(len(r.pts) for r in job.pending) >= COMMIT_ROWS or (job.pending and time.monotonic() - job.pending_since > COMMIT_SECONDS):
            self._flush(job)

    def _advance(self, job: _Job, seconds: float) -> None:
        self._seconds += max(0.0, seconds - job.seconds)
        job.seconds = max(job.seconds, seconds)

    def _flush(self, job: _Job) -> None:
        """Commits the rows that are complete up to here."""
        if job.pending:
            with self._store.transaction():
                self._write_rows(job)

    def _write_rows(self, job: _Job) -> None:
        if not job.pending:
            return
        assert job.info is not None
        if job.video_id is None:
            job.video_id = self._store.begin_video(job.info)
        pts, vectors = np.concatenate([r.pts for r in job.pending]), np.concatenate([r.vectors for r in job.pending])
        self._store.append_rows(job.video_id, pts, vectors, [t for r in job.pending for t in r.thumbnails])
        job.stored_rows += len(pts)
        job.pending.clear()

    def _finish(self, job: _Job) -> list[bytes]:
        """Makes the video of ``job`` whole, in one transaction with its last rows and its place."""
        assert job.outcome is not None
        if stamp_of(job.entry.path) != job.entry.stamp:
            return self._fail(
                job.entry, job, VideoUnreadable(f"{job.name!r} changed while it was read: run the same command again"), keep=False
            )
        outcome = job.outcome
        status: FileStatus = "resumed" if job.resumed else "added" if self._store.find_location(job.entry.path) is None else "updated"
        with self._store.transaction():
            self._write_rows(job)
            assert job.video_id is not None
            features = self._store.features_until(job.video_id, outcome.end_seconds)
            cut = segments.cut(features)
            self._store.finish_video(
                job.video_id,
                end_seconds=features.end,
                num_rows=len(features.times),
                coverage=outcome.coverage,
                reason=outcome.reason,
                segments=cut,
                vectors=self._pool(features, cut),
            )
            self._place(job.entry, job.video_id)
        self._advance(job, features.end)
        if job.num_unfamiliar > job.num_judged / 2:
            self._unfamiliar.append(job.name)
        self._settle(
            job.entry.path, status, job.video_id, coverage=outcome.coverage, reason=outcome.reason, num_bytes=job.entry.stamp.num_bytes
        )
        for follower in job.followers:
            self._link(follower, job.video_id)
        return self._close(job)

    def _fail(self, entry: FileEntry, job: _Job | None, error: VideoError | BadVectors, *, keep: bool = True) -> list[bytes]:
        """Quarantines a file; rows that an earlier run stored of it are kept as a partial video."""
        reason = str(error)
        if job is not None and keep and isinstance(error, VideoError) and (job.stored_rows or job.pending):
            self._flush(job)
            return self._finish_damaged(job, reason)
        entries = [entry, *(job.followers if job else ())]
        with self._store.transaction():
            if job is not None and job.video_id is not None:
                self._store.remove_video(job.video_id)
            for each in entries:
                self._store.quarantine(each.path, each.stamp, type(error).__name__, reason)
        for each in entries:
            self._settle(each.path, "quarantined", None, reason=f"{type(error).__name__}: {reason}", num_bytes=each.stamp.num_bytes)
        return self._close(job) if job is not None else [entry.path]

    def _finish_damaged(self, job: _Job, reason: str) -> list[bytes]:
        assert job.video_id is not None
        last_pts = self._store.last_pts(job.video_id)
        assert last_pts is not None
        last = float(self._store.clock(job.video_id).exact_seconds(last_pts))
        promised = job.info.promised_seconds if job.info is not None else None
        coverage = min(1.0, last / promised) if promised else 0.0
        job.outcome = DecodeOutcome(status="partial", coverage=coverage, end_seconds=last, reason=reason)
        return self._finish(job)

    def _close(self, job: _Job) -> list[bytes]:
        self._jobs.pop(job.entry.path, None)
        self._by_digest.pop(job.digest, None)
        return [job.entry.path, *(follower.path for follower in job.followers)]

    def _settle(
        self, path: bytes, status: FileStatus, video_id: int | None, *, coverage: float = 1.0, reason: str = "", num_bytes: int = 0
    ) -> None:
        done = FileDone(os.fsdecode(path), status, video_id, coverage, reason)
        self._done.append(done)
        self._done_bytes += num_bytes
        self._tell(done)

    def _report_progress(self) -> None:
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        under_way = sum(
            job.entry.stamp.num_bytes * min(1.0, job.seconds / job.info.promised_seconds)
            for job in self._jobs.values()
            if job.info is not None and job.info.promised_seconds
        )
        self._tell(
            AddProgress(
                total_files=self._total_files,
                done_files=len(self._done),
                total_bytes=self._total_bytes,
                done_bytes=self._done_bytes + under_way,
                num_rows=self._num_rows,
                seconds_of_video=self._seconds,
                elapsed_seconds=now - self._started,
            )
        )


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into a set event, so that nothing is torn in the middle of a commit; the second one raises at once."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
