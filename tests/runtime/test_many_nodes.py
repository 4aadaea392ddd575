"""Several nodes and a bus that loses and shuffles: whatever it does, everybody has it all, once, in order."""

import asyncio
import time
from functools import partial
from random import Random
from typing import Any

import pytest

from gateway.fanout.mending import PATIENCE_S
from gateway.fanout.room import Room
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster
from tests.runtime.world import Client
from tests.waiting import turns, until

HEALED_S = 0.5 + 0.5  # a tenth of the promise, and as much again for a busy machine


def events(client: Client, session: str) -> list[tuple[str, int]]:
    frames = [f for f in client.outlet.frames if f["type"] == "session" and f["session"] == session]
    return [(frame["event"], frame["version"]) for frame in frames]


async def pair(cluster: Cluster, **fields: Any) -> tuple[Client, Client, str]:
    """Alice on the first node, Bob on the second, both in one session."""
    alice = await cluster.client(0, "alice")
    session = await alice.open(**fields)
    bob = await cluster.member(1, "bob", alice, session)
    await until(lambda: len(events(alice, session)) == 1)
    return alice, bob, session


# -- messages


@pytest.mark.parametrize("seed", range(4))
async def test_everybody_gets_every_seq_once_in_order_whatever_the_bus_drops(
    place: Place, hurried: None, seed: int
) -> None:
    async with place(3, seed=seed) as cluster:
        chance = Random(seed)  # noqa: S311 - who says what
        rooms: dict[str, list[Client]] = {}
        for _ in range(3):
            owner = await cluster.client(chance.randrange(3), "u0")
            session = await owner.open()
            others = [await cluster.member(n % 3, f"u{n}", owner, session) for n in range(1, 5)]
            rooms[session] = [owner, *others]
        cluster.ether.loss, cluster.ether.delay_s = 0.2, 0.03
        sent = dict.fromkeys(rooms, 0)
        for n in range(240):
            session = chance.choice(list(rooms))
            chance.choice(rooms[session]).say("send", id=f"c{n}", session=session, content=f"m{n}")
            sent[session] += 1
            if chance.random() < 0.3:
                await turns(chance.randrange(20))

        def complete() -> bool:
            return all(
                len(client.messages(session)) >= sent[session]
                for session, clients in rooms.items()
                for client in clients
            )

        await until(complete, within=5.0, what="everybody complete")
        for session, clients in rooms.items():
            for client in clients:
                assert client.messages(session) == list(range(1, sent[session] + 1))
        assert cluster.ether.lost > 20


async def test_what_the_log_has_shown_a_reader_may_be_marked_as_read_though_its_hint_is_lost(
    place: Place,
) -> None:
    async with place() as cluster:
        alice = await cluster.client(0, "alice")
        session = await alice.open()
        await cluster.worlds[1].join(alice, session, "bob")
        bob = await cluster.client(1, "bob")
        await alice.send(session, "there before Bob")
        look = cluster.nodes[1].sessions.live_access

        async def slow(*given: Any) -> Any:
            access = await look(*given)
            cluster.ether.loss = 1.0
            await alice.send(session, "stored while Bob attaches")
            return access

        cluster.nodes[1].sessions.live_access = slow  # type: ignore[method-assign, assignment]
        assert (await bob.ask("attach", session=session, since=0))["head"] == 1
        await until(lambda: bob.messages(session) == [1, 2])
        assert (await bob.ask("read", session=session, seq=2))["type"] == "read"
        bob.say("heartbeat", id="h", ts=1, seen={session: 2})
        await bob.next("heartbeat")
        assert bob.connection.seen[session] == 2
        assert (await bob.ask("read", session=session, seq=3))["code"] == "bad_request"


async def test_a_lost_last_hint_is_found_within_five_seconds(place: Place) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        cluster.ether.loss = 1.0
        await alice.send(session, "the last one before a pause")
        begun = time.monotonic()
        await until(lambda: bob.messages(session) == [1], within=6.0)
        assert time.monotonic() - begun < 5.0


async def test_a_gap_of_the_bus_is_looked_into_at_once(place: Place) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        cluster.deafen(1)
        await alice.send(session, "lost")
        cluster.buses[1].gap()
        await until(lambda: bob.messages(session) == [1], within=0.5)


async def test_while_the_bus_is_away_rooms_are_compared_every_second(place: Place) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        cluster.deafen(1)
        cluster.buses[1].state = "away"
        await until(lambda: "redis_away" in cluster.nodes[1].health.degraded)
        for n in range(1, 4):
            begun = time.monotonic()
            await alice.send(session, "late, but not by much")
            await until(lambda n=n: bob.messages(session) == list(range(1, n + 1)))
            assert time.monotonic() - begun < 1.5


