"""The map that forgets: on time, within its bound, and without growing behind the scenes."""

import hypothesis.strategies as st
from hypothesis import given

from store.expiring import Expiring
from tests.store.nodes import ManualClock


def test_an_entry_lives_for_its_time_and_not_a_moment_longer() -> None:
    clock = ManualClock()
    entries: Expiring[str, int] = Expiring(clock, 10)
    entries.put("a", 1, 500)
    clock.now += 0.499
    assert (entries.get("a"), list(entries), len(entries)) == (1, [1], 1)
    clock.now += 0.001
    assert (entries.get("a"), list(entries), len(entries), entries.pop("a")) == (None, [], 0, None)


def test_a_renewed_entry_lives_on() -> None:
    clock = ManualClock()
    entries: Expiring[str, int] = Expiring(clock, 10)
    for turn in range(5):
        entries.put("a", turn, 1_000)
        clock.now += 0.9
        assert entries.get("a") == turn
    clock.now += 0.2
    assert entries.get("a") is None


def test_an_entry_may_be_given_a_shorter_life() -> None:
    clock = ManualClock()
    gone: list[str] = []
    entries: Expiring[str, int] = Expiring(clock, 10, lambda key, _: gone.append(key))
    entries.put("a", 1, 10_000)
    entries.put("a", 2, 100)
    clock.now += 0.2
    entries.put("b", 1, 100)
    assert gone == ["a"]


def test_above_its_bound_the_first_to_expire_goes() -> None:
    clock = ManualClock()
    gone: list[tuple[str, int]] = []
    entries: Expiring[str, int] = Expiring(clock, 3, lambda key, value: gone.append((key, value)))
    for key, ttl_ms in (("long", 9_000), ("short", 1_000), ("middle", 5_000), ("longest", 9_999)):
        entries.put(key, ttl_ms, ttl_ms)
    assert gone == [("short", 1_000)]
    entries.put("middle", 1, 20_000)
    entries.put("more", 1, 20_000)
    assert gone[1:] == [("long", 9_000)]


def test_what_comes_and_goes_leaves_nothing_behind() -> None:
    clock = ManualClock()
    entries: Expiring[int, int] = Expiring(clock, 1_000)
    for number in range(10_000):
        entries.put(number, number, 1_000_000)
        entries.pop(number)
    assert len(entries) == 0
    assert len(entries._queue) <= 66


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "pop", "wait"]), st.integers(0, 5), st.integers(0, 40)), max_size=60
    )
)
def test_it_does_what_a_plain_dict_with_times_does(steps: list[tuple[str, int, int]]) -> None:
    clock = ManualClock()
    clock.now = 0.0  # and whole seconds from there: sums of fractions are not exact
    gone: list[int] = []
    entries: Expiring[int, int] = Expiring(clock, 1_000, lambda key, _: gone.append(key))
    model: dict[int, tuple[int, int]] = {}
    expected_gone: list[int] = []
    for serial, (step, key, amount) in enumerate(steps):
        now = int(clock.now)
        if step != "wait":
            over = [key for key, (_, expires) in model.items() if expires <= now]
            expected_gone += over
            for each in over:
                del model[each]
        if step == "put":
            entries.put(key, serial, amount * 1000)
            model[key] = (serial, now + amount)
            if amount == 0:
                expected_gone.append(key)
                del model[key]
        elif step == "pop":
            value, _ = model.pop(key, (None, 0))
            assert entries.pop(key) == value
        else:
            clock.now = now + amount
            continue
        assert sorted(entries) == sorted(value for value, _ in model.values())
        assert {each: entries.get(each) for each in model} == {
            each: value for each, (value, _) in model.items()
        }
        assert sorted(gone) == sorted(expected_gone)
