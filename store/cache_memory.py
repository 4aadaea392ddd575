"""The cache of a gateway that is alone: the least recently used entries of one process go when it is full."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from store.cache import Entry

# A hundred full pages of short messages, or tens of thousands of records.
BYTES: Final = 32 * 1024 * 1024
ENTRIES: Final = 30_000
# What an entry costs beside its key and value, measured: the objects' heads, two tuples, two places in dicts.
OVERHEAD_BYTES: Final = 400


class _Value(NamedTuple):
    value: bytes
    expires: float


class _Floor(NamedTuple):
    """The oldest version that may be stored."""

    version: int
    expires: float


class MemoryCache:
    """Values, and beside them what is known of versions: a value that goes leaves its version behind.

    So no older one takes its place for as long as the newer was to live. Twice `limit_entries` versions are
    remembered, at 300 bytes each; beyond that the one that changed longest ago is forgotten.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        limit_bytes: int = BYTES,
        limit_entries: int = ENTRIES,
    ) -> None:
        self._monotonic = monotonic
        self._limit_bytes = limit_bytes
        self._limit_entries = limit_entries
        self._values: OrderedDict[str, _Value] = OrderedDict()
        self._floors: OrderedDict[str, _Floor] = OrderedDict()
        self._bytes = 0

    @property
    def weight(self) -> int:
        """What the entries weigh, in bytes."""
        return self._bytes

    @property
    def round_trips(self) -> int:
        """Nobody else is asked."""
        return 0

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        self._values.clear()
        self._floors.clear()
        self._bytes = 0

    async def get(self, key: str) -> bytes | None:
        return self._get(key)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._get(key) for key in keys]

    async def put(self, key: str, value: bytes, *, version: int, ttl_ms: int) -> bool:
        return self._put(key, value, version, ttl_ms)

    async def put_many(self, entries: Sequence[Entry], *, ttl_ms: int) -> None:
        for key, value, version in entries:
            self._put(key, value, version, ttl_ms)

    async def drop(self, key: str, *, version: int, ttl_ms: int) -> None:
        self._drop(key, version, ttl_ms)

    async def drop_many(self, versions: Sequence[tuple[str, int]], *, ttl_ms: int) -> None:
        for key, version in versions:
            self._drop(key, version, ttl_ms)

    async def now_ms(self, key: str) -> int:
        return self._now_ms()

    async def outdate_many(self, keys: Sequence[str], *, margin_ms: int, ttl_ms: int) -> None:
        for key in keys:
            floor = self._floor(key)
            known = 0 if floor is None else floor.version + self._has(key)
            self._drop(key, max(self._now_ms() + margin_ms + 1, known), ttl_ms)

    def _now_ms(self) -> int:
        return int(self._monotonic() * 1000)

    def _get(self, key: str) -> bytes | None:
        if not self._has(key):
            self._remove(key)
            return None
        self._values.move_to_end(key)
        return self._values[key].value

    def _put(self, key: str, value: bytes, version: int, ttl_ms: int) -> bool:
        floor = self._floor(key)
        if floor is not None and (version < floor.version or (version == floor.version and self._has(key))):
            return False
        self._remove(key)
        expires = self._monotonic() + ttl_ms / 1000
        self._learn(key, _Floor(version, max(expires, floor.expires if floor else 0.0)))
        if _weight(key, value) > self._limit_bytes:
            return False
        self._values[key] = _Value(value, expires)
        self._bytes += _weight(key, value)
        while self._bytes > self._limit_bytes or len(self._values) > self._limit_entries:
            self._remove(next(iter(self._values)))
        return True

    def _drop(self, key: str, version: int, ttl_ms: int) -> None:
        floor = self._floor(key)
        expires = self._monotonic() + ttl_ms / 1000
        if floor is not None and floor.version >= version:
            self._learn(key, floor._replace(expires=max(expires, floor.expires)))
            return
        self._remove(key)
        self._learn(key, _Floor(version, expires))

    def _has(self, key: str) -> bool:
        entry = self._values.get(key)
        return entry is not None and entry.expires > self._monotonic()

    def _floor(self, key: str) -> _Floor | None:
        floor = self._floors.get(key)
        return floor if floor is not None and floor.expires > self._monotonic() else None

    def _learn(self, key: str, floor: _Floor) -> None:
        self._floors[key] = floor
        self._floors.move_to_end(key)
        while len(self._floors) > 2 * self._limit_entries:
            self._floors.popitem(last=False)

    def _remove(self, key: str) -> None:
        entry = self._values.pop(key, None)
        if entry is not None:
            self._bytes -= _weight(key, entry.value)


def _weight(key: str, value: bytes) -> int:
    return len(key) + len(value) + OVERHEAD_BYTES
