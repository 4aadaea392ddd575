"""The checker finds what is wrong: a clean history passes, and every kind of fault put into one is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence.checker import Kind, check
from tests.evidence.history import History, Record, digest, read_history
from tests.evidence.stored import Stored, StoredMessage

seeds = st.integers(0, 2**32 - 1)


class Run:
    """A run without faults, made up from a seed: what its clients recorded, and what is stored."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - a schedule, not a secret
        self.records: list[Record] = []
        self.rows: list[StoredMessage] = []
        self.heads: dict[str, int] = {}
        self._now = 0.0
        self._clients = [f"c{n}" for n in range(3)]
        for session in ("s1", "s2"):
            self._talk(session)

    def _at(self) -> float:
        self._now += self.random.random()
        return self._now

    def _talk(self, session: str) -> None:
        cursors = dict.fromkeys(self._clients, 0)
        for client in self._clients:
            self.records.append(Record(client=client, op="attach", at=self._at(), session=session, seq=0))
        for seq in range(1, self.random.randint(8, 20)):
            self._post(session, seq)
            self.heads[session] = seq
            for client in self.random.sample(self._clients, 2):
                self._deliver(client, session, cursors, self.random.randint(0, seq))
        for client in self._clients:
            self._deliver(client, session, cursors, self.heads[session])
            self.records.append(Record(client=client, op="complete", at=self._at(), session=session))

    def _post(self, session: str, seq: int) -> None:
        sender = self.random.choice(self._clients)
        sent = Record(
            client=sender,
            op="send",
            at=self._at(),
            session=session,
            sender=sender,
            id=f"m{session}{seq}",
            digest=digest("user", f"text {self.random.random()}", {}),
        )
        self.records += [sent, replace(sent, op="ack", at=self._at(), seq=seq, digest=None)]
        self.rows.append(
            StoredMessage(
                session=session, seq=seq, sender=sender, client_id=sent.id or "", digest=sent.digest or ""
            )
        )

    def _deliver(self, client: str, session: str, cursors: dict[str, int], up_to: int) -> None:
        for row in [row for row in self.rows if row.session == session]:
            if cursors[client] < row.seq <= up_to:
                cursors[client] = row.seq
                self.records.append(
                    Record(
                        client=client,
                        op="deliver",
                        at=self._at(),
                        session=session,
                        seq=row.seq,
                        sender=row.sender,
                        id=row.client_id,
                        digest=row.digest,
                    )
                )

    def found(self) -> set[Kind]:
        """The kinds of violations the checker finds."""
        return {violation.kind for violation in check(self.records, Stored(self.rows, self.heads))}

    # -- picking the place of a fault

    def some(self, op: str) -> int:
        """The index of some record of this kind."""
        return self.random.choice([n for n, record in enumerate(self.records) if record.op == op])

    def deliveries_of_one(self) -> list[int]:
        """The indexes of what one client was given of one session."""
        one = self.records[self.some("deliver")]
        return [
            n
            for n, record in enumerate(self.records)
            if (record.op, record.client, record.session) == ("deliver", one.client, one.session)
        ]


# -- faults: each breaks a clean run in one place


def an_acked_message_is_not_stored(run: Run) -> None:
    row = run.rows.pop()
    run.heads[row.session] -= 1


def an_ack_names_another_place(run: Run) -> None:
    n = run.some("ack")
    run.records[n] = replace(run.records[n], seq=(run.records[n].seq or 0) + 1)


def two_deliveries_are_swapped(run: Run) -> None:
    places = run.deliveries_of_one()
    at = run.random.randrange(len(places) - 1)
    one, two = places[at], places[at + 1]
    run.records[one], run.records[two] = run.records[two], run.records[one]


def a_delivery_comes_twice(run: Run) -> None:
    n = run.some("deliver")
    run.records.insert(n + 1, run.records[n])


def a_delivery_is_left_out(run: Run) -> None:
    del run.records[run.random.choice(run.deliveries_of_one()[:-1])]


def the_last_delivery_is_left_out(run: Run) -> None:
    del run.records[run.deliveries_of_one()[-1]]


def a_message_is_delivered_that_was_never_stored(run: Run) -> None:
    n = run.some("deliver")
    run.records[n] = replace(run.records[n], id="nobody's")


def a_delivered_message_is_stored_no_more(run: Run) -> None:
    row = run.rows.pop()
    run.heads[row.session] -= 1
    run.records = [
        record for record in run.records if not (record.op in ("send", "ack") and record.id == row.client_id)
    ]


def a_message_changes_on_its_way_to_a_reader(run: Run) -> None:
    n = run.some("deliver")
    run.records[n] = replace(run.records[n], digest="other")


