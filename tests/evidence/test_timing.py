"""How long things took is read from the history as it was written."""

import pytest

from tests.evidence.history import Op, Record
from tests.evidence.timing import Spread, ack_delays, delivery_delays, while_


def record(client: str, op: Op, at: float, node: str | None = None, seq: int | None = None) -> Record:
    return Record(client=client, op=op, at=at, session="s", sender="ann", id="m1", seq=seq, node=node)


HISTORY = [
    record("ann", "attach", 0.0, node="n1"),
    record("bob", "attach", 0.0, node="n2"),
    record("cid", "attach", 0.0, node="n1"),
    record("trouble", "begin", 0.5),
    record("ann", "send", 1.0),
    record("ann", "send", 1.5),
    record("ann", "ack", 2.0, seq=1),
    record("cid", "deliver", 2.5, seq=1),
    record("bob", "deliver", 4.0, seq=1),
    record("ann", "ack", 5.0, seq=1),
    record("trouble", "end", 6.0),
]


def test_an_ack_is_as_late_as_the_first_one_after_the_first_sending() -> None:
    assert ack_delays(HISTORY) == [1.0]
    assert ack_delays(HISTORY, 1.1, 9.0) == []


def test_only_what_reaches_another_node_counts_as_delivered_there() -> None:
    assert list(delivery_delays(HISTORY)) == [3.0]
    assert list(delivery_delays(HISTORY, 1.1, 9.0)) == []


def test_a_fault_has_a_beginning_and_an_end() -> None:
    assert while_("trouble", HISTORY) == (0.5, 6.0)
    assert while_("trouble", HISTORY[:-1]) == (0.5, float("inf"))
    with pytest.raises(StopIteration):
        while_("peace", HISTORY)


def test_a_spread_names_values_that_were_measured() -> None:
    assert Spread.of([]) == Spread(0, 0.0, 0.0, 0.0)
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0)
    assert Spread.of([n / 1000 for n in range(1, 1001)]) == Spread(1000, 0.5, 0.99, 1.0)
    assert str(Spread.of([0.001, 0.002])) == "p50 1.0 ms, p99 2.0 ms, longest 2.0 ms of 2"
