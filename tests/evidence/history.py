"""The history of a run, one JSON object a line: what clients did and saw, and at its end what is stored."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

# Of a client. member: may be in the session. attach: reads on after `seq`. send: gave a message to its
# client. transmit: put it on the wire, under the epoch it held (exclusive sessions only). ack: was told that
# it is stored as `seq`. refuse: was told that it is not. deliver: was handed a message. hear: was handed
# anything else of the session, `what` says what. complete: says that it has everything. stray: noticed by
# itself what was never meant for it.
# Of a fault, whose name stands as `client`: begin, end (it is undone), heal (nobody notices it any more).
# Of the run, read beside the gateway when all is over: stored (one message), head (of a session; `what`: how
# it ended, if it has), event (of the outbox; `what`: its kind), index (`what` is untrue; none: all is true).
Op = Literal[
    "member", "attach", "send", "transmit", "ack", "refuse", "deliver", "hear", "complete", "stray",
    "begin", "end", "heal", "stored", "head", "event", "index",
]  # fmt: skip

# 200 bytes a record: 400 MB on disk. A longer run is split, not recorded in part.
MAX_RECORDS: Final = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing one client did or saw, at a time on the clock that all clients of the run share.

    `sender` and `id` name a message before it has a seq; `digest` stands for its content. `node` is where it
    is attached, `connection` by which of its sockets; `line` where it stands in the file.
    """

    client: str
    op: Op
    at: float
    session: str
    seq: int | None = None
    sender: str | None = None
    id: str | None = None
    digest: str | None = None
    node: str | None = None
    connection: str | None = None
    epoch: int | None = None
    what: str | None = None
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        where = f"{self.session}#{self.seq}" if self.seq is not None else self.session
        said = {"id": self.id, "epoch": self.epoch, "node": self.node, "what": self.what}
        more = "".join(f" {name}={value}" for name, value in said.items() if value is not None)
        return f"line {self.line}: {self.at:.3f} {self.client} {self.op} {where}{more}"


def digest(role: str, content: str, metadata: Mapping[str, Any]) -> str:
    """Sum up what a message says; equal for equal messages, however their JSON is printed."""
    canonical = json.dumps(
        [role, content, metadata], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.blake2b(canonical.encode(), digest_size=12).hexdigest()


class History:
    """Records in the order they were made, in memory and in a file.

    Bound: `max_records`; one more is an error, because a history with a hole proves nothing.
    """

    def __init__(self, path: Path, *, max_records: int = MAX_RECORDS) -> None:
        self.records: list[Record] = []
        self._max_records = max_records
        self._file = path.open("w", encoding="utf-8")

    def add(self, record: Record) -> None:
        """Add a record. OverflowError at the bound."""
        if len(self.records) >= self._max_records:
            raise OverflowError(f"the history is full at {self._max_records} records")
        self.records.append(replace(record, line=len(self.records) + 1))
        said = {key: value for key, value in asdict(record).items() if value is not None and key != "line"}
        self._file.write(json.dumps(said, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()


def read_history(lines: Iterable[str]) -> list[Record]:
    """Read records back, one a line."""
    return [
        Record(**json.loads(line), line=number) for number, line in enumerate(lines, start=1) if line.strip()
    ]
