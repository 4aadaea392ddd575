"""Finds what no hint has told: compares every hosted room with the log, again and again.

Settled rooms by one tally for each batch of them, the others one by one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from gateway.fanout.mending import Mender
from gateway.fanout.room import Room
from gateway.fanout.settled import Batch, Settled, steps
from gateway.protocol import replies
from store.errors import Unavailable
from store.log import Log
from store.types import Standing

# DESIGN: what was lost is found within 5 s; one pause, the reading and the patience below have to fit.
PAUSE_S: Final = 4.0
# DESIGN: while no other node can be heard.
PAUSE_ALONE_S: Final = 1.0
# After a comparison that failed: readers wait for what was lost since the log went away.
RETRY_S: Final = 1.0
# Standings asked for in one query: they are decoded and looked at in one turn of the loop.
AT_ONCE: Final = 500
# A takeover is believed without its hint only after this time: the hint says which connections belong to the
# client that took over, and a comparison that overtakes it would turn them out.
TAKEOVER_PATIENCE_S: Final = 0.5

_logger = structlog.get_logger("gateway.fanout")


class Host(Protocol):
    """What hosts rooms."""

    @property
    def rooms(self) -> Mapping[str, Room]: ...

    @property
    def settled(self) -> Settled:
        """Each of the rooms, from its opening to its closing; unsettled when a hint of it has come."""

    async def renew(self) -> None:
        """Subscribe to what could not be subscribed to."""

    def end(self, room: Room, frame: bytes, head: int) -> None:
        """The room's session has ended with `head` as its last seq."""

    def vanish(self, room: Room) -> None:
        """The room's session does not exist any more."""

    def supersede(self, room: Room, frame: bytes, epoch: int, by: tuple[str, ...] = ()) -> None:
        """Turn out the attachments that hold an older epoch."""


class Comparison:
    """One comparison at a time, of everything hosted.

    `ask` has one begin at once; asked while one is under way, another follows it, since its first rooms may
    have been compared before the loss.
    """

    def __init__(self, log: Log, host: Host, mender: Mender, is_alone: Callable[[], bool]) -> None:
        self._log = log
        self._host = host
        self._mender = mender
        self._is_alone = is_alone  # whether hints of other nodes do not arrive now
        self.failures = 0
        self._asked = asyncio.Event()
        self._doubted: set[Room] = set()  # rooms with a takeover that is not believed yet

    def ask(self) -> None:
        """Hints may have been lost: compare without waiting for the next time."""
        self._asked.set()

    async def run(self) -> None:
        """Compare until cancelled."""
        clock = asyncio.get_running_loop().time
        pause = 0.0
        while True:
            await self._pause(pause)
            begun = clock()
            try:
                await self.compare()
            except Unavailable as error:
                self.failures += 1
                _logger.debug("comparison_postponed", error=str(error))
                pause = RETRY_S
            else:
                # From begin to begin: a long comparison does not make the next one late.
                pause = max(0.0, self._pause_s() - (clock() - begun))

    def _pause_s(self) -> float:
        return PAUSE_ALONE_S if self._is_alone() else PAUSE_S

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        self._asked.clear()

    async def compare(self) -> None:
        """Compare everything once. Unavailable."""
        # Before the reading: what is offered between the two is then heard.
        await self._host.renew()
        settled = self._host.settled
        for batch in settled.pack():
            if batch.counts and await self._has_moved(batch):
                await self._compare(list(batch.counts))
        # Behind the others: what has left a batch since is among these. In the order of their ids, so that
        # they settle in it: Postgres looks up neighbours for a quarter less.
        await self._compare(sorted(settled.unsettled))

    async def _has_moved(self, batch: Batch) -> bool:
        if batch.tallier is None:
            batch.tallier = self._log.tallier(list(batch.counts))
        # Both from before the log is asked: rooms come and go meanwhile. Those that come have just been read.
        take, expected = batch.tallier, batch.tally
        return await take() != expected

    async def _compare(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), AT_ONCE):
            hosted = self._host.rooms
            rooms = [hosted[id] for id in ids[start : start + AT_ONCE] if id in hosted]
            if rooms:
                await self._read(rooms)

    async def _read(self, rooms: Sequence[Room]) -> None:
        standings = await self._log.standings([room.id for room in rooms])
        for room in rooms:
            if self._host.rooms.get(room.id) is not room:
                continue  # closed meanwhile
            standing = standings.get(room.id)
            if standing is None:
                self._host.vanish(room)
            elif standing.end_reason is not None:
                frame = replies.session_event(room.id, standing.version, standing.end_reason)
                self._host.end(room, frame, standing.head)
            else:
                self._catch_up(room, standing)

    def _catch_up(self, room: Room, standing: Standing) -> None:
        room.relay.heard(standing.head)
        room.versions.heard(standing.version)
        # With patience: most of what is new in a busy moment is told by hints that are on their way.
        self._mender.look(room)
        has_outdated = room.is_exclusive and room.has_outdated
        if (standing.epoch > room.epoch or has_outdated) and room not in self._doubted:
            self._doubted.add(room)
            loop = asyncio.get_running_loop()
            loop.call_later(TAKEOVER_PATIENCE_S, self._believe, room, standing)
        if _is_as(room, standing) and not has_outdated:
            self._host.settled.settle(room.id, steps(standing))
        else:
            self._host.settled.unsettle(room.id)

    def _believe(self, room: Room, standing: Standing) -> None:
        self._doubted.discard(room)
        if self._host.rooms.get(room.id) is room:
            frame = replies.session_event(room.id, standing.version, "superseded")
            self._host.supersede(room, frame, standing.epoch)


def _is_as(room: Room, standing: Standing) -> bool:
    """Whether a room has been told what the log says, and has heard of nothing else.

    One that a hint has taken further while we read is none: the next tally would not be what it counts with.
    """
    relay, versions = room.relay, room.versions
    is_whole = not relay.has_hole and not versions.has_hole
    told = (relay.head, versions.told, room.epoch)
    return is_whole and told == (standing.head, standing.version, standing.epoch)
