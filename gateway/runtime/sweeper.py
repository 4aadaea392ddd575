"""What has to be seen to every few seconds.

Lives extended, expired sessions ended, states, empty rooms, revocations.
"""

import math
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from store.errors import Unavailable
from store.types import LiveSession, SessionStats

if TYPE_CHECKING:
    from gateway.fanout.room import Room
    from gateway.runtime.node import Node

BATCH: Final = 100
# Live records in one call: about 200 bytes each.
RECORDS: Final = 500
# A session without traffic for this long is idle.
QUIET_S: Final = 30.0
# Expiries are stored a little ahead, so that a busy session is written once in this time and not with
# every heartbeat:
# it ends between its TTL and a tenth (at most a minute) more after its last sign of life, never before.
AHEAD_SHARE: Final = 0.1
AHEAD_MS: Final = 60_000
# Sessions whose rooms were closed while the log was away, and whose lives are to be extended: 100 bytes each.
# Above this the oldest is dropped, and may end sooner than its TTL after its last sign of life.
OWED: Final = 50_000
# No whole sweep for so many of their pauses: the log was away, or this process asleep, or it has just begun.
# Then the clients of every node may have been there all the time, and nobody could say so.
GAP_SWEEPS: Final = 2.5
# So long does every node then leave the lives of others alone, so that each has extended its own: one sweep
# for a call that hung when the log came back, one for the pause behind it, one for the extension, one spare.
PATIENCE_SWEEPS: Final = 4


class Sweeper:
    """One sweep after the other; safe beside other nodes' sweepers, since the log ends each session once."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._swept_at = -math.inf
        self._expire_from = math.inf
        self._owed: dict[str, int] = {}

    async def finish(self) -> None:
        """Extend the lives of what was in use until now: the node stops. Unavailable."""
        await self._extend(self._node.hub.take_stirred())

    async def sweep(self) -> None:
        """Do all of it once. Unavailable: the rest waits for the next time."""
        node = self._node
        node.lease.watch()
        now = node.clock.monotonic()
        node.hub.close_empty(now - node.settings.resume_window_s)
        await self.tend(now)
        if self._may_expire():
            await self._expire()
        await node.refresh_revocations()
        self._swept_at = node.clock.monotonic()

    def _may_expire(self) -> bool:
        """Whether every node has had the time to extend the lives of what it hosts."""
        now = self._node.clock.monotonic()
        sweep_s = self._node.settings.sweep_s
        if now - self._swept_at > GAP_SWEEPS * sweep_s:
            self._expire_from = now + PATIENCE_SWEEPS * sweep_s
        return now >= self._expire_from

    async def tend(self, now: float) -> None:
        """Write what has become of the rooms in which something has happened. Unavailable: of the log."""
        rooms = self._node.hub.take_stirred()
        try:
            await self._states(rooms, now)
            await self._extend(rooms)
        except BaseException:
            self._again(rooms)
            raise

    def _again(self, rooms: "Sequence[Room]") -> None:
        """Have the next sweep look at these rooms; what was closed meanwhile is not waited for."""
        for room in rooms:
            if self._is_hosted(room):
                room.stir()

    def _is_hosted(self, room: "Room") -> bool:
        return self._node.hub.rooms.get(room.id) is room

    async def _extend(self, stirred: "Sequence[Room]") -> None:
        now = self._node.clock.now_ms()
        expiries = dict(self._owed)
        rooms: list[Room] = []
        for room in stirred:
            if not room.is_touched or room.ttl_s is None or room.is_ended:
                continue
            due = now + room.ttl_s * 1000
            if room.expires_at is not None and room.expires_at >= due:
                room.is_touched = False
                continue
            expiries[room.id] = due + min(AHEAD_MS, int(room.ttl_s * 1000 * AHEAD_SHARE))
            rooms.append(room)
        if not expiries:
            return
        # Before the log is asked: whatever shows life while it works counts for the next sweep.
        for room in rooms:
            room.is_touched = False
        try:
            await self._node.log.extend(expiries)
        except BaseException:
            for room in rooms:
                room.is_touched = True
                if not self._is_hosted(room):
                    self._owe(room.id, expiries[room.id])
            raise
        self._owed.clear()
        for room in rooms:
            room.expires_at = expiries[room.id]

    def _owe(self, session: str, expires_at: int) -> None:
        self._owed[session] = expires_at
        if len(self._owed) > OWED:
            del self._owed[next(iter(self._owed))]

    async def _expire(self) -> None:
        while True:
            over = await self._node.records.expire_due(now=self._node.clock.now_ms(), limit=BATCH)
            for session in over:
                self._node.sessions.tell_ended(session)
            if len(over) < BATCH:
                return

    async def _states(self, stirred: "Sequence[Room]", now: float) -> None:
        for room in stirred:
            if room.state != "active":
                continue
            if now - room.last_active > QUIET_S:
                room.step("quiet")
            else:
                room.stir()  # looked at again, until it is quiet
        if not self._node.lease.is_running:
            # Others may be cleaning up what this node has said of them.
            self._again(stirred)
            return
        # A session that is hosted again by now has another word than its old room's.
        rooms = self._node.hub.rooms
        known = [room for room in stirred if rooms.get(room.id, room) is room]
        due = iter([room for room in known if _is_news(room, now)])
        try:
            while batch := list(islice(due, RECORDS)):
                await self._tell(batch, now)
        except Unavailable:
            # Soft state. Lives have to be extended all the same, and not after a time-out for each session.
            self._again(known)

    async def _tell(self, rooms: "Sequence[Room]", now: float) -> None:
        """Write the live records of sessions."""
        node = self._node
        records = [self._record(room) for room in rooms]
        frames = [_frames(room) for room in rooms]
        await node.live.put_sessions(records, lease_ms=int(node.settings.resume_window_s * 1000))
        for room, record, counted in zip(rooms, records, frames, strict=True):
            room.told, room.told_frames = record.state, counted
            # Again when a connection in it is renewed; of many in one session, not with each.
            room.tell_at = now + node.leases.renew_s

    def _record(self, room: "Room") -> LiveSession:
        stats = SessionStats(
            frames_in=room.frames_in,
            frames_out=room.frames_out,
            bytes_in=room.bytes_in,
            bytes_out=room.bytes_out,
            rtt_ms=room.rtt_ms,
            last_active=self._node.wall_of(room.last_active),
        )
        return LiveSession(
            id=room.id,
            tenant=room.tenant,
            state=room.state,
            node=self._node.id,
            stats=stats,
            incarnation=self._node.lease.incarnation,
        )


def _frames(room: "Room") -> int:
    return room.frames_in + room.frames_out


def _is_news(room: "Room", now: float) -> bool:
    """Whether its state has changed or, while it has attachments, its traffic; or its record is due."""
    if room.told != room.state:
        return True
    return bool(room.attachments) and (room.told_frames != _frames(room) or now >= room.tell_at)
