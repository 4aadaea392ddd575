"""`python -m loadtest.soak`: kill a real gateway again and again, and show that nothing acked was lost."""

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.soak.plan import make_plan
from tests.soak.run import run_soak


@click.command()
@click.option("--kills", default=50, show_default=True, help="SIGKILLs of the gateway.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same schedule.")
@click.option("--clients", default=8, show_default=True, help="Users, each with one connection.")
@click.option("--sessions", default=4, show_default=True, help="Sessions they talk in.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep history.jsonl and the database here; otherwise they stay only when something is wrong.",
)
def main(kills: int, seed: int, clients: int, sessions: int, directory: Path | None) -> None:
    """Kill the gateway at seeded moments under load; exit 0 only when every promise was kept."""
    plan = make_plan(seed=seed, kills=kills, clients=clients, sessions=sessions)
    place = directory or Path(tempfile.mkdtemp(prefix="gateway-soak-"))
    place.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def report(line: str) -> None:
        click.echo(f"{time.monotonic() - started:7.1f} s  {line}")

    outcome = asyncio.run(run_soak(plan, place, report))
    for reason, count in outcome.reasons.most_common(8):
        report(f"away {count} times: {reason}")
    report(str(outcome))
    for violation in outcome.violations[:20]:
        click.echo(str(violation), err=True)
    if outcome.violations or directory is not None:
        click.echo(f"history and database: {place}")
    else:
        shutil.rmtree(place)
    sys.exit(1 if outcome.violations else 0)


if __name__ == "__main__":
    main()
