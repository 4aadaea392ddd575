"""Looks at the file without changing it, also under a running gateway; brings it up to date when asked."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from store.log_sqlite.connection import DATABASE, FolderLock, open_reader, open_writer, translated
from store.log_sqlite.schema import apply, known_migrations
from store.migrate import pending


@dataclass(frozen=True)
class Checkup:
    """What was found: `fault` is None where the file is whole, `pending` the migrations it lacks."""

    path: Path
    size_bytes: int
    journal_mode: str
    fault: str | None
    pending: tuple[str, ...]


def examine(folder: Path) -> Checkup | None:
    """Check the file of the folder; None where there is none yet. Unavailable, SchemaRefused."""
    path = folder / DATABASE
    if not path.exists():
        return None
    with translated(), closing(open_reader(path)) as db:
        found: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        mode: str = db.execute("PRAGMA journal_mode").fetchone()[0]
        missing = pending(known_migrations(), _applied(db))
    fault = None if found == "ok" else found
    return Checkup(path, path.stat().st_size, mode, fault, tuple(migration.name for migration in missing))


def migrate(folder: Path) -> list[str]:
    """Apply what is missing; return its names. Unavailable, also while a gateway has it; SchemaRefused."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FolderLock(folder)
    lock.acquire()
    try:
        with translated(), closing(open_writer(folder / DATABASE)) as db:
            return apply(db, known_migrations())
    finally:
        lock.release()


def _applied(db: sqlite3.Connection) -> dict[int, str]:
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations'").fetchone():
        return {}
    return dict(db.execute("SELECT number, checksum FROM schema_migrations"))
