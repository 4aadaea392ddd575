"""Every log there is, by name. One more is one more entry; the suites stay as they are."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from store.log import Log
from store.log_sqlite.log import SqliteLog


@asynccontextmanager
async def sqlite_log(folder: Path) -> AsyncIterator[Log]:
    log = SqliteLog(folder)
    await log.start()
    try:
        yield log
    finally:
        await log.close()


LOGS: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Log]]]] = {"sqlite": sqlite_log}
