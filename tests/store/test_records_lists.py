"""The records' lists, and what they do while the cache is away."""

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
from tests.waiting import until

# -- lists


async def test_a_message_moves_its_session_to_the_top_without_a_query(bench: Bench, records: Records) -> None:
    first, second = await opened(bench.truth, created_at=NOW), await opened(bench.truth, created_at=NOW + 1)
    assert await listed(records) == [second.id, first.id]
    await records.append(
        [
            draft(first, content="x" * 200, created_at=NOW + 5),
            draft("nowhere"),
            draft(first, created_at=NOW + 6),
        ]
    )
    assert await bench.asked_by(listed(records)) == 0
    assert await records.list_for("t", "alice", before=None, limit=9) == await bench.truth.list_for(
        "t", "alice", before=None, limit=9
    )


async def test_a_repeated_send_does_not_turn_a_list_back(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    first, second = draft(session), draft(session, content="last")
    await records.append([first, second])
    await listed(records)
    await records.append([first])
    (row,) = await records.list_for("t", "alice", before=None, limit=9)
    assert (row.preview, row.unread) == ("last", 2)
    # Not even where the cache has lost what it knew of the session's end.
    bench.cache.lose(f"tail1:{session.id}")
    await records.append([first])
    (row,) = await records.list_for("t", "alice", before=None, limit=9)
    assert (row.preview, row.unread) == ("last", 2)


async def test_a_read_marker_is_seen_in_the_list(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await records.append([draft(session), draft(session)])
    await listed(records)
    await records.mark(
        [Mark(session=session.id, user="alice", delivered=2), Mark(session=session.id, user="alice", read=99)]
    )
    (row,) = await records.list_for("t", "alice", before=None, limit=9)
    assert (row.read, row.unread) == (2, 0)
    await records.append([draft(session)])
    (row,) = await records.list_for("t", "alice", before=None, limit=9)
    assert (row.read, row.unread) == (2, 1)


async def test_delivery_alone_costs_no_hit(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await records.append([draft(session)])
    await listed(records)
    await records.mark([Mark(session=session.id, user="alice", delivered=1)])
    assert await bench.asked_by(listed(records)) == 0


async def test_a_changed_list_is_cached_again_after_the_skew(bench: Bench, records: Records) -> None:
    await records.create(new_session(), limit=5)
    assert await bench.asked_by(listed(records)) == 1
    assert await bench.asked_by(listed(records)) == 1
    bench.later(lists.SKEW_MS + 1)
    assert await bench.asked_by(listed(records)) == 1
    assert await bench.asked_by(listed(records)) == 0


@pytest.mark.parametrize("skew_ms", [-1_900, 1_900])
async def test_lists_are_right_on_nodes_whose_clocks_differ(bench: Bench, skew_ms: int) -> None:
    one, two = bench.node(), bench.node(skew_ms)
    await opened(bench.truth)
    await listed(two)
    bench.log.answering.clear()
    await bench.cache.close()
    # Node two reads the list, node one changes it, and only then does node two store what it has read.
    reading = asyncio.ensure_future(listed(two))
    await until(lambda: bench.log.asked["list_for"] == 2)
    writing = asyncio.ensure_future(one.create(new_session(), limit=5))
    await until(lambda: bench.log.asked["create"] == 1)
    bench.log.answering.set()
    await asyncio.gather(reading, writing)
    assert len(await listed(two)) == 2
    assert len(await listed(one)) == 2


async def test_a_list_is_paged_as_the_log_pages_it(bench: Bench, records: Records) -> None:
    for number in range(10):
        await opened(bench.truth, created_at=NOW + number // 3)
    await listed(records)
    before: tuple[int, str] | None = None
    for _ in range(5):
        page = await records.list_for("t", "alice", before=before, limit=3)
        assert page == await bench.truth.list_for("t", "alice", before=before, limit=3)
        before = (page[-1].last_at, page[-1].session.id) if page else before
    assert await records.list_for("t", "alice", before=None, limit=0) == []


async def test_who_has_too_many_sessions_is_served_by_the_log(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "LIST_LIMIT", 3)
    for _ in range(5):
        await opened(bench.truth)
    assert await bench.asked_by(listed(records)) == 2
    assert await bench.asked_by(listed(records)) == 1
    assert len(await listed(records)) == 5


async def test_a_list_of_which_a_part_was_lost_is_read_anew(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await listed(records)
    for key in (
        f"session1:t/{session.id}",
        f"tail1:{session.id}",
        f"read1:{session.id}/alice",
        "list1:t/alice",
    ):
        bench.cache.lose(key)
        assert await bench.asked_by(listed(records)) == 1
        assert await bench.asked_by(listed(records)) == 0


# -- a cache that is away


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


async def test_a_cache_that_is_away_is_tried_once_a_second(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    bench.cache.is_away = True
    for _ in range(20):
        await records.get("t", session.id)
    assert bench.cache.tried == 1
    bench.later(1_000)
    for _ in range(20):
        await records.get("t", session.id)
    assert bench.cache.tried == 2


async def test_what_changed_while_the_cache_was_away_is_not_served_when_it_is_back(
    bench: Bench, records: Records
) -> None:
    session = await records.create(new_session(title="old"), limit=5)
    bench.later(lists.SKEW_MS + 1)
    await records.append([draft(session)])
    await warm(records, session, "alice")
    bench.cache.is_away = True
    await records.update("t", session.id, Change(title="new"), now=NOW, expected_version=None)
    await records.append([draft(session, content="later")])
    await records.mark([Mark(session=session.id, user="alice", read=2)])
    added = await records.create(new_session(created_at=NOW - 5), limit=5)
    bench.cache.is_away = False
    assert records._shelf.owed > 0
    bench.later(1_000)
    truth = await bench.truth.list_for("t", "alice", before=None, limit=9)
    assert await records.list_for("t", "alice", before=None, limit=9) == truth
    assert [row.session.id for row in truth] == [session.id, added.id]
    assert records._shelf.owed == 0
    found = await records.get("t", session.id)
    assert found is not None
    assert found.title == "new"


async def test_what_is_owed_to_the_cache_is_bounded(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "OWED_LIMIT", 10)
    session = await opened(bench.truth)
    await listed(records)
    bench.cache.is_away = True
    for number in range(50):
        await records._shelf.replace([(f"k{number}", b"", 1)], 1_000)
        await records._shelf.drop([("same", number)], 1_000)
    assert records._shelf.owed == 10
    assert records._shelf.is_away
    bench.cache.is_away = False
    bench.later(1_000)
    assert not records._shelf.is_away
    await records.get("t", session.id)
    assert records._shelf.owed == 0
    assert not await bench.cache.put("same", b"", version=48, ttl_ms=1_000)


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
    bench.later(1_000)
    found = await records.get("t", session.id)
    assert found is not None
    assert found.title == "new"


async def test_names_with_colons_do_not_meet_in_one_key(bench: Bench, records: Records) -> None:
    await records.create(new_session(tenant="a:b", owner="c"), limit=5)
    bench.later(lists.SKEW_MS + 1)
    assert await records.list_for("a", "b:c", before=None, limit=10) == []
    assert len(await records.list_for("a:b", "c", before=None, limit=10)) == 1
    assert await records.list_for("a", "b:c", before=None, limit=10) == []


async def test_a_clock_that_is_set_back_keeps_no_removed_member_in_a_list(bench: Bench) -> None:
    back_ms = 0
    records = Records(
        bench.log,
        bench.cache,
        now_ms=lambda: round(bench.clock.now * 1000) - back_ms,
        monotonic=bench.clock,
    )
    session = await records.create(new_session(), limit=5)
    await records.put_member("t", session.id, "bob", "writer", now=NOW)
    bench.later(lists.SKEW_MS + 1)
    assert await listed(records, "bob") == [session.id]
    back_ms = 60_000
    await records.remove_member("t", session.id, "bob", now=NOW)
    assert await listed(records, "bob") == []
    await records.close()