async def test_hints_of_several_nodes_that_overtake_each_other_are_awaited_and_not_read(
    place: Place,
) -> None:
    async with place(3) as cluster:
        alice = await cluster.client(0, "alice")
        session = await alice.open()
        others = [await cluster.member(n, f"u{n}", alice, session) for n in (1, 2)]
        cluster.ether.delay_s = 0.008
        since: dict[tuple[int, int], float] = {}  # node, last seq before a hole → when it was first seen
        ages: list[float] = []  # of the holes that were read
        for number, node in enumerate(cluster.nodes):
            wait, read = node.hub.mender._wait, node.log.read

            def seen(room: Room, kind: Any, node: int = number, wait: Any = wait) -> None:
                since.setdefault((node, room.relay.head), time.monotonic())
                wait(room, kind)

            async def timed(id: str, *, after: int, node: int = number, read: Any = read, **more: Any) -> Any:
                # What comes between the end of patience and the reading may have moved it on.
                if (node, after) in since:
                    ages.append(time.monotonic() - since[node, after])
                return await read(id, after=after, **more)

            node.hub.mender._wait = seen  # type: ignore[method-assign]
            node.hub.mender._log.read = timed  # type: ignore[method-assign, assignment]
        for n in range(150):
            for client in (alice, *others):
                client.say("send", id=f"c{n}", session=session, content="in between")
            await turns(10)
        everybody = (alice, *others)
        await until(lambda: all(len(client.messages(session)) == 450 for client in everybody))
        assert all(client.messages(session) == list(range(1, 451)) for client in everybody)
        assert len(since) > 30
        # Each closes within 8 ms, unless a server had to wait for its turn. Then it is read, and rightly.
        assert all(age > 0.9 * PATIENCE_S for age in ages), sorted(ages)


# -- ends


async def test_a_lost_end_is_found_and_told_once_after_all_messages(place: Place, hurried: None) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        channel = f"s:{session}"
        assert channel in cluster.buses[1].subscriptions
        cluster.ether.loss = 1.0
        for n in range(3):
            await alice.send(session, f"lost {n}")
        await alice.ask("close", session=session)
        version = events(alice, session)[-1][1]
        await until(lambda: ("closed", version) in events(bob, session), within=HEALED_S)
        assert bob.messages(session) == [1, 2, 3]
        assert bob.outlet.frames[-1]["event"] == "closed"
        assert session not in bob.connection.attachments
        assert session not in cluster.nodes[1].hub.rooms
        await until(lambda: channel not in cluster.buses[1].subscriptions)
        # The hint comes after all.
        row = await cluster.log.get("default", session)
        assert row is not None
        cluster.ether.loss = 0.0
        cluster.nodes[0].sessions.tell_ended(row)
        await turns(5)
        assert len([event for event in events(bob, session) if event[0] == "closed"]) == 1


async def test_a_session_that_is_gone_from_the_log_is_deleted_for_whoever_reads_it(
    place: Place, hurried: None
) -> None:
    async with place() as cluster:
        _, bob, session = await pair(cluster)
        bob.outlet.lagging = True  # there is nothing left that it could read first
        log = cluster.nodes[1].comparison._log
        standings, tallier = log.standings, log.tallier

        async def purged(sessions: Any) -> Any:
            found = await standings(sessions)
            return {name: found[name] for name in found if name != session}

        def counted(sessions: Any) -> Any:
            return tallier([name for name in sessions if name != session])

        log.standings, log.tallier = purged, counted  # type: ignore[method-assign]
        for batch in cluster.nodes[1].hub.settled.pack():
            batch.tallier = None
        await until(lambda: ("deleted", 3) in events(bob, session), within=HEALED_S)
        assert session not in bob.connection.attachments
        assert session not in cluster.nodes[1].hub.rooms


# -- takeovers


async def test_a_lost_takeover_is_found_and_the_older_attachment_let_go(place: Place, hurried: None) -> None:
    async with place() as cluster:
        first = await cluster.client(0, "alice")
        session = await first.open(exclusive=True)
        second = await cluster.client(1, "alice")
        cluster.ether.loss = 1.0
        attached = await second.ask("attach", session=session, since=0)
        assert attached["type"] == "attached"
        # Fenced off by the log at once, whatever its node believes.
        assert (await first.ask("send", session=session, content="zombie"))["code"] == "superseded"
        await until(lambda: ("superseded", 1) in events(first, session), within=HEALED_S)
        assert session not in first.connection.attachments
        assert cluster.nodes[0].hub.rooms[session].empty_since is not None
        assert (await second.send(session, "mine"))["seq"] == 1
        await turns(3)
        assert events(second, session) == []


