"""Make before break: the second connection is live before the first one closes."""

import asyncio
from functools import partial
from http import HTTPStatus

from session_gateway_client import Connected, Event, Signal
from session_gateway_client.supervisor import target
from tests.clients.python.scripted import OTHER, SESSION, Frame, ManualClock, Peer, gateway
from tests.waiting import turns, until


class Stage:
    """What the scripts of one move tell each other."""

    def __init__(self) -> None:
        self.hello: Frame = {}
        self.arrived = asyncio.Event()
        self.go_live = asyncio.Event()
        self.first_closed: int | None = None


async def moving(
    peer: Peer, stage: Stage, *, slot_ms: int = 0, deadline_ms: int = 30_000, url: str | None = None
) -> None:
    """The old node: opens, delivers 1 and 2, and says that it leaves."""
    await peer.opened()
    await peer.messages(1, 2)
    await peer.send("migrate", slot_ms=slot_ms, deadline_ms=deadline_ms, url=url, reason="drain")


async def taking_over(peer: Peer, stage: Stage) -> None:
    """The new node: attaches what the hello names, is live when told."""
    stage.hello = await peer.welcome(resumed=True, connection="c-2", node="n2")
    stage.arrived.set()
    for reference in stage.hello["attach"]:
        await peer.attached(session=reference["session"], since=reference["since"], head=9)
    await stage.go_live.wait()
    await peer.messages(3, 9)
    await peer.send("live", session=SESSION, seq=9)


async def test_both_deliver_until_the_second_is_live_and_nothing_comes_twice() -> None:
    stage = Stage()

    async def first(peer: Peer) -> None:
        await moving(peer, stage)
        await stage.arrived.wait()
        # The old connection goes on delivering, faster than the new one.
        await peer.messages(3, 6)
        delivered.set()
        stage.first_closed = await peer.until_closed()

    delivered = asyncio.Event()
    async with gateway(first, lambda peer: taking_over(peer, stage)) as server, server.client() as client:
        seen: list[Event] = []
        client.on_event(seen.append)
        session = await client.open()
        await delivered.wait()
        got = [(await anext(session)).seq for _ in range(6)]
        assert len(server.peers) == 2
        assert stage.first_closed is None
        stage.go_live.set()
        got += [(await anext(session)).seq for _ in range(3)]
        assert got == list(range(1, 10))
        await until(lambda: stage.first_closed == 1000)
        assert stage.hello["resume"] == "resume-1"
        assert stage.hello["attach"] == [{"session": SESSION, "since": 2}]
        # Not for a moment was it anything but open.
        assert [event for event in seen if not isinstance(event, Connected)] == []
        assert [event.node for event in seen if isinstance(event, Connected)] == ["n2"]
        assert (client.state, client.connection) == ("open", "c-2")


async def test_it_waits_for_its_slot() -> None:
    clock, stage = ManualClock(), Stage()
    async with (
        gateway(
            lambda peer: moving(peer, stage, slot_ms=1400), lambda peer: taking_over(peer, stage)
        ) as server,
        server.client(clock=clock, open_timeout_s=9999) as client,
    ):
        await client.open()
        await until(lambda: clock.sleeps(1.4))
        assert len(server.peers) == 1
        clock.advance(1.4)
        await stage.arrived.wait()


async def test_acks_of_the_old_connection_arrive_and_what_is_sent_meanwhile_goes_over_the_new_one() -> None:
    stage = Stage()
    sent: dict[str, list[str]] = {"old": [], "new": []}

    async def first(peer: Peer) -> None:
        await peer.opened()
        in_flight = await peer.expect("send")
        sent["old"].append(in_flight["content"])
        await peer.send("migrate", slot_ms=0, deadline_ms=30_000, url=None, reason="drain")
        await stage.go_live.wait()
        await turns(50)
        await peer.ack(in_flight, 1)
        await peer.until_closed()

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True)
        await peer.attached(since=0, head=0)
        await peer.send("live", session=SESSION, seq=0)
        stage.go_live.set()
        for seq in (2, 3):
            frame = await peer.expect("send")
            sent["new"].append(frame["content"])
            await peer.ack(frame, seq)

    async with gateway(first, second) as server, server.client() as client:
        session = await client.open()
        acks = await asyncio.gather(*(session.send(f"text {n}") for n in range(3)))
        assert [ack.seq for ack in acks] == [1, 2, 3]
        assert sent == {"old": ["text 0"], "new": ["text 1", "text 2"]}


