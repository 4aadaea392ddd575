"""What is the Redis backend's own: the keys as they are documented, and nothing that outlives its lease."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import pytest
from redis.crc import key_slot

from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.errors import Unavailable
from store.live import LOST_MS
from store.live_redis.keys import Keys
from store.live_redis.live import RedisLive
from store.types import LiveSession, NodeEntry, SessionStats
from tests.store.backends.rewind import Contents
from tests.store.clusters import owner_of
from tests.store.making import NOW, entry
from tests.waiting import until

LEASE_MS: Final = 30_000


class Place(NamedTuple):
    """A live store, and what lies in its Redis."""

    live: RedisLive
    contents: Contents
    url: str
    prefix: str


@pytest.fixture(params=["redis62", "redis7", "redis_cluster"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    servers = request.getfixturevalue(request.param)
    prefix = f"t{uuid4().hex[:8]}"
    live = RedisLive(servers.url, prefix)
    with closing(Contents(servers, prefix)) as contents:
        yield Place(live, contents, servers.url, prefix)
    await live.close()


def hash_of(node: str = "n1", user: str = "alice", sessions: str = "") -> dict[str, str]:
    return {
        "node": node,
        "user": user,
        "sessions": sessions,
        "ip": "192.0.2.7",
        "port": "4711",
        "since": str(NOW),
    }


async def test_the_keys_are_those_of_the_documents(place: Place) -> None:
    live = place.live
    one = entry("c1", sessions=("s1", "s2"), ip="192.0.2.7", port=4711)
    two = entry("c2", user="bob", node="n2", sessions=("s1",), ip="192.0.2.7", port=4711)
    await live.assert_connections([one, two], lease_ms=LEASE_MS)
    assert place.contents.everything() == {
        "t:connection:{c1}": hash_of(sessions="s1 s2"),
        "t:connection:{c2}": hash_of("n2", "bob", "s1"),
        "t:session:{s1}:connections": {"c1", "c2"},
        "t:session:{s2}:connections": {"c1"},
        "t:user:{alice}:connections": {"c1"},
        "t:user:{alice}:sessions": {"s1", "s2"},
        "t:user:{bob}:connections": {"c2"},
        "t:user:{bob}:sessions": {"s1"},
        "node:n1:connections": {"t/c1"},
        "node:n2:connections": {"t/c2"},
    }
    await live.put_sessions(
        [LiveSession(id="s1", tenant="t", state="active", node="n1", stats=SessionStats())], lease_ms=LEASE_MS
    )
    await live.renew_node(NodeEntry(id="n1", url=None, started_at=NOW), lease_ms=LEASE_MS)
    await live.put_once("ticket", [("d1", b"who")], ttl_ms=LEASE_MS)
    await live.put_once("resume", [("d2", b"who")], ttl_ms=LEASE_MS)
    await live.take_once("resume", "d2")
    others = {"t:session:{s1}", "node:n1", "nodes", "ticket:d1", "resume:d2"}
    assert others < place.contents.keys()
    assert place.contents.everything()["ticket:d1"] == b"+who"
    assert place.contents.everything()["resume:d2"] == b"-"


async def test_every_key_expires_within_its_lease(place: Place) -> None:
    live = place.live
    for _ in range(2):
        assert await live.admit(entry("c1", sessions=("s1",)), limit=2, lease_ms=LEASE_MS)
        await live.assert_connections([entry("c2", sessions=("s1", "s2"))], lease_ms=LEASE_MS)
        record = LiveSession(id="s1", tenant="t", state="active", node="n1", stats=SessionStats())
        await live.put_sessions([record], lease_ms=LEASE_MS)
        await live.renew_node(NodeEntry(id="n1", url=None, started_at=NOW), lease_ms=LEASE_MS)
        await live.put_once("resume", [("d1", b"who"), ("d2", b"who")], ttl_ms=LEASE_MS)
        await live.take_once("resume", "d2")
        for key, left_ms in place.contents.longest_ms().items():
            # Nodes are remembered for longer than their leases, so that others find out whose is over.
            assert 0 < left_ms <= (LOST_MS if key == "nodes" else LEASE_MS), key
    place.contents.age(LEASE_MS)
    assert place.contents.keys() == {"nodes"}
    place.contents.age(LOST_MS)
    assert place.contents.keys() == set()


async def test_what_is_not_asserted_is_gone_by_itself(place: Place) -> None:
    await place.live.assert_connections([entry(sessions=("s1", "s2"))], lease_ms=150)
    assert place.contents.keys()
    await until(lambda: not place.contents.keys())


async def test_what_was_forgotten_leaves_nothing_but_its_user_in_their_sessions(place: Place) -> None:
    live = place.live
    entries = [entry(f"c{n}", user=f"u{n % 3}", node=f"n{n % 2}", sessions=(f"s{n}", "s")) for n in range(30)]
    await live.assert_connections(entries, lease_ms=LEASE_MS)
    # Some know what the connection was attached to, some do not, and some know what is no longer true.
    await live.forget([*entries[:10], *(entry(each.id) for each in entries[10:20])])
    await live.forget([entry(each.id, user="other", node="n9", sessions=("s7",)) for each in entries[20:]])
    assert place.contents.keys() == {"t:user:{u0}:sessions", "t:user:{u1}:sessions", "t:user:{u2}:sessions"}
    for each in entries:
        for session in each.sessions:
            await live.leave("t", session, each.user)
    assert place.contents.keys() == set()


async def test_a_handover_leaves_nothing_of_the_old_connection(place: Place) -> None:
    live = place.live
    old, new = entry("old", sessions=("s1", "s2")), entry("new", node="n2")
    assert await live.admit(old, limit=1, lease_ms=LEASE_MS)
    await live.put_once("resume", [("d", b"old")], ttl_ms=LEASE_MS)
    assert await live.take_once("resume", "d") == b"old"
    await live.forget([old])
    assert await live.admit(new, limit=1, lease_ms=LEASE_MS)
    await live.assert_connections([entry("new", node="n2", sessions=("s1", "s2"))], lease_ms=LEASE_MS)
    assert place.contents.everything() == {
        "t:connection:{new}": {**hash_of("n2", sessions="s1 s2"), "ip": "", "port": "0"},
        "t:session:{s1}:connections": {"new"},
        "t:session:{s2}:connections": {"new"},
        "t:user:{alice}:connections": {"new"},
        "t:user:{alice}:sessions": {"s1", "s2"},
        "node:n2:connections": {"t/new"},
        "resume:d": b"-",
    }


async def test_a_connection_that_changed_everything_is_in_no_index_twice(place: Place) -> None:
    live = place.live
    await live.assert_connections([entry(sessions=("s1", "s2"))], lease_ms=LEASE_MS)
    await live.assert_connections([entry(user="bob", node="n2", sessions=("s2", "s3"))], lease_ms=LEASE_MS)
    everything = place.contents.everything()
    assert everything.pop("t:user:{alice}:sessions") == {"s1", "s2"}  # until `leave`, or its time is over
    assert everything == {
        "t:connection:{c1}": {**hash_of("n2", "bob", "s2 s3"), "ip": "", "port": "0"},
        "t:session:{s2}:connections": {"c1"},
        "t:session:{s3}:connections": {"c1"},
        "t:user:{bob}:connections": {"c1"},
        "t:user:{bob}:sessions": {"s2", "s3"},
        "node:n2:connections": {"t/c1"},
    }


async def test_members_whose_lease_is_over_are_passed_over_and_taken_out_with_the_next_write(
    place: Place,
) -> None:
    live = place.live
    await live.assert_connections([entry("c1", sessions=("s",))], lease_ms=LEASE_MS)
    await live.assert_connections([entry("c2", sessions=("s",))], lease_ms=3 * LEASE_MS)
    place.contents.age(LEASE_MS)
    assert place.contents.everything()["t:session:{s}:connections"] == {"c1", "c2"}
    assert [each.id for each in await live.connections_of_session("t", "s")] == ["c2"]
    assert await live.admit(entry("c3"), limit=2, lease_ms=LEASE_MS)
    await live.assert_connections([entry("c3", sessions=("s",))], lease_ms=LEASE_MS)
    everything = place.contents.everything()
    for index in ("t:session:{s}:connections", "t:user:{alice}:connections"):
        assert everything[index] == {"c2", "c3"}
    assert everything["node:n1:connections"] == {"t/c2", "t/c3"}


async def test_a_lease_that_is_longer_is_not_shortened_by_another_in_the_same_index(place: Place) -> None:
    live = place.live
    await live.assert_connections([entry("c1", sessions=("s",))], lease_ms=3 * LEASE_MS)
    await live.assert_connections([entry("c2", sessions=("s",))], lease_ms=LEASE_MS)
    assert not await live.leave("t", "s", "alice")
    place.contents.age(LEASE_MS)
    assert [each.id for each in await live.connections_of_session("t", "s")] == ["c1"]
    assert [each.id for each in await live.connections_of_user("t", "alice")] == ["c1"]
    # Still in it as far as everybody knows: to come back is not to come.
    assert await live.assert_connections([entry("c2", sessions=("s",))], lease_ms=LEASE_MS) == set()


async def test_an_entry_is_found_in_an_index_only_while_its_hash_says_so(place: Place) -> None:
    """What a crash between two servers of a cluster leaves is passed over until it expires."""
    live = place.live
    await live.assert_connections([entry("c1", sessions=("s1",))], lease_ms=LEASE_MS)
    place.contents.put_member("t:session:{s2}:connections", "c1", LEASE_MS)
    place.contents.put_member("t:session:{s2}:connections", "gone", LEASE_MS)
    place.contents.put_member("t:user:{bob}:connections", "c1", LEASE_MS)
    assert await live.connections_of_session("t", "s2") == []
    assert await live.connections_of_user("t", "bob") == []


async def test_two_stores_write_the_same_connections_without_a_trace_of_either(place: Place) -> None:
    other = RedisLive(place.url, place.prefix)
    try:
        for _ in range(3):
            for live in (place.live, other):
                await live.assert_connections([entry(sessions=("s1",))], lease_ms=LEASE_MS)
                await live.assert_connections([entry(sessions=("s2",))], lease_ms=LEASE_MS)
        await other.forget([entry()])
        await other.leave("t", "s1", "alice")
        await place.live.leave("t", "s2", "alice")
        assert place.contents.keys() == set()
    finally:
        await other.close()


async def test_what_another_version_stored_in_its_own_way_is_passed_over(redis7: RedisServer) -> None:
    live = RedisLive(redis7.url, prefix := f"t{uuid4().hex[:8]}")
    node, record = NodeEntry(id="n1", url=None, started_at=NOW), _record_of("n1")
    await live.renew_node(node, lease_ms=LEASE_MS)
    await live.put_sessions([record], lease_ms=LEASE_MS)
    redis7.run("SET", f"{prefix}:node:n2", '{"name":"n2"}', "PX", "30000")
    redis7.run("ZADD", f"{prefix}:nodes", "9999999999999", "n2")
    redis7.run("HSET", f"{prefix}:t:session:{{s1}}", "n2", '9999999999999 {"now":"active"}')
    redis7.run("HSET", f"{prefix}:t:connection:{{c1}}", "node", "n2", "who", "alice")
    assert await live.nodes() == [node]
    assert await live.session("t", "s1") == record
    assert await live.connection("t", "c1") is None
    # And written over, or taken out.
    await live.assert_connections([entry("c1")], lease_ms=LEASE_MS)
    assert await live.connection("t", "c1") == entry("c1")
    redis7.run("HDEL", f"{prefix}:t:connection:{{c1}}", "user")
    await live.forget([entry("c1")])
    assert redis7.run("EXISTS", f"{prefix}:t:connection:{{c1}}") == 0
    await live.close()


def _record_of(node: str) -> LiveSession:
    return LiveSession(id="s1", tenant="t", state="active", node=node, stats=SessionStats())


async def test_who_comes_while_a_server_is_slow_is_not_taken_for_gone(
    redis_cluster: RedisClusterServers,
) -> None:
    keys = Keys(prefix := f"t{uuid4().hex[:8]}")
    index = keys.sessions_of_user("t", "alice")
    one, two = RedisLive(redis_cluster.url, prefix), RedisLive(redis_cluster.url, prefix)
    # Their entry lies on another server than their index.
    slow, coming = next(
        (owner, entry(id, sessions=("s1",)))
        for id in map(str, range(100))
        if (owner := _owner(redis_cluster, keys.connection("t", id))) is not _owner(redis_cluster, index)
    )
    before = entry("before", sessions=("s1",))
    await one.assert_connections([before], lease_ms=LEASE_MS)
    await one.forget([before])
    slow.run("CLIENT", "PAUSE", "300", "WRITE")
    asserting = asyncio.ensure_future(two.assert_connections([coming], lease_ms=LEASE_MS))
    left = False
    while not asserting.done():
        left |= await one.leave("t", "s1", "alice")
    came = await asserting
    assert came == ({(coming.id, "s1")} if left else set())
    assert _owner(redis_cluster, index).run("ZCARD", index) == 1
    for live in (one, two):
        await live.close()


def _owner(cluster: RedisClusterServers, key: str) -> RedisServer:
    return owner_of(cluster, key_slot(key.encode()))


async def test_one_server_of_a_cluster_that_has_lost_everything_is_told_it_again_with_the_next_assertion(
    redis_cluster: RedisClusterServers,
) -> None:
    prefix = f"t{uuid4().hex[:8]}"
    live = RedisLive(redis_cluster.url, prefix)
    entries = [live.prepared(entry(f"c{n}", user=f"u{n % 9}", sessions=(f"s{n % 7}",))) for n in range(60)]
    await live.assert_connections(entries, lease_ms=LEASE_MS)
    with closing(Contents(redis_cluster, prefix)) as contents:
        whole = contents.everything()
        for node in redis_cluster.nodes:
            with closing(Contents(node, prefix)) as lost:
                assert lost.keys()
                lost.clear()
            assert contents.everything() != whole
            await live.assert_connections(entries, lease_ms=LEASE_MS)
            assert contents.everything() == whole
            found = [each for n in range(7) for each in await live.connections_of_session("t", f"s{n}")]
            assert len(found) == len(entries)
    await live.close()


async def test_a_redis_that_has_lost_everything_is_told_everything_again(tmp_path: Path) -> None:
    entries = [entry(f"c{n}", user=f"u{n % 3}", sessions=("s",)) for n in range(600)]
    with RedisServer.start(tmp_path, version="installed") as server:
        live = RedisLive(server.url, "p")
        try:
            await live.assert_connections(entries, lease_ms=LEASE_MS)
            for lose in (server.kill, partial(server.run, "FLUSHALL"), server.stop):
                lose()
                if not server.is_running:
                    with pytest.raises(Unavailable):
                        await live.connections_of_session("t", "s")
                    server.again()
                assert await live.connections_of_session("t", "s") == []
                await live.assert_connections(entries, lease_ms=LEASE_MS)
                assert len(await live.connections_of_session("t", "s")) == 600
                assert len(await live.connections_of_user("t", "u1")) == 200
        finally:
            await live.close()
