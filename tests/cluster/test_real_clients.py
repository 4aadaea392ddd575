"""The Python client on three nodes, while Redis, Postgres and a node go away and come back."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import httpx
import pytest

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer
from tests.cluster.faults import BackendsTerminated, Fault, RedisKilled, happening
from tests.cluster.world import Ground, World
from tests.evidence.checker import check
from tests.evidence.history import History
from tests.evidence.stored import read_postgres
from tests.soak.actor import Actor
from tests.waiting import later, until

NAMES = [f"actor-{n}" for n in range(9)]
SESSIONS = 3


async def gather_in_sessions(world: World, actors: list[Actor]) -> None:
    """Every session with three actors, each at a node of its own."""
    await asyncio.gather(*(actor.enter() for actor in actors))
    async with httpx.AsyncClient(trust_env=False, base_url=world.nodes[0].url) as http:
        for n in range(SESSIONS):
            owner, *others = actors[n * 3 : n * 3 + 3]
            session = await owner.client.open(title=f"Session {n}", persistent=True)
            owner.join(session)
            headers = {"Authorization": f"Bearer {world.nodes[0].token(owner.name)}"}
            for other in others:
                path = f"/api/v1/sessions/{session.id}/members/{other.name}"
                (await http.put(path, json={"role": "writer"}, headers=headers)).raise_for_status()
                other.join(await other.client.attach(session.id, since=0))


async def drain(actors: list[Actor]) -> None:
    """Wait until everything is answered and everybody has everything."""
    await until(lambda: all(actor.is_settled for actor in actors), within=40, what="every message answered")
    heads = {id: await actor.head(id) for actor in actors for id in actor.sessions}
    await until(lambda: all(actor.has_all(heads) for actor in actors), within=30, what="everybody complete")
    for actor in actors:
        actor.note_complete()


async def trouble(world: World, faults: Sequence[Fault], history: History) -> None:
    """One thing after the other; last, a node."""
    for fault in faults:
        await later(1.0)
        async with happening(fault, history):
            await later(1.5)
    await world.nodes[1].kill()
    await later(0.5)
    await world.nodes[1].start()
    await later(0.5)


@pytest.mark.timeout(120)
async def test_the_python_client_loses_nothing_whatever_goes_away(
    tmp_path: Path, ground: Ground, redis: RedisServer, postgres_server: PostgresServer
) -> None:
    history, stop = History(tmp_path / "history.jsonl"), asyncio.Event()
    async with World(tmp_path, ground) as world, asyncio.TaskGroup() as group:
        actors = []
        for n, name in enumerate(NAMES):
            node = world.nodes[n % 3]
            actors.append(Actor(name, node.ws_url, node.token(name), history, group))
        try:
            await gather_in_sessions(world, actors)
            talking = [
                group.create_task(actor.talk(Random(f"real:{actor.name}"), stop))  # noqa: S311
                for actor in actors
            ]
            await trouble(
                world,
                [RedisKilled(redis), BackendsTerminated(postgres_server, ground.database_url)],
                history,
            )
            stop.set()
            await asyncio.wait(talking)
            await drain(actors)
        finally:
            stop.set()
            await asyncio.gather(*(actor.leave() for actor in actors))
            history.close()
    assert check(history.records, await read_postgres(ground.database_url)) == []
    print(f"\n{sum(actor.acked for actor in actors)} acked; away: {[str(actor.reasons) for actor in actors]}")
