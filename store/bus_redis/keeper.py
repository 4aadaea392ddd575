"""Keeps one connection to one server: makes it, and makes it again when it is lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from store.bus_redis.link import Link
from store.bus_redis.server import Address, Server
from store.errors import Unavailable

# At first at once: most losses are of one connection. Then in growing steps, each node in its own rhythm, so
# that a server that comes up meets them one after the other.
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0

# A connection that lives for less than this was no success: who is cut off each time waits longer each time.
STEADY_S: Final = 5.0

_logger = structlog.get_logger("store.bus")


class Holder(Protocol):
    """Whose connection it is."""

    def take(self, reply: Any) -> None:
        """Take one reply. Must not raise."""

    async def ready(self, link: Link) -> None:
        """Put a new connection to use. Unavailable: it is of none, and another is made."""

    def gone(self) -> None:
        """The connection is no more."""

    def failed(self) -> None:
        """No connection could be made."""


class Keeper:
    """One connection. `run` is its life, which ends only by being cancelled."""

    def __init__(self, server: Server, address: Address, purpose: str) -> None:
        self.losses = 0
        self._server = server
        self._address = address
        self._purpose = purpose
        self._is_told = False  # that there is none: one line for each time, not for each attempt

    async def run(self, holder: Holder) -> None:
        """Keep it."""
        failures = 0
        while True:
            begun = asyncio.get_running_loop().time()
            reason = await self._live(holder)
            self.losses += 1
            if not self._is_told:
                self._is_told = True
                _logger.warning("bus_lost", purpose=self._purpose, redis=str(self._address), reason=reason)
            if asyncio.get_running_loop().time() - begun > STEADY_S:
                failures = 0
            await asyncio.sleep(pause_s(failures))
            failures += 1

    async def _live(self, holder: Holder) -> str:
        """Live through one connection; return why it is over."""
        try:
            link = await self._server.connect(self._address, holder.take)
        except Unavailable as error:
            holder.failed()
            return str(error)
        try:
            await holder.ready(link)
            if self._is_told:
                self._is_told = False
                _logger.info("bus_back", purpose=self._purpose, redis=str(self._address))
            return await asyncio.shield(link.lost)
        except Unavailable as error:
            return str(error)
        finally:
            link.abort("given up")
            holder.gone()


async def forever(work: Callable[[], Awaitable[None]]) -> None:
    """Do something that ends only by being cancelled; after a bug it is told of, and begun again."""
    while True:
        try:
            await work()
        except Exception:
            _logger.exception("task_failed", task=getattr(work, "__qualname__", repr(work)))
        await asyncio.sleep(LONGEST_PAUSE_S)


def pause_s(failures: int) -> float:
    """How long to wait before the next attempt, after so many that failed."""
    if not failures:
        return 0.0
    # 2 ** 16 is far beyond the longest, and a float whatever comes.
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
