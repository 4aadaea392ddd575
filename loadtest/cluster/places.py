"""What the nodes of the cluster share: Postgres, Redis, and a folder for both and for the development key."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.servers.child import ServerFailed
from loadtest.servers.postgres import PostgresServer
from loadtest.servers.redis import RedisServer

DATABASE: Final = "gateway"

Tell = Callable[[str], None]


class FolderInUse(Exception):
    """Another cluster runs in this folder."""


@dataclass(frozen=True)
class Places:
    """The servers that all nodes share, and the settings that bring a node to them."""

    postgres: PostgresServer
    redis: RedisServer
    settings: Mapping[str, str]


@contextmanager
def shared_places(folder: Path, *, keep: bool, tell: Tell) -> Iterator[Places]:
    """Start Postgres and Redis, and make the schema. All ends with the context.

    ServerMissing, ServerFailed, NoPlace, FolderInUse.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        running.enter_context(_alone_in(folder))
        if not keep:
            # Named one by one: the folder may hold what is not ours.
            for name in ("redis", "gateway"):
                running.callback(shutil.rmtree, folder / name, ignore_errors=True)
        begun = time.monotonic()
        postgres = running.enter_context(PostgresServer.start(folder, keep=keep))
        if (DATABASE,) not in postgres.run("SELECT datname FROM pg_database"):
            postgres.run(f"CREATE DATABASE {DATABASE}")
        url = postgres.url(DATABASE)
        tell(_line(f"Postgres {postgres.version_number}", f"{url}  pid {postgres.pid}", begun))
        begun = time.monotonic()
        redis = running.enter_context(RedisServer.start(folder / "redis"))
        tell(_line(f"Redis {redis.version_number}", f"{redis.url}  pid {redis.pid}", begun))
        shared = {
            "GATEWAY_DATABASE_URL": url,
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_DATA_DIR": str((folder / "gateway").resolve()),
        }
        begun = time.monotonic()
        tell(_line("schema", _migrate(shared), begun))
        yield Places(postgres, redis, shared)


def _migrate(shared: dict[str, str]) -> str:
    """Bring the schema up to date before the first node starts; what was done."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "migrate"],
        env={**os.environ, **shared},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerFailed(f"`gateway migrate` failed: {done.stderr.strip()}")
    return "; ".join(done.stdout.strip().splitlines())


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(
                f"A cluster runs in {folder} already: end it first, or choose another --folder."
            ) from None
        with contextlib.suppress(OSError):
            # For curious people only; the lock itself goes with the process.
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        yield


def _line(what: str, where: str, begun: float) -> str:
    return f"{what:<16} {where}  ({time.monotonic() - begun:.1f} s)"
