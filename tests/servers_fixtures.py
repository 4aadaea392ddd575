"""Real servers for whoever asks for one: started once for the run, shared, and never skipped when missing.

Each test uses a database of its own (`postgres_server.database()`) or a key prefix of its own.
"""

from collections.abc import Iterator

import pytest

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisClusterServers, RedisServer


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The installed Postgres, else the packaged one. It does not sync: who needs that starts another."""
    folder = tmp_path_factory.mktemp("postgres")
    with PostgresServer.start(folder, settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database for one test."""
    url = postgres_server.database()
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session")
def redis7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The installed Redis, 7 or newer."""
    with RedisServer.start(tmp_path_factory.mktemp("redis7"), version="installed") as server:
        assert int(server.version_number.split(".")[0]) >= 7, (
            "Redis 7 or newer is needed: apt-get install redis-server"
        )
        yield server


@pytest.fixture(scope="session")
def redis62(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The oldest Redis that is served, from its package."""
    with RedisServer.start(tmp_path_factory.mktemp("redis62"), version="packaged") as server:
        assert server.version_number.startswith("6.2.")
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisClusterServers]:
    """A Redis Cluster of three nodes."""
    with RedisClusterServers.start(tmp_path_factory.mktemp("redis_cluster")) as servers:
        yield servers
