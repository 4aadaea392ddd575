"""TCP ports to start servers on."""

import random
import socket
from pathlib import Path
from typing import Final

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 11_000
_TRIES: Final = 1000

_given: set[int] = set()
# Not the common source of chance: a test that seeds it would get the same ports as another run that does.
_chance: Final = random.SystemRandom()


def free_port(*, beside: int = 0) -> int:
    """Find a port of 127.0.0.1 that nobody listens on; with `beside`, port + beside is free as well.

    It is not one of those that the system hands to clients: while a server is down, a client could be given
    its port, so that the server cannot come back, or the client even talks to itself.
    """
    limit = _first_of_clients() - beside
    for _ in range(_TRIES):
        port = _chance.randrange(_LOWEST, limit) if limit > _LOWEST else _from_system()
        wanted = {port, port + beside}
        if not wanted & _given and all(map(_is_free, wanted)):
            _given.update(wanted)
            return port
    raise OSError("no free TCP port was found on 127.0.0.1")


def reserve(port: int) -> socket.socket:
    """Hold a port for a server that is ended and started again: meanwhile nobody else finds it free.

    The server itself gets it, for it sets SO_REUSEADDR and this socket never listens; clients are refused.
    """
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        raise
    return held


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
        # Without SO_REUSEADDR, or what is reserved would seem to be free.
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
