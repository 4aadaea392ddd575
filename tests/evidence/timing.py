"""How long things took, from the history alone: no clock here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.evidence.history import Record

Message = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds, summed up. All 0 where there are none."""

    count: int
    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Spread":
        """Sum up; the p-th percentile is the smallest that at least p % do not exceed."""
        ordered = sorted(seconds)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0)

        def rank(percent: int) -> float:
            return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

        return cls(len(ordered), rank(50), rank(99), ordered[-1])

    def __str__(self) -> str:
        ms = [f"{seconds * 1000:.1f}" for seconds in (self.p50, self.p99, self.longest)]
        return f"p50 {ms[0]} ms, p99 {ms[1]} ms, longest {ms[2]} ms of {self.count}"


def _of(record: Record) -> Message:
    return record.session, record.sender or "", record.id or ""


def _first_sent(records: Sequence[Record]) -> dict[Message, Record]:
    sent: dict[Message, Record] = {}
    for record in records:
        if record.op == "send":
            sent.setdefault(_of(record), record)
    return sent


def ack_delays(records: Sequence[Record], begin: float = 0.0, end: float = float("inf")) -> list[float]:
    """From the first sending to the first ack, of what was sent between two moments."""
    sent = _first_sent(records)
    acked: dict[Message, float] = {}
    for record in records:
        if record.op == "ack":
            acked.setdefault(_of(record), record.at)
    return [
        acked[message] - record.at
        for message, record in sent.items()
        if begin <= record.at <= end and message in acked
    ]


def delivery_delays(
    records: Sequence[Record], begin: float = 0.0, end: float = float("inf")
) -> Iterator[float]:
    """From the first sending to a client on another node than its sender's, of what was sent in this time."""
    sent = _first_sent(records)
    nodes: dict[tuple[str, str], str | None] = {}
    at_home: dict[Message, str | None] = {}
    for record in records:
        if record.op == "attach":
            nodes[record.client, record.session] = record.node
        elif record.op == "send":
            at_home.setdefault(_of(record), nodes.get((record.client, record.session)))
        elif record.op == "deliver" and (first := sent.get(_of(record))) is not None:
            is_afar = nodes.get((record.client, record.session)) != at_home.get(_of(record))
            if is_afar and begin <= first.at <= end:
                yield record.at - first.at


def while_(fault: str, records: Sequence[Record]) -> tuple[float, float]:
    """When a fault began and ended, the first time."""
    begin = next(record.at for record in records if record.op == "begin" and record.client == fault)
    ends = (record.at for record in records if record.op == "end" and record.client == fault)
    return begin, next(ends, float("inf"))


def silences(records: Sequence[Record], begin: float, end: float) -> dict[str, float]:
    """For how long each client heard nothing between two moments, at the longest; acks count as hearing."""
    heard: dict[str, float] = {}
    longest: dict[str, float] = {}
    for record in records:
        if record.op == "attach" and record.at <= begin:
            heard.setdefault(record.client, begin)
        elif record.op in ("deliver", "hear", "ack") and begin < record.at < end:
            since = heard.get(record.client, begin)
            longest[record.client] = max(longest.get(record.client, 0.0), record.at - since)
            heard[record.client] = record.at
    for client, since in heard.items():
        longest[client] = max(longest.get(client, 0.0), end - since)
    return longest
