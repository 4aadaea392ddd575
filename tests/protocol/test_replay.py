"""Every seq after the cursor once, in order, whatever happens to hints, pages and the reader."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.protocol.replay import Replay


class Delivery(RuleBasedStateMachine):
    """Hints that are lost, delayed, repeated and swapped, and a reader that now and then takes nothing.

    The model is a list: what the reader has must be the beginning of what it lacked at first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = 0
        self.hints: list[int] = []
        self.reading: tuple[int, int] | None = None
        self.is_lagging = False

    @initialize(head=st.integers(0, 30), data=st.data())
    def attach(self, head: int, data: st.DataObject) -> None:
        self.head = head
        self.start = data.draw(st.integers(0, head), "cursor")
        self.had: list[int] = []
        self.replay = Replay(self.start, data.draw(st.integers(0, head), "head known"))

    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        self.hints += range(self.head + 1, self.head + count + 1)
        self.head += count

    @precondition(lambda self: self.hints)
    @rule(data=st.data(), stays=st.booleans())
    def hear(self, data: st.DataObject, stays: bool) -> None:
        at = data.draw(st.one_of(st.just(0), st.integers(0, len(self.hints) - 1)), "hint")
        seq = self.hints[at] if stays else self.hints.pop(at)
        if self.replay.live(seq):
            self.put(seq)

    @precondition(lambda self: self.hints)
    @rule()
    def lose_a_hint(self) -> None:
        self.hints.pop(0)

    @rule()
    def compare_heads(self) -> None:
        self.replay.behind(self.head)

    @precondition(lambda self: self.reading is None)
    @rule(limit=st.integers(1, 10))
    def begin_to_read(self, limit: int) -> None:
        was_live = self.replay.is_live
        self.reading = self.replay.want(limit)
        assert (self.reading is None) == was_live

    @precondition(lambda self: self.reading is not None)
    @rule()
    def ask_while_a_page_is_under_way(self) -> None:
        assert self.replay.want(10) is None

    @precondition(lambda self: self.reading is not None)
    @rule(data=st.data())
    def get_the_page(self, data: st.DataObject) -> None:
        assert self.reading is not None
        after, limit = self.reading
        self.reading = None
        # A replica that is behind shows less than there is, possibly nothing.
        shown = data.draw(st.integers(min(after, self.head), self.head), "shown")
        page = list(range(after + 1, min(after + limit, shown) + 1))
        for seq in page[self.replay.page(page)]:
            if not self.put(seq):
                break

    @precondition(lambda self: self.reading is not None)
    @rule()
    def fail_to_read(self) -> None:
        self.reading = None
        self.replay.failed()

    @rule(is_lagging=st.booleans())
    def change_of_pace(self, is_lagging: bool) -> None:
        self.is_lagging = is_lagging

    def put(self, seq: int) -> bool:
        if self.is_lagging:
            self.replay.refused(seq)
            return False
        self.had.append(seq)
        return True

    @invariant()
    def nothing_is_missing_twice_or_out_of_order(self) -> None:
        if hasattr(self, "had"):
            assert self.had == list(range(self.start + 1, self.start + 1 + len(self.had)))
            assert self.replay.cursor == self.start + len(self.had)

    @invariant()
    def live_is_to_lack_nothing_that_is_known(self) -> None:
        if hasattr(self, "had"):
            assert self.replay.is_live == (self.replay.cursor == self.replay.head)
            assert self.replay.head <= self.head

    def teardown(self) -> None:
        """Once the faults are over, a comparison of heads and pages bring everything."""
        if not hasattr(self, "had"):
            return
        self.is_lagging = False
        self.replay.failed()
        self.replay.behind(self.head)
        while (want := self.replay.want(7)) is not None:
            page = list(range(want[0] + 1, min(want[0] + want[1], self.head) + 1))
            for seq in page[self.replay.page(page)]:
                assert self.put(seq)
        assert self.had == list(range(self.start + 1, self.head + 1))
        assert self.replay.is_live
        assert self.replay.live(self.head + 1)


Delivery.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestDelivery = Delivery.TestCase


def test_a_reader_that_lacks_nothing_is_live_from_the_start() -> None:
    replay = Replay(5, 5)
    assert replay.is_live
    assert replay.want(10) is None


def test_a_cursor_ahead_of_what_the_node_has_heard_is_live_and_hears_nothing_twice() -> None:
    replay = Replay(10, 8)
    assert replay.is_live
    assert [replay.live(seq) for seq in (9, 10, 11)] == [False, False, True]


def test_it_is_live_exactly_when_the_last_page_reaches_the_head() -> None:
    replay = Replay(0, 5)
    seen = [replay.is_live]
    for page in ([1, 2], [3, 4], [5]):
        assert replay.want(2) == (page[0] - 1, 2)
        assert replay.page(page) == slice(0, len(page))
        seen.append(replay.is_live)
    assert seen == [False, False, False, True]
    assert (replay.cursor, replay.head) == (5, 5)


def test_an_empty_page_is_no_progress_and_is_wanted_again() -> None:
    replay = Replay(0, 1)
    assert replay.want(5) == (0, 5)
    assert replay.page([]) == slice(0, 0)
    assert not replay.is_live
    assert replay.want(5) == (0, 5)


def test_a_live_message_behind_a_hole_waits_for_its_page() -> None:
    replay = Replay(5, 5)
    assert not replay.live(7)
    assert not replay.is_live
    assert replay.want(10) == (5, 10)
    assert not replay.live(8), "a page is under way; 8 comes with the next one"
    assert replay.page([6, 7]) == slice(0, 2)
    assert replay.want(10) == (7, 10)
    assert replay.page([8]) == slice(0, 1)
    assert replay.live(9)


def test_a_reader_that_replays_takes_nothing_live_not_even_the_next_one() -> None:
    replay = Replay(5, 9)
    assert not replay.live(6)
    assert replay.want(10) == (5, 10)


def test_what_lies_behind_a_hole_of_a_page_is_not_delivered() -> None:
    replay = Replay(5, 9)
    replay.want(10)
    assert replay.page([4, 5, 6, 7, 9]) == slice(2, 4)
    assert replay.cursor == 7


def test_a_refused_message_is_wanted_again() -> None:
    replay = Replay(5, 5)
    assert replay.live(6)
    replay.refused(6)
    assert not replay.is_live
    assert replay.want(10) == (5, 10)


def test_a_refusal_of_what_was_taken_back_already_changes_nothing() -> None:
    replay = Replay(5, 5)
    replay.refused(9)
    assert replay.is_live
    assert replay.cursor == 5


def test_to_hear_of_an_older_head_changes_nothing() -> None:
    replay = Replay(5, 5)
    replay.behind(5)
    replay.behind(3)
    assert replay.is_live
    assert replay.head == 5
