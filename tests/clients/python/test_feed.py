"""Events wait for their reader, but not without a bound; and tasks have an owner."""

import asyncio
import gc

import pytest

from session_gateway_client.clock import SystemClock, within
from session_gateway_client.feed import Feed
from session_gateway_client.tasks import Tasks
from session_gateway_client.values import Event, PresenceChanged, ReadMarked, Signal
from tests.waiting import turns


def signal(n: int) -> Event:
    return Signal("s", f"{n}", None, None, None)


def mark(n: int) -> Event:
    return ReadMarked("s", "bob", n)


async def test_signals_fill_half_of_a_stream_and_are_dropped_then() -> None:
    feed = Feed(4)
    stream = feed.stream()
    for n in range(5):
        feed.publish(signal(n))
    feed.publish(PresenceChanged("s", "join", "bob", 1))
    feed.publish(mark(1))
    feed.close()
    assert [event async for event in stream] == [signal(0), signal(1), mark(1)]
    assert stream.missed == 4


async def test_at_the_end_of_a_stream_the_oldest_event_goes() -> None:
    feed = Feed(3)
    stream = feed.stream()
    for n in range(5):
        feed.publish(mark(n))
    feed.close()
    assert [event async for event in stream] == [mark(2), mark(3), mark(4)]
    assert stream.missed == 2


async def test_a_stream_waits_for_the_next_event_and_what_comes_after_its_end_is_not_its() -> None:
    feed = Feed(3)
    stream = feed.stream()
    waiting = asyncio.ensure_future(anext(stream))
    await turns(2)
    feed.publish(mark(1))
    assert await waiting == mark(1)
    stream.close()
    feed.publish(mark(2))
    assert [event async for event in stream] == []


async def test_a_stream_that_nobody_holds_is_not_fed() -> None:
    feed = Feed(3)
    stream = feed.stream()
    assert len(feed._streams) == 1
    del stream
    gc.collect()
    assert len(feed._streams) == 0


async def test_a_task_that_fails_is_logged_and_none_outlives_its_owner(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        raise RuntimeError("a bug")

    async def lasts() -> None:
        await asyncio.get_running_loop().create_future()

    tasks = Tasks()
    tasks.spawn(fails(), "the failing one")
    tasks.spawn(lasts(), "the lasting one")
    await turns(2)
    assert "the failing one failed" in caplog.text
    await tasks.close()
    tasks.spawn(lasts(), "too late")
    assert not [task for task in asyncio.all_tasks() if task.get_name() in ("the lasting one", "too late")]


async def test_work_in_time_gives_its_result_its_failure_or_a_timeout_and_leaves_nothing() -> None:
    async def gives() -> int:
        await turns(1)
        return 7

    async def fails() -> int:
        raise KeyError("x")

    async def lasts() -> int:
        await asyncio.get_running_loop().create_future()
        return 0

    async def answers_when_told_to_stop() -> int:
        try:
            return await lasts()
        except asyncio.CancelledError:
            return 8

    clock, before = SystemClock(), asyncio.all_tasks()
    assert await within(clock, 5, gives()) == 7
    with pytest.raises(KeyError):
        await within(clock, 5, fails())
    with pytest.raises(TimeoutError):
        await within(clock, 0.01, lasts())
    # What was there at the last moment is not thrown away.
    assert await within(clock, 0.01, answers_when_told_to_stop()) == 8
    assert asyncio.all_tasks() == before
