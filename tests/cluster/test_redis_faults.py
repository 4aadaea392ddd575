"""Redis is disposable: whatever happens to it costs latency and presence, never a message or an ack."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from loadtest.servers.redis import RedisServer
from tests.cluster.faults import (
    Fault,
    RedisBuffersTiny,
    RedisFull,
    RedisKilled,
    RedisPaused,
    RedisReplica,
    RedisTold,
)
from tests.cluster.modes import readiness, told, until_degraded, until_whole
from tests.cluster.trial import Size, Trial, trial
from tests.cluster.world import Ground
from tests.evidence.timing import Spread, ack_delays, delivery_delays, while_
from tests.waiting import later

SMALL: Final = Size(clients=45, sessions=15)
RATE: Final = 60.0
# An ack that waited for Redis would be later by its time limit of a second, or come when the fault is over.
LATER_BY_S: Final = 1.0
# Heads are compared every second while Redis is away, and once more when it is back.
DELIVERED_WITHIN_S: Final = 5.0
# Buffers of connections come and go; anything that gathers would be more, or grow with the next fault.
GROWTH_BYTES: Final = 2 << 20


@dataclass(frozen=True)
class Case:
    """A fault, how long it lasts, and the mode it puts a node into (None: it may be over too soon)."""

    make: Callable[[RedisServer], Fault]
    seconds: float
    mode: str | None = None
    has_burst: bool = False


CASES: Final = {
    "killed": Case(RedisKilled, 2.0, "redis_away"),
    "paused": Case(RedisPaused, 2.0, "redis_away"),
    "flushed": Case(lambda redis: RedisTold(redis, "FLUSHALL"), 1.0),
    "subscribers killed": Case(lambda redis: RedisTold(redis, "CLIENT", "KILL", "TYPE", "pubsub"), 1.0),
    "buffers tiny": Case(RedisBuffersTiny, 2.0, has_burst=True),
}


def shout(run: Trial) -> None:
    """Have everybody say much at once: more than the sockets to the subscribers take in one go."""
    for room in run.crowd.rooms:
        for speaker in room.speakers:
            for _ in range(6):
                speaker.say(room.id, f"{room.id} {'!' * 3000}")


def used(redis: RedisServer) -> int:
    """How much memory Redis takes."""
    return int(redis.run("INFO", "memory")["used_memory"])


async def nothing_is_lost(run: Trial, redis: RedisServer, case: Case) -> None:
    """Talk before, during and after; everything is acked and delivered, and the indexes are true again."""
    fault = case.make(redis)
    await run.until_indexes_are_true()
    async with run.crowd.talking(RATE), readiness(run.world) as statuses:
        await later(1.0)
        before = used(redis)
        async with run.fault(fault):
            if case.has_burst:
                shout(run)
            if case.mode is not None:
                await until_degraded(run.world, case.mode)
            await later(case.seconds)
        if case.mode is not None:
            await until_whole(run.world, case.mode)
        await run.until_indexes_are_true()
        await later(1.0)
    # Every node in turn would be taken out of the balancer, for something that all of them have in common.
    assert set(statuses) == {200}, statuses
    await run.crowd.settle()
    after = used(redis)
    assert await run.verdict() == []
    assert run.crowd.losses == []
    for mode in ("redis_away", "bus_deaf", "postgres_away"):
        assert told(run.world, mode) == [(1, 1) if mode == case.mode else (0, 0)] * len(run.world.nodes), mode
    during = while_(fault.name, run.history.records)
    calm = Spread.of(ack_delays(run.history.records, end=during[0]))
    acks = Spread.of(ack_delays(run.history.records, *during))
    afar = Spread.of(list(delivery_delays(run.history.records, *during)))
    print(f"\nduring: send to ack {acks}; to another node {afar}")
    print(f"Redis had {before >> 10} KiB, then {after >> 10} KiB")
    assert acks.count > 0
    # A burst waits for itself: for the commits and the deliveries before its own.
    assert case.has_burst or acks.p99 < calm.p99 + LATER_BY_S
    assert afar.longest < DELIVERED_WITHIN_S
    assert after < before + GROWTH_BYTES


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_no_message_is_lost_and_no_ack_waits(
    tmp_path: Path, ground: Ground, redis: RedisServer, case: Case
) -> None:
    async with trial(tmp_path, ground, SMALL) as run:
        await nothing_is_lost(run, redis, case)
    # That Redis has really closed subscribers.
    assert ("output buffer limits" in (redis.folder / "redis.log").read_text()) == case.has_burst


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", [RedisPaused, RedisFull, RedisReplica])
async def test_redis_serves_nobody_for_ten_seconds(
    make: Callable[[RedisServer], Fault], tmp_path: Path, ground: Ground, redis: RedisServer
) -> None:
    async with trial(tmp_path, ground, SMALL) as run:
        await nothing_is_lost(run, redis, Case(make, 10.0, "redis_away"))
