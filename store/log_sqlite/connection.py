"""How the file is opened, locked and changed: settings, transactions, and the border where sqlite3's errors are translated."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from store.errors import Unavailable

DATABASE: Final = "gateway.db"
LOCK: Final = "gateway.lock"

# Nobody else writes (see FolderLock), but a backup or a person with the sqlite3 shell may hold the file for a moment.
BUSY_MS: Final = 2_000
# 16 MiB for the writer: ids grow with time, so the indexes are written at their ends, and no transaction of 4 MiB spills.
WRITER_CACHE_KIB: Final = 16 * 1024
READER_CACHE_KIB: Final = 8 * 1024
# A checkpoint each 16 MiB of log: the hot pages are then written once for many commits.
CHECKPOINT_PAGES: Final = 4_000
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024


@contextmanager
def translated() -> Iterator[None]:
    """Turn what sqlite3 raises into Unavailable, the cause kept."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise Unavailable(f"SQLite: {error} ({name})") from error


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the file for writing; make it when it is absent."""
    # Messages are nobody else's business; SQLite gives its -wal and -shm files the rights of the database.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = _open(f"{path.absolute().as_uri()}?mode=rw")
    db.execute("PRAGMA journal_mode = WAL")
    # FULL: COMMIT returns after fsync of the log. NORMAL would lose acked messages with the power.
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file for reading what is committed."""
    db = _open(f"{path.absolute().as_uri()}?mode=rw")
    db.execute("PRAGMA query_only = ON")
    db.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return db


def _open(uri: str) -> sqlite3.Connection:
    # Made in one thread and closed in another, but used by one at a time: our own threads see to that.
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
    db.execute("PRAGMA trusted_schema = OFF")
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; the write lock is taken at once, not half-way."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors (full disk, I/O).
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


class FolderLock:
    """One process per data folder: two would both believe to be the only node. The kernel frees it, however the process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock. Unavailable: another process has it."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            raise Unavailable(
                f"the data folder {self._path.parent} is in use by another gateway (process {holder}): "
                "stop it, or choose another folder"
            ) from error
        os.truncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        self._file = file

    def release(self) -> None:
        """Give the lock back. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
