"""Three nodes on one Postgres and one Redis: how long a message takes to another node's client.

All on this machine, so that all times are of one clock: `native/talkers.c` sends and receives for everybody.
Beside them stand what the disk takes to make something durable, and how late the machine wakes who sleeps.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any, Final, NamedTuple

import click
import uvloop

from loadtest.ground import Meter, Servers, Sleeper, disk, gateways, gather, servers, shares
from loadtest.talkers import Outcome, Times, talkers

NODES: Final = 3
# How many sends of each client are on their way when the peak is measured.
_WINDOW: Final = 8
_WARM_S: Final = 1.0
# At 20 % of the peak, from a send to another node's client.
_PROMISED_P50_US: Final = 5_000
_PROMISED_P99_US: Final = 25_000


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
            with Sleeper() as sleeper:
                calm = await crowd.rate(peak.rate * talk.share, talk.seconds)
            click.echo(f"{n + 1}: peak {peak.rate:,.0f} acked/s; disk {synced}; woken {sleeper}")
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
