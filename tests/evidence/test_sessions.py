"""Promises about sessions, indexes and healing: what keeps them passes; what breaks one is named, shown."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.checker import Kind, Violation, check
from tests.evidence.history import Op, Record
from tests.evidence.timing import silences

seeds = st.integers(0, 2**32 - 1)


class Tale:
    """A history that is told line by line; a second passes with each."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def tell(self, client: str, op: Op, seq: int | None = None, **said: Any) -> None:
        line = len(self.records) + 1
        said.setdefault("session", "s")
        self.records.append(Record(client=client, op=op, at=float(line), seq=seq, line=line, **said))

    def write(self, client: str, id: str, epoch: int, seq: int) -> None:
        """Have a message sent, put on the wire, acked and stored."""
        message: dict[str, Any] = {"sender": client, "id": id}
        self.tell(client, "send", digest="d", **message)
        self.tell(client, "transmit", epoch=epoch, **message)
        self.tell(client, "ack", seq, **message)
        self.tell("log", "stored", seq, digest="d", **message)

    def found(self, **more: Any) -> list[Violation]:
        return check(self.records, **more)

    def kinds(self, **more: Any) -> set[Kind]:
        return {violation.kind for violation in self.found(**more)}


def head(tale: Tale, seq: int, end: str | None = None) -> None:
    tale.tell("log", "head", seq, what=end)


# -- epochs


def taken_over(chance: Random, writes: int) -> tuple[Tale, dict[str, int]]:
    """Two take a session over from each other and write; each under the epoch that it holds."""
    tale, held = Tale(), dict[str, int]()
    holder = "ann"
    for seq in range(1, writes + 1):
        if holder not in held or chance.random() < 0.4:
            holder = chance.choice(["ann", "bob"])
            held[holder] = max(held.values(), default=0) + 1
            tale.tell(holder, "attach", 0, epoch=held[holder])
        tale.write(holder, f"m{seq}", held[holder], seq)
    return tale, held


@given(seeds, st.integers(1, 12))
def test_who_writes_under_the_epoch_they_hold_breaks_nothing(seed: int, writes: int) -> None:
    tale, _ = taken_over(Random(seed), writes)  # noqa: S311
    head(tale, writes)
    assert tale.found() == []


@given(seeds, st.integers(1, 12))
def test_a_write_under_an_epoch_that_somebody_else_has_raised_is_caught(seed: int, writes: int) -> None:
    tale, held = taken_over(Random(seed), writes)  # noqa: S311
    old = max(held, key=lambda client: held[client])
    other = "bob" if old == "ann" else "ann"
    tale.tell(other, "attach", 0, epoch=held[old] + 1)
    tale.write(old, "stale", held[old], writes + 1)
    head(tale, writes + 1)
    (violation,) = tale.found()
    assert violation.kind == "epoch"
    assert [record.op for record in violation.records] == ["attach", "transmit", "ack"]


def test_an_old_epoch_behind_a_newer_one_is_caught_by_the_order_of_seqs_alone() -> None:
    tale = Tale()
    # Both are under way before anybody can know of the other.
    for client, id, epoch in (("ann", "a", 1), ("bob", "b", 2)):
        tale.tell(client, "send", sender=client, id=id, digest="d")
        tale.tell(client, "transmit", sender=client, id=id, epoch=epoch)
    for client, id, seq in (("bob", "b", 1), ("ann", "a", 2)):
        tale.tell(client, "ack", seq, sender=client, id=id)
        tale.tell("log", "stored", seq, sender=client, id=id, digest="d")
    head(tale, 2)
    assert tale.kinds() == {"epoch"}


def test_a_message_that_was_stored_before_and_is_sent_again_under_an_older_epoch_is_no_stale_write() -> None:
    tale = Tale()
    tale.tell("ann", "attach", 0, epoch=1)
    tale.tell("ann", "send", sender="ann", id="a", digest="d")
    tale.tell("ann", "transmit", sender="ann", id="a", epoch=1)
    tale.tell("bob", "attach", 0, epoch=2)
    tale.tell("ann", "transmit", sender="ann", id="a", epoch=1)
    tale.tell("ann", "ack", 1, sender="ann", id="a")
    tale.tell("log", "stored", 1, sender="ann", id="a", digest="d")
    head(tale, 1)
    assert tale.found() == []


# -- isolation


@pytest.mark.parametrize(
    ("op", "is_caught"), [("deliver", True), ("hear", True), ("attach", True), ("send", False)]
)
def test_what_a_stranger_is_given_of_a_session_is_caught(op: Op, is_caught: bool) -> None:
    tale = Tale()
    tale.tell("ann", "member")
    tale.tell("eve", op, 0, sender="ann", id="a")
    assert ("isolation" in tale.kinds()) == is_caught


