"""Degraded modes: entered by two misses, left by one answer, told once each way, and no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.runtime import health as health_module
from gateway.runtime import tasks as tasks_module
from gateway.runtime.health import Health, Mode
from gateway.runtime.tasks import Tasks
from store.bus import Bus, BusState
from store.errors import Unavailable
from store.live import Live
from store.log import Log
from tests.waiting import later, turns, until


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROBE_S", "LIVE_LIMIT_S", "LOG_LIMIT_S"):
        monkeypatch.setattr(health_module, name, getattr(health_module, name) / 20)


class Answering:
    """A store as its health sees it."""

    def __init__(self) -> None:
        self.asked = 0
        self.misses = 0  # how many of the next probes are not answered
        self.is_away = False
        self.answering = asyncio.Event()
        self.answering.set()
        self.state: BusState = "up"
        self.gaps = 0

    async def ping(self) -> None:
        self.asked += 1
        await turns()
        if self.misses:
            self.misses -= 1
            raise Unavailable("missed")
        if self.is_away:
            raise Unavailable("away")
        await self.answering.wait()


class Patient:
    """A node's health with its stores."""

    def __init__(self) -> None:
        self.log, self.live, self.bus = Answering(), Answering(), Answering()
        self.changes = 0
        self.health = Health(
            cast(Log, self.log), cast(Live, self.live), cast(Bus, self.bus), SystemClock(), self._changed
        )

    def _changed(self) -> None:
        self.changes += 1

    async def probed(self, store: Answering, times: int) -> None:
        """Wait until a store was asked so many times more, and the last answer was taken in."""
        asked = store.asked + times
        await until(lambda: store.asked >= asked)
        await turns(5)


@asynccontextmanager
async def patient() -> AsyncIterator[Patient]:
    made = Patient()
    tasks = Tasks(lambda: False)
    tasks.keep("redis", made.health.watch_redis)
    tasks.keep("postgres", made.health.watch_postgres)
    try:
        yield made
    finally:
        await tasks.stop()


def told(lines: Any) -> list[tuple[str, str]]:
    return [(line["event"], line["mode"]) for line in lines if "mode" in line]


@pytest.mark.parametrize("how", ["away", "hanging"])
@pytest.mark.parametrize("mode", ["postgres_away", "redis_away"])
async def test_a_store_that_is_away_is_a_mode_with_one_line_each_way(mode: Mode, how: str) -> None:
    async with patient() as p:
        with capture_logs() as lines:
            store = p.log if mode == "postgres_away" else p.live
            await p.probed(store, 2)
            assert not p.health.is_in(mode)
            store.is_away = how == "away"
            store.answering.clear()
            await until(lambda: p.health.is_in(mode))
            await p.probed(store, 4)
            store.is_away = False
            store.answering.set()
            await until(lambda: not p.health.degraded)
            await p.probed(store, 3)
        assert told(lines) == [("degraded", mode), ("restored", mode)]
        entered, left = (line for line in lines if "mode" in line)
        assert (entered["log_level"], left["log_level"]) == ("warning", "info")
        assert entered["since"] == left["since"]
        assert left["lasted_s"] >= 0
        assert entered["means"]
        assert entered["reason"] == "away" if how == "away" else "no answer within" in entered["reason"]
        assert p.changes == 2


async def test_one_slow_answer_is_no_outage() -> None:
    async with patient() as p:
        with capture_logs() as lines:
            for _ in range(5):
                p.log.misses = p.live.misses = 1
                await p.probed(p.log, 3)
                await p.probed(p.live, 1)
        assert told(lines) == []
        assert p.changes == 0


async def test_a_log_that_commits_is_there_however_long_its_probe_waits() -> None:
    async with patient() as p:
        p.log.answering.clear()
        with capture_logs() as lines:
            for _ in range(4):
                await p.probed(p.log, 1)
                p.health.log_answered()
        assert told(lines) == []
        await until(lambda: p.health.is_in("postgres_away"))


