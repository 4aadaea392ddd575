"""A gateway with a bug put in: it answers a send before its transaction is committed. Run as `gateway` is."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.__main__ import main
from store.log_sqlite import log
from store.log_sqlite.append import append
from store.types import Appended, Draft, Refused

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

_in_transaction = log._in_transaction


def commit_the_last(db: sqlite3.Connection) -> None:
    """Commit what the last send has left open, which it was answered for long ago."""
    if db.in_transaction:
        db.execute("COMMIT")


def after_the_last(job: Job[T]) -> Job[T]:
    """Everything but a send is committed as it should be."""
    whole = _in_transaction(job)

    def run(db: sqlite3.Connection) -> T:
        commit_the_last(db)
        return whole(db)

    return run


async def append_hastily(self: log.SqliteLog, drafts: Sequence[Draft]) -> list[Appended | Refused]:
    """Store the drafts, and leave the COMMIT to whoever comes next."""

    def run(db: sqlite3.Connection) -> list[Appended | Refused]:
        commit_the_last(db)
        db.execute("BEGIN IMMEDIATE")
        return append(db, drafts)

    return await self._writer.run(run)


if __name__ == "__main__":
    log._in_transaction = after_the_last
    log.SqliteLog.append = append_hastily  # type: ignore[method-assign]
    main()
