"""What the live indexes promise of nodes: leases, who is lost, and that what is left is cleaned up once."""

import asyncio
from collections.abc import Sequence

from store.live import LOST_MS, Leave, Live, Remains
from store.types import ConnectionEntry, LiveSession, NodeEntry, SessionState, SessionStats
from tests.store.backends.timed import Timed
from tests.store.making import NOW, entry

LEASE_MS = 30_000
CONNECTION_MS = 100_000
CLAIM_MS = 5_000
WINDOW_MS = 120_000


def node(id: str = "n1", incarnation: str = "a", started_at: int = NOW) -> NodeEntry:
    return NodeEntry(id=id, url=None, started_at=started_at, incarnation=incarnation)


def of(life: str, id: str, **given: object) -> ConnectionEntry:
    name, _, incarnation = life.partition("/")
    return entry(id, node=name, incarnation=incarnation, **given)


async def asserted(live: Live, *entries: ConnectionEntry) -> None:
    await live.assert_connections(entries, lease_ms=CONNECTION_MS)


async def take(live: Live, life: str = "n1/a", limit: int = 100) -> Remains:
    return await live.take_lost(life, limit=limit, claim_ms=CLAIM_MS, window_ms=WINDOW_MS)


async def lost(timed: Timed[Live], *nodes: NodeEntry) -> None:
    """Register nodes, let their leases run out, and have n9 find it."""
    await run_out(timed, nodes, [node("n9")])
    roll = await timed.store.renew_node(node("n9"), lease_ms=LEASE_MS, buries=True)
    assert sorted(roll.found) == sorted(f"{each.id}/{each.incarnation}" for each in nodes)


