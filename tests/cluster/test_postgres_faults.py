"""Postgres may be away: no ack of what is not stored, nothing stored twice, and all heals by itself."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.servers.faults import CutAnswer, CutRequest
from loadtest.servers.postgres import PostgresServer
from loadtest.servers.proxy import FaultProxy
from loadtest.servers.wire import Unit
from tests.cluster.faults import AnswersHeld, BackendsTerminated, Fault, PostgresKilled, PostgresStopped
from tests.cluster.modes import readiness, told, until_degraded, until_whole
from tests.cluster.trial import Size, Trial, trial
from tests.cluster.world import Ground
from tests.evidence.timing import Spread, ack_delays, while_
from tests.waiting import later

SMALL = Size(clients=45, sessions=15)
RATE = 60.0
# Back, a node needs one look a second to notice, and a client its pause before it sends again.
HEALED_WITHIN_S = 10.0


async def sends_survive(run: Trial, fault: Fault, seconds: float) -> None:
    """Talk before, during and after; sockets stay open and signals flow all the while."""
    async with run.crowd.talking(RATE, signals_per_s=20.0), readiness(run.world) as statuses:
        await later(1.0)
        async with run.fault(fault):
            await until_degraded(run.world, "postgres_away")
            await later(seconds)
        await until_whole(run.world, "postgres_away")
        await later(1.0)
    assert set(statuses) == {200}, statuses
    assert await run.verdict(within=HEALED_WITHIN_S) == []
    assert run.crowd.losses == []
    assert told(run.world, "postgres_away") == [(1, 1)] * len(run.world.nodes)
    begin, end = while_(fault.name, run.history.records)
    heard = [signal for one in run.crowd.speakers for signal in one.signals if signal.is_from_afar]
    during = Spread.of([signal.heard_at - signal.sent_at for signal in heard if begin < signal.sent_at < end])
    refused = sum(one.refusals["unavailable"] for one in run.crowd.speakers)
    delays = Spread.of(ack_delays(run.history.records, begin, end))
    print(f"\n{refused} refusals; acked after {delays}; signals to other nodes meanwhile: {during}")
    assert refused > 0
    assert during.count > 10
    assert during.p99 < 1.0


@pytest.mark.timeout(120)
async def test_postgres_stops_for_a_while(
    tmp_path: Path, mortal_ground: Ground, mortal: PostgresServer
) -> None:
    async with trial(tmp_path, mortal_ground, SMALL) as run:
        await sends_survive(run, PostgresStopped(mortal), 6.0)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_postgres_is_killed(tmp_path: Path, mortal_ground: Ground, mortal: PostgresServer) -> None:
    async with trial(tmp_path, mortal_ground, SMALL) as run:
        await sends_survive(run, PostgresKilled(mortal), 2.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_postgres_stops_for_half_a_minute(
    tmp_path: Path, mortal_ground: Ground, mortal: PostgresServer
) -> None:
    async with trial(tmp_path, mortal_ground, SMALL) as run:
        await sends_survive(run, PostgresStopped(mortal), 30.0)


@pytest.mark.timeout(120)
async def test_all_backends_are_terminated_again_and_again(
    tmp_path: Path, mortal_ground: Ground, mortal: PostgresServer
) -> None:
    async with trial(tmp_path, mortal_ground, SMALL) as run:
        async with run.crowd.talking(RATE):
            for _ in range(6):
                await later(0.5)
                async with run.fault(BackendsTerminated(mortal, mortal_ground.database_url)):
                    await later(0.2)
            await later(1.0)
        assert await run.verdict(within=HEALED_WITHIN_S) == []
        assert run.crowd.losses == []
    print(f"\nsend to ack: {Spread.of(ack_delays(run.history.records))}")


# -- the cut between COMMIT and its answer

MARK = b"cut here"


def is_marked(unit: Unit) -> bool:
    """Whether the client says something with the mark in it: an append of a message that has it."""
    return MARK in unit.data


@pytest.fixture
async def proxies(mortal: PostgresServer) -> AsyncIterator[list[FaultProxy]]:
    """One before Postgres for each node."""
    made = [await FaultProxy.start(("127.0.0.1", mortal.port), speech="postgres") for _ in range(3)]
    yield made
    for proxy in made:
        await proxy.close()


@pytest.mark.timeout(120)
async def test_what_postgres_has_committed_and_cannot_say_is_found_out(
    tmp_path: Path, mortal_ground: Ground, proxies: list[FaultProxy]
) -> None:
    urls = tuple(proxy.url_of(mortal_ground.database_url) for proxy in proxies)
    async with trial(tmp_path, replace(mortal_ground, database_urls=urls), SMALL) as run:
        # Longer than a node waits for a statement: it gives its connections up and asks anew.
        await sends_survive(run, AnswersHeld(proxies), 4.0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", [CutAnswer, CutRequest], ids=["after it", "before it"])
async def test_a_commit_is_cut_and_the_message_is_stored_once(
    kind: type[CutAnswer] | type[CutRequest], tmp_path: Path, mortal_ground: Ground, proxies: list[FaultProxy]
) -> None:
    urls = tuple(proxy.url_of(mortal_ground.database_url) for proxy in proxies)
    async with trial(tmp_path, replace(mortal_ground, database_urls=urls), SMALL) as run:
        async with run.crowd.talking(RATE):
            cuts = [proxy.add(kind(is_marked, times=4)) for proxy in proxies]
            for _ in range(12):
                await later(0.3)
                for room in run.crowd.rooms[:3]:
                    for speaker in room.speakers:
                        speaker.say(room.id, f"{room.id} {MARK.decode()}")
            await later(0.5)
        assert await run.verdict(within=HEALED_WITHIN_S) == []
        assert run.crowd.losses == []
    assert [cut.cuts for cut in cuts] == [4, 4, 4]
    duplicates = sum(one.duplicates for one in run.crowd.speakers)
    refused = sum(one.refusals["unavailable"] for one in run.crowd.speakers)
    print(
        f"\n{duplicates} acked as duplicates, {refused} refused; {Spread.of(ack_delays(run.history.records))}"
    )
