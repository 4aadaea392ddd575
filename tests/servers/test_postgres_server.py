"""The Postgres of the tests: its data outlive a kill, and it is gone when its owner wants it gone."""

import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from loadtest.servers.account import leave
from loadtest.servers.binaries import Version
from loadtest.servers.child import ServerFailed
from loadtest.servers.postgres import PostgresServer
from tests.servers.processes import is_alive


@pytest.fixture(params=["installed", "packaged"])
def postgres(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PostgresServer]:
    version: Version = request.param
    with PostgresServer.start(tmp_path, version=version) as server:
        yield server


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """A folder whose data outlive their servers, but not the test."""
    yield tmp_path
    leave(tmp_path / "postgres")


def database_of(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


async def test_a_new_database_is_empty_and_its_url_lets_in(postgres: PostgresServer) -> None:
    url = postgres.database()
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert tables == []
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await connection.close()


def test_what_was_committed_is_there_again_after_a_kill(postgres: PostgresServer) -> None:
    database = database_of(postgres.database())
    postgres.run("CREATE TABLE kept (x text)", database)
    postgres.run("INSERT INTO kept VALUES ('a,b'), (NULL), ('')", database)
    port, backends = postgres.port, psutil.Process(postgres.pid).children()
    assert backends
    postgres.kill()
    assert not postgres.is_running
    assert not [backend for backend in backends if is_alive(backend)]
    postgres.again()
    assert postgres.port == port
    assert postgres.run("SELECT x FROM kept ORDER BY x NULLS LAST", database) == [("",), ("a,b",), ("",)]


def test_a_stop_ends_it_and_again_brings_it_back(postgres: PostgresServer) -> None:
    postgres.run("CREATE DATABASE there")
    postgres.stop()
    assert not postgres.is_running
    with pytest.raises(ServerFailed, match="onnection"):
        postgres.run("SELECT 1")
    postgres.again()
    assert postgres.run("SELECT 1", "there") == [("1",)]


def test_what_sql_says_of_a_mistake_is_told(postgres_server: PostgresServer) -> None:
    with pytest.raises(ServerFailed, match='relation "nothing" does not exist'):
        postgres_server.run("SELECT * FROM nothing")


def test_a_database_can_be_copied_and_dropped_while_somebody_is_connected(
    postgres_server: PostgresServer,
) -> None:
    template = postgres_server.database()
    postgres_server.run("CREATE TABLE made_once ()", database_of(template))
    copy = postgres_server.database(template=database_of(template))
    assert postgres_server.run("SELECT count(*) FROM made_once", database_of(copy)) == [("0",)]
    for url in (template, copy):
        postgres_server.drop(url)
    left = {name for (name,) in postgres_server.run("SELECT datname FROM pg_database")}
    assert not {database_of(template), database_of(copy)} & left


async def test_nobody_gets_in_without_the_password(postgres_server: PostgresServer) -> None:
    url = postgres_server.url("postgres").replace(postgres_server.password, "guessed")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url)


async def test_with_tls_it_is_known_by_its_authority_and_serves_nobody_in_the_clear(tmp_path: Path) -> None:
    with PostgresServer.start(tmp_path, tls=True) as server:
        connection = await asyncpg.connect(server.database())
        try:
            assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        finally:
            await connection.close()
        plain = server.url("postgres").partition("?")[0]
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(plain, ssl=False)


def test_closing_removes_its_data_and_keeping_keeps_them(kept: Path) -> None:
    with PostgresServer.start(kept, keep=True) as server:
        home = (kept / "postgres").resolve()
        server.run("CREATE DATABASE mine")
    assert home.exists()
    with PostgresServer.start(kept) as server:
        assert server.run("SELECT 1", "mine") == [("1",)]
        assert server.run("SELECT 1 WHERE false", "mine") == []
    assert not home.exists()
    assert not os.path.lexists(kept / "postgres")


def test_two_servers_never_run_on_the_same_data(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.servers.postgres._KILLED_WITHIN_S", 0.1)
    with PostgresServer.start(kept, keep=True) as first:
        with pytest.raises(ServerFailed, match=f"Another Postgres, pid {first.pid}, runs on"):
            PostgresServer.start(kept, keep=True)
        assert first.run("SELECT 1") == [("1",)]
        # After a kill its pid stands there still, and may be anybody's.
        first.kill()
        left = kept.joinpath("postgres").resolve() / "data" / "postmaster.pid"
        left.write_text(left.read_text().replace(left.read_text().split()[0], str(os.getpid()), 1))
        first.again()


def test_data_of_another_version_are_not_touched(kept: Path) -> None:
    with PostgresServer.start(kept, version="packaged", keep=True) as server:
        made_by = server.version_number.split(".")[0]
    with pytest.raises(ServerFailed, match=f"was made by Postgres {made_by}, and this is"):
        PostgresServer.start(kept, version="installed", keep=True)
    with PostgresServer.start(kept, version="packaged", keep=True) as server:
        assert server.run("SELECT 1") == [("1",)]


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match='unrecognized configuration parameter "no_such_setting"'):
        PostgresServer.start(tmp_path, settings={"no_such_setting": "1"})
    assert not os.path.lexists(tmp_path / "postgres")
