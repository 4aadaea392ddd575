"""Every cache there is, by name."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from store.cache import Cache
from store.cache_memory import MemoryCache
from tests.store.backends.timed import Timed
from tests.store.nodes import ManualClock


@asynccontextmanager
async def memory_cache() -> AsyncIterator[Timed[Cache]]:
    clock = ManualClock()
    cache = MemoryCache(clock)
    await cache.start()
    yield Timed(cache, clock.elapse)
    await cache.close()


CACHES: Final[dict[str, Callable[[], AbstractAsyncContextManager[Timed[Cache]]]]] = {"memory": memory_cache}
