"""Brings the schema of a database up to date, one half or the other, and says whether it is."""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from store.errors import SchemaRefused, Unavailable
from store.log_postgres.connection import Connection, connect, place_of
from store.log_postgres.faults import translated
from store.log_postgres.options import PostgresOptions
from store.migrate import SQL, Half, Migration, pending_halves, read_migrations

# One migration at a time in a database; the number begins with the bytes of "gate".
_LOCK: Final = 0x6761_7465_0000_0003
# Behind another migration, which may have a large table to read.
WAIT_S: Final = 60
# For a table that is in use. While we wait for it, everybody else waits for us.
TABLE_WAIT_S: Final = 3

_LEDGER: Final = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        number      integer NOT NULL,
        half        text NOT NULL CHECK (half IN ('before', 'after')),
        name        text NOT NULL,
        checksum    text NOT NULL,
        applied_at  timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (number, half)
    )
"""
_RECORD: Final = "INSERT INTO schema_migrations (number, half, name, checksum) VALUES ($1, $2, $3, $4)"
_APPLIED: Final = "SELECT number, half, checksum FROM schema_migrations"


def known_migrations() -> list[Migration]:
    """The migrations of this version, both halves."""
    return read_migrations(SQL / "postgres")


def migrate(url: str, options: PostgresOptions, *, half: Half = "before") -> list[str]:
    """Apply what a database lacks of a half; return the names of what was applied.

    `before` belongs before the first node of this version, `after` behind the last one of an older version.
    Unavailable, SchemaRefused.
    """
    return asyncio.run(migrate_database(url, options, known_migrations(), half))


async def migrate_database(
    url: str, options: PostgresOptions, known: Sequence[Migration], half: Half
) -> list[str]:
    """As `migrate`, with the migrations given."""
    connection = await connect(url, options)
    try:
        with translated():
            return await _apply(connection, known, half)
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.LockNotAvailableError):
            raise Unavailable(
                f"{place_of(url)}: another migration is under way, or a table is in use without a pause: "
                "try again; a file is applied whole or not at all"
            ) from error.__cause__
        raise
    finally:
        connection.terminate()


async def _apply(connection: Connection, known: Sequence[Migration], half: Half) -> list[str]:
    """Apply each file in a transaction of its own; who comes second waits, and finds it done."""
    _check_encoding(connection)
    # What changes a large table takes its time.
    await connection.execute(f"SET statement_timeout = 0; SET lock_timeout = '{WAIT_S}s'")
    # Held for as long as the connection lives.
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    await connection.execute(f"SET lock_timeout = '{TABLE_WAIT_S}s'")
    await connection.execute(_LEDGER)
    todo = pending_halves(known, await _ledger(connection), half)
    for migration in todo:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(_RECORD, migration.number, half, migration.name, migration.checksum)
    return [migration.name for migration in todo]


async def lacking(connection: Connection, half: Half) -> list[str]:
    """The names of what a database lacks of a half. SchemaRefused."""
    _check_encoding(connection)
    # Wherever the search path finds it, as the statements find their tables.
    is_there = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
    applied = await _ledger(connection) if is_there else {}
    if half == "after" and not applied:
        return []
    return [migration.name for migration in pending_halves(known_migrations(), applied, half)]


async def check(connection: Connection) -> None:
    """SchemaRefused: the schema is older than this version needs, or no longer good for it."""
    names = await lacking(connection, "before")
    if names:
        raise SchemaRefused(f"the database lacks {', '.join(names)}: run `gateway migrate`")


def _check_encoding(connection: Connection) -> None:
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise SchemaRefused(
            f"the database is encoded in {encoding} and cannot hold every text: "
            "create it with ENCODING 'UTF8'"
        )


async def _ledger(connection: Connection) -> dict[tuple[int, Half], str]:
    rows = await connection.fetch(_APPLIED)
    return {(number, half): checksum for number, half, checksum in rows}
