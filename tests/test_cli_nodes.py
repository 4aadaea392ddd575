"""The commands of one node of many, on a real Postgres and Redis: what they say, and their exit codes."""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer
from tests.process import GatewayProcess, free_port
from tests.test_cli import gateway
from tests.waiting import until

PASSWORD = "hunter2"


def password_of(url: str) -> str:
    found = re.search(r"://[^:]*:([^@]*)@", url)
    assert found
    return found[1]


def node(folder: Path, **settings: str) -> GatewayProcess:
    given = {"REDIS_PREFIX": f"t{uuid4().hex[:8]}", "NODE_ID": folder.name} if "REDIS_URL" in settings else {}
    return GatewayProcess(
        folder, env={f"GATEWAY_{name}": value for name, value in (given | settings).items()}
    )


async def readiness(process: GatewayProcess) -> Mapping[str, object]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{process.ops_url}/readyz")
    assert answer.status_code == 200, answer.text
    body: Mapping[str, object] = answer.json()["data"]
    return body


def test_a_database_is_migrated_and_finished_with_the_command(tmp_path: Path, postgres_url: str) -> None:
    first, second, last = (
        gateway("migrate", *more, data=tmp_path, DATABASE_URL=postgres_url)
        for more in ((), (), ("--finish",))
    )
    assert first.returncode == second.returncode == last.returncode == 0, first.stderr
    assert "applied 0001_" in first.stdout
    assert second.stdout == last.stdout == "The database is up to date.\n"
    assert not (tmp_path / "data").exists()


def test_a_database_that_was_not_migrated_is_not_served_from(tmp_path: Path, postgres_url: str) -> None:
    done = gateway("serve", data=tmp_path, DATABASE_URL=postgres_url, PORT="0", OPS_PORT="0")
    assert done.returncode == 1
    assert "run `gateway migrate`" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert password_of(postgres_url) not in done.stderr


def test_a_postgres_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    url = f"postgresql://u:{PASSWORD}@127.0.0.1:{free_port()}/d"
    for command in ("serve", "migrate"):
        done = gateway(command, data=tmp_path, DATABASE_URL=url, PORT="0", OPS_PORT="0")
        assert done.returncode == 1
        assert "127.0.0.1" in done.stderr
        assert "Traceback" not in done.stderr
        assert PASSWORD not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_password_is_one_sentence_without_it(tmp_path: Path, postgres_server: PostgresServer) -> None:
    url = postgres_server.url("postgres")
    wrong = url.replace(f":{password_of(url)}@", f":{PASSWORD}@")
    done = gateway("serve", data=tmp_path, DATABASE_URL=wrong, PORT="0", OPS_PORT="0")
    assert done.returncode == 1
    assert "password" in done.stderr
    assert PASSWORD not in done.stderr


@pytest.mark.parametrize("way", ["url", "apart", "file"])
async def test_the_password_may_be_in_the_url_apart_or_in_a_file(
    tmp_path: Path, postgres_url: str, redis7: RedisServer, way: str
) -> None:
    password = password_of(postgres_url)
    bare = postgres_url.replace(f":{password}@", "@")
    (tmp_path / "password").write_text(f"{password}\n")
    settings = {
        "url": {"DATABASE_URL": postgres_url},
        "apart": {"DATABASE_URL": bare, "DATABASE_PASSWORD": password},
        "file": {"DATABASE_URL": bare, "DATABASE_PASSWORD_FILE": str(tmp_path / "password")},
    }[way]
    assert gateway("migrate", data=tmp_path, **settings).returncode == 0
    prefix = f"t{uuid4().hex[:8]}"
    settings |= {"REDIS_URL": redis7.url, "REDIS_PREFIX": prefix}
    async with node(tmp_path / "n1", **settings) as process:
        assert await readiness(process) == {"ready": True, "degraded": []}
        ready = next(line for line in process.output.splitlines() if '"ready"' in line)
        said = json.loads(ready)
        assert said["database"].startswith("postgresql://")
        assert redis7.url in said["others"]
        assert password not in process.output.replace(bare, "")
        assert not (tmp_path / "n1" / "gateway.db").exists()
        assert redis7.run("KEYS", f"{prefix}:*")
        assert await process.terminate() == 0
    assert "Traceback" not in process.output


