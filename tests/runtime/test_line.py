"""A line lets in at a flat rate, whoever comes, and whatever they do when they are put off."""

import heapq
import itertools
import math
from bisect import bisect_right
from collections.abc import Callable
from random import Random

import pytest

from gateway.runtime.line import HOLD_S, Line

# What clients add to what they are told.
JITTER_S = 0.25


class Time:
    """Runs what is due, in order."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now = 100.0
        self.late_s = late_s  # for those who only asked to be called later
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._count), do))

    def later_still(self, seconds: float, do: Callable[[], None]) -> None:
        self.later(seconds + self.late_s, do)

    def run(self, until: float = math.inf) -> None:
        while self._due and self._due[0][0] <= until:
            self.now, _, do = heapq.heappop(self._due)
            do()


class Crowd:
    """Clients of some nodes, each of them until it is in."""

    def __init__(self, nodes: int, per_s: int, *, is_whole: bool, seed: int = 1) -> None:
        self.time = Time()
        self.lines = [Line(per_s, 30.0, self.time.monotonic, self.time.later_still) for _ in range(nodes)]
        self.entered: list[list[float]] = [[] for _ in range(nodes)]  # when, by node
        self.told: list[float] = []
        self.tries: list[int] = []  # of each who is in
        self.in_at: list[float] = []
        self._is_whole = is_whole
        self._chance = Random(seed)  # noqa: S311 - who comes when

    def come(self, count: int, within_s: float = 0.05) -> None:
        for _ in range(count):
            self.time.later(self._chance.uniform(0, within_s), lambda: self._try(1))

    def hammer(self, count: int, every_s: float) -> None:
        """Clients that come again at once, whatever they are told."""
        for _ in range(count):
            self.time.later(self._chance.uniform(0, 0.05), lambda: self._knock(every_s))

    def _knock(self, every_s: float) -> None:
        node = self._chance.randrange(len(self.lines))
        if self.lines[node].join(lambda: self._enter(node)) is not None:
            self.time.later(every_s, lambda: self._knock(every_s))

    def _try(self, tries: int) -> None:
        node = self._chance.randrange(len(self.lines))
        told = self.lines[node].join(lambda: self._enter(node, tries))
        if told is None:
            return
        told = math.ceil(told) if self._is_whole else told
        self.told.append(told)
        self.time.later(told + self._chance.uniform(0, JITTER_S), lambda: self._try(tries + 1))

    def _enter(self, node: int, tries: int | None = None) -> bool:
        self.entered[node].append(self.time.now)
        if tries is not None:
            self.tries.append(tries)
            self.in_at.append(self.time.now)
        return True


def most_in_a_second(times: list[float]) -> int:
    """The most in any second, wherever it begins."""
    return max(bisect_right(times, at + 1 - 1e-6) - n for n, at in enumerate(times))


def least_in_a_second(times: list[float]) -> int:
    """The least in a second that follows another, up to the last whole one."""
    begun = times[0]
    seconds = [int(at - begun) for at in times]
    return min((seconds.count(second) for second in range(seconds[-1])), default=len(times))


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole seconds", "milliseconds"])
@pytest.mark.parametrize(
    ("nodes", "per_s", "count"), [(1, 500, 5000), (3, 500, 5000), (3, 20, 200), (1, 3, 20), (1, 1, 6)]
)
def test_a_storm_is_let_in_at_the_rate_and_no_second_is_idle(
    nodes: int, per_s: int, count: int, is_whole: bool
) -> None:
    crowd = Crowd(nodes, per_s, is_whole=is_whole)
    crowd.come(count)
    crowd.time.run()
    assert sum(map(len, crowd.entered)) == count
    for times in crowd.entered:
        assert most_in_a_second(times) <= per_s
    together = sorted(at for times in crowd.entered for at in times)
    # The first of all could be the last in the queue of a node that is done before the others.
    busy = [at for at in together if at < min(times[-1] for times in crowd.entered)]
    assert least_in_a_second(busy) >= 0.7 * nodes * per_s
    # Who obeys finds room: hardly anybody is put off twice.
    assert sum(crowd.tries) <= 2.3 * count


def test_a_node_whose_loop_is_always_late_lets_in_at_its_rate_all_the_same() -> None:
    crowd = Crowd(1, 500, is_whole=True)
    crowd.time.late_s = 0.2
    crowd.come(3000)
    crowd.time.run()
    assert most_in_a_second(crowd.entered[0]) <= 500
    assert least_in_a_second(crowd.entered[0]) >= 0.7 * 500


def test_who_comes_at_the_rate_never_waits_for_long() -> None:
    crowd = Crowd(1, 100, is_whole=True)
    crowd.come(1900, within_s=20.0)
    crowd.time.run()
    assert len(crowd.entered[0]) == 1900
    assert not crowd.told


def test_a_burst_is_let_in_evenly() -> None:
    crowd = Crowd(1, 500, is_whole=True)
    crowd.come(500, within_s=0.001)
    crowd.time.run(until=100.1)
    # 26 at once, and then one every two milliseconds: a node's loop goes on with others between.
    assert 26 + 40 <= len(crowd.entered[0]) <= 26 + 50


def test_nobody_is_put_off_for_longer_than_the_horizon() -> None:
    time = Time()
    line = Line(10, 5.0, time.monotonic, time.later)
    told = [line.join(lambda: True) for _ in range(10_000)]
    waits = [wait for wait in told if wait is not None]
    assert max(waits) <= 5.0
    # Whoever comes last of ten thousand has the same chance as all others: not all at the end of it.
    assert min(waits[-1000:]) < 1.0
    assert line.waiting == math.ceil(10 * HOLD_S)


def test_who_leaves_the_line_costs_nobody_a_place() -> None:
    time = Time()
    line = Line(1, 5.0, time.monotonic, time.later)
    entered: list[float] = []

    def enter() -> bool:
        entered.append(time.now)
        return True

    line.join(enter)
    line.join(lambda: False)
    # Two have room beside the first, who is in.
    assert line.join(enter) is None
    time.run()
    assert entered == [100.0, pytest.approx(101.0)]
    assert (line.admitted, line.waiting) == (2, 0)


def test_who_ignores_the_time_does_not_keep_out_who_obeys_it() -> None:
    crowd = Crowd(1, 100, is_whole=True)
    crowd.hammer(1000, every_s=0.02)
    crowd.come(300)
    crowd.time.run(until=400)
    assert most_in_a_second(crowd.entered[0]) <= 100
    assert len(crowd.in_at) == 300
    # As soon as those who knock are in, 10 s for a thousand of them, and one horizon later at the latest.
    assert max(crowd.in_at) - 100.0 <= (1000 + 300) / 95 + 31


def test_a_line_made_longer_by_nobody_is_forgotten() -> None:
    crowd = Crowd(1, 10, is_whole=True)
    for _ in range(10_000):
        crowd.lines[0].postpone()
    # Places that were promised to people who never come are there for those who do.
    crowd.come(15)
    crowd.time.run()
    assert max(crowd.in_at) - 100.0 <= 2.0
    assert not crowd.told


def test_whoever_fails_when_let_in_keeps_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    time = Time()
    line = Line(10, 30.0, time.monotonic, time.later)
    entered: list[int] = []

    def enter(number: int) -> bool:
        entered.append(number)
        if number == 1:
            raise RuntimeError("a bug")
        return True

    for number in range(3):
        line.join(lambda number=number: enter(number))  # type: ignore[misc]
    time.run()
    assert entered == [0, 1, 2]
    assert [record.exc_info is not None for record in caplog.records] == [True]
