"""Every message once, in order; and what happens when nobody reads."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from session_gateway_client import (
    Event,
    Message,
    Session,
    SessionChanged,
    SessionEnded,
    Signal,
)
from tests.clients.python.scripted import OTHER, SESSION, ManualClock, Peer, gateway
from tests.waiting import turns, until


async def take(session: Session, count: int) -> list[int]:
    async with asyncio.timeout(10):
        return [(await anext(session)).seq for _ in range(count)]


async def test_a_message_says_everything_its_frame_does() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 1)

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        assert await anext(session) == Message(
            session=SESSION,
            seq=1,
            id="id-1",
            client_id="c-1",
            sender="bob",
            role="user",
            content="1",
            metadata={"n": 1},
            created_at="2025-11-21T12:00:00.000Z",
        )
        assert (session.cursor, session.head, session.waiting) == (1, 1, 0)


async def test_what_comes_twice_is_dropped_and_a_hole_is_read_again_from_the_cursor() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 3)
        await peer.messages(2, 3)
        await peer.messages(6, 7)
        request = await peer.expect("attach")
        assert (request["session"], request["since"]) == (SESSION, 3)
        # Still of the old attachment; it counts for nothing.
        await peer.messages(8, 8)
        await peer.attached(id=request["id"], since=3, head=8)
        await peer.messages(4, 8)

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        assert await take(session, 8) == list(range(1, 9))


async def test_attaching_begins_where_it_is_told() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("attach")
        assert "since" not in request
        await peer.attached(id=request["id"], since=41, head=41)
        request = await peer.expect("attach")
        assert request["since"] == 7
        await peer.attached(id=request["id"], session=OTHER, since=7, head=9)
        await peer.messages(8, 9, session=OTHER)
        await peer.expect("signal")
        await peer.messages(42, 42)

    async with gateway(first) as server, server.client() as client:
        new, rest = await client.attach(SESSION), await client.attach(OTHER, since=7)
        assert (new.cursor, new.head, new.role, new.title, new.epoch) == (41, 41, "owner", "A talk", 1)
        assert await take(rest, 2) == [8, 9]
        new.signal("go on")
        assert await take(new, 1) == [42]
        assert await client.attach(SESSION) is new
        assert set(client.sessions) == {SESSION, OTHER}


async def test_messages_that_follow_the_reply_at_once_are_not_lost() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        request = await peer.expect("attach")
        await peer.attached(id=request["id"], since=0, head=200)
        await peer.messages(1, 200)
        await peer.send("live", session=SESSION, seq=200)

    async with gateway(first) as server, server.client() as client:
        assert await take(await client.attach(SESSION, since=0), 200) == list(range(1, 201))


async def test_an_attachment_that_starts_beyond_the_cursor_is_asked_for_again() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 2)
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True)
        await peer.attached(since=5, head=6)
        request = await peer.expect("attach")
        assert request["since"] == 2
        await peer.attached(id=request["id"], since=2, head=6)
        await peer.messages(3, 6)

    async with gateway(first, second) as server, server.client() as client:
        assert await take(await client.open(), 6) == list(range(1, 7))


async def test_a_session_that_is_gone_when_the_client_comes_back_ends_with_the_reason() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 1)
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        # The error of an attachment in the hello names neither request nor session.
        await peer.send("error", code="not_found", message="no such session", retryable=False)
        await peer.refuse(await peer.expect("attach"), "expired")

    async with gateway(first, second) as server, server.client() as client:
        session = await client.open()
        assert [message.seq async for message in session] == [1]
        assert isinstance(session.ended, SessionEnded)
        assert session.ended.code == "expired"
        assert client.sessions == {}


@pytest.mark.parametrize("is_for_now", [True, False])
async def test_a_refused_attachment_of_the_hello_ends_its_session_or_is_tried_again(is_for_now: bool) -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        code = "unavailable" if is_for_now else "not_found"
        await peer.say(
            {"type": "error", "session": SESSION, "code": code, "message": "", "retryable": is_for_now}
        )
        if is_for_now:
            request = await peer.expect("attach")
            await peer.attached(id=request["id"])
            await peer.messages(1, 1)
        await peer.until_closed()

    async with gateway(first, second) as server, server.client() as client:
        session = await client.open()
        assert [message.seq async for message in limited(session, 1)] == ([1] if is_for_now else [])
        assert (session.ended is None) is is_for_now


async def limited(session: Session, count: int) -> AsyncIterator[Message]:
    async for message in session:
        yield message
        if (count := count - 1) == 0:
            return


async def test_an_attachment_the_gateway_forgot_to_answer_is_asked_for_again() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True)
        request = await peer.expect("attach")
        await peer.attached(id=request["id"])
        await peer.messages(1, 1)

    async with gateway(first, second) as server, server.client(clock=clock) as client:
        session = await client.open()
        await until(lambda: clock.sleeps(0.125))
        clock.advance(0.125)
        await until(lambda: len(server.peers) == 2 and client.state == "open")
        clock.advance(5.0)
        assert await take(session, 1) == [1]


@pytest.mark.parametrize("event", ["closed", "expired", "deleted", "superseded"])
async def test_the_end_of_a_session_ends_the_iteration_after_what_is_here(event: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 2)
        await peer.send("session", session=SESSION, event=event, version=2, changes={})

    async with gateway(first) as server, server.client() as client:
        seen: list[Event] = []
        client.on_event(seen.append)
        session = await client.open()
        assert [message.seq async for message in session] == [1, 2]
        assert isinstance(session.ended, SessionEnded)
        assert session.ended.code == event
        assert SessionChanged(SESSION, event, 2, {}) in seen
        for request in (session.presence(), session.update(title="x"), session.read(1)):
            with pytest.raises(SessionEnded):
                await request
        assert session.signal("typing") is False
        # Nothing left to do, and no request for it.
        await session.detach()
        await session.close()


async def test_who_hears_right_after_a_resume_that_another_took_over_does_not_attach_again() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()
        peer.drop()

    async def second(peer: Peer) -> None:
        hello = await peer.welcome(resumed=True)
        assert [each["session"] for each in hello["attach"]] == [SESSION]
        for _ in range(2):  # told once more, as it may be
            await peer.send("session", session=SESSION, event="superseded", version=1)

    async with gateway(first, second) as server, server.client(clock=clock) as client:
        session = await client.open()
        await until(lambda: clock.sleeps(0.125))
        clock.advance(0.125)
        assert [message async for message in session] == []
        assert isinstance(session.ended, SessionEnded)
        assert session.ended.code == "superseded"
        # Later than what a hello has named is waited for.
        clock.advance(10.0)
        await turns(20)
        assert [frame["type"] for frame in server.peers[1].received if frame["type"] == "attach"] == []


async def test_a_reader_that_stops_stops_the_socket_and_loses_nothing() -> None:
    total, sent = 3000, 0

    async def first(peer: Peer) -> None:
        nonlocal sent
        await peer.opened()
        for seq in range(1, total + 1):
            await peer.messages(seq, seq, size=20_000)
            sent = seq

    async with gateway(first) as server, server.client(queue_messages=10) as client:
        session = await client.open()
        assert await take(session, 1) == [1]
        await until(lambda: session.waiting == 10)
        # 60 MB do not fit into the system's buffers: the gateway's writing comes to a halt.
        before = -1
        while before != sent:
            before = sent
            await turns(2000)
        assert sent < total
        assert session.waiting == 10
        assert await take(session, total - 1) == list(range(2, total + 1))


async def test_while_it_does_not_read_it_is_not_the_gateway_that_is_silent() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 4)

    async with gateway(first) as server, server.client(queue_messages=2, clock=clock) as client:
        session = await client.open()
        await take(session, 1)
        await until(lambda: session.waiting == 2)
        for _ in range(20):
            clock.advance(12.5)
            await turns(50)
        assert len(server.peers) == 1
        assert await take(session, 3) == [2, 3, 4]


async def test_a_reader_that_waits_for_its_own_ack_behind_a_full_queue_gets_it_and_then_everything_else() -> (
    None
):
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 40)
        sent = await peer.expect("send")
        await peer.messages(41, 50)
        await peer.ack(sent, 51)
        # The queue holds 4 and has dropped what came while the ack was waited for.
        request = await peer.expect("attach")
        await peer.attached(id=request["id"], since=request["since"], head=51)
        await peer.messages(request["since"] + 1, 51)

    async with gateway(first) as server, server.client(queue_messages=4) as client:
        session = await client.open()
        got = await take(session, 1)
        await until(lambda: session.waiting == 4)
        assert (await session.send("from inside the loop")).seq == 51
        got += await take(session, 50)
        assert got == list(range(1, 52))


async def test_a_program_that_only_sends_never_stops_for_what_it_does_not_read() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        for seq in range(1, 51):
            sent = await peer.expect("send")
            await peer.ack(sent, seq)
            await peer.messages(seq, seq)
        # Now it starts to read: half of what it held, then the rest from the log.
        request = await peer.expect("attach")
        await peer.attached(id=request["id"], since=request["since"], head=50)
        await peer.messages(request["since"] + 1, 50)

    async with gateway(first) as server, server.client(queue_messages=4) as client:
        session = await client.open()
        for n in range(50):
            await session.send(f"{n}")
        assert session.waiting == 4
        assert await take(session, 50) == list(range(1, 51))


async def test_a_full_inbox_that_nobody_reads_stops_the_socket_for_a_moment_only() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 5)
        await peer.send("signal", user="alice", name="after it")

    async with gateway(first) as server, server.client(queue_messages=2, clock=clock) as client:
        events = client.events()
        session = await client.open()
        await until(lambda: clock.sleeps(1.0))
        clock.advance(1.0)
        assert await anext(events) == Signal(None, "after it", None, None, None)
        assert session.waiting == 2
