"""Every bus there is, by name."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from store.bus import Bus, Receiver
from store.bus_memory import MemoryBus


@asynccontextmanager
async def memory_bus(receiver: Receiver) -> AsyncIterator[Bus]:
    bus = MemoryBus()
    await bus.start(receiver)
    try:
        yield bus
    finally:
        await bus.close()


BUSES: Final[dict[str, Callable[[Receiver], AbstractAsyncContextManager[Bus]]]] = {"memory": memory_bus}
