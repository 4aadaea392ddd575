"""Connections are moved between nodes that run, under traffic, and nobody misses anything or sees it."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import pytest

from session_gateway_client import Options, Session, connect
from tests.clients.test_javascript import packages as packages
from tests.cluster.rolling import Mover
from tests.cluster.test_leaving import mover
from tests.cluster.trial import Size, trial
from tests.cluster.world import Ground, World
from tests.evidence.checker import check
from tests.evidence.history import History
from tests.evidence.stored import read_postgres
from tests.process import ROOT, GatewayProcess, free_port
from tests.waiting import later, until

PER_S: Final = 60.0
SIGNS_PER_S: Final = 10.0
TOKEN_TTL_S: Final = 86_400


class Talk:
    """Movers at the nodes of a world, in one session, talking and making signs until told to stop."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.history = History(folder / "history.jsonl")
        self.movers: list[Mover] = []
        self.session = ""
        self.signs = 0
        self._chance = Random("moving")  # noqa: S311 - who says what
        self._stop = asyncio.Event()

    async def gather(self, group: asyncio.TaskGroup, count: int, nodes: int) -> None:
        """Have so many come, one after the other to the first nodes, and begin to talk."""
        first = self.world.nodes[0]
        for n in range(count):
            node = self.world.nodes[n % nodes]
            name = f"mover-{n}"
            token = node.token(name, ttl_s=TOKEN_TTL_S)
            self.movers.append(Mover(name, node.ws_url, token, self.history, group))
        await asyncio.gather(*(each.enter() for each in self.movers))
        owner, *others = self.movers
        session = await owner.client.open(persistent=True)
        self.session = session.id
        owner.join(session)
        headers = {"Authorization": f"Bearer {first.token(owner.name)}"}
        async with httpx.AsyncClient(trust_env=False, base_url=first.url, timeout=30) as http:
            for other in others:
                path = f"/api/v1/sessions/{session.id}/members/{other.name}"
                (await http.put(path, json={"role": "writer"}, headers=headers)).raise_for_status()
                other.join(await other.client.attach(session.id, since=0))
        for each in self.movers:  # joins are no news of a move
            each.leaves = 0
        group.create_task(self._talk(), name="they talk")
        await later(0.5)

    async def _talk(self) -> None:
        next_sign = time.monotonic()
        while not self._stop.is_set():
            self._chance.choice(self.movers).burst(self._chance, 1)
            if time.monotonic() >= next_sign:
                next_sign += 1 / SIGNS_PER_S
                self.signs += 1
                speaker = self._chance.choice(self.movers)
                speaker.sessions[self.session].signal("sign", {"n": self.signs})
            await later(self._chance.expovariate(PER_S))

    async def finish(self) -> None:
        """Wait until everything is answered and everybody has everything."""
        await later(0.5)
        self._stop.set()
        await until(lambda: all(each.is_settled for each in self.movers), within=30, what="all answered")
        acks = [record.seq or 0 for record in self.history.records if record.op == "ack"]
        heads = {self.session: max(acks)}
        await until(lambda: all(each.has_all(heads) for each in self.movers), within=30, what="all complete")
        for each in self.movers:
            each.note_complete()

    async def nobody_noticed(self, ground: Ground) -> None:
        """Hold what everybody saw against the log: nothing lost, twice, out of order, nobody away or gone."""
        assert check(self.history.records, await read_postgres(ground.database_url)) == []
        for each in self.movers:
            assert each.acked == each.sent
            # An ack that the first socket did not bring would have come as a duplicate by the second.
            assert each.duplicates == 0
            assert each.gaps == []
            assert each.leaves == 0
            assert [n for n, times in each.heard_signals.items() if times > 1] == []
        assert sum(each.sent for each in self.movers) > 0
        assert sum(len(each.heard_signals) for each in self.movers) > 0


@asynccontextmanager
async def talk(world: World, folder: Path, count: int, nodes: int = 3) -> AsyncIterator[Talk]:
    """Movers that talk; at the end they have gone."""
    made = Talk(world, folder)
    try:
        async with asyncio.TaskGroup() as group:
            try:
                await made.gather(group, count, nodes)
                yield made
            finally:
                made._stop.set()
                await asyncio.gather(*(each.leave() for each in made.movers))
    finally:
        made.history.close()