async def test_acks_that_do_not_come_in_time_are_asked_for_on_the_second_connection() -> None:
    clock, stage = ManualClock(), Stage()

    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.expect("send")
        await peer.send("migrate", slot_ms=0, deadline_ms=30_000, url=None, reason="drain")
        await peer.until_closed()

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True)
        await peer.attached(since=0, head=0)
        stage.arrived.set()
        sent = await peer.expect("send")
        await peer.ack(sent, 1, duplicate=True)

    async with gateway(first, second) as server, server.client(clock=clock) as client:
        session = await client.open()
        sending = asyncio.ensure_future(session.send("text"))
        await stage.arrived.wait()
        await until(lambda: clock.sleeps(5.0))
        clock.advance(5.0)
        assert (await sending).duplicate


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events if isinstance(event, Signal)]


async def test_signals_are_not_doubled_while_two_connections_overlap() -> None:
    stage = Stage()

    async def first(peer: Peer) -> None:
        await moving(peer, stage)
        await stage.arrived.wait()
        await peer.send("signal", session=SESSION, name="typing", sender="bob", connection="c-9")
        await peer.until_closed()

    async def second(peer: Peer) -> None:
        stage.hello = await peer.welcome(resumed=True, connection="c-2")
        await peer.attached(since=2, head=3)
        await peer.send("signal", session=SESSION, name="typing", sender="bob", connection="c-9")
        stage.arrived.set()
        await stage.go_live.wait()
        await peer.messages(3, 3)
        await peer.send("live", session=SESSION, seq=3)

    async with gateway(first, second) as server, server.client() as client:
        seen: list[Event] = []
        client.on_event(seen.append)
        await client.open()
        await until(lambda: any(isinstance(event, Signal) for event in seen))
        stage.go_live.set()
        await until(lambda: client.connection == "c-2")
        await server.peers[1].send("signal", session=SESSION, name="bye", sender="bob", connection="c-9")
        await until(lambda: "bye" in names(seen))
        assert [name for name in names(seen) if name == "typing"] == ["typing"]


async def test_what_the_old_node_brought_is_no_news_when_the_new_one_brings_it_after_the_switch() -> None:
    stage = Stage()

    async def first(peer: Peer) -> None:
        await moving(peer, stage)
        await peer.until_closed()

    async with gateway(first, lambda peer: taking_over(peer, stage)) as server, server.client() as client:
        seen: list[Event] = []
        client.on_event(seen.append)
        await client.open()
        await stage.arrived.wait()
        typing = {"session": SESSION, "name": "typing", "sender": "bob", "connection": "c-9"}
        await server.peers[0].send("signal", **typing)
        await until(lambda: names(seen) == ["typing"])
        stage.go_live.set()
        await until(lambda: client.connection == "c-2")
        # The other node is a little later; and then bob goes on typing.
        await server.peers[1].send("signal", **typing)
        await server.peers[1].send("signal", **typing)
        await until(lambda: names(seen) == ["typing", "typing"])
        await server.peers[1].send("signal", **{**typing, "name": "bye"})
        await until(lambda: "bye" in names(seen))
        assert names(seen) == ["typing", "typing", "bye"]


async def test_what_a_lost_connection_brought_is_news_when_the_next_one_brings_the_same() -> None:
    stage = Stage()
    stage.go_live.set()

    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 2)
        await peer.until_closed()

    async with gateway(first, lambda peer: taking_over(peer, stage)) as server, server.client() as client:
        seen: list[Event] = []
        client.on_event(seen.append)
        await client.open()
        typing = {"session": SESSION, "name": "typing", "sender": "bob", "connection": "c-9"}
        await server.peers[0].send("signal", **typing)
        await until(lambda: names(seen) == ["typing"])
        server.peers[0].drop()
        await until(lambda: client.connection == "c-2")
        await server.peers[1].send("signal", **typing)
        await until(lambda: names(seen) == ["typing", "typing"])


