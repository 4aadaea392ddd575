"""One of four nodes is killed with all its connections: they resume on the others, which keep their rates.

What the nodes themselves count is read ten times a second: none may have let in more in any second than it
is set to. Beside it stands how often the database was asked in the same seconds.
"""

import asyncio
import contextlib
import re
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

import click
import httpx
import uvloop

from loadtest.ground import Meter, Servers, gateways, gather, servers, shares
from loadtest.storm import Statements
from loadtest.talkers import Outcome, talkers
from tests.process import GatewayProcess

NODES: Final = 4
# Of a session; all but one are at the node that is killed.
_MEMBERS: Final = 5
_LOOK_S: Final = 0.1
_ASK_S: Final = 0.5
COUNTING: Final = {"shared_preload_libraries": "pg_stat_statements"}
_ADMITTED: Final = re.compile(r'^gateway_admissions_total\{door="(\w+)",outcome="admitted"\} (\S+)$', re.M)
_SHOWN: Final = 96
_SHOWN_MOST: Final = 8


class Rates(NamedTuple):
    """What each node may let in a second."""

    upgrade: int
    resume: int

    @property
    def settings(self) -> dict[str, str]:
        """As a gateway is told."""
        return {
            "GATEWAY_MAX_ACCEPTS_PER_S": str(self.upgrade),
            "GATEWAY_MAX_RESUMES_PER_S": str(self.resume),
        }


class Look(NamedTuple):
    """What somebody has counted at some moment between `begun` and `ended`."""

    begun: float
    ended: float
    counts: Mapping[str, int]


class Curve:
    """The looks at one of those who count."""

    def __init__(self) -> None:
        self._looks: list[Look] = []

    def add(self, look: Look) -> None:
        """One more."""
        self._looks.append(look)

    def most(self, what: str) -> int:
        """The most that has certainly happened within a second, wherever that begins."""
        counts = [look.counts[what] for look in self._looks]
        most = last = 0
        for first, look in enumerate(self._looks):
            while last + 1 < len(counts) and self._looks[last + 1].ended <= look.begun + 1.0:
                last += 1
            most = max(most, counts[last] - counts[first])
        return most

    def by_second(self, what: str, begun: float, seconds: int) -> list[int]:
        """What has happened in each second."""
        at = [(look.begun + look.ended) / 2 - begun for look in self._looks]
        counts = [look.counts[what] for look in self._looks]
        marks = [round(_between(at, counts, float(n))) for n in range(seconds + 1)]
        return [later - sooner for sooner, later in pairwise(marks)]


def _between(at: Sequence[float], counts: Sequence[int], moment: float) -> float:
    """What had been counted at the moment, if it grew evenly from look to look."""
    after = bisect_left(at, moment)
    if after in (0, len(at)):
        return float(counts[min(after, len(at) - 1)])
    share = (moment - at[after - 1]) / (at[after] - at[after - 1])
    return counts[after - 1] + share * (counts[after] - counts[after - 1])


class Killed(NamedTuple):
    """What came of it."""

    rates: Rates
    lost: int
    outcome: Outcome
    begun: float  # when the node was killed
    nodes: Mapping[str, Curve]
    database: Curve
    statements: Sequence[tuple[int, str]]
    survivors_s: float  # CPU of the nodes they came to
    cpu_s: Mapping[str, float]

    def together(self, door: str) -> list[int]:
        """What all nodes have let in, in each whole second until the last was back."""
        seconds = int(self.outcome.seconds)
        by_node = [curve.by_second(door, self.begun, seconds) for curve in self.nodes.values()]
        return [sum(each) for each in zip(*by_node, strict=True)]

    @property
    def faults(self) -> list[str]:
        """What was promised and not kept."""
        found = []
        if self.outcome.resumed != self.lost or self.outcome.fresh:
            found.append(f"{self.lost} were lost, and {self.outcome.resumed} resumed")
        for name, curve in self.nodes.items():
            for door, rate in self.rates._asdict().items():
                if (most := curve.most(door)) > rate:
                    found.append(f"{name} let in {most} within a second at the door {door}, and may {rate}")
        return found


async def kill(found: Servers, clients: int, rates: Rates) -> Killed:
    """Have so many clients gather at the first of four nodes, kill it, and watch them come back."""
    async with (
        gateways(found, 1) as (lost,),
        gateways(found, NODES - 1, rates.settings, first=2) as others,
        talkers(128) as crowd,
    ):
        sessions = clients // (_MEMBERS - 1)
        homes = [[lost] * (_MEMBERS - 1) + [others[n % len(others)]] for n in range(sessions)]
        await gather(crowd, homes, members=_MEMBERS)
        await crowd.connect(parallel=min(64, rates.upgrade))  # what a line has room for
        await crowd.rate(sessions, 1.0)
        everything = Meter.of(found, others, crowd)
        survivors = Meter(nodes=[node.pid for node in others])
        statements = Statements(found)
        async with _watched(others, statements) as (nodes, database):
            begun = time.monotonic()
            count = sessions * (_MEMBERS - 1)
            outcome = await crowd.survive(count, [node.port for node in others], lost.kill)
        survivors_s, cpu_s = survivors.again()["nodes"], everything.again()
        return Killed(rates, count, outcome, begun, nodes, database, statements.again(), survivors_s, cpu_s)


