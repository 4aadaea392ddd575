"""The committer before a log that hangs, goes away, and answers after the connection to it has died."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from gateway.clock import SystemClock
from gateway.fanout.publish import Publisher
from gateway.runtime import committer as committer_module
from gateway.runtime.committer import Committer, Outcome
from gateway.telemetry.metrics import Metrics
from store.errors import Unavailable
from store.types import Appended, Draft, Refused
from tests.waiting import turns, until

HURRY = 10


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the time."""
    for name in ("OVERDUE_S", "LOOK_S", "RETRY_FIRST_S", "RETRY_LAST_S"):
        monkeypatch.setattr(committer_module, name, getattr(committer_module, name) / HURRY)


def draft(name: str) -> Draft:
    return Draft(
        session="s", tenant="t", sender="a", id=f"id-{name}", client_id=name, role="user", content=name,
        metadata=b"{}", created_at=1,
    )  # fmt: skip


class Ledger:
    """A log and a bus: what was committed, what was published, in the order of both."""

    def __init__(self) -> None:
        self.committed: dict[str, Appended] = {}
        self.happened: list[str] = []
        self.is_away = False
        self.loses_answers = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = 0

    async def append(self, drafts: Sequence[Draft]) -> list[Appended | Refused]:
        self.asked += 1
        await turns()
        if self.is_away:
            raise Unavailable("away")
        await self.answering.wait()
        outcomes = [self._commit(each) for each in drafts]
        if self.loses_answers:
            self.loses_answers -= 1
            raise Unavailable("the connection died between COMMIT and its answer")
        return outcomes

    def _commit(self, each: Draft) -> Appended | Refused:
        known = self.committed.get(each.client_id)
        if known is not None:
            return Appended(seq=known.seq, id=known.id, created_at=1, duplicate=True)
        self.happened.append(f"commit {each.client_id}")
        made = Appended(seq=len(self.committed) + 1, id=each.id, created_at=1)
        self.committed[each.client_id] = made
        return made

    def message(self, session: str, seq: int, frame: bytes) -> None:
        name = next(name for name, made in self.committed.items() if made.seq == seq)
        self.happened.append(f"publish {name}")


class Desk:
    """A committer, and what its senders were told."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.committer = Committer(self.ledger, cast(Publisher, self.ledger), SystemClock(), Metrics())
        self.told: dict[str, list[Outcome]] = {}
        self.offered_at: dict[str, float] = {}
        self.waited_s: dict[str, float] = {}

    def send(self, name: str) -> None:
        self.offered_at[name] = time.monotonic()
        assert self.committer.offer(draft(name), self._hearing(name))

    def _hearing(self, name: str) -> Callable[[Outcome], None]:
        def hear(outcome: Outcome) -> None:
            self.told.setdefault(name, []).append(outcome)
            self.waited_s[name] = time.monotonic() - self.offered_at[name]
            self.ledger.happened.append(f"answer {name}")

        return hear

    async def answered(self, *names: str) -> None:
        await until(lambda: all(name in self.told for name in names), what=f"answers to {names}")


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    running = asyncio.create_task(made.committer.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_message_is_published_and_answered_after_its_commit_and_in_this_order() -> None:
    async with desk() as d:
        d.ledger.answering.clear()
        d.send("a")
        await turns(5)
        assert d.ledger.happened == []
        d.ledger.answering.set()
        await d.answered("a")
        assert d.ledger.happened == ["commit a", "publish a", "answer a"]


async def test_a_commit_whose_answer_was_lost_is_found_published_once_and_no_duplicate() -> None:
    async with desk() as d:
        d.ledger.loses_answers = 2
        d.send("a")
        d.send("b")
        await d.answered("a", "b")
        assert d.ledger.happened == [
            "commit a", "commit b", "publish a", "answer a", "publish b", "answer b"
        ]  # fmt: skip
        assert d.told["a"] == [Appended(seq=1, id="id-a", created_at=1, duplicate=False)]


async def test_a_log_that_is_away_for_a_moment_costs_a_moment_and_no_error() -> None:
    async with desk() as d:
        d.ledger.is_away = True
        d.send("a")
        await until(lambda: d.ledger.asked > 2)
        assert d.told == {}
        d.ledger.is_away = False
        await d.answered("a")
        assert isinstance(d.told["a"][0], Appended)


@pytest.mark.parametrize("how", ["away", "hanging"])
async def test_every_sender_is_answered_within_five_seconds(how: str) -> None:
    async with desk() as d:
        d.ledger.is_away = how == "away"
        d.ledger.answering.clear()
        for n in range(12):
            d.send(f"m{n}")
            await until(lambda n=n: time.monotonic() - d.offered_at["m0"] > n * 0.04)
        await d.answered(*(f"m{n}" for n in range(12)))
        assert all(outcomes == [None] for outcomes in d.told.values())
        assert max(d.waited_s.values()) < 5.0 / HURRY
        assert d.committer.waiting == 0


async def test_who_waits_behind_a_full_group_is_answered_in_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "GROUP_DRAFTS", 2)
    async with desk() as d:
        d.ledger.answering.clear()
        names = [f"m{n}" for n in range(40)]
        for name in names:
            d.send(name)
        await d.answered(*names)
        assert max(d.waited_s.values()) < 5.0 / HURRY


async def test_the_time_for_an_answer_leaves_room_for_a_late_look() -> None:
    assert HURRY * (committer_module.OVERDUE_S + 2 * committer_module.LOOK_S) < 5.0
    await turns()


async def test_a_group_that_nobody_waits_for_is_given_up_and_the_next_one_is_served() -> None:
    async with desk() as d:
        d.ledger.answering.clear()
        d.send("lost")
        await d.answered("lost")
        d.ledger.answering = asyncio.Event()  # the call that hangs is left behind
        d.ledger.answering.set()
        d.send("next")
        await d.answered("next")
        assert isinstance(d.told["next"][0], Appended)
        assert "lost" not in d.ledger.committed


async def test_a_commit_that_comes_after_its_answer_is_published_and_not_answered_again() -> None:
    async with desk() as d:
        d.ledger.answering.clear()
        d.send("first")
        await until(lambda: d.ledger.asked == 1)
        d.send("old")
        await until(lambda: time.monotonic() - d.offered_at["old"] > 0.25)
        d.send("young")
        first, d.ledger.answering = d.ledger.answering, asyncio.Event()
        first.set()
        await d.answered("old")  # in one group with the young one, which waits
        assert (d.told["old"], "young" in d.told) == ([None], False)
        d.ledger.answering.set()
        await d.answered("young")
        assert d.ledger.happened[-4:] == ["commit young", "publish old", "publish young", "answer young"]
        assert d.told["old"] == [None]


async def test_who_is_in_flight_when_the_committer_is_cancelled_is_told_to_send_again() -> None:
    async with desk() as d:
        d.ledger.answering.clear()
        d.send("a")
        await until(lambda: d.ledger.asked == 1)
    assert d.told == {"a": [None]}
