"""Databases for tests, copies of one that was migrated once; nodes on them, and somebody in their way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeVar
from uuid import uuid4

import asyncpg

from loadtest.servers.postgres import PostgresServer
from store.log_postgres.connection import Connection
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.log_postgres.schema import known_migrations, migrate_database
from tests.waiting import until

T = TypeVar("T")

OPTIONS: Final = PostgresOptions()


class Databases:
    """The databases of one server."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._template: str | None = None

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """Make an up-to-date database; its URL. It is dropped in the end, whoever is connected to it."""
        name = f"t{uuid4().hex[:12]}"
        async with self._admin() as admin:
            await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{await self._migrated(admin)}"')
        yield self.server.url(name)
        # Anew: the server may have been restarted meanwhile.
        async with self._admin() as admin:
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Connection]:
        connection = await asyncpg.connect(self.server.url("postgres"))
        try:
            yield connection
        finally:
            await connection.close()

    async def _migrated(self, admin: Connection) -> str:
        if self._template is None:
            name = f"template_{uuid4().hex[:12]}"
            await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
            await migrate_database(self.server.url(name), OPTIONS, known_migrations(), "before")
            self._template = name
        return self._template

    @asynccontextmanager
    async def log(self) -> AsyncIterator[PostgresLog]:
        """Open a log on a database of its own."""
        async with self.fresh() as url:
            log = PostgresLog(url, OPTIONS)
            await log.start()
            try:
                yield log
            finally:
                await log.close()


@asynccontextmanager
async def nodes(url: str, count: int) -> AsyncIterator[list[PostgresLog]]:
    """Logs of several nodes on one database."""
    async with AsyncExitStack() as stack:
        logs = [PostgresLog(url, OPTIONS) for _ in range(count)]
        for log in logs:
            await log.start()
            stack.push_async_callback(log.close)
        yield logs


async def blocked(beside: Connection, call: Awaitable[T]) -> "asyncio.Task[T]":
    """Begin a call that has to wait for a lock which `beside` holds; return when it waits."""
    task = asyncio.ensure_future(call)

    async def waits() -> bool:
        # Within a transaction, what was once read of the activities stays.
        await beside.execute("SELECT pg_stat_clear_snapshot()")
        return bool(
            await beside.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock' AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
            )
        )

    await until(waits)
    return task