async def test_what_the_stores_count_is_among_the_metrics(
    tmp_path: Path, postgres_url: str, redis7: RedisServer
) -> None:
    assert gateway("migrate", data=tmp_path, DATABASE_URL=postgres_url).returncode == 0
    settings = {"DATABASE_URL": postgres_url, "REDIS_URL": redis7.url, "REDIS_PREFIX": f"t{uuid4().hex[:8]}"}
    async with node(tmp_path / "n1", **settings) as process, httpx.AsyncClient(trust_env=False) as http:
        headers = {"Authorization": f"Bearer {process.token('alice')}"}
        for _ in range(2):
            listed = await http.get(f"{process.url}/api/v1/sessions", headers=headers)
            assert listed.status_code == 200, listed.text
        said = (await http.get(f"{process.ops_url}/metrics")).text
    seen = dict(line.rsplit(" ", 1) for line in said.splitlines() if not line.startswith("#"))
    expected = {
        'gateway_degraded{mode="redis_away"}': "0.0",
        'store_bus_state{bus="messages",state="up"}': "1.0",
        'store_bus_state{bus="media",state="up"}': "1.0",
        'store_cache_hits_total{level="list"}': "1.0",
        'store_cache_misses_total{level="list"}': "1.0",
        'store_cache_loads_total{level="list"}': "1.0",
        'store_log_queries_total{kind="list_for"}': "1.0",
        "store_cache_owed": "0.0",
    }
    assert {name: seen[name] for name in expected} == expected
    assert "store_cache_bytes" not in seen


async def test_a_password_of_redis_given_apart_is_used(tmp_path: Path, postgres_url: str) -> None:
    with RedisServer.start(tmp_path / "redis") as redis:
        redis.run("CONFIG", "SET", "requirepass", PASSWORD)
        assert gateway("migrate", data=tmp_path, DATABASE_URL=postgres_url).returncode == 0
        settings = {"DATABASE_URL": postgres_url, "REDIS_URL": redis.url, "REDIS_PASSWORD": PASSWORD}
        async with node(tmp_path / "n1", **settings) as process:
            assert await readiness(process) == {"ready": True, "degraded": []}
            assert PASSWORD not in process.output


async def test_a_node_without_redis_says_that_it_has_to_be_the_only_one(
    tmp_path: Path, postgres_url: str
) -> None:
    assert gateway("migrate", data=tmp_path, DATABASE_URL=postgres_url).returncode == 0
    async with node(tmp_path / "n1", DATABASE_URL=postgres_url) as process:
        assert "none allowed on this database without GATEWAY_REDIS_URL" in process.output


async def test_a_node_starts_without_redis_and_finds_it_by_itself(tmp_path: Path, postgres_url: str) -> None:
    assert gateway("migrate", data=tmp_path, DATABASE_URL=postgres_url).returncode == 0
    with RedisServer.start(tmp_path / "redis") as redis:
        redis.stop()
        async with node(tmp_path / "n1", DATABASE_URL=postgres_url, REDIS_URL=redis.url) as process:

            async def is_degraded() -> bool:
                return (await readiness(process))["degraded"] == ["redis_away"]

            async def is_whole() -> bool:
                return (await readiness(process))["degraded"] == []

            await until(is_degraded, within=10)
            redis.again()
            await until(is_whole, within=10)
            assert await process.terminate() == 0
        assert "Traceback" not in process.output


async def test_nodes_are_evened_out_with_a_command_that_tells_how_far_it_has_come(tmp_path: Path) -> None:
    async with node(tmp_path / "n1") as process:
        done = await asyncio.to_thread(
            gateway, "rebalance", "--port", str(process.ops_port), data=tmp_path, OPS_PORT="1"
        )
        assert (done.returncode, done.stderr) == (0, "")
        first, *_, last = done.stdout.splitlines()
        assert first == "0 of 0 moved, 0 refused, 0 timed out, 0 to go"
        assert re.fullmatch(r"done: \S+ 0", last)
        told = await asyncio.to_thread(gateway, "rebalance", data=tmp_path, OPS_PORT=str(process.ops_port))
        assert told.returncode == 0


def test_where_no_node_answers_the_command_says_so_in_one_sentence(tmp_path: Path) -> None:
    done = gateway("rebalance", "--port", str(free_port()), data=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "operations port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert gateway("rebalance", "--port", "x", data=tmp_path).returncode == 2
    assert gateway("rebalance", data=tmp_path, OPS_PORT="x").returncode == 2
