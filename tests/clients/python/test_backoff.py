"""The waiting times of the protocol, and which endings are final."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_gateway_client.backoff import Backoff, full_jitter
from session_gateway_client.closing import Ending, reconnects
from tests.clients.python.scripted import Constant


def test_the_ceilings_are_a_quarter_second_then_half_a_second_doubled_up_to_twenty() -> None:
    backoff = Backoff(Constant(1.0))
    assert [backoff.delay() for _ in range(9)] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


def test_jitter_is_full() -> None:
    backoff = Backoff(Constant(0.0))
    assert [backoff.delay() for _ in range(5)] == [0.0] * 5


def test_a_healthy_connection_starts_it_anew() -> None:
    backoff = Backoff(Constant(1.0))
    for _ in range(5):
        backoff.delay()
    backoff.reset()
    assert backoff.delay() == 0.25


def test_retry_after_is_waited_out_and_spread() -> None:
    assert Backoff(Constant(0.0)).delay(at_least=7.0) == 7.0
    assert Backoff(Constant(1.0)).delay(at_least=7.0) == 7.25


def test_an_overloaded_gateway_is_left_alone_for_longer() -> None:
    backoff = Backoff(Constant(1.0))
    assert [backoff.delay(overloaded=True), backoff.delay(overloaded=True)] == [4.0, 8.0]


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_no_delay_is_ever_above_the_cap(n: int, at: float) -> None:
    assert 0.0 <= full_jitter(Constant(at), n) <= 20.0


@pytest.mark.parametrize("code", [None, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4005, 4029, 4321, 4499])
def test_it_comes_back_after(code: int | None) -> None:
    assert reconnects(code)


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 4500, 4501, 4502, 4504, 4777, 4999]
)
def test_it_stays_away_after(code: int) -> None:
    assert not reconnects(code)


@pytest.mark.parametrize(
    ("status", "comes_back"),
    [(400, False), (401, False), (403, False), (404, False), (429, True), (503, True)],
)
def test_a_refused_upgrade_is_tried_again_only_when_waiting_helps(status: int, comes_back: bool) -> None:
    assert Ending(status=status).reconnects is comes_back
