"""The log, read through the cache in three levels: sessions and roles, users' lists, pages of messages.

Writes go to the log and are told to the cache by version. What must be the truth of this moment (a head to
attach at, an epoch, an expiry) is asked of the log: docs/storage.md says what may be old here, and how long.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from store.cache import Cache, Entry
from store.errors import Unavailable
from store.flights import Flights
from store.lists import (
    SESSION_TTL_MS,
    Lists,
    number_of,
    session_entry,
    session_key,
    stored_session,
)
from store.log import Log
from store.pages import Pages
from store.shelf import Shelf, decoded
from store.tails import PREVIEW, Tail, Tails
from store.types import (
    Access,
    Appended,
    Change,
    Draft,
    EndReason,
    Listing,
    Mark,
    Message,
    NewSession,
    Refused,
    Role,
    Session,
)
from store.warming import Warming

# A write says what it is about to do, so that a node killed between COMMIT and telling the cache leaves
# nothing old behind. Longer than any write takes; if it comes to nothing, the session is not cached as long.
INTENT_MS: Final = 30_000
# A write whose outcome is unknown may be committed yet, after others: more than are made in the meantime.
DOUBT: Final = 1_000

_encode: Final = msgspec.msgpack.Encoder().encode
_role_decoder: Final = msgspec.msgpack.Decoder(Role)


class Records:
    """Reads that a hit answers without the database, and the writes that keep them true.

    A session is as of the last write that was told; its `head` and `expires_at` are as of its reading.
    Concurrent misses of one key make one query. A cache that is away is passed by.
    """

    def __init__(self, log: Log, cache: Cache) -> None:
        self._log = log
        self._shelf = Shelf(cache)
        self._flights = Flights()
        self._tails = Tails(self._shelf)
        self._lists = Lists(log, self._shelf, self._flights, self._tails)
        self._pages = Pages(log, self._shelf, self._flights)
        self._warming = Warming(self._lists)

    @property
    def counts(self) -> Counter[str]:
        """By level (session, list, page): `session_hit`, `_miss`, `_load`s from the log, `_bytes` stored.

        And `away`: how often the cache was found not to answer.
        """
        return self._shelf.counts

    @property
    def owed(self) -> int:
        """How many keys the cache has yet to be told of, having been away."""
        return self._shelf.owed

    async def close(self) -> None:
        """End the loads under way, and tell the cache what it has not been told. Idempotent."""
        await self._warming.close()
        await self._flights.close()
        await self._tails.close()
        await self._shelf.close()

    def warm(self, tenant: str, user: str) -> None:
        """Put a user's list and its sessions into the cache soon, if there is time for it. Never waits."""
        self._warming.ask(tenant, user)

    # -- reading

    async def get(self, tenant: str, session: str) -> Session | None:
        """As `Log.get`."""
        (value,) = await self._shelf.get_many([session_key(tenant, session)])
        found = stored_session(value)
        self._shelf.count("session", found is not None)
        if found is not None:
            return found

        async def load() -> Session | None:
            row = await self._log.get(tenant, session)
            self._shelf.loaded("session")
            if row is not None:
                await self._shelf.fill("session", [session_entry(row)], SESSION_TTL_MS)
            return row

        return await self._flights.run(("session", tenant, session), load)

    async def access(self, tenant: str, session: str, user: str) -> Access | None:
        """As `Log.access`."""
        keys = [session_key(tenant, session), _role_key(tenant, session, user)]
        record, stored_role = await self._shelf.get_many(keys)
        found = stored_session(record)
        role: Role | None = decoded(_role_decoder, stored_role)
        self._shelf.count("session", found is not None and role is not None)
        if found is not None and role is not None:
            return Access(session=found, role=role)

        async def load() -> Access | None:
            row = await self._log.access(tenant, session, user)
            self._shelf.loaded("session")
            if row is not None:
                entries = [session_entry(row.session), _role_entry(row, user)]
                await self._shelf.fill("session", entries, SESSION_TTL_MS)
            return row

        return await self._flights.run(("session", tenant, session, user), load)

    async def list_for(
        self, tenant: str, user: str, *, before: tuple[int, str] | None, limit: int
    ) -> list[Listing]:
        """As `Log.list_for`."""
        return await self._lists.list_for(tenant, user, before=before, limit=limit)

    async def read(self, session: str, *, after: int, limit: int) -> list[Message]:
        """As `Log.read`."""
        return await self._pages.read(session, after=after, limit=limit)

    async def read_before(self, session: str, *, before: int, limit: int) -> list[Message]:
        """As `Log.read_before`."""
        return await self._pages.read_before(session, before=before, limit=limit)

    # -- writing

    async def append(self, drafts: Sequence[Draft]) -> list[Appended | Refused]:
        """As `Log.append`. The cache is told later: no ack waits for it."""
        outcomes = await self._log.append(drafts)
        known: dict[str, Tail | int] = {}
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if isinstance(outcome, Refused):
                continue
            if not outcome.duplicate:
                # In the order of seq: the last one stands.
                known[draft.session] = Tail(outcome.seq, outcome.created_at, draft.content[:PREVIEW])
            elif draft.session not in known:
                # Somebody stored it and may not have lived to tell the cache.
                known[draft.session] = outcome.seq
        if known:
            self._tails.note(known)
        return outcomes

    async def mark(self, marks: Sequence[Mark]) -> None:
        """As `Log.mark`."""
        readers = [(mark.session, mark.user) for mark in marks if mark.read is not None]
        try:
            await self._log.mark(marks)
        finally:
            if readers:
                await self._lists.read(readers)

    async def create(self, new: NewSession, *, limit: int) -> Session:
        """As `Log.create`."""
        users = [(new.tenant, user) for user in (new.owner, *(user for user, _ in new.members))]
        async with self._intending_lists(users):
            session = await self._log.create(new, limit=limit)
            await self._told(session, _role_entry(Access(session=session, role="owner"), new.owner))
            await self._lists.changed(users)
        return session

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
        """As `Log.update`."""
        async with self._intending(tenant, session):
            changed = await self._log.update(
                tenant, session, change, now=now, expected_version=expected_version, by=by
            )
            await self._told(changed)
        return changed

    async def end(
        self, tenant: str, session: str, reason: EndReason, *, now: int, by: str | None = None
    ) -> Session | None:
        """As `Log.end`. Lists leave an ended session out by its record."""
        async with self._intending(tenant, session):
            ended = await self._log.end(tenant, session, reason, now=now, by=by)
            if ended is not None:
                await self._told(ended)
        return ended

    async def expire_due(self, *, now: int, limit: int) -> list[Session]:
        """As `Log.expire_due`."""
        ended = await self._log.expire_due(now=now, limit=limit)
        for session in ended:
            await self._told(session)
        return ended

    async def take_over(self, tenant: str, session: str, *, held: int | None = None) -> int:
        """As `Log.take_over`."""
        async with self._intending(tenant, session):
            epoch = await self._log.take_over(tenant, session, held=held)
            found = await self._log.get(tenant, session)
            if found is not None:
                await self._told(found)
        return epoch

    async def put_member(
        self, tenant: str, session: str, user: str, role: Role, *, now: int, by: str | None = None
    ) -> Session:
        """As `Log.put_member`."""
        async with self._intending(tenant, session, user):
            changed = await self._log.put_member(tenant, session, user, role, now=now, by=by)
            role = "owner" if user == changed.owner else role
            await self._told(changed, _role_entry(Access(session=changed, role=role), user))
            await self._lists.changed([(tenant, user)])
        return changed

    async def remove_member(
        self, tenant: str, session: str, user: str, *, now: int, by: str | None = None
    ) -> Session:
        """As `Log.remove_member`."""
        async with self._intending(tenant, session, user):
            changed = await self._log.remove_member(tenant, session, user, now=now, by=by)
            await self._told(changed)
            key = _role_key(tenant, session, user)
            await self._shelf.drop([(key, number_of(changed))], SESSION_TTL_MS)
            await self._lists.changed([(tenant, user)])
        return changed

    @asynccontextmanager
    async def _intending(self, tenant: str, session: str, user: str | None = None) -> AsyncIterator[None]:
        """Take out of the cache what a write is about to make old.

        Again, and more, when nobody knows what became of it: others may have written in between.
        """
        found = await self._log.get(tenant, session)
        if found is None:
            yield
            return
        keys = [session_key(tenant, session)]
        users: list[tuple[str, str]] = []
        if user is not None:
            keys.append(_role_key(tenant, session, user))
            users.append((tenant, user))
        async with self._intending_lists(users):
            await self._shelf.drop([(key, number_of(found) + 1) for key in keys], INTENT_MS)
            try:
                yield
            except (Unavailable, asyncio.CancelledError):
                await self._shelf.drop([(key, number_of(found) + DOUBT) for key in keys], INTENT_MS)
                raise

    @asynccontextmanager
    async def _intending_lists(self, users: Sequence[tuple[str, str]]) -> AsyncIterator[None]:
        """The same of the lists of these users."""
        if users:
            await self._lists.changing(users)
        try:
            yield
        except (Unavailable, asyncio.CancelledError):
            if users:
                await self._lists.changing(users, margin_ms=INTENT_MS)
            raise

    async def _told(self, session: Session, *more: Entry) -> None:
        """Put what was written in the place of what it made old."""
        self._flights.forget(("session", session.tenant, session.id))
        await self._shelf.replace("session", [session_entry(session), *more], SESSION_TTL_MS)


def _role_entry(access: Access, user: str) -> Entry:
    session = access.session
    return _role_key(session.tenant, session.id, user), _encode(access.role), number_of(session)


def _role_key(tenant: str, session: str, user: str) -> str:
    return f"{session}|role1:{tenant}/{user}"
