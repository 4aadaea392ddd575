"""The rooms of one node: opened with the first attachment, fed by the bus, mended from the log."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol, assert_never

import structlog

from gateway import errors
from gateway.fanout import hints
from gateway.fanout.channels import Channels
from gateway.fanout.mending import Mender
from gateway.fanout.outlet import Outlet
from gateway.fanout.replaying import Replayer
from gateway.fanout.room import Attachment, Reader, Room
from gateway.fanout.settled import Settled
from gateway.protocol.replay import Replay
from store.bus import Bus
from store.log import Log
from store.types import Access, Role, Session

# Rooms without attachments are kept for the resume window, so that a resume finds its tail. Above this
# many the oldest go at once.
EMPTY_ROOMS: Final = 1_000
# Readings of a session that each were too old when they came: it changes all the time, or somebody hints at
# what does not exist.
LOOKS: Final = 10

_logger = structlog.get_logger("gateway.fanout")


class Listener(Protocol):
    """A connection, as the user channel needs it."""

    @property
    def id(self) -> str: ...

    @property
    def outlet(self) -> Outlet: ...

    def revoked(self, before: int) -> None:
        """Tokens issued before this moment (epoch ms) are no longer good."""

    def disconnected(self) -> None:
        """Somebody who may has ended the connection."""


class _Opening:
    """What was heard of a session while its room was being opened, or somebody about to attach to it."""

    __slots__ = ("ends", "epoch", "known", "openers", "version")

    def __init__(self) -> None:
        self.openers = 0
        self.known = 0
        self.version = 0
        self.epoch = 0
        self.ends = 0

    def note(self, hint: hints.Hint) -> None:
        """Keep what the reading of the session may be too old to show."""
        match hint:
            case hints.MessageHint(seq=seq):
                self.known = max(self.known, seq)
            case hints.ChangedHint(version=version) | hints.MemberHint(version=version):
                self.version = max(self.version, version)
            case hints.SupersededHint(epoch=epoch):
                self.epoch = max(self.epoch, epoch)
            case hints.EndedHint():
                self.ends += 1
            case hints.SignalHint() | hints.RevokedHint() | hints.DisconnectHint():
                pass
            case _:
                assert_never(hint)

    def shows(self, session: Session) -> bool:
        """Whether the reading is as new as all that was heard."""
        return session.version >= self.version and session.epoch >= self.epoch


class Hub:
    """Session → room → attachments, and user → connections, of one node."""

    def __init__(
        self,
        log: Log,
        bus: Bus,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._monotonic = monotonic
        self._channels = Channels(bus, spawn)
        self._replayer = Replayer(log, spawn)
        self.mender = Mender(log, spawn, self)
        self.rooms: dict[str, Room] = {}
        self.settled = Settled()
        self._empty: dict[str, Room] = {}  # in the order in which they emptied
        self._stirred: list[Room] = []  # since the last sweep, each room once
        self._users: dict[str, dict[str, Listener]] = {}
        self._opening: dict[str, _Opening] = {}

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
                self.settled.unsettle(room.id)
                room.deliver(seq, frame)
                self.mender.look(room)
            case hints.SignalHint(frame, but):
                room.signal(frame, but)
            case hints.ChangedHint() | hints.MemberHint():
                self.settled.unsettle(room.id)
                room.change(hint)
                self.mender.look(room)
                self._emptied(room)
            case hints.EndedHint(frame, head):
                self.end(room, frame, head)
            case hints.SupersededHint(frame, epoch, by):
                self.settled.unsettle(room.id)
                self.supersede(room, frame, epoch, by)
            case hints.RevokedHint() | hints.DisconnectHint():
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
            elif isinstance(hint, hints.DisconnectHint) and hint.connection in ("", listener.id):
                listener.disconnected()

    # -- users

    async def listen(self, tenant: str, user: str, listener: Listener) -> None:
        """Let a connection hear what concerns its user."""
        channel = hints.user_channel(tenant, user)
        listeners = self._users.setdefault(channel, {})
        listeners[listener.id] = listener
        try:
            await self._channels.acquire(channel)
        except BaseException:
            # It has let go of what it had counted.
            listeners.pop(listener.id, None)
            raise

    def unlisten(self, tenant: str, user: str, listener: Listener) -> None:
        """Undo `listen`."""
        channel = hints.user_channel(tenant, user)
        listeners = self._users.get(channel, {})
        if listeners.pop(listener.id, None) is not None:
            self._channels.release(channel)
        if not listeners:
            self._users.pop(channel, None)

    def listeners(self, tenant: str, user: str) -> list[Listener]:
        """Who hears here what concerns a user, the oldest first."""
        return list(self._users.get(hints.user_channel(tenant, user), {}).values())

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
            access = await self._settled(session, opening, look)
            room = self.rooms.get(session)
            if room is None:
                room = self._make(access.session, opening)
            return room, access
        finally:
            opening.openers -= 1
            if not opening.openers:
                del self._opening[session]
            self._channels.release(channel)

    async def _settled(
        self, session: str, opening: _Opening, look: Callable[[], Coroutine[Any, Any, Access]]
    ) -> Access:
        """Read the session until nothing is known that the reading is too old to show."""
        for _ in range(LOOKS):
            ends = opening.ends
            access = await look()
            room = self.rooms.get(session)
            is_new = room is None or (
                access.session.version >= room.versions.told and access.session.epoch >= room.epoch
            )
            if is_new and opening.ends == ends and opening.shows(access.session):
                return access
        raise errors.Unavailable("the session changes too fast to be read: try again", retry_after_ms=1000)

    def _make(self, session: Session, opening: "_Opening") -> Room:
        self._channels.retain(hints.session_channel(session.id))
        room = self.rooms[session.id] = Room(session, self._replayer.pump, self._stirred)
        room.stir()
        self.settled.unsettle(room.id)
        self._park(room)
        room.relay.heard(opening.known)
        self.mender.look(room)
        return room

    def attach(
        self, room: Room, reader: Reader, cursor: int, access: Access, epoch: int | None
    ) -> Attachment:
        """Make an attachment that reads on from `cursor`; `catch_up` starts it."""
        attachment = Attachment(room, reader, Replay(cursor, room.relay.head), access, epoch)
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

    def detach(self, attachment: Attachment) -> None:
        """Take an attachment out; its room stays for a while."""
        room = attachment.room
        if room.attachments.get(attachment.reader.id) is attachment:
            del room.attachments[attachment.reader.id]
        self._emptied(room)

    def _emptied(self, room: Room) -> None:
        """See whether a room has no attachments any more; then it is kept for a while."""
        if not room.attachments and not room.is_ended and room.empty_since is None:
            room.empty_since = self._monotonic()
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

    def take_stirred(self) -> list[Room]:
        """Hand out the rooms in which something has happened since, those closed among them.

        As many as were open since, and those closed hold no messages: some KiB each at most.
        """
        stirred = self._stirred[:]
        self._stirred.clear()
        for room in stirred:
            room.is_stirred = False
        return stirred

    def _close(self, room: Room) -> None:
        self._empty.pop(room.id, None)
        if self.rooms.get(room.id) is room:
            del self.rooms[room.id]
            if not room.attachments:
                room.relay.forget()  # the next sweep looks at it once more
            self.settled.forget(room.id)
            self._channels.release(hints.session_channel(room.id))

    # -- what is found by comparing rooms with the log

    async def renew(self) -> None:
        """Subscribe to what could not be subscribed to."""
        await self._channels.renew()

    def end(self, room: Room, frame: bytes, head: int) -> None:
        """The room's session has ended with `head` as its last seq."""
        room.end(frame, head)
        self._over(room)

    def vanish(self, room: Room) -> None:
        """The room's session does not exist any more."""
        room.vanish()
        self._over(room)

    def supersede(self, room: Room, frame: bytes, epoch: int, by: tuple[str, ...] = ()) -> None:
        """The room's session was taken over under `epoch`."""
        room.supersede(frame, epoch, by)
        self._emptied(room)

    def refresh(self, room: Room, session: Session, roles: Mapping[str, Role]) -> None:
        """The room's session was changed; this is how it is by now."""
        room.refresh(session, roles)
        self._emptied(room)

    def _over(self, room: Room) -> None:
        if (opening := self._opening.get(room.id)) is not None:
            opening.ends += 1
        self._close(room)
