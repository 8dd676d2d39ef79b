from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vlm.errors import LibraryDamaged, LibraryFull, LibraryNotFound, LibraryReadOnly, LibraryTooNew, UnknownVideo
from vlm.index.database import FILE_NAME, FORMAT
from vlm.index.store import FileStamp, Store
from vlm.types import Clock, Segment, Span, Thumbnail, VideoInfo

DIM = 4
STAMP = FileStamp(100, 1)


def info(digest: str) -> VideoInfo:
    return VideoInfo(
        container="mp4",
        codec="h264",
        width=64,
        height=48,
        rotation_degrees=0,
        frame_rate=Fraction(30000, 1001),
        clock=Clock(Fraction(1, 90000), Fraction(1, 3)),
        promised_seconds=2.0,
        digest=digest,
        num_bytes=100,
    )


def add(store: Store, digest: str, path: bytes, *, rows: int = 3) -> int:
    with store.transaction():
        video_id = store.begin_video(info(digest))
        vectors = np.eye(DIM, dtype=np.float32)[np.arange(rows) % DIM]
        store.append_rows(video_id, np.arange(rows) * 90000 + 30000, vectors, [Thumbnail(30000, b"jpeg")])
        store.finish_video(
            video_id,
            end_seconds=float(rows),
            num_rows=rows,
            coverage=1.0,
            reason="",
            segments=[Segment(0, 0, rows, Span(0.0, float(rows)))],
            vectors=vectors[:1],
        )
        orphan = store.set_location(path, video_id, STAMP)
        if orphan is not None:
            store.remove_video(orphan)
    return video_id


@pytest.fixture
def store(tmp_path: Path):
    store = Store.create(tmp_path)
    yield store
    store.close()


def test_features_come_back_with_exact_times(store: Store):
    video_id = add(store, "a", b"/a.mp4")
    features = store.features(video_id)
    assert features.times.tolist() == [0.0, 1.0, 2.0]  # (30000 + k * 90000) / 90000 - 1/3
    assert features.vectors.tolist() == np.eye(DIM)[:3].tolist()
    assert features.end == 3.0
    assert store.thumbnails(video_id) == [Thumbnail(30000, b"jpeg")]


def test_rows_appended_in_two_runs_are_one_sequence(store: Store):
    with store.transaction():
        video_id = store.begin_video(info("a"))
        store.append_rows(video_id, np.array([1, 2]), np.ones((2, DIM), np.float32))
    assert store.last_pts(video_id) == 2
    with store.transaction():
        store.append_rows(video_id, np.array([5]), np.zeros((1, DIM), np.float32))
    pts, vectors = store.rows(video_id)
    assert pts.tolist() == [1, 2, 5]
    assert vectors[:, 0].tolist() == [1, 1, 0]
    assert store.num_rows(video_id) == 3


def test_an_unfinished_video_is_not_a_video_yet(store: Store):
    with store.transaction():
        video_id = store.begin_video(info("a"))
    with pytest.raises(UnknownVideo, match=str(video_id)):
        store.features(video_id)


def test_ids_of_removed_videos_and_segments_are_never_used_again(store: Store):
    first = add(store, "a", b"/a.mp4")
    segment = next(iter(store.vector_blocks(DIM)))[0][0]
    with store.transaction():
        store.remove_video(first)
    second = add(store, "a", b"/a.mp4")
    assert second > first
    assert next(iter(store.vector_blocks(DIM)))[0][0] > segment


