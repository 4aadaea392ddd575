"""Migrations of a database that nodes of several versions share, and the rights that its users need."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from loadtest.servers.postgres import PostgresServer
from store.errors import Invalid, SchemaRefused, Unavailable
from store.log_postgres import schema
from store.log_postgres.checkup import examine
from store.log_postgres.connection import Connection, connect
from store.log_postgres.log import PostgresLog
from store.log_postgres.options import PostgresOptions
from store.log_postgres.schema import known_migrations, migrate, migrate_database
from store.migrate import Half, Migration, pending_halves, read_migrations
from store.search import Search
from store.types import Attendance, Change, Mark
from tests.store.making import NOW, appended, draft, new_id, new_session, opened
from tests.store.postgres_databases import OPTIONS, Databases, blocked

ONE = Migration(1, "0001_one.sql", "CREATE TABLE one (a int); CREATE INDEX one_a ON one (a);")
TWO = Migration(2, "0002_two.sql", "ALTER TABLE one ADD COLUMN b int; CREATE TABLE two (c int);")
TWO_AFTER = Migration(2, "0002_two.after.sql", "ALTER TABLE one DROP COLUMN a;", "after")
THREE = Migration(3, "0003_three.sql", "CREATE TABLE three (d int);")
KNOWN = [ONE, TWO, THREE, TWO_AFTER]

Applied = dict[tuple[int, Half], str]


def applied(*migrations: Migration) -> Applied:
    return {(migration.number, migration.half): migration.checksum for migration in migrations}


# -- the plan


def test_each_half_is_applied_by_itself_in_order() -> None:
    assert pending_halves(KNOWN, {}, "before") == [ONE, TWO, THREE]
    assert pending_halves(KNOWN, applied(ONE), "before") == [TWO, THREE]
    assert pending_halves(KNOWN, applied(ONE, TWO, THREE), "before") == []
    assert pending_halves(KNOWN, applied(ONE, TWO, THREE), "after") == [TWO_AFTER]
    assert pending_halves(KNOWN, applied(*KNOWN), "after") == []


def test_nothing_is_taken_away_before_everything_is_added() -> None:
    with pytest.raises(SchemaRefused, match=r"run `gateway migrate` without --finish"):
        pending_halves(KNOWN, applied(ONE, TWO), "after")


def test_an_older_version_runs_on_a_newer_database_until_that_is_finished() -> None:
    older = [ONE]
    assert pending_halves(older, applied(ONE, TWO, THREE), "before") == []
    with pytest.raises(SchemaRefused, match="serves schema 2 and newer ones, and this version knows 1"):
        pending_halves(older, applied(*KNOWN), "before")
    assert pending_halves([ONE, TWO, TWO_AFTER], applied(*KNOWN), "before") == []


def test_a_changed_half_and_a_gap_are_refused() -> None:
    changed = Migration(2, TWO_AFTER.name, "something else", "after")
    with pytest.raises(SchemaRefused, match=r"0002_two\.after\.sql was changed after it had been applied"):
        pending_halves([ONE, TWO, THREE, changed], applied(*KNOWN), "before")
    with pytest.raises(SchemaRefused, match="lacks a schema version below its own"):
        pending_halves(KNOWN, applied(TWO), "before")


def test_second_halves_belong_to_first_ones(tmp_path: Path) -> None:
    for name in ("0001_one.sql", "0002_two.sql", "0002_two.after.sql"):
        (tmp_path / name).write_text("SELECT 1;")
    found = read_migrations(tmp_path)
    assert [(migration.number, migration.half) for migration in found] == [
        (1, "before"),
        (2, "before"),
        (2, "after"),
    ]
    for wrong in ("0003_three.after.sql", "0002_again.after.sql"):
        (tmp_path / wrong).write_text("SELECT 1;")
        with pytest.raises(ValueError, match="second half"):
            read_migrations(tmp_path)
        (tmp_path / wrong).unlink()


# -- Postgres carries it out


@pytest.fixture
def server(databases: Databases) -> PostgresServer:
    return databases.server


@pytest.fixture
async def empty(server: PostgresServer) -> AsyncIterator[str]:
    """A database with nothing in it."""
    url = server.database()
    yield url
    server.drop(url)


@pytest.fixture
async def beside(empty: str) -> AsyncIterator[Connection]:
    connection = await connect(empty, OPTIONS)
    yield connection
    connection.terminate()


async def tables(db: Connection) -> set[str]:
    rows = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows}


async def test_a_database_goes_through_both_halves(empty: str, beside: Connection) -> None:
    assert await migrate_database(empty, OPTIONS, [ONE], "before") == [ONE.name]
    assert await migrate_database(empty, OPTIONS, KNOWN, "before") == [TWO.name, THREE.name]
    assert await migrate_database(empty, OPTIONS, KNOWN, "before") == []
    await beside.execute("INSERT INTO one (a, b) VALUES (1, 2)")
    assert await migrate_database(empty, OPTIONS, KNOWN, "after") == [TWO_AFTER.name]
    assert await migrate_database(empty, OPTIONS, KNOWN, "after") == []
    assert [tuple(row) for row in await beside.fetch("SELECT * FROM one")] == [(2,)]
    rows = await beside.fetch("SELECT number, half, name FROM schema_migrations ORDER BY applied_at")
    assert [tuple(row) for row in rows] == [(m.number, m.half, m.name) for m in KNOWN]


async def test_of_two_at_once_one_applies_and_the_other_finds_it_done(empty: str, beside: Connection) -> None:
    slow = Migration(1, "0001_slow.sql", "SELECT pg_sleep(0.3); CREATE TABLE one (a int);")
    names = await asyncio.gather(*(migrate_database(empty, OPTIONS, [slow, TWO], "before") for _ in range(4)))
    assert sorted(names, key=len) == [[], [], [], [slow.name, TWO.name]]
    assert await tables(beside) == {"one", "two", "schema_migrations"}


async def test_behind_another_migration_nobody_waits_without_end(
    empty: str, beside: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "WAIT_S", 1)
    async with beside.transaction():
        await beside.execute("SELECT pg_advisory_xact_lock($1)", schema._LOCK)
        with pytest.raises(Unavailable, match="another migration is under way"):
            await migrate_database(empty, OPTIONS, [ONE], "before")
    assert await tables(beside) == set()


async def test_a_table_in_use_holds_up_a_migration_and_not_everybody(
    empty: str, beside: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "TABLE_WAIT_S", 1)
    await migrate_database(empty, OPTIONS, [ONE], "before")
    async with beside.transaction():
        await beside.execute("SELECT * FROM one")
        migrating = await blocked(beside, migrate_database(empty, OPTIONS, [ONE, TWO], "before"))
        with pytest.raises(Unavailable, match="a table is in use without a pause: try again"):
            await migrating
    assert await migrate_database(empty, OPTIONS, [ONE, TWO], "before") == [TWO.name]


async def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stand(
    empty: str, beside: Connection
) -> None:
    bad = Migration(2, "0002_bad.sql", "CREATE TABLE half (a int); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(Unavailable, match='"nowhere" does not exist') as failed:
        await migrate_database(empty, OPTIONS, [ONE, bad], "before")
    assert isinstance(failed.value.__cause__, asyncpg.UndefinedTableError)
    # Nor does one that cannot be recorded.
    unrecordable = Migration(2, "\0", "CREATE TABLE half (a int)")
    with pytest.raises(Invalid):
        await migrate_database(empty, OPTIONS, [ONE, unrecordable], "before")
    assert await tables(beside) == {"one", "schema_migrations"}


async def test_a_gateway_does_not_start_on_a_database_that_lacks_something(
    empty: str, beside: Connection
) -> None:
    log = PostgresLog(empty, OPTIONS)
    for _ in range(2):
        with pytest.raises(SchemaRefused, match=r"lacks 0001_\w+\.sql.*: run `gateway migrate`"):
            await log.start()
    await migrate_database(empty, OPTIONS, known_migrations(), "before")
    await log.start()
    await log.close()


async def test_a_gateway_starts_on_a_newer_database_until_that_is_finished(
    empty: str, beside: Connection
) -> None:
    known = known_migrations()
    number = known[-1].number + 1
    newer = [
        *known,
        Migration(number, f"{number:04}_new.sql", "ALTER TABLE sessions ADD COLUMN colour text"),
        Migration(number, f"{number:04}_new.after.sql", "ALTER TABLE sessions DROP COLUMN voice", "after"),
    ]
    await migrate_database(empty, OPTIONS, newer, "before")
    log = PostgresLog(empty, OPTIONS)
    await log.start()
    session = await opened(log)
    await appended(log, draft(session))
    await log.close()
    await migrate_database(empty, OPTIONS, newer, "after")
    with pytest.raises(SchemaRefused, match="start a newer version"):
        await log.start()


async def test_nodes_go_on_while_a_newer_version_adds_to_the_schema(empty: str) -> None:
    known = known_migrations()
    number = known[-1].number + 1
    await migrate_database(empty, OPTIONS, known, "before")
    log = PostgresLog(empty, OPTIONS)
    await log.start()
    session = await opened(log)
    adding = asyncio.Event()

    async def write() -> int:
        count = 0
        while not adding.is_set() or count < 20:
            (outcome,) = await appended(log, draft(session))
            found = await log.get("t", session.id)
            assert found is not None
            assert found.head == outcome.seq
            count += 1
        return count

    writing = asyncio.create_task(write())
    new = Migration(
        number,
        f"{number:04}_new.sql",
        "ALTER TABLE sessions ADD COLUMN colour text NOT NULL DEFAULT 'blue';"
        "ALTER TABLE messages ADD COLUMN size int; CREATE INDEX later ON messages (created_at);",
    )
    await migrate_database(empty, OPTIONS, [*known, new], "before")
    adding.set()
    head = await writing
    assert (await log.standings([session.id]))[session.id].head == head
    await log.close()


async def test_a_database_in_another_encoding_is_refused(server: PostgresServer) -> None:
    name = f"latin{uuid4().hex[:8]}"
    server.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    with pytest.raises(SchemaRefused, match=r"encoded in LATIN1 .*: create it with ENCODING 'UTF8'"):
        await PostgresLog(server.url(name), OPTIONS).start()
    with pytest.raises(SchemaRefused, match="encoded in LATIN1"):
        await migrate_database(server.url(name), OPTIONS, known_migrations(), "before")
    server.drop(server.url(name))


def test_as_the_commands_use_it(databases: Databases) -> None:
    url = databases.server.database()
    found = examine(url, OPTIONS)
    names = tuple(migration.name for migration in known_migrations() if migration.half == "before")
    assert (found.pending, found.unfinished) == (names, ())
    assert found.place.startswith("Postgres at 127.0.0.1:")
    assert databases.server.password not in found.place
    assert re.match(r"1[5-9]\.", found.version)
    assert (found.is_safe, found.max_connections) == (False, 200)  # fsync is off in tests
    assert tuple(migrate(url, OPTIONS)) == names
    assert migrate(url, OPTIONS) == []
    assert migrate(url, OPTIONS, half="after") == []
    assert examine(url, OPTIONS).pending == ()
    databases.server.drop(url)


# -- rights


async def test_the_documented_rights_are_enough_and_not_too_many(databases: Databases) -> None:
    document = (Path(__file__).parents[2] / "docs" / "postgres.md").read_text("utf-8")
    grants = re.findall(r"^GRANT [^;]+;", document, re.MULTILINE)
    assert grants
    role = f"r{uuid4().hex[:12]}"
    async with databases.fresh() as url:
        name = url.rpartition("/")[2]
        server = databases.server
        server.run(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        for grant in grants:
            server.run(
                grant.replace("gateway_node", role).replace("DATABASE chat", f'DATABASE "{name}"'), name
            )
        log = PostgresLog(f"postgresql://{role}:secret@127.0.0.1:{server.port}/{name}", PostgresOptions())
        await log.start()
        await use_everything(log)
        await log.close()
        node = await asyncpg.connect(f"postgresql://{role}:secret@127.0.0.1:{server.port}/{name}")
        for forbidden in ("DELETE FROM messages", "DROP TABLE messages", "UPDATE messages SET content = ''"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await node.execute(forbidden)
        await node.close()
        with pytest.raises(Unavailable, match="permission denied"):
            await migrate_database(
                f"postgresql://{role}:secret@127.0.0.1:{server.port}/{name}",
                OPTIONS,
                [*known_migrations(), Migration(len(known_migrations()) + 1, "0009_d.sql", THREE.sql)],
                "before",
            )
        server.run(f"DROP OWNED BY {role}", name)
    databases.server.run(f"DROP ROLE {role}")


async def use_everything(log: PostgresLog) -> None:
    """Make one call of every kind, each with an effect."""
    session, over = await opened(log, ttl_s=60, exclusive=True), await opened(log, ttl_s=1)
    sent = draft(session)
    await appended(log, sent, draft(over))
    await appended(log, sent, sent, draft(session))
    await log.read(session.id, after=0, limit=5)
    await log.read_before(session.id, before=9, limit=5)
    await log.standings([session.id])
    await log.tallier([session.id])()
    await log.create(new_session(), limit=9)
    await log.get("t", session.id)
    await log.access("t", session.id, "alice")
    await log.list_for("t", "alice", before=None, limit=5)
    await log.update("t", session.id, Change(title="x"), now=NOW, expected_version=None)
    await log.take_over("t", session.id)
    await log.extend({session.id: NOW + 90_000})
    await log.put_member("t", session.id, "bob", "reader", now=NOW)
    await log.put_member("t", session.id, "bob", "writer", now=NOW)
    await log.remove_member("t", session.id, "bob", now=NOW)
    await log.members(session.id)
    await log.mark([Mark(session=session.id, user="alice", read=1)])
    await log.mark([Mark(session=session.id, user="alice", read=2)])
    await log.cursors(session.id)
    assert len(await log.expire_due(now=NOW + 9_000, limit=5)) == 1
    search = Search(tenant="t", user="alice", terms=("message",), limit=5)
    assert len((await log.search(search)).messages) == 2
    await appended(log, draft(session))
    assert len((await log.search(search)).messages) == 3
    await log.end("t", session.id, "closed", now=NOW)
    joined = Attendance(key=new_id(), tenant="t", session=session.id, user="bob", kind="joined", at=NOW)
    await log.note([joined, joined])
    assert len(await log.events(after=0, limit=50)) == 10
    assert len((await log.events_of("t", after=0, limit=50)).events) == 10
    assert await log.events_behind(1, limit=50) == 9
    assert await log.hold_delivery("n1", delivered=3, lease_ms=1000) == 3
    assert (await log.purge_events(before=NOW + 60_000, now=NOW + 60_000, limit=5)).undelivered == 2
    await log.revoke("t", "bob", before=NOW)
    await log.revocations(after=0, limit=5)
