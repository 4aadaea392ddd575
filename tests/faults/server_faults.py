"""What happens to Postgres and Redis, or on the way to them."""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from loadtest.servers.proxy import FaultProxy
from loadtest.servers.redis import RedisServer
from tests.waiting import later

KILLS_S: Final = 0.1


class SubscribersKilled:
    """Every connection that hears hints is killed, and as soon as there are new ones, those."""

    name = "subscribers killed"

    def __init__(self, redis: RedisServer, *, times: int = 10) -> None:
        self._redis = redis
        self._times = times

    async def begin(self) -> None:
        for _ in range(self._times):
            await asyncio.to_thread(self._redis.run, "CLIENT", "KILL", "TYPE", "pubsub")
            await later(KILLS_S)

    async def end(self) -> None:
        """It is over."""


class BlackHole:
    """Nothing passes between any node and a server, and no connection is closed."""

    def __init__(self, server: str, proxies: Sequence[FaultProxy]) -> None:
        self.name = f"black hole before {server}"
        self._proxies = proxies

    async def begin(self) -> None:
        for proxy in self._proxies:
            proxy.black_hole()

    async def end(self) -> None:
        for proxy in self._proxies:
            proxy.heal()


class SlowWay(BlackHole):
    """A round trip takes longer by this."""

    def __init__(self, server: str, proxies: Sequence[FaultProxy], seconds: float) -> None:
        super().__init__(server, proxies)
        self.name = f"{server} later by {seconds * 1000:.0f} ms"
        self._seconds = seconds

    async def begin(self) -> None:
        for proxy in self._proxies:
            proxy.delay(self._seconds / 2)


# Once in a transaction that stores messages, when it commits: its locks are held, and nothing is seen yet.
_SLOW = """
CREATE OR REPLACE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('faults.slept', true) IS DISTINCT FROM txid_current()::text THEN
        PERFORM set_config('faults.slept', txid_current()::text, true);
        PERFORM pg_sleep({seconds});
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow_commits AFTER INSERT ON messages
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit();
"""


class SlowCommits:
    """Every commit of messages takes longer, as on a disk that has a bad day."""

    def __init__(self, database_url: str, seconds: float) -> None:
        self.name = f"commits of {seconds * 1000:.0f} ms"
        self._url = database_url
        self._seconds = seconds

    async def begin(self) -> None:
        await self._run(_SLOW.format(seconds=self._seconds))

    async def end(self) -> None:
        await self._run("DROP TRIGGER IF EXISTS slow_commits ON messages")

    async def _run(self, sql: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


class Exhausted:
    """Somebody else has all the connections that Postgres gives: the nodes lose theirs and get no others."""

    name = "connections exhausted"

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._held: list[asyncpg.Connection] = []

    async def begin(self) -> None:
        await self._take()
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        mine = [connection.get_server_pid() for connection in self._held]
        await self._held[0].execute(f"{sql} AND pid <> ALL (ARRAY{mine})")
        # What has become free; a node may be faster here and there, with the next it is not.
        for _ in range(3):
            await self._take()

    async def _take(self) -> None:
        while True:
            try:
                self._held.append(await asyncpg.connect(self._url))
            except asyncpg.TooManyConnectionsError:
                return

    async def end(self) -> None:
        for connection in self._held:
            connection.terminate()
        self._held.clear()
