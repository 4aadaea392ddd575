"""Holds the live indexes against who really lives: nothing missing, nothing that outlives its lease.

Pure. The keys are those of the design, part 4; whatever else stands under the prefix must at least expire.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Fault = Literal["missing", "orphan", "immortal", "unknown"]


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


# Names within a tenant. What follows is the id of a connection, or a sorted set of them by their expiry.
_CONNECTION: Final = re.compile(r"connection:\{?([^{}]+)\}?")
_OF_SESSION: Final = re.compile(r"session:\{([^{}]+)\}:connections")
_OF_USER: Final = re.compile(r"user:\{([^{}]+)\}:connections")
_SESSIONS_OF_USER: Final = re.compile(r"user:\{([^{}]+)\}:sessions")
_OF_NODE: Final = re.compile(r"node:\{?([^{}:]+)\}?:connections")


class Indexes:
    """What the keys say, by whom they say it of."""

    def __init__(self, snapshot: Snapshot, tenant: str = "default") -> None:
        self.connections: set[str] = set()
        self.of_session: dict[str, Mapping[str, float]] = {}
        self.of_user: dict[str, Mapping[str, float]] = {}
        self.sessions_of_user: dict[str, Mapping[str, float]] = {}
        self.of_node: dict[str, Mapping[str, float]] = {}
        for key in snapshot.keys:
            name = key.name.removeprefix(f"{snapshot.prefix}:").removeprefix(f"{tenant}:")
            if found := _CONNECTION.fullmatch(name):
                self.connections.add(found[1])
            for pattern, index in (
                (_OF_SESSION, self.of_session),
                (_OF_USER, self.of_user),
                (_SESSIONS_OF_USER, self.sessions_of_user),
                (_OF_NODE, self.of_node),
            ):
                if found := pattern.fullmatch(name):
                    index[found[1]] = key.members


def missing(snapshot: Snapshot, living: Sequence[Living]) -> Iterator[Untrue]:
    """Every living connection stands in every index, with an expiry that is still to come."""
    indexes, now = Indexes(snapshot), snapshot.now_ms
    for one in living:
        if one.id not in indexes.connections:
            yield Untrue("missing", f"{one.id} of {one.user} is not found by its id")
        if indexes.of_user.get(one.user, {}).get(one.id, 0) <= now:
            yield Untrue("missing", f"{one.id} is not among the connections of {one.user}")
        if _member(indexes.of_node.get(one.node, {}), one.id) <= now:
            yield Untrue("missing", f"{one.id} is not among the connections of node {one.node}")
        for session in one.sessions:
            if indexes.of_session.get(session, {}).get(one.id, 0) <= now:
                yield Untrue("missing", f"{one.id} is not among the connections of session {session}")
            if indexes.sessions_of_user.get(one.user, {}).get(session, 0) <= now:
                yield Untrue("missing", f"{session} is not among the sessions of {one.user}")


def orphans(snapshot: Snapshot, living: Sequence[Living], *, lease_ms: int) -> Iterator[Untrue]:
    """An entry of nobody who lives is over within its lease; with a lease of 0 it is not there at all."""
    indexes, last = Indexes(snapshot), snapshot.now_ms + lease_ms
    alive = {one.id: one for one in living}
    ttls = {key.name: key.ttl_ms for key in snapshot.keys}
    for key in snapshot.keys:
        found = _CONNECTION.fullmatch(key.name.removeprefix(f"{snapshot.prefix}:").partition(":")[2])
        ttl_ms = ttls[key.name]
        if found and found[1] not in alive and (ttl_ms is None or ttl_ms > lease_ms):
            yield Untrue("orphan", f"{key.name} is of nobody, and lives for {ttl_ms} ms more")
    sets = (("session", indexes.of_session), ("user", indexes.of_user), ("node", indexes.of_node))
    for what, index in sets:
        for name, members in index.items():
            for member, score in members.items():
                one = alive.get(member.rpartition("/")[2].rpartition(":")[2])
                belongs = one is not None and _belongs(one, what, name)
                if not belongs and score > last:
                    late = int(score - snapshot.now_ms)
                    yield Untrue("orphan", f"{member} in {what} {name} is not true for {late} ms more")
    attached = {(one.user, session) for one in living for session in one.sessions}
    for user, sessions in indexes.sessions_of_user.items():
        for session, score in sessions.items():
            if (user, session) not in attached and score > last:
                yield Untrue("orphan", f"{user} is said to be in {session} for too long")


def immortal(snapshot: Snapshot) -> Iterator[Untrue]:
    """Every key expires."""
    for key in snapshot.keys:
        if key.ttl_ms is None:
            yield Untrue("immortal", f"{key.name} never expires")


def check_indexes(snapshot: Snapshot, living: Sequence[Living], *, lease_ms: int) -> list[Untrue]:
    """Hold the keys against who lives; an empty list means that the indexes are true."""
    return [
        *missing(snapshot, living),
        *orphans(snapshot, living, lease_ms=lease_ms),
        *immortal(snapshot),
    ]


def _belongs(one: Living, what: str, name: str) -> bool:
    match what:
        case "session":
            return name in one.sessions
        case "user":
            return name == one.user
        case _:
            return name == one.node


def _member(members: Mapping[str, float], connection: str) -> float:
    """The score of a connection, whose tenant may stand before it."""
    return max(
        (
            score
            for member, score in members.items()
            if member == connection or member.endswith((f"/{connection}", f":{connection}"))
        ),
        default=0,
    )
