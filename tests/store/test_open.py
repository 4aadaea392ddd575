"""The four stores are started in order, closed in the opposite one, and all of them whatever fails."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from store.errors import Unavailable
from store.log_sqlite.connection import open_writer
from store.open import Places, Stores, open_stores
from tests.store.making import opened
from tests.waiting import turns


class Noted:
    """A store that notes what is done with it."""

    def __init__(self, name: str, notes: list[str], failing: str = "") -> None:
        self._name = name
        self._notes = notes
        self._failing = failing

    def _note(self, what: str) -> None:
        self._notes.append(f"{what} {self._name}")
        if what == self._failing:
            raise Unavailable(f"{self._name} is away")

    async def start(self, *given: Any) -> None:
        self._note("start")

    async def close(self) -> None:
        self._note("close")


def noted(notes: list[str], **failing: str) -> Stores:
    made: dict[str, Any] = {
        name: Noted(name, notes, failing.get(name, "")) for name in ("log", "live", "bus", "media", "cache")
    }
    return Stores(**made)


async def test_stores_start_with_the_log_and_close_with_it_last() -> None:
    notes: list[str] = []
    stores = noted(notes)
    await stores.start(lambda channel, payload: None, lambda: None)
    await stores.close()
    assert notes == [
        *("start log", "start live", "start cache", "start bus", "start media"),
        *("close media", "close bus", "close cache", "close live", "close log"),
    ]


async def test_when_one_does_not_start_all_are_closed() -> None:
    notes: list[str] = []
    with pytest.raises(Unavailable, match="cache is away"):
        await noted(notes, cache="start").start(lambda channel, payload: None, lambda: None)
    assert notes[-5:] == ["close media", "close bus", "close cache", "close live", "close log"]


async def test_a_bus_that_does_not_start_leaves_no_other_one_starting() -> None:
    notes: list[str] = []
    with pytest.raises(Unavailable, match="bus is away"):
        await noted(notes, bus="start").start(lambda channel, payload: None, lambda: None)
    assert notes.index("start media") < notes.index("close media")


async def test_the_others_are_closed_even_when_one_cannot_be() -> None:
    notes: list[str] = []
    with pytest.raises(Unavailable):
        await noted(notes, bus="close").close()
    assert notes[-4:] == ["close bus", "close cache", "close live", "close log"]


async def test_the_embedded_stores_touch_nothing_before_they_start(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    stores = open_stores(Places(folder))
    assert not folder.exists()
    received: list[bytes] = []
    await stores.start(lambda channel, payload: received.append(payload), lambda: None)
    await opened(stores.log)
    await stores.bus.subscribe("a")
    stores.bus.offer("a", b"1")
    await turns(2)
    await stores.close()
    await stores.close()
    assert received == [b"1"]


def test_a_gateway_that_is_alone_does_without_the_clients_of_others() -> None:
    # They would cost it 20 MiB and a third of its start.
    script = (
        "import sys, pathlib, gateway.app, gateway.__main__;"
        "from store.open import Places, open_stores;"
        "open_stores(Places(pathlib.Path('data')));"
        "print([name for name in ('redis', 'asyncpg') if name in sys.modules])"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_asked_for_is_what_is_opened(tmp_path: Path) -> None:
    alone = open_stores(Places(tmp_path))
    assert names(alone) == ["SqliteLog", "MemoryLive", "MemoryBus", "MemoryBus", "MemoryCache"]
    database = "postgresql://h/d"
    lone = open_stores(Places(tmp_path, database_url=database))
    assert names(lone) == ["PostgresLog", "MemoryLive", "MemoryBus", "MemoryBus", "MemoryCache"]
    for url in ("redis://h", "redis+cluster://h:7000"):
        many = open_stores(Places(tmp_path, database_url=database, redis_url=url))
        assert names(many) == ["PostgresLog", "RedisLive", "RedisBus", "RedisBus", "RedisCache"]
    assert alone.bus is not alone.media


def names(stores: Stores) -> list[str]:
    return [type(each).__name__ for each in (stores.log, stores.live, stores.bus, stores.media, stores.cache)]


def test_what_a_killed_process_left_in_the_log_is_synced_before_anything_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gateway.db"
    first = open_writer(path)
    first.execute("CREATE TABLE t (n INTEGER) STRICT")  # it stays in the -wal, as after a SIGKILL
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    second = open_writer(path)
    assert synced == [Path(f"{path}-wal").stat().st_ino]
    first.close()
    second.close()
