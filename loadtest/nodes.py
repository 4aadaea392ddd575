"""Three nodes on one Postgres and one Redis: the way of a message to another node, the cost of a storm.

All on this machine, so that all times are of one clock: `native/talkers.c` sends and receives for everybody.
"""

import asyncio
from collections.abc import Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import click
import uvloop

from loadtest.ground import Meter, Servers, disk, gateways, gather, servers, shares
from loadtest.talkers import Outcome, Talkers, Times, talkers
from tests.process import GatewayProcess

NODES: Final = 3
# How many sends of each client are on their way when the peak is measured.
_WINDOW: Final = 8
_WARM_S: Final = 1.0
# At 20 % of the peak, from a send to another node's client.
_PROMISED_P50_US: Final = 5_000
_PROMISED_P99_US: Final = 25_000
_PROMISED_RESUMES: Final = 1_500

# Of a session; all but one are at the node that is lost.
_MEMBERS: Final = 5
# The lost node has seen them go, and every node has said who is there.
_SETTLED_S: Final = 2.0
_COUNTING: Final = {"shared_preload_libraries": "pg_stat_statements"}
_SHOWN: Final = 96
_SHOWN_MOST: Final = 8


# -- latency


class Run(NamedTuple):
    """One round: what the nodes can do at most, and how long messages take at a fifth of it."""

    peak: Outcome
    calm: Outcome


class Talk(NamedTuple):
    """How much is said, and by how many."""

    clients: int
    sessions: int
    seconds: float
    rounds: int
    share: float


