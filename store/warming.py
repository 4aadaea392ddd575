"""Lists put into the cache when their users connect, before they ask: at a bounded rate."""

import asyncio
from typing import Final

import structlog

from store.errors import Unavailable
from store.lists import Lists

# A list costs a query and two milliseconds of the loop. So many a second are a tenth of a core; in a storm of
# reconnections those who do not fit in are passed over: their list is read when they ask for it.
PAUSE_S: Final = 0.02
WAITING_USERS: Final = 200

_logger = structlog.get_logger("store.cache")


class Warming:
    """Users whose lists are to be read, and the task that does it. `close` ends it."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self._waiting: dict[tuple[str, str], None] = {}
        self._task: asyncio.Task[None] | None = None

    def ask(self, tenant: str, user: str) -> None:
        """Read a user's list soon, unless too many wait already. Never waits."""
        if len(self._waiting) >= WAITING_USERS:
            return
        self._waiting[tenant, user] = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="warming")

    async def close(self) -> None:
        """Read no more. Idempotent."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._waiting:
            tenant, user = next(iter(self._waiting))
            del self._waiting[tenant, user]
            try:
                await self._lists.warm(tenant, user)
            except Unavailable as error:
                _logger.debug("warming_failed", error=str(error))
            except Exception:
                _logger.exception("warming_failed")
            await asyncio.sleep(PAUSE_S)
