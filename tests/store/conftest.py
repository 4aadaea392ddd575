"""Every backend of every store. One more is one more entry in a table here; the suites stay as they are."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

import pytest

from store.bus import Bus, Receiver
from store.bus_memory import MemoryBus
from store.cache import Cache
from store.cache_memory import MemoryCache
from store.live import Live
from store.live_memory import MemoryLive
from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.records import Records
from tests.store.nodes import Bench, ManualClock

S = TypeVar("S")

Elapse = Callable[[int], Awaitable[None]]


@dataclass
class Timed(Generic[S]):
    """A store whose entries expire, and the way to let time pass for it."""

    store: S
    elapse: Elapse


@asynccontextmanager
async def sqlite_log(folder: Path) -> AsyncIterator[Log]:
    log = SqliteLog(folder)
    await log.start()
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def memory_live(folder: Path) -> AsyncIterator[Timed[Live]]:
    clock = ManualClock()
    live = MemoryLive(clock)
    await live.start()
    yield Timed(live, clock.elapse)
    await live.close()


@asynccontextmanager
async def memory_cache(folder: Path) -> AsyncIterator[Timed[Cache]]:
    clock = ManualClock()
    cache = MemoryCache(clock)
    await cache.start()
    yield Timed(cache, clock.elapse)
    await cache.close()


@asynccontextmanager
async def memory_bus(receiver: Receiver) -> AsyncIterator[Bus]:
    bus = MemoryBus()
    await bus.start(receiver)
    try:
        yield bus
    finally:
        await bus.close()


LOGS: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Log]]]] = {"sqlite": sqlite_log}
LIVES: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Timed[Live]]]]] = {"memory": memory_live}
CACHES: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Timed[Cache]]]]] = {
    "memory": memory_cache
}
BUSES: Final[dict[str, Callable[[Receiver], AbstractAsyncContextManager[Bus]]]] = {"memory": memory_bus}


@pytest.fixture(params=LOGS)
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    async with LOGS[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture(params=LIVES)
async def timed_live(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Timed[Live]]:
    async with LIVES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def live(timed_live: Timed[Live]) -> Live:
    return timed_live.store


@pytest.fixture(params=CACHES)
async def timed_cache(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Timed[Cache]]:
    async with CACHES[request.param](tmp_path) as opened:
        yield opened


@pytest.fixture
def cache(timed_cache: Timed[Cache]) -> Cache:
    return timed_cache.store


@pytest.fixture(params=BUSES)
def open_bus(request: pytest.FixtureRequest) -> Callable[[Receiver], AbstractAsyncContextManager[Bus]]:
    return BUSES[request.param]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    log = SqliteLog(tmp_path)
    await log.start()
    bench = Bench(log)
    yield bench
    bench.log.asking.set()
    bench.log.answering.set()
    await bench.close()
    await log.close()


@pytest.fixture
def records(bench: Bench) -> Records:
    return bench.node()
