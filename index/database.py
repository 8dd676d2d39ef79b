"""The SQLite file of a library: opened, written in transactions, and its complaints turned into errors of ours."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vlm.errors import InputError, LibraryDamaged, LibraryError, LibraryFull, LibraryNotFound, LibraryReadOnly, LibraryTooNew

FORMAT = 1
APPLICATION_ID = 0x766C6D31  # "vlm1": tells our file from any other SQLite file
FILE_NAME = "library.sqlite3"
_VARIABLES = 900  # below SQLite's smallest usual limit of bound values in one statement

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE videos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    digest TEXT NOT NULL UNIQUE,
    ready INTEGER NOT NULL DEFAULT 0,
    container TEXT NOT NULL, codec TEXT NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, rotation INTEGER NOT NULL,
    frame_rate TEXT, time_base TEXT NOT NULL, zero TEXT NOT NULL,
    num_bytes INTEGER NOT NULL, promised_seconds REAL, end_seconds REAL NOT NULL DEFAULT 0,
    num_rows INTEGER NOT NULL DEFAULT 0, coverage REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
    added_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
);
CREATE TABLE locations (
    path BLOB PRIMARY KEY,
    video_id INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE,
    num_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX locations_by_video ON locations(video_id);
CREATE TABLE features (
    video_id INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE,
    chunk INTEGER NOT NULL, pts BLOB NOT NULL, vectors BLOB NOT NULL,
    PRIMARY KEY (video_id, chunk)
);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    video_id INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE,
    generation INTEGER NOT NULL, level INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    start REAL NOT NULL, end REAL NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX segments_by_video ON segments(video_id);
CREATE INDEX segments_by_generation ON segments(generation);
CREATE TABLE tombstones (segment_id INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
CREATE TABLE thumbnails (
    video_id INTEGER NOT NULL REFERENCES videos(id) ON DELETE CASCADE,
    pts INTEGER NOT NULL, jpeg BLOB NOT NULL, PRIMARY KEY (video_id, pts)
);
CREATE TABLE quarantine (
    path BLOB PRIMARY KEY, num_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    error TEXT NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) WITHOUT ROWID;
"""


