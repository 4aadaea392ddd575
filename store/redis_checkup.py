"""Looks at a Redis without changing it. What its user may not ask for is left out, and named."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ResponseError

from store.redis_client import open_client, translated

# `pubsub`, hard limit, soft limit, seconds.
_SOFT_LIMIT: Final = 2


@dataclass(frozen=True)
class RedisCheckup:
    """What was found, and `hidden`: what could not be asked.

    `eviction` is maxmemory-policy, `is_kept` whether anything is written to disk, `subscriber_bytes` what a
    subscriber may be behind (0: any amount); None where it is hidden.
    """

    version: str
    is_cluster: bool
    cluster_fault: str | None
    is_replica: bool
    eviction: str | None
    used_bytes: int
    is_kept: bool
    subscriber_bytes: int | None
    hidden: tuple[str, ...]

    @property
    def version_number(self) -> tuple[int, ...]:
        """To compare with others."""
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())


def examine(url: str) -> RedisCheckup:
    """Look at the server that a URL names; of a cluster, at that node. Unavailable."""
    return asyncio.run(_examine(url))


async def _examine(url: str) -> RedisCheckup:
    # The server itself, also of a cluster: some questions are about one node.
    client: Any = open_client(url.replace("+cluster", "", 1), connections=1)
    try:
        with translated():
            await client.ping()
            return await _look(client)
    finally:
        await client.aclose()


async def _look(client: Any) -> RedisCheckup:
    hidden: list[str] = []

    async def ask(*command: str) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = await client.execute_command(*command)
        except ResponseError:
            # Not allowed to this user; hosted servers rename CONFIG too.
            hidden.append(" ".join(command[:2]))
            return {}
        return answer

    info = await ask("INFO")
    is_clustered = bool(info.get("cluster_enabled"))
    cluster = await ask("CLUSTER INFO") if is_clustered else {}
    # One by one: Redis 6.2 takes one name in a call.
    save = await ask("CONFIG GET", "save")
    limits = await ask("CONFIG GET", "client-output-buffer-limit")
    return RedisCheckup(
        version=str(info.get("redis_version", "")),
        is_cluster=is_clustered,
        cluster_fault=_cluster_fault(cluster),
        is_replica=info.get("role", "master") != "master",
        eviction=info.get("maxmemory_policy"),
        used_bytes=int(info.get("used_memory", 0)),
        is_kept=bool(info.get("aof_enabled")) or bool(save.get("save")),
        subscriber_bytes=_subscriber_bytes(str(limits.get("client-output-buffer-limit", ""))),
        hidden=tuple(hidden),
    )


def _cluster_fault(told: Mapping[str, Any]) -> str | None:
    state = told.get("cluster_state", "ok")
    if state == "ok":
        return None
    return f"its cluster is in state {state}, {told.get('cluster_slots_ok')} of 16384 slots are served"


def _subscriber_bytes(limits: str) -> int | None:
    """Read `normal 0 0 0 … pubsub 33554432 8388608 60`: the soft limit of those who subscribe."""
    words = limits.split()
    return int(words[words.index("pubsub") + _SOFT_LIMIT]) if "pubsub" in words else None
