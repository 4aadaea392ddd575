"""One pass of the fault matrix: every cell once, short, with a fixed seed; many on one stage."""

from pathlib import Path
from typing import Final

import pytest

from tests.faults.plan import CELLS, make_plan
from tests.faults.results import passed
from tests.faults.run import play
from tests.faults.stage import set_up
from tests.faults.table import rows

SEED: Final = 1
# Each on a stage of its own.
TARGETS: Final = (("redis", "postgres"), ("client", "node"))


@pytest.mark.timeout(170)
@pytest.mark.parametrize("targets", TARGETS, ids=" and ".join)
async def test_whatever_goes_wrong_no_promise_is_broken(targets: tuple[str, ...], tmp_path: Path) -> None:
    outcomes = []
    async with set_up(tmp_path) as stage:
        for cell in CELLS:
            plan = make_plan(cell, SEED, seconds=1.0, is_short=True)
            if plan.target in targets:
                outcomes.append(await play(stage, plan, tmp_path / cell))
    print("", *rows([passed(outcome, "present") for outcome in outcomes]), sep="\n")
    for outcome in outcomes:
        said = "\n".join(map(str, outcome.violations[:20]))
        assert not outcome.violations, f"{outcome.plan}; its history is in {tmp_path}:\n{said}"
        assert outcome.messages > 0
