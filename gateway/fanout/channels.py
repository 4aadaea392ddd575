"""Which channels of the bus this node listens to, counted by who needs them."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from store.bus import Bus
from store.errors import Unavailable


class _Channel:
    __slots__ = ("count", "is_subscribed", "lock")

    def __init__(self) -> None:
        self.count = 0
        self.is_subscribed = False
        self.lock = asyncio.Lock()


class Channels:
    """Subscribes with the first need, unsubscribes after the last; never the two at once for one channel.

    A bus that cannot be reached costs liveness only (heads are compared): `acquire` then returns all the
    same, and
    `renew` tries again.
    """

    def __init__(self, bus: Bus, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._bus = bus
        self._spawn = spawn
        self._channels: dict[str, _Channel] = {}

    async def acquire(self, name: str) -> None:
        """Count one need; when this returns, what is offered from now on arrives."""
        channel = self._channels.setdefault(name, _Channel())
        channel.count += 1
        try:
            await self._subscribe(name, channel)
        except BaseException:
            self.release(name)
            raise

    def retain(self, name: str) -> None:
        """Count one more need of a channel that somebody holds already."""
        self._channels[name].count += 1

    def release(self, name: str) -> None:
        """Count one need less."""
        channel = self._channels[name]
        channel.count -= 1
        if channel.count == 0:
            self._spawn(self._drop(name, channel))

    async def renew(self) -> None:
        """Subscribe to whatever is needed and is not subscribed, up to the first that is refused.

        Each refusal may take its time limit.
        """
        # Nearly always none of very many: a list of all would cost more than whatever else is looked at here.
        lacking = [each for each in self._channels.items() if each[1].count and not each[1].is_subscribed]
        for name, channel in lacking:
            if channel.count and not await self._subscribe(name, channel):
                return

    async def _subscribe(self, name: str, channel: _Channel) -> bool:
        async with channel.lock:
            if not channel.is_subscribed:
                with suppress(Unavailable):
                    await self._bus.subscribe(name)
                    channel.is_subscribed = True
            return channel.is_subscribed

    async def _drop(self, name: str, channel: _Channel) -> None:
        async with channel.lock:
            if channel.count:
                return
            channel.is_subscribed = False
            # Also what could not be subscribed: the bus tries on as long as nobody tells it otherwise.
            with suppress(Unavailable):
                await self._bus.unsubscribe(name)
            if self._channels.get(name) is channel and not channel.count:
                del self._channels[name]
