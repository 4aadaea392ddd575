"""The long form: many runs, several side by side, each stream of them in a process of its own.

A process each, because a crowd, its proxies and its checker keep one core busy, and what holds up one loop
must not be a silence of another stream's clients.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.plan import Plan
from tests.faults.results import Job, Result, missing, read

# Runs on one stage; then another one: 7 s of setting up for each.
ON_ONE_STAGE: Final = 5
# What a run takes beside its strokes: everybody comes, settles, goes, and the checker reads. Only a first
# guess, what was seen is the measure.
BESIDE_S: Final = 6.0
ENDS_WITHIN_S: Final = 60.0
LINE_BYTES: Final = 1 << 20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Orders:
    """What the processes are told beside their cell and seeds, and where their results are."""

    results: Path
    folder: Path
    options: Sequence[str] = ()
    command: Sequence[str] = (sys.executable, "-m", "tests.faults")


def chunks(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Runs of one cell that share a stage. The longest come first, and all cells before more seeds."""
    of_cell: dict[str, list[Plan]] = {}
    for plan in plans:
        of_cell.setdefault(plan.cell, []).append(plan)
    rounds: dict[int, list[list[Plan]]] = {}
    for waiting in of_cell.values():
        for start in range(0, len(waiting), ON_ONE_STAGE):
            rounds.setdefault(start, []).append(waiting[start : start + ON_ONE_STAGE])
    longest_first = (sorted(row, key=expected_s, reverse=True) for _, row in sorted(rounds.items()))
    return [chunk for row in longest_first for chunk in row]


def expected_s(plans: Sequence[Plan]) -> float:
    """How long these take one after the other, by their plans."""
    return sum(BESIDE_S + sum(s.pause_s + s.lasts_s for s in plan.strokes) for plan in plans)


@dataclass(slots=True)
class Progress:
    """How far it is, and how long the rest will take if it goes on as it did."""

    plans: Sequence[Plan]
    streams: int
    began: float
    played: list[Result] = field(default_factory=list)

    def left_s(self, now: float) -> float:
        """Seconds to the end."""
        done = {result.job for result in self.played}
        of_plan = {(plan.cell, plan.seed): expected_s([plan]) for plan in self.plans}
        behind = sum(seconds for job, seconds in of_plan.items() if job in done)
        ahead = sum(seconds for job, seconds in of_plan.items() if job not in done)
        return ahead * (now - self.began) / behind if behind else ahead / self.streams

    def line(self, now: float) -> str:
        """The run that came last, and where that leaves us."""
        found = sum(result.found for result in self.played)
        broke = sum(result.broke is not None for result in self.played)
        so_far = f"{len(self.played)} of {len(self.plans)}, {found} violations, {broke} broken"
        return f"{so_far}, {self.left_s(now) / 60:.0f} min left | {self.played[-1]}"


async def play_side_by_side(plans: Sequence[Plan], streams: int, orders: Orders, say: Say) -> None:
    """Play all, so many at a time. Cancelled, it ends what runs in order; what has come stays in the file."""
    waiting = deque(chunks(plans))
    progress = Progress(plans, streams, time.monotonic())
    seen = len(read(orders.results))

    def look() -> None:
        nonlocal seen
        results = read(orders.results)
        for result in results[seen:]:
            progress.played.append(result)
            say(progress.line(time.monotonic()))
        seen = len(results)

    async def stream() -> None:
        while waiting:
            await _play(waiting.popleft(), orders, look, say)

    async with asyncio.TaskGroup() as group:
        for n in range(streams):
            group.create_task(stream(), name=f"stream {n + 1}")
    look()


async def _play(chunk: Sequence[Plan], orders: Orders, look: Callable[[], None], say: Say) -> None:
    """One process: the seeds from the first to the last, without those that are there already."""
    cell, first, last = chunk[0].cell, chunk[0].seed, chunk[-1].seed
    process = await asyncio.create_subprocess_exec(
        *(*orders.command, "--cell", cell, *orders.options),
        *("--seed", str(first), "--seeds", str(last - first + 1)),
        *("--results", str(orders.results), "--resume", "--folder", str(orders.folder)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LINE_BYTES,
        # Ctrl-C in the terminal is for the parent, which ends it in order.
        start_new_session=True,
    )
    try:
        said = deque[str](maxlen=30)
        assert process.stdout is not None
        async for line in process.stdout:
            said.append(line.decode(errors="replace").rstrip())
            look()
        await process.wait()
    except BaseException:
        await _end(process)
        raise
    jobs: list[Job] = [(plan.cell, plan.seed) for plan in chunk]
    if undone := missing(jobs, read(orders.results)):
        say("\n".join([f"without a verdict: {', '.join(f'{c} {s}' for c, s in undone)}", *said]))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Have it close its servers; kill it when it does not."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            # Read to the end: it must not wait for a full pipe.
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
