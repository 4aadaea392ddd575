"""The records' lists: right after every change, on every node, and asked of the log once."""

import asyncio

import pytest

from store import lists, tails
from store.records import Records
from store.types import Listing, Mark
from tests.store.making import NOW, draft, new_session, opened
from tests.store.nodes import Bench, listed
from tests.waiting import until


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
    await until(lambda: not records._tails._waiting and not records._tails._telling)
    # Not even where the cache has lost what it knew of the session's end.
    bench.cache.lose(f"{session.id}|tail1")
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
    bench.later(lists.MARGIN_MS + 1)
    assert await bench.asked_by(listed(records)) == 1
    assert await bench.asked_by(listed(records)) == 0


async def test_a_list_that_was_read_before_a_change_on_another_node_is_not_stored_after_it(
    bench: Bench,
) -> None:
    one, two = bench.node(), bench.node()
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


async def test_a_node_killed_in_the_middle_of_a_change_leaves_no_list_that_was_read_before_it(
    bench: Bench,
) -> None:
    dying, other = bench.node(), bench.node()
    bench.log.asking.clear()
    writing = asyncio.ensure_future(dying.create(new_session(), limit=5))
    await until(lambda: bench.log.asked["create"] == 1)
    bench.later(lists.MARGIN_MS // 2)
    # Another node reads and stores the list between the word that it changes and the change.
    bench.log.asking.set()
    bench.log.answering.clear()
    reading = asyncio.ensure_future(listed(other))
    await until(lambda: bench.log.asked["list_for"] == 1)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    bench.log.answering.set()
    await reading
    await opened(bench.truth)
    assert await bench.asked_by(listed(other)) == 1


async def test_who_asks_after_a_change_is_not_answered_with_a_list_read_before_it(
    bench: Bench, records: Records
) -> None:
    bench.log.answering.clear()
    before = asyncio.ensure_future(listed(records))
    await until(lambda: bench.log.asked["list_for"] == 1)
    bench.log.answering.set()
    gate = asyncio.Event()
    load = bench.log

    async def held(*given: object, **more: object) -> list[Listing]:
        rows: list[Listing] = []
        await gate.wait()
        return rows

    await before
    load.list_for = held  # type: ignore[attr-defined]
    bench.later(tails.TTL_MS)
    old = asyncio.ensure_future(listed(records))
    await until(lambda: ("list", "t", "alice") in records._flights)
    del load.list_for
    session = await records.create(new_session(), limit=5)
    assert await listed(records) == [session.id]
    gate.set()
    assert await old == []


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
        f"{session.id}|session1:t",
        f"{session.id}|tail1",
        f"alice|read1:{session.id}",
        "alice|list1:t",
    ):
        bench.cache.lose(key)
        assert await bench.asked_by(listed(records)) == 1
        assert await bench.asked_by(listed(records)) == 0


async def test_names_with_colons_do_not_meet_in_one_key(bench: Bench, records: Records) -> None:
    await records.create(new_session(tenant="a:b", owner="c"), limit=5)
    bench.later(lists.MARGIN_MS + 1)
    assert await records.list_for("a", "b:c", before=None, limit=10) == []
    assert len(await records.list_for("a:b", "c", before=None, limit=10)) == 1
    assert await records.list_for("a", "b:c", before=None, limit=10) == []


async def test_a_clock_that_is_set_back_keeps_no_removed_member_in_a_list(bench: Bench) -> None:
    records = bench.node()
    session = await records.create(new_session(), limit=5)
    await records.put_member("t", session.id, "bob", "writer", now=NOW)
    bench.later(lists.MARGIN_MS + 1)
    assert await listed(records, "bob") == [session.id]
    # It is the cache's own clock that counts: nodes may have whatever time they like.
    bench.later(-60_000)
    await records.remove_member("t", session.id, "bob", now=NOW)
    assert await listed(records, "bob") == []
