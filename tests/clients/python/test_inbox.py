"""The queue of one session: whatever two connections bring, the reader gets each seq once, in order."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_gateway_client.inbox import Inbox, Judgement
from session_gateway_client.values import Message


def message(seq: int) -> Message:
    return Message("s", seq, f"id-{seq}", None, "bob", "user", str(seq), {}, "")


def is_full(inbox: Inbox) -> bool:
    return inbox.is_full


def test_only_the_next_seq_is_accepted() -> None:
    inbox = Inbox(max_messages=10, max_bytes=1000, cursor=4)
    assert [inbox.judge(seq) for seq in (3, 4, 5, 6)] == [
        Judgement.KNOWN,
        Judgement.KNOWN,
        Judgement.NEXT,
        Judgement.BEYOND,
    ]
    for seq in (4, 6):
        with pytest.raises(ValueError, match="does not follow 4"):
            inbox.accept(message(seq), 1)


def test_it_is_full_at_either_bound() -> None:
    by_count = Inbox(max_messages=2, max_bytes=1000, cursor=0)
    by_count.accept(message(1), 1)
    assert not is_full(by_count)
    by_count.accept(message(2), 1)
    assert is_full(by_count)

    by_bytes = Inbox(max_messages=10, max_bytes=100, cursor=0)
    by_bytes.accept(message(1), 250)
    assert is_full(by_bytes)
    by_bytes.take()
    assert not is_full(by_bytes)


def test_it_is_low_when_half_is_free() -> None:
    inbox = Inbox(max_messages=4, max_bytes=1000, cursor=0)
    for seq in range(1, 5):
        inbox.accept(message(seq), 1)
    lows = []
    for _ in range(2):
        inbox.take()
        lows.append(inbox.is_low)
    assert lows == [False, True]
    assert (inbox.cursor, inbox.taken) == (4, 2)


@given(
    head=st.integers(0, 30),
    since=st.integers(0, 10),
    # What happens: a link starts to replay from the present cursor, a link brings its next one, the reader
    # takes one.
    steps=st.lists(st.tuples(st.sampled_from(["attach", "bring", "take"]), st.integers(0, 1)), max_size=200),
)
def test_two_overlapping_replays_give_one_gapless_sequence(
    head: int, since: int, steps: list[tuple[str, int]]
) -> None:
    inbox = Inbox(max_messages=5, max_bytes=1000, cursor=since)
    links = [deque(range(since + 1, head + 1)), deque[int]()]
    taken: list[int] = []
    for step, link in steps:
        if step == "attach":
            links[link] = deque(range(inbox.cursor + 1, head + 1))
        elif step == "bring" and links[link]:
            seq = links[link].popleft()
            if inbox.judge(seq) is Judgement.NEXT and not inbox.is_full:
                inbox.accept(message(seq), 1)
        elif step == "take" and (got := inbox.take()) is not None:
            taken.append(got.seq)
    while (got := inbox.take()) is not None:
        taken.append(got.seq)
    assert taken == list(range(since + 1, since + 1 + len(taken)))
    assert inbox.cursor == since + len(taken)
