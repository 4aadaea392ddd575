"""The table of a session's states holds what the design says of them."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import lifecycle
from gateway.protocol.lifecycle import TABLE, Input, State, step

STATES: tuple[State, ...] = get_args(State)
INPUTS: tuple[Input, ...] = get_args(Input)


def test_every_state_has_its_place_in_the_table() -> None:
    assert {state for state, _ in TABLE} == set(STATES)


def test_every_state_is_reached() -> None:
    reached: set[State] = {"connecting"}
    while more := {after for (before, _), after in TABLE.items() if before in reached} - reached:
        reached |= more
    assert reached == set(STATES)


def test_closed_is_terminal() -> None:
    assert {after for (before, _), after in TABLE.items() if before == "closed"} == {"closed"}


def test_a_session_can_end_from_every_state() -> None:
    assert all(step(state, "ended") == "closed" for state in STATES)


def test_only_what_has_ended_is_closed() -> None:
    for (before, happening), after in TABLE.items():
        assert (after == "closed") == (before == "closed" or happening == "ended")


def test_nobody_attaches_to_what_is_closed() -> None:
    with pytest.raises(KeyError):
        step("closed", "attached")


def test_a_life() -> None:
    state: State = "connecting"
    story: list[tuple[Input, State]] = [
        ("attached", "active"),
        ("quiet", "idle"),
        ("traffic", "active"),
        ("emptied", "disconnecting"),
        ("attached", "active"),
        ("emptied", "disconnecting"),
        ("window_over", "idle"),
        ("attached", "active"),
        ("ended", "closed"),
        ("emptied", "closed"),
    ]
    for happening, expected in story:
        state = step(state, happening)
        assert state == expected


@given(st.lists(st.sampled_from(INPUTS)))
def test_a_pair_that_is_missing_changes_nothing_and_is_an_error(happenings: list[Input]) -> None:
    state: State = "connecting"
    for happening in happenings:
        if (state, happening) in lifecycle.TABLE:
            state = step(state, happening)
        else:
            with pytest.raises(KeyError):
                step(state, happening)
