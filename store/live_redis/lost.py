"""What lost nodes leave behind, and how it is cleaned up: in shares, each its taker's own for a while.

A share is taken out of the indexes first. Its own marks (the hash, the place in the node's index) go last,
when its taker says so: if that one dies in between it is taken again, and every step may be repeated.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from store.live import Leave, Remains
from store.live_redis.keys import Keys
from store.live_redis.scripts import BURY, CLEAR, DISCONNECT, FINISH, MEMBERS, REMAINS, REMOVE, TAKE
from store.redis_wire.scripts import CALL_WRITES, Calls, Command, words
from store.redis_wire.wire import Wire

# Entries of one connection are written one after the other, on a cluster to several servers. What was
# asserted since, by a node that came back, has as much more time left as that node was away for.
SLACK_MS: Final = 1_000

T = TypeVar("T")


class Lost:
    """Notes, shares and their release, for one `RedisLive`."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire = wire
        self._keys = keys

    async def note(self, life: str, leaves: Sequence[Leave], lease_ms: int) -> None:
        """As `Live.note_leaving`."""
        key = self._keys.leaving_of_node(life)
        parts = [" ".join(map("/".join, part)) for part in _parts(leaves, CALL_WRITES)]
        await self._wire.call([MEMBERS.call([key], lease_ms, members) for members in parts])

    async def drop(self, life: str, leaves: Sequence[Leave]) -> None:
        """As `Live.drop_leaving`."""
        await self._wire.call(self._removals(self._keys.leaving_of_node(life), map("/".join, leaves)))

    async def take(self, life: str, limit: int, claim_ms: int, window_ms: int) -> Remains:
        """As `Live.take_lost`."""
        indexes = [self._keys.connections_of_node(life), self._keys.leaving_of_node(life)]
        taken = await self._wire.call([TAKE.call([each], claim_ms, limit) for each in indexes])
        members, notes = ([each.decode().split("/") for each in one] for one in taken)
        connections = [(tenant, connection) for tenant, connection in members]
        noted = [(tenant, session, user) for tenant, session, user in notes]
        theirs = await self._theirs(life, connections)
        await self._clear(life, theirs, window_ms)
        leaves = {(one.tenant, session, one.user) for one in theirs for session in one.sessions}
        return Remains(
            life=life,
            connections=tuple(connections),
            cleaned=len(theirs),
            leaves=tuple(leaves.union(noted)),
            noted=tuple(noted),
        )

    async def release(self, remains: Remains) -> bool:
        """As `Live.release_lost`."""
        life, keys = remains.life, self._keys
        calls: Calls[None] = Calls(BURY, self._wire.slot_in, life)
        for tenant, connection in remains.connections:
            calls.add(None, words(keys.connection(tenant, connection)), b"", 1)
        # Before their places in the node's index: what is not found there is not looked at any more.
        await self._wire.call([command for command, _ in calls.commands()])
        connections, leaving = keys.connections_of_node(life), keys.leaving_of_node(life)
        await self._wire.call(
            [
                *self._removals(connections, map("/".join, remains.connections)),
                *self._removals(leaving, map("/".join, remains.noted)),
            ]
        )
        # By themselves: a script that a server does not know yet is sent again, behind whatever came with it.
        if any(await self._wire.call([Command(key, ("ZCARD", key)) for key in (connections, leaving)])):
            return False
        (is_last,) = await self._wire.call([FINISH.call([keys.lost()], life)])
        return bool(is_last)

    async def _theirs(self, life: str, connections: Sequence[tuple[str, str]]) -> "list[_Entry]":
        """Those whose hash still says that they are this life's, and for how long it would."""
        calls: Calls[tuple[str, str]] = Calls(REMAINS, self._wire.slot_in, life)
        for tenant, connection in connections:
            calls.add((tenant, connection), words(self._keys.connection(tenant, connection)), b"", 1)
        commands = calls.commands()
        found: list[_Entry] = []
        replies = await self._wire.call([command for command, _ in commands])
        for (_, asked), reply in zip(commands, replies, strict=True):
            for place, user, sessions, left_ms in zip(*[iter(reply)] * 4, strict=True):
                tenant, connection = asked[place - 1]
                found.append(
                    _Entry(tenant, connection, user.decode(), tuple(sessions.decode().split()), left_ms)
                )
        return found

    async def _clear(self, life: str, entries: "Sequence[_Entry]", window_ms: int) -> None:
        """Take entries out of the indexes of users and sessions, and say so in the sessions' records."""
        slot_in, keys = self._wire.slot_in, self._keys
        clear: Calls[None] = Calls(CLEAR, slot_in)
        disconnect: Calls[None] = Calls(DISCONNECT, slot_in, window_ms, life)
        for entry in entries:
            arguments = words(entry.id, entry.left_ms + SLACK_MS)
            # Each is looked at before it is removed.
            clear.add(None, words(keys.connections_of_user(entry.tenant, entry.user)), arguments, 2)
            for session in entry.sessions:
                clear.add(None, words(keys.connections_of_session(entry.tenant, session)), arguments, 2)
        for tenant, session in {(entry.tenant, session) for entry in entries for session in entry.sessions}:
            disconnect.add(None, words(keys.session(tenant, session)), b"", 2)
        calls = [*clear.commands(), *disconnect.commands()]
        await self._wire.call([command for command, _ in calls])

    def _removals(self, key: str, members: Iterable[str]) -> list[Command]:
        parts = _parts(list(members), CALL_WRITES)
        return [REMOVE.call([key] * len(part), *part) for part in parts]


class _Entry:
    """A connection of a lost node, as its hash has it."""

    __slots__ = ("id", "left_ms", "sessions", "tenant", "user")

    def __init__(self, tenant: str, id: str, user: str, sessions: tuple[str, ...], left_ms: int) -> None:
        self.tenant = tenant
        self.id = id
        self.user = user
        self.sessions = sessions
        self.left_ms = left_ms


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
