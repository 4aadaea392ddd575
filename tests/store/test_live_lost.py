"""How what lost nodes leave is cleaned up in Redis, beside nodes that write at the same moment."""

from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from store.live_redis.live import RedisLive
from tests.store.backends.rewind import Contents
from tests.store.making import entry
from tests.store.test_live_nodes import CLAIM_MS, CONNECTION_MS, LEASE_MS, WINDOW_MS, of


class Place(NamedTuple):
    """A live store, and what lies in its Redis."""

    live: RedisLive
    contents: Contents


@pytest.fixture(params=["redis62", "redis7", "redis_cluster"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    servers = request.getfixturevalue(request.param)
    prefix = f"t{uuid4().hex[:8]}"
    live = RedisLive(servers.url, prefix)
    with closing(Contents(servers, prefix)) as contents:
        yield Place(live, contents)
    await live.close()


async def test_what_is_asserted_between_two_steps_of_a_clean_up_stays(place: Place) -> None:
    live, contents = place
    await live.assert_connections([of("n1/a", "c1", sessions=("s",))], lease_ms=CONNECTION_MS)
    contents.age(LEASE_MS)
    read = live._lost._theirs

    async def slow(life: str, connections: Sequence[tuple[str, str]]) -> Any:
        theirs = await read(life, connections)
        await live.assert_connections([of("n1/b", "c1", sessions=("s",))], lease_ms=CONNECTION_MS)
        return theirs

    live._lost._theirs = slow  # type: ignore[method-assign]
    remains = await live.take_lost("n1/a", limit=9, claim_ms=CLAIM_MS, window_ms=WINDOW_MS)
    assert remains.cleaned == 1
    await live.release_lost(remains)
    back = entry("c1", incarnation="b", sessions=("s",))
    assert await live.connections_of_session("t", "s") == [back]
    assert await live.connections_of_user("t", "alice") == [back]
    assert await live.connection("t", "c1") == back
    assert not await live.leave("t", "s", "alice")


async def test_a_place_in_a_lost_nodes_index_that_is_no_longer_true_harms_nobody(place: Place) -> None:
    live, contents = place
    back = of("n1/b", "c1", sessions=("s",))
    await live.assert_connections([back], lease_ms=CONNECTION_MS)
    for id in ("c1", "unknown"):
        contents.put_member("node:n1/a:connections", f"t/{id}", CONNECTION_MS)
    remains = await live.take_lost("n1/a", limit=9, claim_ms=CLAIM_MS, window_ms=WINDOW_MS)
    assert (sorted(remains.connections), remains.cleaned, remains.leaves) == (
        [("t", "c1"), ("t", "unknown")],
        0,
        (),
    )
    await live.release_lost(remains)
    assert await live.connections_of_session("t", "s") == [back]
    assert await live.connections_of_user("t", "alice") == [back]
    assert contents.everything().get("node:n1/a:connections") is None
