"""Every bus there is, by name."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from store.bus import Bus, OnGap, Receiver
from store.bus_memory import MemoryBus


@asynccontextmanager
async def memory_bus(receiver: Receiver, on_gap: OnGap) -> AsyncIterator[Bus]:
    bus = MemoryBus()
    await bus.start(receiver, on_gap)
    try:
        yield bus
    finally:
        await bus.close()


OpenBus = Callable[[Receiver, OnGap], AbstractAsyncContextManager[Bus]]

BUSES: Final[dict[str, OpenBus]] = {"memory": memory_bus}
