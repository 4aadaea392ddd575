"""Databases for tests: each a copy of one that was migrated once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import asyncpg

from loadtest.servers.postgres import PostgresServer
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.log_postgres.schema import known_migrations, migrate_database

OPTIONS: Final = PostgresOptions()


class Databases:
    """The databases of one server."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._template: str | None = None

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """Make an up-to-date database; its URL. It is dropped in the end, whoever is connected to it."""
        admin = await asyncpg.connect(self.server.url("postgres"))
        try:
            name = f"t{uuid4().hex[:12]}"
            await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{await self._migrated(admin)}"')
            yield self.server.url(name)
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        finally:
            await admin.close()

    async def _migrated(self, admin: "asyncpg.Connection[asyncpg.Record]") -> str:
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
