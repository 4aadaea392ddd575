"""Nodes are restarted one after the other, and nobody misses anything."""

from pathlib import Path

import pytest

from tests.cluster.rolling import Outcome, Plan, roll
from tests.cluster.world import Ground

SMALL = Plan(clients=60, sessions=12, per_s=60.0, drain_s=15.0, calm_s=1.0)


def told(how: str, outcome: Outcome) -> None:
    assert outcome.calm is not None
    assert outcome.restarts is not None
    print(f"\n{how}: {outcome.acked} of {outcome.sent} acked, nodes left in {outcome.exits}")
    print(f"  longest silence of a client: {outcome.restarts.longest} (before: {outcome.calm.longest})")
    print(f"  without a connection: {outcome.restarts.away}; late: {outcome.restarts.late}")
    signals = f"signals {outcome.signals}, twice {outcome.signals_twice}"
    print(f"  {signals}; leaves {outcome.leaves}; {outcome.reasons}")


@pytest.mark.timeout(120)
async def test_a_rolling_restart_of_three_nodes_loses_nothing_and_no_client_is_ever_away(
    tmp_path: Path, ground: Ground
) -> None:
    outcome = await roll(tmp_path, ground, SMALL)
    told("make before break", outcome)
    assert outcome.violations == []
    assert outcome.acked == outcome.sent > 0
    assert [code for code, _ in outcome.exits] == [0, 0, 0]
    assert outcome.restarts is not None
    assert outcome.restarts.away.longest == 0.0
    assert outcome.leaves == 0
    # Everybody had moved long before the end of the window.
    assert all(seconds < SMALL.drain_s for _, seconds in outcome.exits)


@pytest.mark.timeout(120)
async def test_nodes_that_ask_nobody_lose_nothing_either(tmp_path: Path, ground: Ground) -> None:
    plan = Plan(clients=60, sessions=12, per_s=60.0, drain_s=0.0, calm_s=1.0)
    outcome = await roll(tmp_path, ground, plan)
    told("break first", outcome)
    assert outcome.violations == []
    assert [code for code, _ in outcome.exits] == [0, 0, 0]
