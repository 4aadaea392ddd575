"""The log or the indexes are away: who asks is answered in time, who stays goes on, and all of it heals."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.runtime import committer as committer_module
from gateway.runtime import health as health_module
from gateway.runtime import patience as patience_module
from tests.runtime.nodes import Cluster, nodes
from tests.runtime.world import Client
from tests.waiting import later, turns, until


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the time."""
    for module, names in (
        (committer_module, ("OVERDUE_S", "LOOK_S", "RETRY_FIRST_S", "RETRY_LAST_S")),
        (health_module, ("PROBE_S", "LOG_LIMIT_S", "LIVE_LIMIT_S")),
        (patience_module, ("REQUEST_LIMIT_S",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name) / 10)


LIMIT_S = 0.5 + 0.25  # a tenth of the promised 5 s, and some for a busy machine


async def room(cluster: Cluster) -> tuple[Client, Client, str]:
    alice = await cluster.client(0, "alice")
    session = await alice.open()
    bob = await cluster.member(0, "bob", alice, session)
    await alice.send(session, "before")
    await until(lambda: bob.messages(session) == [1])
    return alice, bob, session


async def is_known(cluster: Cluster, mode: str, node: int = 0) -> None:
    await until(lambda: mode in cluster.nodes[node].health.degraded, what=mode)


async def refused_in_time(client: Client, frame_type: str, **fields: Any) -> None:
    begun = time.monotonic()
    answer = await client.ask(frame_type, **fields)
    assert (answer["type"], answer.get("code")) == ("error", "unavailable"), answer
    assert answer["retryable"]
    assert answer["retry_after_ms"] > 0
    assert time.monotonic() - begun < LIMIT_S


async def everything_is_refused_in_time(cluster: Cluster, client: Client, session: str) -> None:
    await refused_in_time(client, "send", session=session, content="now")
    await refused_in_time(client, "attach", session=session)
    await refused_in_time(client, "open")
    await refused_in_time(client, "update", session=session, title="now")
    await refused_in_time(client, "close", session=session)


@pytest.mark.parametrize("how", ["away", "hanging"])
async def test_while_the_log_is_away_who_asks_is_refused_in_time_and_who_stays_goes_on(
    tmp_path: Path, hurried: None, how: str
) -> None:
    async with nodes(tmp_path, 1) as cluster:
        alice, bob, session = await room(cluster)
        log = cluster.logs[0]
        if how == "away":
            log.go_away()
        else:
            log.hang()
        # Before it is known, all at once; afterwards, one by one.
        await asyncio.gather(*(everything_is_refused_in_time(cluster, who, session) for who in (alice, bob)))
        await is_known(cluster, "postgres_away")
        await everything_is_refused_in_time(cluster, alice, session)
        alice.say("signal", session=session, name="typing")
        assert (await bob.next("signal"))["name"] == "typing"
        assert (await bob.ask("heartbeat", ts=1, seen={session: 1}))["type"] == "heartbeat"
        assert (await bob.ask("presence", session=session))["type"] == "presence"
        bob.say("read", session=session, seq=1)
        assert (await alice.next("read"))["user"] == "bob"
        carol = await cluster.client(0, "carol")
        assert carol.outlet.closed is alice.outlet.closed is bob.outlet.closed is None
        assert how == "hanging" or cluster.nodes[0].postponed["comparison"] > 0
        log.come_back()
        begun = time.monotonic()
        await until(lambda: not cluster.nodes[0].health.degraded)
        assert (await alice.send(session, "after"))["type"] == "ack"
        assert time.monotonic() - begun < 0.2 + 0.2  # a tenth of 2 s, and some
        await until(lambda: bob.messages(session)[-1] == alice.messages(session)[-1])
        assert bob.messages(session) == list(range(1, bob.messages(session)[-1] + 1))

        async def marked() -> bool:
            return any(c.user == "bob" and c.read == 1 for c in await cluster.log.cursors(session))

        await until(marked)


async def test_while_the_log_is_known_to_be_away_nobody_waits_for_it(tmp_path: Path, hurried: None) -> None:
    async with nodes(tmp_path, 1) as cluster:
        alice, _, session = await room(cluster)
        cluster.logs[0].hang()
        await is_known(cluster, "postgres_away")
        await later(0.5)  # what was asked before has been given up
        begun = time.monotonic()
        for n in range(50):
            answer = await alice.ask("send", session=session, content=f"m{n}")
            assert answer["code"] == "unavailable"
            assert (await alice.ask("attach", session=session))["code"] == "unavailable"
        assert time.monotonic() - begun < LIMIT_S
        assert cluster.nodes[0].committer.waiting == 0


async def test_a_hello_with_many_sessions_waits_for_the_log_once(
    tmp_path: Path, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "MISSES", 1_000)  # nobody knows
    async with nodes(tmp_path, 1) as cluster:
        alice = await cluster.client(0, "alice")
        sessions = [await alice.open() for _ in range(20)]
        cluster.logs[0].hang()
        begun = time.monotonic()
        again = cluster.worlds[0].connect()
        attach = [{"session": session, "since": 0} for session in sessions]
        assert (await again.hello("alice", attach=attach))["type"] == "welcome"
        for _ in sessions:
            assert (await again.next("error"))["code"] == "unavailable"
        assert time.monotonic() - begun < LIMIT_S
        assert again.outlet.closed is None


async def test_a_hello_with_many_sessions_does_not_wait_for_a_slow_log_for_each(
    tmp_path: Path, hurried: None
) -> None:
    async with nodes(tmp_path, 1) as cluster:
        alice = await cluster.client(0, "alice")
        sessions = [await alice.open() for _ in range(20)]
        cluster.logs[0].delay_s = 0.15
        begun = time.monotonic()
        again = cluster.worlds[0].connect()
        await again.hello("alice", attach=[{"session": session, "since": 0} for session in sessions])
        answers = [await again.next("attached", "error") for _ in sessions]
        assert time.monotonic() - begun < LIMIT_S + 0.15
        kinds = [answer["type"] for answer in answers]
        assert 2 <= kinds.count("attached") <= 4
        assert all(answer.get("code", "unavailable") == "unavailable" for answer in answers)


async def test_markers_that_the_log_does_not_take_do_not_hold_up_the_indexes(tmp_path: Path) -> None:
    async with nodes(tmp_path, 1) as cluster:
        alice, bob, session = await room(cluster)
        cluster.logs[0].hang()
        bob.say("read", session=session, seq=1)
        await until(lambda: not cluster.nodes[0].leases._marks)  # on their way
        bob.vanish()

        async def is_gone() -> bool:
            here = await cluster.live.connections_of_session("default", session)
            return [entry.id for entry in here] == [alice.connection.id]

        await until(is_gone, within=1.0)
        cluster.logs[0].come_back()


async def test_while_the_indexes_are_away_clients_come_talk_and_go(tmp_path: Path, hurried: None) -> None:
    async with nodes(tmp_path, 2) as cluster:
        alice, bob, session = await room(cluster)
        cluster.lives[0].go_away()
        await is_known(cluster, "redis_away")
        carol = await cluster.client(0, "alice")
        assert (await carol.ask("attach", session=session, since=0))["type"] == "attached"
        await carol.send(session, "all the same")
        await until(lambda: bob.messages(session) == carol.messages(session) == [1, 2])
        assert cluster.nodes[0].readiness().reason is None
        assert cluster.nodes[0].readiness().degraded == ("redis_away",)
        alice.vanish()
        cluster.lives[0].come_back()
        await until(lambda: not cluster.nodes[0].health.degraded)

        async def is_true() -> bool:
            here = await cluster.live.connections_of_session("default", session)
            return {entry.id for entry in here} == {bob.connection.id, carol.connection.id}

        await until(is_true, what="the indexes to be true again")


async def test_no_session_expires_because_the_log_was_away_from_those_who_use_it(tmp_path: Path) -> None:
    async with nodes(tmp_path, 2, sweep_s=0.1) as cluster:
        alice = await cluster.client(0, "alice")
        session = await alice.open(ttl=1)
        for log in cluster.logs:
            log.go_away()
        begun = time.monotonic()
        while time.monotonic() - begun < 1.6:
            await alice.ask("heartbeat", ts=1)
            await later(0.05)
        # The node that does not host the session hears first that the log is back.
        cluster.logs[1].come_back()
        await later(0.15)
        cluster.logs[0].come_back()

        async def is_extended() -> bool:
            row = await cluster.log.get("default", session)
            assert row is not None
            assert row.end_reason is None
            assert row.expires_at is not None
            return row.expires_at > cluster.worlds[0].clock.now_ms()

        await until(is_extended)
        # Nobody uses it any more: it ends when its time is over, once.
        event = await alice.next("session")
        assert event["event"] == "expired"
        kinds = [event.kind for event in await cluster.log.events(after=0, limit=100)]
        assert kinds.count("expired") == 1


async def test_a_node_that_was_asleep_leaves_the_lives_of_others_alone_for_a_while(tmp_path: Path) -> None:
    async with nodes(tmp_path, 1, sweep_s=0.1) as cluster:
        sweeper = cluster.nodes[0].sweeper
        await until(lambda: time.monotonic() >= sweeper._expire_from)
        await turns()
        sweeper._swept_at -= 60
        assert not sweeper._may_expire()
        assert not sweeper._may_expire()
        await until(lambda: sweeper._may_expire(), within=1.0)
