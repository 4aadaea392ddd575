"""The indexes are true over several nodes: whoever moves, whoever goes, and while the store is away."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from gateway.fanout import presence as presence_module
from gateway.protocol.close import CloseCode
from gateway.runtime import leases as leases_module
from loadtest.servers.redis import RedisServer
from store.errors import Unavailable
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster, Ground, nodes
from tests.runtime.world import Client
from tests.store.backends.rewind import Contents
from tests.waiting import turns, until


async def indexed(cluster: Cluster, user: str = "alice") -> list[str]:
    return [entry.id for entry in await cluster.live.connections_of_user("default", user)]


async def attached(cluster: Cluster, session: str) -> set[str]:
    return {entry.id for entry in await cluster.live.connections_of_session("default", session)}


async def flushed(cluster: Cluster) -> None:
    for node in cluster.nodes:
        await node.leases.flush()


async def resumed(cluster: Cluster, node: int, token: str, user: str = "alice") -> tuple[Client, str]:
    """A connection to a node that takes up another; and its own token."""
    client = cluster.worlds[node].connect()
    welcome = await client.hello(user, resume=token)
    assert welcome["resumed"] is True
    return client, welcome["resume"]


async def opened(cluster: Cluster, node: int, user: str = "alice") -> tuple[Client, str, str]:
    """A connection with a session of its own; and its token."""
    client = cluster.worlds[node].connect()
    token = (await client.hello(user))["resume"]
    session = await client.open()
    await flushed(cluster)
    return client, session, token


# -- who moves to another node


async def test_a_connection_that_was_resumed_elsewhere_is_not_asserted_any_more(place: Place) -> None:
    async with place(2) as cluster:
        old, session, token = await opened(cluster, 0)
        new, _ = await resumed(cluster, 1, token)
        await new.next("live")
        assert await indexed(cluster) == [new.connection.id]
        assert not old.connection.is_closed
        # Its own node hears of it when it would renew.
        cluster.nodes[0].leases.changed(old.connection)
        await flushed(cluster)
        assert old.connection.is_handed_over
        await flushed(cluster)
        assert await indexed(cluster) == [new.connection.id]
        assert await attached(cluster, session) == {new.connection.id}
        old.vanish()
        await flushed(cluster)
        assert await indexed(cluster) == [new.connection.id]


async def test_an_assertion_that_was_late_for_a_move_is_taken_back(place: Place) -> None:
    async with place(2) as cluster:
        old, session, token = await opened(cluster, 0)
        late = old.connection.entry
        new, _ = await resumed(cluster, 1, token)
        await new.next("live")
        # Under way while the token was used, and so after the old connection was taken out.
        await cluster.nodes[0].live.assert_connections([late], lease_ms=75_000)
        assert await attached(cluster, session) == {old.connection.id, new.connection.id}
        cluster.nodes[0].leases.changed(old.connection)
        await flushed(cluster)
        assert await attached(cluster, session) == {new.connection.id}
        assert await indexed(cluster) == [new.connection.id]


async def test_a_connection_that_stepped_aside_has_the_time_of_a_move_left(place: Place) -> None:
    async with place(2, drain_s=10.0) as cluster:
        old, _, token = await opened(cluster, 0)
        await resumed(cluster, 1, token)
        cluster.nodes[0].leases.changed(old.connection)
        await flushed(cluster)
        now = cluster.nodes[0].clock.monotonic()
        old.connection.check(now + 9.0)
        assert old.outlet.closed is None
        old.connection.check(now + 11.0)
        assert await old.closed() == CloseCode.NODE_LEAVING


async def test_who_moves_from_node_to_node_stays_within_the_limit(place: Place) -> None:
    async with place(2, connections_per_user=1) as cluster:
        client, _, token = await opened(cluster, 0)
        for turn in range(1, 5):
            before = client
            client, token = await resumed(cluster, turn % 2, token)
            before.world.node.leases.changed(before.connection)
            await flushed(cluster)
            assert await indexed(cluster) == [client.connection.id]
        other = cluster.worlds[0].connect()
        assert (await other.hello())["type"] == "error"


async def test_a_token_that_was_used_elsewhere_is_not_good_again_whatever_its_node_writes(
    place: Place,
) -> None:
    async with place(2) as cluster:
        old, _, token = await opened(cluster, 0)
        await resumed(cluster, 1, token)
        old.vanish()
        await flushed(cluster)
        for node in range(2):
            assert (await cluster.worlds[node].connect().hello(resume=token))["resumed"] is False


# -- what is written, and when


async def test_a_quiet_heartbeat_writes_nothing_and_a_confirmation_only_the_record(place: Place) -> None:
    async with place(1) as cluster:
        alice, session, _ = await opened(cluster, 0)
        await alice.send(session, "one")
        await flushed(cluster)
        written: list[str] = []
        live = cluster.nodes[0].live

        def watch(name: str) -> None:
            method = getattr(live, name)

            async def watched(*given: Any, **more: Any) -> Any:
                written.append(name)
                return await method(*given, **more)

            setattr(live, name, watched)

        for name in ("assert_connections", "put_once", "forget"):
            watch(name)
        await alice.ask("heartbeat", ts=1)
        await flushed(cluster)
        assert written == []
        await alice.ask("heartbeat", ts=1, seen={session: 1})
        await flushed(cluster)
        assert written == ["put_once"]
        await alice.ask("heartbeat", ts=1, seen={session: 1})
        await flushed(cluster)
        assert written == ["put_once"]


async def test_every_connection_is_asserted_again_within_one_heartbeat(place: Place) -> None:
    async with place(1, heartbeat_ms=20_000) as cluster:
        alice, _, _ = await opened(cluster, 0)
        leases, now = cluster.nodes[0].leases, cluster.nodes[0].clock.monotonic()
        for beat in range(1, 4):
            # The wheel asks when it was told to; 250 ms late, and the flush once more as much.
            due = alice.connection.check(now)
            assert due <= now + 20.0 * leases_module.RENEW_SHARE
            assert not leases._changed, beat
            now = due
            alice.connection.check(now)
            assert list(leases._changed) == [alice.connection.id]
            await flushed(cluster)


async def test_what_is_too_much_for_one_flush_is_written_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "BATCH", 3)
    async with place(1) as cluster:
        clients = [(await opened(cluster, 0, f"u{n}"))[0] for n in range(7)]
        leases = cluster.nodes[0].leases
        await cluster.live.forget([client.connection.entry for client in clients])
        for client in clients:
            leases.changed(client.connection)
        for left in (4, 1, 0):
            await leases.flush()
            assert len(leases._changed) == left
        for number, client in enumerate(clients):
            assert await indexed(cluster, f"u{number}") == [client.connection.id]
        for client in clients:
            client.vanish()
        for left in (4, 1, 0):
            await leases.flush()
            assert len(leases._departed) == left


async def test_the_record_of_a_session_is_written_when_there_is_news_else_with_the_heartbeats(
    place: Place,
) -> None:
    async with place(1, heartbeat_ms=20_000, sweep_s=1e6) as cluster:
        alice, session, _ = await opened(cluster, 0)
        sweeper, clock = cluster.nodes[0].sweeper, cluster.nodes[0].clock
        told: list[str] = []
        put = cluster.nodes[0].live.put_sessions

        async def watched(records: Any, *, lease_ms: int) -> None:
            told.extend(record.id for record in records)
            await put(records, lease_ms=lease_ms)

        cluster.nodes[0].live.put_sessions = watched  # type: ignore[method-assign]
        now = clock.monotonic()
        for _ in range(3):
            await sweeper._states(now)
        assert told == [session]
        await alice.send(session, "one")
        for _ in range(3):
            await sweeper._states(now)
        assert told == [session] * 2
        await sweeper._states(now + 20.0)
        assert told == [session] * 3


# -- while the store is away


async def test_whoever_goes_while_the_indexes_are_away_is_taken_out_when_they_are_back(place: Place) -> None:
    async with place(2) as cluster:
        gone, session, token = await opened(cluster, 0)
        stays = await cluster.client(0)
        await stays.ask("attach", session=session)
        await flushed(cluster)
        cluster.lives[0].go_away()
        gone.vanish()
        with pytest.raises(Unavailable):
            await cluster.nodes[0].leases.flush()
        assert await attached(cluster, session) == {gone.connection.id, stays.connection.id}
        cluster.lives[0].come_back()
        await flushed(cluster)
        assert await attached(cluster, session) == {stays.connection.id}
        # And its token is good, on another node as well.
        await resumed(cluster, 1, token)


async def test_a_flush_that_meets_a_store_that_is_away_asks_it_once(place: Place) -> None:
    async with place(1) as cluster:
        clients = [(await opened(cluster, 0, f"u{n}"))[0] for n in range(20)]
        await cluster.live.forget([client.connection.entry for client in clients[:10]])
        for client in clients[:10]:
            cluster.nodes[0].leases.changed(client.connection)
        for client in clients[10:]:
            client.vanish()
        live = cluster.lives[0]
        live.go_away()
        before = live.asked
        with pytest.raises(Unavailable):
            await cluster.nodes[0].leases.flush()
        # Entries and resume records, at the same time: one time limit.
        assert live.asked - before == 2
        live.come_back()
        await flushed(cluster)
        for number, client in enumerate(clients):
            expected = [client.connection.id] if number < 10 else []
            assert await indexed(cluster, f"u{number}") == expected


async def test_a_flush_that_is_cut_short_leaves_everything_to_the_next(place: Place) -> None:
    async with place(1) as cluster:
        (alice, _, _), (bob, _, _) = await opened(cluster, 0), await opened(cluster, 0, "bob")
        node = cluster.nodes[0]
        await cluster.live.forget([alice.connection.entry])
        node.leases.changed(alice.connection)
        bob.vanish()
        await node.tasks.stop()
        cluster.lives[0].hang()
        flush = asyncio.ensure_future(node.leases.flush())
        await turns(5)
        flush.cancel()
        await asyncio.gather(flush, return_exceptions=True)
        cluster.lives[0].come_back()
        await flushed(cluster)
        assert await indexed(cluster) == [alice.connection.id]
        assert await indexed(cluster, "bob") == []


async def test_too_many_that_have_gone_are_left_to_expire(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "DEPARTED_LIMIT", 5)
    async with place(1) as cluster:
        clients = [(await opened(cluster, 0, f"u{n}"))[0] for n in range(8)]
        cluster.lives[0].go_away()
        for client in clients:
            client.vanish()
        assert len(cluster.nodes[0].leases._departed) == 5
        assert len(cluster.nodes[0].leases._unwritten) == 5
        cluster.lives[0].come_back()
        await flushed(cluster)
        assert [bool(await indexed(cluster, f"u{n}")) for n in range(8)] == [True] * 3 + [False] * 5


# -- everything there is


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
    others = [f"node:{node}" for node in ("n1", "n2")] + ["nodes"]
    return {
        key: value
        for key, value in kept.items()
        if key not in others
        and not key.startswith(("resume:", "cache:"))
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
                "node": node.id,
                "user": entry.user,
                "sessions": " ".join(entry.sessions),
                "ip": entry.ip,
                "port": str(entry.port),
                "since": str(entry.since),
            }
            user = f"default:user:{{{entry.user}}}"
            members.setdefault(f"{user}:connections", set()).add(entry.id)
            members.setdefault(f"node:{node.id}:connections", set()).add(f"default/{entry.id}")
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
                connection.check(node.clock.monotonic() + 20.0)
        await flushed(cluster)
        assert entries(contents) == before


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
