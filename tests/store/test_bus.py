"""What the bus promises: in order, whole, to whoever listens; and a receiver that fails harms nobody."""

from collections.abc import AsyncIterator

import pytest

from store.bus import Bus
from tests.store.backends.buses import OpenBus
from tests.waiting import turns, until

Received = list[tuple[str, bytes]]


def nothing() -> None:
    """For those who are not concerned with gaps."""


@pytest.fixture
def received() -> Received:
    return []


@pytest.fixture
async def bus(open_bus: OpenBus, received: Received) -> AsyncIterator[Bus]:
    async with open_bus(lambda channel, payload: received.append((channel, payload)), nothing) as bus:
        yield bus


async def settled(bus: Bus, received: Received) -> None:
    """Everything offered so far has arrived, or never will: what is offered last has."""
    await bus.subscribe("last")
    bus.offer("last", b"last")
    await until(lambda: ("last", b"last") in received)
    received.remove(("last", b"last"))


async def test_what_is_offered_arrives_whole_and_in_order(bus: Bus, received: Received) -> None:
    await bus.subscribe("a")
    await bus.subscribe("b")
    sent = [("ab"[n % 2], b"%d" % n * (n + 1)) for n in range(200)]
    for channel, payload in sent:
        bus.offer(channel, payload)
    await until(lambda: len(received) == len(sent))
    for name in "ab":
        assert [p for channel, p in received if channel == name] == [
            p for channel, p in sent if channel == name
        ]


async def test_any_bytes_arrive(bus: Bus, received: Received) -> None:
    await bus.subscribe("a")
    payloads = [b"", b"\x00\xff\r\n", bytes(range(256)) * 300]
    for payload in payloads:
        bus.offer("a", payload)
    await until(lambda: len(received) == 3)
    assert [payload for _, payload in received] == payloads


async def test_one_hears_only_what_one_listens_to(bus: Bus, received: Received) -> None:
    await bus.subscribe("a")
    bus.offer("b", b"1")
    bus.offer("a", b"2")
    bus.offer("aa", b"3")
    await settled(bus, received)
    assert received == [("a", b"2")]


async def test_what_was_offered_before_is_not_heard_and_what_is_offered_after_is(
    bus: Bus, received: Received
) -> None:
    bus.offer("a", b"before")
    await settled(bus, received)
    await bus.subscribe("a")
    bus.offer("a", b"after")
    await settled(bus, received)
    assert received == [("a", b"after")]


async def test_subscribing_twice_delivers_once_and_unsubscribing_ends_it(
    bus: Bus, received: Received
) -> None:
    await bus.subscribe("a")
    await bus.subscribe("a")
    bus.offer("a", b"1")
    await settled(bus, received)
    await bus.unsubscribe("a")
    await bus.unsubscribe("a")
    await bus.unsubscribe("never")
    bus.offer("a", b"2")
    await settled(bus, received)
    await bus.subscribe("a")
    bus.offer("a", b"3")
    await settled(bus, received)
    assert received == [("a", b"1"), ("a", b"3")]


async def test_nothing_arrives_from_within_offer(bus: Bus, received: Received) -> None:
    await bus.subscribe("a")
    bus.offer("a", b"1")
    assert received == []
    await settled(bus, received)
    assert received == [("a", b"1")]


async def test_a_receiver_that_offers_is_not_entered_again(open_bus: OpenBus) -> None:
    seen: list[int] = []
    buses: list[Bus] = []
    depth = 0

    def receive(channel: str, payload: bytes) -> None:
        nonlocal depth
        assert depth == 0
        depth += 1
        seen.append(int(payload))
        if int(payload) < 5_000:
            buses[0].offer("a", b"%d" % (int(payload) + 1))
        depth -= 1

    async with open_bus(receive, nothing) as bus:
        buses.append(bus)
        await bus.subscribe("a")
        bus.offer("a", b"0")
        await until(lambda: len(seen) == 5_001)
    assert seen == list(range(5_001))


async def test_a_receiver_that_fails_gets_the_next_payload_all_the_same(
    open_bus: OpenBus, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[bytes] = []

    def receive(channel: str, payload: bytes) -> None:
        seen.append(payload)
        if payload == b"bad":
            raise ValueError("a bug")

    async with open_bus(receive, nothing) as bus:
        await bus.subscribe("a")
        for payload in (b"1", b"bad", b"2", b"bad", b"bad", b"3"):
            bus.offer("a", payload)
        await until(lambda: len(seen) == 6)
    assert "a bug" in capsys.readouterr().out


async def test_after_closing_nothing_arrives_and_offering_does_no_harm(bus: Bus, received: Received) -> None:
    await bus.subscribe("a")
    bus.offer("a", b"on its way")
    await bus.close()
    before = list(received)
    bus.offer("a", b"too late")
    await bus.close()
    await turns(5)
    assert received == before


async def test_nothing_is_dropped_below_the_bound(bus: Bus, received: Received) -> None:
    await bus.subscribe("a")
    for _ in range(1_000):
        bus.offer("a", b"x" * 100)
    await until(lambda: len(received) == 1_000)
    assert bus.dropped == 0


async def test_a_bus_that_is_started_is_up_and_counts(bus: Bus, received: Received) -> None:
    assert bus.state == "up"
    await bus.subscribe("a")
    for _ in range(3):
        bus.offer("a", b"x")
    bus.offer("b", b"nobody listens")
    await until(lambda: len(received) == 3)
    assert (bus.published, bus.received, bus.dropped, bus.gaps) == (4, 3, 0, 0)
