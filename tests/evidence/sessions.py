"""The promises about sessions, the indexes and healing: each is one function that yields what breaks it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tests.evidence.evidence import Evidence, Message, Violation, message_of, place
from tests.evidence.history import Record

TERMINAL: Final = frozenset({"closed", "expired", "deleted"})


def nobody_writes_under_an_old_epoch(evidence: Evidence) -> Iterator[Violation]:
    """What was first put on the wire under an epoch older than one already held by another is not acked."""
    newest: dict[str, Record] = {}
    tries: dict[Message, list[tuple[Record, Record | None]]] = defaultdict(list)
    for record in evidence.of("attach", "transmit", "ack"):
        if record.op == "attach":
            known = newest.get(record.session)
            if record.epoch is not None and (known is None or record.epoch > (known.epoch or 0)):
                newest[record.session] = record
        elif record.op == "transmit":
            tries[message_of(record)].append((record, newest.get(record.session)))
        else:
            under = tries.pop(message_of(record), [])
            if under and all(_is_stale(sent, by) for sent, by in under):
                sent, by = under[0]
                said = (
                    f"{record.id} was acked as {place(record.session, record.seq)} under epoch {sent.epoch}"
                )
                held = f"when {by.client} held {by.epoch}" if by is not None else ""
                yield Violation("epoch", f"{said}, {held}", (*([by] if by else []), sent, record))


def _is_stale(sent: Record, newest: Record | None) -> bool:
    """Whether another client was known to hold a newer epoch when this was put on the wire."""
    is_newer = newest is not None and (newest.epoch or 0) > (sent.epoch or 0)
    return is_newer and newest is not None and newest.client != sent.client


def epochs_only_grow(evidence: Evidence) -> Iterator[Violation]:
    """In the order of seqs, the epochs under which messages were written never go back."""
    tries: dict[Message, list[Record]] = defaultdict(list)
    for record in evidence.of("transmit"):
        tries[message_of(record)].append(record)
    present: dict[str, Record] = {}
    for row in sorted(evidence.stored.messages, key=lambda row: (row.session, row.seq)):
        sent = tries.get((row.session, row.sender, row.client_id))
        if sent is None:
            continue
        newest = present.get(row.session)
        floor = 0 if newest is None else newest.epoch or 0
        fitting = [record for record in sent if (record.epoch or 0) >= floor]
        if fitting:
            present[row.session] = min(fitting, key=lambda record: record.epoch or 0)
        elif newest is not None and newest.client != row.sender:
            said = (
                f"{place(row.session, row.seq)} was written under an older epoch than what stands before it"
            )
            yield Violation("epoch", said, (newest, *sent))


def nothing_reaches_strangers(evidence: Evidence) -> Iterator[Violation]:
    """Whatever a client is given of a session, it is a member there; it was meant for it."""
    members = {(record.session, record.client) for record in evidence.of("member")}
    closed = {session for session, _ in members}
    for record in evidence.of("attach", "deliver", "hear"):
        if record.session in closed and (record.session, record.client) not in members:
            said = f"{record.client} is no member of {record.session} and was given {record.op} of it"
            yield Violation("isolation", said, (record,))
    for record in evidence.of("stray"):
        yield Violation("isolation", record.what or "", (record,))


def a_session_ends_once(evidence: Evidence) -> Iterator[Violation]:
    """Each ended session has one terminal event, that of its end; what lives has none.

    Nobody is told twice.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    shown: dict[tuple[str, str | None, str], list[Record]] = defaultdict(list)
    told = {record.session: record for record in evidence.of("head")}
    events = [record for record in evidence.of("event") if record.what in TERMINAL]
    for record in events:
        found[record.session].append(record)
    kinds: dict[str, list[str]] = defaultdict(list)
    for session, kind in evidence.stored.events:
        if kind in TERMINAL:
            kinds[session].append(kind)
    for session in evidence.stored.heads:
        end = evidence.stored.ends.get(session)
        if kinds[session] != ([] if end is None else [end]):
            said = f"{session} ended as {end}, and its terminal events are {kinds[session]}"
            head = [told[session]] if session in told else []
            yield Violation("terminal", said, (*head, *found[session]))
    for record in evidence.of("hear"):
        if record.what in TERMINAL:
            shown[record.client, record.connection, record.session].append(record)
    for (client, _, session), heard in shown.items():
        if len(heard) > 1:
            yield Violation(
                "terminal", f"{client} was told {len(heard)} times of the end of {session}", tuple(heard)
            )


def indexes_are_true(evidence: Evidence) -> Iterator[Violation]:
    """At the end the indexes say who is there, and nothing else."""
    for record in evidence.of("index"):
        if record.what is not None:
            yield Violation("index", record.what, (record,))


def faults_heal(evidence: Evidence, within_s: float) -> Iterator[Violation]:
    """After each fault, nobody notices it any more within this time."""
    ended: dict[str, Record] = {}
    for record in evidence.of("end", "heal"):
        if record.op == "end":
            ended[record.client] = record
            continue
        end = ended.pop(record.client, None)
        if end is not None and record.at - end.at > within_s:
            said = (
                f"{record.client} was over for {record.at - end.at:.1f} s before nobody noticed it any more"
            )
            yield Violation("late", said, (end, record))
    for end in ended.values():
        yield Violation("late", f"{end.client} has not healed", (end,))


SESSIONS: tuple[Callable[[Evidence], Iterable[Violation]], ...] = (
    nobody_writes_under_an_old_epoch,
    epochs_only_grow,
    nothing_reaches_strangers,
    a_session_ends_once,
    indexes_are_true,
)
