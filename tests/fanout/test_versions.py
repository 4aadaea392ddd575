"""The changes of a session: each told once, in order, whatever order their hints come in."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout import versions as versions_module
from gateway.fanout.hints import ChangedHint
from gateway.fanout.versions import VersionedHint, Versions


def hint(version: int) -> ChangedHint:
    return ChangedHint(version, b"change %d" % version)


def numbers(due: list[VersionedHint]) -> list[int]:
    return [each.version for each in due]


@given(st.permutations(list(range(2, 2 + versions_module.HELD))))
def test_any_order_of_changes_comes_out_in_order_and_once(order: list[int]) -> None:
    versions = Versions(1)
    out = [number for each in [*order, *order] for number in numbers(versions.offer(hint(each)))]
    assert out == sorted(order)
    assert not versions.has_hole


@given(st.lists(st.tuples(st.sampled_from(["hint", "heard", "jump"]), st.integers(1, 60)), max_size=80))
def test_whatever_comes_versions_are_told_ascending_and_once(steps: list[tuple[str, int]]) -> None:
    versions = Versions(5)
    told: list[int] = []
    for kind, number in steps:
        if kind == "hint":
            told += numbers(versions.offer(hint(number)))
        elif kind == "heard":
            assert versions.heard(number) == (versions.known > versions.told)
        elif number > versions.told:
            # As the hub does: it reads the session and tells its version.
            told.append(number)
            told += numbers(versions.jump(number))
        assert told == sorted(set(told))
        assert versions.told == max([5, *told])
        assert versions.known >= versions.told


def test_a_change_behind_a_missing_one_waits_and_shows_the_hole() -> None:
    versions = Versions(4)
    assert versions.offer(hint(6)) == []
    assert versions.has_hole
    assert numbers(versions.offer(hint(5))) == [5, 6]
    assert not versions.has_hole


def test_what_was_told_in_another_way_is_not_told_again() -> None:
    versions = Versions(4)
    versions.offer(hint(6))
    versions.offer(hint(8))
    assert numbers(versions.jump(7)) == [8]
    assert versions.offer(hint(5)) == []
    assert versions.offer(hint(7)) == []
    assert not versions.has_hole


def test_what_waits_is_bounded_and_the_next_one_is_never_refused() -> None:
    versions = Versions(0)
    for number in range(2, versions_module.HELD + 10):
        assert versions.offer(hint(number)) == []
    assert numbers(versions.offer(hint(1))) == list(range(1, versions_module.HELD + 2))
    assert versions.has_hole


def test_repeats_take_no_room_from_what_waits() -> None:
    versions = Versions(100)
    for number in range(1, 101):
        assert versions.offer(hint(number)) == []
    assert versions.offer(hint(102)) == []
    assert numbers(versions.offer(hint(101))) == [101, 102]