async def test_the_old_node_dies_before_the_second_is_live_and_the_second_carries_on() -> None:
    stage = Stage()

    async def first(peer: Peer) -> None:
        await moving(peer, stage)
        await stage.arrived.wait()
        peer.drop()

    async with gateway(first, lambda peer: taking_over(peer, stage)) as server, server.client() as client:
        session = await client.open()
        await stage.arrived.wait()
        await until(lambda: client.connection == "c-2")
        stage.go_live.set()
        assert [(await anext(session)).seq for _ in range(9)] == list(range(1, 10))
        assert len(server.peers) == 2


async def test_at_the_deadline_the_old_node_closes_with_4000_and_the_second_takes_over_as_far_as_it_is() -> (
    None
):
    clock, stage = ManualClock(), Stage()

    async def first(peer: Peer) -> None:
        await moving(peer, stage, deadline_ms=5_000)
        await stage.arrived.wait()
        await until(lambda: clock.time >= 1005.0)
        await peer.close(4000)

    second = partial(taking_over, stage=stage)
    async with gateway(first, second) as server, server.client(clock=clock) as client:
        session = await client.open()
        await stage.arrived.wait()
        clock.advance(5.0)
        await until(lambda: client.connection == "c-2")
        stage.go_live.set()
        assert [(await anext(session)).seq for _ in range(9)] == list(range(1, 10))
        assert len(server.peers) == 2


async def test_nobody_to_move_to_until_the_old_node_is_gone_is_an_ordinary_reconnect() -> None:
    stage = Stage()

    async def first(peer: Peer) -> None:
        await moving(peer, stage)
        await until(lambda: len(server.requests) >= 3)
        await peer.close(4000)

    async with gateway(first, lambda peer: taking_over(peer, stage)) as server, server.client() as client:
        server.upgrades = [(HTTPStatus.SERVICE_UNAVAILABLE, {})] * 2
        session = await client.open()
        await stage.arrived.wait()
        stage.go_live.set()
        assert [(await anext(session)).seq for _ in range(9)] == list(range(1, 10))


async def test_a_second_connection_lost_while_last_acks_are_awaited_leaves_the_first_as_it_was() -> None:
    lost = asyncio.Event()

    async def first(peer: Peer) -> None:
        await peer.opened()
        in_flight = await peer.expect("send")
        await peer.send("migrate", slot_ms=0, deadline_ms=30_000, url=None, reason="drain")
        await lost.wait()
        await peer.ack(in_flight, 1)
        await peer.ack(await peer.expect("send"), 2)

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True)
        await peer.attached(since=0, head=0)
        await turns(50)
        peer.drop()
        lost.set()

    async with gateway(first, second, lambda peer: peer.until_closed()) as server, server.client() as client:
        session = await client.open()
        in_flight = asyncio.ensure_future(session.send("in flight"))
        await lost.wait()
        assert (await in_flight).seq == 1
        assert (await asyncio.wait_for(session.send("at once"), 5)).seq == 2
        # And the move goes on.
        await until(lambda: len(server.peers) == 3)


async def test_a_node_that_leaves_while_a_client_moves_to_it_is_left_in_its_turn() -> None:
    clock, stage = ManualClock(), Stage()

    async def first(peer: Peer) -> None:
        await moving(peer, stage)
        stage.first_closed = await peer.until_closed()

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True, resume="resume-2")
        await peer.send("migrate", slot_ms=2000, deadline_ms=30_000, url=None, reason="drain")
        await peer.attached(since=2, head=3)
        await peer.messages(3, 3)
        await stage.go_live.wait()
        await peer.send("live", session=SESSION, seq=3)
        await peer.until_closed()

    async def third(peer: Peer) -> None:
        stage.hello = await peer.welcome(resumed=True, connection="c-3")
        await peer.attached(since=3, head=3)

    async with gateway(first, second, third) as server, server.client(clock=clock) as client:
        session = await client.open()
        assert [(await anext(session)).seq for _ in range(3)] == [1, 2, 3]
        clock.advance(1.5)
        stage.go_live.set()
        await until(lambda: stage.first_closed == 1000)
        # The slot counts from when it was told.
        await until(lambda: clock.sleeps(0.5))
        assert len(server.peers) == 2
        clock.advance(0.5)
        await until(lambda: client.connection == "c-3")
        assert stage.hello["resume"] == "resume-2"


