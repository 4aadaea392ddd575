"""Looks at the file without changing it, also under a running gateway."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from store.log_sqlite.connection import open_reader, single, translated
from store.log_sqlite.folder import DATABASE
from store.log_sqlite.schema import lacking


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
    missing = lacking(path)
    with translated(), closing(open_reader(path)) as db:
        found: str = single(db, "PRAGMA quick_check(1)")
        mode: str = single(db, "PRAGMA journal_mode")
    fault = None if found == "ok" else found
    return Checkup(path, path.stat().st_size, mode, fault, tuple(missing))
