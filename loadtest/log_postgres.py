"""`python -m loadtest.log_postgres`: what a durable message costs on Postgres, one by one and in groups."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, get_args

import click
import psutil
import uuid_utils

from loadtest.append_variants import VARIANTS, Variant, schema_of
from loadtest.log_sqlite import Load, endless, fsync_us, now_ms, opened
from loadtest.servers.binaries import Version
from loadtest.servers.postgres import PostgresServer
from store.log_postgres.connection import connect
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.log_postgres.schema import known_migrations, migrate_database
from store.migrate import Migration
from store.types import Draft

OPTIONS: Final = PostgresOptions()
# How often each variant has its turn with each size of group.
TURNS: Final = 4

_SESSION: Final = """
    INSERT INTO sessions (id, tenant_id, user_id, title, kind, exclusive, last_at, created_at, updated_at,
        metadata, context)
    VALUES ($1, 't', 'alice', '', 'persistent', false, $2, $2, $2, '{}', '{}')
"""
_MEMBER: Final = """
    INSERT INTO members (session_id, user_id, tenant_id, role, since) VALUES ($1, 'alice', 't', 'owner', $2)
"""


class Measured(NamedTuple):
    """What a series of calls took; CPU of this process and of the server, for each message."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    server_us: float


@click.command()
@click.option("--messages", default=20_000, show_default=True, help="By group; a tenth of it one by one.")
@click.option("--sessions", default=60, show_default=True)
@click.option("--size", default=128, show_default=True, help="Bytes of content.")
@click.option("--groups", default="8,64,256,512", show_default=True, help="Drafts in one append.")
@click.option("--repeats", default=5, show_default=True, help="Rounds on new databases; medians are shown.")
@click.option("--random-ids", "is_random", is_flag=True, help="Client ids without order, instead of UUIDv7.")
@click.option("--postgres", default="any", show_default=True, type=click.Choice(get_args(Version)))
@click.option("--variants", "with_variants", is_flag=True, help="Also the other ways that were tried.")
def main(groups: str, repeats: int, postgres: Version, *, with_variants: bool, **load: int) -> None:
    """Measure appends one by one and by the group, and pages of history, on a server that syncs."""
    sizes = [1, *(int(group) for group in groups.split(","))]
    with (
        tempfile.TemporaryDirectory() as made,
        PostgresServer.start(Path(made), version=postgres) as server,
    ):
        click.echo(f"Postgres {server.version_number}; fsync of 4 KiB: {fsync_us(Path(made)):.0f} µs\n")
        bench = Bench(server, Load(**load))  # type: ignore[arg-type]
        rounds = [asyncio.run(bench.the_log(sizes)) for _ in range(repeats)]
        _show_log(sizes, rounds)
        if with_variants:
            turns = [asyncio.run(bench.the_variants(sizes)) for _ in range(repeats)]
            _show_variants(sizes, turns)


