"""The user of docs/redis.md: what the line there allows is enough, all of it is needed, and no more is.

That it is enough on one Redis with TLS the suites show: `least` is one of their backends.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from loadtest.servers.redis import RedisServer
from store.bus_redis.bus import RedisBus
from store.cache_redis import RedisCache
from store.errors import Unavailable
from store.live_redis.live import RedisLive
from store.redis_client import open_client
from store.types import LiveSession, NodeEntry, SessionStats
from tests.store.backends.least import LeastRedis, line_for, lines, url_of
from tests.store.making import NOW, entry
from tests.waiting import until

TTL_MS = 60_000
STORE = Path(__file__).parents[2] / "store"

# What the stores send beside scripts, and the bus through its dialects; a cluster's own come with the client.
SENT = {"ping", "eval", "evalsha", "get", "mget", "hmget", "zscore", "set", "client|setname"}
OF_THE_BUS = {"publish", "subscribe", "unsubscribe", "spublish", "ssubscribe", "sunsubscribe"}
OF_A_CLUSTER = {"cluster|slots", "asking"}


@pytest.fixture
def prefix() -> str:
    return f"t{uuid4().hex[:8]}"


async def lives(url: str, prefix: str) -> None:
    live = RedisLive(url, prefix)
    try:
        await live.ping()
        assert await live.admit(entry("c1"), limit=1, lease_ms=TTL_MS)
        await live.assert_connections([entry("c1", sessions=("s1", "s2"))], lease_ms=TTL_MS)
        await live.assert_connections([entry("c1", sessions=("s2",))], lease_ms=TTL_MS)
        assert await live.connections_of_session("t", "s2") == [entry("c1", sessions=("s2",))]
        await live.forget([entry("c1")])
        assert await live.leave("t", "s2", "alice")
        for node in ("n1", "n2"):
            record = LiveSession(id="s1", tenant="t", state="idle", node=node, stats=SessionStats())
            await live.put_sessions([record], lease_ms=TTL_MS)
        assert await live.session("t", "s1") is not None
        await live.renew_node(NodeEntry(id="n1", url=None, started_at=NOW), lease_ms=TTL_MS)
        assert len(await live.nodes()) == 1
        await live.note_leaving("n1", [("t", "s1", "alice")], lease_ms=TTL_MS)
        await live.assert_connections([entry("c2", sessions=("s1",))], lease_ms=TTL_MS)
        await live.retire_node(NodeEntry(id="n1", url=None, started_at=NOW), grace_ms=0)
        two = NodeEntry(id="n2", url=None, started_at=NOW)
        await live.renew_node(two, lease_ms=TTL_MS)
        assert (await live.renew_node(two, lease_ms=TTL_MS, buries=True)).lost == ("n1",)
        remains = await live.take_lost("n1", limit=9, claim_ms=TTL_MS, window_ms=TTL_MS)
        assert remains.cleaned == 1
        assert await live.release_lost(remains)
        await live.drop_leaving("n1", remains.leaves)
        await live.put_once("resume", [("d", b"who")], ttl_ms=TTL_MS)
        assert await live.take_once("resume", "d") == b"who"
        assert await live.put_once("resume", [("d", b"who")], ttl_ms=TTL_MS) == {"d"}
    finally:
        await live.close()


async def caches(url: str, prefix: str) -> None:
    cache = RedisCache(url, prefix)
    try:
        await cache.start()
        assert await cache.put("k", b"1", version=1, ttl_ms=TTL_MS)
        await cache.put_many([("l", b"1", 1), ("m", b"1", 1)], ttl_ms=TTL_MS)
        assert await cache.get_many(["k", "l", "m"]) == [b"1"] * 3
        await cache.drop("k", version=1, ttl_ms=TTL_MS)
        await cache.outdate_many(["l"], margin_ms=1000, ttl_ms=TTL_MS)
        assert not await cache.put("k", b"1", version=1, ttl_ms=TTL_MS)
        assert await cache.now_ms("k") > NOW
    finally:
        await cache.close()


async def buses(url: str, prefix: str) -> None:
    received: list[bytes] = []
    async with (
        running(RedisBus(url, prefix, "n1"), lambda _, payload: received.append(payload)) as one,
        running(RedisBus(url, prefix, "n2"), lambda _, payload: None) as two,
    ):
        await one.subscribe("s:1")
        two.offer("s:1", b"hello")
        await until(lambda: received == [b"hello"])
        await one.unsubscribe("s:1")
        assert (one.state, two.state) == ("up", "up")


@asynccontextmanager
async def running(bus: RedisBus, receive: Callable[[str, bytes], None]) -> AsyncIterator[RedisBus]:
    await bus.start(receive, lambda: None)
    try:
        yield bus
    finally:
        await bus.close()


@pytest.mark.parametrize("server", ["redis62", "redis_cluster", "redis_cluster62"])
async def test_what_the_documents_allow_is_enough(
    request: pytest.FixtureRequest, server: str, prefix: str
) -> None:
    url = url_of(LeastRedis(request.getfixturevalue(server)), prefix)
    await lives(url, prefix)
    await caches(url, prefix)
    await buses(url, prefix)


def test_all_of_what_the_documents_allow_is_needed() -> None:
    scripts = "".join(script.read_text("utf-8") for script in (STORE / "lua").glob("*.lua"))
    called = {name.lower() for name in re.findall(r"redis\.call\('(\w+)'", scripts)}
    newer, older = (set(re.findall(r"\+(\S+)", line)) for line in lines())
    assert newer == called | SENT | OF_THE_BUS | OF_A_CLUSTER
    assert newer - older == {"spublish", "ssubscribe", "sunsubscribe"}
    assert older < newer


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "another:key"),
        ("SET", "another:key", "x"),
        ("EVAL", "return redis.call('GET', 'another:key')", "0"),
        ("PUBLISH", "another:channel", "x"),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
        ("SCRIPT", "FLUSH"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("server", ["redis62", "redis7"])
async def test_what_is_not_the_gateways_is_refused(
    request: pytest.FixtureRequest, server: str, prefix: str, command: tuple[str, ...]
) -> None:
    client: Any = open_client(url_of(LeastRedis(request.getfixturevalue(server)), prefix), connections=1)
    try:
        with pytest.raises(Exception, match=r"(?i)no permission|can't access|NOPERM"):
            await client.execute_command(*command)
    finally:
        await client.aclose()


async def test_who_may_too_little_is_told_what_is_refused_and_where_to_look(
    redis7: RedisServer, prefix: str
) -> None:
    url = url_of(LeastRedis(redis7), prefix)
    redis7.run("ACL", "SETUSER", prefix, "-evalsha")
    live = RedisLive(url, prefix)
    try:
        with pytest.raises(Unavailable, match=r"evalsha.*docs/redis\.md says what to allow"):
            await live.take_once("resume", "d")
    finally:
        await live.close()


async def test_tls_without_its_authority_is_refused(redis_least: LeastRedis, prefix: str) -> None:
    url, _, _ = url_of(redis_least, prefix).partition("?")
    live = RedisLive(url, prefix)
    try:
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await live.ping()
    finally:
        await live.close()


def test_a_line_of_the_documents_is_for_one_version(redis7: RedisServer, redis62: RedisServer) -> None:
    assert (line_for(redis7), line_for(redis62)) == tuple(lines())
