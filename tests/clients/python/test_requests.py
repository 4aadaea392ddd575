"""Requests: time limits, cancelling, and what a lost connection means for each."""

import asyncio

import pytest

from session_gateway_client import ConnectionLost, OutboxFull, RequestTimeout
from tests.clients.python.scripted import OTHER, SESSION, Constant, Frame, ManualClock, Peer, gateway
from tests.waiting import turns, until


async def test_a_request_without_an_answer_fails_in_time_and_leaves_nothing_behind() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.expect("presence")

    async with gateway(first) as server, server.client(clock=clock, request_timeout_s=15) as client:
        session = await client.open()
        asking = asyncio.ensure_future(session.presence())
        await until(lambda: len(server.peers[0].received) == 3)
        clock.advance(15)
        with pytest.raises(RequestTimeout, match="presence within 15 s"):
            await asking
        assert client.state == "open"


async def test_a_request_is_asked_again_after_a_lost_connection() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.expect("presence")
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        await peer.attached()
        request = await peer.expect("presence")
        await peer.send("presence", id=request["id"], session=SESSION, users=[])

    async with gateway(first, second) as server, server.client() as client:
        assert await (await client.open()).presence() == []


async def test_opening_is_not_repeated_because_it_may_have_happened() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.expect("open")
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome()

    async with gateway(first, second) as server, server.client() as client:
        with pytest.raises(ConnectionLost):
            await client.open()
        await until(lambda: client.state == "open")


async def test_a_request_refused_for_now_is_tried_again() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("open")
        await peer.refuse(request, "unavailable", retryable=True, retry_after_ms=1000)
        request = await peer.expect("open")
        await peer.attached(id=request["id"])

    async with gateway(first) as server, server.client(clock=clock, random=Constant(0.0)) as client:
        opening = asyncio.ensure_future(client.open())
        await until(lambda: clock.sleeps(1.0))
        clock.advance(1.0)
        assert (await opening).id == SESSION


async def test_requests_wait_while_there_is_no_connection() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        await peer.attached()
        request = await peer.expect("attach")
        await peer.attached(id=request["id"], session=OTHER)

    async with gateway(first, second) as server, server.client() as client:
        await client.open()
        await until(lambda: client.state == "waiting")
        assert (await client.attach(OTHER)).id == OTHER


async def test_a_cancelled_attach_is_left_again_when_its_answer_comes() -> None:
    left: list[Frame] = []

    async def first(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("attach")
        await cancelled.wait()
        await peer.attached(id=request["id"])
        left.append(await peer.expect("detach"))

    cancelled = asyncio.Event()
    async with gateway(first) as server, server.client() as client:
        attaching = asyncio.ensure_future(client.attach(SESSION))
        await until(lambda: len(server.peers[0].received) == 2)
        attaching.cancel()
        await asyncio.wait([attaching])
        cancelled.set()
        await until(lambda: bool(left))
        assert left[0]["session"] == SESSION
        assert client.sessions == {}


@pytest.mark.parametrize("delay", range(12))
async def test_cancelled_at_any_moment_an_attach_leaves_no_orphan(delay: int) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("attach")
        await peer.attached(id=request["id"])
        await peer.until_closed()

    async with gateway(first) as server, server.client() as client:
        attaching = asyncio.ensure_future(client.attach(SESSION))
        await until(lambda: len(server.peers[0].received) == 2)
        await turns(delay)
        attaching.cancel()
        await asyncio.wait([attaching])
        if attaching.cancelled():
            await until(lambda: server.peers[0].received[-1]["type"] == "detach")
            assert client.sessions == {}
        else:
            assert set(client.sessions) == {SESSION}


async def test_cancelled_in_the_very_moment_of_its_answer_an_attach_is_left() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("attach")
        await peer.attached(id=request["id"])
        assert (await peer.expect("detach"))["session"] == SESSION
        left.set()

    left = asyncio.Event()
    async with gateway(first) as server, server.client() as client:
        attaching = asyncio.ensure_future(client.attach(SESSION))
        while SESSION not in client.sessions:
            await turns(1)
        attaching.cancel()
        await asyncio.wait([attaching])
        assert attaching.cancelled()
        assert client.sessions == {}
        await left.wait()


async def test_two_who_attach_the_same_session_get_the_same_one() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        for _ in range(2):
            request = await peer.expect("attach")
            await peer.attached(id=request["id"])

    async with gateway(first) as server, server.client() as client:
        one, two = await asyncio.gather(client.attach(SESSION), client.attach(SESSION))
        assert one is two


async def test_requests_are_bounded() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.until_closed()

    async with gateway(first) as server, server.client(requests=3) as client:
        session = await client.open()
        asking = [asyncio.ensure_future(session.presence()) for _ in range(4)]
        done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert [type(task.exception()) for task in done] == [OutboxFull]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_signals_are_dropped_when_there_is_no_connection() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        signal = await peer.expect("signal")
        assert (signal["name"], signal["data"]) == ("typing", {"on": True})
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome()

    async with gateway(first, second) as server, server.client() as client:
        session = await client.open()
        assert session.signal("typing", {"on": True}) is True
        await until(lambda: client.state == "waiting")
        assert session.signal("typing") is False
