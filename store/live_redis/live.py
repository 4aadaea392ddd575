"""The live indexes of many nodes: connections, sessions, nodes and what is taken once, in Redis.

Leases are counted by the clock of the server that holds the key; no node's clock decides anything.
"""

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final, TypeVar

import msgspec

from store.errors import Unavailable
from store.live import (
    LOST_MS,
    Arrival,
    Leave,
    OnceKind,
    Remains,
    Roll,
    latest_of,
    life_of,
    merged,
)
from store.live_redis import keys as names
from store.live_redis.keys import Keys
from store.live_redis.lost import Lost
from store.live_redis.register import Register
from store.live_redis.scripts import (
    ADMIT,
    LEAVE,
    LIST,
    MEMBERS,
    NODES,
    PUT_ONCE,
    PUT_RECORDS,
    RECORDS,
    RENEW_ONCE,
    RETIRE,
    TAKE_ONCE,
)
from store.redis_wire.scripts import Calls, Command, Script, word
from store.redis_wire.wire import Wire
from store.types import ConnectionEntry, LiveSession, NodeEntry, SessionState, SessionStats

T = TypeVar("T")

_ENCODER: Final = msgspec.json.Encoder()

# Replies of one pipeline when a session has very many connections: about 100 KiB.
READ: Final = 500
# Written every second by every node.
PROBE_MS: Final = 10_000
# Lost nodes in one answer; the others stand in the next, a renewal later.
AT_ONCE: Final = 16


