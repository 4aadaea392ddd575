"""What came of each run, one JSON object a line, added as it comes: what is there need not be repeated."""

import json
import os
import subprocess
import traceback
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.faults.plan import Plan
from tests.faults.run import Outcome
from tests.process import ROOT

# Of the sentences of one run; its history has all of them.
TOLD: Final = 20
ERROR_CHARS: Final = 200
Job = tuple[str, int]  # a cell and a seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run, as it stays. Seconds; `load` is the machine's, over the last minute, when the run was over.

    `broke` says why a run could not be judged: that is no violation, and no pass either.
    """

    cell: str
    seed: int
    commit: str
    at: str
    load: float
    strokes: int
    seconds: float = 0.0
    messages: int = 0
    found: int = 0
    violations: list[str] = field(default_factory=list)
    healed_s: list[float] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    broke: str | None = None

    @property
    def job(self) -> Job:
        return self.cell, self.seed

    @property
    def is_clean(self) -> bool:
        """Whether it was judged, and kept every promise."""
        return self.broke is None and not self.found

    def __str__(self) -> str:
        said = f"{self.found} violations in {self.messages} messages" if self.broke is None else "broke"
        return f"{self.cell}, seed {self.seed}: {said}, {self.seconds:.0f} s, load {self.load:.1f}"


def passed(outcome: Outcome, commit: str) -> Result:
    """Sum up a run that was judged."""
    return Result(
        **_about(outcome.plan, commit),
        seconds=round(outcome.seconds, 1),
        messages=outcome.messages,
        found=len(outcome.violations),
        violations=[str(violation) for violation in outcome.violations[:TOLD]],
        healed_s=[round(seconds, 3) for seconds in outcome.healed_s],
        silences=[round(seconds, 3) for seconds in outcome.silences],
    )


def broken(plan: Plan, error: Exception, commit: str) -> Result:
    """Note a run that came to no verdict: in a line what happened, behind it where."""
    where = "".join(traceback.format_exception(error))
    return Result(**_about(plan, commit), broke=f"{str(error)[:ERROR_CHARS]!r}\n{where}")


def _about(plan: Plan, commit: str) -> dict[str, Any]:
    return {
        "cell": plan.cell,
        "seed": plan.seed,
        "commit": commit,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 1),
        "strokes": len(plan.strokes),
    }


def add(path: Path, result: Result) -> None:
    """Add one to the file, whoever else is adding to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(result), separators=(",", ":")) + "\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # One call: lines of runs side by side do not mix.
        os.write(file, line.encode())
    finally:
        os.close(file)


def read(path: Path) -> list[Result]:
    """Read all that the file has; none where there is no file."""
    if not path.exists():
        return []
    # What stands behind the last newline is still being written.
    whole, _, _ = path.read_text().rpartition("\n")
    return [Result(**json.loads(line)) for line in whole.splitlines() if line.strip()]


def missing(jobs: Iterable[Job], results: Iterable[Result]) -> list[Job]:
    """Those without a verdict, in their order. A run that found something has one: it is not tried again."""
    done: Collection[Job] = {result.job for result in results if result.broke is None}
    return [job for job in jobs if job not in done]


def present_commit() -> str:
    """Say what is played on: the commit, with a + where a file of the tree differs from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "no commit"
