"""Settled rooms are compared by tallies alone, and whatever is lost is found all the same."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fanout import comparison as comparison_module
from gateway.fanout import settled as settled_module
from store.errors import Unavailable
from tests.fanout.many import ROOMS, Node, Reader, Rows
from tests.waiting import turns, until


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a few rooms, and no patience with takeovers."""
    monkeypatch.setattr(settled_module, "BATCH_ROOMS", 4)
    monkeypatch.setattr(comparison_module, "AT_ONCE", 2)
    monkeypatch.setattr(comparison_module, "TAKEOVER_PATIENCE_S", 0.0)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """Every room is settled."""
    node = Node()
    for id in ROOMS:
        await node.open(id)
    await node.comparison.compare()
    assert node.hub.settled.unsettled == []
    yield node
    node.check()
    await node.close()


async def test_settled_rooms_cost_a_tally_for_each_batch(node: Node) -> None:
    assert await node.asked() == (3, [])
    assert await node.asked() == (3, [])


async def test_what_many_ids_cost_is_paid_once_for_a_batch_that_stays_as_it_is(node: Node) -> None:
    await node.comparison.compare()
    made = node.log.asked["tallier"]
    for _ in range(3):
        await node.comparison.compare()
    assert node.log.asked["tallier"] == made
    node.say("s3")
    await node.comparison.compare()  # without s3; it settles
    await node.comparison.compare()
    assert node.log.asked["tallier"] > made


LOST: dict[str, Callable[[Rows], object]] = {
    "message": lambda log: log.move("s3", head=1),
    "change": lambda log: log.move("s3", version=1),
    "takeover": lambda log: log.move("s3", epoch=1),
    "many of each": lambda log: [log.move(id, head=3, version=2, epoch=1) for id in ROOMS],
    "disappearance": lambda log: log.rows.pop("s3"),
}


@pytest.mark.parametrize("lost", LOST)
async def test_what_no_hint_has_told_of_a_settled_room_is_found(node: Node, lost: str) -> None:
    LOST[lost](node.log)
    await node.comparison.compare()
    await until(lambda: all(map(node.is_told, ROOMS)))
    await node.comparison.compare()
    assert (await node.asked())[1] == []


async def test_a_lost_end_of_a_settled_room_is_found(node: Node) -> None:
    row = node.log.move("s3", version=1)
    node.log.rows["s3"] = msgspec.structs.replace(row, end_reason="closed", ended_at=1)
    await node.comparison.compare()
    assert "s3" not in node.hub.rooms
    assert (await node.asked())[1] == []


async def test_a_room_that_hints_come_for_is_read_and_no_other(node: Node) -> None:
    node.say("s3")
    node.change("s5")
    node.take_over("s7")
    _, compared = await node.asked()
    assert sorted(id for ids in compared for id in ids) == ["s3", "s5", "s7"]
    assert (await node.asked())[1] == []


async def test_the_others_of_a_batch_that_has_moved_stay_in_it(node: Node) -> None:
    node.log.move("s3", head=1)
    before = dict(node.hub.settled._batch_of)
    _, compared = await node.asked()
    assert sum(map(len, compared)) < 6  # of its batch, and then itself once more
    del before["s3"]
    assert node.hub.settled._batch_of == before


async def test_a_hole_that_could_not_be_mended_is_looked_at_again_and_again(node: Node) -> None:
    node.log.move("s3", head=2)
    await node.comparison.compare()
    for reads in range(1, 4):
        node.log.is_away = True
        await until(lambda reads=reads: node.log.asked["read"] == reads and not node.tasks)
        assert "s3" not in node.hub.settled
        node.log.is_away = False
        await node.comparison.compare()
    await until(lambda: node.is_told("s3"))


async def test_a_takeover_that_is_not_believed_yet_leaves_its_room_unsettled(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison_module, "TAKEOVER_PATIENCE_S", 0.05)
    node.log.move("s3", epoch=1)
    await node.comparison.compare()
    await node.comparison.compare()
    assert "s3" not in node.hub.settled
    await until(lambda: node.is_told("s3"))
    await node.comparison.compare()
    assert "s3" in node.hub.settled


async def test_who_was_spared_by_a_takeover_that_then_failed_is_turned_out(node: Node) -> None:
    room, access = await node.open("s3")
    room.is_exclusive = True
    reader = Reader()
    attachment = node.hub.attach(room, reader, 0, access, 1)
    attachment.is_taking_over = True
    node.take_over("s3")
    for _ in range(2):
        await node.comparison.compare()
        await until(lambda: not node.comparison._doubted)
    assert not reader.has_left
    attachment.is_taking_over = False
    await node.comparison.compare()
    await until(lambda: reader.has_left)


async def test_who_has_joined_a_batch_is_asked_for_with_it(node: Node) -> None:
    await node.comparison.compare()
    for id in ROOMS[:5]:
        node.say(id)
    await node.comparison.compare()
    await node.comparison.compare()
    assert (await node.asked())[1] == []
    for id in ROOMS[:5]:
        node.log.move(id, head=1)
        await node.comparison.compare()
        await until(lambda id=id: node.is_told(id))
        await node.comparison.compare()


# -- while the log is asked


AHEAD: dict[str, Callable[[Node], None]] = {
    "message": lambda node: node.say("s3"),
    "change": lambda node: node.change("s3"),
    "takeover": lambda node: node.take_over("s3"),
    "message behind a hole": lambda node: node.say("s3", lost=1),
    "change behind a hole": lambda node: node.change("s3", lost=1),
}


