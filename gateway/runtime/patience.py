"""How long a request may wait for the log: a client hears something within this time, whatever is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway import errors
from gateway.runtime.health import Health

REQUEST_LIMIT_S: Final = 5.0
RETRY_AFTER_MS: Final = 1000

_MESSAGE: Final = "the store does not answer: try again"


@asynccontextmanager
async def limited(health: Health | None = None) -> AsyncIterator[None]:
    """Give what is awaited in here 5 s, then refuse it: Unavailable. What was asked may yet come about.

    With `health` it is refused at once while the log is known to be away: nobody gains by waiting behind
    those who found out.
    """
    if health is not None and health.is_in("postgres_away"):
        raise away()
    try:
        async with asyncio.timeout(REQUEST_LIMIT_S):
            yield
    except TimeoutError as error:
        raise away() from error


def away() -> errors.Unavailable:
    """What a client is told when the log does not answer."""
    return errors.Unavailable(_MESSAGE, retry_after_ms=RETRY_AFTER_MS)


def has_run_out(begun: float, now: float) -> bool:
    """Whether a request of several parts has waited for long enough; monotonic seconds."""
    return now - begun > REQUEST_LIMIT_S