async def _latency(found: Servers, talk: Talk) -> list[Run]:
    async with gateways(found, NODES) as nodes, talkers(128) as crowd:
        homes = [[nodes[(place + n) % NODES] for n in range(NODES)] for place in range(talk.sessions)]
        await gather(crowd, homes, members=talk.clients // talk.sessions)
        await crowd.connect()
        await crowd.window(_WINDOW, _WARM_S)
        runs = []
        meter = Meter.of(found, nodes, crowd)
        for n in range(talk.rounds):
            synced = disk(found.folder)
            peak = await crowd.window(_WINDOW, min(talk.seconds, 4.0))
            meter.again()
            calm = await crowd.rate(peak.rate * talk.share, talk.seconds)
            click.echo(f"{n + 1}: peak {peak.rate:,.0f} acked/s, disk {synced}")
            click.echo(
                f"   at {calm.sent / calm.seconds:,.0f}/s: to another node {calm.other}, ack {calm.ack}"
            )
            click.echo(f"   of a core: {shares(meter.again(), calm.seconds)}")
            runs.append(Run(peak, calm))
    return runs


def _told_latency(runs: Sequence[Run]) -> list[str]:
    lines = [
        f"peak {median(run.peak.rate for run in runs):,.0f} acked/s, each delivered to all of its session",
        "",
    ]
    lines += ["| from a send to | p50 ms | p99 ms | lowest and highest p99 |", "|---|---|---|---|"]
    for name, times in (
        ("another node's client", [run.calm.other for run in runs]),
        ("a client of the same node", [run.calm.same for run in runs]),
        ("its ack", [run.calm.ack for run in runs]),
    ):
        p50, p99 = _medians(times)
        least, most = (end(each.p99 for each in times) / 1000 for end in (min, max))
        lines.append(f"| {name} | {p50 / 1000:.2f} | {p99 / 1000:.2f} | {least:.1f} to {most:.1f} |")
    p50, p99 = _medians([run.calm.other for run in runs])
    missed = "" if p50 <= _PROMISED_P50_US and p99 <= _PROMISED_P99_US else "  MISSED"
    return [*lines, "", f"promised for another node's client: p50 5 ms, p99 25 ms{missed}"]


def _medians(times: Sequence[Times]) -> tuple[float, float]:
    return median(each.p50 for each in times), median(each.p99 for each in times)


@click.command()
@click.option("--clients", default=300, show_default=True)
@click.option("--sessions", default=60, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="How long messages are timed in a round.")
@click.option(
    "--rounds", default=3, show_default=True, help="Peak and a fifth of it, in turns; medians count."
)
@click.option("--share", default=0.2, show_default=True, help="Of the peak rate.")
def nodes(**talk: Any) -> None:
    """From a send to another node's client, at 20 % of the peak rate of three nodes."""
    with servers() as found:
        runs = uvloop.run(_latency(found, Talk(**talk)))
    for line in ("", *_told_latency(runs)):
        click.echo(line)


# -- a reconnect storm


class Storm(NamedTuple):
    """Everybody of one node has come back to the others."""

    gone: int
    outcome: Outcome
    survivors_s: float  # CPU of the nodes they came to
    cpu_s: dict[str, float]
    statements: list[tuple[int, str]]  # calls of each, the most frequent first

    @property
    def per_s(self) -> float:
        """Resumes a second."""
        return self.gone / self.outcome.seconds

    @property
    def per_core_s(self) -> float:
        """Resumes for each second of CPU of the nodes they came to."""
        return self.gone / self.survivors_s

    @property
    def per_resume(self) -> float:
        """Statements of the database for each resume."""
        return sum(calls for calls, _ in self.statements) / self.gone

    def __str__(self) -> str:
        used = shares(self.cpu_s, self.outcome.seconds)
        return (
            f"{self.gone} back in {self.outcome.seconds:.2f} s ({self.per_s:,.0f}/s, {self.per_core_s:,.0f} "
            f"for each second of CPU), {self.outcome.way}; {self.per_resume:.3f} statements each; "
            f"of a core: {used}"
        )


async def _storm(found: Servers, clients: int, parallel: int, rounds: int) -> list[Storm]:
    async with gateways(found, NODES) as everybody, talkers(128) as crowd:
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
            storms.append(await _resumed(found, crowd, (lost, others), gone, parallel))
            click.echo(f"{n + 1}: {storms[-1]}")
    return storms


async def _resumed(
    found: Servers,
    crowd: Talkers,
    nodes: tuple[GatewayProcess, Sequence[GatewayProcess]],
    gone: int,
    parallel: int,
) -> Storm:
    lost, others = nodes
    everything = Meter.of(found, (lost, *others), crowd)
    survivors = Meter(nodes=[node.pid for node in others])
    counter = Statements(found)
    outcome = await crowd.connect(parallel=parallel, ports=[node.port for node in others])
    cpu_s, survivors_s = everything.again(), survivors.again()["nodes"]
    if outcome.resumed != gone:
        raise RuntimeError(f"{gone} were cut off, and {outcome.resumed} were resumed")
    return Storm(gone, outcome, survivors_s, cpu_s, counter.again())


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


def _told_storm(storms: Sequence[Storm]) -> list[str]:
    per_core_s, per_resume = (
        median(each.per_core_s for each in storms),
        median(each.per_resume for each in storms),
    )
    lines = ["statements of the last round:"]
    lines += [f"{calls:8,}  {query[:_SHOWN]}" for calls, query in storms[-1].statements[:_SHOWN_MOST]]
    p50, p99 = _medians([storm.outcome.way for storm in storms])
    missed = "" if per_core_s >= _PROMISED_RESUMES else "  MISSED"
    return [
        *lines,
        "",
        f"{median(each.per_s for each in storms):,.0f} resumes/s with everything on this machine, "
        f"from connect to live p50 {p50 / 1000:.0f} ms, p99 {p99 / 1000:.0f} ms",
        f"{per_core_s:,.0f} for each second of CPU of the nodes, promised {_PROMISED_RESUMES:,}{missed}",
        f"{per_resume:.3f} statements of the database for each",
    ]


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
    for line in ("", *_told_storm(storms)):
        click.echo(line)
