"""A node with many rooms, on a log of rows, for tests of what is compared and when."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

import msgspec

from gateway.fanout import hints
from gateway.fanout.comparison import Comparison
from gateway.fanout.hub import Hub
from gateway.fanout.outlet import Outlet
from gateway.fanout.room import Room
from gateway.fanout.settled import steps
from gateway.protocol import replies
from store.bus import Bus
from store.errors import Unavailable
from store.log import Log, Tallier
from store.types import Access, Member, Message, Session, Standing, Tally
from tests.waiting import turns

T = TypeVar("T")

ROOMS = [f"s{number}" for number in range(9)]


def session(id: str) -> Session:
    return Session(
        id=id, tenant="t", owner="a", title="", status="active", exclusive=False, ttl_s=None, expires_at=None,
        head=0, epoch=1, version=1, context=b"{}", metadata=b"{}", text=None, voice=None, sentences=None,
        created_at=0, updated_at=0,
    )  # fmt: skip


def message(id: str, seq: int) -> Message:
    return Message(
        session=id, seq=seq, id=f"{id} {seq}", client_id="c", sender="a", role="user", content="",
        metadata=b"{}", created_at=0,
    )  # fmt: skip


class Rows:
    """The log as rows in a dict. It can be away, and things can happen between its reading and its answer."""

    def __init__(self) -> None:
        self.rows = {id: session(id) for id in ROOMS}
        self.is_away = False
        self.asked: Counter[str] = Counter()
        self.compared: list[list[str]] = []
        self.meanwhile: dict[str, Callable[[], object]] = {}  # by call; happens once

    def move(self, id: str, **by: int) -> Session:
        row = self.rows[id]
        grown = {name: getattr(row, name) + more for name, more in by.items()}
        self.rows[id] = msgspec.structs.replace(row, **grown)
        return self.rows[id]

    async def _answer(self, call: str, answer: T) -> T:
        self.asked[call] += 1
        await turns()
        self.meanwhile.pop(call, lambda: None)()
        await turns()
        if self.is_away:
            raise Unavailable("away")
        return answer

    async def standings(self, sessions: Sequence[str]) -> dict[str, Standing]:
        self.compared.append(sorted(sessions))
        found = {id: self.standing(id) for id in sessions if id in self.rows}
        return await self._answer("standings", found)

    def tallier(self, sessions: Sequence[str]) -> Tallier:
        self.asked["tallier"] += 1

        async def tally() -> Tally:
            found = [steps(self.standing(id)) for id in sessions if id in self.rows]
            return await self._answer("tally", Tally(sessions=len(found), steps=sum(found)))

        return tally

    async def read(self, session: str, *, after: int, limit: int) -> list[Message]:
        last = min(self.rows[session].head, after + limit)
        found = [message(session, seq) for seq in range(after + 1, last + 1)]
        return await self._answer("read", found)

    async def get(self, tenant: str, session: str) -> Session | None:
        return await self._answer("get", self.rows.get(session))

    async def members(self, session: str) -> list[Member]:
        return await self._answer("members", [])

    def standing(self, id: str) -> Standing:
        row = self.rows[id]
        return Standing(head=row.head, version=row.version, epoch=row.epoch, end_reason=row.end_reason)


class Silent:
    """A bus that nobody hears."""

    async def subscribe(self, channel: str) -> None:
        pass

    async def unsubscribe(self, channel: str) -> None:
        pass


class Reader:
    """Who reads, and is let go."""

    id = user = "r"
    predecessor = None

    def __init__(self) -> None:
        self.outlet = cast(Outlet, self)
        self.has_left = False

    def put(self, frame: bytes) -> None:
        pass

    def left(self, session: str) -> None:
        self.has_left = True


class Node:
    """A hub with its comparison, and the log under them."""

    def __init__(self) -> None:
        self.log = Rows()
        self.tasks: set[asyncio.Task[None]] = set()
        self.hub = Hub(cast(Log, self.log), cast(Bus, Silent()), self.spawn, time.monotonic)
        self.comparison = Comparison(cast(Log, self.log), self.hub, self.hub.mender, lambda: False)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def open(self, id: str) -> tuple[Room, Access]:
        async def look() -> Access:
            return Access(session=self.log.rows[id], role="reader")

        return await self.hub.open(id, look)

    def hint(self, id: str, hint: hints.Hint) -> None:
        self.hub.receive(hints.session_channel(id), hints.encode(hint))

    def say(self, id: str, lost: int = 0) -> None:
        """Commit a message behind some whose hints are lost, and have its hint come."""
        seq = self.log.move(id, head=1 + lost).head
        self.hint(id, hints.MessageHint(seq, replies.message(message(id, seq))))

    def change(self, id: str, lost: int = 0) -> None:
        """Commit a change, as above."""
        self.hint(id, hints.ChangedHint(self.log.move(id, version=1 + lost).version, b""))

    def take_over(self, id: str, lost: int = 0) -> None:
        """Commit a takeover, as above."""
        self.hint(id, hints.SupersededHint(b"", self.log.move(id, epoch=1 + lost).epoch, ()))

    def is_told(self, id: str) -> bool:
        """Whether the room is as the log has it."""
        row, room = self.log.rows.get(id), self.hub.rooms.get(id)
        if row is None or row.end_reason is not None or room is None:
            return room is None
        return (room.relay.head, room.versions.told, room.epoch) == (row.head, row.version, row.epoch)

    async def asked(self) -> tuple[int, list[list[str]]]:
        """Compare; how many tallies and which standings that took."""
        self.log.compared.clear()
        before = self.log.asked["tally"]
        await self.comparison.compare()
        return self.log.asked["tally"] - before, self.log.compared

    def check(self) -> None:
        """Every room is in one place, and counts with no more than it was told."""
        settled = self.hub.settled
        counts = {id: count for batch in settled._batches for id, count in batch.counts.items()}
        assert sorted([*counts, *settled.unsettled]) == sorted(self.hub.rooms)
        for id, count in counts.items():
            room = self.hub.rooms[id]
            assert count <= room.relay.head + room.versions.told + room.epoch

    async def close(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
