"""`python -m loadtest.log_sqlite`: what a durable message costs the SQLite log, one by one and in groups."""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import uuid_utils

from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.types import Draft, NewSession


class Measured(NamedTuple):
    """What a series of calls took."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@click.command()
@click.option(
    "--messages", default=20_000, show_default=True, help="Per group size; a tenth of it one by one."
)
@click.option("--sessions", default=60, show_default=True)
@click.option("--size", default=128, show_default=True, help="Bytes of content.")
@click.option("--groups", default="1,8,64,256,512", show_default=True, help="Drafts in one append.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where to make the database; its disk decides."
)
@click.option("--repeats", default=3, show_default=True, help="The best of these counts.")
def main(messages: int, sessions: int, size: int, groups: str, folder: Path | None, repeats: int) -> None:
    """Measure appends by group size, and pages of history."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        click.echo(
            f"fsync of 4 KiB: {fsync_us(Path(made)):.0f} µs   content: {size} B   sessions: {sessions}\n"
        )
        asyncio.run(
            measure(
                Path(made), messages, sessions, size, [int(group) for group in groups.split(",")], repeats
            )
        )


async def measure(
    folder: Path, messages: int, sessions: int, size: int, groups: list[int], repeats: int
) -> None:
    log = SqliteLog(folder)
    await log.start()
    try:
        ids = [await opened(log) for _ in range(sessions)]
        drafts = endless(ids, size)
        click.echo("drafts/append   messages/s   p50 ms   p99 ms   CPU µs/message   to one by one")
        first: Measured | None = None
        for group in groups:
            count = max(1, messages // group // (10 if group == 1 else 1))
            rounds = [await appends(log, drafts, group, count) for _ in range(repeats)]
            best = max(rounds, key=lambda measured: measured.per_s)
            first = first or best
            click.echo(
                f"{group:13}   {best.per_s:10,.0f}   {best.p50_ms:6.2f}   {best.p99_ms:6.2f}   "
                f"{best.cpu_us:14.1f}   {best.per_s / first.per_s:12.1f} ×"
            )
        best = max([await pages(log, ids) for _ in range(repeats)], key=lambda measured: measured.per_s)
        click.echo(
            f"\npages of 50: {best.per_s:,.0f}/s, p50 {best.p50_ms:.2f} ms, CPU {best.cpu_us:.0f} µs each"
        )
    finally:
        await log.close()


async def opened(log: Log) -> str:
    new = NewSession(
        id=str(uuid_utils.uuid7()), tenant="t", owner="alice", created_at=time.time_ns() // 1_000_000
    )
    return (await log.create(new, limit=1_000_000)).id


def endless(sessions: list[str], size: int) -> Iterator[Draft]:
    """Messages for all sessions in turn. Client ids are random ones, as a browser makes them."""
    while True:
        for session in sessions:
            yield Draft(
                session=session,
                tenant="t",
                sender="alice",
                id=str(uuid_utils.uuid7()),
                client_id=str(uuid_utils.uuid4()),
                role="user",
                content="x" * size,
                metadata=b"{}",
                created_at=time.time_ns() // 1_000_000,
            )


async def appends(log: Log, drafts: Iterator[Draft], group: int, count: int) -> Measured:
    made = [[next(drafts) for _ in range(group)] for _ in range(count)]
    return await timed([lambda given=given: log.append(given) for given in made], group)  # type: ignore[misc]


async def pages(log: Log, sessions: list[str]) -> Measured:
    return await timed(
        [lambda id=id: log.read(id, after=0, limit=50) for id in sessions * 20],  # type: ignore[misc]
        1,
    )


async def timed(calls: list[Callable[[], Awaitable[object]]], each: int) -> Measured:
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
