"""What is SQLite's own: durability, one process per folder, a failing disk, calls that are cancelled."""

import asyncio
import os
import resource
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from store.errors import SchemaRefused, Unavailable
from store.log_sqlite import append, connection, events, members, messages, outbox, sessions
from store.log_sqlite.log import SqliteLog
from store.open import Places, migrate_log
from store.types import Appended, Change, Session
from tests.store.making import NOW, appended, draft, new_session, opened
from tests.waiting import turns, until


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = SqliteLog(tmp_path)
    await log.start()
    yield log
    await log.close()


@contextmanager
def beside(folder: Path) -> Iterator[sqlite3.Connection]:
    """The file, opened by somebody else."""
    db = sqlite3.connect(folder / "gateway.db", isolation_level=None)
    try:
        yield db
    finally:
        db.close()


async def contents(log: SqliteLog, session: Session) -> list[str]:
    return [message.content for message in await log.read(session.id, after=0, limit=1_000)]


# -- settings


async def test_a_commit_waits_for_the_disk(log: SqliteLog) -> None:
    async def setting(name: str) -> Any:
        return await log._writer.run(lambda db: connection.single(db, f"PRAGMA {name}"))

    assert [await setting(name) for name in ("journal_mode", "synchronous", "foreign_keys")] == ["wal", 2, 1]


async def test_readers_cannot_write(log: SqliteLog) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await log._readers.run(lambda db: db.execute("DELETE FROM messages"))