@pytest.mark.parametrize("ahead", AHEAD)
async def test_a_room_that_goes_on_while_it_is_read_is_read_again(node: Node, ahead: str) -> None:
    node.say("s3")
    node.log.meanwhile["standings"] = lambda: AHEAD[ahead](node)
    await node.comparison.compare()
    await until(lambda: node.is_told("s3"))
    assert "s3" not in node.hub.settled
    assert (await node.asked())[1] == [["s3"]]
    assert (await node.asked())[1] == []


async def test_a_hint_that_comes_while_a_tally_is_taken_has_its_room_read_alone(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled_module, "BATCH_ROOMS", len(ROOMS))
    node.log.meanwhile["tally"] = lambda: node.say("s3")
    assert (await node.asked())[1] == [["s3"]]


async def test_what_is_lost_while_a_room_is_read_is_found_the_next_time(node: Node) -> None:
    node.say("s3")
    node.log.meanwhile["standings"] = lambda: node.log.move("s3", head=1)
    await node.comparison.compare()
    assert "s3" in node.hub.settled
    await node.comparison.compare()
    await until(lambda: node.is_told("s3"))


async def test_rooms_that_are_closed_while_a_tally_is_taken_make_nobody_be_read(node: Node) -> None:
    node.log.meanwhile["tally"] = lambda: node.hub.close_empty(time.monotonic() + 1)
    assert (await node.asked())[1] == []
    assert node.hub.settled.pack() == []


async def test_a_room_that_is_closed_while_it_is_read_stays_closed(node: Node) -> None:
    node.say("s3")
    node.log.meanwhile["standings"] = lambda: node.hub.close_empty(time.monotonic() + 1)
    await node.comparison.compare()
    node.check()


async def test_a_room_that_is_opened_again_is_read_though_the_log_has_not_moved(node: Node) -> None:
    stale = node.log.rows["s3"]
    node.say("s3")
    await node.comparison.compare()
    fresh = node.log.rows["s3"]
    node.hub.close_empty(time.monotonic() + 1)
    for id in ROOMS:
        node.log.rows["s3"] = stale  # as a reading that was overtaken has it
        await node.open(id)
    node.log.rows["s3"] = fresh
    await node.comparison.compare()
    await until(lambda: node.is_told("s3"))


@pytest.mark.parametrize("call", ["tally", "standings"])
@pytest.mark.parametrize("how", ["cancelled", "away"])
async def test_a_comparison_that_is_cut_short_leaves_nothing_out_for_the_next(
    node: Node, call: str, how: str
) -> None:
    for id in ROOMS:
        node.log.move(id, head=1)
    comparing = asyncio.create_task(node.comparison.compare())
    if how == "cancelled":
        node.log.meanwhile[call] = comparing.cancel
    else:
        node.log.meanwhile[call] = lambda: setattr(node.log, "is_away", True)
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await comparing
    node.check()
    node.log.is_away = False
    await node.comparison.compare()
    await until(lambda: all(map(node.is_told, ROOMS)))


# -- whatever happens

STEPS = st.tuples(
    st.sampled_from(
        ["say", "say", "lose", "change", "take over", "alter", "end", "close", "open", "compare", "compare",
         "away", "meanwhile", "wait"]
    ),
    st.sampled_from(ROOMS),
    st.integers(1, 3),
)  # fmt: skip


async def act(node: Node, kind: str, id: str, amount: int) -> None:
    log = node.log
    is_there = log.rows[id].end_reason is None
    match kind:
        case "say" if is_there:
            node.say(id, lost=amount // 3)
        case "lose" if is_there:
            log.move(id, head=amount)
        case "change" if is_there:
            node.change(id, lost=amount - 1)
        case "take over" if is_there:
            node.take_over(id, lost=amount - 1)
        case "alter" if is_there:
            log.move(id, version=amount, epoch=amount - 1)
        case "end" if is_there and amount == 1:
            log.rows[id] = msgspec.structs.replace(log.move(id, version=1), end_reason="closed", ended_at=1)
        case "close":
            node.hub.close_empty(time.monotonic() + 1)
        case "open" if is_there:
            await node.open(id)
        case "compare":
            await compare(node)
        case "away":
            log.is_away = not log.is_away
        case "meanwhile":
            log.meanwhile["tally" if amount == 1 else "standings"] = partial(say, node, id)
        case "wait":
            await turns(amount * 5)


def say(node: Node, id: str) -> None:
    if node.log.rows[id].end_reason is None:
        node.say(id)


async def compare(node: Node) -> None:
    try:
        await node.comparison.compare()
    except Unavailable:
        assert node.log.is_away


async def run(plan: list[tuple[str, str, int]]) -> None:
    node = Node()
    try:
        for id in ROOMS[::2]:
            await node.open(id)
        for kind, id, amount in plan:
            await act(node, kind, id, amount)
            node.check()
        node.log.is_away = False
        node.log.meanwhile.clear()
        hosted = list(node.hub.rooms)
        await node.comparison.compare()
        await until(lambda: all(map(node.is_told, hosted)) and not node.tasks)
        # Twice more: a mended room is read, and then settled with all others.
        await node.comparison.compare()
        assert (await node.asked())[1] == []
        node.check()
    finally:
        await node.close()


@given(st.lists(STEPS, max_size=30))
@settings(max_examples=150)
def test_whatever_is_lost_the_next_comparison_finds_it(plan: list[tuple[str, str, int]]) -> None:
    asyncio.run(run(plan))
