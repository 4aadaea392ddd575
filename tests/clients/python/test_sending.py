"""Messages leave in order, stay until acked, and are stored once."""

import asyncio

import pytest

from session_gateway_client import Ack, ClientClosed, OutboxFull, Refused, SessionEnded, Unacked
from tests.clients.python.scripted import OTHER, SESSION, Constant, Frame, ManualClock, Peer, gateway
from tests.waiting import turns, until


async def test_send_returns_what_the_ack_says() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        sent = await peer.expect("send")
        assert sent == {
            "type": "send",
            "id": "my-id",
            "session": SESSION,
            "content": "hällo",
            "role": "assistant",
            "metadata": {"a": [1]},
        }
        await peer.ack(sent, 7, duplicate=True)

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        ack = await session.send("hällo", role="assistant", metadata={"a": [1]}, id="my-id")
        assert ack == Ack(SESSION, "my-id", 7, 1_763_719_200_123, True)
        assert client.unacked == ()


async def test_unacked_messages_go_again_in_order_with_their_ids_after_the_session_is_attached_again() -> (
    None
):
    async def first(peer: Peer) -> None:
        await peer.opened()
        sends = [await peer.expect("send") for _ in range(3)]
        await peer.ack(sends[0], 1)
        peer.drop()

    again: list[Frame] = []

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True)
        # Nothing may come before the attachment: the gateway would refuse it.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await peer.frame()
        await peer.attached(since=0, head=1)
        for seq in (2, 3, 4):
            again.append(await peer.expect("send"))
            await peer.ack(again[-1], seq, duplicate=seq < 4)

    async with gateway(first, second) as server, server.client(window=3) as client:
        session = await client.open()
        acks = await asyncio.gather(*(session.send(f"text {n}", id=f"m{n}") for n in range(4)))
        assert [ack.seq for ack in acks] == [1, 2, 3, 4]
        assert [frame["id"] for frame in again] == ["m1", "m2", "m3"]
        assert [frame["content"] for frame in again] == ["text 1", "text 2", "text 3"]


async def test_made_up_ids_differ_between_clients_of_one_seed() -> None:
    ids: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.opened()
        sent = await peer.expect("send")
        ids.append(sent["id"])
        await peer.ack(sent, 1)

    async with gateway(script, script) as server:
        for _ in range(2):
            async with server.client() as client:
                await (await client.open()).send("text")
    assert ids[0] != ids[1]
    assert all(0 < len(id) <= 64 for id in ids)


async def test_a_retryable_refusal_is_tried_again_with_the_same_id_after_its_time() -> None:
    clock = ManualClock()
    sends: list[Frame] = []

    async def first(peer: Peer) -> None:
        await peer.opened()
        for _ in range(2):
            sends.append(await peer.expect("send"))
            await peer.refuse(sends[-1], "rate_limited", retryable=True, retry_after_ms=400)
        sends.append(await peer.expect("send"))
        await peer.ack(sends[-1], 1)

    async with gateway(first) as server, server.client(clock=clock) as client:
        session = await client.open()
        sending = asyncio.ensure_future(session.send("text"))
        # 400 ms, and half of half a second; then half of a second.
        await until(lambda: clock.sleeps(0.65))
        clock.advance(0.65)
        await until(lambda: clock.sleeps(0.9))
        clock.advance(0.9)
        assert (await sending).seq == 1
        assert len({frame["id"] for frame in sends}) == 1


async def test_a_final_refusal_is_raised_and_the_next_message_goes() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.refuse(await peer.expect("send"), "id_conflict")
        await peer.ack(await peer.expect("send"), 1)

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        results = await asyncio.gather(session.send("a"), session.send("b"), return_exceptions=True)
        assert isinstance(results[0], Refused)
        assert results[0].code == "id_conflict"
        assert isinstance(results[1], Ack)


async def test_the_outbox_is_bounded_with_a_clear_error_and_usable_again_when_acks_come() -> None:
    go_on = asyncio.Event()

    async def first(peer: Peer) -> None:
        await peer.opened()
        sent = await peer.expect("send")
        await go_on.wait()
        await peer.ack(sent, 1)
        for seq in (2, 3):
            await peer.ack(await peer.expect("send"), seq)

    async with gateway(first) as server, server.client(outbox_messages=2) as client:
        session = await client.open()
        sending = [asyncio.ensure_future(session.send(f"{n}")) for n in range(2)]
        await turns(3)
        with pytest.raises(OutboxFull, match="2 messages"):
            await session.send("too many")
        go_on.set()
        await asyncio.gather(*sending)
        assert (await session.send("fits again")).seq == 3


