"""All keys of the live indexes held against the nodes' own connections: nothing is missing, nothing stays."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import cast
from uuid import uuid4

import pytest

from gateway.fanout import presence as presence_module
from loadtest.servers.redis import RedisServer
from store.live_redis.live import RedisLive
from tests.runtime.nodes import Cluster, Ground, nodes
from tests.runtime.test_leases import attached, flushed, opened
from tests.runtime.world import Client
from tests.store.backends.rewind import Contents
from tests.waiting import later, until


@pytest.fixture
def ground(postgres_url: str, redis7: RedisServer) -> Ground:
    return Ground(postgres_url, redis7.url, f"t{uuid4().hex[:8]}")


@pytest.fixture
def contents(ground: Ground, redis7: RedisServer) -> Iterator[Contents]:
    with closing(Contents(redis7, ground.prefix)) as found:
        yield found


def entries(contents: Contents) -> dict[str, object]:
    """What Redis has of connections: all keys but those of nodes, sessions, tokens and the cache."""
    kept = contents.everything()
    others = ["nodes", "probe"]
    return {
        key: value
        for key, value in kept.items()
        if key not in others
        and not key.startswith(("resume:", "cache:", "lost:"))
        and not re.fullmatch(r"node:[^:]+", key)
        and not (key.startswith("default:session:") and key.endswith("}"))
    }


def truth(cluster: Cluster) -> dict[str, object]:
    """What it should have, by the nodes' own connections."""
    members: dict[str, set[str]] = {}
    hashes: dict[str, object] = {}
    for node in cluster.nodes:
        for connection in node.connections.values():
            if connection.resume_token is None or connection.is_handed_over:
                continue
            entry = connection.entry
            hashes[f"default:connection:{{{entry.id}}}"] = {
                "node": node.lease.life,
                "user": entry.user,
                "sessions": " ".join(entry.sessions),
                "ip": entry.ip,
                "port": str(entry.port),
                "since": str(entry.since),
            }
            user = f"default:user:{{{entry.user}}}"
            members.setdefault(f"{user}:connections", set()).add(entry.id)
            members.setdefault(f"node:{node.lease.life}:connections", set()).add(f"default/{entry.id}")
            for session in entry.sessions:
                members.setdefault(f"{user}:sessions", set()).add(session)
                members.setdefault(f"default:session:{{{session}}}:connections", set()).add(entry.id)
    return {**hashes, **members}


async def settled(cluster: Cluster) -> None:
    """Whatever is asked is answered, what has gathered is written, and who has left is told."""
    for world in cluster.worlds:
        for client in world.clients:
            await until(lambda client=client: not client.connection._is_busy)
    await flushed(cluster)
    for node in cluster.nodes:
        late = node.clock.monotonic() + presence_module.GRACE_S + 1
        node.presence._monotonic = partial(float, late)
        await node.presence.announce_leaves()
        node.presence._monotonic = node.clock.monotonic


async def test_whatever_clients_do_all_keys_are_the_nodes_truth(
    tmp_path: Path, ground: Ground, contents: Contents
) -> None:
    chance = Random(11)  # noqa: S311 - who does what
    async with nodes(tmp_path, 2, ground=ground, connections_per_user=3) as cluster:
        owner = await cluster.client(0, "owner")
        shared = [await owner.open() for _ in range(4)]
        users = [f"u{n}" for n in range(6)]
        for session in shared:
            for user in users:
                await owner.world.join(owner, session, user)
        tokens: dict[Client, tuple[str, str]] = {}
        for _ in range(12):
            for _ in range(8):
                living = [client for client in tokens if not client.connection.is_closed]
                match chance.randrange(5) if living else 0:
                    case 0 | 1:
                        client, user = cluster.worlds[chance.randrange(2)].connect(), chance.choice(users)
                        welcome = await client.hello(user)
                        if welcome["type"] == "welcome":
                            tokens[client] = (user, welcome["resume"])
                            wanted = chance.sample(shared, 2)
                            await asyncio.gather(*(client.ask("attach", session=each) for each in wanted))
                    case 2:
                        client = chance.choice(living)
                        if client.connection.attachments:
                            session = chance.choice(list(client.connection.attachments))
                            await client.ask("detach", session=session)
                    case 3:
                        chance.choice(living).vanish()
                    case _:
                        user, token = tokens[before := chance.choice(living)]
                        client = cluster.worlds[chance.randrange(2)].connect()
                        welcome = await client.hello(user, resume=token)
                        if welcome["type"] == "welcome":
                            tokens[client] = (user, welcome["resume"])
                            before.world.node.leases.changed(before.connection)
            await settled(cluster)
            assert entries(contents) == truth(cluster)
            assert all(left_ms > 0 for left_ms in contents.longest_ms().values())
        for client in (*tokens, owner):
            if not client.connection.is_closed:
                client.vanish()
        await settled(cluster)
        assert entries(contents) == {}


async def test_after_everything_is_lost_all_keys_are_the_nodes_truth_within_one_heartbeat(
    tmp_path: Path, ground: Ground, contents: Contents
) -> None:
    async with nodes(tmp_path, 2, ground=ground, heartbeat_ms=20_000) as cluster:
        for number in range(10):
            client = await cluster.client(number % 2, f"u{number % 4}")
            for _ in range(2):
                await client.open()
        await settled(cluster)
        before = entries(contents)
        assert before == truth(cluster)
        contents.clear()
        assert entries(contents) == {}
        for node in cluster.nodes:
            for connection in node.connections.values():
                connection.renew(node.clock.monotonic() + 20.0)  # as its heartbeat does
        await flushed(cluster)
        assert entries(contents) == before


async def test_redis_is_asked_less_than_ten_times_a_second_however_many_are_renewed(
    tmp_path: Path, ground: Ground
) -> None:
    async with nodes(tmp_path, 1, ground=ground) as cluster:
        clients = [await cluster.client(0, f"u{number}") for number in range(20)]
        for client in clients:
            await client.open()
        await settled(cluster)
        (node,), live = cluster.nodes, cast(RedisLive, cluster.lives[0]._store)
        begun, before = node.clock.monotonic(), live.round_trips
        for turn in range(75):
            node.leases.changed(clients[turn % 20].connection)
            await later(0.02)
        trips, seconds = live.round_trips - before, node.clock.monotonic() - begun
        assert 3 <= trips < 10 * seconds


async def test_what_a_node_leaves_when_it_dies_is_gone_with_its_leases(
    tmp_path: Path, ground: Ground, contents: Contents
) -> None:
    async with nodes(tmp_path, 2, ground=ground) as cluster:
        dies, session, _ = await opened(cluster, 0)
        stays = await cluster.member(1, "bob", dies, session)
        await settled(cluster)
        # It renews nothing any more, and forgets nobody.
        cluster.lives[0].go_away()
        contents.age(cluster.nodes[0].leases.lease_ms - 10_000)
        cluster.nodes[1].leases.changed(stays.connection)
        await cluster.nodes[1].leases.flush()
        assert await attached(cluster, session) == {dies.connection.id, stays.connection.id}
        contents.age(10_000)
        cluster.nodes[1].leases.changed(stays.connection)
        await cluster.nodes[1].leases.flush()
        assert await attached(cluster, session) == {stays.connection.id}
        dies.vanish()
        assert entries(contents) == truth(cluster)
