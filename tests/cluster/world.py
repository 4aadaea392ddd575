"""The nodes of one test: gateway processes on one database and one Redis, under a prefix of their own."""

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import httpx

from tests.process import GatewayProcess, free_port

SECRET: Final = "a secret of the tests, long enough for HS256"
# Entries are asserted anew with each heartbeat, and must be true again within one.
HEARTBEAT_MS: Final = 1_000
# Long beside it: a test must not lose a client because two cores were busy for a moment.
TIMEOUT_MS: Final = 15_000
# What an entry of a connection lives for after its last assertion (gateway/runtime/leases.py).
LEASE_MS: Final = TIMEOUT_MS + 15_000
# All clients come from one address.
ROOMY: Final = {
    "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "10000",
    "GATEWAY_MAX_ACCEPTS_PER_S": "10000",
    "GATEWAY_MAX_FRAMES_PER_S": "1000",
    "GATEWAY_MAX_FRAMES_BURST": "2000",
    "GATEWAY_HEARTBEAT_MS": str(HEARTBEAT_MS),
    "GATEWAY_HEARTBEAT_TIMEOUT_MS": str(TIMEOUT_MS),
    "GATEWAY_SWEEP_S": "1",
}
# As a node is started; tests with something up their sleeve start it otherwise.
SERVE: Final = (sys.executable, "-m", "gateway", "serve")
_SAMPLE: Final = re.compile(r"^(\w+)(\{[^}]*\})? (\S+)$", re.M)


@dataclass(frozen=True, slots=True)
class Ground:
    """What the nodes stand on. Behind proxies each node has a URL of its own, else they share one.

    `database_url` and `redis_url` are the ways past every proxy, for whoever looks on.
    """

    database_url: str
    redis_url: str
    database_urls: tuple[str, ...] = ()
    redis_urls: tuple[str, ...] = ()


class World:
    """`count` nodes, named n1, n2 …, started together; without ground, one embedded gateway."""

    def __init__(
        self,
        folder: Path,
        ground: Ground | None,
        *,
        count: int = 3,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = SERVE,
    ) -> None:
        self.ground = ground
        self.prefix = f"t{uuid4().hex[:8]}"
        self.nodes: list[GatewayProcess] = []
        self._folder = folder
        self._env = dict(env or {})
        self._command = command
        for _ in range(count):
            self._make()
        self._stack = AsyncExitStack()

    def _make(self) -> GatewayProcess:
        n, port = len(self.nodes), free_port()
        settings = {
            **ROOMY,
            "GATEWAY_JWT_SECRET": SECRET,
            "GATEWAY_NODE_ID": f"n{n + 1}",
            "GATEWAY_ADVERTISE_URL": f"ws://127.0.0.1:{port}/ws",
            **self._env,
        }
        if (ground := self.ground) is not None:
            databases = ground.database_urls or (ground.database_url,)
            redises = ground.redis_urls or (ground.redis_url,)
            settings["GATEWAY_DATABASE_URL"] = databases[n % len(databases)]
            settings["GATEWAY_REDIS_URL"] = redises[n % len(redises)]
            settings["GATEWAY_REDIS_PREFIX"] = self.prefix
        folder = self._folder / f"n{n + 1}"
        self.nodes.append(GatewayProcess(folder, port=port, env=settings, command=self._command))
        return self.nodes[-1]

    async def add(self) -> GatewayProcess:
        """Start one more node, beside those that run."""
        return await self._stack.enter_async_context(self._make())

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            # Together, as a cluster that is rolled out: they meet at the migration of an empty database.
            await asyncio.gather(*(stack.enter_async_context(node) for node in self.nodes))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    # -- what they say of themselves

    async def ready(self) -> list[tuple[int, str]]:
        """Status and body of every node's /readyz."""
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            answers = await asyncio.gather(*(http.get(f"{node.ops_url}/readyz") for node in self.nodes))
        return [(answer.status_code, answer.text) for answer in answers]

    async def metric(self, name: str, **labels: str) -> list[float]:
        """One sample of every node; 0 where it is not there."""
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            answers = await asyncio.gather(*(http.get(f"{node.ops_url}/metrics") for node in self.nodes))
        wanted = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
        return [
            next(
                (float(v) for n, said, v in _SAMPLE.findall(answer.text) if (n, said) == (name, wanted)), 0.0
            )
            for answer in answers
        ]
