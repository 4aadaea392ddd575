"""What a check sees, and what it says: all records of a run with indexes over them, and violations."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.evidence.history import Op, Record
from tests.evidence.stored import Stored, StoredMessage

Kind = Literal[
    "lost", "ghost", "gap", "twice", "changed", "invented", "order", "incomplete", "unanswered", "time",
    "epoch", "isolation", "terminal", "index", "late",
]  # fmt: skip
Message = tuple[str, str, str]  # session, sender, the sender's id for it

# Shown with a violation; whoever needs more has the file.
SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept, and the records that show it."""

    kind: Kind
    sentence: str
    records: tuple[Record, ...] = ()

    def __str__(self) -> str:
        more = [f"... and {len(self.records) - SHOWN} more"] if len(self.records) > SHOWN else []
        lines = [f"{self.kind}: {self.sentence}", *map(str, self.records[:SHOWN]), *more]
        return "\n    ".join(lines)


@dataclass(frozen=True)
class Evidence:
    """The records of all clients in the order they were made, what is stored, and indexes over both."""

    records: Sequence[Record]
    stored: Stored
    by_place: dict[tuple[str, int], StoredMessage] = field(init=False)
    by_message: dict[Message, list[StoredMessage]] = field(init=False)
    said: dict[Message, list[Record]] = field(init=False)  # sent, acked, refused: by whom it was said

    def __post_init__(self) -> None:
        by_message: dict[Message, list[StoredMessage]] = defaultdict(list)
        for row in self.stored.messages:
            by_message[row.session, row.sender, row.client_id].append(row)
        said: dict[Message, list[Record]] = defaultdict(list)
        for record in self.of("send", "transmit", "ack", "refuse"):
            said[message_of(record)].append(record)
        object.__setattr__(self, "by_message", dict(by_message))
        object.__setattr__(self, "by_place", {(row.session, row.seq): row for row in self.stored.messages})
        object.__setattr__(self, "said", dict(said))

    def of(self, *ops: Op) -> Iterator[Record]:
        """The records of these kinds."""
        return (record for record in self.records if record.op in ops)

    def around(self, message: Message) -> tuple[Record, ...]:
        """What its sender has to say of a message."""
        return tuple(self.said.get(message, ()))


def message_of(record: Record) -> Message:
    """Which message a record speaks of."""
    return (record.session, record.sender or "", record.id or "")


def place(session: str, seq: int | None) -> str:
    return f"{session}#{seq}"
