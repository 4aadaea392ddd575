"""A seed decides a run: the same one always the same, and another one another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.cells import MAKE
from tests.faults.plan import CELLS, CLIENTS, LENGTHS, NODES, SHORT, make_plan

cells = st.sampled_from(CELLS)
seeds = st.integers(0, 2**31)
lengths = st.floats(0.0, 120.0)


@given(cells, seeds, lengths)
def test_a_seed_reproduces_a_plan(cell: str, seed: int, seconds: float) -> None:
    plan = make_plan(cell, seed, seconds=seconds)
    assert plan == make_plan(cell, seed, seconds=seconds)
    assert all(0 <= stroke.node < NODES for stroke in plan.strokes)
    assert all(0 <= n < CLIENTS for stroke in plan.strokes for n in stroke.victims)
    assert sum(stroke.pause_s + stroke.lasts_s + 1.0 for stroke in plan.strokes) >= seconds


@given(cells, seeds)
def test_a_longer_run_begins_as_the_shorter_one(cell: str, seed: int) -> None:
    shorter = make_plan(cell, seed, seconds=5.0).strokes
    assert make_plan(cell, seed, seconds=50.0).strokes[: len(shorter)] == shorter


@pytest.mark.parametrize("cell", CELLS)
def test_other_seeds_give_other_plans(cell: str) -> None:
    plans = {make_plan(cell, seed, seconds=5.0).strokes for seed in range(20)}
    assert len(plans) == 20


def test_every_cell_has_a_fault_and_no_short_form_is_longer_than_its_long_one() -> None:
    assert set(MAKE) == set(CELLS) == set(SHORT)
    for cell in CELLS:
        assert SHORT[cell].most <= LENGTHS[cell].most
