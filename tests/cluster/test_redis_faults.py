"""Redis is disposable: whatever happens to it costs latency and presence, never a message or an ack."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtest.servers.redis import RedisServer
from tests.cluster.faults import Fault, RedisBuffersTiny, RedisKilled, RedisPaused, RedisTold
from tests.cluster.modes import until_degraded
from tests.cluster.trial import Size, Trial, trial
from tests.cluster.world import Ground
from tests.evidence.timing import Spread, ack_delays, delivery_delays, while_
from tests.waiting import later

SMALL = Size(clients=45, sessions=15)
RATE = 60.0
# An ack that waited for Redis would come after its time limit of a second, or when the fault is over.
ACKED_WITHIN_S = 1.0


@dataclass(frozen=True)
class Case:
    """A fault, how long it lasts, and the mode it puts a node into (None: it may be over too soon)."""

    make: Callable[[RedisServer], Fault]
    seconds: float
    mode: str | None
    has_burst: bool = False


CASES = {
    "killed": Case(RedisKilled, 4.0, "redis_away"),
    "paused": Case(RedisPaused, 5.0, "redis_away"),
    "flushed": Case(lambda redis: RedisTold(redis, "FLUSHALL"), 1.0, None),
    "subscribers killed": Case(lambda redis: RedisTold(redis, "CLIENT", "KILL", "TYPE", "pubsub"), 1.0, None),
    "buffers tiny": Case(RedisBuffersTiny, 2.0, None, has_burst=True),
}


async def memory(redis: RedisServer) -> int:
    """What its data take; what it holds for its clients comes and goes."""
    return int(redis.run("INFO", "memory")["used_memory_dataset"])


def shout(run: Trial) -> None:
    """Have everybody say much at once: more than the sockets to the subscribers take in one go."""
    for room in run.crowd.rooms:
        for speaker in room.speakers:
            for _ in range(8):
                speaker.say(room.id, f"{room.id} {'!' * 3000}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_no_message_is_lost_and_no_ack_waits(
    tmp_path: Path, ground: Ground, redis: RedisServer, case: Case
) -> None:
    fault = case.make(redis)
    async with trial(tmp_path, ground, SMALL) as run:
        await run.until_indexes_are_true()
        async with run.crowd.talking(RATE):
            await later(1.0)
            async with run.fault(fault):
                if case.mode is not None:
                    await until_degraded(run.world, case.mode, is_degraded=True)
                if case.has_burst:
                    shout(run)
                await later(case.seconds)
            if case.mode is not None:
                await until_degraded(run.world, case.mode, is_degraded=False)
            await run.until_indexes_are_true()
            await later(1.0)
        assert await run.verdict() == []
        assert run.crowd.losses == []
    records = run.history.records
    during = while_(fault.name, records)
    acks = Spread.of(ack_delays(records, *during))
    print(
        f"\nduring: send to ack {acks}; to another node {Spread.of(list(delivery_delays(records, *during)))}"
    )
    assert acks.count > 0
    assert acks.p99 < ACKED_WITHIN_S