def a_message_changes_on_its_way_to_the_log(run: Run) -> None:
    n = run.random.randrange(len(run.rows))
    run.rows[n] = replace(run.rows[n], digest="other")


def a_seq_is_skipped(run: Run) -> None:
    n = run.random.randrange(len(run.rows) - 1)
    session = run.rows[n].session
    run.rows = [
        replace(row, seq=row.seq + 1) if row.session == session and row.seq > n else row for row in run.rows
    ]
    run.heads[session] += 1


def the_head_is_behind(run: Run) -> None:
    run.heads["s1"] -= 1


def a_message_is_stored_twice(run: Run) -> None:
    row = run.random.choice(run.rows)
    run.heads[row.session] += 1
    run.rows.append(replace(row, seq=run.heads[row.session]))


def two_acks_name_two_places(run: Run) -> None:
    n = run.some("ack")
    run.records.append(replace(run.records[n], seq=(run.records[n].seq or 0) + 1))


def a_message_is_stored_that_nobody_sent(run: Run) -> None:
    run.heads["s2"] += 1
    row = StoredMessage(session="s2", seq=run.heads["s2"], sender="c9", client_id="m?", digest="d")
    run.rows.append(row)


def a_refused_message_is_stored(run: Run) -> None:
    n = run.some("ack")
    run.records[n] = replace(run.records[n], op="refuse", seq=None)


def an_answer_never_comes(run: Run) -> None:
    del run.records[run.some("ack")]


def an_older_message_stands_behind_a_newer_one(run: Run) -> None:
    one, two = [row for row in run.rows if row.session == "s1"][:2]
    places = {one.client_id: two.seq, two.client_id: one.seq}
    run.rows = [replace(row, seq=places.get(row.client_id, row.seq)) for row in run.rows]
    run.records = [
        replace(record, seq=places.get(record.id or "", record.seq)) if record.op == "ack" else record
        for record in run.records
        if record.op != "deliver"
    ]


FAULTS: list[tuple[Callable[[Run], None], Kind]] = [
    (an_acked_message_is_not_stored, "lost"),
    (an_ack_names_another_place, "lost"),
    (two_deliveries_are_swapped, "order"),
    (a_delivery_comes_twice, "order"),
    (a_delivery_is_left_out, "order"),
    (the_last_delivery_is_left_out, "incomplete"),
    (a_message_is_delivered_that_was_never_stored, "ghost"),
    (a_delivered_message_is_stored_no_more, "ghost"),
    (a_message_changes_on_its_way_to_a_reader, "changed"),
    (a_message_changes_on_its_way_to_the_log, "changed"),
    (a_seq_is_skipped, "gap"),
    (the_head_is_behind, "gap"),
    (a_message_is_stored_twice, "twice"),
    (two_acks_name_two_places, "twice"),
    (a_message_is_stored_that_nobody_sent, "invented"),
    (a_refused_message_is_stored, "invented"),
    (an_answer_never_comes, "unanswered"),
    (an_older_message_stands_behind_a_newer_one, "time"),
]


@given(seeds)
def test_a_clean_history_passes(seed: int) -> None:
    assert Run(seed).found() == set()


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
@given(seed=seeds)
def test_a_fault_is_caught_by_its_name(fault: Callable[[Run], None], kind: Kind, seed: int) -> None:
    run = Run(seed)
    fault(run)
    assert kind in run.found()


def test_an_attachment_begins_a_new_range() -> None:
    run = Run(1)
    client, session = "c0", "s1"
    row = run.rows[4]
    run.records += [
        Record(client=client, op="attach", at=0, session=session, seq=row.seq - 1),
        Record(
            client=client,
            op="deliver",
            at=0,
            session=session,
            seq=row.seq,
            sender=row.sender,
            id=row.client_id,
            digest=row.digest,
        ),
    ]
    assert run.found() == set()
    run.records.append(Record(client=client, op="complete", at=0, session=session))
    assert run.found() == {"incomplete"}


def test_a_history_is_read_back_as_it_was_written_and_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path, max_records=3)
    records = Run(7).records[:3]
    for record in records:
        history.add(record)
    with pytest.raises(OverflowError):
        history.add(records[0])
    history.close()
    assert read_history(path.read_text().splitlines()) == records


def test_a_digest_does_not_depend_on_how_json_is_printed_and_depends_on_everything_else() -> None:
    assert digest("user", "x", {"a": 1, "b": 2}) == digest("user", "x", {"b": 2, "a": 1})
    assert (
        len(
            {
                digest("user", "x", {}),
                digest("tool", "x", {}),
                digest("user", "y", {}),
                digest("user", "x", {"a": 1}),
            }
        )
        == 4
    )
