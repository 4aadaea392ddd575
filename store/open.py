"""The only place that names backends: chooses them, starts them in order, closes them in the opposite one.

Those of Postgres and Redis are imported when they are chosen: a gateway that is alone starts without them.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from store.bus import Bus, OnGap, Receiver
from store.bus_memory import MemoryBus
from store.cache import Cache
from store.cache_memory import MemoryCache
from store.live import Live
from store.live_memory import MemoryLive
from store.log import Log
from store.log_sqlite.checkup import Checkup, examine
from store.log_sqlite.log import SqliteLog
from store.log_sqlite.schema import migrate

if TYPE_CHECKING:
    from store.log_postgres.checkup import PostgresCheckup as PostgresCheckup
    from store.log_postgres.options import PostgresOptions
    from store.migrate import Half
    from store.redis_checkup import RedisCheckup as RedisCheckup


@dataclass(frozen=True)
class Places:
    """Where the stores are. Without a URL: SQLite in the folder, memory for the rest."""

    data_dir: Path
    node_id: str = "alone"
    database_url: str | None = None
    database_password_file: Path | None = None
    database_pool: int = 8
    database_timeout_s: float = 5.0
    redis_url: str | None = None
    redis_prefix: str = "gateway"


@dataclass(frozen=True)
class Stores:
    """The stores of a process. `media` is a bus apart, so that no flood of chunks pushes messages out."""

    log: Log
    live: Live
    bus: Bus
    media: Bus
    cache: Cache

    async def start(self, receiver: Receiver, on_gap: OnGap) -> None:
        """Start all; `receiver` gets what the buses bring, `on_gap` is told when hints may have been lost.

        When one fails the others are closed again. Redis is disposable: that it is away is no failure.
        """
        try:
            await self.log.start()
            await self.live.start()
            await self.cache.start()
            # Both at once, since each waits a moment for a Redis that is not there. Chunks are kept nowhere:
            # after a gap there is nothing to catch up with.
            buses = (self.bus.start(receiver, on_gap), self.media.start(receiver, lambda: None))
            for outcome in await asyncio.gather(*buses, return_exceptions=True):
                if outcome is not None:
                    raise outcome
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all of them whatever fails, the log last: who still works may still need it. Idempotent."""
        async with AsyncExitStack() as closing:
            for store in (self.log, self.live, self.cache, self.bus, self.media):
                closing.push_async_callback(store.close)


def open_stores(places: Places) -> Stores:
    """Choose the stores. Nothing is touched before `start`."""
    log = _open_log(places)
    if places.redis_url is None:
        return Stores(log=log, live=MemoryLive(), bus=MemoryBus(), media=MemoryBus(), cache=MemoryCache())
    from store.bus_redis.bus import RedisBus
    from store.cache_redis import RedisCache
    from store.live_redis.live import RedisLive

    url, prefix = places.redis_url, places.redis_prefix
    return Stores(
        log=log,
        live=RedisLive(url, prefix),
        bus=RedisBus(url, prefix, places.node_id),
        media=RedisBus(url, prefix, places.node_id, "media"),
        cache=RedisCache(url, prefix),
    )


def _open_log(places: Places) -> Log:
    if places.database_url is None:
        return SqliteLog(places.data_dir)
    from store.log_postgres.log import PostgresLog

    return PostgresLog(places.database_url, _postgres_options(places))


def _postgres_options(places: Places) -> "PostgresOptions":
    from store.log_postgres.options import PostgresOptions

    return PostgresOptions(
        pool_size=places.database_pool,
        statement_timeout_s=places.database_timeout_s,
        connect_timeout_s=places.database_timeout_s,
        password_file=places.database_password_file,
    )


def examine_redis(places: Places) -> "RedisCheckup":
    """Look at Redis. Unavailable."""
    from store.redis_checkup import examine as examine_server

    return examine_server(places.redis_url or "")


def examine_database(places: Places) -> "PostgresCheckup":
    """Look at the log in Postgres without changing it. Unavailable, SchemaRefused."""
    from store.log_postgres.checkup import examine as examine_postgres

    return examine_postgres(places.database_url or "", _postgres_options(places))


def examine_log(data_dir: Path) -> Checkup | None:
    """Look at the log without changing it; None where there is none yet. Unavailable, SchemaRefused."""
    return examine(data_dir)


def migrate_log(places: Places, *, finish: bool = False) -> list[str]:
    """Bring the log up to date; return what was applied. Unavailable, SchemaRefused.

    `finish`: in Postgres, the second half, which nodes of an older version could not bear.
    """
    if places.database_url is None:
        return migrate(places.data_dir)
    from store.log_postgres.schema import migrate as migrate_postgres

    half: Half = "after" if finish else "before"
    return migrate_postgres(places.database_url, _postgres_options(places), half=half)
