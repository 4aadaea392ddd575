"""Starting the log on Postgres, and who is let in: what is wrong is said, and never a password."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from loadtest.servers.certificates import make_certificates
from loadtest.servers.ports import free_port
from loadtest.servers.postgres import PostgresServer
from store.errors import Unavailable
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from tests.store.making import opened
from tests.store.postgres_databases import OPTIONS, Databases

HASTY: Final = PostgresOptions(connect_timeout_s=1.0)
TERMINATE: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"


@pytest.fixture
def server(databases: Databases) -> PostgresServer:
    return databases.server


@pytest.fixture
async def url(databases: Databases) -> AsyncIterator[str]:
    async with databases.fresh() as url:
        yield url


@asynccontextmanager
async def started(url: str, options: PostgresOptions = OPTIONS) -> AsyncIterator[PostgresLog]:
    log = PostgresLog(url, options)
    await log.start()
    try:
        yield log
    finally:
        await log.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda url: url.replace("gateway:", "gateway:x"), "password authentication failed .* check user"),
        (lambda url: url + "x", 'database "t[0-9a-f]+x" does not exist .*: create the database'),
        (lambda url: url.replace("postgresql://", "mysql://"), "its URL cannot be read: invalid DSN: scheme"),
        (
            lambda url: url.replace("gateway:", "gateway:a/b@c"),
            "special character of the password percent-encoded",
        ),
        (
            lambda url: url + "?sslmode=verify-full&sslrootcert=/nowhere",
            "a file that its URL names .sslrootcert",
        ),
        (lambda url: url + "?no_such_setting=1", 'unrecognized configuration parameter "no_such_setting"'),
    ],
    ids=["password", "database", "scheme", "odd password", "certificate", "setting"],
)
async def test_what_keeps_it_from_starting_is_said_and_no_password(
    server: PostgresServer, url: str, change: Callable[[str], str], told: str
) -> None:
    log = PostgresLog(change(url), HASTY)
    with pytest.raises(Unavailable, match=told) as refused:
        await log.start()
    cause: BaseException | None = refused.value
    while cause is not None:
        assert server.password not in f"{cause!r} {cause}"
        cause = cause.__cause__ or cause.__context__
    with pytest.raises(Unavailable, match="closed"):
        await log.ping()


async def test_a_start_without_a_server_says_where_it_looked() -> None:
    url = f"postgresql://gateway:secret@127.0.0.1:{free_port()}/chat?connect_timeout=3"
    with pytest.raises(Unavailable, match=r"Postgres at 127\.0\.0\.1:\d+/chat cannot be used") as refused:
        await PostgresLog(url, HASTY).start()
    assert "secret" not in str(refused.value)


async def test_a_standby_is_refused_with_advice(server: PostgresServer, url: str) -> None:
    name = url.rpartition("/")[2]
    server.run(
        "CREATE SCHEMA fake; CREATE FUNCTION fake.pg_is_in_recovery() RETURNS boolean RETURN true", name
    )
    with pytest.raises(Unavailable, match="it is a standby and takes no writes: name the primary"):
        await PostgresLog(f"{url}?search_path=fake,pg_catalog,public", HASTY).start()


# -- who is allowed in


async def test_a_changed_password_is_read_from_its_file_for_new_connections(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    role = f"r{url.rpartition('/')[2]}"
    server.run(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'first'")
    without = f"postgresql://{role}@127.0.0.1:{server.port}/{url.rpartition('/')[2]}"
    with pytest.raises(Unavailable, match=r"the password file .*password cannot be read: .*No such file"):
        await PostgresLog(without, PostgresOptions(password_file=file)).start()
    file.write_text("first\n")
    async with started(without, PostgresOptions(password_file=file)) as log:
        session = await opened(log)
        server.run(f"ALTER ROLE {role} PASSWORD 'second'")
        assert await log.get("t", session.id) == session  # whoever is in stays in
        server.run(TERMINATE.format(role=role))
        with pytest.raises(Unavailable, match="check user and password"):
            await log.get("t", session.id)
        file.write_text("second\n")
        assert await log.get("t", session.id) == session
    server.run(f"DROP ROLE {role}")


async def test_tls_is_verified_in_full(tmp_path: Path) -> None:
    settings = {"fsync": "off", "listen_addresses": "127.0.0.1,127.0.0.2"}
    with PostgresServer.start(tmp_path, tls=True, settings=settings) as secure:
        async with Databases(secure).fresh() as url:
            async with started(url) as log:
                await opened(log)
                found = secure.run(
                    "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                    "WHERE application_name = 'session-gateway'"
                )
                assert found == [("t",)]
            other_authority = make_certificates(tmp_path / "other").ca_file
            wrong = {
                url.replace(str(secure.ca_file), str(other_authority)): "certificate verify failed",
                # The certificate names 127.0.0.1 alone.
                url.replace("127.0.0.1", "127.0.0.2"): "certificate verify failed: IP address mismatch",
                url.partition("?")[0] + "?sslmode=disable": "no encryption.* check user, password and pg_hba",
            }
            for there, told in wrong.items():
                with pytest.raises(Unavailable, match=told):
                    await PostgresLog(there, HASTY).start()
