"""What the doctor says of Postgres and Redis, whatever they are like; and of real ones."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.doctor import stores
from gateway.doctor.finding import Finding
from gateway.settings import load
from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisClusterServers, RedisServer
from store.errors import SchemaRefused, Unavailable
from store.log_postgres.checkup import PostgresCheckup
from store.redis_checkup import RedisCheckup, examine
from tests.process import ROOT, free_port

PASSWORD = "hunter2"
DATABASE = f"postgresql://u:{PASSWORD}@db.example/d?sslmode=verify-full"
REDIS = f"redis://u:{PASSWORD}@redis.example"
HEALTHY = PostgresCheckup(
    place="Postgres at db.example/d",
    version="15.4",
    size_bytes=9 << 20,
    is_safe=True,
    max_connections=100,
    clock_ms=0,
    pending=(),
    unfinished=(),
)
SOUND = RedisCheckup(
    version="7.0.15",
    is_cluster=False,
    cluster_fault=None,
    is_replica=False,
    eviction="noeviction",
    used_bytes=1 << 20,
    is_kept=False,
    subscriber_bytes=8 << 20,
    hidden=(),
)


def of_postgres(
    monkeypatch: pytest.MonkeyPatch, answer: Any, url: str = DATABASE, **more: str
) -> dict[str, Finding]:
    """What is found where the database is like this; its clock is right unless it says otherwise."""

    def examine_database(places: object) -> PostgresCheckup:
        if isinstance(answer, Exception):
            raise answer
        found: PostgresCheckup = answer
        return replace(found, clock_ms=found.clock_ms + time.time_ns() // 1_000_000)

    monkeypatch.setattr(stores, "examine_database", examine_database)
    settings = load({"GATEWAY_DATABASE_URL": url} | more)
    return {finding.check: finding for finding in stores.stores(settings)}


def of_redis(monkeypatch: pytest.MonkeyPatch, answer: Any, url: str = REDIS) -> dict[str, Finding]:
    """What is found where Redis is like this, and everything that is tried there works."""

    def examine_redis(places: object) -> RedisCheckup:
        if isinstance(answer, Exception):
            raise answer
        found: RedisCheckup = answer
        return found

    async def tried(places: object) -> list[Finding]:
        return []

    monkeypatch.setattr(stores, "examine_redis", examine_redis)
    monkeypatch.setattr(stores, "_tried", tried)
    return of_postgres(monkeypatch, HEALTHY, GATEWAY_REDIS_URL=url)


def test_a_healthy_postgres_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_postgres(monkeypatch, HEALTHY)
    assert found.pop("redis").found == "none: this node has to be the only one"
    assert {finding.state for finding in found.values()} == {"ok"}
    assert "Postgres 15.4" in found["database"].found
    assert "room for 12 nodes" in found["database connections"].found


@pytest.mark.parametrize(
    ("change", "check", "state", "said", "advice"),
    [
        ({"pending": ("0001_a.sql",)}, "database", "problem", "lacks 0001_a.sql", "`gateway migrate`:"),
        ({"unfinished": ("0002_b.sql",)}, "database", "note", "not finished: 0002_b", "migrate --finish"),
        ({"version": "14.9 (Debian)"}, "database", "note", "14.9", "made for Postgres 15"),
        ({"is_safe": False}, "database safety", "problem", "fsync", "set both on"),
        ({"max_connections": 20}, "database connections", "note", "room for 2 nodes", "max_connections"),
        ({"max_connections": 7}, "database connections", "problem", "room for 0", "GATEWAY_DATABASE_POOL"),
        ({"clock_ms": 1_500}, "database clock", "note", "ahead of this machine", "NTP"),
        ({"clock_ms": -9_000}, "database clock", "problem", "9.0 s behind", "NTP"),
    ],
)
def test_what_is_wrong_with_postgres_is_told_with_what_to_do(  # one row of a table each
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], check: str, state: str, said: str, advice: str
) -> None:
    finding = of_postgres(monkeypatch, replace(HEALTHY, **change))[check]
    assert finding.state == state
    assert said in finding.found
    assert advice in finding.advice


def test_a_postgres_that_cannot_be_used_ends_the_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (Unavailable("refused"), SchemaRefused("it is newer")):
        found = of_postgres(monkeypatch, error)
        assert set(found) == {"database", "redis"}
        assert found["database"].state == "problem"
        assert found["database"].advice


def test_who_may_read_along_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for url, state in (
        ("postgresql://h/d", "note"),
        ("postgresql://127.0.0.1,h/d?sslmode=require", "note"),
        ("postgresql://127.0.0.1:5432,localhost/d", "ok"),
        # By itself: newer Pythons take no list with it for a URL.
        ("postgresql://[::1]:5432/d", "ok"),
        ("postgresql://localhost/d", "ok"),
        ("postgresql:///d?host=/run/postgresql", "ok"),
    ):
        assert of_postgres(monkeypatch, HEALTHY, url)["database transport"].state == state, url


def test_a_sound_redis_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_redis(monkeypatch, SOUND)
    assert found["redis"] == Finding("redis", "ok", "redis://u:***@redis.example, Redis 7.0.15")
    assert {finding.state for finding in found.values()} == {"ok"}
    cluster = of_redis(monkeypatch, replace(SOUND, is_cluster=True), "rediss+cluster://h:7000")
    assert cluster["redis"].state == "ok"


@pytest.mark.parametrize(
    ("change", "check", "state", "said"),
    [
        ({"version": "6.0.16"}, "redis", "problem", "6.0.16"),
        ({"is_cluster": True}, "redis", "problem", "a node of a cluster"),
        ({"is_replica": True}, "redis", "problem", "a replica"),
        ({"cluster_fault": "is down"}, "redis", "problem", "is down"),
        ({"eviction": "allkeys-lru"}, "redis memory", "note", "allkeys-lru"),
        ({"is_kept": True}, "redis persistence", "note", "writes to disk"),
        ({"subscriber_bytes": 1 << 20}, "redis pub/sub", "note", "1 MiB behind"),
        ({"hidden": ("INFO", "CONFIG GET")}, "redis settings", "note", "INFO and CONFIG GET"),
    ],
)
def test_what_is_wrong_with_redis_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], check: str, state: str, said: str
) -> None:
    finding = of_redis(monkeypatch, replace(SOUND, **change))[check]
    assert finding.state == state
    assert said in finding.found
    assert finding.advice


def test_a_single_redis_called_a_cluster_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = of_redis(monkeypatch, SOUND, "rediss+cluster://h:7000")["redis"]
    assert (finding.state, "rediss://" in finding.advice) == ("problem", True)


def test_a_redis_that_is_away_ends_the_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_redis(monkeypatch, Unavailable("refused"))
    assert [check for check in found if check.startswith("redis")] == ["redis"]
    assert found["redis"].state == "problem"


# -- real ones


@pytest.mark.parametrize("server", ["redis62", "redis7"])
def test_a_redis_says_what_it_is(request: pytest.FixtureRequest, server: str) -> None:
    redis: RedisServer = request.getfixturevalue(server)
    found = examine(redis.url)
    assert found == replace(SOUND, version=redis.version_number, used_bytes=found.used_bytes)
    assert found.used_bytes > 0


def test_a_cluster_says_so(redis_cluster: RedisClusterServers) -> None:
    found = examine(redis_cluster.url)
    assert (found.is_cluster, found.cluster_fault) == (True, None)


@pytest.fixture
def user(redis7: RedisServer) -> Iterator[str]:
    """A user of Redis without any right, to be given some."""
    redis7.run("ACL", "SETUSER", "clerk", "on", f">{PASSWORD}", "resetkeys", "resetchannels", "nocommands")
    yield f"redis://clerk:{PASSWORD}@127.0.0.1:{redis7.port}"
    redis7.run("ACL", "DELUSER", "clerk")


def doctor(folder: Path, **settings: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Run the doctor as a person would; its code, what it found by check, and all that it printed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    given = {
        "DATA_DIR": str(folder / "data"),
        "PORT": str(free_port()),
        "OPS_PORT": str(free_port()),
    } | settings
    done = subprocess.run(
        (sys.executable, "-m", "gateway", "doctor", "--json"),
        cwd=folder,
        env=environ | {"PYTHONPATH": str(ROOT)} | {f"GATEWAY_{name}": value for name, value in given.items()},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = done.stdout + done.stderr
    return done.returncode, {each["check"]: each for each in json.loads(done.stdout)}, said


def test_the_doctor_looks_at_real_servers_and_leaves_nothing_behind(
    tmp_path: Path, postgres_url: str, redis7: RedisServer
) -> None:
    settings = {"DATABASE_URL": postgres_url, "REDIS_URL": redis7.url, "REDIS_PREFIX": "doctored"}
    code, found, _ = doctor(tmp_path, **settings)
    assert code == 1
    assert "run `gateway migrate`" in found["database"]["advice"]
    # The server of the tests does not sync, and that is no way to keep messages.
    assert found["database safety"]["state"] == "problem"
    assert found["database clock"]["state"] == "ok"
    assert found["redis rights"]["state"] == "ok", found
    assert {found[check]["state"] for check in ("redis", "redis memory")} == {"ok"}
    assert {redis7.run("PTTL", key) <= stores.TRIED_MS for key in redis7.run("KEYS", "doctored:*")} <= {True}


def test_rights_that_are_missing_are_found_by_trying(tmp_path: Path, user: str, postgres_url: str) -> None:
    code, found, said = doctor(tmp_path, DATABASE_URL=postgres_url, REDIS_URL=user)
    assert code == 1
    assert found["redis"]["state"] == "problem"
    assert PASSWORD not in said


def test_a_user_who_may_do_the_work_alone_is_content(
    tmp_path: Path, user: str, redis7: RedisServer, postgres_url: str
) -> None:
    redis7.run("ACL", "SETUSER", "clerk", "~gateway:*", "&gateway:*", "+@all", "-@dangerous", "-@admin")
    _, found, _ = doctor(tmp_path, DATABASE_URL=postgres_url, REDIS_URL=user)
    assert found["redis rights"]["state"] == "ok", found
    assert found["redis settings"]["state"] == "note"
    redis7.run("ACL", "SETUSER", "clerk", "resetchannels")
    _, found, _ = doctor(tmp_path, DATABASE_URL=postgres_url, REDIS_URL=user)
    assert found["redis rights"]["state"] == "problem"
    assert "pub/sub" in found["redis rights"]["found"]


def test_servers_that_are_not_there_are_told_without_a_password(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    port = free_port()
    code, found, said = doctor(
        tmp_path,
        DATABASE_URL=f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/d",
        REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{port}",
    )
    assert code == 1
    assert {found["database"]["state"], found["redis"]["state"]} == {"problem"}
    assert PASSWORD not in said
    _, found, said = doctor(tmp_path, DATABASE_URL=postgres_server.url("nowhere"))
    assert "nowhere" in found["database"]["found"]
