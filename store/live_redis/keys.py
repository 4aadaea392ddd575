"""The names of the keys, and how an entry lies in them. `docs/redis.md` has the table."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import structs

from store.live import OnceKind, life_of
from store.redis_wire.scripts import Command, words
from store.types import ConnectionEntry

_FIELDS: Final = ("node", "user", "sessions", "ip", "port", "since")


class Prepared(ConnectionEntry, frozen=True, kw_only=True, gc=False):
    """An entry with all that is sent of it, as `words`: 900 bytes, for as long as somebody keeps it."""

    hash_key: bytes
    hash_fields: bytes
    user_keys: bytes
    user_members: bytes
    session_keys: tuple[bytes, ...]


class Keys:
    """Names below one prefix. Braces keep the keys of one session or one user in one slot.

    Names and ids were checked where they came in: they hold no brace, space or slash.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def connection(self, tenant: str, connection: str) -> str:
        """Hash: one connection."""
        return f"{self._prefix}:{tenant}:connection:{{{connection}}}"

    def connections_of_user(self, tenant: str, user: str) -> str:
        """Sorted set: connection → end of its lease."""
        return f"{self._prefix}:{tenant}:user:{{{user}}}:connections"

    def sessions_of_user(self, tenant: str, user: str) -> str:
        """Sorted set: session the user is in → end of the lease of whoever is longest in it."""
        return f"{self._prefix}:{tenant}:user:{{{user}}}:sessions"

    def session(self, tenant: str, session: str) -> str:
        """Hash: node → what it knows of the session."""
        return f"{self._prefix}:{tenant}:session:{{{session}}}"

    def connections_of_session(self, tenant: str, session: str) -> str:
        """Sorted set: connection → end of its lease."""
        return f"{self._prefix}:{tenant}:session:{{{session}}}:connections"

    def node(self, life: str) -> str:
        """String: one life of a node, for as long as its lease runs."""
        return f"{self._prefix}:node:{life}"

    def nodes(self) -> str:
        """Sorted set: life of a node → end of its lease."""
        return f"{self._prefix}:nodes"

    def lost(self) -> str:
        """Sorted set: life of a node that was lost → since when; below zero when it has nothing left.

        In the slot of `nodes`, by the braces.
        """
        return f"{self._prefix}:lost:{{{self.nodes()}}}"

    def connections_of_node(self, life: str) -> str:
        """Sorted set: tenant/connection → end of its lease; below zero: the end of a claim."""
        return f"{self._prefix}:node:{life}:connections"

    def leaving_of_node(self, life: str) -> str:
        """Sorted set: tenant/session/user → end of its lease; below zero: the end of a claim."""
        return f"{self._prefix}:node:{life}:leaving"

    def task(self, tenant: str, task: str) -> str:
        """String: how far a task has come."""
        return f"{self._prefix}:{tenant}:task:{task}"

    def tasks(self, tenant: str) -> str:
        """Sorted set: task → when it is forgotten."""
        return f"{self._prefix}:{tenant}:tasks"

    def probe(self) -> str:
        """String: that Redis takes what is written."""
        return f"{self._prefix}:probe"

    def once(self, kind: OnceKind, digest: str) -> str:
        """String: what may be taken once."""
        return f"{self._prefix}:{kind}:{digest}"

    # -- an entry and the indexes it is in

    def indexes(self, entry: ConnectionEntry) -> list[tuple[str, str]]:
        """Every index in which it is found, and as what."""
        tenant = entry.tenant
        return [
            (self.connections_of_user(tenant, entry.user), entry.id),
            (self.connections_of_node(life(entry)), f"{tenant}/{entry.id}"),
            *((self.connections_of_session(tenant, session), entry.id) for session in entry.sessions),
        ]

    def prepared(self, entry: ConnectionEntry) -> "Prepared":
        """The entry with all that is sent of it when it is asserted."""
        if isinstance(entry, Prepared):
            return entry
        tenant, sessions = entry.tenant, " ".join(entry.sessions)
        facts = (life(entry), entry.user, sessions, entry.ip, str(entry.port), str(entry.since))
        users = self.connections_of_user(tenant, entry.user), self.sessions_of_user(tenant, entry.user)
        return Prepared(
            **structs.asdict(entry),
            hash_key=words(self.connection(tenant, entry.id)),
            hash_fields=words("\n".join(facts)),
            user_keys=words(*users),
            user_members=words(f"{entry.id} {sessions}"),
            session_keys=tuple(words(self.connections_of_session(tenant, each)) for each in entry.sessions),
        )

    def read(self, tenant: str, connection: str) -> Command:
        """Read one connection; `entry` understands the reply."""
        key = self.connection(tenant, connection)
        return Command(key, ("HMGET", key, *_FIELDS))


def life(entry: ConnectionEntry) -> str:
    """Under which life of its node a connection was written."""
    return life_of(entry.node, entry.incarnation)


def entry(tenant: str, connection: str, stored: Sequence[Any]) -> ConnectionEntry | None:
    """What a hash holds; None where there is none, or one with other fields, as another version writes it."""
    if None in stored:
        return None
    alive, user, sessions, ip, port, since = (value.decode() for value in stored)
    node, _, incarnation = alive.partition("/")
    return ConnectionEntry(
        id=connection,
        tenant=tenant,
        user=user,
        node=node,
        since=int(since),
        sessions=tuple(sessions.split()),
        ip=ip,
        port=int(port),
        incarnation=incarnation,
    )
