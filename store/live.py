"""The interface of the live indexes: who is connected where. Soft state, which may be lost at any time."""

from collections.abc import Sequence
from typing import Literal, Protocol

from store.types import ConnectionEntry, LiveSession, NodeEntry

OnceKind = Literal["resume", "ticket"]


class Live(Protocol):
    """Indexes by connection, user and session; node leases; one-time tokens.

    Order: none between keys. Of two assertions of one connection the later one stands.
    Atomicity: each call is atomic for one connection; `admit` and `take_once` are atomic against every other
        node.
    Durability: none. Every entry has an expiry and vanishes by itself; whoever owns it asserts it again
        before then.
    Cancellation: a cancelled call may have taken effect; repeating it is harmless, except `take_once` (the
        token may be gone).
    Errors: `Unavailable`; nothing else leaves a backend.
    """

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Let go of every socket. Idempotent."""

    async def ping(self) -> None:
        """Make one trivial round trip, for health checks."""

    async def admit(self, entry: ConnectionEntry, *, limit: int, lease_ms: int) -> bool:
        """Index a new connection unless its user has `limit` others that are not expired.

        False: refused, nothing stored.
        """

    async def assert_connections(self, entries: Sequence[ConnectionEntry], *, lease_ms: int) -> None:
        """Write entries into all indexes and renew their expiry.

        A session that left `sessions` leaves its index too.
        """

    async def forget(self, entries: Sequence[ConnectionEntry]) -> None:
        """Remove connections from all indexes."""

    async def connection(self, tenant: str, connection: str) -> ConnectionEntry | None:
        """By connection id."""

    async def connections_of_user(self, tenant: str, user: str) -> list[ConnectionEntry]:
        """By user id, oldest first."""

    async def connections_of_session(self, tenant: str, session: str) -> list[ConnectionEntry]:
        """By session id, oldest first."""

    async def put_sessions(self, records: Sequence[LiveSession], *, lease_ms: int) -> None:
        """Store sessions' live records."""

    async def session(self, tenant: str, session: str) -> LiveSession | None:
        """A session's live record."""

    async def renew_node(self, node: NodeEntry, *, lease_ms: int) -> None:
        """Register a node or renew its lease."""

    async def nodes(self) -> list[NodeEntry]:
        """Nodes whose lease runs, by id."""

    async def put_once(
        self, kind: OnceKind, entries: Sequence[tuple[str, bytes]], *, ttl_ms: int
    ) -> set[str]:
        """Store values to be taken once, under digests: hex SHA-256; the secrets themselves are never stored.

        What has been taken stays taken for as long as it would have lived: its later values are ignored,
        and its digest is among those returned.
        """

    async def take_once(self, kind: OnceKind, digest: str) -> bytes | None:
        """Take the value: of any number of callers at most one gets it."""
