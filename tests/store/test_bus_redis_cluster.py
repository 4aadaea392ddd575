"""A Redis Cluster changes under the bus: slots move, primaries die, others take over."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.bus_redis import bus as bus_module
from store.bus_redis import layout
from store.bus_redis.dialect import ORDINARY
from store.bus_redis.layout import SLOTS, Layout
from store.bus_redis.server import Address, Server
from store.errors import Unavailable
from tests.store.bus_nodes import BusNode, bus_nodes, is_heard
from tests.store.clusters import add_replica, follows, give, owner_of
from tests.waiting import later, until

CHANNELS = [f"s:{number}" for number in range(60)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes ten times as often."""
    monkeypatch.setattr(bus_module, "TICK_S", 0.1)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisClusterServers]:
    """A cluster that only this test breaks."""
    with RedisClusterServers.start(tmp_path / "cluster", version="installed") as started:
        yield started


def slot_of(node: BusNode, channel: str) -> int:
    return key_slot(f"{node.prefix}:bus:{{{channel}}}".encode())


async def all_heard(here: BusNode, there: BusNode) -> None:
    await asyncio.gather(*(is_heard(here, there, channel) for channel in CHANNELS))


async def test_a_channel_follows_its_slot_to_another_node(cluster: RedisClusterServers) -> None:
    async with bus_nodes(cluster.url) as (here, there):
        await asyncio.gather(*map(there.bus.subscribe, CHANNELS))
        await all_heard(here, there)
        slot = slot_of(there, "s:7")
        to = next(server for server in cluster.nodes if server is not owner_of(cluster, slot))
        await asyncio.to_thread(give, cluster, slot, to)
        await there.until_up(gaps=1)
        # Who publishes learns of it by being refused.
        here.bus.offer("s:7", b"where are you?")
        await until(lambda: heard_again(here, there, "s:7"))
        await all_heard(here, there)
        assert there.bus.losses == 0, "no connection had to be given up for it"
        # And that was it: nobody goes on looking for what has moved.
        await later(1.0)
        asked = slots_asked(cluster)
        await later(1.0)
        assert slots_asked(cluster) == asked


def slots_asked(cluster: RedisClusterServers) -> int:
    """How often the nodes of the cluster were asked where the slots are."""
    asked = 0
    for server in cluster.nodes:
        told = server.run("INFO", "commandstats")
        asked += told.get("cmdstat_cluster|slots", {}).get("calls", 0)
    return asked


def heard_again(here: BusNode, there: BusNode, channel: str) -> bool:
    here.bus.offer(channel, b"again")
    return b"again" in there.payloads(channel)


async def test_one_node_of_the_cluster_is_killed_and_comes_back(cluster: RedisClusterServers) -> None:
    async with bus_nodes(cluster.url) as (here, there):
        await asyncio.gather(*map(there.bus.subscribe, CHANNELS))
        victim = owner_of(cluster, slot_of(there, "s:0"))
        unhurt = next(name for name in CHANNELS if owner_of(cluster, slot_of(there, name)) is not victim)
        await asyncio.to_thread(victim.kill)
        await until(lambda: here.bus.state == there.bus.state == "away")
        await is_heard(here, there, unhurt)
        await asyncio.to_thread(victim.again)
        await asyncio.to_thread(cluster.until_whole)
        await here.until_up()
        await there.until_up(gaps=1)
        await all_heard(here, there)


async def test_the_whole_cluster_is_killed_and_comes_back(cluster: RedisClusterServers) -> None:
    async with bus_nodes(cluster.url) as (here, there):
        await asyncio.gather(*map(there.bus.subscribe, CHANNELS))
        for server in cluster.nodes:
            server.kill()
        await until(lambda: here.bus.state == there.bus.state == "away")
        with pytest.raises(Unavailable):
            await there.bus.subscribe("new")
        for server in cluster.nodes:
            await asyncio.to_thread(server.again)
        await asyncio.to_thread(cluster.until_whole)
        await here.until_up()
        await there.until_up(gaps=1)
        await all_heard(here, there)
        await is_heard(here, there, "new")


