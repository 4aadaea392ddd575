"""Keeps the live indexes true.

Gathers what changes and writes it a few times a second, for all connections together.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from gateway.runtime.resumption import ResumeRecord, Resumption
from store.errors import Unavailable
from store.live import Live
from store.types import ConnectionEntry, Mark

if TYPE_CHECKING:
    from gateway.runtime.connection import Connection

# DESIGN: heartbeats are gathered and sent in one go per 100–250 ms.
FLUSH_S: Final = 0.2
# An entry outlives the silence after which its connection is closed anyway.
LEASE_MARGIN_MS: Final = 15_000
# Watermarks waiting for the log. Above this the oldest is dropped: a later one of the same reader covers it.
MARKS_LIMIT: Final = 50_000


class Marks(Protocol):
    """What stores watermarks: the log, or what tells the cache of it as well."""

    async def mark(self, marks: Sequence[Mark]) -> None:
        """As `Log.mark`."""


class Leases:
    """Connections in the indexes, their resume records, and their readers' watermarks."""

    def __init__(self, live: Live, marked: Marks, resumption: Resumption, timeout_ms: int) -> None:
        self._live = live
        self._marked = marked
        self._resumption = resumption
        self.lease_ms = timeout_ms + LEASE_MARGIN_MS
        self._changed: dict[str, Connection] = {}
        self._departed: list[tuple[ConnectionEntry, str | None, ResumeRecord]] = []
        self._unwritten: set[str] = set()  # resume tokens of those departed whose record is not stored yet
        self._departing = asyncio.Lock()
        self._marks: dict[tuple[str, str], Mark] = {}

    def changed(self, connection: "Connection") -> None:
        """Have the connection's entries written, and their expiry renewed, with the next flush."""
        if connection.identity is not None and _is_here(connection):
            self._changed[connection.id] = connection

    def departed(self, connection: "Connection") -> None:
        """Have the connection's entries removed with the next flush.

        Its resume record stays for the window.
        """
        self._changed.pop(connection.id, None)
        if connection.identity is not None:
            token = None if connection.is_handed_over else connection.resume_token
            self._departed.append((connection.entry, token, _record(connection)))
            if token is not None:
                self._unwritten.add(token)

    def mark(self, mark: Mark) -> None:
        """Have a watermark stored with the next flush."""
        key = (mark.session, mark.user)
        known = self._marks.pop(key, None)
        if known is not None:
            mark = Mark(
                session=mark.session,
                user=mark.user,
                delivered=_larger(known.delivered, mark.delivered),
                read=_larger(known.read, mark.read),
            )
        self._marks[key] = mark
        if len(self._marks) > MARKS_LIMIT:
            del self._marks[next(iter(self._marks))]

    async def flush(self) -> None:
        """Write what has gathered. Unavailable: it stays for the next time.

        Indexes and watermarks live in different stores: one being away is no reason to keep from the other.
        """
        fault: Unavailable | None = None
        for part in (self._flush_connections, self._flush_departed, self._flush_marks):
            try:
                await part()
            except Unavailable as error:
                fault = error
        if fault is not None:
            raise fault

    async def assert_now(self, connection: "Connection") -> None:
        """Write one connection's entries without waiting for the flush.

        Left to the flush where the store is away.
        """
        self._changed.pop(connection.id, None)
        if not _is_here(connection):
            return
        try:
            await self._assert([connection])
        except Unavailable:
            self.changed(connection)

    async def forget_now(self, connection: "Connection") -> None:
        """Remove a connection that went away before it was welcomed."""
        try:
            await self._live.forget([connection.entry])
        except Unavailable:
            self.departed(connection)

    async def admit(self, connection: "Connection", limit: int) -> bool:
        """Index a new connection unless its user has `limit` others. Unavailable."""
        if await self._live.admit(connection.entry, limit=limit, lease_ms=self.lease_ms):
            return True
        # Among those counted may be some that have just gone from here: who reconnects at once has room.
        await self._flush_departed()
        return await self._live.admit(connection.entry, limit=limit, lease_ms=self.lease_ms)

    async def settle(self, token: str) -> None:
        """Write the last word of a connection that has just gone, before its token is used."""
        if token in self._unwritten:
            await self._flush_departed()

    async def hand_over(self, record: ResumeRecord, old: "Connection | None") -> ResumeRecord:
        """Take a resumed connection out of the indexes: its successor takes its place in them.

        Returns the record as it is now, where the old connection still lives here.
        """
        if old is not None and old.identity is not None:
            old.step_aside()
            self._changed.pop(old.id, None)
            record = _record(old)
        try:
            entry = await self._live.connection(record.tenant, record.connection)
            if entry is not None:
                await self._live.forget([entry])
        except Unavailable:
            return record  # the entry expires by itself
        return record

    async def _flush_connections(self) -> None:
        if not self._changed:
            return
        connections = list(self._changed.values())
        self._changed = {}
        try:
            await self._assert(connections)
        except Unavailable:
            for connection in connections:
                self.changed(connection)
            raise

    async def _assert(self, connections: "list[Connection]") -> None:
        entries = [connection.entry for connection in connections]
        await self._live.assert_connections(entries, lease_ms=self.lease_ms)
        # Gone in the meantime: their departure was noted after we began, and must have the last word.
        gone = [entry for each, entry in zip(connections, entries, strict=True) if not _is_here(each)]
        if gone:
            await self._live.forget(gone)
        await self._resumption.keep(
            [
                (connection.resume_token, _record(connection))
                for connection in connections
                if _is_here(connection) and connection.resume_token is not None
            ]
        )

    async def _flush_departed(self) -> None:
        # One at a time, and whoever comes meanwhile waits: `settle` must not return before the last word of
        # its token is written, or that word would make the used token good again.
        async with self._departing:
            departed, self._departed = self._departed, []
            if not departed:
                return
            try:
                await self._live.forget([entry for entry, _, _ in departed])
                await self._resumption.keep(
                    [(token, record) for _, token, record in departed if token is not None]
                )
            except Unavailable:
                return  # indexes expire by themselves, and whoever cannot resume attaches anew
            finally:
                self._unwritten.difference_update(token for _, token, _ in departed if token is not None)

    async def _flush_marks(self) -> None:
        if not self._marks:
            return
        marks, self._marks = self._marks, {}
        try:
            await self._marked.mark(list(marks.values()))
        except (Unavailable, asyncio.CancelledError):
            later, self._marks = self._marks, marks
            for mark in later.values():
                self.mark(mark)
            raise


def _is_here(connection: "Connection") -> bool:
    """Whether the connection is this node's to assert."""
    return not connection.is_closed and not connection.is_handed_over


def _record(connection: "Connection") -> ResumeRecord:
    return ResumeRecord(
        tenant=connection.caller.tenant,
        user=connection.user,
        connection=connection.id,
        sessions={session: connection.seen.get(session, 0) for session in connection.attachments},
    )


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
