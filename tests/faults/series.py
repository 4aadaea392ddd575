"""Runs one after the other: those of a cell share a stage for as long as nothing is wrong with it."""

import asyncio
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults.plan import Plan
from tests.faults.results import Result, add, broken, passed, present_commit
from tests.faults.run import play
from tests.faults.stage import Stage, set_up

Tell = Callable[[Result], None]


async def play_all(plans: Sequence[Plan], folder: Path, results: Path, say: Callable[[str], None]) -> None:
    """Play all, and add what comes of each to the results; what was seen stays in the folder."""
    commit = present_commit()

    def tell(result: Result) -> None:
        add(results, result)
        say("\n".join([str(result), *result.violations, result.broke or ""]).rstrip())

    for cell in dict.fromkeys(plan.cell for plan in plans):
        waiting = deque(plan for plan in plans if plan.cell == cell)
        while waiting:
            before = len(waiting)
            try:
                await _play_on_one_stage(waiting, folder / cell, commit, tell)
            except Exception as error:
                if _is_ended():
                    raise
                # It could not be set up, or not be taken down: then what was played on it is judged already.
                say(traceback.format_exc())
                if len(waiting) == before:
                    tell(broken(waiting.popleft(), error, commit))


async def _play_on_one_stage(waiting: deque[Plan], folder: Path, commit: str, tell: Tell) -> None:
    async with set_up(folder / f"stage-{waiting[0].seed}") as stage:
        is_clean = True
        # After a run that went wrong, nobody can say what is left of it.
        while waiting and is_clean:
            plan = waiting.popleft()
            result = await _play(stage, plan, folder / f"seed-{plan.seed}", commit)
            tell(result)
            is_clean = result.is_clean


async def _play(stage: Stage, plan: Plan, folder: Path, commit: str) -> Result:
    """Play one; what its nodes said is kept where something is wrong."""
    try:
        result = passed(await play(stage, plan, folder), commit)
    except Exception as error:
        if _is_ended():
            raise
        # Of the test, or of the machine: the run says nothing about the gateway, and must not end the others.
        result = broken(plan, error, commit)
    if not result.is_clean:
        _keep_logs(stage, folder)
    return result


def _is_ended() -> bool:
    """Whether what goes wrong does so because all of it was ended."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _keep_logs(stage: Stage, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n, node in enumerate(stage.world.nodes, start=1):
        (folder / f"n{n}.log").write_text(node.output)
