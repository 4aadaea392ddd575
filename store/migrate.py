"""Which numbered SQL files a database lacks, and whether it may be used at all. Backends apply them."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from store.errors import SchemaRefused

SQL: Final = Path(__file__).parent / "sql"

_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True)
class Migration:
    """One file: its number, its name and what it says."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """What is recorded beside its number, to know a file that was changed after it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path) -> list[Migration]:
    """Read a folder of `NNNN_name.sql`, numbered 1, 2, 3 …; anything else in it is a mistake: ValueError."""
    found = []
    for path in sorted(folder.iterdir()):
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ValueError(f"{path.name} is not named like 0001_what_it_does.sql")
        found.append(Migration(int(name[1]), path.name, path.read_text("utf-8")))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the files in {folder.name} are not numbered 0001, 0002 …")
    return found


def pending(known: Sequence[Migration], applied: Mapping[int, str]) -> list[Migration]:
    """The migrations to apply, in order. `applied`: the checksum recorded for each number.

    SchemaRefused: the database is newer, has a gap, or was made by a file that has changed since.
    """
    newer = max(applied, default=0)
    if newer > len(known):
        raise SchemaRefused(
            f"the database is at schema {newer} and this version knows {len(known)}: "
            "start the version that made it, or a newer one"
        )
    if sorted(applied) != list(range(1, newer + 1)):
        raise SchemaRefused("the database lacks a schema version below its own: restore it from a backup")
    for migration in known[:newer]:
        if applied[migration.number] != migration.checksum:
            raise SchemaRefused(
                f"{migration.name} was changed after it had been applied: "
                "restore the file, and make the change in a new one"
            )
    return list(known[newer:])
