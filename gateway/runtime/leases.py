"""Keeps the live indexes true.

Gathers what changes and writes it a few times a second, for all connections together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

from gateway.auth.tickets import digest
from gateway.runtime import resumption
from gateway.runtime.holdings import Holdings
from gateway.runtime.resumption import Kept, Rest, ResumeRecord, Resumption, stamped
from store.errors import Unavailable
from store.live import Live
from store.types import ConnectionEntry, Mark

if TYPE_CHECKING:
    from gateway.runtime.connection import Connection
    from gateway.runtime.node_lease import NodeLease

# Tells of a user who is new in a session, by the entry of the connection.
Joined = Callable[[ConnectionEntry, str], None]

A = TypeVar("A")
B = TypeVar("B")

# DESIGN: gathered and sent in one go per 100–250 ms.
FLUSH_S: Final = 0.25
# Connections in one flush: 20 ms of Redis, in calls of one, and 10 ms of ours. What is beyond waits for the
# next: after an outage a node has all of its connections to write.
BATCH: Final = 1_000
# Each connection is asserted again with its heartbeat, or with what else its client says, unless it says more
# than need be: after a FLUSHALL the indexes are true again within one heartbeat.
RENEW_SHARE: Final = 0.5
# Whose client only answers pings is asserted in this share of the time-out, well before its lease ends, and
# in this share of the resume window, for which records live: theirs, and the marks of tokens used up.
UNHEARD_SHARE: Final = 0.9
WINDOW_SHARE: Final = 0.5
# An entry outlives the silence after which its connection is closed anyway.
LEASE_MARGIN_MS: Final = 15_000
# Connections that have gone and are in the indexes still, while the store is away. Above this the oldest
# entry is left to expire.
DEPARTED_LIMIT: Final = 50_000
# Watermarks waiting for the log. Above this the oldest is dropped: a later one of the same reader covers it.
MARKS_LIMIT: Final = 50_000


class Marks(Protocol):
    """What stores watermarks: the log, or what tells the cache of it as well."""

    async def mark(self, marks: Sequence[Mark]) -> None:
        """As `Log.mark`."""


class Leases:
    """Connections in the indexes, their resume records, and their readers' watermarks."""

    def __init__(
        self,
        live: Live,
        marked: Marks,
        resumption: Resumption,
        joined: Joined,
        heartbeat_ms: int,
        timeout_ms: int,
    ) -> None:
        self._live = live
        self._marked = marked
        self._resumption = resumption
        self._joined = joined
        self.holdings = Holdings()
        self.lease_ms = timeout_ms + LEASE_MARGIN_MS
        # From one assertion to the next, at least; and how much longer the wheel leaves it to the client.
        unheard_ms = min(timeout_ms * UNHEARD_SHARE, resumption.window_ms * WINDOW_SHARE)
        self.renew_s = min(heartbeat_ms * RENEW_SHARE, unheard_ms) / 1000
        self.patience_s = unheard_ms / 1000 - self.renew_s
        self._changed: dict[str, Connection] = {}
        self._confirmed: dict[str, Connection] = {}  # of whom only the resume record is to be written
        # Connection → sessions it has attached to, until an index has said whether its user is new there.
        self._arriving: dict[str, set[str]] = {}
        self._asserting: set[asyncio.Task[None]] = set()
        self._departed: dict[str, tuple[ConnectionEntry, str | None, ResumeRecord]] = {}
        self._unwritten: set[str] = set()  # resume tokens of those departed
        self._departing = asyncio.Lock()
        self._returning: set[str] = set()  # connections that others took for gone with this node
        self._unsure: dict[str, set[str]] = {}  # who was new while nobody knew whether this node is lost
        self._marks: dict[tuple[str, str], Mark] = {}

    def changed(self, connection: "Connection") -> None:
        """Have the connection's entries written, and their expiry renewed, with the next flush."""
        if connection.identity is not None and _is_here(connection):
            self._changed[connection.id] = connection

    def reassert(self, connections: "Iterable[Connection]") -> None:
        """Have all of these written, and tell of users who had been told to have left."""
        for connection in connections:
            self.changed(connection)
            if connection.id in self._changed:
                self._returning.add(connection.id)
                for session in self._unsure.pop(connection.id, ()):
                    self._joined(connection.entry, session)

    def confirmed(self, connection: "Connection") -> None:
        """Have what the client has confirmed written into its resume record with the next flush."""
        if connection.resume_token is not None and _is_here(connection):
            self._confirmed[connection.id] = connection

    def departed(self, connection: "Connection") -> None:
        """Have the connection's entries removed with the next flush.

        Its resume record stays for the window.
        """
        self._let_go(connection)
        if connection.identity is not None:
            token = None if connection.is_handed_over else connection.resume_token
            self._departed[connection.id] = (connection.entry, token, self._record_of(connection))
            self.holdings.forget(connection.id)
            if token is not None:
                self._unwritten.add(token)
            if len(self._departed) > DEPARTED_LIMIT:
                self._written(next(iter(self._departed)))

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
        """Write all that has gathered. Unavailable: it stays for the next time.

        Indexes and watermarks live in different stores: one being away is no reason to keep from the other.
        """
        fault: Unavailable | None = None
        for part in (self.flush_live, self.flush_marks):
            try:
                await part()
            except Unavailable as error:
                fault = error
        if fault is not None:
            raise fault

    async def finish(self) -> None:
        """Write all that is left, in as many flushes as it takes: the node stops. Unavailable."""
        if self._asserting:
            await asyncio.wait(self._asserting)
        await self.flush()
        while self._changed or self._confirmed or self._departed:
            await self.flush_live()

    # -- for one connection, without waiting for the flush

    def arriving(self, connection: "Connection", session: str) -> None:
        """Have whoever writes the connection next tell of its user, if the index says they are new there."""
        self._arriving.setdefault(connection.id, set()).add(session)

    async def assert_now(self, connection: "Connection") -> None:
        """Write one connection's entries. Left to the flush where the store is away."""
        self._changed.pop(connection.id, None)
        lease = connection.node.lease
        try:
            if not lease.is_running:
                await lease.renew()  # taken for lost meanwhile, it has to know before it writes
            await self._write([connection], [connection])
        except Unavailable:
            self.changed(connection)

    async def record_now(self, connection: "Connection") -> None:
        """Write one connection's resume record. Left to the flush where the store is away."""
        try:
            await self._record([connection])
        except Unavailable:
            self.confirmed(connection)

    async def forget_now(self, connection: "Connection") -> None:
        """Remove a connection that went away before it was welcomed."""
        try:
            await self._live.forget([connection.entry])
        except Unavailable:
            self.departed(connection)

    async def admit(self, connection: "Connection", limit: int, token: str) -> bool:
        """Index a new connection unless its user has `limit` others. Its token is good then. Unavailable."""
        admitted, _ = await _together(
            self._live.admit(connection.entry, limit=limit, lease_ms=self.lease_ms),
            self._resumption.keep([(token, self._record_of(connection, ahead=1))]),
        )
        if admitted:
            return True
        # Among those counted may be some that have just gone from here: who reconnects at once has room.
        await self._flush_departed()
        return await self._live.admit(connection.entry, limit=limit, lease_ms=self.lease_ms)

    async def settle(self, token: str) -> None:
        """Write the last word of a connection that has just gone, before its token is used."""
        if token in self._unwritten:
            try:
                await self._flush_departed()
            except Unavailable:
                return  # and so is the token

    async def hand_over(self, record: ResumeRecord, old: "Connection | None") -> ResumeRecord:
        """Take a resumed connection out of the indexes: its successor takes its place in them.

        Returns the record as it is now, where the old connection still lives here. Where it lives on another
        node, that one learns of it with the next renewal, by the token.
        """
        if old is not None and old.identity is not None:
            self._step_aside(old)
            record = self._record_of(old)
        entry = ConnectionEntry(
            id=record.connection,
            tenant=record.tenant,
            user=record.user,
            node=record.node,
            since=0,
            sessions=tuple(record.sessions),
        )
        try:
            await self._live.forget([entry])
        except Unavailable:
            return record  # the entry expires by itself
        return record

    # -- the flush

    async def flush_live(self, *, is_noted: bool = True) -> None:
        """Write what has gathered for the indexes. Unavailable: it stays for the next time.

        Who has gone stays in them until it is noted who has to be told of.
        """
        if self._departed and is_noted:
            await _together(self._flush_connections(), self._flush_departed())
        else:
            await self._flush_connections()

    async def _flush_connections(self) -> None:
        connections = _taken(self._changed)
        confirmed = _taken(self._confirmed)
        try:
            await self._write(connections, [*connections, *confirmed])
        except (Unavailable, asyncio.CancelledError):
            for connection in connections:
                self.changed(connection)
            for connection in confirmed:
                self.confirmed(connection)
            raise

    async def _write(self, asserted: "Sequence[Connection]", recorded: "Sequence[Connection]") -> None:
        """Write entries and resume records; in one round trip, as both are asked for at the same time."""
        unique = {each.id: each for each in recorded}
        await _together(self._record(unique.values()), self._assert(asserted))

    async def _record(self, connections: "Iterable[Connection]") -> None:
        """Renew resume records.

        A token that has been used is another connection's by now, here or on another node: that one counts,
        and this one has the time of a move left.
        """
        digests: dict[str, Connection] = {}
        same: list[Kept] = []
        others: list[tuple[str, bytes]] = []
        for each in connections:
            if each.resume_token is None or not _is_here(each):
                continue
            kept, sessions = each.kept, self._leased(each).sessions
            rest: Rest = (*each.seen.values(), *self.holdings.epochs(each).items())
            if kept is not None and kept.sessions is sessions and kept.rest == rest:
                same.append(kept)
            else:
                name = digest(each.resume_token) if kept is None else kept.digest
                value = stamped(self._record_of(each))
                # Before it is stored, for if it is not, that is found when it is renewed.
                kept = each.kept = resumption.kept(name, value, sessions, rest)
                others.append((name, value))
            digests[kept.digest] = each
        taken, lost = await self._told(same, others)
        # Who has gone meanwhile has had the last word, and nothing is said after it.
        again = [(each, stamped(self._record_of(digests[each]))) for each in lost if _is_here(digests[each])]
        used = taken | await self._resumption.put(again)
        gone = [digests[each] for each in used if _is_here(digests[each])]
        for connection in gone:
            self._step_aside(connection)
        if gone:
            # They were taken out by whoever used their tokens; we may have put them in again since.
            await self._live.forget([connection.entry for connection in gone])

    async def _told(
        self, same: Sequence[Kept], others: Sequence[tuple[str, bytes]]
    ) -> tuple[set[str], set[str]]:
        """Renew some records and put others. The digests used up already, and those to be put anew."""
        if not others:
            return await self._resumption.renew(same)
        if not same:
            return await self._resumption.put(others), set()
        (taken, lost), known = await _together(self._resumption.renew(same), self._resumption.put(others))
        return taken | known, lost

    async def _assert(self, connections: "Sequence[Connection]") -> None:
        if not connections:
            return
        # To its end whoever gives up waiting: who is new in a session is told to one caller, once.
        task = asyncio.get_running_loop().create_task(self._asserted(connections))
        self._asserting.add(task)
        task.add_done_callback(self._over)
        await asyncio.wait([task])
        task.result()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._asserting.discard(task)
        if not task.cancelled():
            task.exception()  # raised where it is waited for; who was cancelled does not want to know

    async def _asserted(self, connections: "Sequence[Connection]") -> None:
        lease = connections[0].node.lease
        if lease.is_running:
            self._unsure.clear()
        # Whoever departs from here on is forgotten by a later call.
        by_id = {each.id: each for each in connections if each.identity is not None and _is_here(each)}
        if not by_id:
            return
        entries = [self._leased(each) for each in by_id.values()]
        # As it is asked: who is gone by the time of the answer has come all the same, and will have left.
        arriving = {each: self._arriving.get(each, set()) for each in by_id}
        returning = self._returning.intersection(by_id)
        for connection, session in await self._live.assert_connections(entries, lease_ms=self.lease_ms):
            if session in arriving[connection] or connection in returning or connection in self._returning:
                arriving[connection].discard(session)
                self._joined(by_id[connection].entry, session)
            elif not lease.is_running and _is_here(by_id[connection]):
                self._unsure.setdefault(connection, set()).add(session)
        for entry in entries:
            self._said(entry, arriving[entry.id], lease)

    def _said(self, entry: ConnectionEntry, arriving: set[str], lease: "NodeLease") -> None:
        """The indexes have said of a connection where its user is new."""
        arriving.difference_update(entry.sessions)
        if not arriving and self._arriving.get(entry.id) is arriving:
            del self._arriving[entry.id]
        # One written under the life before is cleaned up again: who came back with it is yet to be told.
        if entry.incarnation == lease.incarnation:
            self._returning.discard(entry.id)

    def _record_of(self, connection: "Connection", ahead: int = 0) -> ResumeRecord:
        return ResumeRecord(
            tenant=connection.caller.tenant,
            user=connection.user,
            connection=connection.id,
            sessions={session: connection.seen.get(session, 0) for session in connection.attachments},
            node=connection.node.id,
            epochs=self.holdings.epochs(connection, ahead),
        )

    def _leased(self, connection: "Connection") -> ConnectionEntry:
        """What the indexes hold of the connection, made ready once and kept until it attaches or detaches."""
        lease = connection.lease
        life = connection.node.lease.incarnation
        if lease is None or lease.incarnation != life or lease.sessions != tuple(connection.attachments):
            lease = connection.lease = self._live.prepared(connection.entry)
        return lease

    async def _flush_departed(self) -> None:
        # One at a time, and whoever comes meanwhile waits: `settle` must not return before the last word of
        # its token is written.
        async with self._departing:
            departed = dict(islice(self._departed.items(), BATCH))
            if not departed:
                return
            try:
                await _together(
                    self._live.forget([entry for entry, _, _ in departed.values()]),
                    self._resumption.keep(
                        [(token, record) for _, token, record in departed.values() if token is not None]
                    ),
                )
            except Unavailable:
                # Behind the others: on a cluster the server that is away may be that of a few of these.
                for connection in departed.keys() & self._departed.keys():
                    self._departed[connection] = self._departed.pop(connection)
                raise
            for connection in departed:
                self._written(connection)

    def _written(self, connection: str) -> None:
        # Gone already where it was the oldest of too many.
        if connection in self._departed:
            _, token, _ = self._departed.pop(connection)
            self._unwritten -= {token}

    async def flush_marks(self) -> None:
        """Write the watermarks that have gathered. Unavailable: they stay for the next time."""
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

    # -- who is no longer asserted

    def _step_aside(self, connection: "Connection") -> None:
        self._let_go(connection)
        connection.step_aside()

    def _let_go(self, connection: "Connection") -> None:
        for waiting in (self._changed, self._confirmed, self._arriving, self._unsure):
            waiting.pop(connection.id, None)
        self._returning.discard(connection.id)


async def _together(one: Awaitable[A], other: Awaitable[B]) -> tuple[A, B]:
    """Do both at the same time: what they ask of the store goes in one round trip. The first failure."""
    outcomes = await asyncio.gather(one, other, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return cast(tuple[A, B], outcomes)


def _taken(waiting: "dict[str, Connection]") -> "list[Connection]":
    """Take out those who have waited for longest, as many as fit into one flush."""
    taken = list(islice(waiting.values(), BATCH))
    for connection in taken:
        del waiting[connection.id]
    return taken


def _is_here(connection: "Connection") -> bool:
    """Whether the connection is this node's to assert."""
    return not connection.is_closed and not connection.is_handed_over


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
