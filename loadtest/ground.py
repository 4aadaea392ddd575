"""What load runs stand on, all on this machine: Postgres, Redis, gateways, sessions, clients.

And what each of them has used of the processor.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import httpx
import psutil

from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer
from loadtest.talkers import Talkers
from tests.process import ROOT, GatewayProcess

# One machine and one address: the limits on each are not what is measured. The clients send no heartbeats.
_ROOMY: Final = {
    "GATEWAY_MAX_FRAMES_PER_S": "100000",
    "GATEWAY_MAX_FRAMES_BURST": "1000000",
    "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "100000",
    "GATEWAY_MAX_ACCEPTS_PER_S": "100000",
    "GATEWAY_MAX_RESUMES_PER_S": "100000",
    "GATEWAY_HEARTBEAT_TIMEOUT_MS": "1800000",
    "GATEWAY_JWT_SECRET": "a secret of load runs, long enough for HS256",
}
_JOINING: Final = 16
_SYNCS: Final = 200
_GROUPS: Final = re.compile(r"^store_commit_batch_size_(count|sum) (\S+)$", re.M)


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of a run."""

    folder: Path
    postgres: PostgresServer | None
    redis: RedisServer | None
    database_url: str | None

    @property
    def settings(self) -> Mapping[str, str]:
        """Where a gateway finds them."""
        found = {}
        if self.database_url is not None:
            found["GATEWAY_DATABASE_URL"] = self.database_url
        if self.redis is not None:
            found["GATEWAY_REDIS_URL"] = self.redis.url
        return found


@contextlib.contextmanager
def servers(*, is_embedded: bool = False, settings: Mapping[str, str] | None = None) -> Iterator[Servers]:
    """Start Postgres, as it ships, with an empty migrated database, and Redis; embedded: neither.

    The folder is on the disk of the working directory, where SQLite writes.
    """
    with (
        tempfile.TemporaryDirectory(dir=os.getcwd(), prefix=".load-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        if is_embedded:
            yield Servers(folder, None, None, None)
            return
        # Postgres runs as a user who cannot enter every folder of ours, but must enter this one.
        folder.chmod(0o755)
        postgres = stack.enter_context(PostgresServer.start(folder / "postgres", settings=settings or {}))
        redis = stack.enter_context(RedisServer.start(folder / "redis"))
        url = postgres.database()
        subprocess.run(
            [sys.executable, "-m", "gateway", "migrate"],
            cwd=ROOT,
            env={**os.environ, "GATEWAY_DATABASE_URL": url},
            check=True,
            capture_output=True,
        )
        yield Servers(folder, postgres, redis, url)


@contextlib.asynccontextmanager
async def gateways(
    found: Servers, count: int, settings: Mapping[str, str] | None = None, *, first: int = 1
) -> AsyncIterator[list[GatewayProcess]]:
    """Start so many nodes on those servers, called n1 and so on."""
    env = {**_ROOMY, **found.settings, **(settings or {})}
    nodes = [
        GatewayProcess(found.folder / f"n{n}", env={**env, "GATEWAY_NODE_ID": f"n{n}"})
        for n in range(first, first + count)
    ]
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(node) for node in nodes))
        yield nodes


async def gather(clients: Talkers, homes: Sequence[Sequence[GatewayProcess]], *, members: int) -> None:
    """Make a session with so many members for each of `homes`: the nodes where its members are, in turn.

    Each member is a user with one client.
    """
    door = asyncio.Semaphore(_JOINING)

    async def make(place: int, nodes: Sequence[GatewayProcess]) -> None:
        names = [f"user-{place}-{n}" for n in range(members)]
        at = [nodes[n % len(nodes)] for n in range(members)]
        url = f"{at[0].url}/api/v1/sessions"
        headers = {"Authorization": f"Bearer {at[0].token(names[0])}"}
        async with door:
            made = await http.post(url, json={"persistent": True}, headers=headers)
            made.raise_for_status()
            session = made.json()["data"]["session"]["id"]
            for name in names[1:]:
                path = f"{url}/{session}/members/{name}"
                (await http.put(path, json={"role": "writer"}, headers=headers)).raise_for_status()
        for node, name in zip(at, names, strict=True):
            clients.add(node.port, session, node.token(name))

    # A gateway closes what has been idle for 5 s: what has been for 2 is not used again.
    limits = httpx.Limits(max_connections=_JOINING, keepalive_expiry=2.0)
    async with httpx.AsyncClient(trust_env=False, timeout=30.0, limits=limits) as http:
        await asyncio.gather(*(make(place, nodes) for place, nodes in enumerate(homes)))


