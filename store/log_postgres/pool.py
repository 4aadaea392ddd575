"""Connections that wait to be used.

The driver's own pool sends a query with each return, and waits without limit for a statement that was given
up; here such a connection is thrown away.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from store.errors import StoreError
from store.log_postgres.connection import Connection
from store.log_postgres.faults import is_of_connection

# In order, so that the server does not log a broken connection for each; one that does not answer is dropped.
_CLOSE_S: Final = 1.0


class Pool:
    """Connections, opened when they are needed; the last used is the first used again.

    How many are in use at a time is its user's to limit; no more than were in use at a time are kept.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._idle: list[Connection] = []

    @property
    def idle(self) -> int:
        """Connections that wait."""
        return len(self._idle)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. It is kept only if it is whole and in no transaction afterwards.

        One that was lost is seldom alone: those that wait are as old, and go too.
        """
        connection = self._take() or await self._connect()
        try:
            yield connection
        except BaseException as error:
            if isinstance(error, Exception) and is_of_connection(error):
                connection.terminate()
                self.drop()
            elif not isinstance(error, Exception):
                # Cancelled in the middle of a statement, whose answer may still come.
                connection.terminate()
            else:
                self._put(connection)
            raise
        self._put(connection)

    def drop(self) -> None:
        """Throw away what waits."""
        while self._idle:
            self._idle.pop().terminate()

    async def close(self) -> None:
        """Say goodbye on all connections that wait."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_close(connection) for connection in idle))

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None

    def _put(self, connection: Connection) -> None:
        if connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)


async def _close(connection: Connection) -> None:
    with contextlib.suppress(StoreError, OSError, TimeoutError):
        await connection.close(timeout=_CLOSE_S)
