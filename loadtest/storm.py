"""A reconnect storm: all clients of one of three nodes are cut off at once, and resume on the others.

How many a second, what each costs the nodes beside an echo of the floor in C in the same seconds, and how
often the database is asked.
"""

import asyncio
from collections.abc import Sequence
from statistics import mean, median
from typing import Final, NamedTuple

import click
import uvloop

from loadtest.contenders import Running, floor
from loadtest.ground import Meter, Servers, gateways, gather, servers, shares
from loadtest.swarm import Swarm, swarm
from loadtest.talkers import Outcome, Talkers, talkers
from tests.process import GatewayProcess

NODES: Final = 3
# Of a session; all but one are at the node that is lost.
_MEMBERS: Final = 5
# The lost node has seen them go, and every node has said who is there.
_SETTLED_S: Final = 2.0
_ECHOES: Final = 100
_ECHOING: Final = 200
_PROMISED: Final = 1_500

_COUNTING: Final = {"shared_preload_libraries": "pg_stat_statements"}
_SHOWN: Final = 96
_SHOWN_MOST: Final = 8


class Storm(NamedTuple):
    """Everybody of one node has come back to the others."""

    gone: int
    outcome: Outcome
    survivors_s: float  # CPU of the nodes they came to
    echo_us: float  # CPU of the floor for an echo, just before and just after
    cpu_s: dict[str, float]
    statements: list[tuple[int, str]]  # calls of each, the most frequent first

    @property
    def per_s(self) -> float:
        """Resumes a second."""
        return self.gone / self.outcome.seconds

    @property
    def us(self) -> float:
        """CPU of the nodes they came to for each resume."""
        return self.survivors_s / self.gone * 1e6

    @property
    def per_resume(self) -> float:
        """Statements of the database for each resume."""
        return sum(calls for calls, _ in self.statements) / self.gone

    def __str__(self) -> str:
        used = shares(self.cpu_s, self.outcome.seconds)
        return (
            f"{self.gone} back in {self.outcome.seconds:.2f} s ({self.per_s:,.0f}/s), {self.outcome.way}; "
            f"each {self.us:.0f} µs of CPU ({self.us / self.echo_us:.0f} echoes of the floor of "
            f"{self.echo_us:.1f} µs), {self.per_resume:.3f} statements; of a core: {used}"
        )


class Floor(NamedTuple):
    """The floor in C, and its clients."""

    server: Running
    clients: Swarm

    async def echo_us(self) -> float:
        """Have it echo for a moment; CPU of each echo."""
        before = self.server.cpu_s()
        await self.clients.do(f"echo {_ECHOES}")
        return (self.server.cpu_s() - before) / (_ECHOES * _ECHOING) * 1e6


async def _storm(found: Servers, clients: int, parallel: int, rounds: int) -> list[Storm]:
    async with (
        gateways(found, NODES) as everybody,
        talkers(128) as crowd,
        floor("echo") as server,
        swarm(server.port, _ECHOING, 128) as echoing,
    ):
        first, second, third = everybody
        homes = [
            [first] * (_MEMBERS - 1) + [second if n % 2 else third] for n in range(clients // (_MEMBERS - 1))
        ]
        click.echo(f"{len(homes) * _MEMBERS} clients in {len(homes)} sessions gather")
        await gather(crowd, homes, members=_MEMBERS)
        await crowd.connect()
        storms = []
        for n in range(rounds):
            # Everybody who is at it goes, and in the next round from one of those they went to.
            lost, *others = everybody[n % NODES :] + everybody[: n % NODES]
            gone = (await crowd.cut(lost.port)).gone
            # What is said while they are away is what they have to be given when they are back.
            await crowd.rate(len(homes), 1.0)
            await asyncio.sleep(_SETTLED_S)
            beside = Floor(server, echoing)
            storms.append(await _resumed(found, crowd, (lost, others), beside, (gone, parallel)))
            click.echo(f"{n + 1}: {storms[-1]}")
    return storms


async def _resumed(
    found: Servers,
    crowd: Talkers,
    nodes: tuple[GatewayProcess, Sequence[GatewayProcess]],
    beside: Floor,
    count: tuple[int, int],
) -> Storm:
    lost, others = nodes
    gone, parallel = count
    before = await beside.echo_us()
    everything = Meter.of(found, (lost, *others), crowd)
    survivors = Meter(nodes=[node.pid for node in others])
    counter = Statements(found)
    outcome = await crowd.connect(parallel=parallel, ports=[node.port for node in others])
    cpu_s, survivors_s, statements = everything.again(), survivors.again()["nodes"], counter.again()
    if outcome.resumed != gone:
        raise RuntimeError(f"{gone} were cut off, and {outcome.resumed} were resumed")
    echo_us = mean((before, await beside.echo_us()))
    return Storm(gone, outcome, survivors_s, echo_us, cpu_s, statements)


class Statements:
    """What the database was asked, since this was made."""

    def __init__(self, found: Servers) -> None:
        if found.postgres is None or found.database_url is None:
            raise RuntimeError("SQLite counts no statements")
        self._postgres = found.postgres
        self._database = found.database_url.rpartition("/")[2]
        self._run("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        self._run("SELECT pg_stat_statements_reset()")

    def again(self) -> list[tuple[int, str]]:
        """Tell the calls of each statement, the most frequent first."""
        rows = self._run(
            "SELECT calls, query FROM pg_stat_statements JOIN pg_database ON dbid = pg_database.oid "
            "WHERE datname = current_database() AND query NOT LIKE '%pg_stat_statements%' ORDER BY calls DESC"
        )
        return [(int(calls), " ".join(query.split())) for calls, query in rows]

    def _run(self, sql: str) -> list[tuple[str, ...]]:
        return self._postgres.run(sql, self._database)


def _told(storms: Sequence[Storm]) -> list[str]:
    lines = ["statements of the last round:"]
    lines += [f"{calls:8,}  {query[:_SHOWN]}" for calls, query in storms[-1].statements[:_SHOWN_MOST]]
    per_s, us = median(each.per_s for each in storms), median(each.us for each in storms)
    echoes = median(each.us / each.echo_us for each in storms)
    p50, p99 = (median(times) / 1000 for times in zip(*_ways(storms), strict=True))
    missed = "" if 1e6 / us >= _PROMISED else "  MISSED"
    return [
        *lines,
        "",
        f"{per_s:,.0f} resumes/s, everything on this machine; to `live` p50 {p50:.0f} ms, p99 {p99:.0f} ms",
        f"{us:.0f} µs of the nodes' CPU for each, {echoes:.0f} echoes of the floor",
        f"so {1e6 / us:,.0f} a second on one core, promised {_PROMISED:,}{missed}",
        f"{median(each.per_resume for each in storms):.3f} statements of the database for each",
    ]


def _ways(storms: Sequence[Storm]) -> list[tuple[int, int]]:
    return [(storm.outcome.way.p50, storm.outcome.way.p99) for storm in storms]


@click.command()
@click.option("--clients", default=3000, show_default=True, help="Who is cut off in the first round.")
@click.option("--parallel", default=256, show_default=True, help="Who comes back at a time.")
@click.option(
    "--rounds", default=3, show_default=True, help="Storms, from one node after the other; medians count."
)
def storm(clients: int, parallel: int, rounds: int) -> None:
    """All clients of one of three nodes are cut off, and resume on the others."""
    with servers(settings=_COUNTING) as found:
        storms = uvloop.run(_storm(found, clients, parallel, rounds))
    for line in ("", *_told(storms)):
        click.echo(line)
