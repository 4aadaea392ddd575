"""Many clients on three nodes, with senders at all of them in the same sessions at the same moment."""

import asyncio
from pathlib import Path

import pytest

from loadtest.servers.redis import RedisClusterServers, RedisServer
from tests.cluster.trial import GONE, Size, Trial, trial
from tests.cluster.truth import until_true
from tests.cluster.world import LEASE_MS, Ground
from tests.evidence.timing import Spread, ack_delays, delivery_delays
from tests.waiting import later, until

CROWD = Size(clients=300, sessions=60)
# Each message goes to four others, so that the machine has six times as much to do.
RATE = 120.0


async def traffic(run: Trial, seconds: float) -> None:
    """Let them talk, and hold everything that anybody saw against the database."""
    async with run.crowd.talking(RATE):
        await later(seconds)
    assert await run.verdict() == []
    await run.until_nothing_is_left()
    assert run.crowd.losses == []
    records = run.history.records
    delivered = Spread.of(list(delivery_delays(records)))
    print(f"\n{run.crowd.sent} messages of {len(run.crowd.speakers)} clients on {len(run.world.nodes)} nodes")
    print(f"send to another node's client: {delivered}")
    print(f"send to ack: {Spread.of(ack_delays(records))}")
    # By hints, not by the comparison of heads, which takes seconds.
    assert delivered.count > run.crowd.sent
    assert delivered.p50 < 0.5


@pytest.mark.timeout(120)
async def test_three_nodes_keep_one_order_and_everybody_gets_everything(
    tmp_path: Path, ground: Ground
) -> None:
    async with trial(tmp_path, ground, CROWD) as run:
        await traffic(run, 10.0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", [pytest.param("redis62", marks=pytest.mark.slow), "redis_cluster"])
async def test_an_old_redis_and_a_cluster_serve_three_nodes_as_well(
    kind: str, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    server: RedisServer | RedisClusterServers = request.getfixturevalue(kind)
    async with trial(tmp_path, Ground(database, server.url), Size(clients=45, sessions=15)) as run:
        await run.until_indexes_are_true()
        async with run.crowd.talking(60.0):
            await later(3.0)
        assert await run.verdict() == []
        assert run.crowd.losses == []
    assert Spread.of(list(delivery_delays(run.history.records))).p50 < 0.5


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_three_nodes_keep_one_order_for_a_minute(tmp_path: Path, ground: Ground) -> None:
    async with trial(tmp_path, ground, CROWD) as run:
        await traffic(run, 60.0)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_what_a_killed_node_leaves_in_the_indexes_is_over_within_its_lease(
    tmp_path: Path, ground: Ground
) -> None:
    async with trial(tmp_path, ground, Size(clients=45, sessions=15)) as run:
        first, *_, last = run.world.nodes
        orphaned = [speaker for speaker in run.crowd.speakers if speaker.node == "n3"]
        # Some of them know no other node: they never come back, and nobody takes their places.
        lost = orphaned[::3]
        for room in run.crowd.rooms:
            room.speakers = [speaker for speaker in room.speakers if speaker not in lost]
        run.crowd.speakers = [speaker for speaker in run.crowd.speakers if speaker not in lost]
        back = [speaker for speaker in orphaned if speaker not in lost]
        try:
            async with run.crowd.talking(30.0):
                for speaker in back:
                    speaker.home = lambda: first.ws_url
                await last.kill()
                await until(lambda: all(one.node == "n1" and one.is_live for one in back), within=10)
                await run.until_indexes_are_true()
        finally:
            await asyncio.gather(*(speaker.leave() for speaker in lost))
        await until_true(run.world, run.crowd, GONE, within=LEASE_MS / 1000 + 5)
        assert await run.verdict() == []
