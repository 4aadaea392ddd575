"""Servers of a test's own, where it does something to them, and a migrated database for each."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer
from tests.cluster.world import Ground
from tests.process import ROOT


def name_of(url: str) -> str:
    """The database in a URL."""
    return url.rpartition("/")[2].partition("?")[0]


def migrated(server: PostgresServer) -> str:
    """Make a database with the schema in it, by the command that an operator uses; its name."""
    url = server.database()
    subprocess.run(
        [sys.executable, "-m", "gateway", "migrate"],
        cwd=ROOT,
        env={"GATEWAY_DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        timeout=60,
    )
    return name_of(url)


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer) -> str:
    """A migrated database that nobody is connected to."""
    return migrated(postgres_server)


@pytest.fixture
def database(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    """A migrated database of the test's own; its URL."""
    url = postgres_server.database(template=template)
    yield url
    postgres_server.drop(url)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed, flushed and paused."""
    with RedisServer.start(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def ground(database: str, redis: RedisServer) -> Ground:
    """What three nodes stand on."""
    return Ground(database, redis.url)


@pytest.fixture(scope="session")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A Postgres as it is shipped, which may be stopped and killed; whoever does so starts it again."""
    with PostgresServer.start(tmp_path_factory.mktemp("mortal")) as server:
        yield server


@pytest.fixture(scope="session")
def mortal_template(mortal: PostgresServer) -> str:
    """A migrated database on it."""
    return migrated(mortal)


@pytest.fixture
def mortal_ground(mortal: PostgresServer, mortal_template: str, redis: RedisServer) -> Iterator[Ground]:
    """Ground whose Postgres may go away as well."""
    url = mortal.database(template=mortal_template)
    yield Ground(url, redis.url)
    mortal.drop(url)
