"""The bucket lets through what was promised and no more."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.limits import TokenBucket


def test_a_burst_goes_through_and_the_next_waits() -> None:
    bucket = TokenBucket(50, 100)
    assert [bucket.take(7.0) for _ in range(100)] == [0.0] * 100
    assert abs(bucket.take(7.0) - 0.02) < 1e-6


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(10, 1)
    assert bucket.take(0.0) == 0.0
    for _ in range(50):
        assert bucket.take(0.0) > 0.0
    assert bucket.take(0.1) == 0.0


def test_rest_fills_it_to_the_burst_and_no_further() -> None:
    bucket = TokenBucket(50, 3)
    bucket.take(0.0)
    assert [bucket.take(1000.0) > 0.0 for _ in range(5)] == [False, False, False, True, True]


@given(
    st.floats(0.1, 1000),
    st.integers(1, 200),
    st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_whoever_waits_as_long_as_told_goes_through(rate: float, burst: int, pauses: list[float]) -> None:
    bucket = TokenBucket(rate, burst)
    now = 0.0
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        if wait > 0.0:
            now += wait
            assert bucket.take(now) == 0.0


@given(st.floats(0.1, 1000), st.integers(1, 50), st.lists(st.floats(0, 0.5), max_size=200))
def test_no_stretch_of_time_holds_more_than_burst_and_rate(
    rate: float, burst: int, pauses: list[float]
) -> None:
    bucket = TokenBucket(rate, burst)
    now, taken = 0.0, [0.0]
    bucket.take(0.0)
    for pause in pauses:
        now += pause
        if bucket.take(now) == 0.0:
            taken.append(now)
    for first in range(len(taken)):
        for count, last in enumerate(taken[first:], 1):
            assert count <= burst + rate * (last - taken[first]) + 1e-3
    assert all(earlier <= later for earlier, later in pairwise(taken))
