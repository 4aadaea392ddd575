"""Brings the schema of the file up to date."""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from store.log_sqlite.connection import DATABASE, FolderLock, open_writer, transaction, translated
from store.migrate import SQL, Migration, pending, read_migrations


def apply(db: sqlite3.Connection, known: Sequence[Migration]) -> list[str]:
    """Apply what is missing, each file in a transaction of its own; return the names of what was applied."""
    with transaction(db):
        db.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT"
        )
    applied: dict[int, str] = dict(db.execute("SELECT number, checksum FROM schema_migrations"))
    todo = pending(known, applied)
    for migration in todo:
        try:
            # executescript commits what is open before it begins: it has to open the transaction itself.
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


def known_migrations() -> list[Migration]:
    """The migrations of this version."""
    return read_migrations(SQL / "sqlite")
