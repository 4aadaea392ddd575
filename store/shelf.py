"""The cache as the records use it: its absence is no error, and what it missed is made up for."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, Literal

import msgspec
import structlog

from store.cache import Cache, Entry
from store.errors import Unavailable

Level = Literal["session", "list", "page"]

# A cache that does not answer is left alone for so long; then it is tried by nobody who is waited for.
AWAY_S: Final = 1.0
# Changes made while the cache was away. Above this the oldest is forgotten, and what it made old may be
# served until it expires.
OWED_LIMIT: Final = 50_000
# Debts paid in one call: a fraction of the limit of time even where each has to go its own way.
PAID_AT_ONCE: Final = 500

_PROBE: Final = "probe"

_logger = structlog.get_logger("store.cache")


class Shelf:
    """Serves nothing while the cache is away; when it is back, first drops what this node has changed.

    Whoever finds it away learns so within the cache's limit of time; from then on nobody waits for it. A
    task tries it again and pays what is owed; `close` ends it.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._is_away = False
        # By key: the oldest version that may be served, None for what the keeper's clock tells; for how long.
        self._owed: dict[str, tuple[int | None, int]] = {}
        self._healing: asyncio.Task[None] | None = None
        self.counts: Counter[str] = Counter()

    @property
    def is_away(self) -> bool:
        """Whether the cache is being left alone."""
        return self._is_away

    @property
    def owed(self) -> int:
        """How many keys have yet to be dropped in the cache."""
        return len(self._owed)

    async def close(self) -> None:
        """End the tries. What is still owed stays old in the cache until it expires. Idempotent."""
        if self._healing is not None:
            self._healing.cancel()
            await asyncio.wait([self._healing])

    def count(self, level: Level, is_hit: bool) -> None:
        """Note that a level could answer, or had to ask the log."""
        self.counts[f"{level}_{'hit' if is_hit else 'miss'}"] += 1

    def loaded(self, level: Level) -> None:
        """Note that the log was asked, for all who waited for the answer."""
        self.counts[f"{level}_load"] += 1

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values, as far as they are there."""
        found: list[bytes | None] = [None] * len(keys)

        async def get() -> None:
            found[:] = await self._cache.get_many(keys)

        await self._attempt(get)
        return found

    async def now_ms(self, key: str) -> int | None:
        """`Cache.now_ms`; None while the cache is away."""
        told: list[int] = []

        async def ask() -> None:
            told.append(await self._cache.now_ms(key))

        await self._attempt(ask)
        return told[0] if told else None

    async def fill(self, level: Level, entries: Sequence[Entry], ttl_ms: int) -> None:
        """Store what was read from the log."""
        await self._put(level, entries, ttl_ms)

    async def replace(self, level: Level, entries: Sequence[Entry], ttl_ms: int) -> None:
        """Store what has just been changed: from now on no older value may be served."""
        if not await self._put(level, entries, ttl_ms):
            self._owe([(key, version) for key, _, version in entries], ttl_ms)

    async def drop(self, versions: Sequence[tuple[str, int]], ttl_ms: int) -> None:
        """Let no value older than these versions be served from now on."""
        if not await self._attempt(lambda: self._cache.drop_many(versions, ttl_ms=ttl_ms)):
            self._owe(versions, ttl_ms)

    async def outdate(self, keys: Sequence[str], ttl_ms: int, *, margin_ms: int = 0) -> None:
        """Let nothing that was read before now, and the margin, be served from now on."""
        if not await self._attempt(
            lambda: self._cache.outdate_many(keys, margin_ms=margin_ms, ttl_ms=ttl_ms)
        ):
            self._owe([(key, None) for key in keys], ttl_ms)

    async def _put(self, level: Level, entries: Sequence[Entry], ttl_ms: int) -> bool:
        is_done = await self._attempt(lambda: self._cache.put_many(entries, ttl_ms=ttl_ms))
        if is_done:
            self.counts[f"{level}_bytes"] += sum(len(value) for _, value, _ in entries)
        return is_done

    async def _attempt(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Make a call when the cache is there and owes us nothing; whether it was made."""
        if self._is_away:
            return False
        try:
            await call()
        except Unavailable as error:
            self._leave_alone(error)
            return False
        return True

    def _leave_alone(self, error: Unavailable) -> None:
        self._is_away = True
        if self._healing is None or self._healing.done():
            self.counts["away"] += 1
            _logger.debug("cache_away", error=str(error))
            self._healing = asyncio.get_running_loop().create_task(self._heal(), name="cache comes back")

    async def _heal(self) -> None:
        """Try until the cache answers and nothing is owed."""
        while self._is_away:
            await asyncio.sleep(AWAY_S)
            try:
                await self._cache.get(_PROBE)
                while self._owed:
                    await self._pay(list(islice(self._owed.items(), PAID_AT_ONCE)))
                # Nothing is awaited in between: whoever changes something now tells the cache itself.
                self._is_away = False
            except Unavailable as error:
                _logger.debug("cache_still_away", error=str(error))
            except Exception:
                _logger.exception("cache_healing_failed")

    async def _pay(self, debts: Sequence[tuple[str, tuple[int | None, int]]]) -> None:
        for ttl_ms in {ttl_ms for _, (_, ttl_ms) in debts}:
            due = [(key, version) for key, (version, ttl) in debts if ttl == ttl_ms]
            versions = [(key, version) for key, version in due if version is not None]
            outdated = [key for key, version in due if version is None]
            await self._cache.drop_many(versions, ttl_ms=ttl_ms)
            await self._cache.outdate_many(outdated, margin_ms=0, ttl_ms=ttl_ms)
        for key, debt in debts:
            if self._owed.get(key) == debt:
                del self._owed[key]

    def _owe(self, versions: Iterable[tuple[str, int | None]], ttl_ms: int) -> None:
        for key, version in versions:
            known, _ = self._owed.pop(key, (version, 0))
            self._owed[key] = (version if version is None else max(known or 0, version), ttl_ms)
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
