"""The tasks of one node: each has this owner, which awaits it and tells of its faults."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from store.errors import StoreError

RESTART_S: Final = 1.0

_logger = structlog.get_logger("gateway.runtime")


class Tasks:
    """Starts tasks and ends them. `stop` cancels what still runs and returns when all are gone."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something to its end; an exception out of it is a bug and logged with its trace."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run something that ends only when it was told to; after a bug it is started again."""
        self.spawn(self._keep(name, work))

    def every(self, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run something again and again, with this pause between.

        A store being away is told once each way.
        """
        self.spawn(self._every(seconds, name, work))

    async def stop(self) -> None:
        """Cancel everything and wait for it."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("task_failed", exc_info=error)

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
                return
            except Exception:
                _logger.exception("task_failed", task=name)
            await asyncio.sleep(RESTART_S)

    async def _every(self, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        is_away = False
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
                if is_away:
                    _logger.info("store_back", task=name)
                is_away = False
            except StoreError as error:
                if not is_away:
                    _logger.warning("store_away", task=name, error=str(error))
                is_away = True
            except Exception:
                _logger.exception("task_failed", task=name)
