"""What the log promises of its outbox of events: read, noted, purged, and delivered by one node at a time."""

import asyncio
from random import Random

import pytest

from store.log import Log
from store.types import Change, Event, EventKind
from tests.store.making import NOW, attendance, new_id, opened
from tests.waiting import until

HOUR = 3_600_000


async def all_events(log: Log) -> list[Event]:
    return await log.events(after=0, limit=10_000)


# -- who did it


async def test_an_event_says_who_did_it_where_that_is_known(log: Log) -> None:
    session = await opened(log, ttl_s=1)
    await log.update("t", session.id, Change(title="a"), now=NOW, expected_version=None, by="alice")
    await log.put_member("t", session.id, "bob", "writer", now=NOW, by="alice")
    await log.remove_member("t", session.id, "bob", now=NOW, by="bob")
    await log.update("t", session.id, Change(status="archived"), now=NOW, expected_version=None)
    await log.expire_due(now=NOW + 5_000, limit=10)
    other = await opened(log, owner="carol")
    await log.end("t", other.id, "closed", now=NOW, by="olga")
    assert [(event.kind, event.actor) for event in await all_events(log)] == [
        ("created", "alice"),
        ("updated", "alice"),
        ("updated", "alice"),
        ("updated", "bob"),
        ("archived", None),
        ("expired", None),
        ("created", "carol"),
        ("closed", "olga"),
    ]


# -- joins and leaves


async def test_joins_and_leaves_are_events_in_the_order_given(log: Log) -> None:
    session = await opened(log)
    await log.note(
        [
            attendance(session.id, at=NOW + 1, data=b'{"node":"n1"}'),
            attendance(session.id, "left", at=NOW + 2),
            attendance(session.id, at=NOW + 3),
        ]
    )
    noted = (await all_events(log))[1:]
    assert [(event.kind, event.at - NOW, event.actor, event.version) for event in noted] == [
        ("joined", 1, "bob", 1),
        ("left", 2, "bob", 1),
        ("joined", 3, "bob", 1),
    ]
    assert noted[0].data.replace(b" ", b"") == b'{"node":"n1"}'
    assert {(event.tenant, event.session) for event in noted} == {("t", session.id)}


async def test_a_join_noted_again_is_one_event(log: Log) -> None:
    session = await opened(log)
    first, second = attendance(session.id), attendance(session.id, "left")
    await log.note([first])
    await asyncio.gather(*(log.note([first, second, second]) for _ in range(4)))
    assert [event.kind for event in await all_events(log)] == ["created", "joined", "left"]


async def test_joins_into_what_is_no_session_of_the_tenant_are_passed_over(log: Log) -> None:
    session = await opened(log)
    await log.note([attendance(new_id()), attendance(session.id, tenant="other"), attendance(session.id)])
    assert [event.kind for event in await all_events(log)] == ["created", "joined"]
    await log.note([])


async def test_a_leave_may_follow_the_end(log: Log) -> None:
    session = await opened(log)
    await log.end("t", session.id, "closed", now=NOW)
    await log.note([attendance(session.id, "left")])
    found = [(event.kind, event.version) for event in await all_events(log)]
    assert found == [("created", 1), ("closed", 2), ("left", 2)]


# -- read by tenant


async def test_a_tenant_is_shown_its_own_events_only(log: Log) -> None:
    ours = [await opened(log) for _ in range(3)]
    theirs = [await opened(log, tenant="other") for _ in range(2)]
    page = await log.events_of("t", after=0, limit=10)
    assert [event.session for event in page.events] == [session.id for session in ours]
    assert page.purged == 0
    page = await log.events_of("other", after=0, limit=1)
    assert [event.session for event in page.events] == [theirs[0].id]
    page = await log.events_of("other", after=page.events[0].id, limit=10)
    assert [event.session for event in page.events] == [theirs[1].id]
    assert (await log.events_of("nobody", after=0, limit=10)).events == []
    assert (await log.events_of("t", after=2**70, limit=10)).events == []
    assert (await log.events_of("t", after=0, limit=0)).events == []