class Meter:
    """What processes and those below them use of the processor, by name, between looks; and all `others`."""

    def __init__(self, **pids: Sequence[int]) -> None:
        self._pids = pids
        self._before = self._read()

    @classmethod
    def of(cls, found: Servers, nodes: Sequence[GatewayProcess], clients: Talkers) -> Self:
        """Watch everything there is."""
        pids = {"gateway": [node.pid for node in nodes]}
        if found.postgres is not None:
            pids["postgres"] = [found.postgres.pid]
        if found.redis is not None:
            pids["redis"] = [found.redis.pid]
        return cls(**pids, clients=[clients.pid])

    def again(self) -> dict[str, float]:
        """Seconds since the last look."""
        before, self._before = self._before, self._read()
        return {name: max(seconds - before[name], 0.0) for name, seconds in self._before.items()}

    def _read(self) -> dict[str, float]:
        ours = {name: sum(map(_cpu_s, pids)) for name, pids in self._pids.items()}
        now = psutil.cpu_times()
        return {**ours, "others": sum(now) - now.idle - now.iowait - now.guest - sum(ours.values())}


def _cpu_s(pid: int) -> float:
    process = psutil.Process(pid)
    used = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended just now: it is in its parent's figures
            times = each.cpu_times()
            used += times.user + times.system
    of_ended = process.cpu_times()
    return used + float(of_ended.children_user + of_ended.children_system)


def shares(used: Mapping[str, float], seconds: float) -> str:
    """Tell what was used in so many seconds as shares of one core."""
    return ", ".join(f"{name} {cpu_s / seconds:.0%}" for name, cpu_s in used.items())


class Sleeper:
    """Sleeps a millisecond again and again, in a thread, and notes how late it is woken."""

    def __init__(self) -> None:
        self._late_ms: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sleep)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def __str__(self) -> str:
        return _percentiles(self._late_ms)

    def _sleep(self) -> None:
        while not self._is_over.is_set():
            at = time.perf_counter()
            time.sleep(0.001)
            self._late_ms.append((time.perf_counter() - at) * 1000 - 1)


def disk(folder: Path) -> str:
    """Tell how long 8 KiB take to be durable where the servers write."""
    took = []
    with (folder / "durable").open("wb") as file:
        for _ in range(_SYNCS):
            file.seek(0)
            file.write(os.urandom(8192))
            file.flush()
            at = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - at) * 1000)
    return _percentiles(took)


def _percentiles(times_ms: Sequence[float]) -> str:
    found = sorted(times_ms)
    return f"p50 {found[len(found) // 2]:.2f} ms, p99 {found[len(found) * 99 // 100]:.2f} ms"


class Groups:
    """How many messages the nodes have committed at a time, between two looks at their metrics."""

    def __init__(self, nodes: Sequence[GatewayProcess]) -> None:
        self._nodes = nodes
        self._before = {"count": 0.0, "sum": 0.0}

    async def again(self) -> float:
        """Return the mean size of a group since the last look."""
        now = await self._read()
        new = {name: value - self._before[name] for name, value in now.items()}
        self._before = now
        return new["sum"] / new["count"] if new["count"] else 0.0

    async def _read(self) -> dict[str, float]:
        found = {"count": 0.0, "sum": 0.0}
        async with httpx.AsyncClient(trust_env=False, timeout=10.0) as http:
            for node in self._nodes:
                text = (await http.get(f"{node.ops_url}/metrics")).text
                for key, value in _GROUPS.findall(text):
                    found[key] += float(value)
        return found
