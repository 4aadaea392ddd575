"""The front of the log in SQLite: which thread does what. The promise is that of store.log.Log."""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from store.log import Tallier
from store.log_sqlite import events, members, messages, outbox, sessions
from store.log_sqlite.append import append
from store.log_sqlite.connection import open_reader, open_writer, transaction
from store.log_sqlite.folder import DATABASE, FolderLock
from store.log_sqlite.schema import apply, known_migrations
from store.log_sqlite.search import SqliteIndex
from store.log_sqlite.worker import Job, Worker
from store.search import Found, Search, Searcher
from store.types import (
    Access,
    Act,
    Appended,
    Attendance,
    Change,
    Cursor,
    Draft,
    EndReason,
    Event,
    EventPage,
    Listing,
    Mark,
    Member,
    Message,
    NewSession,
    Purged,
    Refused,
    Revocation,
    Role,
    Session,
    Standing,
    Tally,
)

T = TypeVar("T")

# Two, so that one long list of sessions does not hold up everybody's history.
READERS: Final = 2


class SqliteLog:
    """A log in one file of a data folder. One thread writes, two read; each has its own connection."""

    def __init__(self, folder: Path) -> None:
        self.queries: Counter[str] = Counter()
        self._lock = FolderLock(folder)
        self._writer = Worker("log-writer", partial(open_writer, folder / DATABASE))
        self._readers = Worker("log-reader", partial(open_reader, folder / DATABASE), READERS)
        self._searcher = Searcher(SqliteIndex(self._read, self._write))

    async def start(self) -> None:
        self._lock.acquire()
        try:
            self._writer.start()
            await self._writer.run(partial(apply, known=known_migrations()))
            self._readers.start()
            await self.ping()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._readers.close()
        await self._writer.close()
        self._lock.release()

    async def ping(self) -> None:
        await self._read("ping", _ping)

    async def append(self, drafts: Sequence[Draft]) -> list[Appended | Refused]:
        if not drafts:
            return []
        size = sum(len(draft.content) + len(draft.metadata) for draft in drafts)
        return await self._write("append", lambda db: append(db, drafts), size)

    async def read(self, session: str, *, after: int, limit: int) -> list[Message]:
        return await self._read("read", lambda db: messages.read(db, session, after, limit))

    async def read_before(self, session: str, *, before: int, limit: int) -> list[Message]:
        return await self._read("read_before", lambda db: messages.read_before(db, session, before, limit))

    async def search(self, search: Search) -> Found:
        return await self._searcher.search(search)

    async def standings(self, sessions: Sequence[str]) -> dict[str, Standing]:
        return await self._read("standings", lambda db: messages.standings(db, sessions))

    def tallier(self, sessions: Sequence[str]) -> Tallier:
        ids = messages.ids(sessions)

        async def tally() -> Tally:
            return await self._read("tally", lambda db: messages.tally(db, ids))

        return tally

    async def create(self, new: NewSession, *, limit: int) -> Session:
        return await self._write("create", lambda db: sessions.create(db, new, limit))

    async def get(self, tenant: str, session: str) -> Session | None:
        return await self._read("get", lambda db: sessions.get(db, tenant, session))

    async def access(self, tenant: str, session: str, user: str) -> Access | None:
        return await self._read("access", lambda db: sessions.access(db, tenant, session, user))

    async def list_for(
        self, tenant: str, user: str, *, before: tuple[int, str] | None, limit: int
    ) -> list[Listing]:
        return await self._read("list_for", lambda db: sessions.list_for(db, tenant, user, before, limit))

    async def update(
        self,
        tenant: str,
        session: str,
        change: Change,
        *,
        now: int,
        expected_version: int | None,
        by: str | None = None,
    ) -> Session:
        act = Act(at=now, by=by)
        return await self._write(
            "update", lambda db: sessions.update(db, tenant, session, change, act, expected_version)
        )

    async def end(
        self, tenant: str, session: str, reason: EndReason, *, now: int, by: str | None = None
    ) -> Session | None:
        act = Act(at=now, by=by)
        return await self._write("end", lambda db: sessions.end(db, tenant, session, reason, act))

    async def take_over(self, tenant: str, session: str, *, held: int | None = None) -> int:
        return await self._write("take_over", lambda db: sessions.take_over(db, tenant, session, held))

    async def extend(self, expiries: Mapping[str, int]) -> None:
        await self._write("extend", lambda db: sessions.extend(db, expiries))

    async def expire_due(self, *, now: int, limit: int) -> list[Session]:
        return await self._write("expire_due", lambda db: sessions.expire_due(db, now, limit))

    async def members(self, session: str) -> list[Member]:
        return await self._read("members", lambda db: members.members(db, session))

    async def put_member(
        self, tenant: str, session: str, user: str, role: Role, *, now: int, by: str | None = None
    ) -> Session:
        act = Act(at=now, by=by)
        return await self._write(
            "put_member", lambda db: members.put_member(db, tenant, session, user, role, act)
        )

    async def remove_member(
        self, tenant: str, session: str, user: str, *, now: int, by: str | None = None
    ) -> Session:
        act = Act(at=now, by=by)
        return await self._write(
            "remove_member", lambda db: members.remove_member(db, tenant, session, user, act)
        )

    async def mark(self, marks: Sequence[Mark]) -> None:
        await self._write("mark", lambda db: members.mark(db, marks))

    async def cursors(self, session: str) -> list[Cursor]:
        return await self._read("cursors", lambda db: members.cursors(db, session))

    async def events(self, *, after: int, limit: int) -> list[Event]:
        return await self._read("events", lambda db: events.events(db, after, limit))

    async def events_of(self, tenant: str, *, after: int, limit: int) -> EventPage:
        return await self._read("events_of", lambda db: events.events_of(db, tenant, after, limit))

    async def events_behind(self, after: int, *, limit: int) -> int:
        return await self._read("events_behind", lambda db: events.events_behind(db, after, limit))

    async def note(self, attendances: Sequence[Attendance]) -> None:
        await self._write("note", lambda db: outbox.note(db, attendances))

    async def purge_events(self, *, before: int, now: int, limit: int) -> Purged:
        return await self._write("purge_events", lambda db: outbox.purge(db, before, now, limit))

    async def hold_delivery(self, node: str, *, delivered: int, lease_ms: int) -> int | None:
        return await self._write("hold_delivery", lambda db: outbox.hold(db, node, delivered, lease_ms))

    async def revoke(self, tenant: str, user: str, *, before: int) -> Revocation:
        return await self._write("revoke", lambda db: events.revoke(db, tenant, user, before))

    async def revocations(self, *, after: int, limit: int) -> list[Revocation]:
        return await self._read("revocations", lambda db: events.revocations(db, after, limit))

    async def _read(self, kind: str, job: Job[T]) -> T:
        self.queries[kind] += 1
        return await self._readers.run(job)

    async def _write(self, kind: str, job: Job[T], size: int = 0) -> T:
        self.queries[kind] += 1
        return await self._writer.run(_in_transaction(job), size)


def _in_transaction(job: Job[T]) -> Job[T]:
    def run(db: sqlite3.Connection) -> T:
        with transaction(db):
            return job(db)

    return run


def _ping(db: sqlite3.Connection) -> None:
    db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
