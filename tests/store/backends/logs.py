"""Every log there is, by name. One more is one more entry; the suites stay as they are."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from store.log import Log
from store.log_sqlite.log import SqliteLog
from tests.store.postgres_databases import Databases

OpenLog = Callable[[], AbstractAsyncContextManager[Log]]


@asynccontextmanager
async def sqlite_log() -> AsyncIterator[Log]:
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteLog(Path(folder))
        await log.start()
        try:
            yield log
        finally:
            await log.close()


def _sqlite(request: pytest.FixtureRequest) -> OpenLog:
    return sqlite_log


def _postgres(fixture: str) -> Callable[[pytest.FixtureRequest], OpenLog]:
    def find(request: pytest.FixtureRequest) -> OpenLog:
        databases: Databases = request.getfixturevalue(fixture)
        return databases.log

    return find


LOGS: Final[dict[str, Callable[[pytest.FixtureRequest], OpenLog]]] = {
    "sqlite": _sqlite,
    # The oldest version that is served is the one Debian 12 installs; the other is newer.
    "postgres_installed": _postgres("installed_databases"),
    "postgres_packaged": _postgres("packaged_databases"),
}