async def test_what_is_behind_an_id_is_counted_also_when_nobody_has_read_it(log: Log) -> None:
    for _ in range(5):
        await opened(log)
    assert await log.events_behind(0, limit=100) == 5
    events = await all_events(log)
    await opened(log)
    assert await log.events_behind(events[2].id, limit=100) == 3
    assert await log.events_behind(0, limit=2) >= 2


# -- purged


async def stored(log: Log, *ages: int, is_read: bool = True) -> None:
    """An event of each age in hours."""
    for age in ages:
        await opened(log, created_at=NOW - age * HOUR)
    if is_read:
        await all_events(log)


async def purged(log: Log, hours: int, limit: int = 100) -> tuple[int, int, bool]:
    found = await log.purge_events(before=NOW - hours * HOUR, now=NOW, limit=limit)
    return found.events, found.undelivered, found.is_done


async def ages(log: Log) -> list[int]:
    return [(NOW - event.at) // HOUR for event in await all_events(log)]


async def test_old_events_are_purged_and_the_place_is_remembered(log: Log) -> None:
    await stored(log, 9, 8, 7, 2, 1)
    assert await purged(log, 5) == (3, 3, True)
    assert await ages(log) == [2, 1]
    first = (await all_events(log))[0]
    assert (await log.events_of("t", after=0, limit=10)).purged == first.id - 1
    assert (await log.events_of("nobody", after=0, limit=10)).purged == first.id - 1
    assert await purged(log, 5) == (0, 0, True)


async def test_events_that_nobody_has_read_are_purged_as_well(log: Log) -> None:
    await stored(log, 9, 8, is_read=False)
    assert (await purged(log, 5))[:2] == (2, 2)
    assert await purged(log, 5) == (0, 0, True)
    await stored(log, 1)
    page = await log.events_of("t", after=0, limit=10)
    assert [event.id for event in page.events] == [page.purged + 1]


async def test_a_purge_goes_in_batches(log: Log) -> None:
    await stored(log, 9, 9, 9, 9, 9, 1)
    assert await purged(log, 5, limit=2) == (2, 2, False)
    assert await purged(log, 5, limit=2) == (2, 2, False)
    assert (await purged(log, 5, limit=2))[0] == 1
    assert await ages(log) == [1]


async def test_purging_everything_never_gives_an_id_again(log: Log) -> None:
    await stored(log, 9, 9)
    last = (await all_events(log))[-1].id
    assert await purged(log, 5) == (2, 2, True)
    await stored(log, 1)
    assert (await all_events(log))[0].id > last


async def test_what_was_delivered_is_told_from_what_was_not(log: Log) -> None:
    await stored(log, 9, 8, 7, 6)
    second = (await all_events(log))[1].id
    await log.hold_delivery("n1", delivered=second, lease_ms=1000)
    assert await purged(log, 5, limit=1) == (1, 0, False)
    assert await purged(log, 5) == (3, 2, True)


async def test_an_event_of_a_node_whose_clock_is_fast_keeps_no_older_one(log: Log) -> None:
    await stored(log, 9, -50, 8, 1, -50)
    assert await purged(log, 5) == (3, 3, True)
    assert await ages(log) == [1, -50]


async def test_an_event_of_a_node_whose_clock_is_slow_takes_no_younger_one_with_it(log: Log) -> None:
    await stored(log, 9, 1, 8)
    assert await purged(log, 5) == (1, 1, True)
    assert await ages(log) == [1, 8]


# -- delivered by one node


async def test_one_node_delivers_and_the_others_wait(log: Log) -> None:
    assert await log.hold_delivery("n1", delivered=0, lease_ms=60_000) == 0
    assert await log.hold_delivery("n2", delivered=0, lease_ms=60_000) is None
    assert await log.hold_delivery("n1", delivered=7, lease_ms=60_000) == 7
    assert await log.hold_delivery("n2", delivered=0, lease_ms=60_000) is None
    assert await log.hold_delivery("n1", delivered=0, lease_ms=0) == 7
    assert await log.hold_delivery("n2", delivered=0, lease_ms=60_000) == 7
    assert await log.hold_delivery("n1", delivered=0, lease_ms=60_000) is None


async def test_whoever_has_no_turn_can_let_go_of_none(log: Log) -> None:
    assert await log.hold_delivery("n1", delivered=0, lease_ms=60_000) == 0
    assert await log.hold_delivery("n2", delivered=0, lease_ms=0) is None
    assert await log.hold_delivery("n3", delivered=0, lease_ms=60_000) is None
    assert await log.hold_delivery("n1", delivered=0, lease_ms=60_000) == 0


async def test_a_lease_that_is_over_is_anybodys(log: Log) -> None:
    assert await log.hold_delivery("n1", delivered=3, lease_ms=1) == 3

    async def is_over() -> bool:
        return await log.hold_delivery("n2", delivered=0, lease_ms=60_000) == 3

    await until(is_over)
    assert await log.hold_delivery("n1", delivered=0, lease_ms=60_000) is None


async def test_a_lease_that_ends_later_than_any_is_from_before_a_clock_was_put_back(log: Log) -> None:
    assert await log.hold_delivery("n1", delivered=3, lease_ms=3_600_000) == 3
    assert await log.hold_delivery("n2", delivered=0, lease_ms=60_000) == 3
    assert await log.hold_delivery("n1", delivered=0, lease_ms=60_000) is None


async def test_what_a_node_without_the_turn_has_delivered_counts_and_nothing_goes_back(log: Log) -> None:
    assert await log.hold_delivery("n1", delivered=5, lease_ms=60_000) == 5
    assert await log.hold_delivery("n2", delivered=9, lease_ms=60_000) is None
    assert await log.hold_delivery("n1", delivered=6, lease_ms=60_000) == 9


async def test_of_many_who_ask_at_once_one_gets_the_turn(log: Log) -> None:
    for round_number in range(5):
        asked = (log.hold_delivery(f"n{n}", delivered=round_number, lease_ms=60_000) for n in range(8))
        answers = await asyncio.gather(*asked)
        holders = [f"n{n}" for n, answer in enumerate(answers) if answer is not None]
        assert len(holders) == 1
        await log.hold_delivery(holders[0], delivered=0, lease_ms=0)


# -- each event once, whoever writes and reads at the same time


@pytest.mark.parametrize("seed", range(3))
async def test_readers_see_each_event_once_in_order_while_many_write(log: Log, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - the order of calls
    expected: list[tuple[str, EventKind]] = []

    async def write(number: int) -> None:
        session = await opened(log, owner=f"u{number}")
        kinds: list[EventKind] = ["created"]
        for _ in range(chance.randrange(6)):
            match chance.randrange(3):
                case 0:
                    await log.update("t", session.id, Change(title="x"), now=NOW, expected_version=None)
                    kinds.append("updated")
                case 1:
                    await log.note([attendance(session.id), attendance(session.id, "left")])
                    kinds += ["joined", "left"]
                case _:
                    one = attendance(session.id)
                    await asyncio.gather(log.note([one]), log.note([one]))
                    kinds.append("joined")
        ends = await asyncio.gather(*(log.end("t", session.id, "closed", now=NOW) for _ in range(2)))
        assert [end is None for end in ends].count(False) == 1
        expected.extend((session.id, kind) for kind in [*kinds, "closed"])

    async def read(step: int) -> list[Event]:
        seen: list[Event] = []
        while not writing.done() or (seen and await log.events_behind(seen[-1].id, limit=1)):
            after = seen[-1].id if seen else 0
            seen += (await log.events_of("t", after=after, limit=step)).events
        return seen

    writing = asyncio.gather(*(write(number) for number in range(12)))
    first, second, _ = await asyncio.gather(read(3), read(50), writing)
    assert first == second == await all_events(log)
    ids = [event.id for event in first]
    assert ids == sorted(set(ids))
    by_session = {id: [kind for known, kind in expected if known == id] for id, _ in expected}
    for id, kinds in by_session.items():
        assert [event.kind for event in first if event.session == id] == kinds
