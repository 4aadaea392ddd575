"""The wheel by itself, and the deadlines of a connection that it keeps."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.deadlines import SLOT_S, Wheel
from tests.edge.peer import BINARY, CLOSE, PING, PONG, TEXT, client_frame
from tests.edge.serving import Served, Start
from tests.waiting import until


class Entry:
    """Is checked at the given times, one after the other."""

    def __init__(self, due: list[float]) -> None:
        self.filed = -1
        self.due = due
        self.checked: list[float] = []

    def check(self, now: float) -> float:
        self.checked.append(now)
        return self.due.pop(0) if self.due else inf


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _turn(wheel: Wheel, time: Time, seconds: float, step: float = 0.1) -> None:
    until_ = time.now + seconds
    while time.now < until_:
        time.now += step
        wheel.turn()


@given(st.lists(st.floats(0.0, 200.0), min_size=1, max_size=20), st.floats(0.01, 3.0))
def test_no_check_comes_early_or_much_too_late(delays: list[float], step: float) -> None:
    time = Time()
    wheel = Wheel(time)
    entries = [Entry([]) for _ in delays]
    for entry, delay in zip(entries, delays, strict=True):
        wheel.add(entry, 1000.0 + delay)
    _turn(wheel, time, 205.0, step)
    for entry, delay in zip(entries, delays, strict=True):
        # What lies beyond the wheel's horizon is looked at on the way.
        assert entry.checked, delay
        first = entry.checked[0]
        assert first >= 1000.0 + min(delay, 63.0)
        assert first <= 1000.0 + delay + SLOT_S + step


@given(st.data())
def test_of_many_filings_only_the_last_counts(data: st.DataObject) -> None:
    time = Time()
    wheel = Wheel(time)
    entry = Entry([])
    due = inf
    for _ in range(data.draw(st.integers(1, 10))):
        if due <= time.now + SLOT_S:
            break
        due = time.now + data.draw(st.floats(0.0, 60.0))
        wheel.add(entry, due)
        _turn(wheel, time, data.draw(st.floats(0.0, 10.0)))
        if entry.checked:
            break
    _turn(wheel, time, 70.0)
    assert len(entry.checked) == 1
    assert due <= entry.checked[0] <= due + SLOT_S + 0.11


def test_hasten_brings_a_check_nearer_and_never_puts_it_off() -> None:
    time = Time()
    wheel = Wheel(time)
    entry = Entry([])
    wheel.add(entry, 1030.0)
    wheel.hasten(entry, 1050.0)
    wheel.hasten(entry, 1010.0)
    wheel.hasten(entry, 1020.0)
    _turn(wheel, time, 100.0)
    assert [int(at) for at in entry.checked] == [1010]


def test_an_entry_comes_back_as_often_as_it_wants() -> None:
    time = Time()
    wheel = Wheel(time)
    entry = Entry([1002.0, 1003.0, 1100.0])
    wheel.add(entry, 1001.0)
    _turn(wheel, time, 150.0)
    assert len(entry.checked) >= 4
    assert wheel.filed == 0


def test_an_entry_that_files_itself_while_it_is_checked_is_filed_once() -> None:
    time = Time()
    wheel = Wheel(time)

    class Eager(Entry):
        def check(self, now: float) -> float:
            wheel.hasten(self, now + 1.0)
            return super().check(now)

    entry = Eager([1050.0])
    wheel.add(entry, 1001.0)
    _turn(wheel, time, 1.6)
    assert wheel.filed == 1


def test_a_machine_that_slept_for_an_hour_checks_everything_once() -> None:
    time = Time()
    wheel = Wheel(time)
    entries = [Entry([]) for _ in range(100)]
    for n, entry in enumerate(entries):
        wheel.add(entry, 1000.0 + n)
    time.now += 3600.0
    wheel.turn()
    assert [len(entry.checked) for entry in entries] == [1] * 100


def test_a_check_that_fails_keeps_nobody_else_from_theirs(caplog: pytest.LogCaptureFixture) -> None:
    time = Time()
    wheel = Wheel(time)

    class Broken(Entry):
        def check(self, now: float) -> float:
            raise ZeroDivisionError

    good = Entry([])
    wheel.add(Broken([]), 1001.0)
    wheel.add(good, 1001.0)
    _turn(wheel, time, 2.0)
    assert len(good.checked) == 1
    assert len(caplog.records) == 1


def test_of_what_is_filed_in_a_check_and_what_it_returns_the_nearer_counts() -> None:
    time = Time()
    wheel = Wheel(time)

    class Moving(Entry):
        def check(self, now: float) -> float:
            if not self.checked:
                wheel.hasten(self, now + 30.0)
            super().check(now)
            return now + 3.0

    entry = Moving([])
    wheel.add(entry, 1001.0)
    _turn(wheel, time, 8.0)
    assert entry.checked[1] < 1006.0


# -- of a connection


async def test_the_handlers_deadline_is_kept(serve: Start) -> None:
    served = await serve(ping_s=1e9)
    _, handler = await served.pair()
    assert handler.checks == 1, "asked right after on_open"
    handler.due = served.clock.monotonic() + 38.0
    handler.outlet.hasten(handler.due)
    served.pass_time(37.5)
    assert handler.checks == 1
    served.pass_time(1.0)
    assert handler.checks > 1


async def test_a_deadline_that_moves_away_does_not_put_a_check_off(serve: Start) -> None:
    served = await serve(ping_s=1e9)
    _, handler = await served.pair()
    start = served.clock.monotonic()
    handler.due = start + 10.0
    handler.outlet.hasten(start + 10.0)
    handler.outlet.hasten(start + 30.0)
    served.pass_time(10.5)
    assert handler.checks > 1


async def test_what_the_handler_closes_for_counts_before_silence(served: Served) -> None:
    peer, handler = await served.pair()

    def resync(now: float) -> float:
        handler.outlet.close(4003, "this process has slept")
        return inf

    setattr(handler, "check", resync)  # noqa: B010
    served.pass_time(70.0)
    while (frame := await peer.frame())[0] == PING:
        pass
    assert frame[1][:2] == (4003).to_bytes(2)
    assert served.edge.counters.silents == 0


async def test_a_deadline_of_a_connection_that_is_closing_is_not_kept(served: Served) -> None:
    _, handler = await served.pair()
    handler.outlet.close(1000, "done")
    checks = handler.checks
    handler.outlet.hasten(served.clock.monotonic() + 1.0)
    served.pass_time(2.0)
    assert handler.checks == checks


async def test_who_is_silent_for_sixty_seconds_is_closed_with_4002(served: Served) -> None:
    peer, handler = await served.pair()
    for _ in range(5):
        served.pass_time(11.0)
    assert not served.edge.counters.silents
    for _ in range(2):
        served.pass_time(3.0)
    seen = [await peer.frame()]
    while seen[-1][0] == PING:
        seen.append(await peer.frame())
    assert seen[-1] == (CLOSE, (4002).to_bytes(2) + b"silent")
    assert served.edge.counters.silents > 0
    await peer.leave()
    await until(lambda: handler.closed == [4002])


@pytest.mark.parametrize(
    "life", [client_frame(TEXT, b"x"), client_frame(PONG, b"rtt"), client_frame(PING), client_frame(BINARY)]
)
async def test_any_frame_counts_as_life(served: Served, life: bytes) -> None:
    peer, handler = await served.pair()
    for _ in range(4):
        peer.send(life)
        await served.settle()
        served.pass_time(30.0)
        served.pass_time(25.0)
    assert served.edge.counters.silents == 0
    assert not handler.closed


async def test_who_has_been_silent_is_asked_for_a_sign_of_life_before_it_is_closed(serve: Start) -> None:
    served = await serve(ping_s=1e9)
    peer, handler = await served.pair()
    for _ in range(3):
        served.pass_time(54.5)
        assert await peer.frame() == (PING, b"rtt")
        peer.send(client_frame(PONG, b"rtt"))
        await until(lambda: len(handler.rtts) == 1)
        handler.rtts.clear()
    assert served.edge.counters.silents == 0


async def test_nobody_is_closed_as_silent_who_was_not_asked(serve: Start) -> None:
    served = await serve(ping_s=1e9)
    peer, handler = await served.pair()
    served.pass_time(53.5)
    served.pass_time(7.0)  # the loop was held up: both moments are over
    assert await peer.frame() == (PING, b"rtt")
    peer.send(client_frame(PONG, b"rtt"))
    await until(lambda: len(handler.rtts) == 1)
    served.pass_time(7.0)
    assert served.edge.counters.silents == 0
    served.pass_time(60.5)
    served.pass_time(6.5)
    assert served.edge.counters.silents == 1


async def test_round_trips_are_measured_by_pings_of_ours(serve: Start) -> None:
    served = await serve(ping_s=25.0)
    peer, handler = await served.pair()
    served.pass_time(25.5)
    assert await peer.frame() == (PING, b"rtt")
    served.clock.push(0.2)
    peer.send(client_frame(PONG, b"something else"), client_frame(PONG, b"rtt"))
    await until(lambda: len(handler.rtts) == 1)
    assert 200.0 <= handler.rtts[0] < 2000.0
    peer.send(client_frame(PONG, b"rtt"))
    await served.settle()
    assert len(handler.rtts) == 1, "one answer to one ping"


async def test_who_is_heard_is_pinged_only_to_measure(served: Served) -> None:
    peer, handler = await served.pair()
    handler.act = lambda data: None
    for _ in range(60):
        peer.send(client_frame(TEXT, b"x"))
        await until(lambda: len(handler.texts) == 1)
        handler.texts.clear()
        served.pass_time(5.0)
        await served.settle()
    peer.send(client_frame(PING, b"end"))
    pings = 0
    while (frame := await peer.frame())[0] == PING:
        assert frame == (PING, b"rtt")
        pings += 1
    # 300 s, and one ping in 125.
    assert 2 <= pings <= 3


async def test_our_pings_are_spread(serve: Start) -> None:
    served = await serve(ping_s=25.0)
    peers = [await served.connect() for _ in range(40)]
    served.pass_time(12.5)
    await served.settle()
    pinged = 0
    for peer in peers:
        peer.send(client_frame(PING, b"end"))
        opcode, _ = await peer.frame()
        pinged += opcode == PING
    assert 5 < pinged < 35


async def test_a_connection_that_is_over_leaves_the_wheel(served: Served) -> None:
    peer, handler = await served.pair()
    await peer.leave()
    await until(lambda: handler.closed == [1006])
    for _ in range(4):
        served.pass_time(20.0)
    assert served.edge.wheel.filed == 0
