"""The live indexes on a Redis Cluster one of whose servers does not answer."""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.crc import key_slot

from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.errors import Unavailable
from store.live_redis.keys import Keys
from store.live_redis.live import RedisLive
from store.types import NodeEntry
from tests.store.clusters import owner_of
from tests.store.making import NOW, entry
from tests.waiting import until

KEYS = Keys("t")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisClusterServers]:
    """A cluster that only this test breaks."""
    with RedisClusterServers.start(tmp_path / "cluster", version="installed") as started:
        yield started


@pytest.fixture
async def live(cluster: RedisClusterServers) -> AsyncIterator[RedisLive]:
    made = RedisLive(cluster.url, "t")
    try:
        yield made
    finally:
        await made.close()


def server_of(cluster: RedisClusterServers, key: str) -> RedisServer:
    return owner_of(cluster, key_slot(key.encode()))


def node_away_from_the_register(cluster: RedisClusterServers) -> NodeEntry:
    """A life of a node whose entry lies elsewhere than the register does."""
    register = server_of(cluster, KEYS.nodes())
    lives = (f"{n:x}" for n in range(1000))
    life = next(one for one in lives if server_of(cluster, KEYS.node(f"n1/{one}")) is not register)
    return NodeEntry(id="n1", url=None, started_at=NOW, incarnation=life)


async def test_a_lease_is_what_the_register_says_whoever_else_is_away(
    cluster: RedisClusterServers, live: RedisLive
) -> None:
    node = node_away_from_the_register(cluster)
    await live.renew_node(node, lease_ms=60_000)
    away = server_of(cluster, KEYS.node(f"n1/{node.incarnation}"))
    away.pause()
    try:
        assert not (await live.renew_node(node, lease_ms=60_000)).is_lost
    finally:
        away.resume()

    async def is_retired() -> bool:
        try:
            await live.retire_node(node, grace_ms=0)
        except Unavailable:
            return False  # who has not answered is left alone for a moment
        return True

    await until(is_retired)
    assert (await live.renew_node(node, lease_ms=60_000)).is_lost


async def test_without_the_register_connections_are_written_to_the_other_servers(
    cluster: RedisClusterServers, live: RedisLive
) -> None:
    node = node_away_from_the_register(cluster)
    await live.renew_node(node, lease_ms=60_000)
    away = server_of(cluster, KEYS.nodes())
    users = [f"u{n}" for n in range(30)]
    elsewhere = [
        user for user in users if server_of(cluster, KEYS.connections_of_user("t", user)) is not away
    ]
    assert elsewhere
    for server in cluster.nodes:
        server.run("CONFIG", "SET", "cluster-require-full-coverage", "no")
    keys = [KEYS.connections_of_user("t", user) for user in elsewhere]

    async def are_written() -> bool:
        with suppress(Unavailable):  # of those that lie there
            await live.assert_connections([entry(f"c-{user}", user=user) for user in users], lease_ms=60_000)
        return all(server_of(cluster, key).run("ZCARD", key) == 1 for key in keys)

    away.pause()
    try:
        await until(are_written, within=10)
        with pytest.raises(Unavailable):
            await live.renew_node(node, lease_ms=60_000)
    finally:
        away.resume()
