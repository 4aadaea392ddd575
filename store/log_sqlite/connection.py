"""How the file is opened and changed: settings, transactions, and the border that translates errors."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from store.errors import Invalid, SchemaRefused, Unavailable

# For STRICT tables. Ubuntu 22.04 has this one.
OLDEST_SQLITE: Final = (3, 37)
# Nobody else writes (see FolderLock), but a backup or a person with the sqlite3 shell may hold the file for
# a moment.
BUSY_S: Final = 2.0
# Small, since the kernel caches the file as well, and what these grow to counts as our memory. Measured
# with 2,000 busy sessions: 2 MiB costs 48 µs of CPU a message, 4 MiB 39, 64 MiB 38.
WRITER_CACHE_KIB: Final = 4096
READER_CACHE_KIB: Final = 1024
# A checkpoint each 16 MiB: hot pages are then written once for many commits, a third less CPU than at
# SQLite's 4 MiB.
CHECKPOINT_PAGES: Final = 4000
# What the write-ahead log is cut back to after it had to grow, behind a backup for example.
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024


@contextmanager
def translated() -> Iterator[None]:
    """Turn what sqlite3 raises into Unavailable, and what no column holds into Invalid; the cause kept."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise Unavailable(f"SQLite: {error} ({name})") from error
    except OSError as error:
        raise Unavailable(f"SQLite: {error}") from error
    except (UnicodeError, OverflowError) as error:
        raise Invalid(f"SQLite cannot store a value: {type(error).__name__}") from error


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for writing; make it when it is absent. SchemaRefused: this SQLite is too old for it."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise SchemaRefused(
            f"SQLite {sqlite3.sqlite_version} is too old, 3.37 is needed: use a Python that has it"
        )
    # Messages are nobody else's business. SQLite gives its -wal and -shm files the rights of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    settings: dict[str, str | int] = {
        "journal_mode": "WAL",
        # COMMIT returns after fsync of the log. NORMAL would lose acked messages with the power.
        "synchronous": "FULL",
        "foreign_keys": "ON",
        "cache_size": -WRITER_CACHE_KIB,
        "wal_autocheckpoint": CHECKPOINT_PAGES,
        "journal_size_limit": WAL_LIMIT_BYTES,
    }
    db = _open(path, settings)
    # Killed between writing a commit and its fsync, a process leaves one that is there, but not on disk.
    # Nothing may be said of it before it is.
    _sync(Path(f"{path}-wal"))
    return db


def _sync(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # closed cleanly, or new
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading what is committed; also beside the process that writes."""
    # Not mode=ro: a reader of a write-ahead log writes into its index.
    return _open(path, {"query_only": "ON", "cache_size": -READER_CACHE_KIB})


def _open(path: Path, settings: dict[str, str | int]) -> sqlite3.Connection:
    # mode=rw: a file that has vanished under us is an error, not an empty database.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S)
    try:
        for name, value in settings.items():
            db.execute(f"PRAGMA {name} = {value}").fetchall()
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; the write lock is taken at once, not half-way."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # After some errors (full disk, I/O) SQLite has rolled back by itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Read everything as of one moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def single(db: sqlite3.Connection, sql: str, *arguments: str | int) -> Any:
    """The one value that a statement yields. Left half-way, the statement would hold its snapshot."""
    ((value,),) = db.execute(sql, arguments).fetchall()
    return value
