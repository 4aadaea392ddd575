"""No server outlives the run that started it, however that run ends."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from loadtest.servers.child import Child, Orders, ServerFailed
from tests.servers.processes import is_alive
from tests.waiting import until

ROOT: Final = Path(__file__).parents[2]


def is_there(path: Path) -> bool:
    return path.exists()


async def test_killing_the_run_ends_all_its_servers_and_removes_their_data(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.servers.owner", str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        told = (await owner.stdout.readline()).decode().split()
        started = [psutil.Process(int(pid)) for pid in told[:2]]
        family = started + [child for process in started for child in process.children(recursive=True)]
        guardians = psutil.Process(owner.pid).children()
        home = Path(told[2])
        assert all(map(is_alive, family))
        assert is_there(home / "data")
    finally:
        owner.kill()
        await owner.wait()
    await until(lambda: not any(map(is_alive, [*family, *guardians])), within=10)
    assert not is_there(home)


async def test_killing_the_guardian_ends_its_server(tmp_path: Path) -> None:
    child = Child(Orders([sys.executable, "-c", "import signal; signal.pause()"], tmp_path / "log"))
    server = psutil.Process(child.pid)
    guardian = server.parent()
    assert guardian is not None
    guardian.kill()
    await until(lambda: not is_alive(server) and not child.is_running)
    child.end(signal.SIGKILL)


async def test_a_server_started_in_a_thread_outlives_the_thread(tmp_path: Path) -> None:
    def start() -> Child:
        return Child(Orders([sys.executable, "-c", "import signal; signal.pause()"], tmp_path / "log"))

    child = await asyncio.to_thread(start)
    await asyncio.to_thread(lambda: None)
    await asyncio.get_running_loop().shutdown_default_executor()
    assert child.is_running
    os.kill(child.pid, 0)
    child.end(signal.SIGTERM)
    assert child.code == 128 + signal.SIGTERM


def test_a_server_that_ends_by_itself_is_seen_to_have_ended(tmp_path: Path) -> None:
    child = Child(Orders([sys.executable, "-c", "print('no room'); raise SystemExit(3)"], tmp_path / "log"))
    with pytest.raises(ServerFailed, match="ended with 3:\nno room"):
        child.until(lambda: False, within=10)
    assert child.code == 3


def test_a_server_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    child = Child(Orders([sys.executable, "-c", "import signal; signal.pause()"], tmp_path / "log"))
    with pytest.raises(ServerFailed, match=r"not ready within 0\.05 s"):
        child.until(lambda: False, within=0.05)
    assert not child.is_running


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="/no/such/program did not start"):
        Child(Orders(["/no/such/program"], tmp_path / "log"))
