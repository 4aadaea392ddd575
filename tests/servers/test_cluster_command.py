"""`make cluster`: one command starts everything and says where it is; one signal ends everything."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import psutil
import pytest

from loadtest.cluster.__main__ import serve
from loadtest.cluster.node import listening
from loadtest.cluster.places import Places
from loadtest.servers.account import leave
from loadtest.servers.ports import free_port
from tests.servers.cluster_process import ROOT, ClusterProcess
from tests.servers.processes import is_alive
from tests.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cluster"
    leave(tmp_path / "cluster" / "postgres")


def alive(family: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in family if is_alive(each)]


def client(url: str, token: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, trust_env=False)


async def titles(url: str, token: str) -> list[str]:
    async with client(url, token) as http:
        answer = await http.get("/sessions")
    return [session["title"] for session in answer.json()["data"]["sessions"]]


async def test_all_nodes_serve_the_same_sessions_and_the_next_run_finds_them(folder: Path) -> None:
    async with ClusterProcess(folder) as cluster:
        assert len(cluster.node_urls) == 3
        async with httpx.AsyncClient(trust_env=False) as http:
            for url in (cluster.url, *cluster.ops_urls):
                assert (await http.get(f"{url}/readyz")).status_code == 200
        token = cluster.token("alice")
        async with client(cluster.node_urls[0], token) as http:
            (await http.post("/sessions", json={"title": "Kept", "persistent": True})).raise_for_status()
        for url in (cluster.url, *cluster.node_urls):
            assert await titles(url, token) == ["Kept"]
        family = cluster.family()
        cluster.send(signal.SIGTERM)
        assert await cluster.wait() == 0
        await until(lambda: not alive(family))
    async with ClusterProcess(folder, "--nodes", "1") as again:
        assert len(again.node_urls) == 1
        assert await titles(again.url, token) == ["Kept"]
        second = subprocess.run(  # noqa: ASYNC221
            [sys.executable, "-m", "loadtest.cluster", "--port", "0", "--folder", str(folder)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert "A cluster runs in" in second.stderr


async def test_the_others_go_on_without_a_node_that_dies_and_with_none_left_it_ends(folder: Path) -> None:
    cluster = ClusterProcess(folder, "--nodes", "2", "--discard")
    await cluster.start()
    try:
        await cluster.ready()
        token = cluster.token("alice")
        first, second = map(psutil.Process, cluster.node_pids)
        first.kill()
        await until(lambda: "n1 has ended with code 137, the others go on" in cluster.output)
        for _ in range(5):
            assert await titles(cluster.url, token) == []
        second.kill()
        assert await cluster.wait() == 1
        assert "No node is left." in cluster.output
    finally:
        await cluster._end()
    # Nothing is kept.
    assert not (folder / "gateway").exists()
    assert not (folder / "postgres").exists()


async def test_redis_and_postgres_are_missed_when_they_die(folder: Path) -> None:
    async with ClusterProcess(folder, "--nodes", "1", "--discard") as cluster:
        for name, pid in re.findall(r"^(Postgres|Redis) .* pid (\d+) ", cluster.output, flags=re.M):
            psutil.Process(int(pid)).kill()
            await until(lambda name=name: f"{name} has ended" in cluster.output)
        cluster.send(signal.SIGINT)
        assert await cluster.wait() == 0


async def test_a_killed_cluster_leaves_no_process(folder: Path) -> None:
    cluster = ClusterProcess(folder, "--nodes", "1", "--discard")
    await cluster.start()
    await cluster.ready()
    family = cluster.family()
    assert len(family) > 6  # the command, three guardians, Postgres with its own, Redis, a node
    cluster.send(signal.SIGKILL)
    assert await cluster.wait() == -signal.SIGKILL
    await until(lambda: not alive(family), within=15)


async def test_ctrl_c_while_it_starts_ends_what_has_started(folder: Path) -> None:
    cluster = ClusterProcess(folder, "--discard")
    await cluster.start()
    await until(lambda: "Postgres" in cluster.output, within=20)
    family = cluster.family()
    cluster.send(signal.SIGINT)
    assert await cluster.wait() == 0, cluster.output
    await until(lambda: not alive(family))
    assert "Traceback" not in cluster.output


async def test_a_ctrl_c_that_was_raised_where_python_drops_it_is_obeyed_before_anything_is_served() -> None:
    told = threading.Event()
    told.set()
    places = cast(Places, None)  # nothing is looked at any more
    try:
        async with asyncio.timeout(5):
            assert await serve([], places, listening(0), told) == 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtest.cluster", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


# The balancer's own port, the first node's, and where its health is asked.
@pytest.mark.parametrize("beyond", [0, 1, 101])
def test_a_taken_port_is_said_before_anything_starts(folder: Path, beyond: int) -> None:
    port = free_port(beside=beyond)
    with socket.create_server(("127.0.0.1", port + beyond)):
        done = command("--port", str(port), "--folder", str(folder))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Port {port + beyond} on 127.0.0.1 cannot be had" in done.stderr
    assert not folder.exists()


def test_the_command_explains_itself_and_knows_when_it_is_misused() -> None:
    shown = command("--help").stdout
    assert all(option in shown for option in ("--nodes", "--port", "--folder", "--keep", "--discard"))
    assert command("--nodes", "0").returncode == 2
