"""Reading a store as people ask for it: records, sizes, changed files, health."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from vlm.errors import UnknownVideo
from vlm.index import segments
from vlm.index.database import FILE_NAME
from vlm.index.passport import Passport
from vlm.index.records import FileChanges, LibraryStats, Location, Quarantined, VideoRecord
from vlm.index.scan import stamp_of
from vlm.index.store import FileStamp, Store

if TYPE_CHECKING:
    from vlm.index.cache import IndexCache


def videos(store: Store, video_id: int | None = None) -> list[VideoRecord]:
    """Ready videos in order of id; only one of them where ``video_id`` is given."""
    only, values = ("", ()) if video_id is None else ("AND v.id = ?", (video_id,))
    places: dict[int, list[Location]] = {}
    for owner, path, num_bytes, mtime_ns in store.query("SELECT video_id, path, num_bytes, mtime_ns FROM locations ORDER BY path"):
        places.setdefault(owner, []).append(Location(os.fsdecode(path), num_bytes, mtime_ns))
    rows = store.query(
        "SELECT v.id, digest, container, codec, width, height, rotation, frame_rate, end_seconds, promised_seconds, num_rows, coverage,"
        f" reason, added_at, (SELECT count(*) FROM segments s WHERE s.video_id = v.id) FROM videos v WHERE ready {only} ORDER BY v.id",
        values,
    )
    return [
        VideoRecord(
            video_id=row[0],
            digest=row[1],
            locations=tuple(places.get(row[0], ())),
            container=row[2],
            codec=row[3],
            width=row[4],
            height=row[5],
            rotation_degrees=row[6],
            frame_rate=None if row[7] is None else float(Fraction(row[7])),
            end_seconds=row[8],
            duration_seconds=max(row[8], row[9] or 0.0),
            num_rows=row[10],
            coverage=row[11],
            reason=row[12],
            added_at=row[13],
            num_segments=row[14],
        )
        for row in rows
    ]


def quarantined(store: Store) -> list[Quarantined]:
    """Files that could not be added, in order of path."""
    rows = store.query("SELECT path, error, reason, at FROM quarantine ORDER BY path")
    return [Quarantined(os.fsdecode(path), error, reason, at) for path, error, reason, at in rows]


def resolve(store: Store, reference: str) -> int:
    """The video that an id or a path means. Raises UnknownVideo."""
    if reference.isdecimal() and store.query("SELECT 1 FROM videos WHERE id = ? AND ready", (int(reference),)):
        return int(reference)
    known = store.find_location(os.path.abspath(os.path.expanduser(os.fsencode(reference))))
    if known is None or not known[2]:
        raise UnknownVideo(
            f"the library in {str(store.folder)!r} holds no video {reference!r}: give an id or a path as `vlm list` shows them"
        )
    return known[0]


def changed_files(store: Store, *, budget_seconds: float | None = None) -> FileChanges:
    """Known files whose size or time of change is another one now, and those that are gone."""
    deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
    changed: list[str] = []
    missing: list[str] = []
    for path, num_bytes, mtime_ns in store.query("SELECT path, num_bytes, mtime_ns FROM locations ORDER BY path"):
        if deadline is not None and time.monotonic() > deadline:
            return FileChanges(tuple(changed), tuple(missing), complete=False)
        stamp = stamp_of(path)
        if stamp is None:
            missing.append(os.fsdecode(path))
        elif stamp != FileStamp(num_bytes, mtime_ns):
            changed.append(os.fsdecode(path))
    return FileChanges(tuple(changed), tuple(missing))


def stats(store: Store, held: Passport | None, cache: IndexCache, *, model: str | None) -> LibraryStats:
    """Sizes of the library, what it was made with, and the name of its trained ``model``."""
    ready, unfinished, rows, seconds = store.query(
        "SELECT ifnull(sum(ready), 0), ifnull(sum(NOT ready), 0), ifnull(sum(num_rows), 0), ifnull(sum(end_seconds * ready), 0) FROM videos"
    )[0]
    return LibraryStats(
        path=str(store.folder),
        library_id=store.library_id,
        encoder=None if held is None else held.encoder,
        fingerprint=None if held is None else held.fingerprint,
        dim=None if held is None else held.dim,
        sampling=None if held is None else held.sampling,
        model=model,
        num_videos=ready,
        num_locations=store.query("SELECT count(*) FROM locations")[0][0],
        num_segments=store.num_segments(),
        num_rows=rows,
        num_quarantined=store.query("SELECT count(*) FROM quarantine")[0][0],
        num_unfinished=unfinished,
        hours=seconds / 3600,
        library_bytes=sum(f.stat().st_size for f in store.folder.glob(FILE_NAME + "*")),
        index_bytes=cache.num_bytes(),
        generation=store.generation,
        index=cache.describe(),
    )


def vector_problems(store: Store, dim: int) -> list[str]:
    """Stored vectors of the wrong length, or that are not finite."""
    problems = []
    for video_id, pts_bytes, vector_bytes in store.query(
        "SELECT video_id, sum(length(pts)), sum(length(vectors)) FROM features GROUP BY video_id"
    ):
        if vector_bytes * 8 != pts_bytes * 2 * dim:
            problems.append(f"video {video_id} holds {vector_bytes} bytes of vectors for {pts_bytes // 8} rows of width {dim}")
    for row in store.query("SELECT DISTINCT video_id FROM segments WHERE length(vector) != ?", (2 * dim,)):
        problems.append(f"video {row[0]} has a segment vector that is not {dim} wide")
    if not problems:
        for ids, vectors in store.vector_blocks(dim):
            problems += [f"segment {i} holds a vector that is not finite" for i in ids[~np.isfinite(vectors).all(1)]]
    return problems


def cut_again(store: Store, pool: segments.Pool) -> None:
    """Cuts every ready video into segments from its stored features, one commit a video; ids are new, features stay."""
    for video_id in _ready(store):
        with store.transaction():
            _cut(store, video_id, pool)


def cut_all(store: Store, pool: segments.Pool, *, on_progress: Callable[[int, int], None] | None = None) -> None:
    """As ``cut_again``, inside the caller's transaction: all videos or none. ``on_progress`` hears how many of how many are done."""
    wanted = _ready(store)
    for done, video_id in enumerate(wanted, start=1):
        _cut(store, video_id, pool)
        if on_progress is not None:
            on_progress(done, len(wanted))


def _ready(store: Store) -> list[int]:
    return [row[0] for row in store.query("SELECT id FROM videos WHERE ready ORDER BY id")]


def _cut(store: Store, video_id: int, pool: segments.Pool) -> None:
    features = store.features(video_id)
    cut = segments.cut(features)
    store.replace_segments(video_id, cut, pool(features, cut))