class Bench:
    """A server, and what is measured with."""

    def __init__(self, server: PostgresServer, load: Load) -> None:
        self._server = server
        self._load = load
        self._process = psutil.Process(server.pid)

    async def the_log(self, groups: list[int]) -> list[Measured]:
        """Measure the log as the gateway uses it: every size of group, and last the pages."""
        url = await self._database(known_migrations())
        log = PostgresLog(url, OPTIONS)
        await log.start()
        try:
            ids = [await opened(log) for _ in range(self._load.sessions)]
            drafts = endless(ids, self._load)
            found = []
            for group in groups:
                made = [[next(drafts) for _ in range(group)] for _ in range(self._count(group))]
                found.append(await self._timed([partial(log.append, given) for given in made], group))
            reads = [partial(log.read, id, after=0, limit=50) for id in ids * 20]
            return [*found, await self._timed(reads, 1)]
        finally:
            await log.close()
            self._server.drop(url)

    async def the_variants(self, groups: list[int]) -> dict[str, list[Measured]]:
        """Measure all ways to append, each on a connection of its own, in turns of a few groups."""
        stages = [await self._stage(variant) for variant in VARIANTS]
        found: dict[str, list[Measured]] = {stage.name: [] for stage in stages}
        for group in groups:
            turns: dict[str, list[Measured]] = {stage.name: [] for stage in stages}
            for _ in range(TURNS):
                for stage in stages:
                    count = max(1, self._count(group) // TURNS)
                    made = [[next(stage.drafts) for _ in range(group)] for _ in range(count)]
                    calls = [partial(stage.append, given) for given in made]
                    turns[stage.name].append(await self._timed(calls, group))
            for name, measured in turns.items():
                found[name].append(median(measured))
        for stage in stages:
            await stage.close()
        return found

    async def _stage(self, variant: Variant) -> "Stage":
        schema = [
            Migration(known.number, known.name, schema_of(variant, known.sql)) for known in known_migrations()
        ]
        url = await self._database(schema)
        connection = await connect(url, OPTIONS)
        await connection.set_type_codec(
            "json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary"
        )
        ids = [str(uuid_utils.uuid7()) for _ in range(self._load.sessions)]
        for id in ids:
            await connection.execute(_SESSION, id, now_ms())
            await connection.execute(_MEMBER, id, now_ms())
        if variant.prepare:
            await connection.execute(variant.prepare)

        async def close() -> None:
            await connection.close()
            self._server.drop(url)

        return Stage(variant.name, partial(variant.append, connection), endless(ids, self._load), close)

    async def _database(self, schema: list[Migration]) -> str:
        url = self._server.database()
        await migrate_database(url, OPTIONS, schema, "before")
        return url

    def _count(self, group: int) -> int:
        return max(4, self._load.messages // group // (10 if group == 1 else 1))

    async def _timed(self, calls: Sequence[Callable[[], Awaitable[object]]], each: int) -> Measured:
        """Make the calls one after the other; `each`: for how many things one of them stands."""
        took: list[float] = []
        server, cpu, begun = self._server_cpu(), time.process_time(), time.perf_counter()
        for call in calls:
            at = time.perf_counter()
            await call()
            took.append((time.perf_counter() - at) * 1000)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        server = self._server_cpu() - server
        things = len(calls) * each
        took.sort()
        p99 = took[min(len(took) - 1, len(took) * 99 // 100)]
        return Measured(
            things / seconds, statistics.median(took), p99, cpu / things * 1e6, server / things * 1e6
        )

    def _server_cpu(self) -> float:
        total = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
        return total


class Stage(NamedTuple):
    """Where a variant appends."""

    name: str
    append: Callable[[list[Draft]], Awaitable[object]]
    drafts: Iterator[Draft]
    close: Callable[[], Awaitable[None]]


def median(found: list[Measured]) -> Measured:
    return Measured(*(statistics.median(values) for values in zip(*found, strict=True)))


def _show_log(sizes: list[int], rounds: list[list[Measured]]) -> None:
    click.echo("drafts/append   messages/s   p50 ms   p99 ms   CPU µs/message   of Postgres   to one by one")
    for place, group in enumerate(sizes):
        found = median([each[place] for each in rounds])
        ratio = statistics.median(each[place].per_s / each[0].per_s for each in rounds)
        click.echo(
            f"{group:13}   {found.per_s:10,.0f}   {found.p50_ms:6.2f}   {found.p99_ms:6.2f}   "
            f"{found.cpu_us:14.1f}   {found.server_us:11.1f}   {ratio:11.1f} ×"
        )
    found = median([each[-1] for each in rounds])
    click.echo(
        f"\npages of 50: {found.per_s:,.0f}/s, p50 {found.p50_ms:.2f} ms, CPU {found.cpu_us:.0f} µs each, "
        f"of Postgres {found.server_us:.0f} µs"
    )


def _show_variants(sizes: list[int], turns: list[dict[str, list[Measured]]]) -> None:
    """Rates as ratios to ours, of the same turn of the same round."""
    click.echo(
        "\nmessages/s of ours, the others as ratios to it; CPU µs/message here + in Postgres at the end"
    )
    click.echo(f"{'':16}" + "".join(f"{size:>12}" for size in sizes))
    ours = VARIANTS[0].name
    for variant in VARIANTS:
        cells = []
        for place in range(len(sizes)):
            if variant.name == ours:
                cells.append(f"{statistics.median(turn[ours][place].per_s for turn in turns):12,.0f}")
                continue
            ratio = statistics.median(
                turn[variant.name][place].per_s / turn[ours][place].per_s for turn in turns
            )
            cells.append(f"{ratio:10.2f} ×")
        last = median([turn[variant.name][-1] for turn in turns])
        click.echo(f"{variant.name:16}" + "".join(cells) + f"   {last.cpu_us:.1f} + {last.server_us:.1f}")


if __name__ == "__main__":
    main()
