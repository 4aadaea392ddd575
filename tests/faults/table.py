"""What came of many runs, as the table that docs/reliability.md shows."""

from collections.abc import Iterable, Sequence

from tests.evidence.timing import Spread
from tests.faults.run import Outcome

HEAD = "| cell | runs | messages | violations | healed after, p50 / max | longest silence, p50 / max |"


def rows(outcomes: Sequence[Outcome]) -> Iterable[str]:
    """One row for each cell, in the order in which they were played."""
    yield HEAD
    yield "|---|---|---|---|---|---|"
    for cell in dict.fromkeys(outcome.plan.cell for outcome in outcomes):
        runs = [outcome for outcome in outcomes if outcome.plan.cell == cell]
        healed = Spread.of([seconds for run in runs for seconds in run.healed_s])
        quiet = Spread.of([seconds for run in runs for seconds in run.silences])
        violations = sum(len(run.violations) for run in runs)
        messages = sum(run.messages for run in runs)
        times = f"{healed.p50:.1f} / {healed.longest:.1f} s | {quiet.p50:.1f} / {quiet.longest:.1f} s"
        yield f"| {cell} | {len(runs)} | {messages} | {violations} | {times} |"
