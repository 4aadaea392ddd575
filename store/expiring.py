"""A bounded map whose entries expire: what live_memory is made of. Its clock is given to it."""

import heapq
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Expiring(Generic[K, V]):
    """Key → value until its time is over. Each write removes what is over: nothing lingers, without a timer.

    Above `limit` entries the one that would expire first goes. `on_gone` hears of those that leave so.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        limit: int,
        on_gone: Callable[[K, V], None] | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._limit = limit
        self._on_gone = on_gone
        self._entries: dict[K, tuple[float, V]] = {}
        # For each entry a time that is not later than its true one: a renewal is seen only when the old
        # time comes.
        self._queue: list[tuple[float, int, K]] = []
        self._serial = 0  # keys need not be comparable

    def __len__(self) -> int:
        self.purge()
        return len(self._entries)

    def __iter__(self) -> Iterator[V]:
        now = self._monotonic()
        return iter([value for expires, value in self._entries.values() if expires > now])

    def names(self) -> list[K]:
        """Keys of those whose time is not over."""
        now = self._monotonic()
        return [key for key, (expires, _) in self._entries.items() if expires > now]

    def put(self, key: K, value: V, ttl_ms: int) -> None:
        """Set the value and let its time begin anew."""
        self.purge()
        expires = self._monotonic() + ttl_ms / 1000
        known = self._entries.get(key)
        self._entries[key] = (expires, value)
        if known is None or expires < known[0]:
            self._enqueue(expires, key)
        self.purge()

    def get(self, key: K) -> V | None:
        """The value, unless it is over."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > self._monotonic() else None

    def pop(self, key: K) -> V | None:
        """Take the value out; None when it is over."""
        self.purge()
        entry = self._entries.pop(key, None)
        return None if entry is None else entry[1]

    def purge(self) -> None:
        """Remove what is over by now."""
        now = self._monotonic()
        while self._queue and (self._queue[0][0] <= now or len(self._entries) > self._limit):
            queued, _, key = heapq.heappop(self._queue)
            entry = self._entries.get(key)
            if entry is None:
                continue
            expires, value = entry
            if expires > queued and expires > now:
                self._enqueue(expires, key)
                continue
            del self._entries[key]
            if self._on_gone is not None:
                self._on_gone(key, value)

    def _enqueue(self, expires: float, key: K) -> None:
        # What was taken out or shortened leaves its pair behind. Above twice the entries they are swept.
        if len(self._queue) > 2 * len(self._entries) + 64:
            self._queue = [(at, n, known) for n, (known, (at, _)) in enumerate(self._entries.items())]
            heapq.heapify(self._queue)
            self._serial = len(self._queue)
            return
        self._serial += 1
        heapq.heappush(self._queue, (expires, self._serial, key))
