"""A room: one session as one node hosts it, with its attachments. Everything here happens inside one loop
turn.

What has to be awaited (pages of the log, subscriptions) is the hub's.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.fanout.hints import MemberHint
from gateway.fanout.outlet import Outlet
from gateway.fanout.relay import Relay
from gateway.fanout.versions import VersionedHint, Versions
from gateway.protocol import lifecycle, replies
from gateway.protocol.replay import Replay
from store.types import Access, Change, Role, Session


class Reader(Protocol):
    """Who reads: one connection, as far as fan-out needs to know it."""

    @property
    def id(self) -> str: ...

    @property
    def user(self) -> str: ...

    @property
    def outlet(self) -> Outlet: ...

    @property
    def predecessor(self) -> str | None:
        """The reader of the same client that this one has taken the place of."""

    def left(self, session: str) -> None:
        """The room has let this reader go, and told its client why."""


class Attachment:
    """A connection reading a session, with its cursor (in `replay`)."""

    __slots__ = (
        "epoch",
        "farewell",
        "is_announced",
        "is_pumped",
        "is_taking_over",
        "missed",
        "outlet",
        "reader",
        "replay",
        "role",
        "room",
        "version",
    )

    def __init__(
        self, room: "Room", reader: Reader, replay: Replay, access: Access, epoch: int | None
    ) -> None:
        self.room = room
        self.reader = reader
        self.outlet = reader.outlet
        self.replay = replay
        self.role = access.role
        # With which the right was read: one that was taken or changed before does not touch it any more.
        self.version = access.session.version
        self.epoch = epoch  # the fencing number held; None where the session is not exclusive
        self.is_announced = False  # whether its client has heard `live`
        self.is_pumped = False  # whether a replay of the hub's is at work for it
        self.is_taking_over = False  # whether its own client is just raising the epoch
        self.farewell: bytes | None = None  # the last frame, once everything before it was read
        self.missed: bytes | None = None  # the latest change told while the reader lagged

    def tell(self, frame: bytes) -> None:
        """Pass on something that is not dropped; to a reader that lags, the latest when it reads again.

        What others do must not pile up at it: the version in the latest shows that there were more.
        """
        if self.outlet.lagging:
            self.missed = frame
        else:
            self.outlet.put(frame)

    @property
    def is_outdated(self) -> bool:
        """Whether it held the session, and somebody has taken that over."""
        return self.epoch is not None and self.epoch < self.room.epoch

    def tell_missed(self) -> None:
        """Pass on what came while the reader lagged, if it has stopped lagging."""
        if self.missed is not None and not self.outlet.lagging:
            self.outlet.put(self.missed)
            self.missed = None


class Room:
    """A hosted session: relay, attachments, state, and what its heartbeats have to extend."""

    __slots__ = (
        "attachments", "bytes_in", "bytes_out", "empty_since", "epoch", "expires_at", "frames_in",
        "frames_out", "id", "is_ended", "is_exclusive", "is_stirred", "is_touched", "last_active", "pump",
        "relay", "rtt_ms", "state", "stirred", "tell_at", "tenant", "told", "told_frames", "ttl_s",
        "versions",
    )  # fmt: skip

    def __init__(self, session: Session, pump: Callable[[Attachment], None], stirred: "list[Room]") -> None:
        self.id = session.id
        self.tenant = session.tenant
        self.is_exclusive = session.exclusive
        self.ttl_s = session.ttl_s
        self.expires_at = session.expires_at  # as stored; the sweeper moves it
        self.is_touched = False  # whether there was a sign of life that its expiry does not reckon with yet
        self.stirred = stirred  # of the whole node: what the next sweep has to look at
        self.is_stirred = False  # whether it is there already
        self.is_ended = False
        self.relay = Relay(session.head)
        self.versions = Versions(session.version)
        self.epoch = session.epoch  # the highest heard of
        self.attachments: dict[str, Attachment] = {}
        self.pump = pump
        self.state: lifecycle.State = "connecting"
        self.told: lifecycle.State | None = None  # the state last written to the live record
        self.told_frames = 0  # the frames counted in it
        self.tell_at = 0.0  # monotonic: when to write it again whatever has happened
        self.empty_since: float | None = 0.0  # monotonic; None while there are attachments
        self.last_active = 0.0
        self.frames_in = self.bytes_in = self.frames_out = self.bytes_out = 0
        self.rtt_ms: float | None = None

    def step(self, happening: lifecycle.Input) -> None:
        """Move the session's state by the one table there is."""
        self.state = lifecycle.step(self.state, happening)
        self.stir()

    def stir(self) -> None:
        """Have the next sweep look at this room: most rooms are asleep, and it looks at no others."""
        if not self.is_stirred:
            self.is_stirred = True
            self.stirred.append(self)

    def touch(self, now_ms: int) -> None:
        """Note a sign of life: the session lives for its whole TTL from here on."""
        self.is_touched = True
        if self.ttl_s is not None and (self.expires_at or 0) < now_ms + self.ttl_s * 1000:
            self.stir()

    def deliver(self, seq: int, frame: bytes) -> None:
        """Take a message from the bus or the log and pass on whatever is now in order."""
        for due, data in self.relay.offer(seq, frame):
            self._spread(due, data)

    def _spread(self, seq: int, frame: bytes) -> None:
        delivered = 0
        behind: list[Attachment] = []
        for attachment in self.attachments.values():
            replay = attachment.replay
            if replay.live(seq):
                if attachment.outlet.put_message(frame):
                    delivered += 1
                    continue
                replay.refused(seq)
            if not replay.is_live:
                behind.append(attachment)
        self.count_out(delivered, delivered * len(frame))
        for attachment in behind:
            self.pump(attachment)

    def count_out(self, frames: int, size: int) -> None:
        """Count what was passed on to readers."""
        self.frames_out += frames
        self.bytes_out += size
        if not self.is_stirred:
            self.stir()

    def jump(self) -> None:
        """Give up on a hole: every reader fetches it from the log at its own pace."""
        head = self.relay.jump()
        for attachment in list(self.attachments.values()):
            attachment.replay.behind(head)
            self.pump(attachment)

    def signal(self, frame: bytes, but: str) -> None:
        """Pass on something ephemeral; it may be dropped at any reader.

        Not to `but`, which it came from, nor to the connection its client moves to.
        """
        for attachment in self.attachments.values():
            reader = attachment.reader
            if reader.id != but and reader.predecessor != but:
                attachment.outlet.put_ephemeral(frame)

    def change(self, hint: VersionedHint) -> None:
        """Take the hint of a change, and tell everybody of whatever is now in order."""
        for due in self.versions.offer(hint):
            self._apply(due)

    def refresh(self, session: Session, roles: Mapping[str, Role]) -> None:
        """Tell everybody how the session is by now: hints of changes were lost.

        `roles` are those of its members, read after the session.
        """
        if session.version <= self.versions.told:
            return  # the hints have come meanwhile
        change = Change(
            title=session.title,
            context=session.context,
            metadata=session.metadata,
            status=session.status,
            ttl_s=session.ttl_s or 0,
        )
        event = replies.session_event(
            self.id, session.version, "archived" if session.status == "archived" else "updated", change
        )
        self.ttl_s, self.expires_at = session.ttl_s, session.expires_at
        due = self.versions.jump(session.version)
        for attachment in list(self.attachments.values()):
            role = roles.get(attachment.reader.user)
            if attachment.version > session.version:
                # Attached while we read; what is between is a hole still, and read again.
                attachment.tell(event)
            elif role is None:
                attachment.outlet.put(replies.session_event(self.id, session.version, "deleted"))
                self.release(attachment)
            else:
                attachment.role = role
                attachment.tell(event)
        for hint in due:
            self._apply(hint)

    def _apply(self, hint: VersionedHint) -> None:
        if isinstance(hint, MemberHint):
            self._change_member(hint)
            return
        if hint.life is not None:
            self.ttl_s, self.expires_at = hint.life
        for attachment in self.attachments.values():
            attachment.tell(hint.frame)

    def _change_member(self, hint: MemberHint) -> None:
        """Tell everybody. For who is no member any more the session is no more, and they are let go."""
        for attachment in list(self.attachments.values()):
            if attachment.reader.user != hint.user or attachment.version >= hint.version:
                attachment.tell(hint.frame)
            elif hint.role is None:
                attachment.outlet.put(hint.farewell)
                self.release(attachment)
            else:
                attachment.tell(hint.frame)
                attachment.role = hint.role

    def end(self, frame: bytes, head: int) -> None:
        """The session is over: let everybody read up to `head`, then tell them and let go."""
        self.is_ended = True
        self.step("ended")
        self.relay.heard(head)
        for attachment in list(self.attachments.values()):
            attachment.farewell = frame
            if attachment.replay.cursor < head:
                attachment.replay.behind(head)
            self.settle(attachment)

    def vanish(self) -> None:
        """The session and all its messages are gone from the log: there is nothing left to read up to."""
        self.is_ended = True
        self.step("ended")
        frame = replies.session_event(self.id, self.versions.known + 1, "deleted")
        for attachment in list(self.attachments.values()):
            attachment.outlet.put(frame)
            self.release(attachment)

    def supersede(self, frame: bytes, epoch: int, by: tuple[str, ...] = ()) -> None:
        """Let go of attachments that hold an older epoch: a newer one has taken the session over.

        Attachments of the client that did so go on under the new one: it attaches again, or moves.
        """
        self.epoch = max(self.epoch, epoch)
        for attachment in list(self.attachments.values()):
            if attachment.epoch is None or attachment.epoch >= epoch:
                continue
            if attachment.reader.id in by:
                attachment.epoch = epoch
            elif not attachment.is_taking_over:
                attachment.outlet.put(frame)
                self.release(attachment)

    @property
    def has_outdated(self) -> bool:
        """Whether an attachment holds an older epoch than the session has."""
        return any(attachment.is_outdated for attachment in self.attachments.values())

    def settle(self, attachment: Attachment) -> None:
        """Do what is due when an attachment has caught up, or else see to it that it catches up."""
        if not attachment.replay.is_live:
            self.pump(attachment)
        elif attachment.farewell is not None:
            attachment.outlet.put(attachment.farewell)
            self.release(attachment)

    def release(self, attachment: Attachment) -> None:
        """Take an attachment out and tell its reader's owner."""
        self.attachments.pop(attachment.reader.id, None)
        attachment.reader.left(self.id)
