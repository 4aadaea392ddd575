"""Every live store there is, by name."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from store.live import Live
from store.live_memory import MemoryLive
from tests.store.backends.timed import Timed
from tests.store.nodes import ManualClock


@asynccontextmanager
async def memory_live() -> AsyncIterator[Timed[Live]]:
    clock = ManualClock()
    live = MemoryLive(clock)
    await live.start()
    yield Timed(live, clock.elapse)
    await live.close()


LIVES: Final[dict[str, Callable[[], AbstractAsyncContextManager[Timed[Live]]]]] = {"memory": memory_live}
