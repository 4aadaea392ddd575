"""The way to a Redis Cluster whose parts move, hang, die and are replaced."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from loadtest.servers.redis import RedisClusterServers
from store.errors import Unavailable
from tests.store.clusters import (
    add_replica,
    begin_to_give,
    finish_giving,
    follows,
    give,
    owner_of,
)
from tests.store.wired import REFUSED_WITHIN_S, TAKE_ONCE, answers, got, names, put, values, wired
from tests.waiting import until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisClusterServers]:
    """A cluster that only this test breaks."""
    with RedisClusterServers.start(tmp_path / "cluster", version="installed") as started:
        yield started


def refused(cluster: RedisClusterServers) -> list[object]:
    """How often each node has said that a key is another's."""
    running = [node for node in cluster.nodes if node.is_running]
    return [node.run("INFO", "errorstats").get("errorstat_MOVED") for node in running]


async def test_keys_are_followed_to_where_their_slot_has_gone(cluster: RedisClusterServers) -> None:
    keys = names(30)
    async with wired(cluster.url) as wire:
        assert await got(wire, *keys) == [None] * 30
        slot = key_slot(keys[0].encode())
        to = next(server for server in cluster.nodes if server is not owner_of(cluster, slot))
        await asyncio.to_thread(give, cluster, slot, to)
        await put(wire, keys)
        assert await got(wire, *keys) == values(*keys)
        assert to.run("EXISTS", keys[0]) == 1
        # It is known by now: nobody is asked in vain.
        moved = refused(cluster)
        assert any(moved)
        assert await got(wire, *keys) == values(*keys)
        assert refused(cluster) == moved


async def test_keys_on_their_way_are_found_on_either_side(cluster: RedisClusterServers) -> None:
    tag = names(1)[0]
    old, new = f"{{{tag}}}:old", f"{{{tag}}}:new"
    slot = key_slot(old.encode())
    to = next(server for server in cluster.nodes if server is not owner_of(cluster, slot))
    async with wired(cluster.url) as wire:
        await put(wire, [old])
        await asyncio.to_thread(begin_to_give, cluster, slot, to)
        await put(wire, [new])
        assert await wire.call([TAKE_ONCE.call([f"{{{tag}}}:none"])]) == [None]
        assert await got(wire, new, old, new) == values(new, old, new)
        source = owner_of(cluster, slot)
        source.run("MIGRATE", "127.0.0.1", str(to.port), old, "0", "1000")
        assert await got(wire, new, old) == values(new, old)
        await asyncio.to_thread(finish_giving, cluster, slot, to)
        assert await got(wire, new, old) == values(new, old)


async def test_of_a_cluster_that_hangs_from_the_start_nobody_waits_longer_than_the_first(
    cluster: RedisClusterServers,
) -> None:
    (key,) = names(1)
    async with wired(cluster.url) as wire:
        for node in cluster.nodes:
            node.pause()
        begun = time.monotonic()
        outcomes = await asyncio.gather(*(got(wire, key) for _ in range(20)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert time.monotonic() - begun < REFUSED_WITHIN_S
        for node in cluster.nodes:
            node.resume()
        await until(lambda: answers(wire, key), within=15.0)


async def test_a_node_of_a_cluster_that_was_killed_is_used_again_when_it_is_back(
    cluster: RedisClusterServers,
) -> None:
    keys = names(60)
    victim = cluster.nodes[1]
    there = [key for key in keys if owner_of(cluster, key_slot(key.encode())) is victim]
    elsewhere = [key for key in keys if key not in there]
    async with wired(cluster.url) as wire:
        await put(wire, keys)
        await asyncio.to_thread(victim.kill)
        begun = time.monotonic()
        outcomes = await asyncio.gather(*(got(wire, key) for key in keys), return_exceptions=True)
        assert time.monotonic() - begun < REFUSED_WITHIN_S
        for key, outcome in zip(keys, outcomes, strict=True):
            if key in elsewhere:
                assert outcome == values(key)
            else:
                assert isinstance(outcome, Unavailable)
        with pytest.raises(Unavailable):
            await wire.ping()
        await asyncio.to_thread(victim.again)
        await until(lambda: answers(wire, there[0]), within=15.0)
        await wire.ping()
        assert await got(wire, *elsewhere) == values(*elsewhere)


@pytest.mark.parametrize("how", ["killed", "ordered"])
async def test_a_replica_that_takes_over_is_written_to(
    cluster: RedisClusterServers, tmp_path: Path, how: str
) -> None:
    replica = await asyncio.to_thread(add_replica, cluster, tmp_path / "replica")
    await until(lambda: follows(replica))
    keys = names(60)
    async with wired(cluster.url) as wire:
        await put(wire, keys)
        if how == "killed":
            await asyncio.to_thread(cluster.nodes[1].kill)
        else:
            replica.run("CLUSTER", "FAILOVER", "TAKEOVER")
        await until(lambda: replica.run("ROLE")[0] == "master", within=15.0)

        async def is_written() -> bool:
            try:
                await put(wire, keys)
            except Unavailable:
                return False
            return True

        await until(is_written, within=15.0)
        assert await got(wire, *keys) == values(*keys)

        async def is_known() -> bool:
            moved = refused(cluster)
            await put(wire, names(60))
            return refused(cluster) == moved

        # All that the primary had is looked for at the replica, also what nobody has asked for yet.
        await until(is_known, what="all slots known")
