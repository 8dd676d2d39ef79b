"""The one truth of a library: a SQLite file with videos, their features, segments and thumbnails.

Everything else (the FAISS file) is a cache of it. Write-ahead logging lets many processes read while one writes; a commit is safe
against the end of the process at any moment. Ids are 64-bit integers that are never used twice (AUTOINCREMENT).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm.errors import UnknownVideo
from vlm.index.database import Database
from vlm.types import Clock, Features, Segment, Span, Thumbnail, VideoInfo


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment as search reads it back."""

    segment_id: int
    video_id: int
    level: int
    span: Span


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What tells cheaply whether a file is still the one that was read."""

    num_bytes: int
    mtime_ns: int


class Store:
    """One connection to a library's SQLite file. Used by one thread.

    Raises, from any method: LibraryDamaged, LibraryFull, LibraryReadOnly for what SQLite reports of the file.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    @classmethod
    def create(cls, folder: Path) -> Store:
        """A new, empty store in ``folder``; an existing one is opened instead."""
        return cls(Database.create(folder))

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> Store:
        """The store in ``folder``; read-only where asked for or where the folder cannot be written.

        Raises:
            LibraryNotFound: there is none.
            LibraryTooNew: it was written by a later format.
            LibraryDamaged: the file is no library, or SQLite cannot read it.
        """
        return cls(Database.open(folder, read_only=read_only))

    @property
    def folder(self) -> Path:
        """Where the library lies."""
        return self._db.folder

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        return self._db.read_only

    def close(self) -> None:
        """Ends the connection; harmless when repeated."""
        self._db.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside are committed together, or none of them."""
        return self._db.transaction()

    def query(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple]:  # type: ignore[type-arg]
        """All rows of a reading statement."""
        return self._db.query(sql, values)

    def meta(self, key: str) -> str | bytes | int | None:
        """The value stored under ``key``; None where there is none."""
        return self._db.meta(key)

    def set_meta(self, key: str, value: str | bytes | int) -> None:
        """Stores ``value`` under ``key``; inside a transaction."""
        self._db.set_meta(key, value)

    def forget_meta(self, key: str) -> None:
        """Drops what is stored under ``key``; inside a transaction."""
        self._db.write("DELETE FROM meta WHERE key = ?", (key,))

    @property
    def library_id(self) -> str:
        """What tells this library from every other."""
        return str(self.meta("library_id"))

    @property
    def generation(self) -> int:
        """A number that grows with every change of the segments."""
        return int(self.meta("generation") or 0)

    @property
    def compacted_generation(self) -> int:
        """Caches older than this cannot be brought up to date: their tombstones are gone."""
        return int(self.meta("compacted") or 0)

    def _next_generation(self) -> int:
        generation = self.generation + 1
        self.set_meta("generation", generation)
        return generation

    def begin_video(self, info: VideoInfo) -> int:
        """The id of a new, unfinished video; nothing of it is found until ``finish_video``."""
        cursor = self._db.write(
            "INSERT INTO videos"
            " (digest, container, codec, width, height, rotation, frame_rate, time_base, zero, num_bytes, promised_seconds)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                info.digest,
                info.container,
                info.codec,
                info.width,
                info.height,
                info.rotation_degrees,
                None if info.frame_rate is None else str(info.frame_rate),
                str(info.clock.time_base),
                str(info.clock.zero),
                info.num_bytes,
                info.promised_seconds,
            ),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def append_rows(
        self, video_id: int, pts: NDArray[np.int64], vectors: NDArray[np.float32], thumbnails: Iterable[Thumbnail] = ()
    ) -> None:
        """Appends feature rows (n,) and (n, d) to an unfinished video; vectors are kept as float16."""
        self._db.write(
            "INSERT INTO features SELECT ?1, ifnull(max(chunk) + 1, 0), ?2, ?3 FROM features WHERE video_id = ?1",
            (video_id, pts.astype("<i8").tobytes(), vectors.astype("<f2").tobytes()),
        )
        for thumbnail in thumbnails:
            self._db.write("INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)", (video_id, thumbnail.pts, thumbnail.jpeg))

    def finish_video(
        self,
        video_id: int,
        *,
        end_seconds: float,
        num_rows: int,
        coverage: float,
        reason: str,
        segments: Sequence[Segment],
        vectors: NDArray[np.float32],
    ) -> None:
        """Makes a video ready: its outcome, and its segments with vectors (n, d), found from now on."""
        self._db.write(
            "UPDATE videos SET ready = 1, end_seconds = ?, num_rows = ?, coverage = ?, reason = ? WHERE id = ?",
            (end_seconds, num_rows, coverage, reason, video_id),
        )
        self.replace_segments(video_id, segments, vectors)

    def replace_segments(self, video_id: int, segments: Sequence[Segment], vectors: NDArray[np.float32]) -> None:
        """Puts ``segments`` in the place of the video's present ones, under new ids."""
        generation = self._next_generation()
        self._bury("video_id = ?", (video_id,), generation)
        halves = vectors.astype("<f2")
        self._db.write_many(
            "INSERT INTO segments (video_id, generation, level, first, last, start, end, vector) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (video_id, generation, s.level, s.first, s.last, s.span.start, s.span.end, v.tobytes())
                for s, v in zip(segments, halves, strict=True)
            ],
        )

    def remove_video(self, video_id: int) -> None:
        """Removes a video with all that belongs to it; its segments leave tombstones for the vector cache."""
        self._bury("video_id = ?", (video_id,), self._next_generation())
        self._db.write("DELETE FROM videos WHERE id = ?", (video_id,))

    def _bury(self, where: str, values: tuple[int, ...], generation: int) -> None:
        self._db.write(f"INSERT INTO tombstones SELECT id, {generation} FROM segments WHERE {where}", values)
        self._db.write(f"DELETE FROM segments WHERE {where}", values)

    def set_location(self, path: bytes, video_id: int, stamp: FileStamp) -> int | None:
        """Records that ``path`` holds the video. Returns the video that it held before, where that one has no other location left."""
        before = self._db.one("SELECT video_id FROM locations WHERE path = ?", (path,))
        self._db.write("INSERT OR REPLACE INTO locations VALUES (?, ?, ?, ?)", (path, video_id, stamp.num_bytes, stamp.mtime_ns))
        self._db.write("DELETE FROM quarantine WHERE path = ?", (path,))
        if before is None or before[0] == video_id or self._db.one("SELECT 1 FROM locations WHERE video_id = ?", (before[0],)):
            return None
        return int(before[0])

    def forget_location(self, path: bytes) -> None:
        """Drops one location; its video stays."""
        self._db.write("DELETE FROM locations WHERE path = ?", (path,))

    def quarantine(self, path: bytes, stamp: FileStamp, error: str, reason: str) -> None:
        """Records a file that could not be added."""
        self._db.write(
            "INSERT OR REPLACE INTO quarantine (path, num_bytes, mtime_ns, error, reason) VALUES (?, ?, ?, ?, ?)",
            (path, stamp.num_bytes, stamp.mtime_ns, error, reason),
        )

    def find_location(self, path: bytes) -> tuple[int, FileStamp, bool] | None:
        """(video id, stamp, ready) of a known path."""
        row = self._db.one(
            "SELECT video_id, l.num_bytes, mtime_ns, ready FROM locations l JOIN videos v ON v.id = video_id WHERE path = ?", (path,)
        )
        return None if row is None else (row[0], FileStamp(row[1], row[2]), bool(row[3]))

    def find_quarantined(self, path: bytes) -> tuple[FileStamp, str, str] | None:
        """(stamp, error, reason) of a quarantined path."""
        row = self._db.one("SELECT num_bytes, mtime_ns, error, reason FROM quarantine WHERE path = ?", (path,))
        return None if row is None else (FileStamp(row[0], row[1]), row[2], row[3])

    def find_digest(self, digest: str) -> tuple[int, bool] | None:
        """(video id, ready) of a known content."""
        row = self._db.one("SELECT id, ready FROM videos WHERE digest = ?", (digest,))
        return None if row is None else (row[0], bool(row[1]))

    def last_pts(self, video_id: int) -> int | None:
        """The timestamp of the last stored row; None before the first."""
        row = self._db.one("SELECT pts FROM features WHERE video_id = ? ORDER BY chunk DESC LIMIT 1", (video_id,))
        return None if row is None else int(np.frombuffer(row[0], "<i8")[-1])

    def clock(self, video_id: int) -> Clock:
        """The clock that turns the video's timestamps into seconds."""
        row = self._db.one("SELECT time_base, zero FROM videos WHERE id = ?", (video_id,))
        if row is None:
            raise self.unknown(video_id)
        return Clock(Fraction(row[0]), Fraction(row[1]))

    def rows(self, video_id: int) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
        """Timestamps (t,) and vectors (t, d) of a video, in order of time."""
        chunks = self.query("SELECT pts, vectors FROM features WHERE video_id = ? ORDER BY chunk", (video_id,))
        pts = np.frombuffer(b"".join(c[0] for c in chunks), "<i8")
        vectors = np.frombuffer(b"".join(c[1] for c in chunks), "<f2")
        return pts, vectors.reshape(len(pts), -1) if len(pts) else vectors.reshape(0, 0)

    def num_rows(self, video_id: int) -> int:
        """How many rows are stored, of a finished video or not."""
        return int(self.query("SELECT ifnull(sum(length(pts)), 0) / 8 FROM features WHERE video_id = ?", (video_id,))[0][0])

    def features(self, video_id: int) -> Features:
        """The features of a ready video with times in seconds."""
        row = self._db.one("SELECT end_seconds FROM videos WHERE id = ? AND ready", (video_id,))
        if row is None:
            raise self.unknown(video_id)
        return self.features_until(video_id, float(row[0]))

    def features_until(self, video_id: int, end_seconds: float) -> Features:
        """The rows stored so far; ``end_seconds`` is moved behind the last row where it is not."""
        pts, vectors = self.rows(video_id)
        times = self.clock(video_id).seconds(pts)
        usual = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
        end = end_seconds if not len(times) or end_seconds > times[-1] else float(times[-1]) + usual
        return Features(vectors.astype(np.float32), times, end)

    def hit_rows(self, video_ids: Iterable[int]) -> dict[int, tuple[list[bytes], float, float]]:
        """(paths, duration in seconds, coverage) by video id."""
        ids = sorted(video_ids)
        found: dict[int, tuple[list[bytes], float, float]] = {
            row[0]: ([], max(row[1], row[2] or 0.0), row[3])
            for row in self._db.by_ids("SELECT id, end_seconds, promised_seconds, coverage FROM videos WHERE id IN ({})", ids)
        }
        for video_id, path in self._db.by_ids("SELECT video_id, path FROM locations WHERE video_id IN ({}) ORDER BY path", ids):
            found[video_id][0].append(path)
        return found

    def unknown(self, video_id: int) -> UnknownVideo:
        """The error for an id that the library does not hold."""
        return UnknownVideo(f"the library in {str(self.folder)!r} holds no video {video_id}; `vlm list` shows those it holds")

    def thumbnails(self, video_id: int) -> list[Thumbnail]:
        """The video's thumbnails in order of time."""
        return [Thumbnail(*row) for row in self.query("SELECT pts, jpeg FROM thumbnails WHERE video_id = ? ORDER BY pts", (video_id,))]

    def has_segments(self) -> bool:
        """Whether anything can be found; unlike counting, the same time for any size."""
        return bool(self.query("SELECT 1 FROM segments LIMIT 1"))

    def num_segments(self) -> int:
        """How many segments can be found."""
        return int(self.query("SELECT count(*) FROM segments")[0][0])

    def segment_ids(self) -> NDArray[np.int64]:
        """Ids of all segments, in order."""
        return np.asarray([row[0] for row in self.query("SELECT id FROM segments ORDER BY id")], np.int64)

    def segment_ids_of(self, video_ids: Iterable[int], *, most: int) -> NDArray[np.int64] | None:
        """Ids of the segments of some videos, in order; None where they are more than ``most``."""
        found: list[int] = []
        wanted = sorted(video_ids)
        for first in range(0, len(wanted), 500):
            some = wanted[first : first + 500]
            found += [row[0] for row in self._db.by_ids("SELECT id FROM segments WHERE video_id IN ({})", some)]
            if len(found) > most:
                return None
        return np.asarray(sorted(found), np.int64)

    def segments(self, ids: Sequence[int]) -> dict[int, StoredSegment]:
        """Segments by id; ids that are gone are left out."""
        rows = self._db.by_ids("SELECT id, video_id, level, start, end FROM segments WHERE id IN ({})", ids)
        return {r[0]: StoredSegment(r[0], r[1], r[2], Span(r[3], r[4])) for r in rows}

    def segment_vectors(self, ids: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
        """Vectors (n, d) in the order of ``ids``; a row of zeros for an id that is gone."""
        out = np.zeros((len(ids), dim), np.float32)
        found = dict(self._db.by_ids("SELECT id, vector FROM segments WHERE id IN ({})", [int(i) for i in ids]))
        for row, segment_id in enumerate(ids):
            if (blob := found.get(int(segment_id))) is not None:
                out[row] = np.frombuffer(blob, "<f2")
        return out

    def vector_blocks(
        self, dim: int, *, after_generation: int = -1, rows: int = 16384
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """(ids, vectors) of all segments newer than a generation, block by block in order of id."""
        sql = "SELECT id, vector FROM segments WHERE generation > ? ORDER BY id"
        for block in self._db.blocks(sql, (after_generation,), rows=rows):
            ids = np.fromiter((r[0] for r in block), np.int64, len(block))
            yield ids, np.frombuffer(b"".join(r[1] for r in block), "<f2").reshape(len(block), dim)

    def buried(self, *, after_generation: int) -> NDArray[np.int64]:
        """Ids of segments that were removed after a generation."""
        return np.asarray(
            [r[0] for r in self.query("SELECT segment_id FROM tombstones WHERE generation > ?", (after_generation,))], np.int64
        )

    def compact(self) -> None:
        """Drops tombstones and unfinished rests, and gives free pages back to the disk."""
        with self.transaction():
            self._db.write("DELETE FROM videos WHERE NOT ready", ())
            self._db.write("DELETE FROM tombstones", ())
            self.set_meta("compacted", self.generation)
        self._db.vacuum()

    def problems(self) -> list[str]:
        """What is wrong inside the file, one sentence each; empty when all is well."""
        found = [f"SQLite: {row[0]}" for row in self.query("PRAGMA integrity_check(20)") if row[0] != "ok"]
        found += [f"SQLite: a row of {row[0]!r} refers to a missing row of {row[2]!r}" for row in self.query("PRAGMA foreign_key_check")]
        found += [
            f"video {video_id} has timestamps for {count // 8} of its {rows} rows"
            for video_id, count, rows in self.query(
                "SELECT v.id, ifnull(sum(length(f.pts)), 0), num_rows FROM videos v LEFT JOIN features f ON f.video_id = v.id WHERE ready"
                " GROUP BY v.id HAVING ifnull(sum(length(f.pts)), 0) != 8 * num_rows"
            )
        ]
        found += [
            f"video {row[0]} is ready but has no segment"
            for row in self.query("SELECT id FROM videos WHERE ready AND id NOT IN (SELECT video_id FROM segments)")
        ]
        return found