async def call(node: GatewayProcess, method: str, path: str, **given: Any) -> dict[str, Any]:
    """Ask a node as an operator."""
    headers = {"Authorization": f"Bearer {node.token('olga', scopes=['operator'])}"}
    async with httpx.AsyncClient(trust_env=False, base_url=node.url, timeout=10) as http:
        answer = await http.request(method, f"/api/v1{path}", headers=headers, **given)
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json()["data"])


async def done(node: GatewayProcess, task: dict[str, Any], within: float = 20.0) -> dict[str, Any]:
    """Wait for the end of a task."""
    told: dict[str, Any] = {}

    async def is_over() -> bool:
        nonlocal told
        told = await call(node, "GET", f"/migrations/{task['id']}")
        return bool(told["state"] != "running")

    await until(is_over, within=within, what="the end of the task")
    return told


async def counts(world: World) -> list[int]:
    """Connections that are open at each node."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answers = [await http.get(f"{node.ops_url}/api/v1/nodes/self/drain") for node in world.nodes]
    return [answer.json()["data"]["connections"] for answer in answers]


async def until_counts(world: World, expected: list[int]) -> None:
    async def are_so() -> bool:
        return await counts(world) == expected

    await until(are_so, within=10, what=f"{expected} connections")


@pytest.mark.timeout(120)
async def test_a_session_on_three_nodes_is_brought_together_on_one_and_nobody_notices(
    tmp_path: Path, ground: Ground
) -> None:
    async with World(tmp_path, ground) as world:
        async with talk(world, tmp_path, 3) as run:
            await until_counts(world, [1, 1, 1])
            path = f"/sessions/{run.session}/migrate"
            for target in (2, 0, 1):
                task = await call(world.nodes[0], "POST", path, json={"node": f"n{target + 1}"})
                told = await done(world.nodes[1], task)
                assert (told["refused"], told["timed_out"]) == (0, 0), told
                assert told["moved"] + told["already_there"] == 3
                assert {each["node"] for each in told["outcomes"]} == {f"n{target + 1}"}
                await until_counts(world, [3 * (place == target) for place in range(3)])
                await later(0.5)
            await run.finish()
        await run.nobody_noticed(ground)


@asynccontextmanager
async def signalling(node: GatewayProcess, session: str) -> AsyncIterator[None]:
    """Bob, who makes a sign 20 times a second, and says nothing."""
    stop = asyncio.Event()
    client = connect(node.ws_url, token=node.token("bob"), options=Options(proxy=None))

    async def sign(attached: Session) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            attached.signal("sign", {"n": count})
            await later(0.05)

    async with client, asyncio.TaskGroup() as group:
        group.create_task(sign(await client.attach(session)), name="bob makes signs")
        yield
        stop.set()


@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize("is_reachable", [True, False], ids=["to the target", "who cannot reach the target"])
async def test_the_javascript_client_is_moved_and_never_away(
    tmp_path: Path, ground: Ground, packages: Path, is_reachable: bool
) -> None:
    env = {} if is_reachable else {"GATEWAY_ADVERTISE_URL": f"ws://127.0.0.1:{free_port()}/ws"}
    async with World(tmp_path, ground, count=2, env=env) as world:
        first, second = world.nodes
        headers = {"Authorization": f"Bearer {first.token('alice')}"}
        async with httpx.AsyncClient(trust_env=False, base_url=first.url, headers=headers) as http:
            made = await http.post("/api/v1/sessions", json={"persistent": True})
            session = made.json()["data"]["session"]["id"]
            await http.put(f"/api/v1/sessions/{session}/members/bob", json={"role": "writer"})
        async with (
            signalling(second, session),
            mover(first.ws_url, first.token("alice"), session) as told,
        ):
            await until(lambda: any("signal" in each for each in told), within=10, what="bob is heard")
            task = await call(second, "POST", "/users/alice/migrate", json={"node": "n2"})
            (outcome,) = (await done(second, task))["outcomes"]
            expected = ("moved", "n2") if is_reachable else ("refused", "n1")
            assert (outcome["outcome"], outcome["node"]) == expected
            await until_counts(world, [0, 2] if is_reachable else [1, 1])  # bob is at the second
            await later(0.5)
    assert [each["state"] for each in told if "state" in each] == ["online", "closed"]
    assert not [each for each in told if "error" in each]
    seqs = [each["seq"] for each in told if "seq" in each]
    (said,) = [each["said"] for each in told if "said" in each]
    assert seqs == list(range(1, said + 1))
    assert sorted(each["ack"] for each in told if "ack" in each) == seqs
    assert [each["event"] for each in told if "event" in each] == []
    signals = [each["signal"] for each in told if "signal" in each]
    assert signals == list(range(signals[0], signals[0] + len(signals)))


@pytest.mark.timeout(120)
async def test_python_clients_that_cannot_reach_the_target_come_back_by_the_address_they_know(
    tmp_path: Path, ground: Ground
) -> None:
    env = {"GATEWAY_ADVERTISE_URL": f"ws://127.0.0.1:{free_port()}/ws"}
    async with World(tmp_path, ground, env=env) as world:
        async with talk(world, tmp_path, 6) as run:
            task = await call(world.nodes[0], "POST", f"/sessions/{run.session}/migrate", json={"node": "n3"})
            told = await done(world.nodes[0], task)
            assert (told["refused"], told["moved"], told["already_there"]) == (4, 0, 2)
            assert sorted(each["node"] for each in told["outcomes"]) == ["n1", "n1", "n2", "n2"]
            await until_counts(world, [2, 2, 2])
            await run.finish()
        await run.nobody_noticed(ground)


@pytest.mark.timeout(120)
async def test_a_target_that_is_killed_in_the_middle_costs_nothing(tmp_path: Path, ground: Ground) -> None:
    async with World(tmp_path, ground, env={"GATEWAY_DRAIN_S": "15"}) as world:
        async with talk(world, tmp_path, 40, nodes=2) as run:
            task = await call(world.nodes[0], "POST", f"/sessions/{run.session}/migrate", json={"node": "n3"})

            async def are_some_moved() -> bool:
                return bool((await call(world.nodes[1], "GET", f"/migrations/{task['id']}"))["moved"] >= 8)

            await until(are_some_moved, within=10)
            await world.nodes[2].kill()
            told = await done(world.nodes[1], task, within=35)
            assert told["state"] == "done"
            assert told["moved"] >= 8
            assert told["refused"] >= 8, told
            await until(lambda: all(each.is_connected for each in run.movers), within=20, what="all back")
            await run.finish()
        assert check(run.history.records, await read_postgres(ground.database_url)) == []
        assert all(each.acked == each.sent for each in run.movers)
        assert [each.heard_signals.most_common(1)[0][1] for each in run.movers] == [1] * 40


@pytest.mark.timeout(120)
async def test_clients_that_ignore_it_are_closed_at_the_deadline_and_lose_nothing(
    tmp_path: Path, ground: Ground
) -> None:
    async with trial(tmp_path, ground, Size(clients=9, sessions=3), {"GATEWAY_DRAIN_S": "2"}) as run:
        speaker = run.crowd.speakers[0]
        async with run.crowd.talking(60.0):
            began = time.monotonic()
            task = await call(
                run.world.nodes[1], "POST", f"/users/{speaker.name}/migrate", json={"node": "n3"}
            )
            told = await done(run.world.nodes[2], task)
            took = time.monotonic() - began
            assert [each["outcome"] for each in told["outcomes"]] == ["timed_out"]
            await until(lambda: speaker.is_live and bool(speaker.losses), within=10, what="it is back")
        assert speaker.losses[0] == "4000 this connection was to move"
        assert 2 <= took < 4
        assert [one.losses for one in run.crowd.speakers if one is not speaker] == [[]] * 8
        assert await run.verdict() == []


@pytest.mark.timeout(180)
async def test_after_a_fourth_node_has_come_the_nodes_are_evened_out_and_nobody_notices(
    tmp_path: Path, ground: Ground
) -> None:
    async with World(tmp_path, ground) as world:
        async with talk(world, tmp_path, 60) as run:
            fourth = await world.add()
            assert await counts(world) == [20, 20, 20, 0]
            await later(2.5)  # nodes tell each other of their connections every 2 s
            command = [sys.executable, "-m", "gateway", "rebalance", "--port", str(fourth.ops_port)]
            env = {"PATH": "/usr/bin:/bin"}
            said = await asyncio.to_thread(
                subprocess.run, command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
            )
            assert (said.returncode, said.stderr) == (0, "")
            print(said.stdout)
            assert "15 of 15 moved, 0 refused, 0 timed out, 0 to go" in said.stdout
            assert said.stdout.splitlines()[-1] == "done: n1 15, n2 15, n3 15, n4 15"
            await until_counts(world, [15, 15, 15, 15])
            await run.finish()
        await run.nobody_noticed(ground)
