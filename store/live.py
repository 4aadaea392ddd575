"""The interface of the live indexes: who is connected where. Soft state, which may be lost at any time."""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Final, Literal, Protocol

import msgspec

from store.types import ConnectionEntry, LiveSession, NodeEntry, SessionState, SessionStats, Value

OnceKind = Literal["resume", "ticket"]

# A connection, and a session into which its user came with it.
Arrival = tuple[str, str]

# Tenant, session, user: somebody who may have left a session.
Leave = tuple[str, str, str]

# So long it is remembered that a node was lost, in some 100 bytes: longer than what it has left, and than a
# node is cut off for. Who was cut off for longer takes itself for lost.
LOST_MS: Final = 86_400_000


class Roll(Value, frozen=True, kw_only=True):
    """What a node learns when it renews its lease. Nodes are named by `life_of`.

    `is_lost`: it was taken for lost, for good: it has to register under another incarnation. `found`: those
    whose lease this call has found to be over; `lost`: all that have left something.
    """

    is_lost: bool = False
    found: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class Remains(Value, frozen=True, kw_only=True):
    """A share of what a lost node has left, and what was done about it.

    `connections` (tenant, id) were taken; of these `cleaned` were its own still, and are in no index by now.
    `leaves`: who may have left with them; `noted`: who was about to be told to have left.
    """

    life: str
    connections: tuple[tuple[str, str], ...] = ()
    cleaned: int = 0
    leaves: tuple[Leave, ...] = ()
    noted: tuple[Leave, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to take: it is over, or others are at work on the rest."""
        return not self.connections and not self.noted


def life_of(node: str, incarnation: str) -> str:
    """Name one life of a node: what a lease, and an entry, belongs to."""
    return f"{node}/{incarnation}" if incarnation else node


class Live(Protocol):
    """Indexes by connection, user and session; node leases; one-time tokens.

    Order: none between keys. What one process asserts and forgets of a connection takes effect in the order
        of its calls, also of those under way together.
    Atomicity: each call is atomic for one connection; `admit`, `leave` and `take_once` are atomic against
        every other node, and so is what `assert_connections` and `put_once` return.
    Durability: none. Every entry has an expiry and vanishes by itself; whoever owns it asserts it again
        before then.
    Cancellation: a cancelled call may have taken effect; repeating it is harmless, except `take_once` (the
        token may be gone).
    Errors: `Unavailable`; nothing else leaves a backend.
    """

    @property
    def round_trips(self) -> int:
        """How often whoever keeps the indexes was asked, calls that went together counted once."""

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Let go of every socket. Idempotent."""

    async def ping(self) -> None:
        """Make one trivial round trip, for health checks. Unavailable also where nothing can be written."""

    async def admit(self, entry: ConnectionEntry, *, limit: int, lease_ms: int) -> bool:
        """Index a new connection unless its user has `limit` others that are not expired.

        False: refused, nothing stored.
        """

    async def assert_connections(self, entries: Sequence[ConnectionEntry], *, lease_ms: int) -> set[Arrival]:
        """Write entries into all indexes and renew their expiry.

        A session that left `sessions` leaves its index too. Returns where users came into sessions: with a
        connection of theirs for the first time, or for the first time since `leave`.
        """

    def prepared(self, entry: ConnectionEntry) -> ConnectionEntry:
        """The same entry, made ready: to assert it again and again costs whoever keeps it less."""

    async def forget(self, entries: Sequence[ConnectionEntry]) -> None:
        """Remove connections from all indexes."""

    async def leave(self, tenant: str, session: str, user: str) -> bool:
        """Take a user out of a session in which no connection of theirs is any more.

        True: they were in it until now. Of any number of callers one is told so.
        """

    async def connection(self, tenant: str, connection: str) -> ConnectionEntry | None:
        """By connection id."""

    async def connections_of_user(self, tenant: str, user: str) -> list[ConnectionEntry]:
        """By user id, oldest first."""

    async def connections_of_session(self, tenant: str, session: str) -> list[ConnectionEntry]:
        """By session id, oldest first."""

    async def put_sessions(self, records: Sequence[LiveSession], *, lease_ms: int) -> None:
        """Store what nodes know of sessions, each beside what other nodes know of the same session."""

    async def session(self, tenant: str, session: str) -> LiveSession | None:
        """A session's live record, `merged` of what the nodes know whose leases run."""

    async def renew_node(self, node: NodeEntry, *, lease_ms: int, buries: bool = False) -> Roll:
        """Register a node or renew its lease, unless it was taken for lost: then nothing is renewed.

        `buries`: nodes whose lease is over are lost from here on, each found by one caller. Not when its own
        has not been renewed for half of it: then nobody's may have been.
        """

    async def retire_node(self, node: NodeEntry, *, grace_ms: int) -> None:
        """End a node's lease: it leaves. After the grace others see to what it has left."""

    async def nodes(self) -> list[NodeEntry]:
        """Nodes whose lease runs, by id; of several incarnations the latest."""

    # -- what lost nodes leave

    async def note_leaving(self, life: str, leaves: Sequence[Leave], *, lease_ms: int) -> None:
        """Note whom a node is about to tell to have left, so that others do if it cannot any more."""

    async def drop_leaving(self, life: str, leaves: Sequence[Leave]) -> None:
        """Take notes back: it was told, or is not so."""

    async def take_lost(self, life: str, *, limit: int, claim_ms: int, window_ms: int) -> Remains:
        """Take a share of what a lost node has left, for `claim_ms`, and take it out of the indexes.

        What has been asserted since, under another incarnation, stays. Sessions are `disconnecting` where
        this node had them, for `window_ms`. What is not released in time is taken again.
        """

    async def release_lost(self, remains: Remains) -> bool:
        """Say that a share is done with. True: it was the last, and the node has left nothing more."""

    # -- tasks of operators

    async def put_task(self, tenant: str, task: str, value: bytes, *, ttl_ms: int) -> None:
        """Store how far a task has come, where every node finds it. Its id is a UUIDv7, or a name."""

    async def task(self, tenant: str, task: str) -> bytes | None:
        """How far a task of this tenant has come, as it was stored last."""

    async def tasks(self, tenant: str, *, limit: int) -> list[bytes]:
        """The latest tasks of this tenant, latest first."""

    # -- what is taken once

    async def put_once(
        self, kind: OnceKind, entries: Sequence[tuple[str, bytes]], *, ttl_ms: int
    ) -> set[str]:
        """Store values to be taken once, under digests: hex SHA-256; the secrets themselves are never stored.

        What has been taken stays taken for as long as it would have lived: its later values are ignored,
        and its digest is among those returned.
        """

    async def renew_once(
        self, kind: OnceKind, entries: Sequence[tuple[str, bytes]], *, ttl_ms: int
    ) -> tuple[set[str], set[str]]:
        """Have values live for another while, each told by how it ends, instead of being put once more.

        Returns the digests of those that have been taken, and of those that are to be put: they are not
        there, or what is there ends otherwise.
        """

    async def take_once(self, kind: OnceKind, digest: str) -> bytes | None:
        """Take the value: of any number of callers at most one gets it."""


def latest_of(nodes: Iterable[NodeEntry]) -> list[NodeEntry]:
    """Of several incarnations of a node the latest, by id: the lease of an earlier one may still run."""
    latest: dict[str, NodeEntry] = {}
    for node in sorted(nodes, key=lambda each: (each.id, each.started_at)):
        latest[node.id] = node
    return list(latest.values())


# What is true of a session when its nodes differ: somebody is active in it, or it is closed for good.
_STRONGEST: Final[tuple[SessionState, ...]] = ("disconnecting", "connecting", "idle", "active", "closed")


def merged(records: Sequence[LiveSession]) -> LiveSession | None:
    """One record of a session out of those of its nodes: traffic summed, the rest of the most telling one."""
    if not records:
        return None
    told = max(records, key=lambda each: (_STRONGEST.index(each.state), each.stats.last_active, each.node))
    stats = reduce(_added, [each.stats for each in records if each is not told], told.stats)
    return msgspec.structs.replace(told, stats=stats)


def _added(one: SessionStats, other: SessionStats) -> SessionStats:
    return SessionStats(
        frames_in=one.frames_in + other.frames_in,
        frames_out=one.frames_out + other.frames_out,
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        rtt_ms=other.rtt_ms if one.rtt_ms is None else one.rtt_ms,
        last_active=max(one.last_active, other.last_active),
    )
