"""Holds a history against the database: every promise is one function that yields what breaks it.

The promises are those of the design, part 2. A check sees the evidence and nothing else: no gateway, no
client.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.evidence.history import Op, Record
from tests.evidence.stored import Stored, StoredMessage

Kind = Literal[
    "lost", "ghost", "gap", "twice", "changed", "invented", "order", "incomplete", "unanswered", "time"
]
Message = tuple[str, str, str]  # session, sender, the sender's id for it


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept, and where."""

    kind: Kind
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


@dataclass(frozen=True)
class Evidence:
    """The records of all clients in the order they were made, what is stored, and indexes over both."""

    records: Sequence[Record]
    stored: Stored
    by_place: dict[tuple[str, int], StoredMessage] = field(init=False)
    by_message: dict[Message, list[StoredMessage]] = field(init=False)

    def __post_init__(self) -> None:
        by_message: dict[Message, list[StoredMessage]] = defaultdict(list)
        for row in self.stored.messages:
            by_message[row.session, row.sender, row.client_id].append(row)
        object.__setattr__(self, "by_message", dict(by_message))
        object.__setattr__(self, "by_place", {(row.session, row.seq): row for row in self.stored.messages})

    def of(self, *ops: Op) -> Iterator[Record]:
        """The records of these kinds."""
        return (record for record in self.records if record.op in ops)


def message_of(record: Record) -> Message:
    """Which message a record speaks of."""
    return (record.session, record.sender or "", record.id or "")


def place(session: str, seq: int | None) -> str:
    return f"{session}#{seq}"


def acked_is_stored(evidence: Evidence) -> Iterator[Violation]:
    """What was acked is stored, under the seq that the ack named."""
    for ack in evidence.of("ack"):
        rows = evidence.by_message.get(message_of(ack), [])
        if not rows:
            yield Violation("lost", f"{ack.client} has an ack for {ack.id} as {place(ack.session, ack.seq)}")
        elif ack.seq not in [row.seq for row in rows]:
            seqs = ", ".join(str(row.seq) for row in rows)
            yield Violation("lost", f"{ack.id} was acked as {place(ack.session, ack.seq)}, stored as {seqs}")


def refused_is_not_stored(evidence: Evidence) -> Iterator[Violation]:
    """What was finally refused is not there after all."""
    for refusal in evidence.of("refuse"):
        if message_of(refusal) in evidence.by_message:
            yield Violation("invented", f"{refusal.id} in {refusal.session} was refused and is stored")


def delivered_is_stored(evidence: Evidence) -> Iterator[Violation]:
    """What was delivered is stored at that place: no client saw what is not there any more."""
    for delivery in evidence.of("deliver"):
        row = evidence.by_place.get((delivery.session, delivery.seq or 0))
        if row is None or (row.sender, row.client_id) != (delivery.sender, delivery.id):
            where = place(delivery.session, delivery.seq)
            yield Violation("ghost", f"{delivery.client} was given {delivery.id} as {where}")


def stored_was_sent(evidence: Evidence) -> Iterator[Violation]:
    """What is stored was sent by somebody."""
    sent = {message_of(record) for record in evidence.of("send")}
    for row in evidence.stored.messages:
        if (row.session, row.sender, row.client_id) not in sent:
            yield Violation("invented", f"{place(row.session, row.seq)}: nobody sent {row.client_id}")


def seq_is_gapless(evidence: Evidence) -> Iterator[Violation]:
    """A session's seqs are 1, 2, 3 … up to the head that its own row names."""
    seqs: dict[str, list[int]] = defaultdict(list)
    for row in evidence.stored.messages:
        seqs[row.session].append(row.seq)
    for session, head in evidence.stored.heads.items():
        if (found := sorted(seqs[session])) != list(range(1, head + 1)):
            odd = sorted(set(found) ^ set(range(1, head + 1))) or [
                seq for seq in found if found.count(seq) > 1
            ]
            yield Violation("gap", f"{session}: the head is {head}, {odd[:5]} missing, beyond it or twice")
    for session in seqs.keys() - evidence.stored.heads.keys():
        yield Violation("gap", f"{session} has messages and does not exist")