async def run_out(timed: Timed[Live], some: Sequence[NodeEntry], others: Sequence[NodeEntry]) -> None:
    """Let the leases of some run out, while others renew theirs."""
    for each in some:
        await timed.store.renew_node(each, lease_ms=LEASE_MS)
    await timed.elapse(LEASE_MS * 2 // 3)
    for each in others:
        await timed.store.renew_node(each, lease_ms=LEASE_MS)
    await timed.elapse(LEASE_MS // 3)


async def emptied(live: Live, life: str) -> list[Leave]:
    """Take and release all there is; who may have left."""
    leaves: list[Leave] = []
    while not (remains := await take(live, life, 7)).is_empty:
        leaves += remains.leaves
        await live.release_lost(remains)
    return leaves


# -- leases


async def test_a_node_whose_lease_is_over_is_found_by_one_of_those_who_look(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await run_out(timed_live, [node()], [node(f"n{n}") for n in range(2, 7)])
    rolls = await asyncio.gather(
        *(live.renew_node(node(f"n{n}"), lease_ms=LEASE_MS, buries=True) for n in range(2, 7))
    )
    assert sorted(roll.found for roll in rolls) == [(), (), (), (), ("n1/a",)]
    for n in range(2, 7):
        assert (await live.renew_node(node(f"n{n}"), lease_ms=LEASE_MS)).lost == ("n1/a",)
    assert [each.id for each in await live.nodes()] == ["n2", "n3", "n4", "n5", "n6"]


async def test_who_may_not_bury_finds_nobody_lost(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await run_out(timed_live, [node()], [node("n2")])
    roll = await live.renew_node(node("n2"), lease_ms=LEASE_MS)
    assert (roll.is_lost, roll.found, roll.lost) == (False, (), ())
    # It was only slow: whoever renews before it was found lives on.
    assert not (await live.renew_node(node(), lease_ms=LEASE_MS)).is_lost
    assert (await live.renew_node(node("n2"), lease_ms=LEASE_MS, buries=True)).found == ()


async def test_who_has_not_renewed_for_long_finds_nobody_lost(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    for n in (1, 2):
        await live.renew_node(node(f"n{n}"), lease_ms=LEASE_MS)
    # Redis was paused, and this call of n1 has waited there; so has one of n2, behind it.
    await timed_live.elapse(LEASE_MS)
    for id in ("n1", "n3"):
        assert (await live.renew_node(node(id), lease_ms=LEASE_MS, buries=True)).found == ()
    assert (await live.renew_node(node("n1"), lease_ms=LEASE_MS, buries=True)).found == ("n2/a",)


async def test_who_was_found_lost_stays_so_and_lives_on_under_another_incarnation(
    timed_live: Timed[Live],
) -> None:
    live = timed_live.store
    await lost(timed_live, node())
    for _ in range(3):
        assert (await live.renew_node(node(), lease_ms=LEASE_MS)).is_lost
    assert [each.id for each in await live.nodes()] == ["n9"]
    assert not (await live.renew_node(node(incarnation="b"), lease_ms=LEASE_MS)).is_lost
    assert [each.incarnation for each in await live.nodes()] == ["b", "a"]
    # Also when everything it had left is cleaned up.
    assert await live.release_lost(await take(live))
    assert (await live.renew_node(node(), lease_ms=LEASE_MS)).is_lost


async def test_of_several_incarnations_the_latest_is_listed(live: Live) -> None:
    await live.renew_node(node(incarnation="b", started_at=NOW + 1), lease_ms=LEASE_MS)
    await live.renew_node(node(incarnation="a"), lease_ms=LEASE_MS)
    assert [each.incarnation for each in await live.nodes()] == ["b"]


async def test_who_retires_is_gone_at_once_and_others_see_to_the_rest_after_the_grace(
    timed_live: Timed[Live],
) -> None:
    live = timed_live.store
    await live.renew_node(node(), lease_ms=LEASE_MS)
    await live.note_leaving("n1/a", [("t", "s", "alice")], lease_ms=CONNECTION_MS)
    await live.retire_node(node(), grace_ms=5_000)
    assert await live.nodes() == []
    assert (await live.renew_node(node("n2"), lease_ms=LEASE_MS, buries=True)).lost == ()
    await timed_live.elapse(5_000)
    roll = await live.renew_node(node("n2"), lease_ms=LEASE_MS, buries=True)
    assert (roll.found, roll.lost) == ((), ("n1/a",))
    assert (await take(live)).noted == (("t", "s", "alice"),)


# -- what they leave


async def test_what_a_lost_node_has_left_is_taken_once_and_is_in_no_index(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await asserted(live, *(of("n1/a", f"c{n}", user=f"u{n}", sessions=("s", f"s{n}")) for n in range(30)))
    await asserted(live, of("n2/a", "d", user="u1", sessions=("s",)))
    await live.renew_node(node("n2"), lease_ms=2 * LEASE_MS)
    await lost(timed_live, node())
    shares = await asyncio.gather(*(take(live, limit=8) for _ in range(5)))
    taken = [connection for share in shares for connection in share.connections]
    assert sorted(taken) == sorted(("t", f"c{n}") for n in range(30))
    assert sum(share.cleaned for share in shares) == 30
    leaves = [leave for share in shares for leave in share.leaves]
    assert sorted(leaves) == sorted(("t", s, f"u{n}") for n in range(30) for s in ("s", f"s{n}"))
    assert [each.id for each in await live.connections_of_session("t", "s")] == ["d"]
    assert [each.id for each in await live.connections_of_user("t", "u1")] == ["d"]
    told = [await live.leave(*leave) for leave in leaves]
    assert told.count(False) == 1  # u1 is in s still, elsewhere
    assert sorted([await live.release_lost(share) for share in shares]) == [False] * 4 + [True]
    assert await live.connection("t", "c1") is None
    assert await live.connection("t", "d") is not None
    assert (await live.renew_node(node("n9"), lease_ms=LEASE_MS, buries=True)).lost == ()


async def test_a_share_that_is_not_released_is_taken_again(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await asserted(live, of("n1/a", "c1", sessions=("s",)))
    await live.note_leaving("n1/a", [("t", "s2", "bob")], lease_ms=CONNECTION_MS)
    await lost(timed_live, node())
    first = await take(live)
    assert (await take(live)).is_empty
    # Whoever took it is at work: it is not over yet.
    assert not await live.release_lost(await take(live))
    await timed_live.elapse(CLAIM_MS)
    again = await take(live)
    assert (again.connections, set(again.leaves)) == (first.connections, set(first.leaves))
    assert set(again.leaves) == {("t", "s", "alice"), ("t", "s2", "bob")}
    assert await live.release_lost(again)
    assert not await live.release_lost(first)


async def test_what_was_asserted_under_another_incarnation_stays(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    entries = [of("n1/a", f"c{n}", sessions=("s",)) for n in range(4)]
    await asserted(live, *entries)
    await lost(timed_live, node())
    back = [of("n1/b", f"c{n}", sessions=("s",)) for n in range(2)]
    await asserted(live, back[0])
    remains = await take(live)
    # And also one that is asserted while its share is being cleaned up.
    await asserted(live, back[1])
    await live.release_lost(remains)
    assert await live.connections_of_session("t", "s") == back
    assert await live.connections_of_user("t", "alice") == back
    assert await live.connection("t", "c1") == back[1]
    assert not await live.leave("t", "s", "alice")


async def test_a_quick_restart_under_the_same_id_keeps_what_is_new(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await live.renew_node(node(), lease_ms=LEASE_MS)
    await asserted(live, of("n1/a", "old", sessions=("s",)))
    await asserted(live, of("n1/b", "new", sessions=("s",)))
    await run_out(timed_live, [], [node(incarnation="b", started_at=NOW + 1)])
    roll = await live.renew_node(node(incarnation="b", started_at=NOW + 1), lease_ms=LEASE_MS, buries=True)
    assert (roll.is_lost, roll.found) == (False, ("n1/a",))
    assert await emptied(live, "n1/a") == [("t", "s", "alice")]
    assert [each.id for each in await live.connections_of_session("t", "s")] == ["new"]
    assert (await take(live, "n1/b")).connections == (("t", "new"),)


async def test_what_resumed_elsewhere_is_not_left_any_more(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await asserted(live, of("n1/a", "old", sessions=("s",)))
    await live.forget([entry("old")])
    await asserted(live, of("n2/a", "new", sessions=("s",)))
    await lost(timed_live, node())
    assert await emptied(live, "n1/a") == []
    assert [each.id for each in await live.connections_of_session("t", "s")] == ["new"]


async def test_notes_that_were_taken_back_are_not_left(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    leaves = [("t", f"s{n}", "bob") for n in range(600)]
    await live.note_leaving("n1/a", leaves, lease_ms=CONNECTION_MS)
    await live.drop_leaving("n1/a", leaves[10:])
    await lost(timed_live, node())
    assert sorted(await emptied(live, "n1/a")) == sorted(leaves[:10])


async def test_the_sessions_of_a_lost_node_are_disconnecting_for_the_resume_window(
    timed_live: Timed[Live],
) -> None:
    live = timed_live.store
    stats = SessionStats(frames_in=3, rtt_ms=1.5, last_active=NOW)
    state: SessionState
    for id, state in (("s1", "active"), ("s2", "closed"), ("s3", "active")):
        record = LiveSession(id=id, tenant="t", state=state, node="n1", stats=stats, incarnation="a")
        await live.put_sessions([record], lease_ms=WINDOW_MS)
    await asserted(live, of("n1/a", "c1", sessions=("s1", "s2", "s3", "unknown")))
    await lost(timed_live, node())
    # Somebody reads it on another node.
    other = LiveSession(id="s3", tenant="t", state="idle", node="n2", stats=SessionStats(), incarnation="a")
    await live.put_sessions([other], lease_ms=WINDOW_MS)
    await emptied(live, "n1/a")
    found = {id: await live.session("t", id) for id in ("s1", "s2", "s3", "unknown")}
    states = {id: record and (record.state, record.stats.frames_in) for id, record in found.items()}
    assert states == {"s1": ("disconnecting", 3), "s2": ("closed", 3), "s3": ("idle", 3), "unknown": None}
    await timed_live.elapse(WINDOW_MS - 1_000)
    assert (await live.session("t", "s1")) is not None
    await timed_live.elapse(1_000)
    assert (await live.session("t", "s1")) is None


async def test_everything_may_be_lost_in_the_middle_of_it(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await asserted(live, of("n1/a", "c1", sessions=("s",)))
    await lost(timed_live, node())
    remains = await take(live)
    await timed_live.elapse(LOST_MS)
    assert not await live.release_lost(remains)
    assert (await take(live)).is_empty
    assert not await live.leave("t", "s", "alice")


async def test_thousands_are_cleaned_up_by_all_survivors_together(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    await lost(timed_live, node())
    await asserted(live, *(of("n1/a", f"c{n}", user=f"u{n}", sessions=("s",)) for n in range(1500)))
    parts = await asyncio.gather(*(emptied(live, "n1/a") for _ in range(4)))
    assert sorted(leave for part in parts for leave in part) == sorted(
        ("t", "s", f"u{n}") for n in range(1500)
    )
    assert await live.connections_of_session("t", "s") == []
