"""Clients that lose their connection while a server is away: served at once, or as soon as it is back."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer
from tests.cluster.faults import PostgresStopped, RedisPaused
from tests.cluster.speaker import Speaker
from tests.cluster.trial import Size, trial
from tests.cluster.world import Ground
from tests.waiting import until

# A Redis that hangs costs a time limit of a second here and there, not one after the other.
BACK_WITHIN_S: Final = 5.0


async def gone_and_back(who: Sequence[Speaker], is_back: Callable[[Speaker], bool]) -> float:
    """Have them all vanish; how long it takes until every one is back."""
    began = time.monotonic()
    for speaker in who:
        speaker.vanish()
    await until(lambda: all(is_back(speaker) for speaker in who), within=BACK_WITHIN_S, what="all back")
    return time.monotonic() - began


@pytest.mark.timeout(120)
async def test_whoever_comes_back_while_a_server_is_away_is_served(
    tmp_path: Path, mortal_ground: Ground, mortal: PostgresServer, redis: RedisServer
) -> None:
    async with trial(tmp_path, mortal_ground, Size(clients=60, sessions=20)) as run:
        half, others = run.crowd.speakers[::2], run.crowd.speakers[1::2]
        async with run.crowd.talking(40.0):
            async with run.fault(RedisPaused(redis)):
                first = await gone_and_back(half, lambda speaker: speaker.is_live)
                again = await gone_and_back(others, lambda speaker: speaker.is_live)
            await run.until_indexes_are_true()
            async with run.fault(PostgresStopped(mortal)):
                # Welcome; what they read stands in the database.
                welcome = await gone_and_back(half, lambda speaker: speaker.is_connected)
            await until(lambda: all(one.is_live for one in half), within=BACK_WITHIN_S, what="all live")
            await run.until_indexes_are_true()
        assert await run.verdict() == []
    print(
        f"\nRedis hangs: live after {first:.1f} s, {again:.1f} s; no Postgres: welcome after {welcome:.1f} s"
    )