async def test_a_comparison_that_overtakes_a_takeover_turns_nobody_out_who_made_it(
    place: Place, hurried: None
) -> None:
    async with place() as cluster:
        alice = await cluster.client(0, "alice")
        session = await alice.open(exclusive=True)
        node = cluster.nodes[0]
        take_over = node.records.take_over

        async def slow(*given: Any, **more: Any) -> int:
            epoch = await take_over(*given, **more)
            # Committed, and its hint not yet published: rooms are compared, again and again.
            for _ in range(5):
                await node.comparison.compare()
                await until(lambda: not node.comparison._doubted)
            return epoch

        node.records.take_over = slow  # type: ignore[method-assign]
        assert (await alice.ask("attach", session=session, since=0))["type"] == "attached"
        await turns(5)
        assert events(alice, session) == []
        assert (await alice.send(session, "still mine"))["seq"] == 1


# -- changes


async def test_a_lost_removal_is_found_and_the_member_let_go(place: Place, hurried: None) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        carol = await cluster.member(1, "carol", alice, session)
        await until(lambda: ("updated", 3) in events(bob, session))
        cluster.ether.loss = 1.0
        assert alice.connection.identity is not None
        await cluster.nodes[0].sessions.remove_member(alice.connection.identity, session, "bob")
        await until(lambda: ("deleted", 4) in events(bob, session), within=HEALED_S)
        assert session not in bob.connection.attachments
        await alice.send(session, "not for bob")
        await until(lambda: carol.messages(session) == [1])
        assert bob.messages(session) == []
        assert events(carol, session) == [("updated", 4)]


async def test_a_removal_that_is_heard_of_late_does_not_turn_out_who_is_a_member_again(
    place: Place,
) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        carol = await cluster.member(1, "carol", alice, session)
        await until(lambda: ("updated", 3) in events(bob, session))
        # That they have come is told, and is not among what is late.
        await until(lambda: not (bob.connection._is_busy or carol.connection._is_busy))
        assert alice.connection.identity is not None
        late: list[tuple[Any, ...]] = []
        cluster.ether.pass_on = lambda *payload: late.append(payload)  # type: ignore[method-assign]
        bob.vanish()
        await cluster.nodes[0].sessions.remove_member(alice.connection.identity, session, "bob")
        await alice.world.join(alice, session, "bob", "reader")
        again = await cluster.client(1, "bob")
        attached = await again.ask("attach", session=session)
        assert (attached["type"], attached["role"]) == ("attached", "reader")
        await until(lambda: sum(channel == f"s:{session}" for _, channel, _ in late) == 2)
        for bus, channel, payload in late:
            bus.hear(channel, payload)
        assert cluster.nodes[1].hub.rooms[session].versions.told == 5
        assert again.connection.attachments[session].role == "reader"
        assert "deleted" not in [event for event, _ in events(again, session)]
        assert events(carol, session)[-2:] == [("updated", 4), ("updated", 5)]


async def test_a_lost_change_of_a_role_is_found(place: Place, hurried: None) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        cluster.ether.loss = 1.0
        await cluster.worlds[0].join(alice, session, "bob", "reader")
        await until(lambda: bob.connection.attachments[session].role == "reader", within=HEALED_S)
        assert events(bob, session) == [("updated", 3)]
        assert (await bob.ask("send", session=session, content="no more"))["code"] == "forbidden"


async def test_a_lost_title_is_told_once_and_with_what_it_is(place: Place, hurried: None) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        cluster.ether.loss = 1.0
        await alice.ask("update", session=session, title="first", context={"a": 1})
        await alice.ask("update", session=session, title="second")
        cluster.ether.loss = 0.0
        await until(lambda: ("updated", 4) in events(bob, session), within=HEALED_S)
        told = bob.outlet.frames[-1]["changes"]
        assert (told["title"], told["context"]) == ("second", {"a": 1})
        await alice.ask("update", session=session, status="archived")
        await until(lambda: ("archived", 5) in events(bob, session))
        assert [version for _, version in events(bob, session)] == [4, 5]


