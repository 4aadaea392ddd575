"""`python -m loadtest.cluster` under a test's control."""

import asyncio
import re
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import jwt
import psutil

ROOT: Final = Path(__file__).parents[2]
_READY_WITHIN_S: Final = 45.0


class ClusterProcess:
    """A cluster on free ports, started by the command a person would call."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self._lines: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reading: list[asyncio.Task[None]] = []

    @property
    def output(self) -> str:
        return "\n".join(self._lines)

    @property
    def url(self) -> str:
        """The balancer's."""
        return self._found(r"^open +(http://\S+)$")[0]

    @property
    def node_urls(self) -> list[str]:
        return self._found(r"^n\d+ +(http://\S+) ")

    @property
    def ops_urls(self) -> list[str]:
        return self._found(r"^n\d+ .* ops (http://\S+) ")

    @property
    def node_pids(self) -> list[int]:
        return [int(pid) for pid in self._found(r"^n\d+ .* pid (\d+) ")]

    def family(self) -> list[psutil.Process]:
        """The command itself and all that it has started."""
        assert self._process is not None
        own = psutil.Process(self._process.pid)
        return [own, *own.children(recursive=True)]

    def token(self, user: str) -> str:
        key = (self.folder / "gateway" / "dev-key").read_text().strip()
        now = int(time.time())
        claims = {"sub": user, "aud": "session-gateway", "tenant": "default", "iat": now, "exp": now + 600}
        return jwt.encode(claims, key, algorithm="HS256")

    async def start(self) -> None:
        """Start it; it need not get far."""
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtest.cluster", "--port", "0", "--folder", str(self.folder)),
            *self._options,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            self._reading.append(asyncio.create_task(self._read(stream), name="output of the cluster"))

    async def ready(self) -> None:
        """Wait until everything runs."""
        assert self._process is not None
        async with asyncio.timeout(_READY_WITHIN_S):
            while "Ctrl-C ends it all." not in self.output:
                done, _ = await asyncio.wait(self._reading, timeout=0.02)
                assert not done, self.output

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, *, within: float = 30.0) -> int:
        """Wait for its end; the exit code."""
        assert self._process is not None
        async with asyncio.timeout(within):
            code = await self._process.wait()
            await asyncio.gather(*self._reading)
        return code

    async def __aenter__(self) -> Self:
        await self.start()
        try:
            await self.ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            error.add_note(f"--- output of the cluster ---\n{self.output}")
        await self._end()

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self.send(signal.SIGTERM)
        await self.wait()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self._lines.append(line.decode().rstrip())

    def _found(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.output, flags=re.M)
