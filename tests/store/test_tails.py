"""The last messages in lists: no ack waits for the cache, and what was told late was never told wrong."""

import asyncio

import pytest

from store import shelf, tails
from store.records import Records
from store.types import Appended, Listing
from tests.store.making import draft, new_session, opened
from tests.store.nodes import Bench, listed
from tests.waiting import until


async def told(records: Records) -> None:
    """Wait until the cache knows what the node knows."""
    await until(lambda: not records._tails._waiting and not records._tails._telling)


async def only(records: Records) -> Listing:
    (row,) = await records.list_for("t", "alice", before=None, limit=9)
    return row


async def test_no_ack_waits_for_a_cache_that_hangs(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await listed(records)
    bench.cache.answering.clear()
    async with asyncio.timeout(2):
        for number in range(1, 21):
            (outcome,) = await records.append([draft(session)])
            assert isinstance(outcome, Appended)
            assert outcome.seq == number
            await asyncio.wait_for(_gathered(records), 1)
    bench.cache.answering.set()
    await told(records)
    assert (await only(bench.node())).unread == 20


async def _gathered(records: Records) -> None:
    """Give the telling a moment to begin, once in a while."""
    if not records._tails._telling:
        await until(lambda: bool(records._tails._waiting or records._tails._telling))


async def test_many_messages_are_told_in_few_calls(bench: Bench, records: Records) -> None:
    sessions = [await opened(bench.truth) for _ in range(5)]
    for _ in range(20):
        await records.append([draft(session) for session in sessions])
    await told(records)
    assert bench.cache.called["put_many"] <= 2
    await listed(records)
    assert {row.unread for row in await bench.node().list_for("t", "alice", before=None, limit=9)} == {20}


async def test_the_node_that_acked_lists_what_it_acked_before_the_cache_is_told(
    bench: Bench, records: Records
) -> None:
    session = await opened(bench.truth)
    await listed(records)
    await records.append([draft(session, content="waiting")])
    assert await bench.asked_by(only(records)) == 0
    assert (await only(records)).preview == "waiting"
    # The cache is being told, and has not heard it yet: what is asked of it meanwhile is answered.
    bench.cache.hanging = "put_many"
    bench.cache.answering.clear()
    await until(lambda: bool(records._tails._telling))
    assert (await only(records)).preview == "waiting"
    await records.append([draft(session, content="newer")])
    assert (await only(records)).preview == "newer"
    bench.cache.answering.set()
    await told(records)
    assert await bench.asked_by(only(records)) == 0
    assert (await only(bench.node())).preview == "newer"


def test_of_what_is_known_the_newer_stands_and_of_two_as_new_the_one_that_says_more() -> None:
    tail, head = tails.Tail(7, 0, "seven"), 7
    for one, other, newest in (
        (tail, head, tail),
        (head, tail, tail),
        (tail, tails.Tail(6, 0, "six"), tail),
        (tails.Tail(6, 0, "six"), tail, tail),
        (tail, 6, tail),
        (tail, 8, 8),
    ):
        assert tails._newest(one, other) == newest


async def test_another_node_learns_within_a_moment(bench: Bench, records: Records) -> None:
    other = bench.node()
    session = await opened(bench.truth)
    await only(other)
    await records.append([draft(session, content="new")])

    async def is_seen() -> bool:
        return (await only(other)).preview == "new"

    await until(is_seen, within=5 * tails.GATHER_S + 1)
    assert await bench.asked_by(only(other)) == 0


async def test_what_a_killed_node_has_stored_is_listed_once_its_sender_sends_again(bench: Bench) -> None:
    other = bench.node()
    session = await opened(bench.truth)
    await only(other)
    sent = draft(session, content="committed, then killed")
    await bench.truth.append([sent])
    assert (await only(other)).unread == 0
    (outcome,) = await other.append([sent])
    assert isinstance(outcome, Appended)
    assert outcome.duplicate
    await told(other)
    # Not only where it was sent again, and though the cache had another tail.
    third = bench.node()
    assert await bench.asked_by(only(third)) == 1
    for node in (other, third):
        assert (await only(node)).preview == "committed, then killed"


async def test_messages_of_one_session_that_come_out_of_order_are_told_in_it(
    bench: Bench, records: Records
) -> None:
    records._tails.note({"s": tails.Tail(2, 0, "two")})
    records._tails.note({"s": tails.Tail(1, 0, "one")})
    records._tails.note({"s": 1})
    tail = records._tails.newest("s", None)
    assert tail is not None
    assert tail.preview == "two"


async def test_closing_tells_what_is_left(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await listed(records)
    await records.append([draft(session, content="last words")])
    await records.close()
    row = await only(bench.node())
    assert (row.preview, row.unread) == ("last words", 1)
    await records.close()


async def test_closing_does_not_wait_for_a_cache_that_is_away(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "AWAY_S", 60.0)
    session = await records.create(new_session(), limit=5)
    bench.cache.is_away = True
    await records.append([draft(session)])
    await records.close()
    assert records.owed > 0


async def test_what_waits_to_be_told_is_bounded(
    bench: Bench, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "WAITING_SESSIONS", 3)
    sessions = [await opened(bench.truth) for _ in range(5)]
    await records.append([draft(session) for session in sessions])
    assert list(records._tails._waiting) == [session.id for session in sessions[2:]]


async def test_a_list_is_right_whichever_of_its_tails_came_first(bench: Bench, records: Records) -> None:
    session = await opened(bench.truth)
    await records.append([draft(session, content="one")])
    await told(records)
    await only(records)
    other = bench.node()
    await other.append([draft(session, content="two")])
    assert (await only(other)).preview == "two"
    assert (await only(records)).preview == "one"
    await told(other)
    assert (await only(records)).preview == "two"
    # A node that tells late what another has told since turns nothing back.
    records._tails.note({session.id: tails.Tail(1, 0, "one")})
    assert (await only(records)).preview == "two"
    await told(records)
    assert (await only(other)).preview == "two"
