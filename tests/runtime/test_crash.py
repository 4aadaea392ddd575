"""A node that dies, or was taken for dead: what it leaves is cleaned up once, and nobody here has left."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.fanout import presence as presence_module
from gateway.protocol.close import CloseCode
from gateway.runtime import cleaning as cleaning_module
from gateway.runtime import node as node_module
from gateway.runtime import node_lease as lease_module
from gateway.runtime.node import Node, NodeSettings
from store.live import Leave
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster
from tests.runtime.test_leases import attached, flushed, indexed, opened, resumed
from tests.runtime.test_presence_nodes import told
from tests.runtime.world import Client
from tests.waiting import later, turns, until

# A sixth of the real pauses: a node is found lost within 2 s.
SHARE = 6
TRUE_WITHIN_S = 8.0  # for a machine that others use as well; the promise itself is held in tests/cluster


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEASE_S", "RENEW_S", "BROKEN_S", "PATIENCE_S"):
        monkeypatch.setattr(lease_module, name, getattr(lease_module, name) / SHARE)
    monkeypatch.setattr(cleaning_module, "CLAIM_MS", cleaning_module.CLAIM_MS // SHARE)
    for module in (presence_module, node_module):
        monkeypatch.setattr(module, "GRACE_S", 1.0)


async def die(node: Node) -> None:
    """As by SIGKILL: nothing runs any more, and nothing was written or said."""
    await node.tasks.stop()
    if node._committing is not None:
        node._committing.cancel()


async def until_lost(cluster: Cluster, count: int = 1) -> None:
    """Wait until the survivors have found out, and have cleaned up."""
    await until(lambda: sum(node.lease.lost for node in cluster.nodes) >= count, within=TRUE_WITHIN_S)


async def watched(cluster: Cluster, node: int = 1) -> tuple[Client, str]:
    """Somebody on a node that lives, and a session of theirs."""
    olga = await cluster.client(node, "olga")
    return olga, await olga.open()


async def enters(cluster: Cluster, node: int, user: str, olga: Client, session: str) -> tuple[Client, str]:
    """A member who attaches at a node; and their token."""
    await olga.world.join(olga, session, user)
    client = cluster.worlds[node].connect()
    token = (await client.hello(user))["resume"]
    await client.ask("attach", session=session)
    await until(lambda: told(olga, user)[-1:] == ["join"])
    return client, token


def patient(cluster: Cluster) -> None:
    """Let the survivors bury at once: the patience they need is that of nodes that have just begun."""
    for node in cluster.nodes:
        node.lease._unbroken_since = -1e9


# -- a death


async def test_who_does_not_come_back_from_a_dead_node_has_left_once_and_others_have_not(
    place: Place,
) -> None:
    async with place(3, is_fenced=False) as cluster:
        olga, session = await watched(cluster)
        wim = await cluster.member(2, "wim", olga, session)
        users = [f"u{n}" for n in range(6)]
        clients = {user: await enters(cluster, 0, user, olga, session) for user in users}
        elsewhere = await cluster.member(2, "u5", olga, session)  # with a second connection
        await flushed(cluster)
        await die(cluster.nodes[0])
        back = {user: await resumed(cluster, 2, clients[user][1], user) for user in users[:2]}
        await until_lost(cluster)
        here = {client.connection.id for client in (olga, wim, elsewhere, *(one for one, _ in back.values()))}

        async def is_true() -> bool:
            return await attached(cluster, session) == here

        await until(is_true, within=TRUE_WITHIN_S)
        for client in (olga, wim):
            await until(
                lambda client=client: told(client, "u4") == ["join", "leave"][-len(told(client, "u4")) :]
            )
            await until(lambda client=client: all(told(client, u)[-1] == "leave" for u in users[2:5]))
        await turns(20)
        for user in users:
            left = ["leave"] if user in users[2:5] else []
            assert told(olga, user) == ["join", *left], user
        for user in users[2:5]:
            assert await indexed(cluster, user) == []
        # Counted when a share is released, a moment after its leaves were told.
        await until(lambda: sum(node.cleaning.entries for node in cluster.nodes) == 4)
        assert [node.lease.lost for node in cluster.nodes].count(1) == 1


async def test_who_had_just_gone_when_their_node_died_is_told_to_have_left(place: Place) -> None:
    async with place(2, is_fenced=False) as cluster:
        olga, session = await watched(cluster)
        bob, _ = await enters(cluster, 0, "bob", olga, session)
        carl, _ = await enters(cluster, 0, "carl", olga, session)
        bob.vanish()
        await carl.ask("detach", session=session)
        await cluster.nodes[0]._flush()
        assert await indexed(cluster, "bob") == []
        await die(cluster.nodes[0])
        await until_lost(cluster)
        await until(lambda: told(olga, "bob") == told(olga, "carl") == ["join", "leave"])


async def test_a_node_that_stops_has_others_tell_who_has_left(place: Place) -> None:
    async with place(2, is_fenced=False) as cluster:
        olga, session = await watched(cluster)
        bob, _ = await enters(cluster, 0, "bob", olga, session)
        carl, token = await enters(cluster, 0, "carl", olga, session)
        bob.vanish()
        carl.vanish()
        await cluster.nodes[0].stop()
        assert [node.id for node in await cluster.live.nodes()] == ["n2"]
        await resumed(cluster, 1, token, "carl")
        await until(lambda: told(olga, "bob") == ["join", "leave"], within=TRUE_WITHIN_S)
        await turns(20)
        assert told(olga, "carl") == ["join"]
        # It has said goodbye: nobody calls it lost.
        assert cluster.nodes[1].lease.lost == 0
        cluster.worlds.pop(0)


async def test_what_a_node_could_not_write_when_it_stopped_is_seen_to_by_others(place: Place) -> None:
    async with place(2, is_fenced=False) as cluster:
        olga, session = await watched(cluster)
        bob, _ = await enters(cluster, 0, "bob", olga, session)
        carl, token = await enters(cluster, 0, "carl", olga, session)
        dave, _ = await enters(cluster, 0, "dave", olga, session)
        await flushed(cluster)
        dave.vanish()
        await cluster.nodes[0]._flush()  # he is about to be told to have left
        for store in (cluster.lives[0], cluster.logs[0]):
            store.go_away()
        bob.vanish()
        carl.vanish()
        await cluster.nodes[0].stop()
        cluster.worlds.pop(0)
        back, _ = await resumed(cluster, 0, token, "carl")
        # It could not even say that it leaves: it is lost, like any other.
        await until_lost(cluster)
        await until(lambda: told(olga, "bob") == ["join", "leave"], within=TRUE_WITHIN_S)
        await until(lambda: told(olga, "dave") == ["join", "leave"])
        await turns(20)
        assert told(olga, "carl") == ["join"]
        assert await attached(cluster, session) == {olga.connection.id, back.connection.id}
        assert await indexed(cluster, "bob") == await indexed(cluster, "dave") == []


async def test_the_sessions_of_a_dead_node_wait_for_their_clients_and_then_end_once(place: Place) -> None:
    async with place(3, is_fenced=False, sweep_s=0.2) as cluster:
        alice = await cluster.client(0)
        session = await alice.open(ttl=6)
        await flushed(cluster)
        live = cluster.live

        async def state() -> str | None:
            record = await live.session("default", session)
            return None if record is None else record.state

        async def is_told() -> bool:
            return await state() == "idle"

        async def is_disconnecting() -> bool:
            return await state() == "disconnecting"

        await until(is_told)
        await die(cluster.nodes[0])
        await until(is_disconnecting, within=TRUE_WITHIN_S)

        async def has_ended() -> bool:
            return any(event.kind == "expired" for event in await cluster.log.events(after=0, limit=100))

        await until(has_ended, within=20.0)
        await later(0.5)
        events = Counter(event.kind for event in await cluster.log.events(after=0, limit=100))
        assert events["expired"] == 1
        assert events["closed"] == events["deleted"] == 0


async def test_a_survivor_that_dies_in_the_middle_of_it_is_survived(place: Place) -> None:
    async with place(3, is_fenced=False) as cluster:
        olga, session = await watched(cluster, 2)
        users = [f"u{n}" for n in range(5)]
        for user in users:
            await enters(cluster, 0, user, olga, session)
        await flushed(cluster)
        second = cluster.nodes[1]
        taken = asyncio.Event()

        async def dies(leaves: Sequence[Leave]) -> None:
            taken.set()
            await asyncio.Event().wait()

        second.presence.lost = dies  # type: ignore[method-assign]
        # It is the one who looks.
        cluster.nodes[2].lease._unbroken_since = 1e18
        bereaved, cluster.nodes[2].bereaved = cluster.nodes[2].bereaved, lambda lost: None  # type: ignore[method-assign]
        await die(cluster.nodes[0])
        await asyncio.wait_for(taken.wait(), TRUE_WITHIN_S)
        await die(second)
        assert all(told(olga, user) == ["join"] for user in users)
        cluster.nodes[2].bereaved = bereaved  # type: ignore[method-assign]
        await until(
            lambda: all(told(olga, user) == ["join", "leave"] for user in users), within=TRUE_WITHIN_S
        )
        assert await attached(cluster, session) == {olga.connection.id}


async def test_a_quick_restart_under_the_same_id_is_another_life(place: Place) -> None:
    async with place(2, is_fenced=False) as cluster:
        olga, session = await watched(cluster)
        await enters(cluster, 0, "bob", olga, session)
        _, token = await enters(cluster, 0, "carl", olga, session)
        await flushed(cluster)
        await die(cluster.nodes[0])
        cluster.add(NodeSettings(node_id="n1", is_fenced=False))
        again = cluster.nodes[-1]
        await again.start()
        carl, _ = await resumed(cluster, 2, token, "carl")
        await until(lambda: told(olga, "bob") == ["join", "leave"], within=TRUE_WITHIN_S)
        await flushed(cluster)
        await turns(20)
        assert told(olga, "carl") == ["join"]
        assert await attached(cluster, session) == {olga.connection.id, carl.connection.id}
        assert again.lease.returns == 0
        assert [node.id for node in await cluster.live.nodes()] == ["n1", "n2"]


# -- not dead


async def test_a_node_that_was_cut_off_returns_with_all_its_connections(place: Place) -> None:
    async with place(2, is_fenced=False) as cluster:
        olga, session = await watched(cluster)
        bob, _ = await enters(cluster, 0, "bob", olga, session)
        await flushed(cluster)
        before = cluster.nodes[0].lease.life
        cluster.lives[0].go_away()
        await until(lambda: told(olga, "bob") == ["join", "leave"], within=TRUE_WITHIN_S)
        assert bob.outlet.closed is None
        assert await indexed(cluster, "bob") == []
        cluster.lives[0].come_back()
        await until(lambda: told(olga, "bob") == ["join", "leave", "join"], within=TRUE_WITHIN_S)
        assert await indexed(cluster, "bob") == [bob.connection.id]
        assert cluster.nodes[0].lease.life != before
        assert (cluster.nodes[0].lease.returns, cluster.nodes[1].lease.lost) == (1, 1)
        # And what its former life has left is nobody's any more.
        await later(1.0)
        assert await attached(cluster, session) == {olga.connection.id, bob.connection.id}


async def test_nobody_is_lost_when_redis_hangs_for_all_of_them(place: Place) -> None:
    async with place(3, is_fenced=False) as cluster:
        olga, session = await watched(cluster)
        await enters(cluster, 0, "bob", olga, session)
        await flushed(cluster)
        patient(cluster)
        for live in cluster.lives:
            live.hang()
        await later(lease_module.LEASE_S * 1.5)
        # Not all of them find out at the same moment that it is back.
        for live in cluster.lives:
            live.come_back()
            await later(lease_module.PATIENCE_S / 6)
        await later(lease_module.LEASE_S)
        assert [node.lease.lost for node in cluster.nodes] == [0, 0, 0]
        assert [node.lease.returns for node in cluster.nodes] == [0, 0, 0]
        assert told(olga, "bob") == ["join"]


async def test_while_redis_is_away_no_node_is_fenced(place: Place) -> None:
    async with place(1) as cluster:
        alice, session, _ = await opened(cluster, 0)
        cluster.lives[0].go_away()
        begun = cluster.nodes[0].clock.monotonic()
        while cluster.nodes[0].clock.monotonic() < begun + 2 * lease_module.LEASE_S:
            assert (await alice.send(session, "one more"))["type"] == "ack"
            await later(0.1)
        assert alice.outlet.closed is None
        assert cluster.nodes[0].lease.fences == 0
        # And still, if it did not even try for that long, it would be.
        now = cluster.nodes[0].clock.monotonic()
        assert now < cluster.nodes[0].lease.fence_at <= now + lease_module.LEASE_S


async def buried(node: Node) -> None:
    """Take a node for lost, clean up after it, and have its users leave, as survivors do."""
    life = node.lease.life
    await node.live.retire_node(node.lease.entry, grace_ms=0)
    remains = await node.live.take_lost(life, limit=100, claim_ms=3000, window_ms=1000)
    for leave in remains.leaves:
        assert await node.live.leave(*leave)
    await node.live.release_lost(remains)


@pytest.mark.parametrize("is_before", [False, True], ids=["after the clean-up", "before it"])
async def test_who_is_asserted_while_the_node_learns_that_it_was_lost_is_told_to_be_back(
    place: Place, is_before: bool
) -> None:
    async with place(1, is_fenced=False) as cluster:
        alice, session, _ = await opened(cluster, 0)
        await until(lambda: not alice.connection._is_busy)
        node = cluster.nodes[0]
        await node.leases.flush()
        await node.tasks.stop()
        joined: list[tuple[str, str]] = []
        node.leases._joined = lambda entry, session: joined.append((entry.id, session))
        write = node.live.assert_connections
        reached, go = asyncio.Event(), asyncio.Event()

        async def slow(entries: Any, *, lease_ms: int) -> Any:
            if is_before:
                answer = await write(entries, lease_ms=lease_ms)
                reached.set()
                await go.wait()
                return answer
            reached.set()
            await go.wait()
            return await write(entries, lease_ms=lease_ms)

        node.live.assert_connections = slow  # type: ignore[method-assign]
        node.leases.changed(alice.connection)
        flush = asyncio.create_task(node.leases.flush_live())
        await reached.wait()
        await buried(node)
        await node.lease.renew()
        go.set()
        await flush
        node.live.assert_connections = write  # type: ignore[method-assign]
        await node.leases.flush_live()
        assert joined == [(alice.connection.id, session)]


# -- a zombie


def sleep_past_the_lease(node: Node) -> None:
    """The process was stopped for longer than its lease: the clock has gone on without it."""
    node.lease.fence_at = node.clock.monotonic() - 1.0


async def test_a_node_that_slept_notices_before_it_looks_at_deadlines(place: Place) -> None:
    async with place(2, is_fenced=True) as cluster:
        alice, _, _ = await opened(cluster, 0)
        node = cluster.nodes[0]
        sleep_past_the_lease(node)
        alice.connection.check(node.clock.monotonic())
        assert alice.outlet.closed == (CloseCode.RESYNC, "this node did not run for a while: resume")


async def test_a_node_that_slept_takes_nothing_and_closes_everything(place: Place) -> None:
    async with place(2, is_fenced=True) as cluster:
        alice, session, _ = await opened(cluster, 0)
        bob = await cluster.client(0, "bob")
        await alice.send(session, "before")
        node = cluster.nodes[0]
        before = node.lease.life
        sleep_past_the_lease(node)
        frames = len(alice.outlet.frames)
        alice.say("send", id="stale", session=session, content="too late")
        # In the same turn, before anything else could be served.
        assert [alice.outlet.closed, bob.outlet.closed] == [
            (CloseCode.RESYNC, "this node did not run for a while: resume")
        ] * 2
        assert len(alice.outlet.frames) == frames
        assert (node.lease.fences, node.lease.life != before) == (1, True)
        for client in (alice, bob):
            client.vanish(int(CloseCode.RESYNC))
        again = await cluster.client(0)
        assert (await again.ask("attach", session=session, since=0))["head"] == 1
        await flushed(cluster)
        assert await indexed(cluster) == [again.connection.id]
        nodes = [f"{each.id}/{each.incarnation}" for each in await cluster.live.nodes()]
        assert nodes == [node.lease.life, cluster.nodes[1].lease.life]


async def test_whatever_a_sleeper_does_first_it_notices_before(place: Place) -> None:
    async with place(1) as cluster:
        node = cluster.nodes[0]
        for fences, act in enumerate((node._flush, node.sweeper.sweep, node.lease.renew), 1):
            client = await cluster.client(0)
            sleep_past_the_lease(node)
            await act()
            assert (client.outlet.closed or (0,))[0] == CloseCode.RESYNC
            assert node.lease.fences == fences
            client.vanish()
        client = await cluster.client(0)
        sleep_past_the_lease(node)
        cluster.worlds[0].connect()
        assert (client.outlet.closed or (0,))[0] == CloseCode.RESYNC


async def test_a_sleeper_does_not_write_where_another_has_taken_over(place: Place) -> None:
    async with place(2) as cluster:
        alice, _, token = await opened(cluster, 0)
        exclusive = await alice.open(exclusive=True)
        await alice.send(exclusive, "mine")
        node = cluster.nodes[0]
        cluster.deafen(0)
        new, _ = await resumed(cluster, 1, token)
        await new.next("live")
        await new.send(exclusive, "ours")
        # Taken before it fell asleep, and committed after: the log refuses the older epoch.
        outcome = await alice.send(exclusive, "stale")
        assert (outcome["type"], outcome["code"]) == ("error", "superseded")
        sleep_past_the_lease(node)
        alice.say("send", id="stale", session=exclusive, content="stale")
        assert (alice.outlet.closed or (0,))[0] == CloseCode.RESYNC
        assert (await new.send(exclusive, "ours again"))["seq"] == 3


async def test_alone_a_process_that_slept_goes_on(place: Place) -> None:
    async with place(1, is_fenced=False) as cluster:
        alice, session, _ = await opened(cluster, 0)
        assert cluster.nodes[0].lease.fence_at == float("inf")
        assert (await alice.send(session, "good morning"))["type"] == "ack"
