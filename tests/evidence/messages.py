"""The promises about messages: each is one function that yields what breaks it. No gateway, no client."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from tests.evidence.evidence import Evidence, Message, Violation, message_of, place
from tests.evidence.history import Record


def acked_is_stored(evidence: Evidence) -> Iterator[Violation]:
    """What was acked is stored, under the seq that the ack named."""
    for ack in evidence.of("ack"):
        rows = evidence.by_message.get(message_of(ack), [])
        if not rows:
            said = f"{ack.client} has an ack for {ack.id} as {place(ack.session, ack.seq)}, it is not stored"
            yield Violation("lost", said, evidence.around(message_of(ack)))
        elif ack.seq not in [row.seq for row in rows]:
            seqs = ", ".join(str(row.seq) for row in rows)
            said = f"{ack.id} was acked as {place(ack.session, ack.seq)}, stored as {seqs}"
            yield Violation("lost", said, evidence.around(message_of(ack)))


def refused_is_not_stored(evidence: Evidence) -> Iterator[Violation]:
    """What was finally refused is not there after all."""
    for refusal in evidence.of("refuse"):
        if message_of(refusal) in evidence.by_message:
            said = f"{refusal.id} in {refusal.session} was refused and is stored"
            yield Violation("invented", said, evidence.around(message_of(refusal)))


def delivered_is_stored(evidence: Evidence) -> Iterator[Violation]:
    """What was delivered is stored at that place: no client saw what is not there any more."""
    for delivery in evidence.of("deliver"):
        row = evidence.by_place.get((delivery.session, delivery.seq or 0))
        if row is None or (row.sender, row.client_id) != (delivery.sender, delivery.id):
            where = place(delivery.session, delivery.seq)
            is_there = "nothing" if row is None else f"{row.client_id} of {row.sender}"
            said = f"{delivery.client} was given {delivery.id} as {where}, where {is_there} is stored"
            yield Violation("ghost", said, (delivery, *evidence.around(message_of(delivery))))


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
    shown: dict[tuple[Message, int], Record] = {}  # the first record of each
    for message, rows in evidence.by_message.items():
        seqs[message].update(row.seq for row in rows)
    for record in evidence.of("ack", "deliver"):
        if record.seq is not None:
            seqs[message_of(record)].add(record.seq)
            shown.setdefault((message_of(record), record.seq), record)
    for message, found in seqs.items():
        if len(found) > 1:
            session, sender, id = message
            witnesses = [shown[message, seq] for seq in sorted(found) if (message, seq) in shown]
            said = f"{id} of {sender} in {session} has the seqs {sorted(found)}"
            yield Violation("twice", said, tuple(witnesses))


def same_content_everywhere(evidence: Evidence) -> Iterator[Violation]:
    """A message says the same where it was sent, stored and delivered."""
    for record in evidence.of("send", "deliver"):
        for row in evidence.by_message.get(message_of(record), []):
            if row.digest != record.digest:
                what = "delivered" if record.op == "deliver" else "sent"
                said = f"{place(row.session, row.seq)} is stored otherwise than it was {what}"
                yield Violation("changed", said, (*evidence.around(message_of(record)), record))


def delivered_in_order(evidence: Evidence) -> Iterator[Violation]:
    """Each attachment is given what follows its cursor, one after the other, without a hole or a repeat.

    And a client reads on from no further than it was given: what follows is whole across its connections.
    """
    last: dict[tuple[str, str | None, str], Record] = {}
    furthest: dict[tuple[str, str], Record] = {}
    for record in evidence.of("attach", "deliver"):
        key, client = (record.client, record.connection, record.session), (record.client, record.session)
        seq, before = record.seq or 0, last.get(key)
        where = place(record.session, seq)
        if record.op == "deliver" and before is None:
            yield Violation("order", f"{record.client} was given {where} before attaching", (record,))
        elif record.op == "deliver" and before is not None and seq != (before.seq or 0) + 1:
            said = f"{record.client} was given {where} after {before.seq}"
            yield Violation("order", said, (before, record))
        elif client in furthest and seq > (furthest[client].seq or 0) + (record.op == "deliver"):
            had = furthest[client]
            said = f"{record.client} goes on with {where} and was given no more than {had.seq}"
            yield Violation("order", said, (had, record))
        last[key] = record
        if client not in furthest or seq > (furthest[client].seq or 0):
            furthest[client] = record


def everyone_is_complete(evidence: Evidence) -> Iterator[Violation]:
    """Who says it has everything has been given everything up to the head."""
    last: dict[tuple[str, str], Record] = {}
    for record in evidence.of("attach", "deliver", "complete"):
        key = (record.client, record.session)
        head = evidence.stored.heads.get(record.session, 0)
        if record.op != "complete":
            if key not in last or (record.seq or 0) >= (last[key].seq or 0) or record.op == "attach":
                last[key] = record
        elif key not in last or last[key].seq != head:
            had = last[key].seq if key in last else None
            said = f"{record.client} has {record.session} up to {had} of {head}"
            yield Violation("incomplete", said, (*([last[key]] if key in last else []), record))


def everything_is_answered(evidence: Evidence) -> Iterator[Violation]:
    """Every message was acked or refused in the end."""
    answered = {message_of(record) for record in evidence.of("ack", "refuse")}
    for record in evidence.of("send"):
        if message_of(record) not in answered:
            said = f"{record.client} never heard of {record.id} in {record.session}"
            yield Violation("unanswered", said, evidence.around(message_of(record)))


def order_agrees_with_time(evidence: Evidence) -> Iterator[Violation]:
    """What was acked before another was sent stands before it."""
    sent_at: dict[Message, Record] = {}
    for record in evidence.of("send"):
        sent_at.setdefault(message_of(record), record)
    acks: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.of("ack"):
        acks[record.session].append(record)
    for session, acked in acks.items():
        acked.sort(key=lambda ack: ack.at)
        sends = [(sent_at[message_of(ack)], ack) for ack in acked if message_of(ack) in sent_at]
        waiting, highest = iter(acked), None
        ack = next(waiting, None)
        for send, own in sorted(sends, key=lambda pair: pair[0].at):
            while ack is not None and ack.at < send.at:
                if highest is None or (ack.seq or 0) > (highest.seq or 0):
                    highest = ack
                ack = next(waiting, None)
            if highest is not None and (own.seq or 0) <= (highest.seq or 0):
                said = f"{place(session, own.seq)} was sent after {highest.seq} had been acked"
                yield Violation("time", said, (highest, send, own))


MESSAGES: tuple[Callable[[Evidence], Iterable[Violation]], ...] = (
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
