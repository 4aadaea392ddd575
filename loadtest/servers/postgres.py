"""A Postgres server of one's own, with a database for everybody who asks."""

import contextlib
import csv
import io
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

import psutil

from loadtest.servers import account as accounts
from loadtest.servers.account import Account
from loadtest.servers.binaries import Programs, Version, find_postgres
from loadtest.servers.certificates import Certificates, make_certificates
from loadtest.servers.child import Child, Orders, ServerFailed
from loadtest.servers.ports import free_port, reserve

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_USER: Final = "gateway"
_READY_WITHIN_S: Final = 60.0
_COMMAND_WITHIN_S: Final = 60.0
_KILLED_WITHIN_S: Final = 10.0
# Everything else is as Postgres ships it: fsync and synchronous_commit are on.
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    # No socket outside of its folder; and a path of pytest's would be too long for one inside.
    "unix_socket_directories": "",
    "max_connections": "200",
    "log_min_messages": "warning",
}


class PostgresServer:
    """One `postgres` on a port of its own. Port and data stay the same for its whole life."""

    def __init__(self, programs: Programs, folder: Path, *, keep: bool = False) -> None:
        self.port = free_port()
        self.folder = folder
        self.version_number = ".".join(map(str, programs.version))
        self.certificates: Certificates | None = None
        self._account = accounts.unprivileged()
        self._home = accounts.dwelling(folder / "postgres", self._account, keep=keep)
        self._keep = keep
        self._programs = _readable(programs, self._account, self._home)
        self._settings: dict[str, str] = dict(_SETTINGS)
        self._child: Child | None = None
        self._reserved = reserve(self.port)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        version: Version = "any",
        tls: bool = False,
        settings: Mapping[str, str] = _NONE,
        keep: bool = False,
    ) -> "PostgresServer":
        """Start one in this folder and wait until it answers. With `keep`, its data are there the next time.

        ServerMissing, ServerFailed.
        """
        server = cls(find_postgres(version), folder, keep=keep)
        with contextlib.ExitStack() as undo:
            undo.callback(server.close)
            server.prepare(tls=tls, settings=settings)
            server.again()
            undo.pop_all()
        return server

    @property
    def pid(self) -> int:
        if self._child is None or not self._child.is_running:
            raise ServerFailed(f"The Postgres on port {self.port} is not running")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running

    @property
    def ca_file(self) -> Path | None:
        """The authority to trust, where it speaks TLS."""
        return self.certificates.ca_file if self.certificates else None

    @property
    def user(self) -> str:
        return _USER

    @property
    def password(self) -> str:
        return self._password_file.read_text().strip()

    def url(self, database: str) -> str:
        """Return the URL of a database, user and password in it; with TLS, also whom to trust."""
        plain = f"postgresql://{_USER}:{self.password}@127.0.0.1:{self.port}/{database}"
        return f"{plain}?sslmode=verify-full&sslrootcert={self.ca_file}" if self.ca_file else plain

    # -- databases

    def database(self, *, template: str | None = None) -> str:
        """Create a database, empty or a copy of another one that nobody is connected to; its URL."""
        name = f"d{secrets.token_hex(6)}"
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template0"}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database that `database` made, whoever is connected to it."""
        name = url.rpartition("/")[2].partition("?")[0]
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def run(self, sql: str, database: str = "postgres") -> list[tuple[str, ...]]:
        """Run SQL through psql; the rows as text. ServerFailed with what psql said."""
        command = [self._programs.path("psql"), "-X", "-q", "-t", "--csv", "-v", "ON_ERROR_STOP=1"]
        answer = subprocess.run(  # noqa: S603
            [*command, "-d", self.url(database), "-c", sql],
            capture_output=True,
            text=True,
            timeout=_COMMAND_WITHIN_S,
            env=_environment(),
            check=False,
        )
        if answer.returncode != 0:
            raise ServerFailed(answer.stderr.strip())
        # An empty line is a row of one empty column.
        return [tuple(row) or ("",) for row in csv.reader(io.StringIO(answer.stdout))]

    # -- its life

    def prepare(self, *, tls: bool, settings: Mapping[str, str]) -> None:
        """Make the data folder, if it is not there, and note the settings."""
        made_by = self._data / "PG_VERSION"
        if made_by.exists() and (old := made_by.read_text().strip()) != str(self._programs.version[0]):
            raise ServerFailed(
                f"{self._data} was made by Postgres {old}, and this is {self.version_number}: "
                f"install Postgres {old}, or remove that folder with all that is in it"
            )
        if not made_by.exists():
            self._password_file.write_text(secrets.token_hex(16) + "\n")
            self._give(self._password_file, 0o600)
            self._init()
        if tls:
            self.certificates = made = make_certificates(self._home / "certificates")
            for path in (made.certificate, made.key):
                self._give(path, 0o600)
            # libpq and the clients of this process read it as themselves.
            self._settings |= {
                "ssl": "on",
                "ssl_cert_file": str(made.certificate),
                "ssl_key_file": str(made.key),
            }
            host = (self._data / "pg_hba.conf").read_text()
            (self._data / "pg_hba.conf").write_text(host.replace("\nhost ", "\nhostssl "))
        self._settings |= settings

    def again(self) -> None:
        """Start it with the same data on the same port, and wait until it is ready. ServerFailed."""
        if self.is_running:
            raise ServerFailed(f"The Postgres on port {self.port} is running already")
        self._clear_away()
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        child = Child(
            Orders(
                [self._programs.path("postgres"), "-D", str(self._data), "-p", str(self.port), *settings],
                self._home / "postgres.log",
                account=self._account,
                # At once, without a checkpoint, but shared memory is given back.
                stop=signal.SIGQUIT,
                remove=None if self._keep else self._home,
            )
        )
        self._child = child
        child.until(lambda: self._is_ready(child.pid), within=_READY_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL it and all its processes, and wait for their end. What was not on disk is gone."""
        if self._child is None:
            return
        try:
            backends = psutil.Process(self._child.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            backends = []
        self._child.end(signal.SIGKILL)
        for backend in backends:
            with contextlib.suppress(psutil.NoSuchProcess):
                backend.kill()
        deadline = time.monotonic() + _KILLED_WITHIN_S
        while any(_lives(backend) for backend in backends):
            if time.monotonic() > deadline:
                raise ServerFailed(f"Processes of Postgres outlived SIGKILL: {backends}")
            time.sleep(0.002)

    def stop(self) -> None:
        """Stop it in order; whoever is connected is disconnected."""
        if self._child is not None:
            self._child.end(signal.SIGINT)

    def close(self) -> None:
        """End it for good; its data go too, unless they are to be kept."""
        self._reserved.close()
        if self._keep:
            self.stop()
            return
        if self._child is not None:
            self._child.end(signal.SIGQUIT)
        accounts.leave(self.folder / "postgres")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- how

    @property
    def _data(self) -> Path:
        return self._home / "data"

    @property
    def _password_file(self) -> Path:
        return self._home / "password"

    def _init(self) -> None:
        command = [
            self._programs.path("initdb"),
            "-D",
            str(self._data),
            "-U",
            _USER,
            "--encoding=UTF8",
            "--no-locale",
        ]
        made = subprocess.run(  # noqa: S603
            [*command, "--auth=scram-sha-256", f"--pwfile={self._password_file}", "--no-sync"],
            cwd="/",
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            **(self._account.options() if self._account else {}),
        )
        if made.returncode != 0:
            raise ServerFailed(f"initdb failed: {made.stderr.strip()}")

    def _clear_away(self) -> None:
        """Remove what one that was killed has left. ServerFailed while one still runs on these data.

        The pid in it may be somebody else's by now, whom Postgres would take for itself. One whose owner was
        killed a moment ago is still ending.
        """
        left = self._data / "postmaster.pid"
        deadline = time.monotonic() + _KILLED_WITHIN_S
        while left.exists():
            pid = int(left.read_text().split()[0])
            if not _runs_on(pid, self._data):
                left.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise ServerFailed(f"Another Postgres, pid {pid}, runs on {self._data}: stop it first")
            else:
                time.sleep(0.02)

    def _give(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _is_ready(self, pid: int) -> bool:
        """Read what Postgres says of itself in postmaster.pid, as pg_ctl does."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def _lives(process: psutil.Process) -> bool:
    # One that nobody has reaped yet holds nothing any more.
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _runs_on(pid: int, data: Path) -> bool:
    try:
        return str(data) in psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False


def _readable(programs: Programs, account: Account | None, home: Path) -> Programs:
    """Copy programs that the server's user cannot reach: an environment in a folder of root's, say."""
    if account is None or accounts.may_read(account, programs.folder / "postgres"):
        return programs
    copy = home / "programs"
    if not copy.exists():
        shutil.copytree(programs.folder.parent, copy, symlinks=True)
    return Programs(copy / "bin", programs.version, is_packaged=programs.is_packaged)


def _environment() -> dict[str, str]:
    """Give its programs nothing of the developer's own PGHOST and the like."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C"}
