"""Channels are subscribed with the first need and let go of after the last, whatever the bus says."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from gateway.fanout.channels import Channels
from store.bus import Bus
from store.errors import Unavailable
from tests.waiting import turns


class AwayBus:
    """A bus that holds what it is told to, and says that it cannot while it is away."""

    def __init__(self) -> None:
        self.is_away = True
        self.held: set[str] = set()
        self.refusals = 0

    async def subscribe(self, channel: str) -> None:
        self.held.add(channel)
        if self.is_away:
            self.refusals += 1
            raise Unavailable("away")

    async def unsubscribe(self, channel: str) -> None:
        self.held.discard(channel)


class Here:
    """Channels on such a bus."""

    def __init__(self) -> None:
        self.bus = AwayBus()
        self.tasks: list[asyncio.Task[None]] = []
        self.channels = Channels(cast(Bus, self.bus), self.spawn)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))


async def test_what_could_not_be_subscribed_is_let_go_of_all_the_same() -> None:
    here = Here()
    await here.channels.acquire("a")
    assert here.bus.held == {"a"}
    here.channels.release("a")
    await asyncio.gather(*here.tasks)
    assert here.bus.held == set()


async def test_while_the_bus_is_away_renewing_costs_one_refusal() -> None:
    here = Here()
    for number in range(100):
        await here.channels.acquire(f"s:{number}")
    before = here.bus.refusals
    await here.channels.renew()
    assert here.bus.refusals == before + 1
    here.bus.is_away = False
    await here.channels.renew()
    here.bus.held.clear()
    await here.channels.renew()
    await turns()
    assert here.bus.held == set(), "what is subscribed is not subscribed again"
