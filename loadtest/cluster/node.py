"""One gateway node of the cluster: a process, its ports, its log."""

import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from loadtest.cluster.balancer import HOST, Target
from loadtest.servers.child import Child, Orders

# Long enough for its drain (`DRAIN_S`) and the last commits. What stays is killed, which loses nothing acked.
ENDS_WITHIN_S: Final = 15.0
# Whoever presses Ctrl-C on a cluster of his own does not wait half a minute for its clients to move.
DRAIN_S: Final = "3"
# Behind the balancer all clients come from one address.
ROOMY: Final = {"GATEWAY_DRAIN_S": DRAIN_S, "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS": "10000"}


class PortTaken(Exception):
    """A port of the cluster belongs to another program. The text says which."""


def listening(port: int) -> socket.socket:
    """Bind a port of this machine, 0 for a free one. PortTaken."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise PortTaken(
            f"Port {port} on {HOST} cannot be had ({error.strerror}): "
            "stop the program that has it, or choose another --port."
        ) from error
    bound.setblocking(False)
    return bound


class GatewayNode:
    """A `gateway serve` that shares database, Redis and development key with the others."""

    def __init__(self, target: Target, shared: Mapping[str, str], folder: Path) -> None:
        self.target = target
        self.log = folder / f"{target.name}.log"
        self.log.unlink(missing_ok=True)
        environment = {
            **{name: value for name, value in ROOMY.items() if name not in os.environ},
            **shared,
            "GATEWAY_NODE_ID": target.name,
            "GATEWAY_HOST": HOST,
            "GATEWAY_PORT": str(target.port),
            "GATEWAY_OPS_PORT": str(target.ops_port),
            "GATEWAY_ADVERTISE_URL": f"ws://{HOST}:{target.port}/ws",
            "GATEWAY_LOG_FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        }
        self._child = Child(
            Orders([sys.executable, "-m", "gateway", "serve"], self.log, stop=signal.SIGTERM, env=environment)
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    @property
    def code(self) -> int | None:
        """The exit code once it ended; 128 + the signal's number when one ended it."""
        return self._child.code

    def ask_to_stop(self) -> None:
        """SIGTERM: it lets its clients move and commits what is in flight."""
        self._child.send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL. Nothing that was acknowledged is lost."""
        self._child.send(signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end; ServerFailed, and it is killed, when it stays."""
        self._child.wait(within=ENDS_WITHIN_S)

    def said(self) -> str:
        """The last lines it wrote."""
        return self._child.said()
