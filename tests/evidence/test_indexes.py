"""The check of the indexes finds what is wrong: true ones pass, and every fault put into one is named."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.evidence.indexes import Fault, Key, Leases, Living, Snapshot, check_indexes

NOW = 1_000_000
LEASE = 30_000
ANN = Living(id="c1", user="ann", node="n1", sessions=("s1", "s2"))
BOB = Living(id="c2", user="bob", node="n2", sessions=("s2",))


def key(name: str, *members: str, ttl_ms: int | None = LEASE) -> Key:
    return Key(name=f"p:{name}", ttl_ms=ttl_ms, members=dict.fromkeys(members, float(NOW + LEASE)))


def true_keys() -> dict[str, Key]:
    """What Redis says when Ann and Bob are there."""
    keys = [
        key("default:connection:{c1}"),
        key("default:connection:{c2}"),
        key("default:session:{s1}:connections", "c1"),
        key("default:session:{s2}:connections", "c1", "c2"),
        key("default:session:{s1}"),
        key("default:user:{ann}:connections", "c1"),
        key("default:user:{ann}:sessions", "s1", "s2"),
        key("default:user:{bob}:connections", "c2"),
        key("default:user:{bob}:sessions", "s2"),
        key("node:n1"),
        key("node:n1:connections", "default/c1"),
        key("node:n2:connections", "default/c2"),
    ]
    return {key.name: key for key in keys}


Keys = dict[str, Key]


def without(keys: Keys, name: str, member: str) -> None:
    old = keys[name]
    keys[name] = replace(old, members={one: at for one, at in old.members.items() if one != member})


def with_(keys: Keys, name: str, member: str, at: float) -> None:
    keys[name] = replace(keys[name], members={**keys[name].members, member: at})


LATE = NOW + 2 * LEASE
IN_S1 = "p:default:session:{s1}:connections"
IN_S2 = "p:default:session:{s2}:connections"
OF_ANN = "p:default:user:{ann}:connections"


def not_found_by_its_id(keys: Keys) -> None:
    del keys["p:default:connection:{c2}"]


def not_with_its_user(keys: Keys) -> None:
    without(keys, OF_ANN, "c1")


def not_in_one_of_its_sessions(keys: Keys) -> None:
    without(keys, IN_S2, "c1")


def not_with_its_node(keys: Keys) -> None:
    del keys["p:node:n1:connections"]


def a_session_not_with_its_user(keys: Keys) -> None:
    without(keys, "p:default:user:{ann}:sessions", "s1")


def expired_in_a_session(keys: Keys) -> None:
    with_(keys, IN_S1, "c1", NOW)


def dead_by_its_id(keys: Keys) -> None:
    dead = key("default:connection:{c9}", ttl_ms=2 * LEASE)
    keys[dead.name] = dead


def dead_in_a_session(keys: Keys) -> None:
    with_(keys, IN_S1, "c9", LATE)


def living_in_the_session_of_others(keys: Keys) -> None:
    with_(keys, IN_S1, "c2", LATE)


def living_with_another_user(keys: Keys) -> None:
    with_(keys, OF_ANN, "c2", LATE)


def dead_with_its_node(keys: Keys) -> None:
    with_(keys, "p:node:n1:connections", "default/c9", LATE)


def in_a_session_that_was_left(keys: Keys) -> None:
    with_(keys, "p:default:user:{bob}:sessions", "s1", LATE)


def for_ever(keys: Keys) -> None:
    record = key("default:session:{s1}", ttl_ms=None)
    keys[record.name] = record


FAULTS: list[tuple[Callable[[Keys], None], Fault]] = [
    (not_found_by_its_id, "missing"),
    (not_with_its_user, "missing"),
    (not_in_one_of_its_sessions, "missing"),
    (not_with_its_node, "missing"),
    (a_session_not_with_its_user, "missing"),
    (expired_in_a_session, "missing"),
    (dead_by_its_id, "orphan"),
    (dead_in_a_session, "orphan"),
    (living_in_the_session_of_others, "orphan"),
    (living_with_another_user, "orphan"),
    (dead_with_its_node, "orphan"),
    (in_a_session_that_was_left, "orphan"),
    (for_ever, "immortal"),
]


def found(keys: Keys, lease_ms: int = LEASE, presence_ms: int = LEASE) -> set[Fault]:
    snapshot = Snapshot(prefix="p", now_ms=NOW, keys=list(keys.values()))
    leases = Leases(connection_ms=lease_ms, presence_ms=presence_ms)
    return {untrue.kind for untrue in check_indexes(snapshot, [ANN, BOB], leases)}


def test_true_indexes_pass() -> None:
    assert found(true_keys()) == set()
    assert found(true_keys(), lease_ms=0, presence_ms=0) == set()


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_is_caught_by_its_name(fault: Callable[[Keys], None], kind: Fault) -> None:
    keys = true_keys()
    fault(keys)
    assert found(keys) == {kind}


def test_a_dead_entry_that_expires_in_time_is_no_orphan_unless_none_may_be_there() -> None:
    keys = true_keys()
    with_(keys, "p:default:session:{s1}:connections", "c9", NOW + LEASE)
    assert found(keys) == set()
    assert found(keys, lease_ms=0) == {"orphan"}
    assert found(keys, presence_ms=0) == set()


def test_who_has_just_left_may_still_be_in_a_session_but_not_for_ever() -> None:
    keys = true_keys()
    with_(keys, "p:default:user:{bob}:sessions", "s1", NOW + LEASE)
    assert found(keys, lease_ms=0) == set()
    assert found(keys, presence_ms=0) == {"orphan"}
