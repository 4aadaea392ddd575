"""The tasks of one node: each has this owner, which awaits it and tells of its faults."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from store.errors import StoreError

RESTART_S: Final = 1.0
# Health tells within a few seconds that a store is away. What fails for longer than this without such a word
# fails for a reason of its own, a right that is missing for example.
UNEXPLAINED_S: Final = 10.0

_logger = structlog.get_logger("gateway.runtime")


class Tasks:
    """Starts tasks and ends them. `stop` cancels what still runs and returns when all are gone.

    `is_explained` says whether it is known, and was told, that a store is away.
    """

    def __init__(self, is_explained: Callable[[], bool]) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_explained = is_explained
        self._is_stopped = False
        self.failures: Counter[str] = Counter()  # of periodic work, for a store's sake, by name

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something to its end; an exception out of it is a bug and logged with its trace.

        After `stop` nothing is begun: a timer of fan-out may still fire, and there is nobody left to own it.
        """
        if self._is_stopped:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run something that ends only when it was told to; after a bug it is started again."""
        self.spawn(self._keep(name, work))

    def every(self, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run something again and again, with this pause between.

        A store's failures are counted; that it is away is told by health, and not by each of its users.
        """
        self.spawn(self._every(seconds, name, work))

    async def stop(self) -> None:
        """Cancel everything and wait for it."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self._is_stopped = True

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
        failing = _Failing(name)
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
                failing.over()
            except StoreError as error:
                self.failures[name] += 1
                _logger.debug("task_postponed", task=name, error=str(error))
                failing.again(error, is_explained=self._is_explained())
            except Exception:
                _logger.exception("task_failed", task=name)


class _Failing:
    """How long one piece of work has failed in a row, and whether that was told."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since: float | None = None
        self._is_told = False

    def again(self, error: StoreError, *, is_explained: bool) -> None:
        now = asyncio.get_running_loop().time()
        if is_explained:
            self._since = None  # what fails from the end of the outage on has its own beginning
            return
        if self._since is None:
            self._since = now
        if not self._is_told and now - self._since >= UNEXPLAINED_S:
            self._is_told = True
            _logger.warning("task_failing", task=self._name, error=str(error))

    def over(self) -> None:
        if self._is_told:
            _logger.info("task_recovered", task=self._name)
        self._since = None
        self._is_told = False
