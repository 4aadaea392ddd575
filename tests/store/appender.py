"""A process that appends until it is killed, and says what was acked.

`python -m tests.store.appender FOLDER SEED`
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from store.errors import LimitReached
from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.types import Appended
from tests.store.making import draft, new_session

SESSIONS = 5
WRITERS = 4


async def main(folder: Path, seed: int) -> None:
    log = SqliteLog(folder)
    await log.start()
    for number in range(SESSIONS):
        try:
            await log.create(new_session(id=f"session-{number}"), limit=SESSIONS)
        except LimitReached:
            break
    os.write(1, b"ready\n")
    await asyncio.gather(*(write(log, f"{seed}-{writer}") for writer in range(WRITERS)))


async def write(log: Log, name: str) -> None:
    """Append groups of all sizes. A line is written after its message was acked, never before."""
    chance = random.Random(name)  # noqa: S311
    for turn in range(1_000_000):
        group = [
            draft(
                f"session-{chance.randrange(SESSIONS)}", client_id=f"{name}-{turn}-{place}", content="x" * 300
            )
            for place in range(chance.choice((1, 1, 5, 100)))
        ]
        outcomes = await log.append(group)
        lines = [
            f"{sent.session} {outcome.seq} {sent.client_id}\n"
            for sent, outcome in zip(group, outcomes, strict=True)
            if isinstance(outcome, Appended)
        ]
        os.write(1, "".join(lines).encode())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
