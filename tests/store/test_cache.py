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


async def test_a_value_lives_no_longer_for_what_is_known_of_older_ones(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    await cache.drop("k", version=2, ttl_ms=TTL_MS * 9)
    assert await cache.put("k", b"two", version=2, ttl_ms=TTL_MS)
    await timed_cache.elapse(TTL_MS)
    assert await cache.get("k") is None
    assert not await cache.put("k", b"one", version=1, ttl_ms=TTL_MS)
    assert await cache.put("k", b"two", version=2, ttl_ms=TTL_MS)


async def test_a_drop_of_older_ones_is_remembered_for_longer_than_the_value_lives(
    timed_cache: Timed[Cache],
) -> None:
    cache = timed_cache.store
    await cache.put("k", b"three", version=3, ttl_ms=TTL_MS)
    await cache.drop("k", version=2, ttl_ms=TTL_MS * 9)
    assert await cache.get("k") == b"three"
    await timed_cache.elapse(TTL_MS)
    assert await cache.get("k") is None
    assert not await cache.put("k", b"one", version=1, ttl_ms=TTL_MS)


async def test_a_later_drop_of_older_ones_shortens_no_memory(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    await cache.drop("k", version=3, ttl_ms=TTL_MS * 9)
    await cache.drop("k", version=2, ttl_ms=TTL_MS)
    await timed_cache.elapse(TTL_MS)
    assert not await cache.put("k", b"two", version=2, ttl_ms=TTL_MS)


async def test_several_are_put_got_and_dropped_each_by_its_own_version(cache: Cache) -> None:
    await cache.put("b", b"newer", version=5, ttl_ms=TTL_MS * 9)
    await cache.put_many([("a", b"1", 1), ("b", b"older", 4), ("c", b"", 3)], ttl_ms=TTL_MS * 9)
    assert await cache.get_many(["c", "none", "b", "a", "b"]) == [b"", None, b"newer", b"1", b"newer"]
    await cache.drop_many([("a", 2), ("b", 5), ("none", 7)], ttl_ms=TTL_MS * 9)
    assert await cache.get_many(["a", "b", "c"]) == [None, b"newer", b""]
    await cache.put_many([("a", b"1", 1), ("none", b"7", 7)], ttl_ms=TTL_MS * 9)
    assert await cache.get_many(["a", "none"]) == [None, b"7"]
    assert await cache.get_many([]) == []
    await cache.put_many([], ttl_ms=TTL_MS)
    await cache.drop_many([], ttl_ms=TTL_MS)


async def test_of_two_entries_with_one_key_the_newer_stands(cache: Cache) -> None:
    await cache.put_many([("k", b"2", 2), ("k", b"3", 3), ("k", b"1", 1)], ttl_ms=TTL_MS * 9)
    assert await cache.get("k") == b"3"
    await cache.drop_many([("k", 5), ("k", 4)], ttl_ms=TTL_MS * 9)
    assert not await cache.put("k", b"4", version=4, ttl_ms=TTL_MS)


async def test_a_thousand_at_once_are_as_good_as_one(cache: Cache) -> None:
    entries = [(f"k{number}", b"%d" % number * 1_000, number) for number in range(1_000)]
    await cache.put_many(entries, ttl_ms=60_000)
    assert await cache.get_many([key for key, _, _ in entries]) == [value for _, value, _ in entries]


# -- versions that are times


async def test_the_clock_of_a_place_goes_on_for_all_its_keys(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    first = await cache.now_ms("alice|list")
    await timed_cache.elapse(TTL_MS)
    assert TTL_MS <= await cache.now_ms("alice|read/1") - first < TTL_MS + 10_000


async def test_what_was_read_before_a_change_does_not_outlive_it(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    begun = await cache.now_ms("k")
    assert await cache.put("k", b"old", version=begun, ttl_ms=TTL_MS * 9)
    await cache.outdate_many(["k", "other"], margin_ms=0, ttl_ms=TTL_MS * 9)
    assert await cache.get("k") is None
    assert not await cache.put("k", b"old", version=begun, ttl_ms=TTL_MS * 9)
    assert not await cache.put("other", b"old", version=begun, ttl_ms=TTL_MS * 9)
    await timed_cache.elapse(2)
    assert await cache.put("k", b"new", version=await cache.now_ms("k"), ttl_ms=TTL_MS * 9)
    assert await cache.get("k") == b"new"


async def test_what_is_read_within_the_margin_is_not_stored(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    await cache.outdate_many(["k"], margin_ms=TTL_MS, ttl_ms=TTL_MS * 9)
    assert not await cache.put("k", b"1", version=await cache.now_ms("k"), ttl_ms=TTL_MS * 9)
    # Another change has no say over the margin of the first.
    await cache.outdate_many(["k"], margin_ms=0, ttl_ms=TTL_MS * 9)
    assert not await cache.put("k", b"1", version=await cache.now_ms("k"), ttl_ms=TTL_MS * 9)
    await timed_cache.elapse(TTL_MS + 2)
    assert await cache.put("k", b"1", version=await cache.now_ms("k"), ttl_ms=TTL_MS * 9)


async def test_a_change_removes_what_a_clock_that_was_ahead_has_stored(timed_cache: Timed[Cache]) -> None:
    cache = timed_cache.store
    ahead = await cache.now_ms("k") + 60_000
    await cache.put("k", b"old", version=ahead, ttl_ms=TTL_MS * 9)
    await cache.outdate_many(["k"], margin_ms=0, ttl_ms=TTL_MS)
    assert await cache.get("k") is None
    assert not await cache.put("k", b"old", version=ahead, ttl_ms=TTL_MS * 9)
    await timed_cache.elapse(TTL_MS)
    assert await cache.put("k", b"new", version=await cache.now_ms("k"), ttl_ms=TTL_MS * 9)


async def test_keys_of_one_place_are_keys_of_their_own(cache: Cache) -> None:
    await cache.put_many([("p|a", b"1", 1), ("p|b", b"2", 1), ("q|a", b"3", 1), ("p", b"4", 1)], ttl_ms=9_000)
    assert await cache.get_many(["p|b", "q|a", "p", "p|a"]) == [b"2", b"3", b"4", b"1"]
    await cache.drop("p|a", version=2, ttl_ms=9_000)
    assert await cache.get_many(["p|a", "p|b", "q|a", "p"]) == [None, b"2", b"3", b"4"]


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
