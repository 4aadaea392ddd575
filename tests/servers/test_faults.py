"""A fault does what it says to what it is told to, and nothing to anything else."""

from collections.abc import Sequence

import pytest

from loadtest.servers.faults import (
    Cut,
    CutAnswer,
    CutAt,
    CutRequest,
    DropLast,
    DropNext,
    DropSome,
    Fault,
    on_channel,
)
from loadtest.servers.wire import Direction, Unit
from tests.store.nodes import ManualClock

TO_CLIENT, TO_SERVER = Direction.TO_CLIENT, Direction.TO_SERVER
REPLY = Unit(b"+OK\r\n", "+")


def push(number: int, channel: bytes = b"room") -> Unit:
    return Unit(b"%d" % number, "message", channel)


def passed(fault: Fault, units: Sequence[Unit], connection: int = 1) -> list[Unit]:
    return [out for unit in units for out in fault.judge(unit, connection, TO_CLIENT)]


def test_a_share_of_the_pushes_is_lost_and_no_reply() -> None:
    fault = DropSome(0.2, seed=7)
    pushes = [push(number) for number in range(2000)]
    left = passed(fault, pushes)
    assert (fault.dropped, fault.passed) == (len(pushes) - len(left), len(left))
    assert 330 < fault.dropped < 470
    assert passed(fault, [REPLY] * 100) == [REPLY] * 100
    assert fault.judge(push(1), 1, TO_SERVER) == (push(1),)


def test_the_same_seed_loses_the_same_and_another_connection_has_other_losses() -> None:
    pushes = [push(number) for number in range(200)]
    first, again = DropSome(0.2, seed=7), DropSome(0.2, seed=7)
    # In whatever order the two connections are served.
    one, two = passed(first, pushes, 1), passed(first, pushes, 2)
    assert (passed(again, pushes, 2), passed(again, pushes, 1)) == (two, one)
    assert one != two
    assert passed(DropSome(0.2, seed=8), pushes, 1) != one


def test_only_the_channels_that_are_meant_lose_anything() -> None:
    fault = DropSome(1.0, match=on_channel(b"session:"))
    units = [push(1, b"p:session:{a}"), push(2, b"p:probe"), REPLY]
    assert passed(fault, units) == units[1:]


def test_the_next_ones_are_lost_and_those_after_pass() -> None:
    fault = DropNext(2)
    assert passed(fault, [REPLY, push(1), push(2), push(3)]) == [REPLY, push(3)]
    assert (fault.dropped, fault.left) == (2, 0)


def test_the_last_before_a_pause_is_lost_and_no_other() -> None:
    clock = ManualClock()
    fault = DropLast(0.2, clock=clock)
    burst = [push(1), push(2), push(3)]
    assert passed(fault, burst) == burst[:2]
    assert fault.lost == 0
    clock.now += 0.3
    assert fault.lost == 1
    # The next burst brings its own, and not what was lost.
    assert passed(fault, [push(4), push(5)]) == [push(4)]
    assert (fault.dropped, fault.passed) == (1, 3)


def test_each_channel_has_pauses_of_its_own() -> None:
    fault = DropLast(0.2, clock=lambda: 0.0)
    units = [push(1, b"a"), push(2, b"b"), push(3, b"a"), REPLY]
    assert passed(fault, units) == [push(1, b"a"), REPLY]


def test_a_request_is_cut_before_it_reaches_the_server() -> None:
    fault = CutRequest(lambda unit: b"INSERT" in unit.data)
    assert fault.judge(Unit(b"SELECT", "Q"), 1, TO_SERVER)
    with pytest.raises(Cut):
        fault.judge(Unit(b"INSERT", "Q"), 1, TO_SERVER)
    assert fault.judge(Unit(b"INSERT", "Q"), 2, TO_SERVER)


def test_an_answer_is_cut_when_all_of_it_is_there_and_none_has_passed() -> None:
    fault = CutAnswer(lambda unit: b"INSERT" in unit.data)
    request = Unit(b"INSERT", "Q")
    assert fault.judge(request, 1, TO_SERVER) == (request,)
    # Another connection is not concerned.
    ready, complete = Unit(b"Z", "Z"), Unit(b"C", "C", b"INSERT 0 1")
    assert fault.judge(complete, 2, TO_CLIENT) == (complete,)
    assert fault.judge(ready, 2, TO_CLIENT) == (ready,)
    assert fault.judge(complete, 1, TO_CLIENT) == ()
    with pytest.raises(Cut):
        fault.judge(ready, 1, TO_CLIENT)
    assert fault.judge(request, 3, TO_SERVER) == (request,)
    assert fault.judge(ready, 3, TO_CLIENT) == (ready,)
    assert fault.cuts == 1


def test_a_connection_is_cut_at_what_passes() -> None:
    fault = CutAt(lambda unit: unit.detail == b"COMMIT")
    commit = Unit(b"C", "C", b"COMMIT")
    assert fault.judge(Unit(b"C", "C", b"BEGIN"), 1, TO_CLIENT)
    assert fault.judge(commit, 1, TO_SERVER)
    with pytest.raises(Cut):
        fault.judge(commit, 1, TO_CLIENT)
    assert fault.judge(commit, 1, TO_CLIENT)