async def test_content_above_the_gateways_limit_is_refused_here() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.ack(await peer.expect("send"), 1)

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        with pytest.raises(Refused, match="too_large"):
            await session.send("x" * 65_537)
        with pytest.raises(ValueError, match="64 characters"):
            await session.send("x", id="i" * 65)
        with pytest.raises(TypeError):
            await session.send("x", metadata={"what": object()})
        assert client.unacked == ()
        await session.send("x" * 65_536)


async def test_a_cancelled_send_that_never_left_is_not_sent() -> None:
    sends: list[Frame] = []

    async def first(peer: Peer) -> None:
        await peer.opened()
        sends.append(await peer.expect("send"))
        await cancelled.wait()
        await peer.ack(sends[0], 1)
        sends.append(await peer.expect("send"))
        await peer.ack(sends[1], 2)

    cancelled = asyncio.Event()
    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        flying, waiting = (asyncio.ensure_future(session.send(text, id=text)) for text in ("a", "b"))
        await until(lambda: bool(sends))
        flying.cancel()
        waiting.cancel()
        await asyncio.wait([flying, waiting])
        # The one that left may be stored: it stays until its fate is known.
        assert client.unacked == (Unacked(SESSION, "a", transmitted=True),)
        cancelled.set()
        await client.flush()
        assert (await session.send("c", id="c")).seq == 2
        assert [frame["id"] for frame in sends] == ["a", "c"]


async def test_a_cancelled_send_is_still_sent_again_after_a_lost_connection() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.expect("send")
        left.set()
        await cancelled.wait()
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        await peer.attached()
        sent = await peer.expect("send")
        assert sent["id"] == "m"
        await peer.ack(sent, 1, duplicate=True)

    left, cancelled = asyncio.Event(), asyncio.Event()
    async with gateway(first, second) as server, server.client() as client:
        session = await client.open()
        sending = asyncio.ensure_future(session.send("text", id="m"))
        await left.wait()
        sending.cancel()
        await asyncio.wait([sending])
        cancelled.set()
        await client.flush()


async def test_closing_the_client_tells_whoever_waits() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()

    async with gateway(first) as server:
        async with server.client() as client:
            session = await client.open()
            sending = asyncio.ensure_future(session.send("text"))
            reading = asyncio.ensure_future(anext(session, None))
            await turns(3)
        with pytest.raises(ClientClosed):
            await sending
        assert await reading is None
        with pytest.raises(ClientClosed):
            await session.send("text")


async def test_messages_of_a_session_that_ended_get_the_truth_after_a_lost_connection() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.expect("send")
        await peer.expect("send")
        await peer.send("session", session=SESSION, event="closed", version=2, changes={})
        await peer.send("signal", user="alice", name="done", data=None)
        await heard.wait()
        peer.drop()

    async def second(peer: Peer) -> None:
        hello = await peer.welcome()
        assert "attach" not in hello
        await peer.ack(await peer.expect("send"), 1, duplicate=True)
        await peer.refuse(await peer.expect("send"), "closed")

    heard = asyncio.Event()
    async with gateway(first, second) as server, server.client(window=2) as client:
        client.on_event(lambda event: heard.set() if getattr(event, "name", "") == "done" else None)
        session = await client.open()
        sending = [asyncio.ensure_future(session.send(text, id=text)) for text in ("a", "b", "c")]
        with pytest.raises(SessionEnded):
            await sending[2]
        assert (await sending[0]).duplicate
        with pytest.raises(Refused, match="closed"):
            await sending[1]
        with pytest.raises(SessionEnded, match="closed"):
            await session.send("late")


async def test_an_ack_that_never_comes_costs_the_connection_not_the_message() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.expect("send")

    async def second(peer: Peer) -> None:
        await peer.welcome()
        await peer.attached()
        await peer.ack(await peer.expect("send"), 1)

    async with gateway(first, second) as server:
        client = server.client(clock=clock, ack_timeout_s=30, random=Constant(0.0), open_timeout_s=9999)
        async with client:
            session = await client.open()
            sending = asyncio.ensure_future(session.send("text"))
            await until(lambda: bool(server.peers[0].received[2:]))
            for _ in range(4):
                await server.peers[0].send("signal", user="alice", name="alive")
                await turns(20)
                clock.advance(12.5)
                await turns(20)
            await until(lambda: len(server.peers) == 2)
            assert (await sending).seq == 1


async def test_sessions_do_not_wait_for_each_other() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        request = await peer.expect("attach")
        await peer.attached(id=request["id"], session=OTHER)
        await peer.expect("send")
        await peer.ack(await peer.expect("send"), 1)

    async with gateway(first) as server, server.client() as client:
        stuck, free = await client.open(), await client.attach(OTHER)
        waiting = asyncio.ensure_future(stuck.send("no ack for this one"))
        await turns(2)
        assert (await free.send("text")).seq == 1
        waiting.cancel()
        await asyncio.wait([waiting])
