"""What can go wrong between a store and its server: each fault judges what passes, and counts what it did.

Chance is seeded, and each connection has a sequence of its own: what happens does not depend on which of two
connections was served first.
"""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Protocol

from loadtest.servers.wire import Direction, Unit

Match = Callable[[Unit], bool]

# What Redis pushes to a subscriber.
PUSHES: Final = frozenset({"message", "smessage"})
# Beyond these, pushes pass without being kept back: the proxy does not grow with the channels.
MAX_KEPT: Final = 4096


class Cut(Exception):
    """The connection ends here, on both sides, with a reset; the unit that was judged does not pass."""


class Fault(Protocol):
    """Judges units in the order in which they come, over all connections of a proxy."""

    def judge(self, unit: Unit, connection: int, direction: Direction) -> Sequence[Unit]:
        """Return what passes in its place: itself, nothing, something kept from earlier. Cut."""
        ...


def is_push(unit: Unit) -> bool:
    """Whether it is a payload on its way to a subscriber."""
    return unit.kind in PUSHES


def on_channel(part: bytes) -> Match:
    """Match payloads to subscribers of channels that have `part` in their name."""
    return lambda unit: is_push(unit) and part in unit.detail


class DropSome:
    """Lose a share of what matches, on its way to the client."""

    def __init__(self, share: float, *, match: Match = is_push, seed: int = 0) -> None:
        self._share = share
        self._match = match
        self._seed = seed
        self._chances: dict[int, Random] = {}
        self.passed = 0
        self.dropped = 0

    def judge(self, unit: Unit, connection: int, direction: Direction) -> Sequence[Unit]:
        if direction is not Direction.TO_CLIENT or not self._match(unit):
            return (unit,)
        chance = self._chances.setdefault(connection, Random(f"{self._seed}:{connection}"))  # noqa: S311
        if chance.random() < self._share:
            self.dropped += 1
            return ()
        self.passed += 1
        return (unit,)


class DropNext:
    """Lose the next `count` that match, whatever way they go."""

    def __init__(self, count: int = 1, *, match: Match = is_push) -> None:
        self._match = match
        self.left = count
        self.dropped = 0

    def judge(self, unit: Unit, connection: int, direction: Direction) -> Sequence[Unit]:
        if not self.left or not self._match(unit):
            return (unit,)
        self.left -= 1
        self.dropped += 1
        return ()


class DropLast:
    """Lose the last payload of a channel before each pause, and no other.

    Which one is the last is known only later, so each is kept back until the next of its channel comes:
    passed on when that is within `pause_s`, lost otherwise.
    """

    def __init__(
        self, pause_s: float, *, match: Match = is_push, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pause_s = pause_s
        self._match = match
        self._clock = clock
        self._kept: dict[tuple[int, bytes], tuple[float, Unit]] = {}
        self.passed = 0
        self.dropped = 0

    @property
    def lost(self) -> int:
        """How many are lost for good, those included that nothing has followed for longer than the pause."""
        late = self._clock() - self._pause_s
        return self.dropped + sum(at < late for at, _ in self._kept.values())

    def judge(self, unit: Unit, connection: int, direction: Direction) -> Sequence[Unit]:
        if direction is not Direction.TO_CLIENT or not self._match(unit):
            return (unit,)
        key = (connection, unit.detail)
        if key not in self._kept and len(self._kept) >= MAX_KEPT:
            self.passed += 1
            return (unit,)
        now = self._clock()
        at, before = self._kept.get(key, (now, None))
        self._kept[key] = (now, unit)
        if before is None:
            return ()
        if now - at > self._pause_s:
            self.dropped += 1
            return ()
        self.passed += 1
        return (before,)


class CutRequest:
    """Cut the connection instead of handing the request to the server: it never happened. `times` times."""

    def __init__(self, match: Match, *, times: int = 1) -> None:
        self._match = match
        self._times = times
        self.cuts = 0

    def judge(self, unit: Unit, connection: int, direction: Direction) -> Sequence[Unit]:
        if self.cuts < self._times and direction is Direction.TO_SERVER and self._match(unit):
            self.cuts += 1
            raise Cut
        return (unit,)


class CutAnswer:
    """Let the request happen and cut the connection before a word of the answer passes. `times` times.

    `match` is asked about what the client says (a Bind with certain bytes in it, a Query). The cut comes with
    the ReadyForQuery: Postgres has committed by then, and the client cannot know.
    """

    def __init__(self, match: Match, *, times: int = 1) -> None:
        self._match = match
        self._times = times
        self._armed: set[int] = set()
        self.cuts = 0

    def judge(self, unit: Unit, connection: int, direction: Direction) -> Sequence[Unit]:
        if direction is Direction.TO_SERVER:
            if self.cuts + len(self._armed) < self._times and self._match(unit):
                self._armed.add(connection)
        elif connection in self._armed:
            if unit.kind != "Z":
                return ()
            self._armed.discard(connection)
            self.cuts += 1
            raise Cut
        return (unit,)


class CutAt:
    """Cut the connection when a unit that matches comes by, which does not pass. `times` times."""

    def __init__(self, match: Match, *, direction: Direction = Direction.TO_CLIENT, times: int = 1) -> None:
        self._match = match
        self._direction = direction
        self._times = times
        self.cuts = 0

    def judge(self, unit: Unit, connection: int, direction: Direction) -> Sequence[Unit]:
        if self.cuts < self._times and direction is self._direction and self._match(unit):
            self.cuts += 1
            raise Cut
        return (unit,)