async def test_a_node_that_starts_without_its_cluster_joins_when_it_is_there(
    cluster: RedisClusterServers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bus_module, "START_S", 1.0)
    for server in cluster.nodes:
        server.kill()
    async with bus_nodes(cluster.url) as (here, there):
        assert there.bus.state == "away"
        with pytest.raises(Unavailable, match="no Redis serves the channel s:0"):
            await there.bus.subscribe("s:0")
        here.bus.offer("s:0", b"to nobody")
        assert here.bus.dropped == 1
        assert capsys.readouterr().out.count("bus_layout_unknown") == 2, "once for each of the two"
        for server in cluster.nodes:
            await asyncio.to_thread(server.again)
        await asyncio.to_thread(cluster.until_whole)
        await here.until_up()
        await there.until_up(gaps=1)
        await is_heard(here, there, "s:0")


@pytest.fixture
def replica(cluster: RedisClusterServers, tmp_path: Path) -> RedisServer:
    return add_replica(cluster, tmp_path / "replica")


async def test_a_replica_takes_over_from_a_primary_that_is_killed(
    cluster: RedisClusterServers, replica: RedisServer
) -> None:
    await until(lambda: follows(replica))
    async with bus_nodes(cluster.url) as (here, there):
        await asyncio.gather(*map(there.bus.subscribe, CHANNELS))
        await asyncio.to_thread(cluster.nodes[1].kill)
        await until(lambda: here.bus.state == there.bus.state == "away")
        await here.until_up(within=30.0)
        await there.until_up(gaps=1)
        await all_heard(here, there)
        assert replica.run("ROLE")[0] == "master"


async def test_a_replica_takes_over_by_order_and_its_primary_follows_it(
    cluster: RedisClusterServers, replica: RedisServer
) -> None:
    await until(lambda: follows(replica))
    async with bus_nodes(cluster.url) as (here, there):
        await asyncio.gather(*map(there.bus.subscribe, CHANNELS))
        replica.run("CLUSTER", "FAILOVER", "TAKEOVER")
        await until(lambda: replica.run("ROLE")[0] == "master", within=15.0)
        for channel in CHANNELS:
            await until(lambda name=channel: heard_again(here, there, name), within=15.0)
        await here.until_up()
        await there.until_up()
        await all_heard(here, there)


# -- before Redis 7


async def test_before_redis_7_another_node_is_used_when_one_dies(tmp_path: Path) -> None:
    with RedisClusterServers.start(tmp_path, version="packaged") as cluster:
        async with bus_nodes(cluster.url, 2) as (here, there):
            await there.bus.subscribe("a")
            await is_heard(here, there, "a")
            (used,) = (server for server in cluster.nodes if there.id in server.run("CLIENT", "LIST"))
            await asyncio.to_thread(used.kill)
            await there.until_up(gaps=1)
            await here.until_up()
            await until(lambda: heard_again(here, there, "a"), within=15.0)


async def test_before_redis_7_one_node_is_used_for_as_long_as_it_serves(
    redis_cluster62: RedisClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "LAYOUT_S", 0.05)
    monkeypatch.setattr(bus_module, "LAYOUT_PAUSE_S", 0.05)
    async with bus_nodes(redis_cluster62.url) as (here, there):
        await there.bus.subscribe("a")
        await later(1.0)
        await is_heard(here, there, "a")
        assert (there.gaps, there.bus.losses, there.bus.state) == (0, 0, "up")


async def test_a_bus_finds_out_that_its_cluster_has_learnt_to_shard(
    cluster: RedisClusterServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = layout.read

    async def read_as_of_old(server: Server, places: Iterable[Address]) -> Layout:
        found = await read(server, places)
        return Layout(ORDINARY, {found.known[0]: [range(SLOTS)]}, found.known)

    monkeypatch.setattr(bus_module, "LAYOUT_S", 0.2)
    monkeypatch.setattr(layout, "read", read_as_of_old)
    async with bus_nodes(cluster.url) as (here, there):
        await asyncio.gather(*map(there.bus.subscribe, CHANNELS))
        await all_heard(here, there)
        monkeypatch.setattr(layout, "read", read)
        await there.until_up(gaps=1)
        for channel in CHANNELS:
            await until(lambda name=channel: heard_again(here, there, name))
        sharded = [len(server.run("PUBSUB", "SHARDCHANNELS")) for server in cluster.nodes]
        assert sum(sharded) == len(CHANNELS) + 2 * 3, "and a probe of each node in each shard"
