"""Every live store there is, by name."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from functools import partial
from typing import Final
from uuid import uuid4

import pytest

from store.live import Live
from store.live_memory import MemoryLive
from store.live_redis.live import RedisLive
from tests.store.backends.least import url_of
from tests.store.backends.rewind import Contents
from tests.store.backends.timed import Timed
from tests.store.nodes import ManualClock


@asynccontextmanager
async def memory_live(request: pytest.FixtureRequest) -> AsyncIterator[Timed[Live]]:
    clock = ManualClock()
    live = MemoryLive(clock)
    await live.start()
    yield Timed(live, clock.elapse)
    await live.close()


@asynccontextmanager
async def redis_live(server: str, request: pytest.FixtureRequest) -> AsyncIterator[Timed[Live]]:
    """A live store on the server that this fixture gives, with a prefix of its own."""
    servers = request.getfixturevalue(server)
    prefix = f"t{uuid4().hex[:8]}"
    live = RedisLive(url_of(servers, prefix), prefix)
    await live.start()
    with closing(Contents(servers, prefix)) as contents:

        async def elapse(ms: int) -> None:
            contents.age(ms)

        yield Timed(live, elapse)
    await live.close()


LIVES: Final[dict[str, Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Timed[Live]]]]] = {
    "memory": memory_live,
    "redis62": partial(redis_live, "redis62"),
    "redis7": partial(redis_live, "redis7"),
    "cluster": partial(redis_live, "redis_cluster"),
    "least": partial(redis_live, "redis_least"),
}
