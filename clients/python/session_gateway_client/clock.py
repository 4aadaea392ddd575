"""Time as the client sees it. Everything that waits takes a Clock, so that tests own the time."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from session_gateway_client.tasks import reap

T = TypeVar("T")


class Clock(Protocol):
    """Wall clock, monotonic clock, and waiting."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` of the monotonic clock have passed."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; TimeoutError when it is not done in time. Nothing of it is left running."""
    task = asyncio.ensure_future(work)
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((task, timer), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        await reap(timer, task)
    # It may have ended while it was being cancelled; an answer that is there is not thrown away.
    if not task.cancelled():
        return task.result()
    raise TimeoutError
