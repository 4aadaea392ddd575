"""`python -m loadtest.search`: what a search costs, on both logs, beside reading everything."""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import click
import uuid_utils

from loadtest.log_sqlite import now_ms, opened
from loadtest.servers.postgres import PostgresServer
from store.log import Log
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.log_postgres.schema import known_migrations, migrate_database
from store.log_sqlite.log import SqliteLog
from store.matching import is_match, terms_of
from store.search import Search
from store.types import Draft

_GROUP: Final = 512
_TURNS: Final = 15
# Words by rank are as frequent as in any language; every tenth message is Chinese.
_LETTERS: Final = "etaoinshrdlcumwfgypbvk"


@click.command()
@click.option("--messages", default=60_000, show_default=True)
@click.option("--sessions", default=200, show_default=True, help="All of one user's.")
@click.option("--words", default=22, show_default=True, help="In a message.")
def main(**load: int) -> None:
    """Fill a log, index it by searching, and measure searches in one session and in all."""
    with tempfile.TemporaryDirectory() as folder, PostgresServer.start(Path(folder)) as server:
        url = server.database()
        asyncio.run(migrate_database(url, PostgresOptions(), known_migrations(), "before"))
        logs: list[Log] = [SqliteLog(Path(folder) / "data"), PostgresLog(url, _options())]
        for log in logs:
            click.echo(f"\n{type(log).__name__}")
            asyncio.run(measure(log, **load))
        size = "SELECT pg_total_relation_size('messages'), pg_total_relation_size('search_blocks')"
        click.echo(f"bytes of messages and of the index: {server.run(size, url.rpartition('/')[2])}")


def _options() -> PostgresOptions:
    return PostgresOptions(statement_timeout_s=60)


async def measure(log: Log, messages: int, sessions: int, words: int) -> None:
    await log.start()
    try:
        ids = [await opened(log) for _ in range(sessions)]
        texts = _texts(messages, words)
        began = time.perf_counter()
        for first in range(0, messages, _GROUP):
            part = enumerate(texts[first : first + _GROUP], first)
            await log.append([_draft(ids[n % sessions], text) for n, text in part])
        click.echo(f"appended {messages / (time.perf_counter() - began):,.0f}/s")
        began, cpu, calls = time.perf_counter(), time.process_time(), 1
        while (await log.search(_search("unheard"))).before is not None:
            calls += 1
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        click.echo(
            f"indexed {messages / took:,.0f}/s in {calls} calls, {cpu / messages * 1e6:.0f} µs of CPU here"
        )
        rare, usual = texts[messages // 3].split()[0], texts[0].split()[-1]
        for query in ("unheard", rare, usual, "e", "我", "世界", f'"{usual} {rare}"'):
            for session in (ids[0], None):
                await _report(log, query, session)
        all_ms = await _median(lambda: _read_all(log, ids, terms_of(rare)), 1)
        click.echo(f"reading everything instead: {all_ms:,.0f} ms")
        await log.append([_draft(id, "something new") for id in ids])
        began = time.perf_counter()
        await log.search(_search("something new"))
        click.echo(f"after one message more in each session: {(time.perf_counter() - began) * 1e3:.0f} ms")
    finally:
        await log.close()


async def _report(log: Log, query: str, session: str | None) -> None:
    found = await log.search(_search(query, session))
    took = await _median(lambda: log.search(_search(query, session)), _TURNS)
    more = "" if found.before is None else " and more"
    where = "all" if session is None else "one"
    click.echo(f"{query:>24} in {where}: {took:7.1f} ms, {len(found.messages)}{more}")


def _search(query: str, session: str | None = None) -> Search:
    return Search(tenant="t", user="alice", terms=terms_of(query), limit=20, session=session)


async def _read_all(log: Log, ids: list[str], terms: tuple[str, ...]) -> None:
    for id in ids:
        after = 0
        while page := await log.read(id, after=after, limit=1000):
            after = page[-1].seq
            for message in page:
                is_match(message.content, terms)


async def _median(call: Callable[[], Awaitable[object]], turns: int) -> float:
    took = []
    for _ in range(turns):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def _texts(count: int, words: int) -> list[str]:
    chance = random.Random(7)  # noqa: S311
    known = ["".join(chance.choices(_LETTERS, k=chance.randint(2, 9))) for _ in range(20_000)]
    signs = [chr(0x4E00 + n) for n in range(3_000)] + list("我世界你好")
    weights = [1 / (rank + 3) for rank in range(20_000)]
    drawn = iter(chance.choices(known, weights, k=count * words))
    texts = []
    for number in range(count):
        text = " ".join(next(drawn) for _ in range(words))
        texts.append("".join(chance.choices(signs, k=3 * words)) if number % 10 == 9 else text)
    return texts


def _draft(session: str, content: str) -> Draft:
    return Draft(
        session=session,
        tenant="t",
        sender="alice",
        id=str(uuid_utils.uuid7()),
        client_id=str(uuid_utils.uuid7()),
        role="user",
        content=content,
        metadata=b"{}",
        created_at=now_ms(),
    )


if __name__ == "__main__":
    main()
