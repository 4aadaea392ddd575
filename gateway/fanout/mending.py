"""Closes the holes of rooms from the log: messages whose hints were lost, and changes whose hints were lost.

A hole is given a little patience first, since hints of several nodes overtake each other all the time. One
timer for a room with holes of a kind, whatever comes meanwhile.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Literal, Protocol

from gateway.fanout.room import Room
from gateway.protocol import replies
from store.errors import Unavailable
from store.log import Log
from store.types import Role, Session

# A hint may be overtaken by a few others on its way; a hole older than this, and younger than twice this, is
# loss, and the log is read.
PATIENCE_S: Final = 0.02
# Larger holes are not filled for the room: its readers fetch them each at its own pace, in pages.
FILL_LIMIT: Final = 256
# Holes closed at one time by the whole node: after a deaf bus every room has one, and each may be FILL_LIMIT
# large messages, or a session's documents with its members.
MENDS_AT_ONCE: Final = 8

_Kind = Literal["messages", "changes"]


class Host(Protocol):
    """What hosts rooms."""

    @property
    def rooms(self) -> Mapping[str, Room]: ...

    def refresh(self, room: Room, session: Session, roles: Mapping[str, Role]) -> None:
        """Tell the room how its session is by now; `roles` are those of its members, read after it."""


class Mender:
    """Waits for holes to close by themselves, and else closes them. At most one reading of a kind per room.

    The log being away leaves a hole open until rooms are compared with it again.
    """

    def __init__(
        self,
        log: Log,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        host: Host,
    ) -> None:
        self._log = log
        self._spawn = spawn
        self._host = host
        self._awaited: dict[tuple[Room, _Kind], int] = {}  # behind which position a hole was seen
        self._mending: set[tuple[Room, _Kind]] = set()
        self._mends = asyncio.Semaphore(MENDS_AT_ONCE)

    def look(self, room: Room) -> None:
        """See whether the room has holes that nobody waits for yet. Called with every hint: cheap."""
        if room.relay.has_hole:
            self._wait(room, "messages")
        if room.versions.has_hole:
            self._wait(room, "changes")

    def mend(self, room: Room) -> None:
        """Close the hole in the room's messages without patience: nothing is on its way."""
        if room.relay.known - room.relay.head > FILL_LIMIT:
            room.jump()
        else:
            self._begin(room, "messages")

    def _wait(self, room: Room, kind: _Kind) -> None:
        if (room, kind) not in self._awaited:
            self._awaited[room, kind] = _position(room, kind)
            asyncio.get_running_loop().call_later(PATIENCE_S, self._lose_patience, room, kind)

    def _lose_patience(self, room: Room, kind: _Kind) -> None:
        seen = self._awaited.pop((room, kind))
        if self._host.rooms.get(room.id) is not room or not _has_hole(room, kind):
            return
        if _position(room, kind) != seen:
            # That one has closed. This is another, as a busy session of several nodes always has one.
            self._wait(room, kind)
        elif kind == "messages":
            self.mend(room)
        else:
            self._begin(room, kind)

    def _begin(self, room: Room, kind: _Kind) -> None:
        if (room, kind) not in self._mending:
            self._mending.add((room, kind))
            self._spawn(self._close(room, kind))

    async def _close(self, room: Room, kind: _Kind) -> None:
        try:
            async with self._mends:
                is_further = await (self._fill(room) if kind == "messages" else self._refresh(room))
        except Unavailable:
            return  # rooms are compared again
        finally:
            self._mending.discard((room, kind))
        # A hint that came while we read may have opened the next hole.
        if is_further and self._host.rooms.get(room.id) is room:
            self.look(room)

    async def _fill(self, room: Room) -> bool:
        messages = await self._log.read(room.id, after=room.relay.head, limit=FILL_LIMIT)
        for message in messages:
            room.deliver(message.seq, replies.message(message))
        return bool(messages)

    async def _refresh(self, room: Room) -> bool:
        """Read how the session is, then its members: the roles are then at least as new as the version."""
        session = await self._log.get(room.tenant, room.id)
        if session is None or session.ended_at is not None:
            return False  # its end is told by a hint of its own, or found when rooms are compared
        roles = {member.user: member.role for member in await self._log.members(room.id)}
        told = room.versions.told
        if self._host.rooms.get(room.id) is room:
            self._host.refresh(room, session, roles)
        return room.versions.told > told


def _position(room: Room, kind: _Kind) -> int:
    return room.relay.head if kind == "messages" else room.versions.told


def _has_hole(room: Room, kind: _Kind) -> bool:
    return room.relay.has_hole if kind == "messages" else room.versions.has_hole
