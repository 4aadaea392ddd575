"""The history of a run: what each client did and saw, one JSON object a line."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

# attach: reads on after `seq`. send: gave a message to its client. ack: was told that it is stored as `seq`.
# refuse: was told that it is not. deliver: was handed a message. complete: says that it has everything.
# begin and end are of a fault, whose name stands as `client`: what was done to the servers, not by a client.
Op = Literal["attach", "send", "ack", "refuse", "deliver", "complete", "begin", "end"]

# 200 bytes a record: 400 MB on disk. A longer run is split, not recorded in part.
MAX_RECORDS: Final = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing one client did or saw, at a time on the clock that all clients of the run share.

    `sender` and `id` name a message before it has a seq; `digest` stands for its content. `node` is where it
    is attached, where there is more than one.
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
        self.records.append(record)
        said = {key: value for key, value in asdict(record).items() if value is not None}
        self._file.write(json.dumps(said, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()


def read_history(lines: Iterable[str]) -> list[Record]:
    """Read records back, one a line."""
    return [Record(**json.loads(line)) for line in lines if line.strip()]
