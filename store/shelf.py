"""The cache as the records use it: its absence is no error, and what it missed is made up for."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from store.cache import Cache, Entry
from store.errors import Unavailable

# A cache that does not answer is left alone for so long: requests must not wait for it one by one.
AWAY_S: Final = 1.0
# Changes made while the cache was away. Above this the oldest is forgotten, and what it made old may be
# served until it expires.
OWED_LIMIT: Final = 50_000


class Shelf:
    """Serves nothing while the cache is away; when it is back, first drops what this node has changed."""

    def __init__(self, cache: Cache, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._cache = cache
        self._monotonic = monotonic
        self._away_until = 0.0
        self._owed: dict[str, tuple[int, int]] = {}
        self.counts: Counter[str] = Counter()

    @property
    def is_away(self) -> bool:
        """Whether the cache is being left alone."""
        return self._monotonic() < self._away_until

    @property
    def owed(self) -> int:
        """How many keys have yet to be dropped in the cache."""
        return len(self._owed)

    def count(self, level: str, is_hit: bool) -> None:
        """Note that a level could answer, or had to ask the log."""
        self.counts[f"{level}_{'hit' if is_hit else 'miss'}"] += 1

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values, as far as they are there."""
        found: list[bytes | None] = [None] * len(keys)

        async def get() -> None:
            found[:] = await self._cache.get_many(keys)

        await self._attempt(get)
        return found

    async def fill(self, entries: Sequence[Entry], ttl_ms: int) -> None:
        """Store what was read from the log."""
        await self._attempt(lambda: self._cache.put_many(entries, ttl_ms=ttl_ms))

    async def replace(self, entries: Sequence[Entry], ttl_ms: int) -> None:
        """Store what has just been changed: from now on no older value may be served."""
        if not await self._attempt(lambda: self._cache.put_many(entries, ttl_ms=ttl_ms)):
            self._owe([(key, version) for key, _, version in entries], ttl_ms)

    async def drop(self, versions: Sequence[tuple[str, int]], ttl_ms: int) -> None:
        """Let no value older than these versions be served from now on."""
        if not await self._attempt(lambda: self._cache.drop_many(versions, ttl_ms=ttl_ms)):
            self._owe(versions, ttl_ms)

    async def _attempt(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Make a call when the cache is there and owes us nothing; whether it was made."""
        if self.is_away:
            return False
        try:
            for key, (version, ttl_ms) in list(self._owed.items()):
                await self._cache.drop(key, version=version, ttl_ms=ttl_ms)
                if self._owed.get(key) == (version, ttl_ms):
                    del self._owed[key]
            await call()
        except Unavailable:
            self._away_until = self._monotonic() + AWAY_S
            return False
        return True

    def _owe(self, versions: Sequence[tuple[str, int]], ttl_ms: int) -> None:
        for key, version in versions:
            known, _ = self._owed.pop(key, (version, 0))
            self._owed[key] = (max(known, version), ttl_ms)
        while len(self._owed) > OWED_LIMIT:
            del self._owed[next(iter(self._owed))]


def decoded(decoder: "msgspec.msgpack.Decoder[Any]", value: bytes | None) -> Any:
    """A stored value; None when it is not there, or was stored by a version that does so otherwise."""
    if value is None:
        return None
    try:
        return decoder.decode(value)
    except msgspec.DecodeError:
        return None
