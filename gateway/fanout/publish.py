"""Tells every node that hosts a session what happened in it."""

from gateway.fanout import hints
from store.bus import Bus
from store.types import EndReason, Session


class Publisher:
    """Offers hints to the bus; never waits. What is lost here is found when heads are compared."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def message(self, session: str, seq: int, frame: bytes) -> None:
        """A message is committed. Publish only after COMMIT.

        A node that hears the hint must find the message.
        """
        self._bus.offer(hints.session_channel(session), hints.encode(hints.MessageHint(seq, frame)))

    def signal(self, session: str, frame: bytes, but: str = "") -> None:
        """Something ephemeral, for all attachments but one connection's."""
        self._bus.offer(hints.session_channel(session), hints.encode(hints.SignalHint(frame, but)))

    def changed(self, session: str, hint: hints.ChangedHint) -> None:
        """The session was changed: something for all attachments that is not droppable."""
        self._bus.offer(hints.session_channel(session), hints.encode(hint))

    def ended(self, session: Session, reason: EndReason, frame: bytes) -> None:
        """The session has ended; its row says how and with which head."""
        hint = hints.EndedHint(frame, session.head, reason)
        self._bus.offer(hints.session_channel(session.id), hints.encode(hint))

    def superseded(self, session: str, frame: bytes, epoch: int, by: tuple[str, ...]) -> None:
        """The client of the connections `by` has taken the exclusive session over under `epoch`."""
        self._bus.offer(hints.session_channel(session), hints.encode(hints.SupersededHint(frame, epoch, by)))

    def member(self, session: str, hint: hints.MemberHint) -> None:
        """A member's right has changed."""
        self._bus.offer(hints.session_channel(session), hints.encode(hint))

    def user_signal(self, tenant: str, user: str, frame: bytes) -> None:
        """Something ephemeral for all connections of a user."""
        self._bus.offer(hints.user_channel(tenant, user), hints.encode(hints.SignalHint(frame)))

    def disconnect(self, tenant: str, user: str, connection: str = "") -> None:
        """Connections of the user are to be closed, wherever they are: one, or all."""
        self._bus.offer(hints.user_channel(tenant, user), hints.encode(hints.DisconnectHint(connection)))

    def revoked(self, tenant: str, user: str, before: int) -> None:
        """Tokens of the user issued before `before` are worthless."""
        self._bus.offer(hints.user_channel(tenant, user), hints.encode(hints.RevokedHint(before)))
