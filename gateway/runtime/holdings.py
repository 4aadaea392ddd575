"""Which exclusive sessions a connection holds and has lost, as its resume record has to tell.

So that whoever resumes does not take back what somebody else has taken over meanwhile. Nothing is kept here
for a connection that has to do with no exclusive session.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from gateway.runtime.connection import Connection

V = TypeVar("V")

# In a record: lost, whatever epoch it was. The log counts from 1.
LOST: Final = 0


class Holdings:
    """Of all connections of the node: claims and losses, besides the epochs of their attachments.

    A claim is the highest epoch that may be the client's own, while nobody knows for sure: not attached again
    yet after a resume, or just raising it.
    """

    def __init__(self) -> None:
        self._claims: dict[str, dict[str, int]] = {}  # connection → session → epoch
        # Connection → session → when its client was told. Until a later ping is answered it may not know.
        self._lost: dict[str, dict[str, float]] = {}

    def epochs(self, connection: "Connection", ahead: int = 0) -> dict[str, int]:
        """What the record says: session → the highest epoch that is the client's own; LOST.

        Claims count `ahead` where they are about to be raised and the record is not written again before.
        """
        attachments = connection.attachments.items()
        epochs = {session: each.epoch for session, each in attachments if each.epoch is not None}
        for session in self._lost.get(connection.id, ()):
            epochs.setdefault(session, LOST)
        for session, epoch in self._claims.get(connection.id, {}).items():
            epochs[session] = max(epochs.get(session, LOST), epoch + ahead)
        return epochs

    def inherit(self, connection: "Connection", epochs: Mapping[str, int]) -> None:
        """A connection takes another's place; `epochs` as its record had them."""
        for session, epoch in epochs.items():
            if epoch == LOST:
                self.lose(connection, session)
            elif not connection.is_closed:
                self._claims.setdefault(connection.id, {})[session] = epoch

    def raising(self, connection: "Connection", session: str, epoch: int) -> bool:
        """The connection is about to raise the session's epoch to this; whether its record said otherwise.

        Only then there is something to claim: who has had nothing to do with the session attaches anew.
        """
        attachment = connection.attachments.get(session)
        is_known = (
            session in self._claims.get(connection.id, ())
            or session in self._lost.get(connection.id, ())
            or (attachment is not None and attachment.epoch is not None)
        )
        if is_known and not connection.is_closed:
            self._claims.setdefault(connection.id, {})[session] = epoch
        return is_known

    def settle(self, connection: "Connection", session: str) -> None:
        """The attachment says it all by now, or there is none and none is wanted."""
        _drop(self._claims, connection.id, session)
        _drop(self._lost, connection.id, session)

    def lose(self, connection: "Connection", session: str) -> None:
        """Somebody else has taken the session over, and the client is just being told.

        As many as may be attached are remembered, then the oldest is forgotten.
        """
        self.settle(connection, session)
        if connection.is_closed:
            return
        lost = self._lost.setdefault(connection.id, {})
        lost[session] = connection.node.clock.monotonic()
        if len(lost) > connection.node.limits.attachments:
            del lost[next(iter(lost))]

    def answered(self, connection: "Connection", sent: float) -> bool:
        """A ping sent then was answered: what was told before it has arrived. Whether that is news."""
        lost = self._lost.get(connection.id)
        if lost is None:
            return False
        known = [session for session, told in lost.items() if told < sent]
        for session in known:
            _drop(self._lost, connection.id, session)
        return bool(known)

    def forget(self, connection: str) -> None:
        """The connection is gone, and its last record made."""
        self._claims.pop(connection, None)
        self._lost.pop(connection, None)


def _drop(of_connections: dict[str, dict[str, V]], connection: str, session: str) -> None:
    sessions = of_connections.get(connection)
    if sessions is not None:
        sessions.pop(session, None)
        if not sessions:
            del of_connections[connection]
