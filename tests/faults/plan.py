"""What happens in a cell of the matrix and when, from its seed alone. No I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

NODES: Final = 3
CLIENTS: Final = 30
SESSIONS: Final = 10
EXCLUSIVE: Final = 3


@dataclass(frozen=True, slots=True)
class Length:
    """For how long a fault lasts (s), at the least and at the most; both 0 where it is over at once."""

    least: float
    most: float


AT_ONCE: Final = Length(0.0, 0.0)

# Of the long form. Nobody closes a silent socket for 6 s, a bus takes itself for deaf after 3 s of silence,
# and a node's lease lasts for 15 s.
LENGTHS: Final[Mapping[str, Length]] = {
    "redis.restart": Length(0.5, 4.0),
    "redis.flushall": AT_ONCE,
    "redis.pubsub-kill": AT_ONCE,
    "redis.blackhole": Length(5.0, 10.0),
    "redis.slow": Length(3.0, 8.0),
    "postgres.restart": Length(0.0, 1.0),
    "postgres.away": Length(30.0, 30.0),
    "postgres.slow-commits": Length(3.0, 8.0),
    "postgres.exhausted": Length(3.0, 8.0),
    "client.reset": AT_ONCE,
    "client.half-open": AT_ONCE,
    "client.slow": Length(3.0, 8.0),
    "client.asleep": Length(7.0, 20.0),
    "client.token-twice": AT_ONCE,
    "node.kill": Length(0.5, 10.0),
    "node.freeze": Length(20.0, 20.0),
    "node.drain": Length(0.0, 2.0),
    "node.stall": Length(5.0, 5.0),
}
# Of the form that every change has to pass.
SHORT: Final[Mapping[str, Length]] = {
    **LENGTHS,
    "redis.restart": Length(1.0, 1.5),
    "redis.blackhole": Length(5.0, 5.5),
    "redis.slow": Length(2.0, 2.5),
    "postgres.away": Length(3.0, 4.0),
    "postgres.slow-commits": Length(2.0, 2.5),
    "postgres.exhausted": Length(2.5, 3.0),
    "client.slow": Length(2.5, 3.0),
    "client.asleep": Length(7.0, 7.5),
    "node.kill": Length(1.0, 2.0),
    "node.freeze": Length(17.0, 20.0),
}
CELLS: Final = tuple(LENGTHS)


@dataclass(frozen=True, slots=True)
class Stroke:
    """The fault once: after how much traffic, for how long, and whom it hits, where it hits anybody."""

    pause_s: float
    lasts_s: float
    node: int
    victims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of a cell."""

    cell: str
    seed: int
    strokes: tuple[Stroke, ...]

    @property
    def target(self) -> str:
        """What is hit: redis, postgres, client or node."""
        return self.cell.partition(".")[0]

    def __str__(self) -> str:
        lasting = ", ".join(f"{stroke.lasts_s:.1f}" for stroke in self.strokes)
        return f"{self.cell}, seed {self.seed}: {len(self.strokes)} times, for {lasting} s"


def make_plan(cell: str, seed: int, *, seconds: float, is_short: bool = False) -> Plan:
    """Draw a run of about so many seconds; the same arguments give the same plan."""
    length = (SHORT if is_short else LENGTHS)[cell]
    chance = Random(f"{cell}:{seed}")  # noqa: S311 - a schedule, not a secret
    strokes: list[Stroke] = []
    left = seconds
    while left > 0 or not strokes:
        stroke = Stroke(
            pause_s=chance.uniform(0.5, 1.5),
            lasts_s=chance.uniform(length.least, length.most),
            node=chance.randrange(NODES),
            victims=tuple(sorted(chance.sample(range(CLIENTS), chance.randint(2, CLIENTS // 3)))),
        )
        strokes.append(stroke)
        left -= stroke.pause_s + stroke.lasts_s + 1.0
    return Plan(cell, seed, tuple(strokes))
