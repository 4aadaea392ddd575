"""The user of the documents: who may do nothing but what docs/redis.md says, and only under one prefix."""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from loadtest.servers.redis import RedisClusterServers, RedisServer

_DOCUMENT = Path(__file__).parents[3] / "docs" / "redis.md"
_PASSWORD = "a-password-of-the-tests"


class LeastRedis:
    """Servers on which every prefix has a user of its own, with the rights of the documents."""

    def __init__(self, servers: RedisServer | RedisClusterServers) -> None:
        self.servers = servers
        self.nodes = servers.nodes if isinstance(servers, RedisClusterServers) else [servers]


Servers = RedisServer | RedisClusterServers | LeastRedis


def lines() -> list[str]:
    """The lines of the document: for Redis 7, and for 6.2."""
    found = re.findall(r"^user gateway (on .*)$", _DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert len(found) == 2, found
    return found


def line_for(server: RedisServer) -> str:
    newer, older = lines()
    return older if server.version_number.startswith("6.") else newer


def url_of(servers: Servers, prefix: str) -> str:
    """Where a store is to connect to, and as whom."""
    if not isinstance(servers, LeastRedis):
        return servers.url
    for node in servers.nodes:
        rights = line_for(node).replace("gateway:", f"{prefix}:").replace(">SECRET", f">{_PASSWORD}")
        node.run("ACL", "SETUSER", prefix, *rights.split())
    parts = urlsplit(servers.servers.url)
    return urlunsplit(parts._replace(netloc=f"{prefix}:{_PASSWORD}@{parts.netloc}"))
