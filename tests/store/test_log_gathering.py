"""Questions that are asked at the same time go together, and nobody suffers for another."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from store.errors import Unavailable
from store.log_postgres import gathering
from store.log_postgres.gathering import AT_ONCE, ROWS, Gathering
from tests.waiting import turns, until


class Source:
    """Answers with the question's double, when it may; fails when it is asked 1."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure: Exception | None = None

    async def fetch(self, questions: Sequence[int]) -> list[int]:
        self.groups.append(list(questions))
        await self.may_answer.wait()
        if self.failure is not None and 1 in questions:
            raise self.failure
        return [question * 2 for question in questions]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def gathered(source: Source) -> AsyncIterator[Gathering[int, int]]:
    gathering = Gathering(source.fetch, limit_s=5.0, rows=lambda question: question)
    yield gathering
    source.may_answer.set()
    await gathering.close()


def asked(gathered: Gathering[int, int], *questions: int) -> list["asyncio.Task[int]"]:
    return [asyncio.create_task(gathered.ask(question)) for question in questions]


async def test_a_question_that_is_alone_goes_at_once(gathered: Gathering[int, int], source: Source) -> None:
    assert await gathered.ask(4) == 8
    assert await gathered.ask(5) == 10
    assert source.groups == [[4], [5]]


async def test_what_is_asked_meanwhile_goes_together(gathered: Gathering[int, int], source: Source) -> None:
    source.may_answer.clear()
    first = asked(gathered, 1)
    await until(lambda: source.groups == [[1]])
    rest = asked(gathered, 2, 3, 4)
    await turns(3)
    assert source.groups == [[1]]
    source.may_answer.set()
    assert [await task for task in first + rest] == [2, 4, 6, 8]
    assert source.groups == [[1], [2, 3, 4]]


async def test_a_thousand_at_once_are_a_few_statements(source: Source) -> None:
    gathered = Gathering(source.fetch, limit_s=5.0)
    assert await asyncio.gather(*(gathered.ask(n) for n in range(1_000))) == [n * 2 for n in range(1_000)]
    assert [len(group) for group in source.groups] == [AT_ONCE, AT_ONCE, AT_ONCE, 1_000 - 3 * AT_ONCE]


async def test_no_statement_brings_more_rows_than_fit(gathered: Gathering[int, int], source: Source) -> None:
    half = ROWS // 2
    await asyncio.gather(*asked(gathered, half, half, half, ROWS * 5, 1, 1))
    assert source.groups == [[half, half], [half], [ROWS * 5], [1, 1]]


async def test_who_is_cancelled_disturbs_nobody(gathered: Gathering[int, int], source: Source) -> None:
    source.may_answer.clear()
    under_way = asked(gathered, 1, 2, 3)
    await until(lambda: bool(source.groups))
    waiting = asked(gathered, 4, 5, 6)
    await turns(2)
    for task in (under_way[1], waiting[0], waiting[2]):
        task.cancel()
    await turns(2)
    source.may_answer.set()
    outcomes = await asyncio.gather(*under_way, *waiting, return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [2, 6, 10]
    # Nobody is waiting for 4 and 6 any more: they are not asked.
    assert source.groups == [[1, 2, 3], [5]]


async def test_a_failure_is_told_to_all_of_its_group_and_to_no_other(
    gathered: Gathering[int, int], source: Source
) -> None:
    source.may_answer.clear()
    cause = OSError("cut")
    source.failure = Unavailable("away")
    source.failure.__cause__ = cause
    failing = asked(gathered, 1, 2)
    await until(lambda: bool(source.groups))
    later = asked(gathered, 3)
    source.may_answer.set()
    failures = await asyncio.gather(*failing, return_exceptions=True)
    assert [type(failure) for failure in failures] == [Unavailable, Unavailable]
    assert failures[0] is not failures[1]
    assert [getattr(failure, "__cause__", None) for failure in failures] == [cause, cause]
    assert await later[0] == 6


async def test_who_waits_too_long_is_told(source: Source) -> None:
    gathered = Gathering(source.fetch, limit_s=0.05)
    source.may_answer.clear()
    tasks = asked(gathered, 1, 2)
    await until(lambda: bool(source.groups))
    tasks += asked(gathered, 3)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    source.may_answer.set()
    assert await gathered.ask(4) == 8
    assert source.groups == [[1, 2], [4]]


async def test_more_than_may_wait_are_told_to_come_back(
    gathered: Gathering[int, int], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "WAITING", 3)
    source.may_answer.clear()
    tasks = asked(gathered, 1)
    await until(lambda: bool(source.groups))
    tasks += asked(gathered, 2, 3, 4, 5)
    await turns(3)
    with pytest.raises(Unavailable, match="3 questions of one kind wait"):
        await tasks[4]
    source.may_answer.set()
    assert [await task for task in tasks[:4]] == [2, 4, 6, 8]


async def test_closing_answers_everybody_first(gathered: Gathering[int, int], source: Source) -> None:
    source.may_answer.clear()
    tasks = asked(gathered, 1)
    await until(lambda: bool(source.groups))
    tasks += asked(gathered, 2)
    await turns(2)
    closing = asyncio.create_task(gathered.close())
    await turns(3)
    assert not closing.done()
    source.may_answer.set()
    await closing
    assert [await task for task in tasks] == [2, 4]
