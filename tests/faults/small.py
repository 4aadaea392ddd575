"""A crowd on nodes of this process: the same speakers, history and checker, without sockets, in seconds."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from gateway import ids
from gateway.runtime.connection import Connection
from store.types import NewSession
from tests.cluster.crowd import Crowd, Room
from tests.cluster.speaker import Speaker
from tests.cluster.truth import living, take_snapshot
from tests.cluster.wire import Frame, Hearer, Wire
from tests.evidence.checker import Violation, check
from tests.evidence.history import History, Record
from tests.evidence.indexes import Leases, Untrue, check_indexes
from tests.evidence.stored import Stored, read_postgres, read_sqlite
from tests.runtime.nodes import Cluster, Ground, nodes
from tests.runtime.world import World, payload
from tests.waiting import turns, until

TENANT: Final = "default"
# A node forgets connections that have gone with its next flush. With users in sessions it waits, at the most
# for their lease.
STRICT: Final = Leases(connection_ms=0, presence_ms=75_000)
TRUE_WITHIN_S: Final = 2.0


class DirectWire(Wire):
    """A connection to a node of this process: what is said and heard arrives a turn of the loop later.

    To the node it is the outlet as well, of a peer that reads at once.
    """

    lagging = False

    def __init__(self, worlds: Mapping[str, World], hearer: Hearer) -> None:
        super().__init__(hearer)
        self._worlds = worlds
        self._world: World | None = None
        self._connection: Connection | None = None

    async def open(self, url: str) -> None:
        await turns()
        self._world = self._worlds[url]
        self._connection = self._world.node.accept(None, "127.0.0.1", 4711)
        self._connection.on_open(self)

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def say(self, frame: Frame) -> None:
        asyncio.get_running_loop().call_soon(self._arrive, json.dumps(frame).encode())

    def vanish(self) -> None:
        self._end(1006)

    # -- what the node does with it

    def put(self, frame: bytes) -> None:
        asyncio.get_running_loop().call_soon(self._tell, payload(frame))

    def put_message(self, frame: bytes) -> bool:
        self.put(frame)
        return True

    put_ephemeral = put_message

    def hasten(self, deadline: float) -> None:
        """Nothing here lives as long as a deadline."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Of both sides: the peer's goodbye, and the node's."""
        self.close_code, self.close_reason = code, reason
        asyncio.get_running_loop().call_soon(self._end, code)

    # -- how

    def _arrive(self, data: bytes) -> None:
        if self._connection is not None and self._world is not None:
            self._connection.on_text(data, self._world.clock.monotonic())

    def _tell(self, frame: Frame) -> None:
        if self._connection is None:
            return
        try:
            self._hearer.hear(self, frame)
        except Exception as error:
            self._hearer.failed(error)

    def _end(self, code: int) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if not connection.is_closed:
                connection.on_closed(code)
            self._hearer.lost(self)


class SmallCrowd(Crowd):
    """Makes its sessions in the log itself; every third speaker at a node of its own."""

    def __init__(self, cluster: Cluster, history: History, seed: int) -> None:
        super().__init__([], history, seed)
        self._cluster = cluster
        self.worlds = {f"n{n + 1}": world for n, world in enumerate(cluster.worlds)}
        self.dead: set[str] = set()

    async def assemble(self, *, clients: int, sessions: int, exclusive: int = 0) -> None:
        for n in range(clients):
            self.speakers.append(self._make(n, sessions))
        for n in range(sessions):
            room = Room(ids.new_id(), self._title(n), n < exclusive, self.speakers[n::sessions])
            await self._store(room)
            self.rooms.append(room)
            self.admit(room)
        await self.begin()

    def _make(self, n: int, sessions: int) -> Speaker:
        names = sorted(self.worlds)
        own = names[n // sessions % len(names)]

        def home() -> str:
            return next(name for name in (own, *names) if name not in self.dead)

        name = f"user-{n}"
        chance = Random(f"{self._seed}:{name}")  # noqa: S311
        speaker = Speaker(name, self.worlds[own].tokens.mint(name), home, self.history, chance)
        speaker.wire = partial(DirectWire, self.worlds)
        return speaker

    async def _store(self, room: Room) -> None:
        now = int(time.time() * 1000)
        owner, *others = room.speakers
        new = NewSession(
            id=room.id,
            tenant=TENANT,
            owner=owner.name,
            title=room.title,
            exclusive=room.is_exclusive,
            created_at=now,
        )
        await self._cluster.log.create(new, limit=100)
        for other in others:
            await self._cluster.log.put_member(TENANT, room.id, other.name, "writer", now=now)


@dataclass(slots=True)
class Small:
    """A crowd that is connected and caught up."""

    cluster: Cluster
    crowd: SmallCrowd
    history: History
    folder: Path
    ground: Ground | None

    async def lose_node(self, name: str) -> None:
        """A node dies: what it has not committed never is, and its clients go elsewhere."""
        place = sorted(self.crowd.worlds).index(name)
        self.crowd.dead.add(name)
        self.cluster.logs[place].go_away()
        self.cluster.deafen(place)
        for speaker in self.crowd.speakers:
            if speaker.node == name:
                speaker.vanish()
        await until(lambda: all(one.is_live for one in self.crowd.speakers), what="everybody elsewhere")

    async def verdict(self, *, within: float = 8.0) -> list[Violation]:
        """Settle or give up, send everybody home, and hold all against the log and the indexes."""
        await self.crowd.finish(within=within)
        await self.crowd.leave()
        self.crowd.raise_failures()
        for untrue in await self._untrue():
            self.history.add(
                Record(client="indexes", op="index", at=time.monotonic(), session="", what=str(untrue))
            )
        for record in (await self._stored()).records():
            self.history.add(record)
        return check(self.history.records)

    async def _untrue(self) -> Sequence[Untrue]:
        """What the indexes say that is not so, once they had the time to be true."""
        found: list[Untrue] = []
        if self.ground is None:
            return found
        url, prefix = self.ground.redis_url, self.ground.prefix

        async def is_true() -> bool:
            found[:] = check_indexes(await take_snapshot(url, prefix), living(self.crowd), STRICT)
            return not found

        try:
            await until(is_true, within=TRUE_WITHIN_S)
        except AssertionError:
            return found
        return found

    async def _stored(self) -> Stored:
        if self.ground is not None:
            return await read_postgres(self.ground.database_url)
        (database,) = self.folder.glob("*.db")
        return read_sqlite(database)


@asynccontextmanager
async def small(folder: Path, ground: Ground | None = None, *, seed: int = 1) -> AsyncIterator[Small]:
    """Two nodes and six speakers in three sessions, the first of which is written by one at a time."""
    history = History(folder / "history.jsonl")
    try:
        async with nodes(folder, 2, seed=seed, ground=ground, sweep_s=0.2) as cluster:
            crowd = SmallCrowd(cluster, history, seed)
            try:
                await crowd.assemble(clients=6, sessions=3, exclusive=1)
                yield Small(cluster, crowd, history, folder, ground)
            finally:
                await crowd.leave()
    finally:
        history.close()
