"""One question at a time, by key; and whoever changed the answer may have it forgotten."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from store.flights import Flights
from tests.waiting import turns


class Question:
    """A load that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        self.asked += 1
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]


@pytest.fixture
async def flights() -> AsyncIterator[Flights]:
    made = Flights()
    yield made
    await made.close()


async def test_keys_are_asked_for_apart(flights: Flights) -> None:
    question = Question()
    calls = [asyncio.ensure_future(flights.run(("k", n), question)) for n in range(3)]
    await turns(2)
    for number, answer in enumerate(question.answers):
        answer.set_result(str(number))
    assert await asyncio.gather(*calls) == ["0", "1", "2"]


async def test_after_the_answer_the_next_one_asks_anew(flights: Flights) -> None:
    question = Question()
    for turn in range(2):
        call = asyncio.ensure_future(flights.run(("k",), question))
        await turns(2)
        question.answers[turn].set_result("x")
        await call
    assert question.asked == 2
    assert ("k",) not in flights


async def test_who_asks_after_forgetting_gets_a_later_answer_and_shares_it(flights: Flights) -> None:
    question = Question()
    before = asyncio.ensure_future(flights.run(("session", "t", "s", "alice"), question))
    await turns(2)
    flights.forget(("session", "t", "s"))
    after = asyncio.ensure_future(flights.run(("session", "t", "s", "alice"), question))
    await turns(2)
    # The old answer arrives; the new question stays the one to wait for.
    question.answers[0].set_result("old")
    assert await before == "old"
    joined = asyncio.ensure_future(flights.run(("session", "t", "s", "alice"), question))
    await turns(2)
    question.answers[1].set_result("new")
    assert [await after, await joined] == ["new", "new"]
    assert question.asked == 2


async def test_forgetting_is_for_what_begins_so(flights: Flights) -> None:
    question = Question()
    calls = [
        asyncio.ensure_future(flights.run(key, question)) for key in (("list", "t"), ("session", "t", "s2"))
    ]
    await turns(2)
    flights.forget(("session", "t", "s"))
    assert ("list", "t") in flights
    assert ("session", "t", "s2") in flights
    for answer in question.answers:
        answer.set_result("x")
    await asyncio.gather(*calls)


async def test_an_error_that_nobody_waits_for_is_nobodys(flights: Flights) -> None:
    question = Question()
    call = asyncio.ensure_future(flights.run(("k",), question))
    await turns(2)
    call.cancel()
    await turns(2)
    question.answers[0].set_exception(ValueError("late"))
    await turns(2)
    assert ("k",) not in flights
