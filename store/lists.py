"""Users' lists of sessions, put together from parts that change at different times, each by its version."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from store.cache import Entry
from store.flights import Flights
from store.log import Log
from store.shelf import Shelf, decoded
from store.types import Listing, Role, Session

TTL_MS: Final = 10 * 60 * 1000
SESSION_TTL_MS: Final = 60 * 60 * 1000
# Who has more live sessions than this is served by the log: the list would be dearer than what it saves.
LIST_LIMIT: Final = 500
# The version of a list, and of a read marker, is the time at which its reading began. Whoever changes it
# drops what is older than this much from now: right on all nodes whose clocks are less than this apart, at
# the price that what was changed is not cached for as long.
SKEW_MS: Final = 2_000
PREVIEW: Final = 120


class Stored(msgspec.Struct, array_like=True, frozen=True):
    """A session, and what its version in the cache is."""

    number: int
    session: Session


class Tail(msgspec.Struct, array_like=True, frozen=True):
    """What a message changes in the list. Its version is the head."""

    head: int
    last_at: int
    preview: str


_Members = list[tuple[str, Role]]

_encode: Final = msgspec.msgpack.Encoder().encode
_session_decoder: Final = msgspec.msgpack.Decoder(Stored)
_list_decoder: Final = msgspec.msgpack.Decoder(_Members | Literal["too many"])
_tail_decoder: Final = msgspec.msgpack.Decoder(Tail)
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
    return f"session1:{tenant}/{session}"


class Lists:
    """What `Log.list_for` answers. It is as old as the beginning of the reading it comes from, at most."""

    def __init__(
        self, log: Log, shelf: Shelf, flights: Flights, now_ms: Callable[[], int] | None = None
    ) -> None:
        self._log = log
        self._shelf = shelf
        self._flights = flights
        self._wall_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._latest_ms = 0

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

    def _now_ms(self) -> int:
        """Wall time that never goes back: a clock that is set must not make a change older than a list."""
        self._latest_ms = max(self._latest_ms, self._wall_ms())
        return self._latest_ms

    # -- what changes a list

    async def changed(self, users: Sequence[tuple[str, str]]) -> None:
        """Sessions joined or left the lists of these (tenant, user)."""
        for tenant, user in users:
            self._flights.forget(("list", tenant, user))
        version = self._now_ms() + SKEW_MS
        await self._shelf.drop([(_list_key(tenant, user), version) for tenant, user in users], TTL_MS)

    async def read(self, readers: Sequence[tuple[str, str]]) -> None:
        """The read markers of these (session, user) have moved."""
        version = self._now_ms() + SKEW_MS
        await self._shelf.drop([(_read_key(session, user), version) for session, user in readers], TTL_MS)

    async def grown(self, tails: dict[str, Tail]) -> None:
        """These sessions have new messages."""
        entries = [(_tail_key(session), _encode(tail), tail.head) for session, tail in tails.items()]
        await self._shelf.replace(entries, TTL_MS)

    # -- from the cache, and into it

    async def _cached(self, tenant: str, user: str) -> list[Listing] | Literal["too many"] | None:
        (value,) = await self._shelf.get_many([_list_key(tenant, user)])
        members: _Members | Literal["too many"] | None = decoded(_list_decoder, value)
        if members is None or members == "too many":
            return members
        keys = [
            key for id, _ in members for key in (session_key(tenant, id), _tail_key(id), _read_key(id, user))
        ]
        values = await self._shelf.get_many(keys)
        listings: list[Listing] = []
        for (_, role), parts in zip(members, zip(*[iter(values)] * 3, strict=True), strict=True):
            listing = _listing(role, *parts)
            if listing is None:
                return None
            listings.append(listing)
        return _in_order(listings)

    async def _load(self, tenant: str, user: str) -> list[Listing] | Literal["too many"]:
        version = self._now_ms()
        listings = await self._log.list_for(tenant, user, before=None, limit=LIST_LIMIT + 1)
        if len(listings) > LIST_LIMIT:
            await self._shelf.fill([(_list_key(tenant, user), _encode("too many"), version)], TTL_MS)
            return "too many"
        members = [(row.session.id, row.role) for row in listings]
        parts: list[Entry] = [(_list_key(tenant, user), _encode(members), version)]
        for row in listings:
            tail = Tail(row.session.head, row.last_at, row.preview)
            parts.append((_tail_key(row.session.id), _encode(tail), tail.head))
            parts.append((_read_key(row.session.id, user), _encode(row.read), version))
        await asyncio.gather(
            self._shelf.fill([session_entry(row.session) for row in listings], SESSION_TTL_MS),
            self._shelf.fill(parts, TTL_MS),
        )
        return listings


def _listing(role: Role, session: bytes | None, tail: bytes | None, read: bytes | None) -> Listing | None:
    """One row, if all its parts are there."""
    record = stored_session(session)
    end: Tail | None = decoded(_tail_decoder, tail)
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


# Names may hold a colon, but no slash: two pairs of them never meet in one key.


def _list_key(tenant: str, user: str) -> str:
    return f"list1:{tenant}/{user}"


def _tail_key(session: str) -> str:
    return f"tail1:{session}"


def _read_key(session: str, user: str) -> str:
    return f"read1:{session}/{user}"