class RedisLive:
    """As `Live`. On a cluster each call is one pipeline to each server concerned."""

    def __init__(self, url: str, prefix: str) -> None:
        self._wire = Wire(url)
        self._keys = Keys(prefix)
        self._register = Register(self._wire, self._keys)
        self._lost = Lost(self._wire, self._keys)

    @property
    def round_trips(self) -> int:
        return self._wire.round_trips

    async def start(self) -> None:
        """Nothing to do: the first call connects. A Redis that is away keeps no node from starting."""

    async def close(self) -> None:
        await self._register.close()
        await self._wire.close()

    async def ping(self) -> None:
        if self._wire.is_spread:
            await self._wire.ping()
        # A Redis that is full, or a replica by now, answers a PING and takes nothing: the indexes are away.
        key = self._keys.probe()
        await self._wire.call([Command(key, ("SET", key, "", "PX", PROBE_MS))])

    # -- connections

    async def admit(self, entry: ConnectionEntry, *, limit: int, lease_ms: int) -> bool:
        # The place is taken first: a crash before the rest leaves a place that expires by itself.
        key = self._keys.connections_of_user(entry.tenant, entry.user)
        (admitted,) = await self._wire.call([ADMIT.call([key], lease_ms, entry.id, limit)])
        if admitted:
            await self._register.put([entry], lease_ms)
        return bool(admitted)

    async def assert_connections(self, entries: Sequence[ConnectionEntry], *, lease_ms: int) -> set[Arrival]:
        return await self._register.put(entries, lease_ms)

    def prepared(self, entry: ConnectionEntry) -> ConnectionEntry:
        return self._keys.prepared(entry)

    async def forget(self, entries: Sequence[ConnectionEntry]) -> None:
        await self._register.remove(entries)

    async def leave(self, tenant: str, session: str, user: str) -> bool:
        key = self._keys.sessions_of_user(tenant, user)
        # Before the connections are read: one that is asserted from here on changes it.
        (score,) = await self._wire.call([Command(key, ("ZSCORE", key, session))])
        if score is None:
            return False
        theirs = await self.connections_of_user(tenant, user)
        if any(session in entry.sessions for entry in theirs):
            return False
        (left,) = await self._wire.call([LEAVE.call([key], session, score)])
        return bool(left)

    async def connection(self, tenant: str, connection: str) -> ConnectionEntry | None:
        (stored,) = await self._wire.call([self._keys.read(tenant, connection)])
        return names.entry(tenant, connection, stored)

    async def connections_of_user(self, tenant: str, user: str) -> list[ConnectionEntry]:
        found = await self._found(tenant, self._keys.connections_of_user(tenant, user))
        return [entry for entry in found if entry.user == user]

    async def connections_of_session(self, tenant: str, session: str) -> list[ConnectionEntry]:
        found = await self._found(tenant, self._keys.connections_of_session(tenant, session))
        return [entry for entry in found if session in entry.sessions]

    async def _found(self, tenant: str, index: str) -> list[ConnectionEntry]:
        """The entries of an index, oldest first. Those whose hash is gone are over."""
        (ids,) = await self._wire.call([LIST.call([index])])
        found: list[ConnectionEntry] = []
        for start in range(0, len(ids), READ):
            part = [each.decode() for each in ids[start : start + READ]]
            stored = await self._wire.call([self._keys.read(tenant, each) for each in part])
            entries = map(names.entry, [tenant] * len(part), part, stored)
            found += [entry for entry in entries if entry is not None]
        return sorted(found, key=lambda entry: (entry.since, entry.id))

    # -- sessions, nodes

    async def put_sessions(self, records: Sequence[LiveSession], *, lease_ms: int) -> None:
        calls: Calls[None] = Calls(PUT_RECORDS, self._wire.slot_in, lease_ms)
        lives = {(each.node, each.incarnation) for each in records}
        hosts = {each: word(life_of(*each).encode()) for each in lives}
        calls.extend(
            repeat(None, len(records)),
            [word(self._keys.session(each.tenant, each.id).encode()) for each in records],
            [
                hosts[each.node, each.incarnation] + word(_ENCODER.encode(_Record(each.state, each.stats)))
                for each in records
            ],
            repeat(1, len(records)),
        )
        await self._wire.call([command for command, _ in calls.commands()])

    async def session(self, tenant: str, session: str) -> LiveSession | None:
        (stored,) = await self._wire.call([RECORDS.call([self._keys.session(tenant, session)])])
        records: list[LiveSession] = []
        for host, value in zip(stored[::2], stored[1::2], strict=True):
            record = _understood(value, _Record)
            if record is None:
                continue
            node, _, incarnation = host.decode().partition("/")
            known = LiveSession(
                id=session,
                tenant=tenant,
                state=record.state,
                node=node,
                stats=record.stats,
                incarnation=incarnation,
            )
            records.append(known)
        return merged(records)

    async def renew_node(self, node: NodeEntry, *, lease_ms: int, buries: bool = False) -> Roll:
        life = life_of(node.id, node.incarnation)
        key = self._keys.node(life)
        put = Command(key, ("SET", key, msgspec.json.encode(node), "PX", lease_ms))
        ask = NODES.call(self._rolls(), lease_ms, LOST_MS, life, AT_ONCE if buries else 0, AT_ONCE)
        # The index last: whoever finds a node in it finds the node as well. In one round trip, but each by
        # itself: on a cluster the entry's server may be away, and the lease is what the register says.
        asked = self._wire.call([put]), self._wire.call([ask])
        outcomes: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        named, told = outcomes
        if isinstance(named, BaseException) and not isinstance(named, Unavailable):
            raise named
        if isinstance(told, BaseException):
            raise told
        is_lost, count, *lives = told[0]
        named = [each.decode() for each in lives]
        return Roll(is_lost=bool(is_lost), found=tuple(named[:count]), lost=tuple(named[count:]))

    async def retire_node(self, node: NodeEntry, *, grace_ms: int) -> None:
        life = life_of(node.id, node.incarnation)
        key = self._keys.node(life)
        await self._wire.call(
            [Command(key, ("DEL", key)), RETIRE.call(self._rolls(), life, grace_ms, LOST_MS)]
        )

    def _rolls(self) -> list[str]:
        return [self._keys.nodes(), self._keys.lost()]

    async def nodes(self) -> list[NodeEntry]:
        (ids,) = await self._wire.call([LIST.call([self._keys.nodes()])])
        keys = [self._keys.node(each.decode()) for each in ids]
        stored = await self._wire.call([Command(key, ("GET", key)) for key in keys])
        found = [_understood(each, NodeEntry) for each in stored if each is not None]
        return latest_of(node for node in found if node is not None)

    # -- what lost nodes leave

    async def note_leaving(self, life: str, leaves: Sequence[Leave], *, lease_ms: int) -> None:
        await self._lost.note(life, leaves, lease_ms)

    async def drop_leaving(self, life: str, leaves: Sequence[Leave]) -> None:
        await self._lost.drop(life, leaves)

    async def take_lost(self, life: str, *, limit: int, claim_ms: int, window_ms: int) -> Remains:
        return await self._lost.take(life, limit, claim_ms, window_ms)

    async def release_lost(self, remains: Remains) -> bool:
        return await self._lost.release(remains)

    # -- tasks of operators

    async def put_task(self, tenant: str, task: str, value: bytes, *, ttl_ms: int) -> None:
        key, index = self._keys.task(tenant, task), self._keys.tasks(tenant)
        put = Command(key, ("SET", key, value, "PX", ttl_ms))
        await self._wire.call([put, MEMBERS.call([index], ttl_ms, task)])

    async def task(self, tenant: str, task: str) -> bytes | None:
        key = self._keys.task(tenant, task)
        stored: list[bytes | None] = await self._wire.call([Command(key, ("GET", key))])
        return stored[0]

    async def tasks(self, tenant: str, *, limit: int) -> list[bytes]:
        (ids,) = await self._wire.call([LIST.call([self._keys.tasks(tenant)])])
        latest = sorted((each.decode() for each in ids), reverse=True)[:limit]
        keys = [self._keys.task(tenant, each) for each in latest]
        stored = await self._wire.call([Command(key, ("GET", key)) for key in keys])
        return [value for value in stored if value is not None]

    # -- what is taken once

    async def put_once(
        self, kind: OnceKind, entries: Sequence[tuple[str, bytes]], *, ttl_ms: int
    ) -> set[str]:
        taken, _ = await self._once(PUT_ONCE, kind, entries, ttl_ms)
        return taken

    async def renew_once(
        self, kind: OnceKind, entries: Sequence[tuple[str, bytes]], *, ttl_ms: int
    ) -> tuple[set[str], set[str]]:
        return await self._once(RENEW_ONCE, kind, entries, ttl_ms)

    async def _once(
        self, script: Script, kind: OnceKind, entries: Sequence[tuple[str, bytes]], ttl_ms: int
    ) -> tuple[set[str], set[str]]:
        """Run a script that tells the places of what has been taken and, below zero, of what is lost."""
        calls: Calls[str] = Calls(script, self._wire.slot_in, ttl_ms)
        begin = self._keys.once(kind, "").encode()
        calls.extend(
            [digest for digest, _ in entries],
            [word(begin + digest.encode()) for digest, _ in entries],
            [word(value) for _, value in entries],
            repeat(1, len(entries)),
        )
        commands = calls.commands()
        replies = await self._wire.call([command for command, _ in commands])
        taken: set[str] = set()
        lost: set[str] = set()
        for (_, digests), places in zip(commands, replies, strict=True):
            for place in places:
                (taken if place > 0 else lost).add(digests[abs(place) - 1])
        return taken, lost

    async def take_once(self, kind: OnceKind, digest: str) -> bytes | None:
        (value,) = await self._wire.call([TAKE_ONCE.call([self._keys.once(kind, digest)])])
        return None if value is None else bytes(value)


class _Record(msgspec.Struct, frozen=True):
    """What one node knows of a session, as it is stored."""

    state: SessionState
    stats: SessionStats


def _understood(value: bytes, form: type[T]) -> T | None:
    """What is stored; None where another version stored it in a form of its own."""
    try:
        return msgspec.json.decode(value, type=form)
    except msgspec.MsgspecError:
        return None