def test_removal_leaves_a_tombstone_for_every_segment_and_nothing_else(store: Store):
    generation = store.generation
    video_id = add(store, "a", b"/a.mp4")
    ids = next(iter(store.vector_blocks(DIM)))[0]
    between = store.generation
    with store.transaction():
        store.remove_video(video_id)
    assert store.buried(after_generation=between).tolist() == ids.tolist()
    assert list(store.vector_blocks(DIM, after_generation=generation)) == []
    for table in ("features", "thumbnails", "locations", "segments", "videos"):
        assert store.query(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_a_new_content_at_a_path_gives_back_the_old_video_only_when_no_other_path_holds_it(store: Store):
    first = add(store, "a", b"/a.mp4")
    with store.transaction():
        assert store.set_location(b"/copy.mp4", first, STAMP) is None
    second = add(store, "b", b"/a.mp4")
    assert store.find_location(b"/copy.mp4") == (first, STAMP, True)
    assert store.find_location(b"/a.mp4") == (second, STAMP, True)
    third = add(store, "c", b"/copy.mp4")
    assert store.find_digest("a") is None
    assert store.find_digest("c") == (third, True)


def test_a_failed_transaction_leaves_nothing_behind(store: Store):
    with pytest.raises(RuntimeError, match="stop"), store.transaction():
        store.begin_video(info("a"))
        raise RuntimeError("stop")
    assert store.find_digest("a") is None


def test_paths_may_hold_any_bytes(store: Store):
    path = b"/odd \xff\n'name\".mp4"
    video_id = add(store, "a", path)
    assert store.find_location(path) == (video_id, STAMP, True)


def test_a_later_format_is_refused_and_named(tmp_path: Path):
    Store.create(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()
    with pytest.raises(LibraryTooNew, match=f"format {FORMAT + 1}"):
        Store.open(tmp_path)


@pytest.mark.parametrize("damage", ["garbage", "foreign", "zeroed page"])
def test_a_damaged_file_is_refused_with_the_way_out(tmp_path: Path, damage: str):
    store = Store.create(tmp_path)
    add(store, "a", b"/a.mp4")
    store.close()
    path = tmp_path / FILE_NAME
    if damage == "garbage":
        path.write_bytes(b"not a database" * 1000)
    elif damage == "foreign":
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE notes (text)")
        db.close()
    else:
        data = bytearray(path.read_bytes())
        data[4096:8192] = b"\xa5" * 4096
        path.write_bytes(data)
    with pytest.raises(LibraryDamaged, match="move it away"):
        opened = Store.open(tmp_path)
        opened.query("SELECT * FROM meta")


@pytest.mark.parametrize("moment", ["the file is there", "it is set to keep a log", "its tables are not committed"])
def test_a_library_whose_making_was_killed_is_made_by_the_next_to_open_it(tmp_path: Path, moment: str):
    path = tmp_path / FILE_NAME
    wal, tables = "db.execute('PRAGMA journal_mode = WAL')", "db.execute('BEGIN IMMEDIATE'); db.execute('CREATE TABLE meta (key)')"
    done = {"the file is there": [], "it is set to keep a log": [wal], "its tables are not committed": [wal, tables]}[moment]
    begin = f"import os, sqlite3; db = sqlite3.connect({str(path)!r}, isolation_level=None)"
    script = "; ".join([begin, *done, "os.kill(os.getpid(), 9)"])
    path.touch()
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    with pytest.raises(LibraryNotFound, match="run `vlm add` again"):
        Store.open(tmp_path, read_only=True)
    store = Store.open(tmp_path)
    add(store, "a", b"/a.mp4")
    store.close()
    again = Store.create(tmp_path)
    assert again.find_location(b"/a.mp4") is not None
    again.close()


def test_a_folder_without_library_is_named(tmp_path: Path):
    with pytest.raises(LibraryNotFound, match="vlm add"):
        Store.open(tmp_path / "nothing")


def test_a_full_disk_is_told_and_loses_nothing(store: Store):
    kept = add(store, "a", b"/a.mp4")
    pages = store.query("PRAGMA page_count")[0][0]
    store.query(f"PRAGMA max_page_count = {pages + 4}")  # SQLite reports SQLITE_FULL, as on a full disk
    with pytest.raises(LibraryFull, match="no space left"):
        add(store, "b", b"/b.mp4", rows=200_000)
    assert store.find_digest("b") is None
    assert store.features(kept).end == 3.0
    assert store.problems() == []


def test_a_read_only_store_reads_and_refuses_to_write(tmp_path: Path):
    store = Store.create(tmp_path)
    video_id = add(store, "a", b"/a.mp4")
    store.close()
    reader = Store.open(tmp_path, read_only=True)
    assert reader.features(video_id).end == 3.0
    with pytest.raises(LibraryReadOnly, match="read-only"), reader.transaction():
        pass
    reader.close()


def test_a_reader_sees_the_last_commit_while_a_writer_is_inside_a_transaction(store: Store, tmp_path: Path):
    add(store, "a", b"/a.mp4")
    reader = Store.open(tmp_path)
    with store.transaction():
        store.begin_video(info("b"))
        assert reader.find_digest("b") is None
        assert reader.find_digest("a") is not None
    assert reader.find_digest("b") is not None
    reader.close()


def test_compaction_drops_tombstones_and_unfinished_rests_and_keeps_the_rest(store: Store):
    kept = add(store, "a", b"/a.mp4")
    gone = add(store, "b", b"/b.mp4")
    with store.transaction():
        store.remove_video(gone)
        store.begin_video(info("c"))
    store.compact()
    assert store.buried(after_generation=-1).tolist() == []
    assert store.compacted_generation == store.generation
    assert store.find_digest("c") is None
    assert store.features(kept).end == 3.0


def test_problems_names_a_video_whose_rows_are_missing(store: Store):
    video_id = add(store, "a", b"/a.mp4")
    with store.transaction():
        store._db.write("DELETE FROM features", ())
    assert store.problems() == [f"video {video_id} has timestamps for 0 of its 3 rows"]


class StoreAgainstDict(RuleBasedStateMachine):
    """Any order of adding, replacing, linking and removing leaves what a plain dictionary would hold."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.create(Path(self.folder.name))
        self.model: dict[bytes, str] = {}

    paths = st.sampled_from([b"/1", b"/2", b"/3"])
    digests = st.sampled_from(["a", "b", "c"])

    @rule(path=paths, digest=digests)
    def put(self, path: bytes, digest: str) -> None:
        known = self.store.find_digest(digest)
        if known is None:
            add(self.store, digest, path)
        else:
            with self.store.transaction():
                orphan = self.store.set_location(path, known[0], STAMP)
                if orphan is not None:
                    self.store.remove_video(orphan)
        self.model[path] = digest

    @rule(digest=digests)
    def remove(self, digest: str) -> None:
        known = self.store.find_digest(digest)
        if known is not None:
            with self.store.transaction():
                self.store.remove_video(known[0])
        self.model = {p: d for p, d in self.model.items() if d != digest}

    @invariant()
    def equal_to_the_model(self) -> None:
        held = dict(self.store.query("SELECT path, digest FROM locations JOIN videos ON videos.id = video_id"))
        assert held == self.model
        assert {d for (d,) in self.store.query("SELECT digest FROM videos")} == set(self.model.values())
        assert self.store.num_segments() == len(set(self.model.values()))
        assert self.store.problems() == []

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_info_is_validated_at_birth():
    with pytest.raises(ValueError, match="0 x 48"):
        replace(info("a"), width=0)
