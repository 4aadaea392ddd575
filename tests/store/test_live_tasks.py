"""What the live indexes promise of the tasks of operators: every node finds them, for a while, by tenant."""

from store.live import Live
from tests.store.backends.timed import Timed

TTL_MS = 30_000


async def test_a_task_is_found_as_it_was_stored_last_until_its_time_is_over(timed_live: Timed[Live]) -> None:
    live = timed_live.store
    assert await live.task("t", "a1") is None
    assert await live.tasks("t", limit=10) == []
    await live.put_task("t", "a1", b"begun", ttl_ms=TTL_MS)
    await timed_live.elapse(TTL_MS * 2 // 3)
    await live.put_task("t", "a1", b"done", ttl_ms=TTL_MS)
    await live.put_task("t", "a2", b"other", ttl_ms=TTL_MS)
    await timed_live.elapse(TTL_MS * 2 // 3)
    assert await live.task("t", "a1") == b"done"
    await timed_live.elapse(TTL_MS * 2 // 3)
    assert await live.task("t", "a1") is None
    assert await live.tasks("t", limit=10) == []


async def test_tasks_are_listed_latest_first_and_no_more_than_asked_for(live: Live) -> None:
    for n in (3, 1, 2, 5, 4):
        await live.put_task("t", f"a{n}", b"%d" % n, ttl_ms=TTL_MS)
    assert await live.tasks("t", limit=3) == [b"5", b"4", b"3"]
    assert await live.tasks("t", limit=9) == [b"5", b"4", b"3", b"2", b"1"]


async def test_a_task_is_its_tenants_alone(live: Live) -> None:
    await live.put_task("t", "a1", b"ours", ttl_ms=TTL_MS)
    await live.put_task("u", "a2", b"theirs", ttl_ms=TTL_MS)
    await live.put_task("", "rebalance", b"of the nodes", ttl_ms=TTL_MS)
    assert (await live.task("u", "a1"), await live.task("", "a1")) == (None, None)
    assert await live.tasks("t", limit=10) == [b"ours"]
    assert await live.tasks("", limit=10) == [b"of the nodes"]
