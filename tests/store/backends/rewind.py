"""Lets time pass for what a Redis holds, without waiting: everything under a prefix is made so much older."""

import re
from collections.abc import Iterator
from typing import Any, Final

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from loadtest.servers.redis import RedisServer
from tests.store.backends.least import Servers

# As store/lua/live_put_records.lua writes the fields of a session.
_RECORD: Final = re.compile(rb"(\d+) (.*)", re.DOTALL)


class Contents:
    """All keys under a prefix, on one server or all nodes of a cluster."""

    def __init__(self, servers: Servers, prefix: str) -> None:
        nodes = [servers] if isinstance(servers, RedisServer) else servers.nodes
        self._clients: list[Any] = [
            redis.Redis.from_url(node.url, retry=Retry(NoBackoff(), 0), protocol=2) for node in nodes
        ]
        self._pattern = f"{prefix}:*"
        self._prefix = prefix

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def keys(self) -> set[str]:
        """Their names, without the prefix."""
        return {key.decode().removeprefix(f"{self._prefix}:") for _, key in self._all()}

    def everything(self) -> dict[str, object]:
        """Each key with what lies in it; of sorted sets the members without their scores."""
        found: dict[str, object] = {}
        for client, key in self._all():
            name = key.decode().removeprefix(f"{self._prefix}:")
            match client.type(key):
                case b"zset":
                    found[name] = {member.decode() for member in client.zrange(key, 0, -1)}
                case b"hash":
                    found[name] = {
                        field.decode(): value.decode() for field, value in client.hgetall(key).items()
                    }
                case b"string":
                    found[name] = client.get(key)
        return found

    def longest_ms(self) -> dict[str, int]:
        """How long each key would still live; -1 for ever."""
        return {
            key.decode().removeprefix(f"{self._prefix}:"): client.pttl(key) for client, key in self._all()
        }

    def clear(self) -> None:
        """Lose everything."""
        for client, key in self._all():
            client.delete(key)

    def put_member(self, key: str, member: str, lease_ms: int) -> None:
        """Write a member into an index, and nothing else."""
        name = f"{self._prefix}:{key}"
        for client in self._clients:
            try:
                seconds, micros = client.time()
                client.zadd(name, {member: seconds * 1000 + micros // 1000 + lease_ms})
                client.pexpire(name, lease_ms)
            except redis.exceptions.MovedError:
                continue  # it lies on another node

    def age(self, ms: int) -> None:
        """Make everything older."""
        for client, key in self._all():
            kind = client.type(key)
            if kind == b"zset":
                for member, score in client.zrange(key, 0, -1, withscores=True):
                    # Below zero stands the end of a claim (store/lua/live_take.lua).
                    client.zadd(key, {member: score - ms if score > 0 else score + ms}, xx=True)
            elif kind == b"hash":
                for field, value in client.hgetall(key).items():
                    if found := _RECORD.fullmatch(value):
                        client.hset(key, field, b"%d %b" % (int(found[1]) - ms, found[2]))
            left = client.pttl(key)
            assert left != -1, f"{key.decode()} would stay for ever"
            client.pexpire(key, left - ms)

    def _all(self) -> Iterator[tuple[Any, bytes]]:
        for client in self._clients:
            for key in list(client.scan_iter(self._pattern, count=1000)):
                yield client, key
