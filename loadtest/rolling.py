"""Three nodes are restarted one after the other under load: what was lost, and how long clients were silent.

Twice: with nodes that ask their clients to move before they leave, and with nodes that only close them. The
clients are the Python client, behind the balancer of `make cluster`.
"""

import gc
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click
import uvloop

from loadtest.ground import servers
from tests.cluster.rolling import Outcome, Plan, Silences, roll
from tests.cluster.world import Ground
from tests.evidence.timing import Spread

# Of the longest silence of each client, at p99.
_PROMISED_S: Final = 0.150
_LOST: Final = ("lost", "unanswered", "incomplete", "gap", "invented", "ghost", "changed")
_TWICE: Final = ("twice",)
_ORDER: Final = ("order", "time")


class Run(NamedTuple):
    """One way to restart three nodes, and what came of it."""

    name: str
    outcome: Outcome
    calm: Silences
    restarts: Silences


def _run(name: str, plan: Plan) -> Run:
    with servers() as found:
        if found.database_url is None or found.redis is None:
            raise RuntimeError("nodes need a database and a Redis to share")
        outcome = uvloop.run(roll(found.folder, Ground(found.database_url, found.redis.url), plan))
    if outcome.calm is None or outcome.restarts is None:
        raise RuntimeError("nothing was measured")
    return Run(name, outcome, outcome.calm, outcome.restarts)


def _told(run: Run) -> list[str]:
    outcome, kinds = run.outcome, run.outcome.kinds
    lost, twice, order = (sum(kinds[kind] for kind in each) for each in (_LOST, _TWICE, _ORDER))
    exits = ", ".join(f"{seconds:.1f} s (exit {code})" for code, seconds in outcome.exits)
    return [
        f"{run.name}: {outcome.acked} of {outcome.sent} messages acked",
        f"  lost {lost}, twice {twice}, out of order {order}",
        f"  nodes left within {exits}; clients were away for {dict(outcome.reasons) or 'nothing'}",
        f"  signals heard {outcome.signals}, twice {outcome.signals_twice}; leaves told {outcome.leaves}",
        f"  the loop of all the clients was itself late: {outcome.own}",
    ]


def _row(name: str, spread: Spread) -> str:
    return f"| {name} | {spread.p50 * 1000:.0f} | {spread.p99 * 1000:.0f} | {spread.longest * 1000:.0f} |"


def _table(runs: Sequence[Run]) -> list[str]:
    lines = ["| longest silence of a client, ms | p50 | p99 | longest |", "|---|---|---|---|"]
    for run in runs:
        lines += [
            _row(f"{run.name}: before the restarts", run.calm.longest),
            _row(f"{run.name}: during them", run.restarts.longest),
            _row(f"{run.name}: of that without a connection", run.restarts.away),
        ]
    return lines


@click.command()
@click.option("--clients", default=300, show_default=True)
@click.option("--sessions", default=60, show_default=True)
@click.option("--per-s", default=200.0, show_default=True, help="Messages a second, of all together.")
@click.option("--drain-s", default=30.0, show_default=True, help="GATEWAY_DRAIN_S of the nodes that ask.")
@click.option("--seed", default=1, show_default=True)
def rolling(drain_s: float, **plan: Any) -> None:
    """A rolling restart of three nodes: make before break, and break first beside it."""
    runs = []
    # Hundreds of clients in one process: a look for garbage among all they have heard takes it 300 ms.
    gc.disable()
    for name, window_s in (("make before break", drain_s), ("break first", 0.0)):
        runs.append(_run(name, Plan(drain_s=window_s, **plan)))
        for line in _told(runs[-1]):
            click.echo(line)
    for line in ("", *_table(runs)):
        click.echo(line)
    moved = runs[0]
    is_kept = moved.restarts.longest.p99 <= _PROMISED_S and not moved.outcome.violations
    missed = "" if is_kept else "  MISSED"
    click.echo(f"\npromised for the first: p99 150 ms, nothing lost, twice or out of order{missed}")
