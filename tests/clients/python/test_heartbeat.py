"""Signs of life, and what they tell."""

from session_gateway_client import Client
from tests.clients.python.scripted import SESSION, Constant, Frame, ManualClock, Peer, gateway
from tests.waiting import turns, until


async def beat(peer: Peer) -> Frame:
    """The next frame, which is a heartbeat."""
    frame = await peer.frame()
    assert frame["type"] == "heartbeat"
    return frame


async def passing(clock: ManualClock, seconds: float, steps: int = 10) -> None:
    """Let time pass in steps, with turns of the loop for what becomes due."""
    for _ in range(steps):
        clock.advance(seconds / steps)
        await turns(30)


async def test_the_first_comes_after_a_random_part_of_the_interval_and_tells_what_was_delivered() -> None:
    clock = ManualClock()
    beats: list[tuple[float, Frame]] = []

    async def first(peer: Peer) -> None:
        await peer.opened()
        await peer.messages(1, 3)
        for _ in range(3):
            frame = await beat(peer)
            beats.append((clock.time, frame))
            await peer.send("heartbeat", ts=frame["ts"], now=1, sessions={SESSION: {"head": 3, "ttl_ms": 1}})

    async with gateway(first) as server, server.client(clock=clock, random=Constant(0.4)) as client:
        session = await client.open()
        await anext(session)
        await anext(session)
        start = clock.time
        await passing(clock, 65.0, steps=130)
        await until(lambda: len(beats) == 3)
        assert [time - start for time, _ in beats] == [10.0, 35.0, 60.0]
        # Three have arrived, two were handed to the application.
        assert beats[0][1]["seen"] == {SESSION: 2}
        assert beats[0][1]["ts"] == int((start + 10.0) * 1000)


async def test_a_gateway_silent_for_the_timeout_is_left_and_resumed_elsewhere() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()

    async def second(peer: Peer) -> None:
        await peer.welcome(resumed=True)
        await peer.attached()
        await peer.messages(1, 1)

    async with gateway(first, second) as server, server.client(clock=clock, random=Constant(0.0)) as client:
        session = await client.open()
        await passing(clock, 59.0)
        assert len(server.peers) == 1
        await passing(clock, 2.0)
        await until(lambda: len(server.peers) == 2)
        assert (await anext(session)).seq == 1


async def test_any_frame_counts_as_life() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()

    async with gateway(first) as server, server.client(clock=clock, open_timeout_s=9999) as client:
        await client.open()
        for _ in range(6):
            await passing(clock, 50.0)
            await server.peers[0].send("signal", user="alice", name="alive")
            await turns(30)
        assert len(server.peers) == 1


async def behind(client: Client, clock: ManualClock) -> None:
    """Let a heartbeat say that there is more, and the grace for it pass."""
    await passing(clock, 12.5)
    await until(lambda: clock.sleeps(2.0))
    await passing(clock, 2.0)


async def test_a_head_above_the_cursor_with_nothing_arriving_is_attached_again() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()
        frame = await beat(peer)
        await peer.send("heartbeat", ts=frame["ts"], now=1, sessions={SESSION: {"head": 2, "ttl_ms": 1}})
        request = await peer.expect("attach")
        assert request["since"] == 0
        await peer.attached(id=request["id"], since=0, head=2)
        await peer.messages(1, 2)

    async with gateway(first) as server, server.client(clock=clock, open_timeout_s=9999) as client:
        session = await client.open()
        await behind(client, clock)
        assert [(await anext(session)).seq for _ in range(2)] == [1, 2]


async def test_a_head_above_the_cursor_is_no_gap_while_messages_arrive() -> None:
    clock = ManualClock()

    async def first(peer: Peer) -> None:
        await peer.opened()
        frame = await beat(peer)
        await peer.send("heartbeat", ts=frame["ts"], now=1, sessions={SESSION: {"head": 9, "ttl_ms": 1}})
        await peer.messages(1, 1)
        await peer.expect("signal")

    async with gateway(first) as server, server.client(clock=clock, open_timeout_s=9999) as client:
        session = await client.open()
        await passing(clock, 12.5)
        assert (await anext(session)).seq == 1
        await passing(clock, 2.5)
        session.signal("nothing but this")
        await until(lambda: server.peers[0].received[-1]["type"] == "signal")
        assert [frame["type"] for frame in server.peers[0].received] == [
            "hello",
            "open",
            "heartbeat",
            "signal",
        ]
