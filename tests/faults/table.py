"""What came of many runs, as the table that docs/reliability.md shows."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from tests.evidence.timing import Spread
from tests.faults.plan import CELLS
from tests.faults.results import Result

HEAD: Final = (
    "| cell | runs | messages | violations | time to converge, p50 / max"
    " | longest silence of a client, p50 / max |"
)


def rows(results: Sequence[Result]) -> Iterator[str]:
    """One row for each cell that was played, in the order of the matrix."""
    yield HEAD
    yield "|---|---|---|---|---|---|"
    judged = [result for result in results if result.broke is None]
    for cell in CELLS:
        if runs := [result for result in judged if result.cell == cell]:
            yield _row(cell, runs)


def _row(cell: str, runs: Sequence[Result]) -> str:
    healed = Spread.of(list(chain.from_iterable(run.healed_s for run in runs)))
    quiet = Spread.of(list(chain.from_iterable(run.silences for run in runs)))
    messages, found = sum(run.messages for run in runs), sum(run.found for run in runs)
    times = f"{healed.p50:.1f} / {healed.longest:.1f} s | {quiet.p50:.1f} / {quiet.longest:.1f} s"
    return f"| {cell} | {len(runs)} | {messages} | {found} | {times} |"


def notes(results: Sequence[Result]) -> Iterator[str]:
    """What the table does not say: how much it was, on what and beside what, and what came to no verdict."""
    judged = [result for result in results if result.broke is None]
    cells, strokes = len({result.cell for result in judged}), sum(result.strokes for result in judged)
    messages, found = sum(result.messages for result in judged), sum(result.found for result in judged)
    yield f"{len(judged)} runs of {cells} cells, {strokes} faults, {messages} messages, {found} violations"
    yield f"commits: {_counted(result.commit for result in judged)}"
    load = Spread.of([result.load for result in judged])
    yield f"load average after a run: p50 {load.p50:.1f}, p99 {load.p99:.1f}, max {load.longest:.1f}"
    for result in results:
        if result.broke is not None:
            yield f"{result.at} {result} on {result.commit}: {result.broke.splitlines()[0]}"


def _counted(commits: Iterable[str]) -> str:
    return ", ".join(f"{commit} ({count} runs)" for commit, count in Counter(commits).items())
