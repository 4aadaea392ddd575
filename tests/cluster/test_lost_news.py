"""News of a session gets lost on the way to another node: its end, a takeover, a member who has to go."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx
import pytest

from loadtest.servers.faults import DropSome, on_channel
from loadtest.servers.proxy import FaultProxy
from loadtest.servers.redis import RedisServer
from tests.cluster.trial import Size, trial
from tests.cluster.world import Ground
from tests.gateway.talk import talk
from tests.waiting import until

# In the name of a session's channel.
SESSIONS: Final = b"{s:"
FOUND_WITHIN_S: Final = 5.0


@pytest.fixture
async def proxy(redis: RedisServer) -> AsyncIterator[FaultProxy]:
    """Before Redis for the second node, which is told nothing about sessions."""
    async with await FaultProxy.start(("127.0.0.1", redis.port), speech="resp") as made:
        made.add(DropSome(1.0, match=on_channel(SESSIONS)))
        yield made


@pytest.fixture
def half_deaf(ground: Ground, proxy: FaultProxy) -> Ground:
    """Ground on which the second of two nodes hears of no session."""
    return replace(ground, redis_urls=(ground.redis_url, proxy.url_of(ground.redis_url)))


@pytest.mark.timeout(60)
async def test_an_end_and_a_removal_are_found_though_nobody_tells(tmp_path: Path, half_deaf: Ground) -> None:
    async with trial(tmp_path, half_deaf, Size(clients=8, sessions=4, nodes=2)) as run:
        # In rooms with an even number the owner is at the first node, and the other one hears nothing.
        ended, _, left, _ = run.crowd.rooms
        for room in (ended, left):
            assert [speaker.node for speaker in room.speakers] == ["n1", "n2"]
        await ended.speakers[0].ask("close", ended.id)
        headers = {"Authorization": f"Bearer {left.speakers[0].token}"}
        async with httpx.AsyncClient(trust_env=False, base_url=run.world.nodes[0].url) as http:
            path = f"/api/v1/sessions/{left.id}/members/{left.speakers[1].name}"
            (await http.delete(path, headers=headers)).raise_for_status()
        for room, event in ((ended, "closed"), (left, "deleted")):
            deaf = room.speakers[1]
            await until(
                lambda events=deaf.events: len(events) > 0, within=FOUND_WITHIN_S, what=f"{event} told"
            )
            assert [frame["event"] for frame in deaf.events] == [event]
            refused = await deaf.ask("history", room.id)
            assert (refused["type"], refused["code"]) == ("error", "not_attached")


@pytest.mark.timeout(60)
async def test_whoever_is_superseded_can_write_no_more_and_hears_of_it(
    tmp_path: Path, half_deaf: Ground
) -> None:
    async with trial(tmp_path, half_deaf, Size(clients=2, sessions=1, nodes=2)) as run:
        first, second = run.world.nodes
        async with talk(second, "zoe") as old, talk(first, "zoe") as new:
            session = await old.open(title="Mine", exclusive=True)
            await new.ask("attach", session=session, since=0)
            refused = await old.ask("send", session=session, content="I am still here")
            assert (refused["type"], refused["code"]) == ("error", "superseded")
            assert (await new.ask("send", session=session, content="I am"))["type"] == "ack"
            told = await old.next("session")
            assert told["event"] == "superseded"
