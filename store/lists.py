"""Users' lists of sessions, put together from parts that change at different times, each by its version."""

import asyncio
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from store.cache import Entry
from store.flights import Flights
from store.log import Log
from store.shelf import Shelf, decoded
from store.tails import TTL_MS, Tail, Tails, tail_entry, tail_key
from store.types import Listing, Role, Session

SESSION_TTL_MS: Final = 60 * 60 * 1000
# Who has more live sessions than this is served by the log: the list would be dearer than what it saves.
LIST_LIMIT: Final = 500
# The version of a list, and of a read marker, is the time at which its reading began, by the cache's clock:
# nodes need not agree on theirs. Whoever is about to change a list drops what is read within this much from
# then: a node killed between COMMIT and telling so leaves nothing old behind, at the price that what was
# changed is not cached for as long.
MARGIN_MS: Final = 2_000


class Stored(msgspec.Struct, array_like=True, frozen=True):
    """A session, and what its version in the cache is."""

    number: int
    session: Session


_Members = list[tuple[str, Role]]

_encode: Final = msgspec.msgpack.Encoder().encode
_session_decoder: Final = msgspec.msgpack.Decoder(Stored)
_list_decoder: Final = msgspec.msgpack.Decoder(_Members | Literal["too many"])
_read_decoder: Final = msgspec.msgpack.Decoder(int)


def session_entry(session: Session) -> Entry:
    """A session as it lies in the cache. Version and epoch only grow, so their sum tells newer from older."""
    number = number_of(session)
    return session_key(session.tenant, session.id), _encode(Stored(number, session)), number


def stored_session(value: bytes | None) -> Session | None:
    """A session out of the cache."""
    stored: Stored | None = decoded(_session_decoder, value)
    return None if stored is None else stored.session


def number_of(session: Session) -> int:
    """The version of a session in the cache."""
    return session.version + session.epoch


def session_key(tenant: str, session: str) -> str:
    """Where a session lies."""
    return f"{session}|session1:{tenant}"


class Lists:
    """What `Log.list_for` answers. It is as old as the beginning of the reading it comes from, at most."""

    def __init__(self, log: Log, shelf: Shelf, flights: Flights, tails: Tails) -> None:
        self._log = log
        self._shelf = shelf
        self._flights = flights
        self._tails = tails

    async def list_for(
        self, tenant: str, user: str, *, before: tuple[int, str] | None, limit: int
    ) -> list[Listing]:
        """As `Log.list_for`."""
        cached = await self._cached(tenant, user)
        self._shelf.count("list", isinstance(cached, list))
        if cached is None:
            listings = await self._flights.run(("list", tenant, user), lambda: self._load(tenant, user))
        else:
            listings = cached
        if listings == "too many":
            return await self._log.list_for(tenant, user, before=before, limit=limit)
        behind = [row for row in listings if before is None or (row.last_at, row.session.id) < before]
        return behind[: max(0, limit)]

    async def warm(self, tenant: str, user: str) -> None:
        """Put a list and its sessions into the cache, if the list is not there."""
        (value,) = await self._shelf.get_many([_list_key(tenant, user)])
        if value is None and not self._shelf.is_away:
            await self._flights.run(("list", tenant, user), lambda: self._load(tenant, user))

    # -- what changes a list

    async def changing(self, users: Sequence[tuple[str, str]], *, margin_ms: int = MARGIN_MS) -> None:
        """Sessions are about to join or leave the lists of these (tenant, user)."""
        keys = [_list_key(tenant, user) for tenant, user in users]
        await self._shelf.outdate(keys, TTL_MS, margin_ms=margin_ms)

    async def changed(self, users: Sequence[tuple[str, str]]) -> None:
        """Sessions joined or left the lists of these (tenant, user)."""
        for tenant, user in users:
            self._flights.forget(("list", tenant, user))
        await self._shelf.outdate([_list_key(tenant, user) for tenant, user in users], TTL_MS)

    async def read(self, readers: Sequence[tuple[str, str]]) -> None:
        """The read markers of these (session, user) have moved."""
        await self._shelf.outdate([_read_key(session, user) for session, user in readers], TTL_MS)

    # -- from the cache, and into it

    async def _cached(self, tenant: str, user: str) -> list[Listing] | Literal["too many"] | None:
        (value,) = await self._shelf.get_many([_list_key(tenant, user)])
        members: _Members | Literal["too many"] | None = decoded(_list_decoder, value)
        if members is None or members == "too many":
            return members
        keys = [
            key for id, _ in members for key in (session_key(tenant, id), tail_key(id), _read_key(id, user))
        ]
        values = await self._shelf.get_many(keys)
        listings: list[Listing] = []
        for (id, role), (session, tail, read) in zip(
            members, zip(*[iter(values)] * 3, strict=True), strict=True
        ):
            listing = _listing(role, session, self._tails.newest(id, tail), read)
            if listing is None:
                return None
            listings.append(listing)
        return _in_order(listings)

    async def _load(self, tenant: str, user: str) -> list[Listing] | Literal["too many"]:
        version = await self._shelf.now_ms(_list_key(tenant, user))
        listings = await self._log.list_for(tenant, user, before=None, limit=LIST_LIMIT + 1)
        self._shelf.loaded("list")
        is_too_long = len(listings) > LIST_LIMIT
        if version is not None:
            await self._store(tenant, user, version, "too many" if is_too_long else listings)
        return "too many" if is_too_long else listings

    async def _store(
        self, tenant: str, user: str, version: int, listings: list[Listing] | Literal["too many"]
    ) -> None:
        if listings == "too many":
            await self._shelf.fill("list", [(_list_key(tenant, user), _encode("too many"), version)], TTL_MS)
            return
        members = [(row.session.id, row.role) for row in listings]
        parts: list[Entry] = [(_list_key(tenant, user), _encode(members), version)]
        for row in listings:
            # One place with the list, so that one clock tells both their versions.
            parts.append((_read_key(row.session.id, user), _encode(row.read), version))
            parts.append(tail_entry(row.session.id, Tail(row.session.head, row.last_at, row.preview)))
        await asyncio.gather(
            self._shelf.fill("session", [session_entry(row.session) for row in listings], SESSION_TTL_MS),
            self._shelf.fill("list", parts, TTL_MS),
        )


def _listing(role: Role, session: bytes | None, end: Tail | None, read: bytes | None) -> Listing | None:
    """One row, if all its parts are there."""
    record = stored_session(session)
    mark: int | None = decoded(_read_decoder, read)
    if record is None or end is None or mark is None:
        return None
    return Listing(
        session=msgspec.structs.replace(record, head=end.head),
        role=role,
        read=mark,
        unread=max(0, end.head - mark),
        last_at=end.last_at,
        preview=end.preview,
    )


def _in_order(listings: list[Listing]) -> list[Listing]:
    living = [row for row in listings if row.session.ended_at is None]
    return sorted(living, key=lambda row: (row.last_at, row.session.id), reverse=True)


# A key begins with its place: a user's, or a session's. Names may hold a colon, but neither slash nor bar:
# two pairs of them never meet in one key.


def _list_key(tenant: str, user: str) -> str:
    return f"{user}|list1:{tenant}"


def _read_key(session: str, user: str) -> str:
    return f"{user}|read1:{session}"
