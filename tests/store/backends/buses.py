"""Every bus there is, by name: `BUSES[name](request)` opens buses of one place, each as another node."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final
from uuid import uuid4

import pytest

from store.bus import Bus, OnGap, Receiver
from store.bus_memory import MemoryBus
from store.bus_redis.bus import RedisBus
from tests.store.backends.least import url_of

OpenBus = Callable[[Receiver, OnGap], AbstractAsyncContextManager[Bus]]


@asynccontextmanager
async def started(bus: Bus, receiver: Receiver, on_gap: OnGap) -> AsyncIterator[Bus]:
    """Run a bus for the length of a block."""
    await bus.start(receiver, on_gap)
    try:
        yield bus
    finally:
        await bus.close()


def memory(request: pytest.FixtureRequest) -> OpenBus:
    """The bus of a gateway that is alone: each is a place of its own."""
    return lambda receiver, on_gap: started(MemoryBus(), receiver, on_gap)


def redis(server: str, request: pytest.FixtureRequest) -> OpenBus:
    """Buses on one Redis, with a prefix that nobody else has."""
    prefix = f"t{uuid4().hex[:8]}"
    url = url_of(request.getfixturevalue(server), prefix)
    return lambda receiver, on_gap: started(RedisBus(url, prefix, uuid4().hex[:8]), receiver, on_gap)


MANY_NODES: Final[dict[str, Callable[[pytest.FixtureRequest], OpenBus]]] = {
    "redis62": partial(redis, "redis62"),
    "redis7": partial(redis, "redis7"),
    "cluster": partial(redis, "redis_cluster"),
    "cluster62": partial(redis, "redis_cluster62"),
    "least": partial(redis, "redis_least"),
}

BUSES: Final = {"memory": memory, **MANY_NODES}