def stored_once(evidence: Evidence) -> Iterator[Violation]:
    """A message has one seq: in the database, in every ack, in every delivery."""
    seqs: dict[Message, set[int]] = defaultdict(set)
    for message, rows in evidence.by_message.items():
        seqs[message].update(row.seq for row in rows)
    for record in evidence.of("ack", "deliver"):
        if record.seq is not None:
            seqs[message_of(record)].add(record.seq)
    for (session, sender, id), found in seqs.items():
        if len(found) > 1:
            yield Violation("twice", f"{id} of {sender} in {session} has the seqs {sorted(found)}")


def same_content_everywhere(evidence: Evidence) -> Iterator[Violation]:
    """A message says the same where it was sent, stored and delivered."""
    for record in evidence.of("send", "deliver"):
        for row in evidence.by_message.get(message_of(record), []):
            if row.digest != record.digest:
                what = "delivered" if record.op == "deliver" else "stored"
                yield Violation(
                    "changed", f"{place(row.session, row.seq)} was {what} as {record.client} never sent it"
                )


def delivered_in_order(evidence: Evidence) -> Iterator[Violation]:
    """A client is given what follows its cursor, one after the other, without a hole and without a repeat."""
    cursors: dict[tuple[str, str], int] = {}
    for record in evidence.of("attach", "deliver"):
        key, seq = (record.client, record.session), record.seq or 0
        cursor = cursors.get(key)
        if record.op == "deliver" and cursor is None:
            yield Violation(
                "order", f"{record.client} was given {place(record.session, seq)} before attaching"
            )
        elif record.op == "deliver" and seq != (cursor or 0) + 1:
            yield Violation("order", f"{record.client} was given {place(record.session, seq)} after {cursor}")
        cursors[key] = seq


def everyone_is_complete(evidence: Evidence) -> Iterator[Violation]:
    """Who says it has everything has been given everything up to the head."""
    last: dict[tuple[str, str], int] = {}
    for record in evidence.of("attach", "deliver", "complete"):
        key = (record.client, record.session)
        head = evidence.stored.heads.get(record.session, 0)
        if record.op != "complete":
            last[key] = record.seq or 0
        elif last.get(key) != head:
            yield Violation(
                "incomplete", f"{record.client} has {record.session} up to {last.get(key)} of {head}"
            )


def everything_is_answered(evidence: Evidence) -> Iterator[Violation]:
    """Every message was acked or refused in the end."""
    answered = {message_of(record) for record in evidence.of("ack", "refuse")}
    for record in evidence.of("send"):
        if message_of(record) not in answered:
            yield Violation("unanswered", f"{record.client} never heard of {record.id} in {record.session}")


def order_agrees_with_time(evidence: Evidence) -> Iterator[Violation]:
    """What was acked before another was sent stands before it."""
    sent_at: dict[Message, float] = {}
    for record in evidence.of("send"):
        sent_at.setdefault(message_of(record), record.at)
    acked: dict[str, list[tuple[float, int]]] = defaultdict(list)
    sent: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for record in evidence.of("ack"):
        acked[record.session].append((record.at, record.seq or 0))
        if message_of(record) in sent_at:
            sent[record.session].append((sent_at[message_of(record)], record.seq or 0))
    for session, sends in sent.items():
        acks, highest = iter(sorted(acked[session])), 0
        ack = next(acks, None)
        for at, seq in sorted(sends):
            while ack is not None and ack[0] < at:
                highest, ack = max(highest, ack[1]), next(acks, None)
            if seq <= highest:
                yield Violation("time", f"{place(session, seq)} was sent after {highest} had been acked")


CHECKS: tuple[Callable[[Evidence], Iterable[Violation]], ...] = (
    acked_is_stored,
    refused_is_not_stored,
    delivered_is_stored,
    stored_was_sent,
    seq_is_gapless,
    stored_once,
    same_content_everywhere,
    delivered_in_order,
    everyone_is_complete,
    everything_is_answered,
    order_agrees_with_time,
)


def check(records: Sequence[Record], stored: Stored) -> list[Violation]:
    """Hold a history against what is stored; an empty list means that every promise was kept."""
    evidence = Evidence(records, stored)
    return [violation for promise in CHECKS for violation in promise(evidence)]
