"""Migrations: each once, in order, whole or not at all; what does not fit is refused with advice."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from store import open as stores
from store.errors import SchemaRefused, Unavailable
from store.log_sqlite.connection import open_writer
from store.log_sqlite.folder import FolderLock
from store.log_sqlite.schema import apply, known_migrations
from store.migrate import SQL, Migration, pending, read_migrations

ONE = Migration(1, "0001_one.sql", "CREATE TABLE one (a); CREATE INDEX one_a ON one (a);")
TWO = Migration(
    2, "0002_two.sql", "-- A comment; with a semicolon.\nALTER TABLE one ADD COLUMN b;\nCREATE TABLE two (c)"
)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_writer(tmp_path / "gateway.db")) as db:
        yield db


def tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


# -- the plan


def test_what_is_not_applied_is_pending_in_order() -> None:
    assert pending([ONE, TWO], {}) == [ONE, TWO]
    assert pending([ONE, TWO], {1: ONE.checksum}) == [TWO]
    assert pending([ONE, TWO], {1: ONE.checksum, 2: TWO.checksum}) == []


def test_a_newer_database_is_refused() -> None:
    with pytest.raises(
        SchemaRefused, match="at schema 3 and this version knows 2: start the version that made it"
    ):
        pending([ONE, TWO], {1: ONE.checksum, 2: TWO.checksum, 3: "x"})


def test_a_file_that_was_changed_after_it_had_been_applied_is_refused() -> None:
    with pytest.raises(
        SchemaRefused, match=r"0001_one\.sql was changed after it had been applied: restore the file"
    ):
        pending([ONE, TWO], {1: TWO.checksum})


def test_a_database_with_a_gap_is_refused() -> None:
    with pytest.raises(SchemaRefused, match="lacks a schema version"):
        pending([ONE, TWO], {2: TWO.checksum})


# -- the files


def test_our_own_files_are_numbered_and_named() -> None:
    known = known_migrations()
    assert [migration.number for migration in known] == list(range(1, len(known) + 1))
    for folder in SQL.iterdir():
        assert read_migrations(folder)


@pytest.mark.parametrize(
    "names", [["0002_b.sql"], ["0001_a.sql", "0003_c.sql"], ["0001_a.sql", "0001_b.sql"]]
)
def test_numbers_without_order_are_a_mistake(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(ValueError, match="not numbered"):
        read_migrations(tmp_path)


@pytest.mark.parametrize("name", ["1_a.sql", "0001-a.sql", "notes.md", "0001_a.sql~"])
def test_anything_else_in_the_folder_is_a_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=re.escape(name)):
        read_migrations(tmp_path)


# -- SQLite carries it out


def test_a_fresh_database_gets_everything_and_a_second_run_nothing(db: sqlite3.Connection) -> None:
    assert apply(db, [ONE, TWO]) == ["0001_one.sql", "0002_two.sql"]
    assert tables(db) == {"one", "two", "schema_migrations"}
    assert apply(db, [ONE, TWO]) == []
    rows = db.execute("SELECT number, name, checksum, applied_at > 0 FROM schema_migrations").fetchall()
    assert rows == [(1, ONE.name, ONE.checksum, 1), (2, TWO.name, TWO.checksum, 1)]


def test_an_older_database_gets_what_it_lacks_and_keeps_what_it_has(db: sqlite3.Connection) -> None:
    apply(db, [ONE])
    db.execute("INSERT INTO one VALUES ('kept')")
    assert apply(db, [ONE, TWO]) == ["0002_two.sql"]
    assert db.execute("SELECT * FROM one").fetchall() == [("kept", None)]


def test_a_migration_that_fails_leaves_nothing_and_those_before_it_stand(db: sqlite3.Connection) -> None:
    bad = Migration(2, "0002_bad.sql", "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        apply(db, [ONE, bad])
    assert not db.in_transaction
    assert tables(db) == {"one", "schema_migrations"}
    assert apply(db, [ONE, TWO]) == ["0002_two.sql"]


def test_a_database_that_is_refused_is_not_touched(db: sqlite3.Connection) -> None:
    apply(db, [ONE, TWO])
    changed = Migration(1, ONE.name, "CREATE TABLE else_(a);")
    for known in ([ONE], [changed, TWO]):
        with pytest.raises(SchemaRefused):
            apply(db, known)
    assert tables(db) == {"one", "two", "schema_migrations"}


def test_a_sqlite_that_is_too_old_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(SchemaRefused, match=r"is too old, 3\.37 is needed"):
        stores.migrate_log(stores.Places(tmp_path))


# -- as the commands use it


def test_migrating_a_folder_says_what_was_applied(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert stores.examine_log(folder) is None
    assert stores.migrate_log(stores.Places(folder)) == [migration.name for migration in known_migrations()]
    assert stores.migrate_log(stores.Places(folder)) == []
    found = stores.examine_log(folder)
    assert found is not None
    assert (found.fault, found.pending, found.journal_mode) == (None, (), "wal")


def test_beside_a_running_gateway_an_up_to_date_file_is_only_looked_at(tmp_path: Path) -> None:
    stores.migrate_log(stores.Places(tmp_path))
    running = FolderLock(tmp_path)
    running.acquire()
    assert stores.migrate_log(stores.Places(tmp_path)) == []
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as db:
        db.execute("DELETE FROM schema_migrations")
        with pytest.raises(Unavailable, match="in use by another gateway"):
            stores.migrate_log(stores.Places(tmp_path))
        db.execute("INSERT INTO schema_migrations VALUES (77, 'later', 'x', 0)")
        with pytest.raises(SchemaRefused):
            stores.migrate_log(stores.Places(tmp_path))
    running.release()


def test_an_empty_file_is_found_to_lack_everything(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_bytes(b"")
    found = stores.examine_log(tmp_path)
    assert found is not None
    assert found.pending == tuple(migration.name for migration in known_migrations())


def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    stores.migrate_log(stores.Places(tmp_path))
    path = tmp_path / "gateway.db"
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 3] = b"\xff" * 4096
    path.write_bytes(content)
    found = stores.examine_log(tmp_path)
    assert found is not None
    assert found.fault is not None
