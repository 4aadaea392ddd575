"""TCP ports to start servers on."""

import random
import socket
from pathlib import Path
from typing import Final

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 11_000
_TRIES: Final = 1000

_given: set[int] = set()


def free_port(*, beside: int = 0) -> int:
    """Find a port of 127.0.0.1 that nobody listens on; with `beside`, port + beside is free as well.

    It is not one of those that the system hands to clients: while a server is down, a client could be given
    its port, so that the server cannot come back, or the client even talks to itself.
    """
    limit = _first_of_clients() - beside
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, limit) if limit > _LOWEST else _from_system()  # noqa: S311
        if port not in _given and _is_free(port) and (not beside or _is_free(port + beside)):
            _given.add(port)
            return port
    raise OSError("no free TCP port was found on 127.0.0.1")


def _first_of_clients() -> int:
    try:
        return int(_RANGE.read_text().split()[0])
    except OSError:
        return 32_768


def _from_system() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
