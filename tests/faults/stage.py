"""What cells are played on: a Postgres and a Redis that may go away, three nodes, and proxies between."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.proxy import FaultProxy
from loadtest.servers.redis import RedisServer
from tests.cluster.conftest import migrated
from tests.cluster.world import Ground, World
from tests.faults.plan import NODES

# Three pools of 10 and what must not wait behind them; few, so that they are soon exhausted.
POSTGRES: Final = {"max_connections": "60", "fsync": "off"}
ENV: Final = {
    # Some sleepers are to be found out; 6 s beside a heartbeat of 1 s.
    "GATEWAY_HEARTBEAT_TIMEOUT_MS": "6000",
    "GATEWAY_DRAIN_S": "5",
    # Three sweepers that meet often.
    "GATEWAY_SWEEP_S": "0.5",
}
COMMAND: Final = (sys.executable, "-m", "tests.faults.stallable", "serve")


@dataclass(frozen=True, slots=True)
class Stage:
    """Servers, nodes and the ways between them; `doors` stand before the nodes, for clients on a bad line."""

    postgres: PostgresServer
    redis: RedisServer
    ground: Ground
    world: World
    to_postgres: list[FaultProxy]
    to_redis: list[FaultProxy]
    doors: list[FaultProxy]


@asynccontextmanager
async def set_up(folder: Path) -> AsyncIterator[Stage]:
    """Start all of it; logs stay in the folder."""
    async with AsyncExitStack() as stack:
        starting = asyncio.to_thread(PostgresServer.start, folder / "postgres", settings=POSTGRES)
        postgres = stack.enter_context(await starting)
        redis = stack.enter_context(await asyncio.to_thread(RedisServer.start, folder / "redis"))
        database = postgres.url(await asyncio.to_thread(migrated, postgres))

        async def before(port: int) -> FaultProxy:
            return await stack.enter_async_context(await FaultProxy.start(("127.0.0.1", port)))

        to_postgres = [await before(postgres.port) for _ in range(NODES)]
        to_redis = [await before(redis.port) for _ in range(NODES)]
        ground = Ground(
            database,
            redis.url,
            tuple(proxy.url_of(database) for proxy in to_postgres),
            tuple(proxy.url_of(redis.url) for proxy in to_redis),
        )
        world = World(folder, ground, count=NODES, env=ENV, command=COMMAND)
        await stack.enter_async_context(world)
        doors = [await before(node.port) for node in world.nodes]
        yield Stage(postgres, redis, ground, world, to_postgres, to_redis, doors)
