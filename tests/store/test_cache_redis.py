"""What is the Redis cache's own: it answers as the memory cache does, in bounded time, whoever vanishes."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from redis.crc import key_slot

from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.cache_memory import MemoryCache
from store.cache_redis import CHUNK_BYTES, CHUNK_ENTRIES, VALUE_BYTES, RedisCache
from store.errors import Unavailable
from store.redis_client import TIMEOUT_S
from tests.waiting import turns, until

TTL_MS = 60_000
CALLERS = 200
SERVERS = ("redis62", "redis7", "redis_cluster")


@pytest.fixture
def prefix() -> str:
    return f"t{uuid4().hex[:8]}"


@pytest.fixture
async def redis_cache(redis7: RedisServer, prefix: str) -> AsyncIterator[RedisCache]:
    cache = RedisCache(redis7.url, prefix)
    await cache.start()
    yield cache
    await cache.close()


@pytest.fixture(params=SERVERS)
async def any_redis_cache(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[RedisCache]:
    cache = RedisCache(request.getfixturevalue(request.param).url, prefix)
    await cache.start()
    yield cache
    await cache.close()


# -- the same as in memory


async def test_whatever_is_put_and_dropped_it_answers_as_the_memory_cache_does(
    any_redis_cache: RedisCache,
) -> None:
    chance = random.Random(7)  # noqa: S311
    memory = MemoryCache()
    for turn in range(600):
        key, version = f"k{chance.randrange(6)}", chance.randrange(1, 9)
        ttl_ms = chance.choice([TTL_MS, 2 * TTL_MS, 3 * TTL_MS])
        match chance.randrange(5):
            case 0 | 1:
                value = b"%d" % turn
                stored = await memory.put(key, value, version=version, ttl_ms=ttl_ms)
                assert await any_redis_cache.put(key, value, version=version, ttl_ms=ttl_ms) == stored
            case 2:
                await memory.drop(key, version=version, ttl_ms=ttl_ms)
                await any_redis_cache.drop(key, version=version, ttl_ms=ttl_ms)
            case 3:
                # Everything is forgotten now and then, so that low versions come to pass again.
                key = f"{key}-{turn // 60}"
                await memory.put(key, b"x", version=version, ttl_ms=ttl_ms)
                await any_redis_cache.put(key, b"x", version=version, ttl_ms=ttl_ms)
            case _:
                assert await any_redis_cache.get(key) == await memory.get(key)
    keys = [f"k{number}" for number in range(6)]
    assert await any_redis_cache.get_many(keys) == await memory.get_many(keys)


# -- what is kept


async def test_every_key_has_the_prefix_and_an_end(
    redis_cache: RedisCache, redis7: RedisServer, prefix: str
) -> None:
    await redis_cache.put("a", b"1", version=1, ttl_ms=TTL_MS)
    await redis_cache.drop("b", version=1, ttl_ms=TTL_MS)
    await redis_cache.drop("a", version=1, ttl_ms=2 * TTL_MS)
    await redis_cache.put("b", b"1", version=1, ttl_ms=TTL_MS // 2)
    kept = redis7.run("KEYS", f"{prefix}:*")
    assert sorted(kept) == [f"{prefix}:cache:{{{key}}}{part}" for key in "ab" for part in ("", "|floor")]
    for key in kept:
        assert 0 < redis7.run("PTTL", key) <= 2 * TTL_MS


async def test_no_name_reaches_what_is_kept_beside_another_s_value(redis_cache: RedisCache) -> None:
    await redis_cache.drop("s|role1:t/bob", version=5, ttl_ms=TTL_MS)
    for ending in (":floor", "/floor", "."):
        await redis_cache.put(f"s|role1:t/bob{ending}", b"2", version=9, ttl_ms=TTL_MS)
    assert not await redis_cache.put("s|role1:t/bob", b"1", version=4, ttl_ms=TTL_MS)


async def test_a_value_alone_is_one_key(redis_cache: RedisCache, redis7: RedisServer, prefix: str) -> None:
    await redis_cache.drop("a", version=1, ttl_ms=TTL_MS)
    await redis_cache.put("a", b"1", version=2, ttl_ms=2 * TTL_MS)
    assert redis7.run("KEYS", f"{prefix}:*") == [f"{prefix}:cache:{{a}}"]


async def test_what_is_too_long_is_not_kept_and_lets_nothing_older_stand(redis_cache: RedisCache) -> None:
    long, longest = b"x" * (VALUE_BYTES + 1), b"x" * VALUE_BYTES
    await redis_cache.put_many([("a", b"1", 1), ("b", b"1", 1)], ttl_ms=TTL_MS)
    assert not await redis_cache.put("a", long, version=2, ttl_ms=TTL_MS)
    await redis_cache.put_many([("b", long, 2), ("c", longest, 1)], ttl_ms=TTL_MS)
    assert await redis_cache.get_many(["a", "b", "c"]) == [None, None, longest]
    assert not await redis_cache.put("a", b"1", version=1, ttl_ms=TTL_MS)


async def test_no_command_holds_up_redis_for_long(redis_cache: RedisCache) -> None:
    commands: list[int] = []
    ask = redis_cache._ask

    async def noting(sent: object) -> object:
        commands.append(len(sent))  # type: ignore[arg-type]
        return await ask(sent)  # type: ignore[arg-type]

    redis_cache._ask = noting  # type: ignore[assignment, method-assign]
    await redis_cache.put_many([(f"k{n}", b"x", 1) for n in range(2 * CHUNK_ENTRIES + 1)], ttl_ms=TTL_MS)
    long = b"x" * (CHUNK_BYTES // 4)
    await redis_cache.put_many([(f"l{n}", long, 1) for n in range(11)], ttl_ms=TTL_MS)
    # Cut into commands, in one round trip each; the first makes the script known.
    assert commands[0] == 3
    assert commands[-1] == 3


async def test_on_a_cluster_the_entries_are_on_all_its_nodes(
    redis_cluster: RedisClusterServers, prefix: str
) -> None:
    cache = RedisCache(redis_cluster.url, prefix)
    await cache.put_many([(f"k{number}", b"x", 1) for number in range(100)], ttl_ms=TTL_MS)
    spread = [len(node.run("KEYS", f"{prefix}:*")) for node in redis_cluster.nodes]
    assert sum(spread) == 100
    assert min(spread) > 10
    await cache.close()


async def test_on_a_cluster_keys_of_one_place_lie_together(
    redis_cluster: RedisClusterServers, prefix: str
) -> None:
    cache = RedisCache(redis_cluster.url, prefix)
    await cache.put_many([(f"place|k{number}", b"x", 1) for number in range(20)], ttl_ms=TTL_MS)
    await cache.outdate_many([f"place|l{number}" for number in range(20)], margin_ms=0, ttl_ms=TTL_MS)
    spread = [len(node.run("KEYS", f"{prefix}:*")) for node in redis_cluster.nodes]
    assert sorted(spread) == [0, 0, 40]
    await cache.close()


async def test_two_prefixes_do_not_meet(redis_cache: RedisCache, redis7: RedisServer) -> None:
    other = RedisCache(redis7.url, f"t{uuid4().hex[:8]}")
    await redis_cache.put("k", b"ours", version=1, ttl_ms=TTL_MS)
    assert await other.get("k") is None
    await other.close()


# -- faults


@pytest.mark.parametrize("server", SERVERS)
async def test_a_redis_that_has_forgotten_the_scripts_is_told_them_again(
    request: pytest.FixtureRequest, server: str, prefix: str
) -> None:
    servers = request.getfixturevalue(server)
    cache = RedisCache(servers.url, prefix)
    entries = [(f"k{number}", b"2", 2) for number in range(3 * CHUNK_ENTRIES)]

    def forget() -> None:
        for node in servers.nodes if isinstance(servers, RedisClusterServers) else [servers]:
            node.run("SCRIPT", "FLUSH")

    await cache.put("k", b"1", version=1, ttl_ms=TTL_MS)
    forget()
    await cache.drop("k", version=2, ttl_ms=TTL_MS)
    assert await cache.get("k") is None
    forget()
    assert await cache.put("k", b"2", version=2, ttl_ms=TTL_MS)
    forget()
    await cache.put_many(entries, ttl_ms=TTL_MS)
    assert await cache.get_many([key for key, _, _ in entries]) == [b"2"] * len(entries)
    forget()
    await cache.outdate_many(["k"], margin_ms=0, ttl_ms=TTL_MS)
    assert await cache.get("k") is None
    await cache.close()


async def test_an_absent_redis_is_no_failure_of_the_start(tmp_path: Path) -> None:
    with RedisServer.start(tmp_path / "redis") as server:
        server.stop()
        cache = RedisCache(server.url, "p")
        await cache.start()
        with pytest.raises(Unavailable, match="Redis does not answer"):
            await cache.get("k")
        with pytest.raises(Unavailable):
            await cache.put("k", b"1", version=1, ttl_ms=TTL_MS)
        server.again()
        assert await cache.put("k", b"1", version=1, ttl_ms=TTL_MS)
        server.kill()
        with pytest.raises(Unavailable):
            await cache.get("k")
        server.again()
        assert await cache.get("k") is None
        assert await cache.put("k", b"1", version=1, ttl_ms=TTL_MS)
        await cache.close()


async def test_a_paused_redis_costs_one_limit_of_time_however_many_ask(
    redis_cache: RedisCache, redis7: RedisServer
) -> None:
    await redis_cache.put("k", b"1", version=1, ttl_ms=TTL_MS)
    redis7.pause()
    try:
        begun = time.monotonic()
        outcomes = await asyncio.gather(
            *(redis_cache.get("k") for _ in range(CALLERS)), return_exceptions=True
        )
        took = time.monotonic() - begun
    finally:
        redis7.resume()
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert TIMEOUT_S * 0.9 < took < TIMEOUT_S * 1.8

    async def is_back() -> bool:
        try:
            return await asyncio.gather(*(redis_cache.get("k") for _ in range(CALLERS))) == [b"1"] * CALLERS
        except Unavailable:
            return False

    await until(is_back)


async def test_a_cluster_of_which_a_node_was_away_is_whole_again_by_itself(tmp_path: Path) -> None:
    async with AsyncExitStack() as ending:
        cluster = ending.enter_context(RedisClusterServers.start(tmp_path / "cluster"))
        cache = RedisCache(cluster.url, "p")
        ending.push_async_callback(cache.close)
        keys = [f"k{number}" for number in range(30)]
        await cache.put_many([(key, b"1", 1) for key in keys], ttl_ms=TTL_MS)
        cluster.nodes[1].kill()
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            await cache.get_many(keys)
        assert time.monotonic() - begun < TIMEOUT_S * 1.8
        cluster.nodes[1].again()

        async def is_whole() -> bool:
            try:
                await cache.put_many([(key, b"2", 2) for key in keys], ttl_ms=TTL_MS)
                return await cache.get_many(keys) == [b"2"] * len(keys)
            except Unavailable:
                return False

        await until(is_whole, within=20)


def moving(cluster: RedisClusterServers, name: str) -> Iterator[None]:
    """Move the slot of a key to another node; each step is a state that a client may meet."""
    slot = str(key_slot(name.encode()))
    ids = [str(node.run("CLUSTER", "MYID")) for node in cluster.nodes]
    source = next(place for place, node in enumerate(cluster.nodes) if node.run("KEYS", name))
    target = (source + 1) % len(cluster.nodes)
    cluster.nodes[target].run("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    cluster.nodes[source].run("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    yield
    port = str(cluster.nodes[target].port)
    cluster.nodes[source].run("MIGRATE", "127.0.0.1", port, name, "0", "1000")
    yield
    for node in cluster.nodes:
        node.run("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    yield


async def test_a_key_that_moves_to_another_node_is_followed(tmp_path: Path) -> None:
    async with AsyncExitStack() as ending:
        cluster = ending.enter_context(RedisClusterServers.start(tmp_path / "cluster"))
        cache = RedisCache(cluster.url, "p")
        ending.push_async_callback(cache.close)
        entries = [(f"k{number}", b"1", 1) for number in range(20)]
        await cache.put_many(entries, ttl_ms=TTL_MS)
        for _ in moving(cluster, "p:cache:{k7}"):
            assert await cache.get("k7") == b"1"
            assert await cache.get_many([key for key, _, _ in entries]) == [b"1"] * 20
        # Where the scripts have not been seen yet.
        await cache.outdate_many(["k7"], margin_ms=0, ttl_ms=TTL_MS)
        assert await cache.get("k7") is None
        await cache.put_many([("k7", b"2", 2**50), ("k8", b"2", 2)], ttl_ms=TTL_MS)
        assert await cache.get_many(["k7", "k8", "k9"]) == [b"2", b"2", b"1"]


# -- callers that vanish


async def test_whoever_is_cancelled_nobody_gets_anothers_value(any_redis_cache: RedisCache) -> None:
    chance = random.Random(3)  # noqa: S311
    entries = [(f"k{number}", b"%d" % number * 300, 1) for number in range(300)]
    await any_redis_cache.put_many(entries, ttl_ms=TTL_MS)
    expected = {key: value for key, value, _ in entries}
    for _ in range(5):
        calls = {key: asyncio.ensure_future(any_redis_cache.get(key)) for key in expected}
        for call in chance.sample(list(calls.values()), 200):
            loop = asyncio.get_running_loop()
            loop.call_later(chance.random() * 0.02, call.cancel)
        await asyncio.gather(*calls.values(), return_exceptions=True)
        for key, call in calls.items():
            assert call.cancelled() or call.result() == expected[key]
    # What is asked next is what is answered.
    values = await asyncio.gather(*(any_redis_cache.get(key) for key in expected))
    assert values == list(expected.values())


async def test_callers_that_vanish_take_no_connection_with_them(
    redis_cache: RedisCache, redis7: RedisServer
) -> None:
    def connections() -> int:
        return int(redis7.run("INFO", "stats")["total_connections_received"])

    await redis_cache.get("k")
    before = connections()
    for turn in range(20):
        calls = [asyncio.ensure_future(redis_cache.get(f"k{turn}")) for _ in range(50)]
        await turns(turn % 5)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    # Each question here takes a connection of its own.
    assert connections() - before <= 1
