"""The live indexes of a gateway that is alone: in the memory of its process."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from store.expiring import Expiring
from store.live import (
    Arrival,
    Leave,
    OnceKind,
    Remains,
    Roll,
    latest_of,
    life_of,
    merged,
)
from store.mortality import Mortality
from store.types import ConnectionEntry, LiveSession, NodeEntry

# More than one process can hold in sockets. Entries are soft state: above these bounds those that would
# expire first are forgotten early.
CONNECTIONS: Final = 200_000
SESSIONS: Final = 200_000
ONCE: Final = 200_000
TASKS: Final = 1_000

_Key = tuple[str, str]
_Triple = tuple[str, str, str]
_Name = TypeVar("_Name", _Key, _Triple)


class _Once:
    """What may be taken once; None when it has been."""

    __slots__ = ("value",)

    def __init__(self, value: bytes | None) -> None:
        self.value = value


class MemoryLive:
    """Everything happens at once, in the calling task: what an interface calls atomic is so by itself."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._connections: Expiring[_Key, ConnectionEntry] = Expiring(monotonic, CONNECTIONS, self._gone)
        self._users: dict[_Key, set[_Key]] = {}
        self._attached: dict[_Key, set[_Key]] = {}
        self._present: Expiring[_Triple, bool] = Expiring(monotonic, SESSIONS)
        self._records: Expiring[_Triple, LiveSession] = Expiring(monotonic, SESSIONS, self._unknown)
        self._hosts: dict[_Key, set[_Triple]] = {}
        self._mortality = Mortality(monotonic)
        self._tasks: Expiring[_Key, bytes] = Expiring(monotonic, TASKS)
        self._once: Expiring[tuple[OnceKind, str], _Once] = Expiring(monotonic, ONCE)

    @property
    def round_trips(self) -> int:
        return 0

    async def start(self) -> None:
        """Nothing to connect to."""

    async def close(self) -> None:
        """Nothing to let go of."""

    async def ping(self) -> None:
        """Always there."""

    # -- connections

    async def admit(self, entry: ConnectionEntry, *, limit: int, lease_ms: int) -> bool:
        others = self._living(self._users.get((entry.tenant, entry.user), ()))
        if sum(other.id != entry.id for other in others) >= limit:
            return False
        self._put(entry, lease_ms)
        return True

    async def assert_connections(self, entries: Sequence[ConnectionEntry], *, lease_ms: int) -> set[Arrival]:
        arrivals: set[Arrival] = set()
        for entry in entries:
            arrivals.update((entry.id, session) for session in self._put(entry, lease_ms))
        return arrivals

    def prepared(self, entry: ConnectionEntry) -> ConnectionEntry:
        return entry

    async def forget(self, entries: Sequence[ConnectionEntry]) -> None:
        for entry in entries:
            key = (entry.tenant, entry.id)
            if (known := self._connections.pop(key)) is not None:
                self._gone(key, known)

    async def leave(self, tenant: str, session: str, user: str) -> bool:
        theirs = self._living(self._users.get((tenant, user), ()))
        if any(session in entry.sessions for entry in theirs):
            return False
        return self._present.pop((tenant, session, user)) is not None

    async def connection(self, tenant: str, connection: str) -> ConnectionEntry | None:
        return self._connections.get((tenant, connection))

    async def connections_of_user(self, tenant: str, user: str) -> list[ConnectionEntry]:
        return self._oldest_first(self._users.get((tenant, user), ()))

    async def connections_of_session(self, tenant: str, session: str) -> list[ConnectionEntry]:
        return self._oldest_first(self._attached.get((tenant, session), ()))

    def _put(self, entry: ConnectionEntry, lease_ms: int) -> list[str]:
        """Index an entry; return the sessions in which its user was not."""
        key = (entry.tenant, entry.id)
        # First, so that what is over leaves the indexes before this entry joins them.
        self._connections.purge()
        known = self._connections.get(key)
        if known is not None and (known.user, known.sessions) != (entry.user, entry.sessions):
            self._gone(key, known)
        self._users.setdefault((entry.tenant, entry.user), set()).add(key)
        for session in entry.sessions:
            self._attached.setdefault((entry.tenant, session), set()).add(key)
        # Last: at the bound an entry has to go, maybe this one.
        self._connections.put(key, entry, lease_ms)
        names = [(entry.tenant, session, entry.user) for session in entry.sessions]
        arrivals = [name[1] for name in names if self._present.get(name) is None]
        for name in names:
            self._present.put(name, True, lease_ms)
        return arrivals

    def _gone(self, key: _Key, entry: ConnectionEntry) -> None:
        """Take a connection out of the indexes."""
        _discard(self._users, (entry.tenant, entry.user), key)
        for session in entry.sessions:
            _discard(self._attached, (entry.tenant, session), key)

    def _living(self, keys: Iterable[_Key]) -> list[ConnectionEntry]:
        return [entry for key in keys if (entry := self._connections.get(key)) is not None]

    def _oldest_first(self, keys: Iterable[_Key]) -> list[ConnectionEntry]:
        return sorted(self._living(keys), key=lambda entry: (entry.since, entry.id))

    # -- sessions, nodes, what is taken once

    async def put_sessions(self, records: Sequence[LiveSession], *, lease_ms: int) -> None:
        for record in records:
            name = (record.tenant, record.id, life_of(record.node, record.incarnation))
            self._records.purge()  # before it is named: what is over takes its name with it
            self._hosts.setdefault(name[:2], set()).add(name)
            self._records.put(name, record, lease_ms)

    async def session(self, tenant: str, session: str) -> LiveSession | None:
        names = self._hosts.get((tenant, session), ())
        return merged([record for name in names if (record := self._records.get(name)) is not None])

    def _unknown(self, name: _Triple, _: LiveSession) -> None:
        """Take what a node knew of a session out of the session's."""
        _discard(self._hosts, name[:2], name)

    async def renew_node(self, node: NodeEntry, *, lease_ms: int, buries: bool = False) -> Roll:
        return self._mortality.renew(node, lease_ms, buries=buries)

    async def retire_node(self, node: NodeEntry, *, grace_ms: int) -> None:
        self._mortality.retire(node, grace_ms)

    async def nodes(self) -> list[NodeEntry]:
        return latest_of(self._mortality.living())

    # -- what lost nodes leave

    async def note_leaving(self, life: str, leaves: Sequence[Leave], *, lease_ms: int) -> None:
        for leave in leaves:
            self._mortality.note(life, leave, lease_ms)

    async def drop_leaving(self, life: str, leaves: Sequence[Leave]) -> None:
        self._mortality.release(life, leaves)

    async def take_lost(self, life: str, *, limit: int, claim_ms: int, window_ms: int) -> Remains:
        for entry in [each for each in self._connections if life_of(each.node, each.incarnation) == life]:
            key = (entry.tenant, entry.id)
            self._connections.pop(key)
            self._gone(key, entry)
            self._mortality.leave(life, entry)
            for session in entry.sessions:
                self._disconnect((entry.tenant, session, life), window_ms)
        return self._mortality.take(life, limit, claim_ms)

    async def release_lost(self, remains: Remains) -> bool:
        self._mortality.release(remains.life, [*remains.connections, *remains.noted])
        return self._mortality.finish(remains.life)

    def _disconnect(self, name: _Triple, window_ms: int) -> None:
        record = self._records.get(name)
        if record is not None and record.state not in ("closed", "disconnecting"):
            self._records.put(name, msgspec.structs.replace(record, state="disconnecting"), window_ms)

    async def put_task(self, tenant: str, task: str, value: bytes, *, ttl_ms: int) -> None:
        self._tasks.put((tenant, task), value, ttl_ms)

    async def task(self, tenant: str, task: str) -> bytes | None:
        return self._tasks.get((tenant, task))

    async def tasks(self, tenant: str, *, limit: int) -> list[bytes]:
        keys = sorted((key for key in self._tasks.names() if key[0] == tenant), reverse=True)
        return [value for key in keys[:limit] if (value := self._tasks.get(key)) is not None]

    async def put_once(
        self, kind: OnceKind, entries: Sequence[tuple[str, bytes]], *, ttl_ms: int
    ) -> set[str]:
        taken: set[str] = set()
        for digest, value in entries:
            known = self._once.get((kind, digest))
            if known is not None and known.value is None:
                taken.add(digest)
            else:
                known = _Once(value)
            self._once.put((kind, digest), known, ttl_ms)
        return taken

    async def renew_once(
        self, kind: OnceKind, entries: Sequence[tuple[str, bytes]], *, ttl_ms: int
    ) -> tuple[set[str], set[str]]:
        taken: set[str] = set()
        lost: set[str] = set()
        for digest, ending in entries:
            known = self._once.get((kind, digest))
            if known is None or (known.value is not None and not known.value.endswith(ending)):
                lost.add(digest)
                continue
            if known.value is None:
                taken.add(digest)
            self._once.put((kind, digest), known, ttl_ms)
        return taken, lost

    async def take_once(self, kind: OnceKind, digest: str) -> bytes | None:
        known = self._once.get((kind, digest))
        if known is None:
            return None
        value, known.value = known.value, None
        return value


def _discard(index: dict[_Key, set[_Name]], name: _Key, key: _Name) -> None:
    keys = index.get(name)
    if keys is not None:
        keys.discard(key)
        if not keys:
            del index[name]
