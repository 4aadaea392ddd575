"""Tasks with an owner: each is awaited by somebody, and none outlives the client."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger("session_gateway_client")


async def reap(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel what is not done and wait until everything is. Outcomes are left where they are."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        # Looked at, so that asyncio does not report as forgotten what its owner chose not to use.
        if not task.cancelled():
            task.exception()


class Tasks:
    """The set of tasks that run on behalf of one owner."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` until it ends or the owner closes. A failure of it is a bug, and logged as one."""
        if self._is_closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cancel them all and wait for their end."""
        self._is_closed = True
        # Closed from inside one of them: that one ends by itself.
        await reap(*(self._running - {asyncio.current_task()}))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)
