"""Clients vanish in the middle of requests, hundreds again and again: nobody else gets their answers."""

import asyncio
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

import psutil
import pytest

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer
from tests.cluster.conftest import name_of
from tests.cluster.crowd import Crowd, Room
from tests.cluster.speaker import Speaker
from tests.cluster.trial import Size, Trial, trial
from tests.cluster.world import Ground
from tests.process import GatewayProcess
from tests.waiting import later, until

CROWD: Final = Size(clients=250, sessions=50)
STAYING: Final = 50
BACK_WITHIN_S: Final = 20.0
# GATEWAY_DATABASE_POOL, and one each for what must not wait behind it.
POOL: Final = 10
_RESET: Final = struct.pack("ii", 1, 0)


class Home:
    """The sessions of a crowd, by speaker."""

    def __init__(self, crowd: Crowd) -> None:
        self.room: dict[str, Room] = {one.name: room for room in crowd.rooms for one in room.speakers}

    def ask_everything(self, speaker: Speaker) -> list[asyncio.Future[dict[str, object]]]:
        """Ask for all that a node has to wait for: the log, the cache, the indexes, the bus."""
        room = self.room[speaker.name]
        return [
            speaker.ask("history", room.id, limit=50),
            speaker.ask("presence", room.id),
            speaker.ask("history", room.id, limit=20, before=30),
        ]


def reset_in_the_middle(gateway: GatewayProcess, speaker: Speaker, session: str) -> None:
    """Ask through the API, and be gone before the answer is there."""
    url = urlsplit(gateway.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as peer:
        for path in (f"/sessions/{session}/members", "/sessions"):
            request = (
                f"GET /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {speaker.token}\r\n\r\n"
            )
            peer.sendall(request.encode())
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


async def vanish(crowd: Crowd, home: Home, who: Sequence[Speaker], chance: Random) -> None:
    """Have each ask, attach anew and say something, and vanish a moment later, at different depths of it."""
    for speaker in who:
        room = home.room[speaker.name]
        for answer in home.ask_everything(speaker):
            answer.cancel()
        crowd.say(room, speaker)
        speaker.ask("detach", room.id).cancel()
        speaker.ask("attach", room.id, since=speaker.cursors[room.id]).cancel()
        reset_in_the_middle(chance.choice(crowd.nodes), speaker, room.id)
        if chance.random() < 0.5:
            await later(chance.uniform(0, 0.004))
        speaker.vanish()


async def keep_asking(home: Home, speaker: Speaker, stop: asyncio.Event) -> int:
    """Ask one thing after the other; each answer is held against what was asked."""
    count = 0
    while not stop.is_set():
        for answer in home.ask_everything(speaker):
            frame = await answer
            assert frame["type"] != "error", frame
            count += 1
    return count


async def burst(home: Home, speakers: Sequence[Speaker]) -> float:
    """How long it takes to answer everybody at once. What they ask for is as much at the end as before."""
    rooms = [(speaker, home.room[speaker.name].id) for speaker in speakers]
    began = time.monotonic()
    answers = [speaker.ask("history", room, limit=1) for speaker, room in rooms]
    answers += [speaker.ask("presence", room) for speaker, room in rooms]
    frames = await asyncio.gather(*answers)
    assert all(frame["type"] != "error" for frame in frames)
    return time.monotonic() - began


def sockets_to(port: int, nodes: Sequence[GatewayProcess]) -> list[int]:
    """How many connections each node has to a server."""
    return [
        sum(link.raddr.port == port for link in psutil.Process(node.pid).net_connections("tcp") if link.raddr)
        for node in nodes
    ]


def backends(postgres: PostgresServer, database: str) -> tuple[int, int]:
    """How many connections to a database are in the middle of something, and how many there are."""
    rows = postgres.run("SELECT datname, state FROM pg_stat_activity")
    states = [state for name, state in rows if name == database]
    return sum(state != "idle" for state in states), len(states)


async def nothing_goes_astray(run: Trial, redis: RedisServer, postgres: PostgresServer, rounds: int) -> None:
    """Have most of them vanish, round after round, while the others ask and hold every answer against it."""
    crowd, home, chance = run.crowd, Home(run.crowd), Random("vanishing")  # noqa: S311 - when to vanish
    staying, vanishing = crowd.speakers[:STAYING], crowd.speakers[STAYING:]
    async with crowd.talking(40.0):
        await later(1.0)
    await crowd.answered(within=10)
    before = min([await burst(home, staying) for _ in range(3)])
    redis_before = sockets_to(redis.port, run.world.nodes)
    stop = asyncio.Event()
    async with crowd.talking(40.0), asyncio.TaskGroup() as group:
        asking = [group.create_task(keep_asking(home, one, stop)) for one in staying[::5]]
        for _ in range(rounds):
            await vanish(crowd, home, vanishing, chance)
            await until(lambda: all(one.is_live for one in vanishing), within=BACK_WITHIN_S, what="all back")
        stop.set()
    answered = sum(task.result() for task in asking)
    await crowd.answered(within=10)
    after = min([await burst(home, staying) for _ in range(3)])
    assert run.world.ground is not None
    at_work, connected = backends(postgres, name_of(run.world.ground.database_url))
    redis_after = sockets_to(redis.port, run.world.nodes)
    await run.until_indexes_are_true()
    assert await run.verdict() == []
    print(f"\n{answered} answers meanwhile; a burst took {before * 1000:.0f} ms, then {after * 1000:.0f} ms")
    print(f"sockets to Redis {redis_before}, then {redis_after}; to Postgres {connected}")
    assert answered > 100
    assert not [loss for one in staying for loss in one.losses]
    # A pool that has lost most of its connections would take longer, one that has lost all of them for ever.
    assert after < before * 2 + 0.2
    assert at_work == 0
    assert connected <= len(run.world.nodes) * POOL
    assert max(redis_after) <= max(redis_before) + 4


@pytest.mark.timeout(120)
async def test_two_hundred_clients_vanish_again_and_again_and_no_answer_goes_astray(
    tmp_path: Path, ground: Ground, redis: RedisServer, postgres_server: PostgresServer
) -> None:
    async with trial(tmp_path, ground, CROWD) as run:
        await nothing_goes_astray(run, redis, postgres_server, rounds=3)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_they_vanish_thirty_times(
    tmp_path: Path, ground: Ground, redis: RedisServer, postgres_server: PostgresServer
) -> None:
    async with trial(tmp_path, ground, CROWD) as run:
        await nothing_goes_astray(run, redis, postgres_server, rounds=30)
