"""The last messages of sessions, for lists: told to the cache after the acks, gathered, by a task.

No ack waits for the cache. What this node has yet to tell it knows itself.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from store.shelf import Shelf, decoded

TTL_MS: Final = 10 * 60 * 1000
PREVIEW: Final = 120
# One call tells of all messages of a tenth of a second: of a session that is written to a hundred times a
# second, ten. By so much other nodes' lists are behind.
GATHER_S: Final = 0.1
# Sessions that have yet to be told of: more than are written to in the second that a cache may take to
# answer. Above it the one written to longest ago is forgotten: its tail may be old until it expires.
WAITING_SESSIONS: Final = 50_000


class Tail(msgspec.Struct, array_like=True, frozen=True):
    """What a message changes in the list. Its version is the head."""

    head: int
    last_at: int
    preview: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(Tail)


def tail_key(session: str) -> str:
    """Where the tail of a session lies."""
    return f"{session}|tail1"


def tail_entry(session: str, tail: Tail) -> tuple[str, bytes, int]:
    """A tail as it lies in the cache."""
    return tail_key(session), _encode(tail), tail.head


class Tails:
    """Gathers what is to be told, and tells it. `close` tells what is left, and ends the task.

    Of a session is known its tail, or its head alone: then what the cache has of it may be older.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._waiting: dict[str, Tail | int] = {}
        self._telling: dict[str, Tail | int] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, known: Mapping[str, Tail | int]) -> None:
        """Tell the cache in a moment of these sessions. Never waits."""
        for session, newer in known.items():
            self._waiting[session] = _newest(self._waiting.pop(session, None), newer)
        while len(self._waiting) > WAITING_SESSIONS:
            del self._waiting[next(iter(self._waiting))]
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="tails")

    def newest(self, session: str, stored: bytes | None) -> Tail | None:
        """The tail of a session, as the cache or this node knows it; None where it has to be read."""
        newest: Tail | int | None = decoded(_decoder, stored)
        for known in (self._telling.get(session), self._waiting.get(session)):
            if known is not None:
                newest = _newest(newest, known)
        return newest if isinstance(newest, Tail) else None

    async def close(self) -> None:
        """Tell what is left, within the cache's limit of time. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for session, known in self._telling.items():
            self._waiting[session] = _newest(self._waiting.get(session), known)
        await self._tell()

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_S)
            await self._tell()

    async def _tell(self) -> None:
        self._telling, self._waiting = self._waiting, {}
        entries, heads = [], []
        for session, known in self._telling.items():
            if isinstance(known, Tail):
                entries.append(tail_entry(session, known))
            else:
                heads.append((tail_key(session), known))
        if entries:
            await self._shelf.replace("list", entries, TTL_MS)
        if heads:
            await self._shelf.drop(heads, TTL_MS)
        self._telling = {}


def _newest(one: Tail | int | None, other: Tail | int) -> Tail | int:
    """What is known to be newer; of two that are as new, the one that says more."""
    if one is None:
        return other
    return max(one, other, key=lambda known: (_head(known), isinstance(known, Tail)))


def _head(known: Tail | int) -> int:
    return known.head if isinstance(known, Tail) else known
