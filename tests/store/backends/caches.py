"""Every cache there is, by name."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final
from uuid import uuid4

import pytest

from store.cache import Cache
from store.cache_memory import MemoryCache
from store.cache_redis import RedisCache
from tests.store.backends.least import url_of
from tests.store.backends.timed import Timed
from tests.store.nodes import ManualClock
from tests.waiting import later

# Redis counts in milliseconds, from the beginning of a command's turn.
ROUNDING_S: Final = 0.005


@asynccontextmanager
async def memory_cache(request: pytest.FixtureRequest) -> AsyncIterator[Timed[Cache]]:
    clock = ManualClock()
    cache = MemoryCache(clock)
    await cache.start()
    yield Timed(cache, clock.elapse)
    await cache.close()


@asynccontextmanager
async def redis_cache(server: str, request: pytest.FixtureRequest) -> AsyncIterator[Timed[Cache]]:
    """A cache on the server that this fixture gives, with a prefix of its own."""
    prefix = f"t{uuid4().hex[:8]}"
    cache = RedisCache(url_of(request.getfixturevalue(server), prefix), prefix)
    await cache.start()
    yield Timed(cache, elapse)
    await cache.close()


async def elapse(ms: int) -> None:
    """Let time pass."""
    await later(ms / 1000 + ROUNDING_S)


CACHES: Final[dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Timed[Cache]]]]] = {
    "memory": memory_cache,
    "redis62": partial(redis_cache, "redis62"),
    "redis7": partial(redis_cache, "redis7"),
    "cluster": partial(redis_cache, "redis_cluster"),
    "least": partial(redis_cache, "redis_least"),
}
