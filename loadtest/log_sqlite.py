"""`python -m loadtest.log_sqlite`: what a durable message costs the SQLite log, one by one and in groups."""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import uuid_utils

from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.types import Draft, NewSession


class Load(NamedTuple):
    """What is measured with."""

    messages: int
    sessions: int
    size: int
    is_random: bool


class Measured(NamedTuple):
    """What a series of calls took."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@click.command()
@click.option("--messages", default=20_000, show_default=True, help="By group; a tenth of it one by one.")
@click.option("--sessions", default=60, show_default=True)
@click.option("--size", default=128, show_default=True, help="Bytes of content.")
@click.option("--groups", default="8,64,256,512", show_default=True, help="Drafts in one append.")
@click.option("--repeats", default=3, show_default=True, help="Rounds on a new database; medians are shown.")
@click.option("--random-ids", "is_random", is_flag=True, help="Client ids without order, instead of UUIDv7.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the databases are made.")
def main(groups: str, repeats: int, folder: Path | None, **load: int) -> None:
    """Measure appends one by one and by the group, and pages of history."""
    sizes = [1, *(int(group) for group in groups.split(","))]
    rounds = [round_of(folder, sizes, Load(**load)) for _ in range(repeats)]  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory(dir=folder) as made:
        click.echo(f"fsync of 4 KiB: {fsync_us(Path(made)):.0f} µs\n")
    click.echo("drafts/append   messages/s   p50 ms   p99 ms   CPU µs/message   to one by one")
    for place, group in enumerate(sizes):
        found = median([each[place] for each in rounds])
        ratio = statistics.median(each[place].per_s / each[0].per_s for each in rounds)
        click.echo(
            f"{group:13}   {found.per_s:10,.0f}   {found.p50_ms:6.2f}   {found.p99_ms:6.2f}   "
            f"{found.cpu_us:14.1f}   {ratio:11.1f} ×"
        )
    found = median([each[-1] for each in rounds])
    click.echo(
        f"\npages of 50: {found.per_s:,.0f}/s, p50 {found.p50_ms:.2f} ms, CPU {found.cpu_us:.0f} µs each"
    )


def round_of(folder: Path | None, groups: list[int], load: Load) -> list[Measured]:
    """Measure every size of group, and last the pages, on a database of their own."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        return asyncio.run(measure(Path(made), groups, load))


async def measure(folder: Path, groups: list[int], load: Load) -> list[Measured]:
    log = SqliteLog(folder)
    await log.start()
    try:
        ids = [await opened(log) for _ in range(load.sessions)]
        drafts = endless(ids, load)
        found = []
        for group in groups:
            count = max(1, load.messages // group // (10 if group == 1 else 1))
            made = [[next(drafts) for _ in range(group)] for _ in range(count)]
            found.append(await timed([partial(log.append, given) for given in made], group))
        reads = [partial(log.read, id, after=0, limit=50) for id in ids * 20]
        return [*found, await timed(reads, 1)]
    finally:
        await log.close()


async def opened(log: Log) -> str:
    new = NewSession(id=str(uuid_utils.uuid7()), tenant="t", owner="alice", created_at=now_ms())
    return (await log.create(new, limit=1_000_000)).id


def endless(sessions: list[str], load: Load) -> Iterator[Draft]:
    """Messages for all sessions in turn."""
    while True:
        for session in sessions:
            yield Draft(
                session=session,
                tenant="t",
                sender="alice",
                id=str(uuid_utils.uuid7()),
                client_id=str(uuid_utils.uuid4() if load.is_random else uuid_utils.uuid7()),
                role="user",
                content="x" * load.size,
                metadata=b"{}",
                created_at=now_ms(),
            )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def median(found: list[Measured]) -> Measured:
    return Measured(*(statistics.median(values) for values in zip(*found, strict=True)))


async def timed(calls: Sequence[Callable[[], Awaitable[object]]], each: int) -> Measured:
    """Make the calls one after the other; `each`: for how many things one of them stands."""
    took: list[float] = []
    cpu, begun = time.process_time(), time.perf_counter()
    for call in calls:
        at = time.perf_counter()
        await call()
        took.append((time.perf_counter() - at) * 1000)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    things = len(calls) * each
    took.sort()
    p99 = took[min(len(took) - 1, len(took) * 99 // 100)]
    return Measured(things / seconds, statistics.median(took), p99, cpu / things * 1e6)


def fsync_us(folder: Path) -> float:
    """What the disk takes to make 4 KiB durable."""
    took: list[float] = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            at = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - at) * 1e6)
    return statistics.median(took)


if __name__ == "__main__":
    main()
