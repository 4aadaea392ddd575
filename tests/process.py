"""A real gateway process under a test's control: started, killed, started again on the same ports, reaped.

async with GatewayProcess(tmp_path) as gateway:      # started, and ready
    client = connect(gateway.ws_url, token=gateway.token("alice"))
    await gateway.kill()                             # SIGKILL
    await gateway.restart()                          # same ports, same data
"""

import asyncio
import atexit
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
import jwt

from loadtest.servers.ports import free_port as free_port
from tests.waiting import until

ROOT: Final = Path(__file__).parent.parent
READY_WITHIN_S: Final = 15.0
# Enough to hold a traceback and what led to it; a gateway in a log storm does not grow the test's memory.
OUTPUT_LINES: Final = 400
OUTPUT_LINE_BYTES: Final = 4096

# A test run that ends by an exception outside any `async with` leaves no gateway behind.
_running: set[int] = set()


@atexit.register
def _kill_leftovers() -> None:
    for pid in _running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class GatewayProcess:
    """One `python -m gateway serve`. Ports are chosen once: a restarted gateway is found where it was."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        ops_port: int | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "gateway", "serve"),
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.ops_port = ops_port or free_port()
        self._env = dict(env or {})
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._output: deque[str] = deque(maxlen=OUTPUT_LINES)

    # -- where it is

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.ops_port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def database(self) -> Path:
        """The SQLite file of the embedded log."""
        files = sorted(self.data_dir.glob("*.db")) + sorted(self.data_dir.glob("*.sqlite*"))
        found = [file for file in files if not file.name.endswith(("-wal", "-shm"))]
        if len(found) != 1:
            raise AssertionError(f"expected one database in the data folder, found {found}")
        return found[0]

    @property
    def pid(self) -> int:
        if self._process is None:
            raise AssertionError("the gateway is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def output(self) -> str:
        """The last lines the process wrote, of all its lives."""
        return "\n".join(self._output)

    def token(
        self, user: str, *, tenant: str = "default", ttl_s: float = 3600, scopes: Sequence[str] = ()
    ) -> str:
        """Make a token the gateway accepts, signed with its configured secret or its development key."""
        key = self._env.get("GATEWAY_JWT_SECRET") or (self.data_dir / "dev-key").read_text().strip()
        now = time.time()
        claims: dict[str, object] = {
            "sub": user,
            "aud": self._env.get("GATEWAY_JWT_AUDIENCE", "session-gateway"),
            "tenant": tenant,
            "iat": int(now),
            "exp": int(now + ttl_s),
        }
        if issuer := self._env.get("GATEWAY_JWT_ISSUER"):
            claims["iss"] = issuer
        if scopes:
            claims["scope"] = " ".join(scopes)
        return jwt.encode(claims, key, algorithm="HS256")

    # -- its life

    async def start(self, *, within: float = READY_WITHIN_S) -> None:
        """Start and wait until `/readyz` says so; AssertionError with the output when it does not."""
        await self.launch()
        if self._process is None:
            raise AssertionError("the gateway was killed while it started")
        try:
            await self._until_ready(self._process, within)
        except BaseException:
            await self.kill()
            raise

    async def launch(self) -> None:
        """Start, and do not wait for it: for those who kill it before it is ready."""
        if self.is_running:
            raise AssertionError("the gateway is running already")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=ROOT,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        _running.add(process.pid)
        self._process = process
        self._reader = asyncio.create_task(self._read(process), name="gateway output")

    async def kill(self) -> None:
        """SIGKILL, and reap. Nothing happens when it is not running."""
        await self._signal(signal.SIGKILL, within=10.0)

    async def terminate(self, *, within: float = 45.0) -> int:
        """SIGTERM and wait for the exit; returns its code. Killed, and an AssertionError, when it stays."""
        process = self._process
        if process is None:
            raise AssertionError("the gateway is not running")
        await self._signal(signal.SIGTERM, within=within)
        return process.returncode if process.returncode is not None else -signal.SIGKILL

    async def restart(self, *, within: float = READY_WITHIN_S) -> None:
        """Start again on the same ports with the same data; killed first if it still runs."""
        await self.kill()
        await self.start(within=within)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and isinstance(error, Exception):
            error.add_note(f"--- output of the gateway ---\n{self.output}")
        await self.kill()

    # -- how

    def _environment(self) -> dict[str, str]:
        # Nothing of the developer's own gateway settings reaches a test.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        return inherited | {
            "GATEWAY_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_OPS_PORT": str(self.ops_port),
            "GATEWAY_DATA_DIR": str(self.data_dir),
            "GATEWAY_LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
            **self._env,
        }

    async def _until_ready(self, process: asyncio.subprocess.Process, within: float) -> None:
        said = "no answer"

        async def is_settled() -> bool:
            nonlocal said
            if process.returncode is not None:
                return True
            try:
                answer = await http.get(f"{self.url}/readyz")
            except httpx.TransportError as error:
                said = repr(error)
                return False
            said = f"{answer.status_code} {answer.text[:200]}"
            return answer.status_code == 200

        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            try:
                await until(is_settled, within=within)
            except AssertionError:
                said = f"the gateway was not ready within {within} s ({said})"
                raise AssertionError(f"{said}:\n{self.output}") from None
        if process.returncode is not None:
            await self._finish_reading()
            raise AssertionError(f"the gateway exited with {process.returncode}:\n{self.output}")

    async def _signal(self, number: signal.Signals, *, within: float) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        stayed = False
        try:
            async with asyncio.timeout(within):
                await process.wait()
        except TimeoutError:
            stayed = True
            process.kill()
            await process.wait()
        _running.discard(process.pid)
        self._process = None
        await self._finish_reading()
        if stayed:
            raise AssertionError(f"the gateway ignored {number.name} for {within} s:\n{self.output}")

    async def _finish_reading(self) -> None:
        if self._reader is not None:
            await self._reader
            self._reader = None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        # Always drained: a process whose pipe is full would stop at its next log line.
        if process.stdout is None:
            return
        unfinished = b""
        while chunk := await process.stdout.read(65536):
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            for line in lines:
                self._output.append(line[:OUTPUT_LINE_BYTES].decode(errors="replace"))
            unfinished = unfinished[:OUTPUT_LINE_BYTES]
        if unfinished:
            self._output.append(unfinished.decode(errors="replace"))
