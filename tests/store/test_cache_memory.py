"""What is the memory cache's own: its bounds, and which entry goes."""

from store.cache_memory import OVERHEAD_BYTES, MemoryCache
from tests.store.nodes import ManualClock


async def put(cache: MemoryCache, key: str, size: int = 1, version: int = 1) -> bool:
    return await cache.put(key, b"x" * size, version=version, ttl_ms=10_000)


async def present(cache: MemoryCache, keys: str) -> str:
    """Which of the keys are there, without using them."""
    return "".join(key for key in keys if key in cache._values)


async def test_above_the_bound_of_entries_the_least_recently_used_goes() -> None:
    cache = MemoryCache(ManualClock(), limit_entries=3)
    for key in "abc":
        await put(cache, key)
    await cache.get("a")
    await put(cache, "d")
    assert await present(cache, "abcd") == "acd"
    await put(cache, "c", version=2)
    await put(cache, "e")
    assert await present(cache, "abcde") == "cde"


async def test_above_the_bound_of_bytes_as_many_go_as_are_needed() -> None:
    cache = MemoryCache(ManualClock(), limit_bytes=4 * (1_001 + OVERHEAD_BYTES))
    for key in "abcd":
        await put(cache, key, 1_000)
    assert await present(cache, "abcd") == "abcd"
    await put(cache, "e", 2_000)
    assert await present(cache, "abcde") == "cde"
    assert cache.weight == 2 * 1_001 + 2_001 + 3 * OVERHEAD_BYTES


async def test_what_is_too_large_is_not_stored_and_drives_nothing_out() -> None:
    cache = MemoryCache(ManualClock(), limit_bytes=1_000)
    await put(cache, "a")
    assert not await put(cache, "b", 1_000)
    assert await present(cache, "ab") == "a"


async def test_an_older_version_stays_out_after_the_newer_one_had_to_go() -> None:
    cache = MemoryCache(ManualClock(), limit_entries=1)
    await put(cache, "a", version=2)
    await put(cache, "b")
    assert await cache.get("a") is None
    assert not await put(cache, "a", version=1)


async def test_a_value_that_had_to_go_may_come_back() -> None:
    cache = MemoryCache(ManualClock(), limit_entries=1)
    await put(cache, "a", version=2)
    await put(cache, "b")
    assert await put(cache, "a", version=2)
    assert await cache.get("a") == b"x"


async def test_what_expired_weighs_nothing_once_it_was_asked_for_or_replaced() -> None:
    clock = ManualClock()
    cache = MemoryCache(clock)
    for key in "ab":
        await put(cache, key, 500)
    clock.now += 11
    assert await cache.get("a") is None
    await put(cache, "b", 100)
    assert cache.weight == 101 + OVERHEAD_BYTES


async def test_what_is_known_of_versions_is_bounded() -> None:
    cache = MemoryCache(ManualClock(), limit_entries=10)
    for number in range(1_000):
        await cache.drop(f"k{number}", version=1, ttl_ms=10_000)
    assert len(cache._floors) == 20
