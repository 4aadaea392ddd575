"""Events on their way to the application: callbacks, and streams with a bound."""

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from session_gateway_client.values import Event, PresenceChanged, Signal

logger: Final = logging.getLogger("session_gateway_client")


class EventStream:
    """An asynchronous iterator over events, from its making until the client closes.

    Bound: `size` events. Signals and presence may fill half of it, then they are dropped; when it is full the
    oldest event is dropped. `missed` counts both.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._queue: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._is_closed = False
        self.missed = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._is_closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    def close(self) -> None:
        """End the stream after what it holds."""
        self._is_closed = True
        self._arrived.set()

    def offer(self, event: Event) -> None:
        """Add an event, or drop one."""
        if self._is_closed:
            return
        if isinstance(event, Signal | PresenceChanged) and len(self._queue) * 2 >= self._size:
            self.missed += 1
            return
        if len(self._queue) >= self._size:
            self._queue.popleft()
            self.missed += 1
        self._queue.append(event)
        self._arrived.set()


class Feed:
    """Hands each event to every listener and every stream."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._listeners: list[Callable[[Event], None]] = []
        # A stream that its reader has dropped is not fed any more.
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._is_closed = False

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with each event from now on; returns what ends that."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def stream(self) -> EventStream:
        """Begin a stream of the events from now on."""
        stream = EventStream(self._size)
        if self._is_closed:
            stream.close()
        self._streams.add(stream)
        return stream

    def publish(self, event: Event) -> None:
        """Tell everybody. A listener that fails is logged; the others hear of the event all the same."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed on %r", event)
        for stream in tuple(self._streams):
            stream.offer(event)

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        for stream in tuple(self._streams):
            stream.close()
