"""What is the memory bus's own: its bounds, and what delivering costs the loop."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from store import delivery
from store.bus_memory import MemoryBus
from tests.waiting import turns, until


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """How busy this machine is decides nothing: what waits is delivered in one slice."""
    monkeypatch.setattr(delivery, "SLICE_S", 3600.0)


async def opened(received: list[bytes]) -> MemoryBus:
    bus = MemoryBus()
    await bus.start(lambda channel, payload: received.append(payload), lambda: None)
    await bus.subscribe("a")
    return bus


async def test_above_the_bound_of_payloads_the_new_one_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "WAITING_PAYLOADS", 2)
    received: list[bytes] = []
    bus = await opened(received)
    for payload in (b"1", b"2", b"3", b"4"):
        bus.offer("a", payload)
    assert bus.dropped == 2
    await turns(2)
    bus.offer("a", b"5")
    await turns(2)
    assert received == [b"1", b"2", b"5"]


async def test_above_the_bound_of_bytes_the_new_one_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "WAITING_BYTES", 10)
    received: list[bytes] = []
    bus = await opened(received)
    for payload in (b"x" * 8, b"y" * 3, b"z" * 2):
        bus.offer("a", payload)
    await turns(2)
    bus.offer("a", b"w" * 10)
    await turns(2)
    assert received == [b"x" * 8, b"z" * 2, b"w" * 10]
    assert bus.dropped == 1


async def test_what_nobody_listens_to_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "WAITING_PAYLOADS", 0)
    bus = await opened([])
    bus.offer("b", b"x")
    assert bus.dropped == 0


async def test_a_thousand_payloads_are_one_callback_and_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[bytes] = []
    bus = await opened(received)
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks()
    calls: list[object] = []
    call_soon = loop.call_soon

    def counting(callback: Callable[..., object], *arguments: object, **more: Any) -> asyncio.Handle:
        calls.append(callback)
        return call_soon(callback, *arguments, **more)

    monkeypatch.setattr(loop, "call_soon", counting)
    for _ in range(1_000):
        bus.offer("a", b"x")
    assert len(calls) == 1
    assert asyncio.all_tasks() == tasks
    monkeypatch.undo()
    await until(lambda: len(received) == 1_000)


async def test_a_receiver_that_always_offers_leaves_turns_to_others() -> None:
    bus = MemoryBus()
    seen = 0

    def receive(channel: str, payload: bytes) -> None:
        nonlocal seen
        seen += 1
        bus.offer("a", payload)

    await bus.start(receive, lambda: None)
    await bus.subscribe("a")
    bus.offer("a", b"x")
    await turns(50)
    assert 0 < seen <= 51
    await bus.close()


async def test_a_receiver_that_takes_long_leaves_turns_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SLICE_S", 0.0)
    received: list[bytes] = []
    bus = await opened(received)
    for number in range(10):
        bus.offer("a", b"%d" % number)
    await turns(3)
    assert received == [b"0", b"1", b"2"]
    await until(lambda: len(received) == 10)


async def test_a_receiver_that_closes_the_bus_gets_nothing_more() -> None:
    bus = MemoryBus()
    received: list[bytes] = []

    def receive(channel: str, payload: bytes) -> None:
        received.append(payload)
        closing.append(asyncio.ensure_future(bus.close()))

    closing: list[asyncio.Future[None]] = []
    await bus.start(receive, lambda: None)
    await bus.subscribe("a")
    bus.offer("a", b"1")
    await turns(3)
    bus.offer("a", b"2")
    await turns(3)
    assert received == [b"1"]
    await asyncio.gather(*closing)


async def test_a_receiver_that_fails_a_thousand_times_is_told_of_ten_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bus = MemoryBus()

    def receive(channel: str, payload: bytes) -> None:
        raise ValueError("a bug")

    await bus.start(receive, lambda: None)
    await bus.subscribe("a")
    for _ in range(1_000):
        bus.offer("a", b"x")
    await until(lambda: bus.failures == 1_000)
    assert capsys.readouterr().out.count("receiver_failed") == 10
