"""The only place that names backends: chooses them, starts them in order, closes them in the opposite one."""

from dataclasses import dataclass
from pathlib import Path

from store.bus import Bus, Receiver
from store.bus_memory import MemoryBus
from store.cache import Cache
from store.cache_memory import MemoryCache
from store.live import Live
from store.live_memory import MemoryLive
from store.log import Log
from store.log_sqlite.checkup import Checkup, examine
from store.log_sqlite.log import SqliteLog
from store.log_sqlite.schema import migrate


@dataclass(frozen=True)
class Stores:
    """The four stores of a process."""

    log: Log
    live: Live
    bus: Bus
    cache: Cache

    async def start(self, receiver: Receiver) -> None:
        """Start all; `receiver` gets what the bus brings. When one fails the others are closed again."""
        try:
            await self.log.start()
            await self.live.start()
            await self.cache.start()
            await self.bus.start(receiver)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all of them, the log last: who still works may still need it. Idempotent."""
        try:
            await self.bus.close()
            await self.cache.close()
            await self.live.close()
        finally:
            await self.log.close()


def open_stores(data_dir: Path) -> Stores:
    """The embedded stores: SQLite in the folder, memory for the rest. Nothing is touched before `start`."""
    return Stores(log=SqliteLog(data_dir), live=MemoryLive(), bus=MemoryBus(), cache=MemoryCache())


def examine_log(data_dir: Path) -> Checkup | None:
    """Look at the log without changing it; None where there is none yet. Unavailable, SchemaRefused."""
    return examine(data_dir)


def migrate_log(data_dir: Path) -> list[str]:
    """Bring the log up to date; return what was applied. Unavailable, SchemaRefused."""
    return migrate(data_dir)
