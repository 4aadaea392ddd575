"""Messages, read in pages with fixed bounds: a full page never changes, so it needs no invalidation."""

from typing import Final

import msgspec

from store.flights import Flights, Key
from store.log import Log
from store.shelf import Shelf, decoded
from store.types import Message

# Page n holds seq 50 n + 1 to 50 n + 50: as many as a history request asks for.
PAGE: Final = 50
TTL_MS: Final = 30 * 60 * 1000
# A page of long messages is not kept: it would drive a hundred others out.
PAGE_BYTES: Final = 256 * 1024

_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(list[Message])


class Pages:
    """What `Log.read` and `read_before` answer, from the cache where whole pages are needed."""

    def __init__(self, log: Log, shelf: Shelf, flights: Flights) -> None:
        self._log = log
        self._shelf = shelf
        self._flights = flights

    async def read(self, session: str, *, after: int, limit: int) -> list[Message]:
        """As `Log.read`."""
        found: list[Message] = []
        after = max(0, after)
        while len(found) < limit:
            number = after // PAGE
            page = await self._page(session, number)
            found += [message for message in page if message.seq > after][: limit - len(found)]
            if len(page) < PAGE:
                break
            after = (number + 1) * PAGE
        return found

    async def read_before(self, session: str, *, before: int, limit: int) -> list[Message]:
        """As `Log.read_before`."""
        found: list[Message] = []
        while len(found) < limit and before > 1:
            number = (before - 2) // PAGE
            page = await self._page(session, number)
            if not page:
                # Far behind the end of the session, which only the log knows.
                return await self._log.read_before(session, before=before, limit=limit)
            wanted = limit - len(found)
            found = [message for message in page if message.seq < before][-wanted:] + found
            before = number * PAGE + 1
        return found

    async def _page(self, session: str, number: int) -> list[Message]:
        """A page, full or as far as it goes."""
        cached = await self._cached(session, number)
        self._shelf.count("page", cached is not None)
        if cached is not None:
            return cached
        key: Key = ("page", session, number)
        is_joined = key in self._flights
        page = await self._flights.run(key, lambda: self._load(session, number))
        if is_joined and len(page) < PAGE:
            # It was asked for before we were: what was committed in between may be missing.
            page = await self._flights.run(key, lambda: self._load(session, number))
        return page

    async def _cached(self, session: str, number: int) -> list[Message] | None:
        (value,) = await self._shelf.get_many([_key(session, number)])
        page: list[Message] | None = decoded(_decoder, value)
        return page

    async def _load(self, session: str, number: int) -> list[Message]:
        page = await self._log.read(session, after=number * PAGE, limit=PAGE)
        self._shelf.loaded("page")
        if len(page) == PAGE:
            value = _encode(page)
            if len(value) <= PAGE_BYTES:
                await self._shelf.fill("page", [(_key(session, number), value, 1)], TTL_MS)
        return page


def _key(session: str, number: int) -> str:
    return f"page1:{session}:{number}"
