"""What `Log.tallier` promises: equal exactly if none of the sessions has moved."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import pytest

from store.log import Log
from store.types import Change, Mark, Session, Standing, Tally
from tests.store.making import NOW, appended, draft, new_id, opened

Doing = Callable[[Log, Session], Awaitable[object]]

# Everything that a hint tells of.
MOVES: Final[dict[str, Doing]] = {
    "message": lambda log, s: log.append([draft(s)]),
    "title": lambda log, s: log.update("t", s.id, Change(title="x"), now=NOW, expected_version=None),
    "archived": lambda log, s: log.update("t", s.id, Change(status="archived"), now=NOW, expected_version=2),
    "member": lambda log, s: log.put_member("t", s.id, "bob", "reader", now=NOW),
    "role": lambda log, s: log.put_member("t", s.id, "carol", "writer", now=NOW),
    "removal": lambda log, s: log.remove_member("t", s.id, "carol", now=NOW),
    "takeover": lambda log, s: log.take_over("t", s.id),
    "end": lambda log, s: log.end("t", s.id, "closed", now=NOW),
    "deletion": lambda log, s: log.end("t", s.id, "deleted", now=NOW),
    "expiry": lambda log, s: log.expire_due(now=NOW + 60_000, limit=5),
}
# What changes a row, and nothing that anybody is told of.
STAYS: Final[dict[str, Doing]] = {
    "extension": lambda log, s: log.extend({s.id: NOW + 90_000}),
    "read marker": lambda log, s: log.mark([Mark(session=s.id, user="alice", read=1, delivered=1)]),
    "refused draft": lambda log, s: log.append([draft(s, sender="mallory")]),
    "created again": lambda log, s: opened(log, id=s.id, ttl_s=60, exclusive=True),
    "another session": lambda log, s: opened(log),
}


def summed(standings: Iterable[Standing]) -> Tally:
    steps = [standing.head + standing.version + standing.epoch for standing in standings]
    return Tally(sessions=len(steps), steps=sum(steps))


async def batch(log: Log) -> list[Session]:
    """Three sessions that stand in different places; the second can expire, and has a reader."""
    made = [await opened(log, exclusive=True), await opened(log, exclusive=True, ttl_s=60), await opened(log)]
    await appended(log, *[draft(made[0]) for _ in range(5)], draft(made[1]))
    await log.put_member("t", made[1].id, "carol", "reader", now=NOW)
    return made


async def test_a_tally_is_the_sum_of_the_standings(log: Log) -> None:
    made = await batch(log)
    await log.take_over("t", made[0].id)
    await log.end("t", made[2].id, "closed", now=NOW)
    ids = [session.id for session in made]
    assert await log.tallier(ids)() == Tally(sessions=3, steps=(5 + 1 + 2) + (1 + 2 + 1) + (0 + 2 + 1))
    assert await log.tallier(ids)() == summed((await log.standings(ids)).values())
    assert type((await log.tallier(ids)()).steps) is int


async def test_what_does_not_exist_or_is_named_twice_adds_nothing(log: Log) -> None:
    one, *_ = await batch(log)
    assert await log.tallier([one.id, new_id(), one.id])() == Tally(sessions=1, steps=7)
    assert await log.tallier([new_id()])() == await log.tallier([])() == Tally(sessions=0, steps=0)


@pytest.mark.parametrize("move", MOVES)
async def test_whatever_moves_one_session_changes_the_tally(log: Log, move: str) -> None:
    made = await batch(log)
    ids = [session.id for session in made]
    tally = log.tallier(ids)
    before = await tally()
    await MOVES[move](log, made[1])
    after = await tally()
    assert after.sessions == before.sessions
    assert after.steps > before.steps
    assert after == summed((await log.standings(ids)).values())


@pytest.mark.parametrize("stay", STAYS)
async def test_what_nobody_is_told_of_leaves_the_tally_as_it_was(log: Log, stay: str) -> None:
    made = await batch(log)
    ids = [session.id for session in made]
    tally = log.tallier(ids)
    before = await tally()
    await STAYS[stay](log, made[1])
    assert await tally() == before


async def test_standings_read_at_different_times_add_up_to_a_later_tally(log: Log) -> None:
    made = await batch(log)
    read: list[Standing] = []
    for session in made:
        read += (await log.standings([session.id])).values()
        await log.append([draft(other) for other in made[len(read) :]])
    assert await log.tallier([session.id for session in made])() == summed(read)


async def test_two_thousand_sessions_are_one_tally(log: Log) -> None:
    made = await batch(log)
    ids = [session.id for session in made] + [new_id() for _ in range(1_997)]
    before = log.queries["tally"]
    assert (await log.tallier(ids)()).sessions == 3
    assert log.queries["tally"] == before + 1
