"""Migration 2 on a log that is in use: no event is lost, no id comes twice, older nodes go on."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from loadtest.servers.postgres import PostgresServer
from store.log_postgres.connection import connect
from store.log_postgres.log import PostgresLog
from store.log_postgres.schema import known_migrations, migrate_database
from store.log_sqlite.connection import open_writer
from store.log_sqlite.folder import DATABASE
from store.log_sqlite.log import SqliteLog
from store.log_sqlite.schema import apply
from store.log_sqlite.schema import known_migrations as known_of_sqlite
from tests.store.making import NOW, new_id, opened
from tests.store.postgres_databases import OPTIONS, Databases

SESSION = """
    INSERT INTO sessions (id, tenant_id, user_id, title, kind, exclusive, last_at, created_at, updated_at,
        metadata, context)
    VALUES ('{id}', 't', 'alice', '', 'persistent', {no}, {at}, {at}, {at}, '{{}}', '{{}}')
"""
EVENT = """
    INSERT INTO events (tenant_id, session_id, kind, version, at) VALUES ('t', '{id}', '{kind}', 1, {at})
"""


async def test_a_file_keeps_its_events_and_goes_on_counting(tmp_path: Path) -> None:
    id = new_id()
    with closing(open_writer(tmp_path / DATABASE)) as db:
        apply(db, known_of_sqlite()[:1])
        db.execute(SESSION.format(id=id, no=0, at=NOW))
        for kind in ("created", "updated", "closed", "updated"):
            db.execute(EVENT.format(id=id, kind=kind, at=NOW))
        db.execute("DELETE FROM events WHERE id = 4")
    log = SqliteLog(tmp_path)
    await log.start()
    await opened(log)
    events = await log.events(after=0, limit=10)
    assert [(event.id, event.kind, event.actor) for event in events] == [
        (1, "created", None),
        (2, "updated", None),
        (3, "closed", None),
        (5, "created", "alice"),
    ]
    await log.close()
    with closing(open_writer(tmp_path / DATABASE)) as db:
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(EVENT.format(id=id, kind="expired", at=NOW))
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(EVENT.format(id=id, kind="nonsense", at=NOW))
        assert not db.execute("PRAGMA foreign_key_check").fetchall()


async def test_a_new_file_counts_from_one(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    await log.start()
    await opened(log)
    assert [event.id for event in await log.events(after=0, limit=10)] == [1]
    await log.close()


@pytest.fixture
def server(databases: Databases) -> PostgresServer:
    return databases.server


async def test_a_database_keeps_its_events_and_older_nodes_write_on(server: PostgresServer) -> None:
    url, id, at = server.database(), new_id(), "'2025-06-01'"
    await migrate_database(url, OPTIONS, known_migrations()[:1], "before")
    older = await connect(url, OPTIONS)
    await older.execute(SESSION.format(id=id, no="false", at=at))
    await older.execute(EVENT.format(id=id, kind="created", at=at))
    assert await migrate_database(url, OPTIONS, known_migrations()[:2], "before") == ["0002_outbox.sql"]
    await migrate_database(url, OPTIONS, known_migrations(), "before")
    await older.execute(EVENT.format(id=id, kind="updated", at=at))
    log = PostgresLog(url, OPTIONS)
    await log.start()
    await opened(log)
    events = await log.events(after=0, limit=10)
    assert [(event.kind, event.actor) for event in events] == [
        ("created", None),
        ("updated", None),
        ("created", "alice"),
    ]
    await log.close()
    older.terminate()
    server.drop(url)
