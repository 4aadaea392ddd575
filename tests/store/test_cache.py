"""What the cache promises: what was put, until it expires; and never an older version after a newer one."""

import asyncio
import random

from store.cache import Cache
from tests.store.backends.timed import Timed

TTL_MS = 300


async def test_what_is_put_is_got(cache: Cache) -> None:
    assert await cache.get("k") is None
    assert await cache.put("k", b"value", version=1, ttl_ms=TTL_MS)
    assert await cache.get("k") == b"value"
    assert await cache.get("other") is None


async def test_any_bytes_are_values(cache: Cache) -> None:
    for version, value in enumerate((b"", b"\x00\xff", bytes(range(256)) * 400), 1):
        assert await cache.put("k", value, version=version, ttl_ms=TTL_MS)
        assert await cache.get("k") == value


async def test_a_value_expires(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    await cache.put("k", b"value", version=1, ttl_ms=TTL_MS)
    await timed_cache.elapse(TTL_MS)
    assert await cache.get("k") is None
    assert await cache.put("k", b"value", version=1, ttl_ms=TTL_MS)
    assert await cache.get("k") == b"value"


async def test_a_newer_version_replaces_and_an_older_or_equal_one_does_not(cache: Cache) -> None:
    assert await cache.put("k", b"two", version=2, ttl_ms=TTL_MS)
    assert not await cache.put("k", b"one", version=1, ttl_ms=TTL_MS)
    assert not await cache.put("k", b"two again", version=2, ttl_ms=TTL_MS)
    assert await cache.get("k") == b"two"
    assert await cache.put("k", b"three", version=3, ttl_ms=TTL_MS)
    assert await cache.get("k") == b"three"


async def test_dropping_removes_older_values_and_refuses_them_for_a_while(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    await cache.put("k", b"one", version=1, ttl_ms=TTL_MS * 9)
    await cache.drop("k", version=3, ttl_ms=TTL_MS)
    assert await cache.get("k") is None
    # Whoever read the log before the change comes too late with what it read.
    assert not await cache.put("k", b"two", version=2, ttl_ms=TTL_MS)
    assert await cache.put("k", b"three", version=3, ttl_ms=TTL_MS * 9)
    assert await cache.get("k") == b"three"


async def test_what_was_never_put_can_be_dropped(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    await cache.drop("k", version=3, ttl_ms=TTL_MS)
    assert not await cache.put("k", b"two", version=2, ttl_ms=TTL_MS)
    await timed_cache.elapse(TTL_MS)
    assert await cache.put("k", b"two", version=2, ttl_ms=TTL_MS)


async def test_dropping_older_ones_keeps_a_value_that_is_as_new(cache: Cache) -> None:
    await cache.put("k", b"three", version=3, ttl_ms=TTL_MS)
    await cache.drop("k", version=3, ttl_ms=TTL_MS)
    await cache.drop("k", version=2, ttl_ms=TTL_MS)
    assert await cache.get("k") == b"three"
    assert not await cache.put("k", b"two", version=2, ttl_ms=TTL_MS)


async def test_of_two_drops_the_newer_counts(cache: Cache) -> None:
    await cache.drop("k", version=5, ttl_ms=TTL_MS)
    await cache.drop("k", version=3, ttl_ms=TTL_MS)
    assert not await cache.put("k", b"four", version=4, ttl_ms=TTL_MS)
    assert await cache.put("k", b"five", version=5, ttl_ms=TTL_MS)


async def test_whatever_the_order_of_arrival_the_newest_version_stands(cache: Cache) -> None:
    chance = random.Random(1)  # noqa: S311
    for turn in range(20):
        versions = list(range(1, 8))
        chance.shuffle(versions)
        await asyncio.gather(
            *(cache.put(f"k{turn}", b"%d" % version, version=version, ttl_ms=TTL_MS) for version in versions)
        )
        assert await cache.get(f"k{turn}") == b"7"


async def test_the_cache_closes_twice(cache: Cache) -> None:
    await cache.close()
    await cache.close()