@contextlib.asynccontextmanager
async def _watched(
    nodes: Sequence[GatewayProcess], statements: Statements
) -> AsyncIterator[tuple[dict[str, Curve], Curve]]:
    """Look at the nodes and at the database, again and again, until the end of the block and once more."""
    is_over = asyncio.Event()
    curves = {f"n{n}": Curve() for n in range(2, len(nodes) + 2)}
    database = Curve()
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as http, asyncio.TaskGroup() as group:
        for curve, node in zip(curves.values(), nodes, strict=True):
            group.create_task(_again_and_again(curve, partial(_admitted, http, node), _LOOK_S, is_over))
        group.create_task(_again_and_again(database, partial(_calls, statements), _ASK_S, is_over))
        try:
            yield curves, database
        finally:
            is_over.set()


async def _again_and_again(
    curve: Curve, look: Callable[[], Awaitable[dict[str, int]]], pause_s: float, is_over: asyncio.Event
) -> None:
    while True:
        is_last, begun = is_over.is_set(), time.monotonic()
        counts = await look()
        curve.add(Look(begun, time.monotonic(), counts))
        if is_last:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(is_over.wait(), pause_s)


async def _admitted(http: httpx.AsyncClient, node: GatewayProcess) -> dict[str, int]:
    text = (await http.get(f"{node.ops_url}/metrics")).text
    return {door: int(float(count)) for door, count in _ADMITTED.findall(text)}


async def _calls(statements: Statements) -> dict[str, int]:
    rows = await asyncio.to_thread(statements.again)
    return {
        "statements": sum(calls for calls, _ in rows),
        "readings": sum(calls for calls, query in rows if query.startswith(("SELECT", "WITH"))),
    }


def _told(killed: Killed) -> list[str]:
    outcome, seconds = killed.outcome, int(killed.outcome.seconds) + 1
    lines = ["| second | " + " | ".join(f"{name}: accepted, resumed" for name in killed.nodes)]
    lines[0] += " | all: resumed | database: statements, readings |"
    lines.append("|---" * (len(killed.nodes) + 3) + "|")
    columns = {
        name: [curve.by_second(door, killed.begun, seconds) for door in killed.rates._fields]
        for name, curve in killed.nodes.items()
    }
    asked = [killed.database.by_second(what, killed.begun, seconds) for what in ("statements", "readings")]
    for n in range(seconds):
        cells = [f"{accepted[n]}, {resumed[n]}" for accepted, resumed in columns.values()]
        everywhere = sum(resumed[n] for _, resumed in columns.values())
        lines.append(f"| {n} | {' | '.join(cells)} | {everywhere} | {asked[0][n]}, {asked[1][n]} |")
    most = {door: max(curve.most(door) for curve in killed.nodes.values()) for door in killed.rates._fields}
    us, calls = killed.survivors_s / killed.lost * 1e6, sum(calls for calls, _ in killed.statements)
    return [
        *lines,
        "",
        f"{outcome.resumed} of {killed.lost} resumed in {outcome.seconds:.1f} s; live again: {outcome.way}",
        f"most within a second on one node: {most['upgrade']} accepted, of {killed.rates.upgrade} allowed; "
        f"{most['resume']} resumed, of {killed.rates.resume}",
        f"put off: {outcome.refused} upgrades (503), {outcome.put_off} resumes (4005)",
        f"{us:.0f} µs of the nodes' CPU for each, {calls / killed.lost:.3f} statements; of a core: "
        f"{shares(killed.cpu_s, outcome.seconds)}",
        *(f"{calls:8,}  {query[:_SHOWN]}" for calls, query in killed.statements[:_SHOWN_MOST]),
        *(f"MISSED: {fault}" for fault in killed.faults),
    ]


@click.command()
@click.option("--clients", default=5000, show_default=True, help="Of the node that is killed.")
@click.option("--accepts", default=500, show_default=True, help="GATEWAY_MAX_ACCEPTS_PER_S of each node.")
@click.option("--resumes", default=400, show_default=True, help="GATEWAY_MAX_RESUMES_PER_S of each node.")
def killed(clients: int, accepts: int, resumes: int) -> None:
    """One of four nodes is killed: everybody resumes on the others. Exit 1: not all, or above a rate."""
    with servers(settings=COUNTING) as found:
        outcome = uvloop.run(kill(found, clients, Rates(accepts, resumes)))
    for line in _told(outcome):
        click.echo(line)
    if outcome.faults:
        raise SystemExit(1)
