"""Wait for something to become true, with a deadline: the only way tests wait."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], bool] | Callable[[], Awaitable[bool]], *, within: float = 5.0, what: str = ""
) -> None:
    """Poll `condition` every 10 ms until it holds; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        held = condition()
        if inspect.isawaitable(held):
            held = await held
        if held:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or condition}")
        await asyncio.sleep(0.01)


async def turns(count: int = 1) -> None:
    """Give the loop `count` turns: whatever is ready by then has run. Waits for no time to pass."""
    for _ in range(count):
        await asyncio.sleep(0)


async def later(seconds: float) -> None:
    """Go on at a later moment, one that chance has chosen. Not for waiting until something has happened."""
    await asyncio.sleep(seconds)
