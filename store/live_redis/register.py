"""Writes connections into all their indexes and takes them out again, in the order in which it is told to.

What is told while a write is under way is written together, next. An entry is found in an index only while
its hash says so, and the hash is written first: whoever finds a user in a session by the user's index finds
the connection that brought them there, and does not take them for gone. It is taken out first as well.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final, TypeAlias

from store.errors import Unavailable
from store.live import Arrival
from store.live_redis.keys import Keys, Prepared, life
from store.live_redis.scripts import CONNECTIONS, FORGET, MEMBERS, REMOVE, USERS
from store.redis_wire.scripts import Call, Calls, word, words
from store.redis_wire.wire import Wire
from store.types import ConnectionEntry

# Connections in one write: about 150 KiB, and 2 ms of building it.
ROUND: Final = 250
# Rounds that wait. Above it callers are refused with Unavailable; who owns a connection asserts it again.
ROUNDS: Final = 200


class Register:
    """All writes of connections of one process."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire = wire
        self._keys = keys
        self._rounds: deque[_Round] = deque()
        self._task: asyncio.Task[None] | None = None

    async def put(self, entries: Sequence[ConnectionEntry], lease_ms: int) -> set[Arrival]:
        """Write entries and renew their leases. Unavailable."""
        arrivals = await self._told([self._keys.prepared(entry) for entry in entries], lease_ms)
        if not arrivals:
            return arrivals
        ids = {entry.id for entry in entries}
        return {arrival for arrival in arrivals if arrival[0] in ids}

    async def remove(self, entries: Sequence[ConnectionEntry]) -> None:
        """Take connections out of all indexes they are in. Unavailable."""
        await self._told(entries, None)

    async def close(self) -> None:
        """End the write that is under way. Whoever waits is told so."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        while self._rounds:
            self._rounds.popleft().settle(Unavailable("the connection to Redis was closed"))

    # -- rounds

    async def _told(self, entries: Sequence[ConnectionEntry], lease_ms: int | None) -> set[Arrival]:
        # All of it gets its place now: what is told later is written later.
        parts = range(0, len(entries), ROUND)
        rounds = [self._join(entries[start : start + ROUND], lease_ms) for start in parts]
        arrivals: set[Arrival] = set()
        for each in rounds:
            outcome = await asyncio.shield(each.outcome)
            if isinstance(outcome, Unavailable):
                # One for each caller: it gets its trace where it is raised.
                raise Unavailable(str(outcome)) from outcome
            arrivals |= outcome
        return arrivals

    def _join(self, entries: Sequence[ConnectionEntry], lease_ms: int | None) -> "_Round":
        if not self._rounds or len(self._rounds[-1].changes) >= ROUND:
            if len(self._rounds) >= ROUNDS:
                raise Unavailable("Redis is too slow: too many connections wait to be written")
            self._rounds.append(_Round())
        current = self._rounds[-1]
        for entry in entries:
            current.changes[entry.tenant, entry.id] = (entry, lease_ms)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return current

    async def _run(self) -> None:
        try:
            while self._rounds:
                current = self._rounds.popleft()
                try:
                    current.settle(await self._write(current))
                except Unavailable as error:
                    current.settle(error)
                except BaseException:
                    current.settle(Unavailable("the connection to Redis was closed"))
                    raise
        finally:
            self._task = None

    # -- one round

    async def _write(self, current: "_Round") -> set[Arrival]:
        """One round trip, on a cluster two; one more where connections have left indexes."""
        leases: dict[int, list[Prepared]] = {}
        gone: list[ConnectionEntry] = []
        for entry, lease_ms in current.changes.values():
            if isinstance(entry, Prepared) and lease_ms is not None:
                leases.setdefault(lease_ms, []).append(entry)
            else:
                gone.append(entry)
        forgets = self._forgets(gone)
        removed = {index for entry in gone for index in self._keys.indexes(entry)}
        removals = self._removals(removed)
        users, members, hashes = self._puts(leases)
        said, rest = await self._in_order([*forgets, *hashes], [*removals, *users, *members])
        left = set(self._left(forgets, said)) | set(self._left(hashes, said))
        for _ in removals:
            next(rest)
        arrivals = _arrivals(users, rest)
        left -= removed
        if left:
            left -= {
                index for entries in leases.values() for each in entries for index in self._keys.indexes(each)
            }
        if left:
            await self._wire.call([command for command, _ in self._removals(left)])
        return arrivals

    async def _in_order(self, first: "_Hashes", then: "_Anything") -> "tuple[Iterator[Any], Iterator[Any]]":
        """Have everybody who sees the second part see the first: two round trips where servers are many."""
        one, two = [command for command, _ in first], [command for command, _ in then]
        if not self._wire.is_spread:
            replies = await self._wire.call([*one, *two])
            return iter(replies[: len(one)]), iter(replies[len(one) :])
        said, rest = await self._wire.call_each([one, two])
        return iter(said), iter(rest)

    def _puts(self, leases: dict[int, list[Prepared]]) -> "tuple[_Users, _Commands, _Hashes]":
        slot_in = self._wire.slot_in
        users: _Users = []
        members: _Commands = []
        hashes: _Hashes = []
        for lease_ms, entries in leases.items():
            user_calls: Calls[ConnectionEntry] = Calls(USERS, slot_in, lease_ms)
            hash_calls: Calls[ConnectionEntry] = Calls(CONNECTIONS, slot_in, lease_ms)
            user_calls.extend(
                entries,
                [entry.user_keys for entry in entries],
                [entry.user_members for entry in entries],
                [1 + len(entry.sessions) for entry in entries],
            )
            hash_calls.extend(
                entries,
                [entry.hash_key for entry in entries],
                [entry.hash_fields for entry in entries],
                repeat(1, len(entries)),
            )
            users += user_calls.commands()
            members += self._members(entries, lease_ms).commands()
            hashes += hash_calls.commands()
        return users, members, hashes

    def _members(self, entries: Iterable[Prepared], lease_ms: int) -> Calls[None]:
        """What puts entries under their nodes and sessions: each index once, with all its members."""
        of_nodes: dict[str, list[str]] = {}
        of_keys: dict[bytes, list[str]] = {}
        for entry in entries:
            of_nodes.setdefault(life(entry), []).append(f"{entry.tenant}/{entry.id}")
            for key in entry.session_keys:
                of_keys.setdefault(key, []).append(entry.id)
        for node, ids in of_nodes.items():
            of_keys[words(self._keys.connections_of_node(node))] = ids
        calls: Calls[None] = Calls(MEMBERS, self._wire.slot_in, lease_ms)
        members = [word(" ".join(ids).encode()) for ids in of_keys.values()]
        calls.extend(repeat(None, len(members)), of_keys, members, map(len, of_keys.values()))
        return calls

    def _forgets(self, entries: Iterable[ConnectionEntry]) -> "_Hashes":
        calls: Calls[ConnectionEntry] = Calls(FORGET, self._wire.slot_in)
        for entry in entries:
            calls.add(entry, words(self._keys.connection(entry.tenant, entry.id)), b"", 1)
        return calls.commands()

    def _removals(self, indexes: Iterable[tuple[str, str]]) -> "_Commands":
        calls: Calls[None] = Calls(REMOVE, self._wire.slot_in)
        for key, member in indexes:
            calls.add(None, words(key), words(member), 1)
        return calls.commands()

    def _left(self, hashes: "_Hashes", replies: Any) -> Iterable[tuple[str, str]]:
        """The indexes in which connections were before, by what their hashes said."""
        for _, entries in hashes:
            for place, node, user, sessions in _by(4, next(replies)):
                if user is None or sessions is None:
                    continue  # another version's; what it has in the indexes expires
                entry = entries[place - 1]
                known = ConnectionEntry(
                    id=entry.id,
                    tenant=entry.tenant,
                    user=user.decode(),
                    node=node.decode(),
                    since=entry.since,
                    sessions=tuple(sessions.decode().split()),
                )
                yield from self._keys.indexes(known)


class _Round:
    """What is written together: the last word on each connection. No lease: it goes."""

    __slots__ = ("changes", "outcome")

    def __init__(self) -> None:
        self.changes: dict[tuple[str, str], tuple[ConnectionEntry, int | None]] = {}
        self.outcome: asyncio.Future[set[Arrival] | Unavailable] = asyncio.get_running_loop().create_future()

    def settle(self, outcome: "set[Arrival] | Unavailable") -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


# Commands, and for each the subjects that its reply tells of by their places.
_Users: TypeAlias = list[tuple[Call, list[ConnectionEntry]]]
_Hashes: TypeAlias = _Users
_Commands: TypeAlias = list[tuple[Call, list[None]]]
_Anything: TypeAlias = Sequence[tuple[Call, Any]]


def _arrivals(users: "_Users", replies: Any) -> set[Arrival]:
    found: set[Arrival] = set()
    for _, entries in users:
        found.update((entries[place - 1].id, session.decode()) for place, session in _by(2, next(replies)))
    return found


def _by(count: int, flat: Sequence[Any]) -> Iterable[tuple[Any, ...]]:
    """Cut a flat reply into its items."""
    return zip(*[iter(flat)] * count, strict=True)
