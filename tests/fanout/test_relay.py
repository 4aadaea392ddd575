"""The relay against a list: whatever order hints come in, what goes out is an unbroken run."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.fanout import relay as relay_module
from gateway.fanout.relay import Relay


def frame(seq: int) -> bytes:
    return b"frame %d" % seq


@given(st.permutations(list(range(1, 40))), st.integers(0, 20))
def test_any_order_of_hints_comes_out_in_order_and_once(order: list[int], head: int) -> None:
    relay = Relay(head)
    out = [due for seq in [*order, *order] for due in relay.offer(seq, frame(seq))]
    assert out == [(seq, frame(seq)) for seq in range(head + 1, 40)]
    assert not relay.has_hole


def test_a_hole_is_seen_with_the_hint_behind_it() -> None:
    relay = Relay(5)
    assert relay.offer(7, frame(7)) == []
    assert relay.has_hole
    assert [seq for seq, _ in relay.offer(6, frame(6))] == [6, 7]
    assert not relay.has_hole


def test_a_later_head_of_the_log_is_a_hole_too() -> None:
    relay = Relay(5)
    assert not relay.heard(5)
    assert relay.heard(6)
    assert relay.has_hole


def test_the_tail_says_when_it_does_not_reach_back() -> None:
    relay = Relay(0)
    for seq in range(1, relay_module.TAIL_FRAMES + 11):
        relay.offer(seq, frame(seq))
    assert relay.tail_after(9, 5) is None
    assert relay.tail_after(10, 2) == [(11, frame(11)), (12, frame(12))]
    assert relay.tail_after(relay.head, 5) == []


def test_large_frames_shorten_the_tail() -> None:
    relay = Relay(0)
    large = bytes(relay_module.TAIL_BYTES // 2)
    for seq in range(1, 6):
        relay.offer(seq, large)
    assert relay.tail_after(2, 5) is None
    assert [seq for seq, _ in relay.tail_after(3, 5) or []] == [4, 5]


def test_what_waits_for_a_hole_is_bounded_and_the_rest_is_left_to_the_log() -> None:
    relay = Relay(0)
    last = relay_module.PENDING_FRAMES + 50
    for seq in range(2, last + 1):
        relay.offer(seq, frame(seq))
    out = [seq for seq, _ in relay.offer(1, frame(1))]
    assert out == list(range(1, relay_module.PENDING_FRAMES + 2))
    assert relay.has_hole
    assert relay.known == last


def test_a_jump_forgets_the_tail_and_closes_the_hole() -> None:
    relay = Relay(0)
    relay.offer(1, frame(1))
    relay.offer(900, frame(900))
    assert relay.jump() == 900
    assert not relay.has_hole
    assert relay.tail_after(899, 1) is None
    assert relay.offer(901, frame(901)) == [(901, frame(901))]


class RelayMachine(RuleBasedStateMachine):
    """The log grows; its hints are lost, repeated and shuffled; now and then the log itself is read."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = Relay(0)
        self.head = 0
        self.out: list[int] = []

    def take(self, due: list[tuple[int, bytes]]) -> None:
        for seq, data in due:
            assert data == frame(seq)
            self.out.append(seq)

    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        self.head += count

    @rule(data=st.data())
    def hint(self, data: st.DataObject) -> None:
        if self.head:
            seq = data.draw(st.integers(1, self.head))
            self.take(self.relay.offer(seq, frame(seq)))

    @rule()
    def read_the_log(self) -> None:
        for seq in range(self.relay.head + 1, self.head + 1):
            self.take(self.relay.offer(seq, frame(seq)))
        assert self.relay.head == self.head
        assert not self.relay.has_hole

    @invariant()
    def nothing_is_out_of_order(self) -> None:
        assert self.out == list(range(1, len(self.out) + 1))
        assert self.relay.head == len(self.out)

    @invariant()
    def the_tail_ends_at_the_head(self) -> None:
        tail = self.relay.tail_after(max(0, self.relay.head - 3), 10)
        assert tail is not None
        assert [seq for seq, _ in tail] == list(range(max(0, self.relay.head - 3) + 1, self.relay.head + 1))


TestRelay = RelayMachine.TestCase
