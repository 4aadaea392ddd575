"""Whoever resumes goes on with the exclusive sessions they held, but takes none back from somebody else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.auth.tickets import digest
from gateway.runtime.resumption import ResumeRecord
from tests.runtime.conftest import Place
from tests.runtime.nodes import Cluster
from tests.runtime.test_leases import flushed
from tests.runtime.world import Client
from tests.waiting import turns, until


async def holder(cluster: Cluster, node: int = 0) -> tuple[Client, str, str]:
    """Somebody who holds an exclusive session, of which their resume record knows; their token."""
    client = cluster.worlds[node].connect()
    token = (await client.hello())["resume"]
    session = await client.open(exclusive=True)
    await client.send(session, "mine")
    await flushed(cluster)
    return client, session, token


async def taken_by_another(cluster: Cluster, session: str, node: int = 1) -> Client:
    other = await cluster.client(node)
    assert (await other.ask("attach", session=session))["type"] == "attached"
    return other


async def back(
    cluster: Cluster, token: str, node: int = 1, attach: tuple[str, ...] = ()
) -> tuple[Client, str]:
    client = cluster.worlds[node].connect()
    listed = [{"session": each, "since": 0} for each in attach]
    welcome = await client.hello(resume=token, attach=listed)
    assert welcome["resumed"] is True
    return client, welcome["resume"]


def losses(client: Client) -> list[str]:
    return [f["session"] for f in client.outlet.frames if f.get("event") == "superseded"]


async def lost_and_not_back(client: Client, session: str) -> None:
    """The client is told so, is not attached, and nothing was taken from anybody."""
    await until(lambda: losses(client) == [session], what="told superseded")
    await turns(3)
    assert session not in client.connection.attachments
    assert not [f for f in client.outlet.frames if f["type"] in ("attached", "error")]


async def die(cluster: Cluster, node: int = 0) -> None:
    """As by SIGKILL: nothing is written or said any more."""
    await cluster.nodes[node].tasks.stop()
    cluster.deafen(node)


async def test_what_somebody_else_took_from_the_dead_is_not_taken_back(place: Place) -> None:
    async with place() as cluster:
        _, session, token = await holder(cluster)
        await die(cluster)
        other = await taken_by_another(cluster, session)
        again, _ = await back(cluster, token, attach=(session,))
        await lost_and_not_back(again, session)
        assert (await other.send(session, "now mine"))["seq"] == 2
        assert losses(other) == []
        # Whoever wants it all the same says so.
        assert (await again.ask("attach", session=session, since=0))["type"] == "attached"
        assert (await other.next("session"))["event"] == "superseded"


async def test_a_loss_that_was_told_to_a_dead_socket_is_told_again(place: Place) -> None:
    async with place() as cluster:
        alice, session, token = await holder(cluster)
        other = await taken_by_another(cluster, session)
        await until(lambda: losses(alice) == [session])
        alice.vanish()
        await flushed(cluster)
        # Whether its client lists it or relies on the record, and however often nobody has heard.
        unheard, token = await back(cluster, token, attach=(session,))
        await lost_and_not_back(unheard, session)
        await flushed(cluster)
        unheard.vanish()
        await flushed(cluster)
        again, _ = await back(cluster, token, node=0)
        await lost_and_not_back(again, session)
        assert (await other.send(session, "still mine"))["type"] == "ack"


async def test_a_loss_that_was_heard_of_is_forgotten(place: Place) -> None:
    async with place() as cluster:
        alice, session, token = await holder(cluster)
        other = await taken_by_another(cluster, session)
        await until(lambda: losses(alice) == [session])
        await turns(3)
        alice.connection.on_rtt(0.0)
        await flushed(cluster)
        await die(cluster)
        # Listed now it is a new wish.
        again, _ = await back(cluster, token, attach=(session,))
        assert (await again.next("attached"))["epoch"] > 3
        assert (await other.next("session"))["event"] == "superseded"


async def test_where_nobody_took_over_the_client_goes_on_and_its_old_node_is_fenced(place: Place) -> None:
    async with place() as cluster:
        alice, session, token = await holder(cluster)
        cluster.deafen(0)
        for _ in range(3):
            again, token = await back(cluster, token, attach=(session,))
            await again.next("live")
            assert (await again.send(session, "still mine"))["type"] == "ack"
            await flushed(cluster)
            assert losses(again) == []
        assert (await alice.send(session, "stale"))["code"] == "superseded"


async def test_of_several_only_those_taken_are_lost(place: Place) -> None:
    async with place() as cluster:
        alice, first, token = await holder(cluster)
        second, third = [await alice.open(exclusive=True) for _ in range(2)]
        shared = await alice.open()
        await flushed(cluster)
        await die(cluster)
        await taken_by_another(cluster, second)
        again, _ = await back(cluster, token)
        await until(lambda: len(again.connection.attachments) == 3, what="the others attached")
        assert set(again.connection.attachments) == {first, third, shared}
        assert losses(again) == [second]


async def test_an_epoch_that_the_client_has_raised_itself_is_its_own(place: Place) -> None:
    async with place() as cluster:
        alice, session, token = await holder(cluster)
        for _ in range(2):
            assert (await alice.ask("attach", session=session, since=0))["type"] == "attached"
        await turns(3)
        await die(cluster)
        again, _ = await back(cluster, token)
        assert (await again.next("attached"))["session"] == session
        assert losses(again) == []


def held_up(cluster: Cluster, node: int, raised: asyncio.Event) -> None:
    """From now on a takeover on this node is committed, and its node never hears of that."""
    log = cluster.logs[node]
    take_over: Callable[..., Awaitable[int]] = log.take_over

    async def never(*given: Any, **more: Any) -> bool:
        await take_over(*given, **more)
        raised.set()
        return await asyncio.Event().wait()

    log.take_over = never  # type: ignore[attr-defined]


async def test_a_node_that_dies_while_its_client_attaches_again_costs_it_nothing(place: Place) -> None:
    async with place() as cluster:
        alice, session, token = await holder(cluster)
        raised = asyncio.Event()
        held_up(cluster, 0, raised)
        alice.say("attach", session=session, since=0, id="again")
        await raised.wait()
        await die(cluster)
        again, _ = await back(cluster, token)
        assert (await again.next("attached"))["session"] == session
        assert losses(again) == []


async def test_a_node_that_dies_while_its_client_resumes_costs_it_nothing(place: Place) -> None:
    async with place(3) as cluster:
        _, session, token = await holder(cluster)
        await die(cluster)
        raised = asyncio.Event()
        held_up(cluster, 1, raised)
        _, token = await back(cluster, token, attach=(session,))
        await raised.wait()
        await die(cluster, 1)
        again, _ = await back(cluster, token, node=2, attach=(session,))
        assert (await again.next("attached"))["session"] == session
        assert losses(again) == []


async def test_who_takes_over_in_the_middle_of_a_resume_keeps_it(place: Place) -> None:
    async with place() as cluster:
        _, session, token = await holder(cluster)
        await die(cluster)
        node = cluster.nodes[1]
        take_over = node.records.take_over
        others: list[Client] = []

        async def late(*given: Any, **more: Any) -> int:
            node.records.take_over = take_over  # type: ignore[method-assign]
            others.append(await taken_by_another(cluster, session))
            return await take_over(*given, **more)

        node.records.take_over = late  # type: ignore[method-assign]
        again, _ = await back(cluster, token)
        await lost_and_not_back(again, session)
        assert (await others[0].send(session, "mine"))["type"] == "ack"
        assert losses(others[0]) == []


async def test_both_connections_of_a_client_that_moves_hold_it(place: Place) -> None:
    async with place() as cluster:
        alice, session, token = await holder(cluster)
        second, _ = await back(cluster, token, attach=(session,))
        await second.next("live")
        assert (await second.send(session, "from the second"))["type"] == "ack"
        await until(lambda: alice.messages(session)[-1:] == [2])
        assert (await alice.send(session, "from the first"))["type"] == "ack"
        assert losses(alice) == losses(second) == []


async def test_a_record_without_epochs_is_taken_up_as_before(place: Place) -> None:
    async with place() as cluster:
        alice, session, token = await holder(cluster)
        record = ResumeRecord("default", "alice", alice.connection.id, {session: 1}, cluster.nodes[0].id)
        assert b"epochs" not in msgspec.json.encode(record)
        await die(cluster)
        await cluster.live.put_once("resume", [(digest(token), msgspec.json.encode(record))], ttl_ms=60_000)
        await taken_by_another(cluster, session)
        again, _ = await back(cluster, token)
        assert (await again.next("attached"))["session"] == session


async def test_a_client_whose_record_is_gone_attaches_anew(place: Place) -> None:
    async with place() as cluster:
        _, session, token = await holder(cluster)
        await die(cluster)
        assert await cluster.live.take_once("resume", digest(token)) is not None
        client = cluster.worlds[1].connect()
        welcome = await client.hello(resume=token, attach=[{"session": session, "since": 0}])
        assert welcome["resumed"] is False
        assert (await client.next("attached"))["session"] == session


async def test_nothing_is_remembered_of_connections_without_exclusive_sessions(place: Place) -> None:
    async with place(1) as cluster:
        plain = await cluster.client(0, "bob")
        await plain.open()
        _, session, token = await holder(cluster)
        other = await taken_by_another(cluster, session, node=0)
        again, _ = await back(cluster, token, node=0)
        await until(lambda: losses(again) == [session])
        await flushed(cluster)
        holdings = cluster.nodes[0].leases.holdings
        assert plain.connection.kept is not None
        assert not [each for each in plain.connection.kept.rest if isinstance(each, tuple)]
        for client in cluster.worlds[0].clients:
            client.vanish()
        await turns(3)
        assert other.connection.is_closed
        assert (holdings._claims, holdings._lost) == ({}, {})
