"""`python -m tests.faults`: play cells of the fault matrix on real nodes, and check every history."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from tests.evidence.checker import check
from tests.evidence.history import read_history
from tests.faults.plan import CELLS, Plan, make_plan
from tests.faults.results import missing, read
from tests.faults.run import HEALS_WITHIN_S
from tests.faults.series import play_all
from tests.faults.streams import Orders, play_side_by_side
from tests.faults.table import notes, rows

_PATH: Final = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--cell", "cells", multiple=True, type=click.Choice(CELLS), help="May be given several times.")
@click.option("--all", "is_all", is_flag=True, help="All cells.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same plan.")
@click.option("--seeds", default=1, show_default=True, help="So many runs of each cell, from --seed on.")
@click.option("--seconds", default=20.0, show_default=True, help="For how long each run goes on with faults.")
@click.option("--short", is_flag=True, help="Faults as short as in the normal test run.")
@click.option("--streams", default=1, show_default=True, help="So many runs side by side, if there are more.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="For histories and logs.")
@click.option("--results", type=_PATH, help="Each run is added here as it ends; else they are in the folder.")
@click.option("--resume", is_flag=True, help="Leave out the runs that the results have already.")
@click.option("--table", "is_table", is_flag=True, help="Play nothing: print the table of the results.")
@click.option("--check", "history", type=_PATH, help="Only look at a history.")
def main(
    cells: tuple[str, ...], is_all: bool, folder: Path | None, results: Path | None, **given: Any
) -> None:
    """Let one thing go wrong at a time under load; exit 0 only when every promise was kept."""
    if given["history"] is not None:
        sys.exit(_judge(given["history"]))
    if given["is_table"]:
        if results is None:
            raise click.UsageError("Say with --results what the table is of.")
        sys.exit(_show(results, []))
    chosen = CELLS if is_all else cells
    if not chosen:
        raise click.UsageError("Name a cell with --cell, or take --all.")
    place = folder or Path(tempfile.mkdtemp(prefix="gateway-faults-"))
    results = results or place / "results.jsonl"
    if results.exists() and not given["resume"]:
        raise click.UsageError(f"{results} is there already: go on with --resume, or name another file.")
    seeds = range(given["seed"], given["seed"] + given["seeds"])
    drawn = {"seconds": given["seconds"], "is_short": given["short"]}
    plans = [make_plan(cell, seed, **drawn) for cell in chosen for seed in seeds]
    undone = missing([(plan.cell, plan.seed) for plan in plans], read(results))
    _play([plan for plan in plans if (plan.cell, plan.seed) in undone], place, results, given)
    sys.exit(_show(results, plans))


def _play(plans: Sequence[Plan], place: Path, results: Path, given: dict[str, Any]) -> None:
    # Whoever is started in the background of a script ignores it, and so would all streams.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    click.echo(f"{len(plans)} runs; histories and logs: {place}; results: {results}")
    if given["streams"] == 1:
        asyncio.run(play_all(plans, place, results, click.echo))
        return
    options = ["--seconds", str(given["seconds"]), *(["--short"] if given["short"] else [])]
    orders = Orders(results, place, options)
    asyncio.run(play_side_by_side(plans, given["streams"], orders, click.echo))


def _judge(history: Path) -> int:
    found = check(read_history(history.read_text().splitlines()), heals_within_s=HEALS_WITHIN_S)
    click.echo("\n".join(map(str, found)) or "every promise was kept")
    return 1 if found else 0


def _show(results: Path, plans: Sequence[Plan]) -> int:
    """Print the table; 1 when a promise was broken, or one of the plans has come to no verdict."""
    there = read(results)
    click.echo("\n".join([*rows(there), "", *notes(there)]))
    undone = missing([(plan.cell, plan.seed) for plan in plans], there)
    if undone:
        click.echo(f"{len(undone)} runs have no verdict; --resume plays them again")
    return 1 if undone or any(result.found for result in there) else 0


if __name__ == "__main__":
    main()
