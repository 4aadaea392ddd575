"""Many speakers in many sessions over all nodes: their gathering, their traffic, their end."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

import httpx

from tests.cluster.speaker import Speaker
from tests.evidence.history import History, Record
from tests.process import GatewayProcess
from tests.waiting import later, until

# At one time: more would be an accept storm, which is not what is tested here.
ENTERING: Final = 40
JOINING: Final = 16
# Sends of one speaker that wait for their ack; while a database is away nothing piles up beyond it.
UNDER_WAY: Final = 30
# Of the times that somebody wants to speak who was superseded: more would be a quarrel, not a conversation.
TAKING_OVER: Final = 0.1
LONGEST: Final = 3_000
BEAT_S: Final = 0.02
TOKEN_TTL_S: Final = 86_400


@dataclass(slots=True)
class Room:
    """A session and who is in it; the first is its owner."""

    id: str
    title: str
    is_exclusive: bool = False
    speakers: list[Speaker] = field(default_factory=list)


class Crowd:
    """Speakers over nodes, from a seed: the same seed says the same at about the same times."""

    def __init__(self, nodes: Sequence[GatewayProcess], history: History, seed: int) -> None:
        self.nodes = nodes
        self.history = history
        self.rooms: list[Room] = []
        self.speakers: list[Speaker] = []
        self.sent = 0
        self.surname = ""  # of all of them, where several crowds come after each other
        self.is_roaming = False  # whether they come back to any node, not to their own
        self.is_contending = True  # whether they take exclusive sessions over from each other
        self._seed = seed
        self._chance = Random(f"crowd:{seed}")  # noqa: S311 - what to say and when
        self._beating: asyncio.Task[None] | None = None

    # -- gathering

    async def assemble(self, *, clients: int, sessions: int, exclusive: int = 0) -> None:
        """Make sessions and members through the API, and have everybody enter and catch up.

        The first `exclusive` sessions are written by one at a time.
        """
        for n in range(clients):
            self.speakers.append(self._make(n, sessions))
        async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
            door = asyncio.Semaphore(JOINING)
            groups = [self.speakers[n::sessions] for n in range(sessions)]
            self.rooms = await asyncio.gather(
                *(
                    self._room(http, door, Room("", self._title(n), n < exclusive, group))
                    for n, group in enumerate(groups)
                )
            )
        await self.begin()

    async def begin(self) -> None:
        """Have everybody enter, and their hearts beat."""
        self._beating = asyncio.get_running_loop().create_task(self._beat(), name="heartbeats of the crowd")
        await self.enter(self.speakers)

    def _title(self, n: int) -> str:
        return f"Room {n} of {self._seed}"

    async def enter(self, speakers: Sequence[Speaker]) -> None:
        """Connect these, and wait until they have caught up."""
        door = asyncio.Semaphore(ENTERING)

        async def enter(speaker: Speaker) -> None:
            async with door:
                await speaker.enter()

        await asyncio.gather(*(enter(speaker) for speaker in speakers))
        await until(lambda: all(speaker.is_live for speaker in speakers), within=30, what="everybody live")

    def _make(self, n: int, sessions: int) -> Speaker:
        # The members of a session one after the other over all nodes, beginning with another one each time.
        node = self.nodes[(n % sessions + n // sessions) % len(self.nodes)]
        name = f"user{self.surname}-{n}"
        token = node.token(name, ttl_s=TOKEN_TTL_S)
        chance = Random(f"{self._seed}:{name}")  # noqa: S311

        def home() -> str:
            is_back = self.is_roaming and speaker.losses
            return (chance.choice(self.nodes) if is_back else node).ws_url

        speaker = Speaker(name, token, home, self.history, chance)
        return speaker

    async def _room(self, http: httpx.AsyncClient, door: asyncio.Semaphore, room: Room) -> Room:
        owner, *others = room.speakers
        url = f"{self.nodes[int(owner.name.rpartition('-')[2]) % len(self.nodes)].url}/api/v1/sessions"
        headers = {"Authorization": f"Bearer {owner.token}"}
        async with door:
            spec = {"title": room.title, "persistent": True, "exclusive": room.is_exclusive}
            made = await http.post(url, json=spec, headers=headers)
            made.raise_for_status()
            room.id = made.json()["data"]["session"]["id"]
            for other in others:
                path = f"{url}/{room.id}/members/{other.name}"
                (await http.put(path, json={"role": "writer"}, headers=headers)).raise_for_status()
        self.admit(room)
        return room

    def admit(self, room: Room) -> None:
        """Have its members want to be in a room that exists by now."""
        fellows = {speaker.name for speaker in room.speakers}
        for speaker in room.speakers:
            self.history.add(Record(client=speaker.name, op="member", at=time.monotonic(), session=room.id))
            speaker.fellows[room.id] = fellows
            if room.is_exclusive:
                speaker.exclusive.add(room.id)
            speaker.join(room.id, room.title)

    async def leave(self) -> None:
        """Close everything. Idempotent."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
            self._beating = None
        await asyncio.gather(*(speaker.leave() for speaker in self.speakers))
        await until(lambda: not any(speaker.has_socket for speaker in self.speakers))

    async def _beat(self) -> None:
        while True:
            await later(BEAT_S)
            now = time.monotonic()
            for speaker in self.speakers:
                speaker.beat(now)

    # -- traffic

    @asynccontextmanager
    async def talking(self, per_s: float, *, signals_per_s: float = 2.0) -> AsyncIterator[None]:
        """Have them talk while the block runs."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._talk(per_s, stop), name="the crowd talks")
            group.create_task(self._signal(signals_per_s, stop), name="the crowd signals")
            try:
                yield
            finally:
                stop.set()

    async def _talk(self, per_s: float, stop: asyncio.Event) -> None:
        due = time.monotonic()
        while not stop.is_set():
            room = self._chance.choice(self.rooms)
            # Several in one session at the same moment, each at a node of its own.
            count = self._chance.randint(1, len(room.speakers))
            for speaker in self._chance.sample(room.speakers, count):
                self.say(room, speaker)
            due += self._chance.expovariate(per_s / count)
            if (pause := due - time.monotonic()) > 0:
                await later(pause)
            else:
                # The machine is too slow for this rate: what was missed is not made up for in one burst.
                due = time.monotonic()
                await later(0)

    async def _signal(self, per_s: float, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await later(1 / per_s)
            room = self._chance.choice(self.rooms)
            self._chance.choice(room.speakers).signal(room.id)
            self._chance.choice(room.speakers).read(room.id)

    def say(self, room: Room, speaker: Speaker) -> None:
        """Have one say something of some length."""
        if len(speaker.unacked) >= UNDER_WAY:
            return
        if room.id in speaker.superseded:
            if self._chance.random() < TAKING_OVER and self.is_contending:
                speaker.take_over(room.id)
            return
        self.sent += 1
        filler = "".join(self._chance.choices('ab ü\n"\\', k=int(LONGEST * self._chance.random() ** 6)))
        speaker.say(room.id, f"{room.id} {filler}")

    # -- the end

    async def settle(self, *, within: float = 30.0) -> None:
        """Wait until everything is answered and everybody has everything; the history says so."""
        await self.reclaim(within=within)
        await self.answered(within=within)
        await self.complete(within=within)
        for speaker in self.speakers:
            speaker.note_complete()

    async def finish(self, *, within: float) -> None:
        """Settle, or give up: the history then says what everybody should have, and the checker what not."""
        try:
            await self.settle(within=within)
        except AssertionError:
            for speaker in self.speakers:
                speaker.note_complete()

    async def reclaim(self, *, within: float) -> None:
        """Have whoever was superseded with something left to say take over and say it, one by one."""
        for room in self.rooms:
            for speaker in room.speakers:
                if room.is_exclusive and not _is_silent(speaker, room.id):
                    await self._until(partial(_can_speak, speaker), within, "everybody back")
                    await self._until(partial(_says_the_rest, speaker, room.id), within, "last words acked")

    async def answered(self, *, within: float) -> None:
        """Wait until every message is acked or refused."""
        await self._until(lambda: not any(s.unacked for s in self.speakers), within, "every message answered")

    async def complete(self, *, within: float) -> None:
        """Wait until everybody has whatever is acked by now."""
        heads: Counter[str] = Counter()
        for speaker in self.speakers:
            for session, seq in speaker.heads.items():
                heads[session] = max(heads[session], seq)
        await self._until(lambda: all(s.has_all(heads) for s in self.speakers), within, "everybody complete")

    async def _until(self, condition: Callable[[], bool], within: float, what: str) -> None:
        try:
            await until(condition, within=within, what=what)
        except AssertionError as failure:
            failure.add_note("\n".join(str(speaker) for speaker in self.speakers[:40]))
            raise

    @property
    def losses(self) -> list[str]:
        """Connections that were lost, and why."""
        return [f"{speaker.name}: {why}" for speaker in self.speakers for why in speaker.losses]

    def raise_failures(self) -> None:
        """Raise what went wrong inside the clients."""
        if failures := [error for speaker in self.speakers for error in speaker.failures]:
            raise ExceptionGroup("the clients failed", failures[:5])


def _can_speak(speaker: Speaker) -> bool:
    return speaker.is_connected


def _says_the_rest(speaker: Speaker, session: str) -> bool:
    """Whether it has; as often as somebody takes the session from it who had asked before, it goes on."""
    if not speaker.is_attaching(session):
        speaker.take_over(session)
    return _is_silent(speaker, session)


def _is_silent(speaker: Speaker, session: str) -> bool:
    return not any(saying.session == session for saying in speaker.unacked.values())