async def test_the_files_are_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    log = SqliteLog(folder)
    await log.start()
    await opened(log)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert {file.name for file in files} == {"gateway.db", "gateway.db-wal", "gateway.db-shm", "gateway.lock"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    await log.close()


async def test_what_is_written_is_there_after_closing_and_opening(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    await log.start()
    session = await opened(log)
    await appended(log, draft(session, content="kept"))
    await log.close()
    await log.start()
    assert await contents(log, session) == ["kept"]
    await log.close()
    assert sorted(os.listdir(tmp_path)) == ["gateway.db", "gateway.lock"]


async def test_a_busy_loop_starves_no_thread(log: SqliteLog) -> None:
    assert sys.getswitchinterval() <= 0.001


def statements() -> list[tuple[str, str]]:
    """Every statement that stands in a constant of the backend, with its name."""
    rooms = (append, events, members, messages, outbox, sessions)
    constants = [(name, value) for room in rooms for name, value in vars(room).items()]
    return [
        (name, value)
        for name, value in constants
        if isinstance(value, str) and value.split()[:1] in (["SELECT"], ["WITH"], ["UPDATE"], ["INSERT"])
    ]


@pytest.mark.parametrize(("name", "sql"), statements())
def test_no_statement_reads_a_whole_table(tmp_path: Path, name: str, sql: str) -> None:
    migrate_log(Places(tmp_path))
    with beside(tmp_path) as db:
        plan = db.execute(f"EXPLAIN QUERY PLAN {sql}", ["[]"] * sql.count("?")).fetchall()
    scans = [step for _, _, _, step in plan if step.startswith("SCAN")]
    assert [scan for scan in scans if "VIRTUAL TABLE" not in scan and "(subquery" not in scan] == []


# -- one process per folder


async def test_a_second_gateway_in_the_folder_is_refused_by_name(log: SqliteLog, tmp_path: Path) -> None:
    second = SqliteLog(tmp_path)
    with pytest.raises(Unavailable, match=r"in use by another gateway \(process \d+\): stop it"):
        await second.start()
    await second.close()
    await log.ping()
    with pytest.raises(Unavailable, match="in use"):
        await second.start()
    await log.close()
    await second.start()
    await second.close()


async def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = SqliteLog(tmp_path / "file" / "data")
    with pytest.raises(Unavailable, match="cannot be used: Not a directory"):
        await log.start()


async def test_a_file_that_is_no_database_is_said_so_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_text("these are not the pages you are looking for" * 100)
    log = SqliteLog(tmp_path)
    with pytest.raises(Unavailable, match="not a database"):
        await log.start()
    assert (tmp_path / "gateway.db").read_text().startswith("these are not")


async def test_a_start_that_failed_lets_go_of_everything(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    await log.start()
    await log.close()
    with beside(tmp_path) as db:
        db.execute("INSERT INTO schema_migrations VALUES (99, 'later', 'x', 0)")
    for _ in range(2):
        with pytest.raises(SchemaRefused):
            await log.start()
    with beside(tmp_path) as db:
        db.execute("DELETE FROM schema_migrations WHERE number = 99")
    await log.start()
    await log.close()


async def test_the_file_can_be_read_beside_a_running_gateway(log: SqliteLog, tmp_path: Path) -> None:
    session = await opened(log)
    await appended(log, draft(session))
    uri = f"{(tmp_path / 'gateway.db').as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True)
    assert db.execute("SELECT session_id, seq FROM messages").fetchall() == [(session.id, 1)]
    db.close()


async def test_a_copy_made_beside_a_running_gateway_is_a_whole_log(log: SqliteLog, tmp_path: Path) -> None:
    session = await opened(log)
    await appended(log, draft(session, content="kept"))
    (tmp_path / "restored").mkdir()
    with beside(tmp_path) as db:
        db.execute("VACUUM INTO ?", (str(tmp_path / "restored" / "gateway.db"),))
    await appended(log, draft(session, content="later"))
    restored = SqliteLog(tmp_path / "restored")
    await restored.start()
    assert await contents(restored, session) == ["kept"]
    assert (await appended(restored, draft(session)))[0].seq == 2
    await restored.close()


# -- failures


async def test_a_failure_in_the_middle_of_a_group_stores_nothing_of_it(
    log: SqliteLog, tmp_path: Path
) -> None:
    session = await opened(log)
    await appended(log, draft(session, content="before"))
    with beside(tmp_path) as db:
        db.execute(
            "CREATE TRIGGER fault BEFORE INSERT ON messages WHEN NEW.content = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'the disk is on fire'); END"
        )
    group = [draft(session, content=content) for content in ("one", "bad", "two")]
    with pytest.raises(Unavailable, match="the disk is on fire") as failed:
        await log.append(group)
    assert isinstance(failed.value.__cause__, sqlite3.Error)
    assert await contents(log, session) == ["before"]
    assert [o.seq for o in await appended(log, group[0], group[2])] == [2, 3]


async def test_a_change_whose_event_cannot_be_stored_is_undone(log: SqliteLog, tmp_path: Path) -> None:
    session = await opened(log, title="old", ttl_s=1)
    with beside(tmp_path) as db:
        db.execute("CREATE TRIGGER fault BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END")
    calls = [
        log.create(new_session(id="another"), limit=9),
        log.update("t", session.id, Change(title="new"), now=NOW, expected_version=None),
        log.put_member("t", session.id, "bob", "reader", now=NOW),
        log.end("t", session.id, "closed", now=NOW),
        log.expire_due(now=NOW + 10_000, limit=5),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            await call
    assert await log.get("t", session.id) == session
    assert await log.get("t", "another") is None
    assert [member.user for member in await log.members(session.id)] == ["alice"]


async def test_a_second_terminal_event_cannot_be_stored(log: SqliteLog, tmp_path: Path) -> None:
    session = await opened(log)
    await log.end("t", session.id, "closed", now=NOW)
    with beside(tmp_path) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(
            "INSERT INTO events (tenant_id, session_id, kind, version, at) VALUES ('t', ?, 'expired', 3, 0)",
            (session.id,),
        )


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: to SQLite the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_with_a_full_disk_nothing_is_acked_and_everything_is_read(
    log: SqliteLog, tmp_path: Path
) -> None:
    session = await opened(log)
    kept = await appended(log, *(draft(session) for _ in range(20)))
    size = (tmp_path / "gateway.db-wal").stat().st_size
    large = [draft(session, content="x" * 10_000) for _ in range(20)]
    with largest_file(size + 50_000):
        for _ in range(3):
            with pytest.raises(Unavailable, match="SQLite"):
                await log.append(large)
            assert [m.seq for m in await log.read(session.id, after=0, limit=100)] == [o.seq for o in kept]
        small = await appended(log, draft(session, content="fits"))
    assert [o.seq for o in small] == [21]
    assert [o.seq for o in await appended(log, *large)] == list(range(22, 42))


async def test_a_locked_file_is_unavailable_until_it_is_free(
    log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_S", 0.05)
    session = await opened(log)
    await log._writer.run(lambda db: db.execute("PRAGMA busy_timeout = 50").fetchall())
    sent = draft(session)
    with beside(tmp_path) as db:
        db.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(Unavailable, match="locked"):
                await log.append([sent])
        assert await log.get("t", session.id) == session
        db.execute("ROLLBACK")
    assert [o.seq for o in await appended(log, sent)] == [1]


# -- cancellation


async def test_cancelled_calls_leave_the_log_whole(log: SqliteLog) -> None:
    session = await opened(log)
    sent = [[draft(session, content=f"{n}-{place}") for place in range(3)] for n in range(60)]
    tasks = [asyncio.create_task(log.append(group)) for group in sent]
    # Some have not begun, some are under way, some are done when they are cancelled.
    await until(tasks[10].done)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    messages = await log.read(session.id, after=0, limit=1_000)
    assert [m.seq for m in messages] == list(range(1, len(messages) + 1))
    # Whole groups, and all those that were answered.
    stored = [m.content for m in messages]
    for group, outcome in zip(sent, outcomes, strict=True):
        present = [d.content in stored for d in group]
        assert len(set(present)) == 1
        assert present[0] or isinstance(outcome, BaseException)
    # And whoever was cancelled learns the truth by asking again.
    again = [await appended(log, *group) for group in sent]
    assert sorted(o.seq for group in again for o in group) == list(range(1, 181))


async def test_closing_while_calls_are_under_way_answers_all_of_them(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    await log.start()
    session = await opened(log)
    calls = [asyncio.create_task(log.append([draft(session)])) for _ in range(30)]
    reads = [asyncio.create_task(log.read(session.id, after=0, limit=5)) for _ in range(30)]
    await turns(1)
    await log.close()
    outcomes = [outcome for call in calls for outcome in await call]
    assert [o.seq for o in outcomes if isinstance(o, Appended)] == list(range(1, 31))
    await asyncio.gather(*reads)
    with pytest.raises(Unavailable):
        await log.append([draft(session)])
    with pytest.raises(Unavailable):
        await log.ping()
    await log.close()
