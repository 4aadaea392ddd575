"""Events reach who listens, requests get their answers, and sessions end."""

import asyncio

import pytest

from session_gateway_client import (
    Event,
    PresenceChanged,
    ReadMarked,
    Refused,
    SessionChanged,
    SessionEnded,
    Signal,
)
from tests.clients.python.scripted import OTHER, SESSION, Frame, Peer, gateway
from tests.waiting import turns


async def test_events_reach_listeners_and_streams() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.send(
            "signal", session=SESSION, name="typing", data={"a": 1}, sender="bob", connection="c-2"
        )
        await peer.send("signal", user="alice", name="session.joined", data={"session": OTHER})
        await peer.send("presence", session=SESSION, event="join", user="bob", connections=1)
        await peer.send("read", session=SESSION, user="bob", seq=3)
        await peer.send("session", session=SESSION, event="updated", version=2, changes={"title": "New"})
        await peer.send("session", session=SESSION, event="updated", version=2, changes={"title": "New"})
        await peer.close(4500)

    async with gateway(first) as server, server.client() as client:
        heard: list[Event] = []

        def fails(event: Event) -> None:
            raise RuntimeError("a bug of the application")

        client.on_event(fails)
        stop = client.on_event(heard.append)
        stream = client.events()
        session = await client.open()
        told = [event async for event in stream]
        assert told == heard
        assert told[:5] == [
            Signal(SESSION, "typing", {"a": 1}, "bob", "c-2"),
            Signal(None, "session.joined", {"session": OTHER}, None, None),
            PresenceChanged(SESSION, "join", "bob", 1),
            ReadMarked(SESSION, "bob", 3),
            SessionChanged(SESSION, "updated", 2, {"title": "New"}),
        ]
        assert len(told) == 6
        assert session.title == "New"
        stop()
        assert [event async for event in client.events()] == []


async def test_requests_are_answered_by_id_and_refusals_raised() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        request = await peer.expect("history")
        assert (request["before"], request["limit"]) == (42, 2)
        page: list[Frame] = [
            {
                "seq": seq,
                "id": f"id-{seq}",
                "client_id": None,
                "sender": "bob",
                "role": "user",
                "content": "x",
                "metadata": {},
                "created_at": "",
            }
            for seq in (40, 41)
        ]
        await peer.send("history", id=request["id"], session=SESSION, messages=page, head=58, more=True)
        request = await peer.expect("presence")
        users = [{"user": "bob", "connections": 2, "since": "2025-11-21T12:00:00.000Z"}]
        await peer.send("presence", id=request["id"], session=SESSION, users=users)
        request = await peer.expect("update")
        assert (request["title"], request["status"]) == ("New", "archived")
        await peer.send("updated", id=request["id"], session=SESSION, version=7)
        request = await peer.expect("read")
        assert request["seq"] == 5
        await peer.send("read", id=request["id"], session=SESSION, user="alice", seq=5)
        await peer.refuse(await peer.expect("update"), "forbidden")

    async with gateway(first) as server, server.client() as client:
        session = await client.open(title="A talk", persistent=True)
        page = await session.history(before=42, limit=2)
        assert ([message.seq for message in page.messages], page.head, page.more) == ([40, 41], 58, True)
        assert page.messages[0].session == SESSION
        assert [(user.user, user.connections) for user in await session.presence()] == [("bob", 2)]
        assert await session.update(title="New", status="archived") == 7
        assert session.title == "New"
        await session.read(5)
        with pytest.raises(Refused, match="forbidden"):
            await session.update(title="Mine")


async def test_closing_and_leaving_wait_for_messages_on_their_way() -> None:
    asked: list[Frame] = []

    async def first(peer: Peer) -> None:
        await peer.opened()
        request = await peer.expect("attach")
        await peer.attached(id=request["id"], session=OTHER)
        for kind, answer in (("close", "closed"), ("detach", "detached")):
            sent = await peer.expect("send")
            await turns(20)
            await peer.ack(sent, 1)
            asked.append(await peer.expect(kind))
            await peer.send(answer, id=asked[-1]["id"], session=asked[-1]["session"])

    async with gateway(first) as server, server.client() as client:
        one, two = await client.open(), await client.attach(OTHER)
        sending = asyncio.ensure_future(one.send("last words"))
        await turns(2)
        await one.close()
        assert (await sending).seq == 1
        sending = asyncio.ensure_future(two.send("bye"))
        await turns(2)
        await two.detach()
        assert (await sending).seq == 1
        assert client.sessions == {}
        assert [message async for message in one] == []
        with pytest.raises(SessionEnded, match="detached"):
            await two.send("more")


async def test_a_session_the_gateway_takes_away_ends() -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 1)
        await peer.send("detached", session=SESSION, reason="you are no member any more")

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        assert [message.seq async for message in session] == [1]
        assert isinstance(session.ended, SessionEnded)
        assert session.ended.code == "forbidden"


@pytest.mark.parametrize(
    ("request_", "code"), [("close", "closed"), ("close", "expired"), ("detach", "not_attached")]
)
async def test_ending_what_is_over_already_succeeds(request_: str, code: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.refuse(await peer.expect(request_), code)

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        await (session.close() if request_ == "close" else session.detach())
        assert client.sessions == {}


@pytest.mark.parametrize("request_", ["close", "detach"])
async def test_a_session_that_cannot_be_ended_goes_on(request_: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.refuse(await peer.expect(request_), "forbidden")
        await peer.messages(1, 1)

    async with gateway(first) as server, server.client() as client:
        session = await client.open()
        with pytest.raises(Refused, match="forbidden"):
            await (session.close() if request_ == "close" else session.detach())
        assert (await anext(session)).seq == 1
