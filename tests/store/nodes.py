"""Nodes on one log and one cache, both of which can be watched, held and taken away."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from store.cache_memory import MemoryCache
from store.errors import Unavailable
from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.records import Records
from store.types import Session


class ManualClock:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    async def elapse(self, ms: int) -> None:
        self.now += ms / 1000


class WatchedLog:
    """A log that counts what it is asked, and can be held: before it asks, or before it answers."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.asked: Counter[str] = Counter()
        self.asking = asyncio.Event()
        self.answering = asyncio.Event()
        self.asking.set()
        self.answering.set()
        self.failure: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._log, name)

        async def watched(*given: Any, **more: Any) -> Any:
            self.asked[name] += 1
            await self.asking.wait()
            if self.failure is not None:
                raise self.failure
            answer = await method(*given, **more)
            await self.answering.wait()
            return answer

        return watched

    @property
    def questions(self) -> int:
        return self.asked.total()


class AbsentCache:
    """A cache that can be away, hang or lose what it has, and remembers how often it was tried."""

    def __init__(self, cache: MemoryCache) -> None:
        self._cache = cache
        self.is_away = False
        self.tried = 0
        self.called: Counter[str] = Counter()
        self.hanging = ""  # what alone hangs while `answering` is not set; empty: everything
        self.answering = asyncio.Event()
        self.answering.set()

    def holds(self, key: str) -> bool:
        return key in self._cache._values

    def lose(self, key: str) -> None:
        """Forget a key and everything about it, as any cache may."""
        self._cache._remove(key)
        self._cache._floors.pop(key, None)

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._cache, name)

        async def reached(*given: Any, **more: Any) -> Any:
            self.tried += 1
            self.called[name] += 1
            if self.hanging in ("", name):
                await self.answering.wait()
            if self.is_away:
                raise Unavailable("the cache is away")
            return await method(*given, **more)

        return reached


class Bench:
    """A log, a cache, and any number of nodes on them."""

    def __init__(self, log: SqliteLog) -> None:
        self.truth = log
        self.log = WatchedLog(log)
        self.clock = ManualClock()
        self.cache = AbsentCache(MemoryCache(self.clock))
        self._nodes: list[Records] = []

    def node(self) -> Records:
        records = Records(self.log, self.cache)
        self._nodes.append(records)
        return records

    def later(self, ms: int) -> None:
        self.clock.now += ms / 1000

    async def asked_by(self, call: Awaitable[Any]) -> int:
        """How many questions to the log a call costs."""
        before = self.log.questions
        await call
        return self.log.questions - before

    async def close(self) -> None:
        for records in self._nodes:
            await records.close()


async def listed(records: Records, user: str = "alice") -> list[str]:
    """The ids in a user's list."""
    return [row.session.id for row in await records.list_for("t", user, before=None, limit=100)]


async def warm(records: Records, session: Session, *users: str) -> None:
    """Have a node cache what it can of a session."""
    await records.get("t", session.id)
    for user in users:
        await records.access("t", session.id, user)
        await listed(records, user)
