"""Nothing acked is lost, whatever moment the gateway is killed at."""

from pathlib import Path
from typing import Final

import pytest

from tests.soak.plan import Kill, Plan, make_plan
from tests.soak.run import run_soak

HASTY: Final = "tests.soak.hasty"


def test_a_seed_reproduces_the_plan_and_more_kills_only_add_to_it() -> None:
    short = make_plan(seed=7, kills=5, clients=8, sessions=4)
    assert short == make_plan(seed=7, kills=5, clients=8, sessions=4)
    assert make_plan(seed=7, kills=50, clients=8, sessions=4).kills[:5] == short.kills
    assert make_plan(seed=8, kills=5, clients=8, sessions=4) != short
    assert {kill.moment for kill in make_plan(seed=1, kills=50, clients=8, sessions=4).kills} == {
        "quiet",
        "commit",
        "start",
    }


@pytest.mark.timeout(120)
async def test_five_kills_lose_nothing(tmp_path: Path) -> None:
    outcome = await run_soak(make_plan(seed=1, kills=5, clients=6, sessions=3), tmp_path, print)
    assert outcome.violations == []
    assert outcome.stored == outcome.acked > 0


@pytest.mark.timeout(120)
async def test_a_gateway_that_acks_before_it_commits_is_found_out(tmp_path: Path) -> None:
    everybody = (tuple(range(4)),) * 2
    # Whatever else is written, joins and leaves too, commits what it has left open: not every kill shows it.
    kills = (Kill(moment="commit", after_s=0.3, burst=10),) * 12
    plan = Plan(seed=3, clients=4, members=everybody, kills=kills)
    try:
        found = [
            str(violation) for violation in (await run_soak(plan, tmp_path, print, module=HASTY)).violations
        ]
    except ExceptionGroup as failure:
        # A client whose cursor is beyond what the gateway has left is refused, and the run ends early.
        found = failure.__notes__
    assert any("lost: " in sentence for sentence in found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
async def test_fifty_kills_lose_nothing(seed: int, tmp_path: Path) -> None:
    outcome = await run_soak(make_plan(seed=seed, kills=50, clients=8, sessions=4), tmp_path, print)
    assert outcome.violations == []
    assert outcome.stored == outcome.acked > 0
