"""`python -m tests.faults`: play cells of the fault matrix on real nodes, and check every history."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tests.evidence.checker import check
from tests.evidence.history import read_history
from tests.faults.plan import CELLS, Plan, make_plan
from tests.faults.run import HEALS_WITHIN_S, Outcome, Report, play
from tests.faults.stage import set_up
from tests.faults.table import rows


async def play_all(plans: Sequence[Plan], folder: Path, report: Report) -> list[Outcome]:
    """Play one after the other on a stage of its own for each cell; what was seen stays in the folder."""
    outcomes: list[Outcome] = []
    for cell in dict.fromkeys(plan.cell for plan in plans):
        async with set_up(folder / cell) as stage:
            for plan in (plan for plan in plans if plan.cell == cell):
                report(str(plan))
                outcome = await play(stage, plan, folder / cell / f"seed-{plan.seed}")
                outcomes.append(outcome)
                found = f"{len(outcome.violations)} violations in {outcome.messages} messages"
                report(f"{found}, {outcome.seconds:.0f} s")
                for violation in outcome.violations[:20]:
                    click.echo(str(violation), err=True)
    return outcomes


@click.command()
@click.option("--cell", "cells", multiple=True, type=click.Choice(CELLS), help="May be given several times.")
@click.option("--all", "is_all", is_flag=True, help="All cells.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same plan.")
@click.option("--seeds", default=1, show_default=True, help="So many runs of each cell, from --seed on.")
@click.option("--seconds", default=20.0, show_default=True, help="For how long each run goes on with faults.")
@click.option("--short", is_flag=True, help="Faults as short as in the normal test run.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="For histories and logs.")
@click.option(
    "--check", "history", type=click.Path(exists=True, path_type=Path), help="Only look at a history."
)
def main(
    cells: tuple[str, ...], is_all: bool, folder: Path | None, history: Path | None, **drawn: Any
) -> None:
    """Let one thing go wrong at a time under load; exit 0 only when every promise was kept."""
    if history is not None:
        found = check(read_history(history.read_text().splitlines()), heals_within_s=HEALS_WITHIN_S)
        click.echo("\n".join(map(str, found)) or "every promise was kept")
        sys.exit(1 if found else 0)
    chosen = CELLS if is_all else cells
    if not chosen:
        raise click.UsageError("Name a cell with --cell, or take --all.")
    place = folder or Path(tempfile.mkdtemp(prefix="gateway-faults-"))
    seeds = range(drawn["seed"], drawn["seed"] + drawn["seeds"])
    plans = [
        make_plan(cell, seed, seconds=drawn["seconds"], is_short=drawn["short"])
        for cell in chosen
        for seed in seeds
    ]
    began = time.monotonic()
    outcomes = asyncio.run(
        play_all(plans, place, lambda line: click.echo(f"{time.monotonic() - began:7.1f} s  {line}"))
    )
    click.echo("\n".join(rows(outcomes)))
    click.echo(f"histories and logs: {place}")
    sys.exit(1 if any(outcome.violations for outcome in outcomes) else 0)


if __name__ == "__main__":
    main()
