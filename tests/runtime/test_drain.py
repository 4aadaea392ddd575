"""The course of a drain, in no time: a node and clients that are nothing but what a drain sees of them."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import structlog

from gateway.protocol.close import CloseCode
from gateway.protocol.peer import State
from gateway.runtime.connection import Connection
from gateway.runtime.drain import (
    ASKED_SHARE,
    BATCH_S,
    CALM_PER_S,
    GONE_S,
    LEAD_S,
    Drain,
    asked_by,
    batch,
    pause,
    slots,
)
from gateway.runtime.node import Node, NodeSettings
from store.errors import Unavailable
from store.types import NodeEntry
from tests.waiting import turns


class Someone:
    """A connection: moves `moves_in` seconds after its slot, or never."""

    def __init__(self, world: "Leaving", moves_in: float | None = None, state: State = State.OPEN) -> None:
        self.id = f"c{len(world.everybody)}"
        self.peer = self
        self.state = state
        self.is_over = False
        self.is_handed_over = False
        self.asked: list[tuple[float, int, int]] = []  # when, its slot, the deadline
        self.closed: tuple[float, int] | None = None
        self._world = world
        self._moves_in = moves_in

    def ask_to_move(self, reason: str, slot_ms: int, deadline_ms: int) -> None:
        assert reason == "drain"
        now = self._world.now
        self.asked.append((now, slot_ms, deadline_ms))
        self.state = State.DRAINING
        if self._moves_in is not None:
            self._world.at(now + slot_ms / 1000 + self._moves_in, lambda: self.go(1000))

    def go(self, code: int) -> None:
        """Be gone."""
        if self._world.connections.pop(self.id, None) is not None:
            self.is_over = True
            self._world.drain.departed(cast(Connection, self), code)

    def hang(self, code: CloseCode, reason: str) -> None:
        self.is_over = True
        self.closed = (self._world.now, int(code))


class Leaving:
    """A node as its drain sees it, in a time of its own. `flushed`: when what was in flight was answered."""

    def __init__(self, window_s: float = 30.0, others: tuple[str, ...] = ("n2",)) -> None:
        self.settings = NodeSettings(node_id="n1", drain_s=window_s)
        self.id = "n1"
        self.now = 1000.0
        self.clock = self.live = self.lease = self
        self.connections: dict[str, Any] = {}
        self.everybody: list[Someone] = []
        self.others = others
        self.register_is_away = False
        self.leaving: set[str] = set()  # of the others
        self.flushed: float | None = None
        self.flushing: asyncio.Event | None = None
        self._todo: list[tuple[float, Callable[[], None]]] = []
        self.drain = Drain(cast(Node, self), self.pause)

    def monotonic(self) -> float:
        return self.now

    async def nodes(self) -> list[NodeEntry]:
        await turns(1)
        if self.register_is_away:
            raise Unavailable("away")
        return [
            NodeEntry(id=name, url=None, started_at=0, is_leaving=name in self.leaving)
            for name in self.others
        ]

    async def renew(self) -> None:
        await turns(1)
        if self.register_is_away:
            raise Unavailable("away")
        self.leaving |= {self.id}

    async def flush(self, within_s: float) -> None:
        assert within_s < 6
        if self.flushing is not None:
            await self.flushing.wait()
        self.flushed = self.now

    def add(self, count: int = 1, moves_in: float | None = None, state: State = State.OPEN) -> list[Someone]:
        added = []
        for _ in range(count):
            someone = Someone(self, moves_in, state)
            self.everybody.append(someone)
            self.connections[someone.id] = someone
            added.append(someone)
        return added

    def at(self, moment: float, act: Callable[[], None]) -> None:
        self._todo.append((moment, act))

    async def pause(self, woken: asyncio.Event, seconds: float) -> None:
        """Let the time pass up to the end of the pause, or to what wakes."""
        assert 0 < seconds <= max(BATCH_S, LEAD_S)
        end = self.now + seconds
        while not woken.is_set():
            due = min((each for each in self._todo if each[0] <= end), key=lambda each: each[0], default=None)
            if due is None:
                break
            self._todo.remove(due)
            self.now = max(self.now, due[0])
            due[1]()
        if not woken.is_set():
            self.now = end
        await turns(1)

    async def over(self) -> None:
        await asyncio.wait_for(self.drain.finish(), 10)

    @property
    def counts(self) -> tuple[int, int, int]:
        told = self.drain.progress
        return told.moved, told.closed, told.left


# -- the plan


@pytest.mark.parametrize("window_s", [0.5, 3.0, 30.0, 900.0])
@pytest.mark.parametrize("clients", [1, 10, 300, 100_000])
def test_everybody_is_asked_in_time_to_move_and_few_do_not_wait_for_the_windows_sake(
    window_s: float, clients: int
) -> None:
    first, last = asked_by(100.0, window_s, clients)
    assert 100.0 <= first <= last <= 100.0 + ASKED_SHARE * window_s + 1e-9
    assert first <= 100.0 + LEAD_S
    assert last - first <= clients / CALM_PER_S + 1e-9


def test_batches_are_even_and_leave_nobody_out() -> None:
    left, now, sizes = 1000, 0.0, []
    while left:
        sizes.append(min(left, batch(left, now, 10.0)))
        left -= sizes[-1]
        now += BATCH_S
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == 10.0 / BATCH_S
    assert batch(7, 10.0, 10.0) == batch(7, 99.0, 10.0) == 7


def test_each_of_a_batch_has_a_slot_of_its_own() -> None:
    given = slots(50)
    assert given == sorted(given)
    assert [slot // 5 for slot in given] == list(range(50))
    assert slots(0) == []


# -- its course


async def test_clients_are_asked_over_the_window_and_who_ignores_it_is_closed_at_the_told_deadline() -> None:
    node = Leaving(30.0)
    ignoring = node.add(1000)
    begun = node.now
    await node.over()
    moments = sorted(someone.asked[0][0] + someone.asked[0][1] / 1000 for someone in ignoring)
    assert begun + LEAD_S <= moments[0]
    assert begun + 20 <= moments[-1] <= begun + 30 * ASKED_SHARE + BATCH_S
    per_second = [sum(at <= moment < at + 1 for moment in moments) for at in range(1002, 1020)]
    assert max(per_second) <= 1.3 * min(per_second)
    for someone in ignoring:
        ((asked_at, slot_ms, deadline_ms),) = someone.asked
        assert asked_at + deadline_ms / 1000 == pytest.approx(begun + 30, abs=0.002)
        assert slot_ms < deadline_ms
        assert someone.closed == (begun + 30, 4000)
    assert node.flushed == begun + 30, "served in full until then"
    assert node.counts == (0, 1000, 0)


async def test_a_drain_that_has_moved_everybody_ends_at_once() -> None:
    node = Leaving(30.0)
    node.add(100, moves_in=0.3)
    begun = node.now
    await node.over()
    assert node.now - begun < LEAD_S + 100 / CALM_PER_S + 1
    assert node.counts == (100, 0, 0)
    told = node.drain.progress
    assert (told.phase, told.connections, told.asked) == ("drained", 0, 100)
    assert told.seconds == pytest.approx(node.now - begun, abs=0.01)


async def test_who_goes_unasked_or_is_lost_has_not_moved() -> None:
    node = Leaving(30.0)
    early, lost, moved, _ = node.add(4)
    node.at(node.now + 0.5, lambda: early.go(1000))
    node.at(node.now + 5, lambda: lost.go(1006))

    def hand_over() -> None:
        moved.is_handed_over = True
        moved.go(1006)

    node.at(node.now + 6, hand_over)
    await node.over()
    assert node.counts == (1, 1, 2)


@pytest.mark.parametrize(("window_s", "others"), [(30.0, ("n1",)), (0.0, ("n1", "n2"))])
async def test_with_nowhere_to_move_to_nobody_is_asked_and_nobody_waited_for(
    window_s: float, others: tuple[str, ...]
) -> None:
    node = Leaving(window_s, others)
    (someone,) = node.add()
    begun = node.now
    await node.over()
    assert someone.asked == []
    assert someone.closed == (begun, 4000)


async def test_nodes_that_all_leave_do_not_wait_for_each_other() -> None:
    node = Leaving(30.0, ("n1", "n2", "n3"))
    (someone,) = node.add()
    node.leaving.add("n2")
    begun = node.now
    node.at(begun + 0.9, lambda: node.leaving.add("n3"))
    await node.over()
    assert someone.asked == []
    assert node.now < begun + 2.0
    assert someone.closed == (node.now, 4000)


async def test_the_last_other_node_that_leaves_ends_the_waiting_for_who_was_asked() -> None:
    node = Leaving(30.0, ("n1", "n2"))
    (someone,) = node.add()
    node.at(node.now + 10, lambda: node.leaving.add("n2"))
    begun = node.now
    await node.over()
    assert someone.asked
    assert begun + 10 <= node.now < begun + 11


@pytest.mark.parametrize("others", [None, (), ("n1", "n2"), ("n2",)])
async def test_a_register_that_is_away_or_knows_nothing_does_not_make_a_node_alone(
    others: tuple[str, ...] | None,
) -> None:
    node = Leaving(30.0, others or ())
    node.register_is_away = others is None
    (someone,) = node.add(moves_in=0.1)
    await node.over()
    assert someone.asked
    assert node.counts == (1, 0, 0)


@pytest.mark.parametrize("then", [None, (), ("n1", "n2")])
async def test_a_register_that_has_lost_its_data_does_not_make_a_node_alone(
    then: tuple[str, ...] | None,
) -> None:
    """After a FLUSHALL who renews first is the only one in it, until the others do. Or it goes away first."""
    node = Leaving(30.0, ("n1", "n2"))
    (someone,) = node.add()
    begun = node.now

    def turns_out() -> None:
        node.others, node.register_is_away = then or (), then is None

    def comes_back() -> None:
        node.others, node.register_is_away = ("n1",), False

    def is_whole() -> None:
        node.others = ("n1", "n2")

    node.at(begun + 1.0, comes_back)
    node.at(begun + 3.0, turns_out)
    node.at(begun + 20.0, comes_back)
    node.at(begun + 22.5, is_whole)
    await node.over()
    assert someone.closed == (begun + 30.0, 4000)


async def test_who_has_gone_from_the_register_without_a_word_is_gone_when_a_renewal_would_have_come() -> None:
    node = Leaving(30.0, ("n1", "n2"))
    (someone,) = node.add()
    begun = node.now

    def dies() -> None:
        node.others = ("n1",)

    node.at(begun + 10.0, dies)
    await node.over()
    assert begun + 10.0 + GONE_S <= node.now <= begun + 11.0 + GONE_S
    assert someone.closed == (node.now, 4000)


async def test_an_empty_node_is_gone_at_once() -> None:
    node = Leaving(30.0)
    begun = node.now
    await node.over()
    assert (node.now, node.flushed) == (begun, begun)


async def test_who_has_not_said_hello_is_sent_away_and_who_has_is_let_in_and_asked_then() -> None:
    node = Leaving(30.0)
    (silent,) = node.add(state=State.OPENING)
    (greeting,) = node.add(moves_in=0.1, state=State.AUTHENTICATING)
    begun = node.now

    def welcome() -> None:
        assert greeting.asked == []
        greeting.state = State.OPEN

    node.at(begun + 8, welcome)
    await node.over()
    assert silent.closed == (begun, 4000)
    assert silent.asked == []
    assert greeting.closed is None
    assert begun + 8 <= greeting.asked[0][0] <= begun + 8 + BATCH_S
    assert node.now < begun + 9


async def test_who_was_asked_to_move_before_for_its_age_is_told_the_nearer_deadline() -> None:
    node = Leaving(30.0)
    (old,) = node.add(moves_in=0.1, state=State.DRAINING)
    await node.over()
    assert len(old.asked) == 1


@pytest.mark.parametrize("after_s", [0.0, 1.0, 2.0, 10.0, 25.0])
async def test_hurried_it_waits_for_no_client_and_answers_what_is_in_flight(after_s: float) -> None:
    node = Leaving(30.0)
    everybody = node.add(500)
    begun = node.now
    node.at(begun + after_s, node.drain.hurry)
    await node.over()
    assert node.flushed == begun + after_s
    assert all(someone.closed == (begun + after_s, 4000) for someone in everybody)


async def test_hurried_while_it_answers_it_still_answers() -> None:
    node = Leaving(0.0)
    (someone,) = node.add()
    node.flushing = asyncio.Event()
    node.drain.begin()
    await turns(5)
    node.drain.hurry()
    await turns(5)
    assert someone.closed is None
    node.flushing.set()
    await node.over()
    assert node.flushed is not None
    assert someone.closed is not None


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
async def test_cut_short_at_any_step_it_closes_everybody_with_4000_and_is_over(steps: int) -> None:
    node = Leaving(30.0)
    everybody = [*node.add(20), *node.add(state=State.AUTHENTICATING)]
    finishing = asyncio.create_task(node.drain.finish())
    await turns(steps)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    assert [someone.closed and someone.closed[1] for someone in everybody] == [4000] * 21
    assert node.drain.progress.phase == "drained"
    assert node.flushed is None


async def test_begun_before_its_first_step_and_stopped_it_closes_everybody_all_the_same() -> None:
    node = Leaving(30.0)
    (someone,) = node.add()
    node.drain.begin()
    await node.drain.stop()
    assert someone.closed is not None
    assert node.drain.progress.phase == "drained"


async def test_a_bug_in_it_closes_everybody_all_the_same() -> None:
    node = Leaving(30.0)
    (someone,) = node.add()

    async def broken() -> list[NodeEntry]:
        await turns(1)
        raise RuntimeError("a bug")

    node.nodes = broken  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as lines:
        await node.over()
    assert someone.closed is not None
    assert [line["event"] for line in lines] == ["drain_begun", "drain_failed", "drain_ended"]


async def test_begun_twice_it_is_one_drain() -> None:
    node = Leaving(30.0)
    node.add(10, moves_in=0.1)
    assert node.drain.progress.phase == "serving"
    assert not node.drain.has_begun
    node.drain.begin()
    node.drain.begin()
    assert node.drain.has_begun
    await asyncio.gather(node.over(), node.over())
    assert all(len(someone.asked) == 1 for someone in node.everybody)
    await node.over()
    await node.drain.stop()


async def test_nothing_is_counted_of_a_node_that_serves() -> None:
    node = Leaving(30.0)
    node.add()[0].go(1000)
    assert node.counts == (0, 0, 0)
    await turns(1)


async def test_a_pause_ends_when_its_time_is_over_or_it_is_woken() -> None:
    woken = asyncio.Event()
    await pause(woken, 0.001)
    woken.set()
    await asyncio.wait_for(pause(woken, 60), 1)
