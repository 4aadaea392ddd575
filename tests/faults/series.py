"""Runs one after the other: those of a cell share a stage for as long as nothing is wrong with it."""

import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.plan import Plan
from tests.faults.results import Result, add, broken, passed, present_commit
from tests.faults.run import play
from tests.faults.stage import Stage, set_up


async def play_all(plans: Sequence[Plan], folder: Path, results: Path, say: Callable[[str], None]) -> None:
    """Play all, and add what comes of each to the results; what was seen stays in the folder."""
    commit = present_commit()
    for cell in dict.fromkeys(plan.cell for plan in plans):
        waiting = deque(plan for plan in plans if plan.cell == cell)
        while waiting:
            async with set_up(folder / cell / f"stage-{waiting[0].seed}") as stage:
                result = None
                # After a run that went wrong, nobody can say what is left of it.
                while waiting and (result is None or result.is_clean):
                    plan = waiting.popleft()
                    say(str(plan))
                    result = await _play(stage, plan, folder / cell / f"seed-{plan.seed}", commit)
                    add(results, result)
                    say("\n".join([str(result), *result.violations, result.broke or ""]).rstrip())


async def _play(stage: Stage, plan: Plan, folder: Path, commit: str) -> Result:
    """Play one; what its nodes said is kept where something is wrong."""
    try:
        result = passed(await play(stage, plan, folder), commit)
    except Exception:
        # Of the test, or of the machine: the run says nothing about the gateway, and must not end the others.
        result = broken(plan, traceback.format_exc(), commit)
    if not result.is_clean:
        _keep_logs(stage, folder)
    return result


def _keep_logs(stage: Stage, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n, node in enumerate(stage.world.nodes, start=1):
        (folder / f"n{n}.log").write_text(node.output)
