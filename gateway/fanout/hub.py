"""The rooms of one node: opened with the first attachment, fed by the bus, mended from the log."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol, assert_never

import structlog

from gateway.fanout import hints
from gateway.fanout.channels import Channels
from gateway.fanout.outlet import Outlet
from gateway.fanout.replaying import Replayer
from gateway.fanout.room import Attachment, Reader, Room
from gateway.protocol import replies
from gateway.protocol.replay import Replay
from store.bus import Bus
from store.errors import Unavailable
from store.log import Log
from store.types import Access, Session

# A hint may be overtaken by a few others on its way; a hole older than this is loss, and the log is read.
PATIENCE_S: Final = 0.02
# Larger holes are not filled for the room: its readers fetch them each at its own pace, in pages.
FILL_LIMIT: Final = 256
# Holes filled at one time by the whole node: after a deaf bus every room has one, and each fill may be
# FILL_LIMIT large messages.
FILLS_AT_ONCE: Final = 8
HEADS_BATCH: Final = 500
# Rooms without attachments are kept for the resume window, so that a resume finds its tail. Above this
# many the oldest go at once.
EMPTY_ROOMS: Final = 1_000

_logger = structlog.get_logger("gateway.fanout")


class Listener(Protocol):
    """A connection, as the user channel needs it."""

    @property
    def id(self) -> str: ...

    @property
    def outlet(self) -> Outlet: ...

    def revoked(self, before: int) -> None:
        """Tokens issued before this moment (epoch ms) are no longer good."""


class _Opening:
    """What was heard of a session while its room was being opened."""

    __slots__ = ("changes", "known", "openers")

    def __init__(self) -> None:
        self.openers = 0
        self.known = 0
        self.changes = 0  # of who may read it, and how

    def note(self, hint: hints.Hint) -> None:
        """Keep what the reading of the session may be too old to show."""
        if isinstance(hint, hints.MessageHint):
            self.known = max(self.known, hint.seq)
        elif isinstance(hint, hints.EndedHint | hints.SupersededHint | hints.MemberHint):
            self.changes += 1

    async def settled(self, look: Callable[[], Coroutine[Any, Any, Access]]) -> Access:
        """Read the session until nothing has changed meanwhile: what was read may be too old to show it."""
        while True:
            changes = self.changes
            access = await look()
            if self.changes == changes:
                return access


class Hub:
    """Session → room → attachments, and user → connections, of one node."""

    def __init__(self, log: Log, bus: Bus, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._log = log
        self._spawn = spawn
        self._channels = Channels(bus, spawn)
        self._replayer = Replayer(log, spawn)
        self.rooms: dict[str, Room] = {}
        self._empty: dict[str, Room] = {}  # in the order in which they emptied
        self._closed: list[Room] = []  # since the last sweep, which empties it
        self._users: dict[str, dict[str, Listener]] = {}
        self._opening: dict[str, _Opening] = {}
        self._impatient: set[str] = set()
        self._filling: set[str] = set()
        self._fills = asyncio.Semaphore(FILLS_AT_ONCE)

    # -- what the bus brings

    def receive(self, channel: str, payload: bytes) -> None:
        """Take one payload from the bus. Never raises.

        A payload of a version we do not know is passed over.
        """
        try:
            hint = hints.decode(payload)
        except ValueError:
            _logger.warning("unreadable_hint", channel=channel, size=len(payload))
            return
        kind, _, name = channel.partition(":")
        if kind == "u":
            self._to_user(channel, hint)
            return
        # Both: whoever is about to attach to a hosted session is not among its attachments yet.
        if (opening := self._opening.get(name)) is not None:
            opening.note(hint)
        if (room := self.rooms.get(name)) is not None:
            self._to_room(room, hint)

    def _to_room(self, room: Room, hint: hints.Hint) -> None:
        match hint:
            case hints.MessageHint(seq, frame):
                room.deliver(seq, frame)
                if room.relay.has_hole:
                    self._mend_soon(room)
            case hints.SignalHint(frame, but):
                room.signal(frame, but)
            case hints.NoticeHint(frame, but):
                room.notify(frame, but)
            case hints.EndedHint(frame, head):
                room.end(frame, head)
                self._close(room)
            case hints.SupersededHint(frame, epoch, by):
                room.supersede(frame, epoch, by)
            case hints.MemberHint():
                room.change_member(hint)
            case hints.RevokedHint():
                pass
            case _:
                assert_never(hint)

    def _to_user(self, channel: str, hint: hints.Hint) -> None:
        listeners = list(self._users.get(channel, {}).values())
        for listener in listeners:
            if isinstance(hint, hints.RevokedHint):
                listener.revoked(hint.before)
            elif isinstance(hint, hints.SignalHint):
                listener.outlet.put_ephemeral(hint.frame)

    # -- users

    async def listen(self, tenant: str, user: str, listener: Listener) -> None:
        """Let a connection hear what concerns its user."""
        channel = hints.user_channel(tenant, user)
        listeners = self._users.setdefault(channel, {})
        listeners[listener.id] = listener
        await self._channels.acquire(channel)

    def unlisten(self, tenant: str, user: str, listener: Listener) -> None:
        """Undo `listen`."""
        channel = hints.user_channel(tenant, user)
        listeners = self._users.get(channel, {})
        if listeners.pop(listener.id, None) is not None:
            self._channels.release(channel)
        if not listeners:
            self._users.pop(channel, None)

    # -- rooms

    async def open(
        self, session: str, look: Callable[[], Coroutine[Any, Any, Access]]
    ) -> tuple[Room, Access]:
        """Host a session: subscribe, then read it with `look` (in this order, so that no message falls
        between), then open the room.

        The room may be there already; it is kept open only by the attachments made before the next await.
        """
        channel = hints.session_channel(session)
        await self._channels.acquire(channel)
        opening = self._opening.setdefault(session, _Opening())
        opening.openers += 1
        try:
            access = await opening.settled(look)
            room = self.rooms.get(session)
            if room is None:
                room = self._make(access.session, opening)
            return room, access
        finally:
            opening.openers -= 1
            if not opening.openers:
                del self._opening[session]
            self._channels.release(channel)

    def _make(self, session: Session, opening: "_Opening") -> Room:
        self._channels.retain(hints.session_channel(session.id))
        room = self.rooms[session.id] = Room(session, self._replayer.pump)
        self._park(room)
        if room.relay.heard(opening.known):
            self._mend_soon(room)
        return room

    def attach(
        self, room: Room, reader: Reader, cursor: int, access: Access, epoch: int | None
    ) -> Attachment:
        """Make an attachment that reads on from `cursor`; `catch_up` starts it."""
        attachment = Attachment(room, reader, Replay(cursor, room.relay.head), access.role, epoch)
        room.attachments[reader.id] = attachment
        room.empty_since = None
        self._empty.pop(room.id, None)
        room.step("attached")
        return attachment

    def catch_up(self, attachment: Attachment) -> None:
        """Bring an attachment what it lacks, or go on doing so after its reader had fallen behind."""
        if attachment.room.attachments.get(attachment.reader.id) is attachment:
            attachment.tell_missed()
            self._replayer.pump(attachment)

    def detach(self, attachment: Attachment, now: float) -> None:
        """Take an attachment out; its room stays for a while."""
        room = attachment.room
        if room.attachments.get(attachment.reader.id) is attachment:
            del room.attachments[attachment.reader.id]
        if not room.attachments and not room.is_ended and room.empty_since is None:
            room.empty_since = now
            room.step("emptied")
            self._park(room)

    def _park(self, room: Room) -> None:
        self._empty[room.id] = room
        while len(self._empty) > EMPTY_ROOMS:
            self._close(next(iter(self._empty.values())))

    def close_empty(self, before: float) -> None:
        """Close the rooms that have been empty since before this moment."""
        stale = [
            room
            for room in self._empty.values()
            if room.empty_since is not None and room.empty_since < before
        ]
        for room in stale:
            if not room.is_ended:
                room.step("window_over")
            self._close(room)

    def take_closed(self) -> list[Room]:
        """Hand out the rooms that were closed since this was last asked, for whatever reason."""
        closed, self._closed = self._closed, []
        return closed

    def _close(self, room: Room) -> None:
        self._empty.pop(room.id, None)
        if self.rooms.get(room.id) is room:
            del self.rooms[room.id]
            self._closed.append(room)
            self._channels.release(hints.session_channel(room.id))

    # -- holes

    def gap(self) -> None:
        """The bus may have lost something: compare heads now, not only with the next round."""
        self._spawn(self._compare_now())

    async def _compare_now(self) -> None:
        # The next round comes by itself.
        with suppress(Unavailable):
            await self.compare_heads()

    async def compare_heads(self) -> None:
        """Find messages whose hints were lost, the last ones included. Unavailable is for the caller."""
        await self._channels.renew()
        ids = [room.id for room in self.rooms.values()]
        for start in range(0, len(ids), HEADS_BATCH):
            standings = await self._log.standings(ids[start : start + HEADS_BATCH])
            for session, standing in standings.items():
                room = self.rooms.get(session)
                if room is not None and room.relay.heard(standing.head):
                    self.mend(room)

    def _mend_soon(self, room: Room) -> None:
        if room.id not in self._impatient:
            self._impatient.add(room.id)
            asyncio.get_running_loop().call_later(PATIENCE_S, self._lose_patience, room)

    def _lose_patience(self, room: Room) -> None:
        self._impatient.discard(room.id)
        if room.relay.has_hole and self.rooms.get(room.id) is room:
            self.mend(room)

    def mend(self, room: Room) -> None:
        """Close a hole from the log."""
        if room.relay.known - room.relay.head > FILL_LIMIT:
            room.jump()
        elif room.id not in self._filling:
            self._filling.add(room.id)
            self._spawn(self._fill(room))

    async def _fill(self, room: Room) -> None:
        try:
            async with self._fills:
                messages = await self._log.read(room.id, after=room.relay.head, limit=FILL_LIMIT)
                for message in messages:
                    room.deliver(message.seq, replies.message(message))
        except Unavailable:
            return  # heads are compared again
        finally:
            self._filling.discard(room.id)
        # A hint that came while we read may have opened the next hole.
        if messages and room.relay.has_hole:
            self._mend_soon(room)