async def test_an_address_that_is_none_is_passed_over() -> None:
    for named in ("ws://n2:port/ws", "ws://n2:99999/ws", "ws://n2..x/ws"):
        stage = Stage()
        stage.go_live.set()
        async with (
            gateway(partial(moving, stage=stage, url=named), partial(taking_over, stage=stage)) as server,
            server.client() as client,
        ):
            await client.open()
            await until(lambda client=client: client.connection == "c-2")


async def test_a_session_attached_during_the_move_is_attached_on_the_second_too() -> None:
    stage = Stage()

    async def first(peer: Peer) -> None:
        await moving(peer, stage)
        request = await peer.expect("attach")
        await peer.attached(id=request["id"], session=OTHER)
        await peer.until_closed()

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True)
        stage.arrived.set()
        await stage.go_live.wait()
        await peer.attached(since=2, head=2)
        request = await peer.expect("attach")
        assert (request["session"], request["since"]) == (OTHER, 0)
        await peer.attached(id=request["id"], session=OTHER)
        await peer.messages(1, 1, session=OTHER)

    async with gateway(first, second) as server, server.client() as client:
        await client.open()
        await stage.arrived.wait()
        other = await client.attach(OTHER, since=0)
        stage.go_live.set()
        assert (await anext(other)).seq == 1


async def test_closing_in_the_middle_of_a_move_leaves_nothing() -> None:
    stage = Stage()
    async with gateway(lambda peer: moving(peer, stage), lambda peer: taking_over(peer, stage)) as server:
        async with server.client() as client:
            await client.open()
            await stage.arrived.wait()
        # The second may have been in the middle of its handshake: then it is cut, not closed.
        assert server.peers[0].socket.close_code == 1000
        await until(lambda: all(peer.socket.close_code is not None for peer in server.peers))


async def test_a_named_address_that_cannot_be_opened_is_tried_once_then_the_known_one() -> None:
    stage = Stage()
    stage.go_live.set()
    tried: list[str] = []

    async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append("named")
        writer.close()

    async def first(peer: Peer) -> None:
        await moving(peer, stage, url=f"ws://127.0.0.1:{wrong.sockets[0].getsockname()[1]}/ws")
        stage.first_closed = await peer.until_closed()

    wrong = await asyncio.start_server(nobody, "127.0.0.1", 0)
    async with (
        wrong,
        gateway(first, lambda peer: taking_over(peer, stage)) as server,
        server.client() as client,
    ):
        session = await client.open()
        assert [(await anext(session)).seq for _ in range(9)] == list(range(1, 10))
        await until(lambda: stage.first_closed == 1000)
        assert (tried, client.state, client.connection) == (["named"], "open", "c-2")
        # And if that is lost, it is the known address that is tried.
        assert stage.hello["resume"] == "resume-1"


def test_a_move_does_not_drop_the_encryption_and_goes_only_to_websockets() -> None:
    assert target("wss://a/ws", "wss://b/ws") == "wss://b/ws"
    assert target("ws://a/ws", "ws://b/ws") == "ws://b/ws"
    for known in ("wss://a/ws", "WSS://a/ws"):
        for named in ("ws://b/ws", "WS://b/ws", "wss:///ws", "wss://u:p@b/ws", "wss://[b/ws", "b", "/ws", 7):
            assert target(known, named) == known
    assert target("ws://a/ws", "http://b/") == "ws://a/ws"
    assert target("ws://a/ws", None) == "ws://a/ws"
