"""A cache that is away costs hits, one limit of time and nothing else; when it is back, nothing is old."""

import asyncio
from collections.abc import Sequence

import pytest

from store import lists, shelf
from store.cache import Entry
from store.errors import Unavailable
from store.pages import PAGE
from store.records import Records
from store.types import Change, Mark
from tests.store.making import NOW, draft, new_session, opened
from tests.store.nodes import AbsentCache, Bench, listed, warm
from tests.waiting import turns, until


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a cache that is away at once."""
    monkeypatch.setattr(shelf, "AWAY_S", 0.0)


async def back(bench: Bench, *nodes: Records) -> None:
    """Let the cache answer again and the nodes find out."""
    bench.cache.is_away = False
    await until(lambda: not any(node._shelf.is_away for node in nodes))


async def test_without_a_cache_everything_comes_from_the_log(bench: Bench, records: Records) -> None:
    bench.cache.is_away = True
    session = await records.create(new_session(), limit=5)
    await records.append([draft(session) for _ in range(PAGE + 5)])
    await records.mark([Mark(session=session.id, user="alice", read=1)])
    for _ in range(2):
        assert await records.access("t", session.id, "alice") == await bench.truth.access(
            "t", session.id, "alice"
        )
        assert await listed(records) == [session.id]
        assert [m.seq for m in await records.read(session.id, after=0, limit=60)] == list(range(1, PAGE + 6))
        assert [m.seq for m in await records.read_before(session.id, before=4, limit=60)] == [1, 2, 3]


async def test_nobody_waits_for_a_cache_that_was_found_to_be_away(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "AWAY_S", 60.0)
    session = await opened(bench.truth)
    bench.cache.is_away = True
    for _ in range(20):
        await records.get("t", session.id)
    assert bench.cache.tried == 1
    assert records.counts["away"] == 1


async def test_while_the_cache_is_tried_again_nobody_waits_for_it(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    bench.cache.is_away = True
    await records.get("t", session.id)
    bench.cache.answering.clear()
    tried = bench.cache.tried
    # The task that tries it hangs, as on a paused Redis; those who read and write do not.
    await until(lambda: bench.cache.tried > tried)
    async with asyncio.timeout(5):
        await records.get("t", session.id)
        await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
        await records.mark([Mark(session=session.id, user="alice", read=1)])
        assert await listed(records) == [session.id]
    bench.cache.answering.set()


async def test_a_cache_that_is_back_is_used_again(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    for _ in range(2):
        bench.cache.is_away = True
        await records.get("t", session.id)
        assert records._shelf.is_away
        await back(bench, records)
        await records.get("t", session.id)
        assert await bench.asked_by(records.get("t", session.id)) == 0


async def test_what_changed_while_the_cache_was_away_is_not_served_when_it_is_back(
    bench: Bench, records: Records
) -> None:
    session = await records.create(new_session(title="old"), limit=5)
    bench.later(lists.MARGIN_MS + 1)
    await records.append([draft(session)])
    await warm(records, session, "alice")
    bench.cache.is_away = True
    await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    await records.append([draft(session, content="later")])
    await records.mark([Mark(session=session.id, user="alice", read=2)])
    added = await records.create(new_session(created_at=NOW - 5), limit=5)
    assert records._shelf.owed > 0
    await until(lambda: not records._tails._waiting)
    await back(bench, records)
    assert records._shelf.owed == 0
    other = bench.node()
    truth = await bench.truth.list_for("t", "alice", before=None, limit=9)
    assert await other.list_for("t", "alice", before=None, limit=9) == truth
    assert [row.session.id for row in truth] == [session.id, added.id]
    found = await other.get("t", session.id)
    assert found is not None
    assert found.title == "new"


async def test_a_node_that_nobody_asks_pays_what_it_owes_all_the_same(bench: Bench) -> None:
    silent, other = bench.node(), bench.node()
    session = await opened(bench.truth, title="old")
    await other.get("t", session.id)
    bench.cache.is_away = True
    await silent.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    bench.cache.is_away = False
    await until(lambda: silent._shelf.owed == 0)
    found = await other.get("t", session.id)
    assert found is not None
    assert found.title == "new"


async def test_what_changes_while_debts_are_paid_is_paid_too(bench: Bench, records: Records) -> None:
    bench.cache.is_away = True
    await records._shelf.drop([("first", 5)], 1_000)
    bench.cache.answering.clear()
    bench.cache.is_away = False
    tried = bench.cache.tried
    await until(lambda: bench.cache.tried > tried)
    await records._shelf.drop([("first", 7), ("second", 5)], 1_000)
    bench.cache.answering.set()
    await until(lambda: not records._shelf.is_away)
    assert not await bench.cache.put("first", b"", version=6, ttl_ms=1_000)
    assert not await bench.cache.put("second", b"", version=4, ttl_ms=1_000)


async def test_a_debt_that_grew_while_it_was_paid_is_paid_again(bench: Bench, records: Records) -> None:
    bench.cache.is_away = True
    await records._shelf.drop([("k", 5)], 1_000)
    bench.cache.hanging = "drop_many"
    bench.cache.answering.clear()
    bench.cache.is_away = False
    called = bench.cache.called["drop_many"]
    await until(lambda: bench.cache.called["drop_many"] > called)
    await records._shelf.drop([("k", 7)], 1_000)
    bench.cache.answering.set()
    await until(lambda: not records._shelf.is_away)
    assert not await bench.cache.put("k", b"", version=6, ttl_ms=1_000)


async def test_of_two_debts_of_one_key_the_newer_is_paid(bench: Bench, records: Records) -> None:
    bench.cache.is_away = True
    await records._shelf.drop([("k", 7)], 1_000)
    await records._shelf.drop([("k", 5)], 1_000)
    await back(bench, records)
    assert not await bench.cache.put("k", b"", version=6, ttl_ms=1_000)


async def test_what_is_owed_to_the_cache_is_bounded(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "OWED_LIMIT", 10)
    monkeypatch.setattr(shelf, "PAID_AT_ONCE", 3)
    bench.cache.is_away = True
    for number in range(50):
        await records._shelf.replace("list", [(f"k{number}", b"", 1)], 1_000)
        await records._shelf.drop([("same", number)], 2_000)
        await records._shelf.outdate([f"o{number}"], 1_000)
    assert records._shelf.owed == records.owed == 10
    before = await bench.cache._cache.now_ms("o49")
    await back(bench, records)
    assert records._shelf.owed == 0
    assert not await bench.cache.put("same", b"", version=48, ttl_ms=1_000)
    assert not await bench.cache.put("k49", b"", version=0, ttl_ms=1_000)
    assert not await bench.cache.put("o49", b"", version=before, ttl_ms=1_000)


async def test_a_cache_that_goes_away_while_it_is_told_is_told_again(bench: Bench, records: Records) -> None:
    session = await records.create(new_session(title="old"), limit=5)
    puts = 0

    class Failing(AbsentCache):
        async def put_many(self, entries: Sequence[Entry], *, ttl_ms: int) -> None:
            nonlocal puts
            puts += 1
            raise Unavailable("gone in the middle")

    records._shelf._cache = Failing(bench.cache._cache)
    await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    assert puts == 1
    records._shelf._cache = bench.cache
    await until(lambda: not records._shelf.is_away)
    found = await records.get("t", session.id)
    assert found is not None
    assert found.title == "new"


async def test_a_bug_in_the_tries_does_not_end_them(bench: Bench, records: Records) -> None:
    failures = 0

    class Broken(AbsentCache):
        async def get(self, key: str) -> bytes | None:
            nonlocal failures
            failures += 1
            if failures < 3:
                raise RuntimeError("a bug")
            return None

    session = await opened(bench.truth)
    records._shelf._cache = Broken(bench.cache._cache)
    records._shelf._cache.is_away = True
    await records.get("t", session.id)
    records._shelf._cache.is_away = False
    await until(lambda: not records._shelf.is_away)
    assert failures == 3


async def test_closing_ends_the_tries(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    bench.cache.is_away = True
    await records.get("t", session.id)
    await records.close()
    tried = bench.cache.tried
    await turns(20)
    assert bench.cache.tried == tried
