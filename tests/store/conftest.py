"""The suites of the stores, over every backend that stands in tests/store/backends."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.cache import Cache
from store.live import Live
from store.log import Log
from store.log_sqlite.log import SqliteLog
from store.records import Records
from tests.store.backends.buses import BUSES, MANY_NODES, OpenBus
from tests.store.backends.caches import CACHES
from tests.store.backends.least import LeastRedis
from tests.store.backends.lives import LIVES
from tests.store.backends.logs import LOGS, OpenLog
from tests.store.backends.timed import Timed
from tests.store.nodes import Bench
from tests.store.postgres_databases import Databases


@pytest.fixture(scope="session")
def installed_databases(postgres_server: PostgresServer) -> Databases:
    return Databases(postgres_server)


@pytest.fixture(scope="session")
def packaged_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    folder = tmp_path_factory.mktemp("postgres_packaged")
    with PostgresServer.start(folder, version="packaged", settings={"fsync": "off"}) as server:
        yield Databases(server)


@pytest.fixture(params=["installed", "packaged"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """Of each version of Postgres there is here."""
    found: Databases = request.getfixturevalue(f"{request.param}_databases")
    return found


@pytest.fixture(params=LOGS)
def open_log(request: pytest.FixtureRequest) -> OpenLog:
    return LOGS[request.param](request)


@pytest.fixture
async def log(open_log: OpenLog) -> AsyncIterator[Log]:
    async with open_log() as opened:
        yield opened


@pytest.fixture(params=LIVES)
async def timed_live(request: pytest.FixtureRequest) -> AsyncIterator[Timed[Live]]:
    async with LIVES[request.param](request) as opened:
        yield opened


@pytest.fixture
def live(timed_live: Timed[Live]) -> Live:
    return timed_live.store


@pytest.fixture(params=CACHES)
async def timed_cache(request: pytest.FixtureRequest) -> AsyncIterator[Timed[Cache]]:
    async with CACHES[request.param](request) as opened:
        yield opened


@pytest.fixture
def cache(timed_cache: Timed[Cache]) -> Cache:
    return timed_cache.store


@pytest.fixture(params=BUSES)
def open_bus(request: pytest.FixtureRequest) -> OpenBus:
    return BUSES[request.param](request)


@pytest.fixture(params=MANY_NODES)
def open_node(request: pytest.FixtureRequest) -> OpenBus:
    """Opens the bus of one node more, each time."""
    return MANY_NODES[request.param](request)


@pytest.fixture(scope="session")
def redis_cluster62(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisClusterServers]:
    """A Redis Cluster without sharded pub/sub."""
    folder = tmp_path_factory.mktemp("redis_cluster62")
    with RedisClusterServers.start(folder, version="packaged") as servers:
        yield servers


@pytest.fixture(scope="session")
def redis_least(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeastRedis]:
    """A Redis that speaks TLS only, for users who may do no more than the documents say."""
    folder = tmp_path_factory.mktemp("redis_least")
    with RedisServer.start(folder, version="installed", tls=True) as server:
        yield LeastRedis(server)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    log = SqliteLog(tmp_path)
    await log.start()
    bench = Bench(log)
    yield bench
    bench.log.asking.set()
    bench.log.answering.set()
    await bench.close()
    await log.close()


@pytest.fixture
def records(bench: Bench) -> Records:
    return bench.node()
