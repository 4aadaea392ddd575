"""One question at a time: whoever asks what is being asked already waits for that answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

Key = tuple[str | int, ...]


class Flights:
    """Loads under way, by key.

    A load runs in a task of its own, so that it goes on when the caller who began it is cancelled: others may
    wait for it. `forget` is for whoever has changed what is being loaded: who asks from then on is not
    answered with what was read before.
    """

    def __init__(self) -> None:
        self._flights: dict[Key, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def __contains__(self, key: Key) -> bool:
        return key in self._flights

    async def run(self, key: Key, load: Callable[[], Awaitable[T]]) -> T:
        """The answer of `load`, or of the one under way for this key."""
        flight: asyncio.Task[T] | None = self._flights.get(key)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(_waiting(load), name=f"load {key}")
            self._flights[key] = flight
            self._tasks.add(flight)
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def forget(self, beginning: Key) -> None:
        """Let the next callers ask anew whose keys begin so; those who wait get what they asked for."""
        for key in [key for key in self._flights if key[: len(beginning)] == beginning]:
            del self._flights[key]

    async def close(self) -> None:
        """End what is under way. Idempotent."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _landed(self, key: Key, flight: asyncio.Task[Any]) -> None:
        self._tasks.discard(flight)
        if self._flights.get(key) is flight:
            del self._flights[key]
        # Whoever waits gets the error; when nobody does any more, it is nobody's.
        if not flight.cancelled():
            flight.exception()


async def _waiting(load: Callable[[], Awaitable[T]]) -> T:
    return await load()
