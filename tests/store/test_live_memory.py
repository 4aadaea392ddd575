"""What is the memory backend's own: nothing is left behind, whatever comes and goes."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from store import live_memory
from store.live_memory import MemoryLive
from store.types import ConnectionEntry
from tests.store.making import entry
from tests.store.nodes import ManualClock

_entries = st.builds(
    entry,
    st.sampled_from(["c1", "c2", "c3"]),
    user=st.sampled_from(["alice", "bob"]),
    sessions=st.lists(st.sampled_from(["s1", "s2"]), unique=True).map(tuple),
)


def now(call: object) -> object:
    """Run a coroutine that does not wait."""
    try:
        call.send(None)  # type: ignore[attr-defined]
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class IndexMachine(RuleBasedStateMachine):
    """The indexes against a dict of entries and their times."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.clock.now = 0
        self.live = MemoryLive(self.clock)
        self.model: dict[str, tuple[ConnectionEntry, int]] = {}

    @property
    def living(self) -> list[ConnectionEntry]:
        return [each for each, expires in self.model.values() if expires > self.clock.now]

    @rule(entries=st.lists(_entries, max_size=3), lease_s=st.integers(1, 5))
    def assert_connections(self, entries: list[ConnectionEntry], lease_s: int) -> None:
        now(self.live.assert_connections(entries, lease_ms=lease_s * 1000))
        for each in entries:
            self.model[each.id] = (each, int(self.clock.now) + lease_s)

    @rule(each=_entries, limit=st.integers(0, 3))
    def admit(self, each: ConnectionEntry, limit: int) -> None:
        others = [other for other in self.living if other.user == each.user and other.id != each.id]
        admitted = now(self.live.admit(each, limit=limit, lease_ms=2_000))
        assert admitted is (len(others) < limit)
        if admitted:
            self.model[each.id] = (each, int(self.clock.now) + 2)

    @rule(entries=st.lists(_entries, max_size=3))
    def forget(self, entries: list[ConnectionEntry]) -> None:
        now(self.live.forget(entries))
        for each in entries:
            self.model.pop(each.id, None)

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def indexes_are_true(self) -> None:
        for id in ("c1", "c2", "c3"):
            expected = next((each for each in self.living if each.id == id), None)
            assert now(self.live.connection("t", id)) == expected
        for user in ("alice", "bob"):
            theirs = sorted((each for each in self.living if each.user == user), key=lambda each: each.id)
            assert now(self.live.connections_of_user("t", user)) == theirs
        for session in ("s1", "s2"):
            there = sorted(
                (each for each in self.living if session in each.sessions), key=lambda each: each.id
            )
            assert now(self.live.connections_of_session("t", session)) == there

    def teardown(self) -> None:
        self.clock.now += 100
        now(self.live.assert_connections([entry("last")], lease_ms=1))
        assert set(self.live._users) == {("t", "alice")}
        assert self.live._attached == {}


TestIndexes = IndexMachine.TestCase


async def test_above_its_bound_the_connection_that_would_expire_first_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_memory, "CONNECTIONS", 3)
    live = MemoryLive(ManualClock())
    for number, lease_ms in enumerate((3_000, 1_000, 2_000, 4_000)):
        await live.assert_connections([entry(f"c{number}", sessions=("s",))], lease_ms=lease_ms)
    assert [each.id for each in await live.connections_of_session("t", "s")] == ["c0", "c2", "c3"]
    assert [each.id for each in await live.connections_of_user("t", "alice")] == ["c0", "c2", "c3"]