async def test_a_store_that_hangs_does_not_keep_the_others_from_being_probed() -> None:
    async with patient() as p:
        p.log.answering.clear()
        p.live.is_away = True
        await until(lambda: p.health.is_in("redis_away"), within=0.4)
        p.live.is_away = False
        await until(lambda: not p.health.is_in("redis_away"), within=0.4)
        await until(lambda: p.health.is_in("postgres_away"))


async def test_a_deaf_bus_makes_the_node_unready_and_alone_and_an_absent_one_alone() -> None:
    async with patient() as p:
        assert (p.health.unready, p.health.is_alone) == (None, False)
        p.bus.state = "deaf"
        assert p.health.is_alone
        await until(lambda: p.health.degraded == ("bus_deaf",))
        assert "deaf" in (p.health.unready or "")
        p.bus.state = "up"
        await until(lambda: p.health.degraded == ())
        assert (p.health.unready, p.health.is_alone) == (None, False)
        p.bus.state = "away"
        await until(lambda: p.health.degraded == ("redis_away",))
        assert (p.health.unready, p.health.is_alone) == (None, True)


async def test_a_bus_that_is_cut_again_and_again_is_not_away() -> None:
    async with patient() as p:
        with capture_logs() as lines:
            p.bus.state = "away"  # whenever somebody looks
            for _ in range(6):
                p.bus.gaps += 1
                await p.probed(p.live, 1)
            assert p.health.is_alone
        assert told(lines) == []
        await until(lambda: p.health.degraded == ("redis_away",))


async def test_while_redis_answers_nobody_the_node_is_not_deaf_but_alone_and_ready() -> None:
    async with patient() as p:
        with capture_logs() as lines:
            p.live.is_away = True
            p.bus.state = "deaf"
            await until(lambda: p.health.degraded == ("redis_away",))
            await p.probed(p.live, 3)
            p.live.is_away = False
            await until(lambda: not p.health.degraded)
            p.bus.state = "up"  # a moment later
            await p.probed(p.live, 3)
        assert told(lines) == [("degraded", "redis_away"), ("restored", "redis_away")]


async def test_work_that_fails_because_a_store_is_away_is_counted_and_not_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks_module, "UNEXPLAINED_S", 0.1)
    tasks = Tasks(lambda: True)

    async def work() -> None:
        await turns()
        raise Unavailable("away")

    with capture_logs() as lines:
        tasks.every(0.005, "leases", work)
        await later(0.2)
        await tasks.stop()
    assert tasks.failures["leases"] > 5
    assert {line["log_level"] for line in lines} == {"debug"}


async def test_work_that_fails_in_two_outages_has_not_failed_all_the_time_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks_module, "UNEXPLAINED_S", 0.1)
    is_known = False
    tasks = Tasks(lambda: is_known)

    async def work() -> None:
        await turns()
        raise Unavailable("away")

    with capture_logs() as lines:
        tasks.every(0.005, "leases", work)
        for _ in range(3):
            is_known = True
            await later(0.1)
            is_known = False
            await later(0.05)
        await tasks.stop()
    assert {line["log_level"] for line in lines} == {"debug"}


async def test_work_that_fails_without_a_known_reason_is_told_once_each_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks_module, "UNEXPLAINED_S", 0.1)
    tasks = Tasks(lambda: False)
    may_not = True

    async def work() -> None:
        await turns()
        if may_not:
            raise Unavailable("no permission")

    with capture_logs() as lines:
        tasks.every(0.005, "leases", work)
        await later(0.25)
        may_not = False
        failed = tasks.failures["leases"]
        await later(0.1)
        await tasks.stop()
    assert tasks.failures["leases"] <= failed + 1
    loud = [(line["event"], line["task"]) for line in lines if line["log_level"] != "debug"]
    assert loud == [("task_failing", "leases"), ("task_recovered", "leases")]


async def test_nothing_is_begun_after_the_end() -> None:
    tasks = Tasks(lambda: False)
    begun = False

    async def work() -> None:
        nonlocal begun
        begun = True
        await turns()

    await tasks.stop()
    tasks.spawn(work())
    await turns(3)
    assert (len(tasks), begun) == (0, False)