def test_what_a_client_itself_knows_not_to_be_its_own_is_told_in_its_words() -> None:
    tale = Tale()
    tale.tell("ann", "stray", what="ann got an ack of what it never said")
    (violation,) = tale.found()
    assert str(violation).splitlines()[0] == "isolation: ann got an ack of what it never said"
    assert "line 1: 1.000 ann stray" in str(violation)


# -- ends


@pytest.mark.parametrize(
    ("end", "events", "is_clean"),
    [
        (None, [], True),
        (None, ["created", "updated", "joined"], True),
        ("closed", ["created", "closed"], True),
        ("expired", ["expired"], True),
        ("closed", [], False),
        ("closed", ["closed", "closed"], False),
        ("closed", ["closed", "expired"], False),
        ("closed", ["expired"], False),
        (None, ["closed"], False),
    ],
)
def test_a_session_ends_once_and_as_its_event_says(
    end: str | None, events: list[str], is_clean: bool
) -> None:
    tale = Tale()
    head(tale, 0, end)
    for event in events:
        tale.tell("log", "event", what=event)
    assert tale.kinds() == (set() if is_clean else {"terminal"})


def test_who_is_told_twice_of_an_end_by_one_connection_is_seen_and_by_two_is_not() -> None:
    tale = Tale()
    tale.tell("ann", "hear", what="closed", connection="c1")
    tale.tell("ann", "hear", what="closed", connection="c2")
    assert tale.found() == []
    tale.tell("ann", "hear", what="expired", connection="c2")
    (violation,) = tale.found()
    assert violation.kind == "terminal"
    assert len(violation.records) == 2


# -- across connections


def given_on(tale: Tale, connection: str, *seqs: int) -> None:
    for seq in seqs:
        tale.tell("ann", "deliver", seq, sender="bob", id=f"m{seq}", digest="d", connection=connection)


def stored(tale: Tale, count: int) -> Tale:
    for seq in range(1, count + 1):
        tale.tell("bob", "send", sender="bob", id=f"m{seq}", digest="d")
        tale.tell("bob", "ack", seq, sender="bob", id=f"m{seq}")
        tale.tell("log", "stored", seq, sender="bob", id=f"m{seq}", digest="d")
    head(tale, count)
    return tale


def test_two_connections_of_a_client_may_overlap_while_it_moves() -> None:
    tale = stored(Tale(), 5)
    tale.tell("ann", "attach", 0, connection="c1")
    given_on(tale, "c1", 1, 2, 3)
    tale.tell("ann", "attach", 2, connection="c2")
    given_on(tale, "c2", 3)
    given_on(tale, "c1", 4)
    given_on(tale, "c2", 4, 5)
    tale.tell("ann", "complete")
    assert tale.found() == []


def test_a_hole_between_two_connections_of_a_client_is_caught_though_each_is_whole() -> None:
    tale = stored(Tale(), 5)
    tale.tell("ann", "attach", 0, connection="c1")
    given_on(tale, "c1", 1, 2)
    tale.tell("ann", "attach", 3, connection="c2")
    given_on(tale, "c2", 4, 5)
    (violation,) = tale.found()
    assert violation.kind == "order"
    assert "goes on with s#3 and was given no more than 2" in violation.sentence


# -- indexes and healing


def test_what_is_untrue_in_the_indexes_at_the_end_is_told() -> None:
    tale = Tale()
    tale.tell("indexes", "index")
    assert tale.found() == []
    tale.tell("indexes", "index", what="orphan: connection c1 is gone")
    assert tale.kinds() == {"index"}


def test_a_fault_that_is_noticed_for_too_long_is_late_and_one_that_never_heals_too() -> None:
    tale = Tale()
    tale.tell("redis restart", "begin")
    tale.tell("redis restart", "end")
    tale.tell("redis restart", "heal")
    assert tale.kinds(heals_within_s=1.0) == set()
    assert tale.kinds(heals_within_s=0.5) == {"late"}
    tale.tell("redis restart", "begin")
    tale.tell("redis restart", "end")
    assert tale.kinds(heals_within_s=1.0) == {"late"}
    assert tale.kinds() == set()


def test_a_violation_shows_some_of_its_records_and_how_many_there_are() -> None:
    tale = Tale()
    for _ in range(9):
        tale.tell("ann", "hear", what="closed", connection="c1")
    (violation,) = tale.found()
    lines = str(violation).splitlines()
    assert len(lines) == 1 + 6 + 1
    assert lines[-1].strip() == "... and 3 more"


def test_a_silence_is_the_longest_time_in_which_a_client_heard_nothing() -> None:
    tale = Tale()
    tale.tell("ann", "attach", 0)  # at 1
    tale.tell("bob", "attach", 0)  # at 2
    tale.tell("cid", "send")  # at 3
    tale.tell("ann", "deliver", 1)  # at 4
    tale.tell("ann", "hear", what="signal")  # at 5
    assert silences(tale.records, 2.0, 9.0) == {"ann": 4.0, "bob": 7.0}
