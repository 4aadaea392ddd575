"""Which numbered SQL files a database lacks, and whether it may be used at all. Backends apply them.

A file whose database nodes of several versions share has two halves. `NNNN_name.sql` only adds: nodes of the
version before it go on. `NNNN_name.after.sql`, where there is one, takes away what only they needed.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from store.errors import SchemaRefused

SQL: Final = Path(__file__).parent / "sql"

_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+(\.after)?\.sql")

Half = Literal["before", "after"]


@dataclass(frozen=True)
class Migration:
    """One file: its number, its name and what it says. `half`: run before new nodes start, or after all."""

    number: int
    name: str
    sql: str
    half: Half = "before"

    @property
    def checksum(self) -> str:
        """What is recorded beside its number, to know a file that was changed after it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path) -> list[Migration]:
    """Read a folder of `NNNN_name.sql`, numbered 1, 2, 3 …; then the second halves, of some of those numbers.

    Anything else in it is a mistake: ValueError.
    """
    halves: dict[Half, list[Migration]] = {"before": [], "after": []}
    for path in sorted(folder.iterdir()):
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise ValueError(f"{path.name} is not named like 0001_what_it_does.sql")
        half: Half = "after" if name[2] else "before"
        halves[half].append(Migration(int(name[1]), path.name, path.read_text("utf-8"), half))
    numbers = [migration.number for migration in halves["before"]]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"the files in {folder.name} are not numbered 0001, 0002 …")
    endings = [migration.number for migration in halves["after"]]
    if len(set(endings)) < len(endings) or not set(endings) <= set(numbers):
        raise ValueError(f"a second half in {folder.name} has no first one, or is not the only one")
    return halves["before"] + halves["after"]


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
    _check(known, {(number, "before"): checksum for number, checksum in applied.items()})
    return list(known[newer:])


def pending_halves(
    known: Sequence[Migration], applied: Mapping[tuple[int, Half], str], half: Half
) -> list[Migration]:
    """The halves to apply to a database that several versions may share, in order.

    A newer database is good for this version until a second half that it does not know has been applied.
    SchemaRefused: that, or as for `pending`, or first halves are lacking where second ones are asked for.
    """
    newest = max((migration.number for migration in known), default=0)
    finished = max((number for number, which in applied if which == "after"), default=0)
    if finished > newest:
        raise SchemaRefused(
            f"the database serves schema {finished} and newer ones, and this version knows {newest}: "
            "start a newer version"
        )
    _check(known, applied)
    lacking = [migration for migration in known if (migration.number, migration.half) not in applied]
    if half == "after" and any(migration.half == "before" for migration in lacking):
        raise SchemaRefused("the first half has not been applied: run `gateway migrate` without --finish")
    return [migration for migration in lacking if migration.half == half]


def _check(known: Sequence[Migration], applied: Mapping[tuple[int, Half], str]) -> None:
    numbers = {number for number, half in applied if half == "before"}
    if numbers != set(range(1, len(numbers) + 1)):
        raise SchemaRefused("the database lacks a schema version below its own: restore it from a backup")
    for migration in known:
        if applied.get((migration.number, migration.half), migration.checksum) != migration.checksum:
            raise SchemaRefused(
                f"{migration.name} was changed after it had been applied: "
                "restore the file, and make the change in a new one"
            )
