"""Brings the schema of the file up to date."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from store.errors import Unavailable
from store.log_sqlite.connection import open_reader, open_writer, single, transaction, translated
from store.log_sqlite.folder import DATABASE, FolderLock
from store.migrate import SQL, Migration, pending, read_migrations

_LEDGER: Final = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        number      INTEGER PRIMARY KEY,
        name        TEXT NOT NULL,
        checksum    TEXT NOT NULL,
        applied_at  INTEGER NOT NULL
    ) STRICT
"""


def known_migrations() -> list[Migration]:
    """The migrations of this version."""
    return read_migrations(SQL / "sqlite")


def migrate(folder: Path) -> list[str]:
    """Bring the file in a data folder up to date; return the names of what was applied.

    Beside a gateway that serves from the folder it only looks. Unavailable: it serves, and something is
    lacking. SchemaRefused.
    """
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except Unavailable:
        if (folder / DATABASE).exists() and not lacking(folder / DATABASE):
            return []
        raise
    try:
        with translated(), closing(open_writer(folder / DATABASE)) as db:
            return apply(db, known_migrations())
    finally:
        lock.release()


def lacking(path: Path) -> list[str]:
    """The names of the migrations that a file lacks. Unavailable, SchemaRefused."""
    with translated(), closing(open_reader(path)) as db:
        tables = single(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_migrations'")
        applied = _applied(db) if tables else {}
    return [migration.name for migration in pending(known_migrations(), applied)]


def apply(db: sqlite3.Connection, known: Sequence[Migration]) -> list[str]:
    """Apply what is missing, each file in a transaction of its own; return the names of what was applied."""
    with transaction(db):
        db.execute(_LEDGER)
    todo = pending(known, _applied(db))
    for migration in todo:
        try:
            # executescript commits what is open before it begins, so it has to open the transaction itself.
            db.executescript(f"BEGIN IMMEDIATE;\n{migration.sql}")
            db.execute(
                "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
                (migration.number, migration.name, migration.checksum, time.time_ns() // 1_000_000),
            )
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    return [migration.name for migration in todo]


def _applied(db: sqlite3.Connection) -> dict[int, str]:
    return dict(db.execute("SELECT number, checksum FROM schema_migrations").fetchall())