class Database:
    """One connection to the file. Used by one thread.

    Raises, from any method: LibraryDamaged, LibraryFull, LibraryReadOnly for what SQLite reports of the file.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, *, read_only: bool) -> None:
        self.folder = folder
        self.read_only = read_only
        self._connection = connection

    @classmethod
    def create(cls, folder: Path) -> Database:
        """A new, empty file in ``folder``; an existing one is opened instead."""
        with _translated(folder):
            connection = _connect(folder / FILE_NAME, "rwc")
            _make(connection)
            connection.close()
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False) -> Database:
        """The file in ``folder``; read-only where asked for or where the folder cannot be written.

        Raises:
            LibraryNotFound: there is none; or its making was interrupted, and it is to be read only: otherwise that is finished first.
            LibraryTooNew: it was written by a later format.
            LibraryDamaged: the file is no library, or SQLite cannot read it.
        """
        path = folder / FILE_NAME
        if not path.is_file():
            raise LibraryNotFound(
                f"no library in {str(folder)!r}: make one with `vlm add VIDEOS --library {folder}`, or name another with --library"
            )
        writable = os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids) and os.access(
            path, os.W_OK, effective_ids=os.access in os.supports_effective_ids
        )
        read_only = read_only or not writable
        with _translated(folder):
            # A reader needs the shared-memory file beside a WAL database. Where the folder cannot be written, nobody else can be writing
            # from this side either: SQLite may then take the file as immutable, unless a log is waiting in it.
            waiting = path.with_name(FILE_NAME + "-wal").exists()
            connection = _connect(path, "rw" if not read_only else "ro" if writable or waiting else "ro&immutable=1")
            if _is_unmade(connection):
                if read_only:
                    raise LibraryNotFound(
                        f"no library in {str(folder)!r} yet: it is being made, or that was interrupted; run `vlm add` again to finish it"
                    )
                _make(connection)
            _check_format(connection, folder)
        return cls(folder, connection, read_only=read_only)

    def close(self) -> None:
        """Ends the connection; harmless when repeated."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are committed together, or none of them."""
        if self.read_only:
            raise LibraryReadOnly(f"library {str(self.folder)!r} cannot be written: it was opened read-only, or its folder is")
        with _translated(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with _translated(self.folder):
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def meta(self, key: str) -> str | bytes | int | None:
        """The value stored under ``key``; None where there is none."""
        row = self.one("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else row[0]

    def set_meta(self, key: str, value: str | bytes | int) -> None:
        """Stores ``value`` under ``key``; inside a transaction."""
        self.write("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))

    def vacuum(self) -> None:
        """Gives free pages back to the disk."""
        with _translated(self.folder):
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def query(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple]:  # type: ignore[type-arg]
        """All rows of a reading statement."""
        with _translated(self.folder):
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, values: tuple[object, ...]) -> tuple | None:  # type: ignore[type-arg]
        """The first row of a reading statement; None where there is none."""
        rows = self.query(sql, values)
        return rows[0] if rows else None

    def write(self, sql: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        """Runs a writing statement; inside a transaction."""
        assert self._connection.in_transaction, "writes belong into a transaction"
        with _translated(self.folder):
            return self._connection.execute(sql, values)

    def write_many(self, sql: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Runs a writing statement once for each of ``rows``; inside a transaction."""
        assert self._connection.in_transaction, "writes belong into a transaction"
        with _translated(self.folder):
            self._connection.executemany(sql, rows)

    def blocks(self, sql: str, values: tuple[object, ...], *, rows: int) -> Iterator[list[tuple]]:  # type: ignore[type-arg]
        """All rows of a reading statement, at most ``rows`` in memory at a time."""
        with _translated(self.folder):
            cursor = self._connection.execute(sql, values)
            while block := cursor.fetchmany(rows):
                yield block

    def by_ids(self, sql: str, ids: Sequence[int]) -> Iterator[tuple]:  # type: ignore[type-arg]
        """All rows of a statement whose ``{}`` takes a list of ids, however long."""
        for at in range(0, len(ids), _VARIABLES):
            part = tuple(ids[at : at + _VARIABLES])
            yield from self.query(sql.format(",".join("?" * len(part))), part)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=10, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA foreign_keys = ON")
    # NORMAL keeps every commit through the end of a process at any moment; only a power cut may take the last ones, never consistency.
    connection.execute("PRAGMA synchronous = NORMAL")
    # A search reads a hundred rows all over the file: with a million segments SQLite's usual 2 MB do not even hold the way to them.
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA mmap_size = 2147418112")
    return connection


def _make(connection: sqlite3.Connection) -> None:
    """Writes the empty tables, at once or not at all; nothing where another process has done so."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    if _is_unmade(connection):
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.executemany("INSERT INTO meta VALUES (?, ?)", [("library_id", uuid.uuid4().hex), ("generation", 0), ("compacted", 0)])
    connection.execute("COMMIT")


def _is_unmade(connection: sqlite3.Connection) -> bool:
    """Whether the file holds nothing at all: so ``_make`` leaves it where it is killed, from the file's first byte to its commit."""
    return not (
        connection.execute("PRAGMA application_id").fetchone()[0]
        or connection.execute("PRAGMA user_version").fetchone()[0]
        or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    )


def _check_format(connection: sqlite3.Connection, folder: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise LibraryDamaged(f"{str(folder / FILE_NAME)!r} is no vlm library: move it away, then `vlm add` makes a new one")
    if version > FORMAT:
        raise LibraryTooNew(
            f"library {str(folder)!r} has format {version}; this vlm reads up to {FORMAT}: upgrade with `pip install -U vlm-retrieval`"
        )


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    """Turns what SQLite reports of the file into errors of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translation(folder)(error) from error


def _translation(folder: Path) -> Callable[[sqlite3.Error], LibraryError]:
    name = str(folder)

    def translate(error: sqlite3.Error) -> LibraryError:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith("SQLITE_FULL"):
            return LibraryFull(f"no space left for library {name!r}: free some and run the same command again; what was committed is safe")
        if code.startswith(("SQLITE_READONLY", "SQLITE_PERM")):
            return LibraryReadOnly(f"library {name!r} cannot be written ({error}): check the folder's permissions")
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return LibraryDamaged(
                f"{str(folder / FILE_NAME)!r} is damaged ({error}): put a backup in its place, save what is left with "
                f"`sqlite3 {FILE_NAME} .recover`, or move it away and run `vlm add` again"
            )
        return LibraryError(f"library {name!r}: SQLite reports {code or type(error).__name__}: {error}")

    return translate


def make_folder(folder: Path) -> None:
    """Makes the empty folder of a new library.

    Raises:
        InputError, LibraryError, LibraryReadOnly: it cannot be made. LibraryNotFound: other files lie there.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"a library is a folder, but {str(folder)!r} is a file: name another place with --library")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"cannot make the library's folder {str(folder)!r}: {error.strerror or error}") from error
    if not os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise LibraryReadOnly(f"cannot make a library in {str(folder)!r}: the folder cannot be written")
    others = [name for name in os.listdir(folder) if not name.startswith(".")]
    if others:
        raise LibraryNotFound(
            f"{str(folder)!r} holds no library but other files ({others[0]!r}, …): name an empty or a new folder with --library"
        )
