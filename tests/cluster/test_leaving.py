"""A node is told to leave while its clients talk: what they see of it, and when it is gone."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.proxy import FaultProxy
from loadtest.servers.redis import RedisServer
from tests.clients.test_javascript import packages as packages
from tests.cluster.faults import AnswersHeld, RedisPaused
from tests.cluster.rolling import BEYOND_DRAIN_S, balanced
from tests.cluster.speaker import Speaker
from tests.cluster.trial import Size, Trial, trial
from tests.cluster.world import Ground, World
from tests.evidence.checker import check
from tests.evidence.stored import read_postgres
from tests.process import GatewayProcess
from tests.waiting import later, until

MOVER: Final = Path(__file__).with_name("mover.mjs")
CROWD: Final = Size(clients=45, sessions=15)


def sheltered(run: Trial) -> list[Speaker]:
    """Those of the first node, who from now on know another one."""
    leaving = [speaker for speaker in run.crowd.speakers if speaker.node == "n1"]
    for speaker in leaving:
        speaker.home = lambda: run.world.nodes[1].ws_url
    return leaving


def event(gateway: GatewayProcess, name: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in gateway.output.splitlines() if line.startswith("{")]
    (found,) = [line for line in lines if line.get("event") == name]
    return dict(found)


async def progress(gateway: GatewayProcess, method: str = "GET") -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.request(method, f"{gateway.ops_url}/api/v1/nodes/self/drain")
    return dict(answer.json()["data"])


@pytest.mark.timeout(120)
async def test_clients_that_ignore_it_are_served_up_to_the_deadline_and_lose_nothing(
    tmp_path: Path, ground: Ground
) -> None:
    async with trial(tmp_path, ground, CROWD, {"GATEWAY_DRAIN_S": "3"}) as run:
        leaving = sheltered(run)
        async with run.crowd.talking(80.0):
            began = time.monotonic()
            assert await run.world.nodes[0].terminate(within=3 + BEYOND_DRAIN_S) == 0
            took = time.monotonic() - began
            await until(lambda: all(one.is_live for one in leaving), within=10, what="all elsewhere")
            await later(0.5)
        assert await run.verdict() == []
    assert 3 <= took < 3 + BEYOND_DRAIN_S
    assert [one.losses[0] for one in leaving] == ["4000 the node is leaving"] * len(leaving)
    # While it drained they were served: what came in those seconds was acked, and not only at their end.
    acks = [r for r in run.history.records if r.op == "ack" and r.client in {one.name for one in leaving}]
    assert sum(began + 1 < ack.at < began + 2.5 for ack in acks) > 10
    ended = event(run.world.nodes[0], "drain_ended")
    assert (ended["closed"], ended["moved"], ended["left"]) == (len(leaving), 0, 0)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("after_s", [0.05, 1.0, 3.0])
async def test_a_second_signal_hurries_and_loses_nothing(
    tmp_path: Path, ground: Ground, after_s: float
) -> None:
    async with trial(tmp_path, ground, CROWD, {"GATEWAY_DRAIN_S": "60"}) as run:
        leaving = sheltered(run)
        node = run.world.nodes[0]
        async with run.crowd.talking(80.0):
            os.kill(node.pid, signal.SIGTERM)
            await later(after_s)
            began = time.monotonic()
            assert await node.terminate(within=BEYOND_DRAIN_S) == 0
            took = time.monotonic() - began
            await until(lambda: all(one.is_live for one in leaving), within=10, what="all elsewhere")
        assert await run.verdict() == []
    assert took < 5
    assert event(node, "drain_ended")["hurried"] is True


@pytest.mark.timeout(120)
async def test_with_every_store_hanging_a_node_is_gone_in_time_and_nothing_acked_is_lost(
    tmp_path: Path, mortal_ground: Ground, mortal: PostgresServer, redis: RedisServer
) -> None:
    async with await FaultProxy.start(("127.0.0.1", mortal.port), speech="postgres") as proxy:
        direct = mortal_ground.database_url
        ground = Ground(direct, mortal_ground.redis_url, database_urls=(proxy.url_of(direct), direct, direct))
        async with trial(tmp_path, ground, CROWD, {"GATEWAY_DRAIN_S": "4"}) as run:
            leaving = sheltered(run)
            node = run.world.nodes[0]
            async with run.crowd.talking(60.0):
                os.kill(node.pid, signal.SIGTERM)
                await later(1.0)
                async with run.fault(RedisPaused(redis)), run.fault(AnswersHeld([proxy])):
                    # A second signal would hurry it: it is only waited for.
                    began = time.monotonic()
                    process = node._process
                    assert process is not None
                    assert await asyncio.wait_for(process.wait(), 3 + BEYOND_DRAIN_S) == 0
                    took = time.monotonic() - began
                await until(lambda: all(one.is_live for one in leaving), within=15, what="all elsewhere")
            await run.crowd.settle(within=30)
            # Not the indexes: what the node could not take out of them stands there up to its lease.
            assert check(run.history.records, await read_postgres(direct)) == []
    print(f"\ngone {took:.1f} s after the stores began to hang, of which the window was 3 s")


@asynccontextmanager
async def mover(url: str, token: str, session: str) -> AsyncIterator[list[dict[str, Any]]]:
    """The client in JavaScript; what it tells. At the end of the block it has ended by itself."""
    node = shutil.which("node")
    assert node is not None
    process = await asyncio.create_subprocess_exec(
        node, MOVER, url, token, session, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told: list[dict[str, Any]] = []

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            told.append(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        await until(lambda: any("ready" in each for each in told), within=10, what="the client is ready")
        yield told
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 15)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
async def test_the_javascript_client_moves_through_a_balancer_and_is_never_away(
    tmp_path: Path, ground: Ground, packages: Path
) -> None:
    async with (
        World(tmp_path, ground, env={"GATEWAY_DRAIN_S": "10"}) as world,
        balanced(world.nodes) as front,
    ):
        first = world.nodes[0]
        headers = {"Authorization": f"Bearer {first.token('alice')}"}
        async with httpx.AsyncClient(trust_env=False, base_url=first.url, headers=headers) as http:
            made = await http.post("/api/v1/sessions", json={"persistent": True})
        session = made.json()["data"]["session"]["id"]
        url = f"ws://127.0.0.1:{front.port}/ws"
        async with mover(url, first.token("alice"), session) as told:
            (home,) = [n for n, node in enumerate(world.nodes) if (await progress(node))["connections"]]
            node, target = world.nodes[home], front.targets[home]
            assert (await progress(node, "POST"))["phase"] == "draining"
            await until(lambda: not target.is_ready, within=5, what="the balancer sends nobody there")

            async def is_over() -> bool:
                return bool((await progress(node))["phase"] == "drained")

            await until(is_over, within=10)
            done = await progress(node)
            assert (done["moved"], done["closed"], done["connections"]) == (1, 0, 0)
            assert done["seconds"] < 8, "it is over when all have moved"
            await later(0.5)
            # Drained, it stays until it is told to end, and then it goes at once.
            began = time.monotonic()
            assert await node.terminate() == 0
            assert time.monotonic() - began < 5
    states = [each["state"] for each in told if "state" in each]
    assert states == ["online", "closed"], "closed by itself at its end"
    assert not [each for each in told if "error" in each]
    seqs = [each["seq"] for each in told if "seq" in each]
    (said,) = [each["said"] for each in told if "said" in each]
    assert seqs == list(range(1, said + 1))
    assert sorted(each["ack"] for each in told if "ack" in each) == seqs
    assert [each["event"] for each in told if "event" in each] == []
    print(f"\n{said} messages, the slowest ack {max(each.get('ms', 0) for each in told):.0f} ms")