async def test_a_comparison_that_overtakes_a_hint_does_not_tell_a_version_twice(place: Place) -> None:
    async with place() as cluster:
        alice, bob, session = await pair(cluster)
        cluster.ether.delay_s = 0.06

        async def compare() -> None:
            while len(told) < 60:
                for node in cluster.nodes:
                    await node.comparison.compare()
                await turns()

        told: list[int] = []
        comparing = asyncio.create_task(compare())
        while len(told) < 60:
            answer = await alice.ask("update", session=session, title=f"t{len(told)}")
            told.append(answer["version"])
        await comparing
        await until(lambda: all(("updated", told[-1]) in events(who, session) for who in (alice, bob)))
        await until(lambda: not cluster.nodes[1].hub.rooms[session].versions.has_hole)
        for who in (alice, bob):
            versions = [version for _, version in events(who, session)]
            assert versions == sorted(set(versions))
        # What comes on the node's own ground is told each by itself.
        assert [version for _, version in events(alice, session)][1:] == told


async def test_members_changed_in_two_ways_at_once_end_up_as_the_log_has_them(
    place: Place, hurried: None
) -> None:
    async with place(3) as cluster:
        alice, bob, session = await pair(cluster)
        cluster.ether.delay_s, cluster.ether.loss = 0.03, 0.2
        assert alice.connection.identity is not None
        chance = Random(3)  # noqa: S311
        for _ in range(30):
            role = chance.choice(["reader", "writer"])
            await cluster.nodes[chance.randrange(3)].sessions.put_member(
                alice.connection.identity,
                session,
                "bob",
                role,  # type: ignore[arg-type]
            )
        role = {member.user: member.role for member in await cluster.log.members(session)}["bob"]
        version = (await cluster.log.standings([session]))[session].version
        await until(lambda: cluster.nodes[1].hub.rooms[session].versions.told == version, within=HEALED_S)
        assert bob.connection.attachments[session].role == role
        versions = [each for _, each in events(bob, session)]
        assert versions == sorted(set(versions))


# -- everything at once


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_time_of_chaos_every_node_is_as_the_log(place: Place, hurried: None, seed: int) -> None:
    async with place(3, seed=seed) as cluster:
        chance = Random(f"chaos:{seed}")  # noqa: S311
        owner = await cluster.client(0, "alice")
        assert owner.connection.identity is not None
        sessions = [await owner.open(title="before") for _ in range(4)]
        clients = [
            await cluster.member(n % 3, f"u{n}", owner, session)
            for n, session in enumerate(session for session in sessions for _ in range(3))
        ]
        cluster.ether.loss, cluster.ether.delay_s = 0.4, 0.05
        for n in range(120):
            session = chance.choice(sessions)
            node = cluster.nodes[chance.randrange(3)]
            match chance.randrange(10):
                case 0:
                    chance.choice(clients).say("update", id=f"t{n}", session=session, title=f"t{n}")
                case 1:
                    user, role = f"u{chance.randrange(12)}", chance.choice(["reader", "writer"])
                    await node.sessions.put_member(owner.connection.identity, session, user, role)  # type: ignore[arg-type]
                case 2 if n > 60 and len(sessions) > 2:
                    sessions.remove(session)
                    await node.sessions.end(owner.connection.identity, session)
                case _:
                    chance.choice(clients).say("send", id=f"c{n}", session=session, content=f"m{n}")
            await turns(chance.randrange(30))
        await until(lambda: all(node.committer.waiting == 0 for node in cluster.nodes))
        await settled(cluster, [owner, *clients])


async def settled(cluster: Cluster, clients: list[Client]) -> None:
    """Wait until everybody is as the log says; see that nobody was told anything twice or out of order."""

    async def is_true() -> bool:
        rooms = {name for node in cluster.nodes for name in node.hub.rooms}
        standings = await cluster.log.standings(list(rooms))
        for node in cluster.nodes:
            for room in node.hub.rooms.values():
                standing = standings[room.id]
                if (room.relay.head, room.versions.told) != (standing.head, standing.version):
                    return False
                if standing.end_reason is not None:
                    return False
        return True

    async def is_complete(client: Client, session: str) -> bool:
        head = (await cluster.log.standings([session]))[session].head
        return client.messages(session) == list(range(1, head + 1))

    await until(is_true, within=3 * HEALED_S, what="every room as the log has it")
    for client in clients:
        for session in {f["session"] for f in client.outlet.frames if "session" in f}:
            await until(partial(is_complete, client, session), within=HEALED_S)
            versions = [version for _, version in events(client, session)]
            assert versions == sorted(set(versions))
            attachment = client.connection.attachments.get(session)
            standing = (await cluster.log.standings([session]))[session]
            assert (attachment is None) == (standing.end_reason is not None)
            roles = {member.user: member.role for member in await cluster.log.members(session)}
            assert attachment is None or attachment.role == roles[client.connection.user]
