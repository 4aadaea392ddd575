"""The events of sessions on this node's side: joins and leaves gathered for the log, old ones purged.

What a change of a session tells is written by the log itself, in the transaction of the change.
"""

from itertools import islice
from typing import Final

import structlog

from gateway import ids
from gateway.clock import Clock
from gateway.protocol.codec import Fragment, json_bytes
from gateway.protocol.replies import rfc3339
from store.log import Log
from store.types import Attendance, AttendanceKind, ConnectionEntry, Event

# Joins and leaves that wait for the log, some 500 bytes each: 5 MiB at most. Above this the oldest is
# dropped, and counted: what is still true of who is where, the indexes say.
WAITING_LIMIT: Final = 10_000
# In one transaction: some 10 ms of either database, in which an embedded gateway commits no message.
BATCH: Final = 100

PURGE_S: Final = 60.0
PURGE_BATCH: Final = 1_000
# What is left then waits for a minute: 100,000 in one of them are more than any cluster makes.
PURGE_BATCHES: Final = 100

HOUR_MS: Final = 3_600_000

_logger = structlog.get_logger("gateway.runtime")


def document(event: Event) -> dict[str, object]:
    """An event as operators and webhooks see it."""
    return {
        "id": event.id,
        "tenant": event.tenant,
        "session": event.session,
        "kind": event.kind,
        "version": event.version,
        "at": rfc3339(event.at),
        "actor": event.actor,
        "data": Fragment(event.data),
    }


class Events:
    """Joins and leaves on their way into the log, and the end of events whose time is over."""

    def __init__(self, log: Log, clock: Clock, node: str, retention_h: int, *, has_webhook: bool) -> None:
        self._log = log
        self._clock = clock
        self._node = node
        self._retention_h = retention_h
        self._has_webhook = has_webhook
        self._waiting: dict[str, Attendance] = {}
        self.dropped = 0
        self.purged = 0
        self.undelivered = 0  # of those purged, where there is a webhook

    @property
    def waiting(self) -> int:
        """How many joins and leaves the log has yet to be told of."""
        return len(self._waiting)

    def joined(self, entry: ConnectionEntry, session: str) -> None:
        """Note that a user came into a session with this connection, as the index says."""
        data = json_bytes({"connection": entry.id, "node": self._node})
        self._gather(entry.tenant, session, entry.user, "joined", data)

    def left(self, tenant: str, session: str, user: str) -> None:
        """Note that a user has left a session, as the index says."""
        self._gather(tenant, session, user, "left", json_bytes({"node": self._node}))

    def _gather(self, tenant: str, session: str, user: str, kind: AttendanceKind, data: bytes) -> None:
        key = ids.new_id()
        self._waiting[key] = Attendance(
            key=key,
            tenant=tenant,
            session=session,
            user=user,
            kind=kind,
            at=self._clock.now_ms(),
            data=data,
        )
        if len(self._waiting) > WAITING_LIMIT:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1

    async def flush(self) -> None:
        """Write all that has gathered. Unavailable: it stays for the next time, and is written once."""
        while batch := list(islice(self._waiting.values(), BATCH)):
            await self._log.note(batch)
            for each in batch:
                # Gone already where it was the oldest of too many.
                self._waiting.pop(each.key, None)

    async def purge(self) -> None:
        """Delete events that are older than they are kept. Unavailable: the rest waits for the next time."""
        now = self._clock.now_ms()
        before = now - self._retention_h * HOUR_MS
        undelivered = 0
        for _ in range(PURGE_BATCHES):
            gone = await self._log.purge_events(before=before, now=now, limit=PURGE_BATCH)
            self.purged += gone.events
            undelivered += gone.undelivered
            if gone.is_done:
                break
        if undelivered and self._has_webhook:
            self.undelivered += undelivered
            _logger.warning("events_lost", events=undelivered, older_than_h=self._retention_h)
