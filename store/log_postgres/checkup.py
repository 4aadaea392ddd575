"""Looks at a database without changing it, also under running gateways."""

import asyncio
from dataclasses import dataclass
from typing import Final

from store.log_postgres.connection import connect, place_of
from store.log_postgres.faults import translated
from store.log_postgres.options import PostgresOptions
from store.log_postgres.schema import lacking

_LOOK: Final = """
    SELECT current_setting('server_version'), pg_database_size(current_database()),
        current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
        current_setting('max_connections')::int,
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint
"""


@dataclass(frozen=True)
class PostgresCheckup:
    """What was found. `pending`: for `gateway migrate`; `unfinished`: for `gateway migrate --finish`.

    `is_safe`: it survives a crash of its machine, as `fsync` and `full_page_writes` promise. `clock_ms`: the
    time by its clock.
    """

    place: str
    version: str
    size_bytes: int
    is_safe: bool
    max_connections: int
    clock_ms: int
    pending: tuple[str, ...]
    unfinished: tuple[str, ...]


def examine(url: str, options: PostgresOptions) -> PostgresCheckup:
    """Look at a database. Unavailable, SchemaRefused."""
    return asyncio.run(_examine(url, options))


async def _examine(url: str, options: PostgresOptions) -> PostgresCheckup:
    connection = await connect(url, options)
    try:
        with translated():
            pending = tuple(await lacking(connection, "before"))
            unfinished = () if pending else tuple(await lacking(connection, "after"))
            (row,) = await connection.fetch(_LOOK)
    finally:
        connection.terminate()
    version, size, is_safe, max_connections, clock_ms = row
    return PostgresCheckup(
        place=place_of(url),
        version=version,
        size_bytes=size,
        is_safe=is_safe,
        max_connections=max_connections,
        clock_ms=clock_ms,
        pending=pending,
        unfinished=unfinished,
    )
