"""The front of the log in Postgres: which call asks what. The promise is that of store.log.Log."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from store.errors import Invalid, NotFound
from store.log import Tallier
from store.log_postgres import events, found, keys, members, messages, outbox, schema, sessions
from store.log_postgres.append import append
from store.log_postgres.connection import Connection
from store.log_postgres.database import Database
from store.log_postgres.found import ListPage, Wanted, WantedBy
from store.log_postgres.messages import Page
from store.log_postgres.options import PostgresOptions
from store.log_postgres.search import PostgresIndex
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


class PostgresLog:
    """A log in a Postgres database that other nodes use as well. Reads of one kind go together."""

    def __init__(self, url: str, options: PostgresOptions) -> None:
        self._db = db = Database(url, options)
        self._get = db.gathered("get", found.get)
        self._access = db.gathered("access", found.access)
        self._list_for = db.gathered("list_for", found.list_for, lambda page: page.limit)
        self._read = db.gathered("read", messages.read, lambda page: page.limit)
        self._read_before = db.gathered("read_before", messages.read_before, lambda page: page.limit)
        self._members = db.gathered("members", members.members)
        self._cursors = db.gathered("cursors", members.cursors)
        self._searcher = Searcher(PostgresIndex(db))

    @property
    def queries(self) -> Counter[str]:
        """How often the database was asked, by kind; one statement may have answered many calls."""
        return self._db.queries

    async def start(self) -> None:
        self._db.open()
        try:
            await self._db.run("start", schema.check, is_read=True)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._db.close()

    async def ping(self) -> None:
        await self._db.run("ping", _ping, is_read=True)

    async def append(self, drafts: Sequence[Draft]) -> list[Appended | Refused]:
        if not drafts:
            return []
        size = sum(len(draft.content) + len(draft.metadata) for draft in drafts)
        return await self._db.run("append", lambda db: append(db, drafts), size=size, is_first=True)

    async def read(self, session: str, *, after: int, limit: int) -> list[Message]:
        return await self._read(Page(session, after, limit)) if keys.is_id(session) else []

    async def read_before(self, session: str, *, before: int, limit: int) -> list[Message]:
        return await self._read_before(Page(session, before, limit)) if keys.is_id(session) else []

    async def search(self, search: Search) -> Found:
        return await self._searcher.search(search)

    async def standings(self, sessions: Sequence[str]) -> dict[str, Standing]:
        ids = [id for id in sessions if keys.is_id(id)]
        return await self._db.run("standings", lambda db: messages.standings(db, ids), is_read=True)

    def tallier(self, sessions: Sequence[str]) -> Tallier:
        ids = messages.ids(sessions)

        async def tally() -> Tally:
            return await self._db.run("tally", lambda db: messages.tally(db, ids), is_read=True)

        return tally

    async def create(self, new: NewSession, *, limit: int) -> Session:
        if not keys.is_id(new.id):
            raise Invalid("the id of a session is a UUID")
        size = len(new.context) + len(new.metadata)
        return await self._db.run("create", lambda db: sessions.create(db, new, limit), size=size)

    async def get(self, tenant: str, session: str) -> Session | None:
        return await self._get(Wanted(session, tenant)) if _may_be(session, tenant) else None

    async def access(self, tenant: str, session: str, user: str) -> Access | None:
        return await self._access(WantedBy(session, tenant, user)) if _may_be(session, tenant, user) else None

    async def list_for(
        self, tenant: str, user: str, *, before: tuple[int, str] | None, limit: int
    ) -> list[Listing]:
        if not (keys.is_name(tenant) and keys.is_name(user)):
            return []
        return await self._list_for(ListPage(tenant, user, before, limit))

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
        _must_be(session, tenant)
        size = sum(len(part or b"") for part in (change.context, change.metadata, change.sentences))
        act = Act(at=now, by=by)
        job = partial(sessions.update, tenant=tenant, session=session, change=change, act=act)
        return await self._db.run("update", partial(job, expected_version=expected_version), size=size)

    async def end(
        self, tenant: str, session: str, reason: EndReason, *, now: int, by: str | None = None
    ) -> Session | None:
        if not _may_be(session, tenant):
            return None
        act = Act(at=now, by=by)
        return await self._db.run("end", lambda db: sessions.end(db, tenant, session, reason, act))

    async def take_over(self, tenant: str, session: str, *, held: int | None = None) -> int:
        _must_be(session, tenant)
        return await self._db.run("take_over", lambda db: sessions.take_over(db, tenant, session, held))

    async def extend(self, expiries: Mapping[str, int]) -> None:
        known = {id: expires_at for id, expires_at in expiries.items() if keys.is_id(id)}
        # As the marks below: to do it twice is to do it once, so it may be tried again like a read.
        await self._db.run("extend", lambda db: sessions.extend(db, known), is_read=True)

    async def expire_due(self, *, now: int, limit: int) -> list[Session]:
        return await self._db.run("expire_due", lambda db: sessions.expire_due(db, now, limit))

    async def members(self, session: str) -> list[Member]:
        return await self._members(session) if keys.is_id(session) else []

    async def put_member(
        self, tenant: str, session: str, user: str, role: Role, *, now: int, by: str | None = None
    ) -> Session:
        _must_be(session, tenant)
        act = Act(at=now, by=by)
        job = partial(members.put_member, tenant=tenant, session=session, user=user, role=role, act=act)
        return await self._db.run("put_member", job)

    async def remove_member(
        self, tenant: str, session: str, user: str, *, now: int, by: str | None = None
    ) -> Session:
        _must_be(session, tenant, user)
        act = Act(at=now, by=by)
        job = partial(members.remove_member, tenant=tenant, session=session, user=user, act=act)
        return await self._db.run("remove_member", job)

    async def mark(self, marks: Sequence[Mark]) -> None:
        await self._db.run("mark", lambda db: members.mark(db, marks), is_read=True)

    async def cursors(self, session: str) -> list[Cursor]:
        return await self._cursors(session) if keys.is_id(session) else []

    async def events(self, *, after: int, limit: int) -> list[Event]:
        return await self._db.run("events", lambda db: events.events(db, after, limit), is_read=True)

    async def events_of(self, tenant: str, *, after: int, limit: int) -> EventPage:
        tenant = tenant if keys.is_name(tenant) else ""
        job = partial(events.events_of, tenant=tenant, after=after, limit=limit)
        return await self._db.run("events_of", job, is_read=True)

    async def events_behind(self, after: int, *, limit: int) -> int:
        job = partial(events.events_behind, after=after, limit=limit)
        return await self._db.run("events_behind", job, is_read=True)

    async def note(self, attendances: Sequence[Attendance]) -> None:
        # Each has its key: to write it twice is to write it once.
        await self._db.run("note", lambda db: outbox.note(db, attendances), is_read=True)

    async def purge_events(self, *, before: int, now: int, limit: int) -> Purged:
        return await self._db.run("purge_events", lambda db: outbox.purge(db, before, now, limit))

    async def hold_delivery(self, node: str, *, delivered: int, lease_ms: int) -> int | None:
        job = partial(outbox.hold, node=node, delivered=delivered, lease_ms=lease_ms)
        return await self._db.run("hold_delivery", job, is_read=True)

    async def revoke(self, tenant: str, user: str, *, before: int) -> Revocation:
        return await self._db.run("revoke", lambda db: events.revoke(db, tenant, user, before))

    async def revocations(self, *, after: int, limit: int) -> list[Revocation]:
        return await self._db.run(
            "revocations", lambda db: events.revocations(db, after, limit), is_read=True
        )


def _may_be(session: str, *names: str) -> bool:
    """Whether there may be such a session, in such a tenant, of such a user."""
    return keys.is_id(session) and all(map(keys.is_name, names))


def _must_be(session: str, *names: str) -> None:
    if not _may_be(session, *names):
        raise NotFound("there is no such session")


async def _ping(db: Connection) -> None:
    await db.fetchval("SELECT 1")
