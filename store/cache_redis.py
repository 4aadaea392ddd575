"""The cache of many nodes: versions are compared where they are kept, in scripts, whoever puts and drops.

An entry is a key with its version and its value, and at times another with the oldest version that may be
stored. On a cluster the places of the keys are spread over its nodes; what has one place lies together.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from store.cache import Entry
from store.redis_client import TIMEOUT_S, translated
from store.redis_wire.scripts import Command, Script
from store.redis_wire.wire import Wire

# What one command may hold: while Redis is at it, it does nothing else. 100 entries take it a third of a ms.
CHUNK_ENTRIES: Final = 100
CHUNK_BYTES: Final = 1024 * 1024
# Longer ones are few messages, cheap to read from the log, and would fill the memory of Redis.
VALUE_BYTES: Final = 512 * 1024

PUT: Final = Script("cache_put")
DROP: Final = Script("cache_drop")
OUTDATE: Final = Script("cache_outdate")


class _Change(NamedTuple):
    """What a script is to do with one entry."""

    name: str
    arguments: tuple[int | bytes, ...]

    @property
    def bytes(self) -> int:
        """What it has to carry."""
        return sum(len(argument) for argument in self.arguments if isinstance(argument, bytes))


class RedisCache:
    """Entries in Redis or in a Redis Cluster. An absent server is no failure of `start`."""

    def __init__(self, url: str, prefix: str) -> None:
        self._wire = Wire(url)
        self._begin = f"{prefix}:cache:"

    @property
    def weight(self) -> None:
        """Nothing is kept here."""
        return None

    @property
    def round_trips(self) -> int:
        return self._wire.round_trips

    async def start(self) -> None:
        """Nothing to do: the first call connects."""

    async def close(self) -> None:
        await self._wire.close()

    async def get(self, key: str) -> bytes | None:
        (value,) = await self.get_many([key])
        return value

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        by_slot: dict[int, list[str]] = {}
        for name in names:
            by_slot.setdefault(self._wire.slot_of(name), []).append(name)
        commands = [Command(together[0], ("MGET", *together)) for together in by_slot.values()]
        answers = await self._ask(commands)
        found = dict(zip(chain.from_iterable(by_slot.values()), chain.from_iterable(answers), strict=True))
        return [_value(found[name]) for name in names]

    async def put(self, key: str, value: bytes, *, version: int, ttl_ms: int) -> bool:
        if len(value) > VALUE_BYTES:
            await self.drop(key, version=version, ttl_ms=ttl_ms)
            return False
        change = _Change(self._name(key), (version, value))
        return await self._run(PUT, [change], ttl_ms) == [1]

    async def put_many(self, entries: Sequence[Entry], *, ttl_ms: int) -> None:
        fitting = [entry for entry in entries if len(entry[1]) <= VALUE_BYTES]
        changes = [_Change(self._name(key), (version, value)) for key, value, version in fitting]
        await self._run(PUT, changes, ttl_ms)
        if len(fitting) < len(entries):
            too_long = [(key, version) for key, value, version in entries if len(value) > VALUE_BYTES]
            await self.drop_many(too_long, ttl_ms=ttl_ms)

    async def drop(self, key: str, *, version: int, ttl_ms: int) -> None:
        await self.drop_many([(key, version)], ttl_ms=ttl_ms)

    async def drop_many(self, versions: Sequence[tuple[str, int]], *, ttl_ms: int) -> None:
        changes = [_Change(self._name(key), (version,)) for key, version in versions]
        await self._run(DROP, changes, ttl_ms)

    async def now_ms(self, key: str) -> int:
        # TIME itself names no key: a cluster would not know whom to ask.
        name = self._name(key)
        ((seconds, microseconds),) = await self._ask([Command(name, ("EVAL", _TIME, 1, name))])
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def outdate_many(self, keys: Sequence[str], *, margin_ms: int, ttl_ms: int) -> None:
        changes = [_Change(self._name(key), (margin_ms,)) for key in keys]
        await self._run(OUTDATE, changes, ttl_ms)

    def _name(self, key: str) -> str:
        """Where a value lies. A cluster looks at what stands in braces: the place, or else the whole key."""
        place, bar, rest = key.partition("|")
        return f"{self._begin}{{{place}}}{bar}{rest}"

    async def _run(self, script: Script, changes: Sequence[_Change], ttl_ms: int) -> list[int]:
        """Run a script over all changes, in one round trip; what it said of each, chunk by chunk."""
        if not changes:
            return []
        answers = await self._ask([_call(script, chunk, ttl_ms) for chunk in self._chunks(changes)])
        return list(chain.from_iterable(answer or () for answer in answers))

    def _chunks(self, changes: Sequence[_Change]) -> Iterator[list[_Change]]:
        """Cut where one command would hold too much or, on a cluster, what lies in another slot."""
        gathered: dict[int, list[_Change]] = {}
        weights: Counter[int] = Counter()
        for change in changes:
            slot = self._wire.slot_of(change.name)
            chunk = gathered.setdefault(slot, [])
            chunk.append(change)
            weights[slot] += change.bytes
            if len(chunk) == CHUNK_ENTRIES or weights[slot] > CHUNK_BYTES:
                yield gathered.pop(slot)
                del weights[slot]
        yield from gathered.values()

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands at once; their answers, in a bounded time. Unavailable."""
        with translated():
            async with asyncio.timeout(TIMEOUT_S):
                return await self._wire.call(commands)


# KEYS[1]: whose keeper is asked; returns the seconds and microseconds of its clock.
_TIME: Final = "return redis.call('TIME')"


def _call(script: Script, chunk: Iterable[_Change], ttl_ms: int) -> Command:
    # A bar, which no name holds: somebody may be called "bob:floor".
    keys = [name for change in chunk for name in (change.name, f"{change.name}|floor")]
    return script.call(keys, ttl_ms, *chain.from_iterable(change.arguments for change in chunk))


def _value(stored: bytes | None) -> bytes | None:
    return None if stored is None else stored.partition(b":")[2]
