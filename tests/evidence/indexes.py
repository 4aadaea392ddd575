"""Holds the live indexes against who really lives: nothing missing, nothing that outlives its lease.

Pure. The keys are those of the design, part 4; whatever else stands under the prefix must at least expire.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Fault = Literal["missing", "orphan", "immortal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """A connection that is open, as its own client knows it."""

    id: str
    user: str
    node: str
    sessions: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key as it was found; `members` are those of a sorted set. `ttl_ms` is None if it never expires."""

    name: str
    ttl_ms: int | None
    members: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """How long what is not true any more may stand: connections, and users in sessions.

    Who leaves stays in their sessions for a while: a reload of the page is no leave.
    """

    connection_ms: int
    presence_ms: int


@dataclass(frozen=True, slots=True)
class Untrue:
    """An index says what is not so, or does not say what is."""

    kind: Fault
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All keys under a prefix at one moment, by the server's own clock."""

    prefix: str
    now_ms: int
    keys: Sequence[Key]


# What follows the prefix. Sorted sets hold connections by the end of their lease; those of a node with their
# tenant before them, as a node serves them all.
_CONNECTION: Final = re.compile(r"default:connection:\{([^{}]+)\}")
_OF_SESSION: Final = re.compile(r"default:session:\{([^{}]+)\}:connections")
_OF_USER: Final = re.compile(r"default:user:\{([^{}]+)\}:connections")
_SESSIONS_OF_USER: Final = re.compile(r"default:user:\{([^{}]+)\}:sessions")
_OF_NODE: Final = re.compile(r"node:([^{}:/]+)(?:/[^{}:]+)?:connections")  # of any incarnation

Index = dict[str, Mapping[str, float]]


class Indexes:
    """What the keys say, by whom they say it of."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.connections: dict[str, int | None] = {}  # with their time to live
        self.of_session: Index = {}
        self.of_user: Index = {}
        self.sessions_of_user: Index = {}
        self.of_node: Index = {}
        for key in snapshot.keys:
            name = key.name.removeprefix(f"{snapshot.prefix}:")
            if found := _CONNECTION.fullmatch(name):
                self.connections[found[1]] = key.ttl_ms
            elif found := _OF_SESSION.fullmatch(name):
                self.of_session[found[1]] = key.members
            elif found := _OF_USER.fullmatch(name):
                self.of_user[found[1]] = key.members
            elif found := _SESSIONS_OF_USER.fullmatch(name):
                self.sessions_of_user[found[1]] = key.members
            elif found := _OF_NODE.fullmatch(name):
                ends = {member.removeprefix("default/"): end for member, end in key.members.items()}
                self.of_node[found[1]] = {**self.of_node.get(found[1], {}), **ends}


def missing(snapshot: Snapshot, living: Sequence[Living]) -> Iterator[Untrue]:
    """Every living connection stands in every index, with an expiry that is still to come."""
    indexes = Indexes(snapshot)
    for one in living:
        if one.id not in indexes.connections:
            yield Untrue("missing", f"{one.id} of {one.user} is not found by its id")
        places = [("user", indexes.of_user, one.user, one.id), ("node", indexes.of_node, one.node, one.id)]
        places += [("session", indexes.of_session, session, one.id) for session in one.sessions]
        places += [
            ("user in sessions", indexes.sessions_of_user, one.user, session) for session in one.sessions
        ]
        for what, index, name, member in places:
            if index.get(name, {}).get(member, 0) <= snapshot.now_ms:
                yield Untrue("missing", f"{what} {name} is without {member}")


def orphans(snapshot: Snapshot, living: Sequence[Living], leases: Leases) -> Iterator[Untrue]:
    """An entry of nobody who lives is over within its lease; with a lease of 0 it is not there at all."""
    indexes = Indexes(snapshot)
    alive = {one.id for one in living}
    for id, ttl_ms in indexes.connections.items():
        if id not in alive and (ttl_ms is None or ttl_ms > leases.connection_ms):
            yield Untrue("orphan", f"connection {id} is gone, and found by its id for {ttl_ms} ms more")
    true = {
        *(("user", one.user, one.id) for one in living),
        *(("node", one.node, one.id) for one in living),
        *(("session", session, one.id) for one in living for session in one.sessions),
        *(("user in sessions", one.user, session) for one in living for session in one.sessions),
    }
    for what, index, lease_ms in (
        ("user", indexes.of_user, leases.connection_ms),
        ("node", indexes.of_node, leases.connection_ms),
        ("session", indexes.of_session, leases.connection_ms),
        ("user in sessions", indexes.sessions_of_user, leases.presence_ms),
    ):
        for name, members in index.items():
            for member, end in members.items():
                if (what, name, member) not in true and end > snapshot.now_ms + lease_ms:
                    late = int(end - snapshot.now_ms)
                    yield Untrue("orphan", f"{what} {name} has {member} for {late} ms more")


def immortal(snapshot: Snapshot) -> Iterator[Untrue]:
    """Every key expires."""
    for key in snapshot.keys:
        if key.ttl_ms is None:
            yield Untrue("immortal", f"{key.name} never expires")


def check_indexes(snapshot: Snapshot, living: Sequence[Living], leases: Leases) -> list[Untrue]:
    """Hold the keys against who lives; an empty list means that the indexes are true."""
    return [
        *missing(snapshot, living),
        *orphans(snapshot, living, leases),
        *immortal(snapshot),
    ]
