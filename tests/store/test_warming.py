"""Who connects finds a list that is there already, if there was time; nobody waits for it."""

import asyncio

import pytest

from store import warming
from store.errors import Unavailable
from store.records import Records
from tests.store.making import opened
from tests.store.nodes import Bench, listed
from tests.waiting import turns, until


async def test_a_list_and_its_sessions_are_there_before_they_are_asked_for(
    bench: Bench, records: Records
) -> None:
    session = await opened(bench.truth)
    records.warm("t", "alice")
    await until(lambda: bench.cache.holds("alice|list1:t"))
    await turns(5)
    assert await bench.asked_by(listed(records)) == 0
    assert await bench.asked_by(records.get("t", session.id)) == 0
    # It was nobody's reading: it counts neither as a hit nor as a miss.
    assert records.counts["list_hit"] == 1
    assert records.counts["list_miss"] == 0


async def test_a_list_that_is_there_is_not_read_again(bench: Bench, records: Records) -> None:
    await opened(bench.truth)
    await listed(records)
    asked = bench.log.questions
    records.warm("t", "alice")
    await until(lambda: bench.cache.tried > 4)
    await until(lambda: records._warming._task is not None and records._warming._task.done())
    assert bench.log.questions == asked


async def test_one_is_read_after_the_other_and_above_the_bound_none(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "PAUSE_S", 0.0)
    bench.log.asking.clear()
    for number in range(3 * warming.WAITING_USERS):
        records.warm("t", f"user{number}")
        records.warm("t", f"user{number}")
    await until(lambda: bench.log.questions == 1)
    await turns(20)
    assert bench.log.questions == 1
    bench.log.asking.set()
    await until(lambda: not records._warming._waiting)
    await until(lambda: records._warming._task is not None and records._warming._task.done())
    assert bench.log.questions == warming.WAITING_USERS


async def test_so_many_a_second_and_no_more(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "PAUSE_S", 3600.0)
    for number in range(5):
        records.warm("t", f"user{number}")
    await until(lambda: bench.log.questions == 1)
    await turns(50)
    assert bench.log.questions == 1


async def test_a_list_that_is_asked_for_meanwhile_is_read_once(bench: Bench, records: Records) -> None:
    await opened(bench.truth)
    bench.log.asking.clear()
    records.warm("t", "alice")
    await until(lambda: bench.log.questions == 1)
    call = asyncio.ensure_future(listed(records))
    await turns(5)
    bench.log.asking.set()
    assert len(await call) == 1
    assert bench.log.questions == 1


async def test_a_log_that_is_away_costs_nobody_anything(bench: Bench, records: Records) -> None:
    bench.log.failure = Unavailable("away")
    records.warm("t", "alice")
    records.warm("t", "bob")
    await until(lambda: bench.log.questions == 2)
    bench.log.failure = None
    await until(lambda: records._warming._task is not None and records._warming._task.done())
    records.warm("t", "alice")
    await until(lambda: bench.cache.holds("alice|list1:t"))


async def test_without_a_cache_no_list_is_read(bench: Bench, records: Records) -> None:
    bench.cache.is_away = True
    records.warm("t", "alice")
    await until(lambda: records._shelf.is_away)
    await turns(5)
    assert bench.log.questions == 0


async def test_closing_ends_the_reading(bench: Bench, records: Records) -> None:
    bench.log.asking.clear()
    records.warm("t", "alice")
    records.warm("t", "bob")
    await until(lambda: bench.log.questions == 1)
    await records.close()
    bench.log.asking.set()
    await turns(20)
    assert bench.log.questions == 1
