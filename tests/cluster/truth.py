"""What Redis says beside what is true: all keys under the prefix, and the crowd's own connections."""

from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from store.redis_client import is_cluster
from tests.cluster.crowd import Crowd
from tests.cluster.world import World
from tests.evidence.indexes import Key, Leases, Living, Snapshot, Untrue, check_indexes
from tests.waiting import until

BATCH: Final = 500


async def take_snapshot(url: str, prefix: str) -> Snapshot:
    """Read every key. Not at one moment, but each of them after the last thing that was done to the crowd."""
    keys: list[Key] = []
    now_ms = 0
    for server in await _servers(url):
        async with Redis.from_url(server, decode_responses=True) as redis:
            seconds, micros = await redis.time()
            now_ms = max(now_ms, seconds * 1000 + micros // 1000)
            names = sorted({name async for name in redis.scan_iter(f"{prefix}:*", count=BATCH)})
            for start in range(0, len(names), BATCH):
                keys += await _keys(redis, names[start : start + BATCH])
    return Snapshot(prefix=prefix, now_ms=now_ms, keys=keys)


async def _servers(url: str) -> list[str]:
    """The one server, or each primary of a cluster."""
    if not is_cluster(url):
        return [url]
    async with RedisCluster.from_url(url.replace("+cluster", "")) as cluster:
        return [f"redis://{node.host}:{node.port}" for node in cluster.get_primaries()]


async def _keys(redis: "Redis", names: Sequence[str]) -> list[Key]:
    async with redis.pipeline(transaction=False) as asking:
        for name in names:
            asking.execute_command("TYPE", name)
            asking.execute_command("PTTL", name)
        told = await asking.execute()
    kinds, ttls = told[::2], told[1::2]
    sets = [name for name, kind in zip(names, kinds, strict=True) if kind == "zset"]
    async with redis.pipeline(transaction=False) as asking:
        for name in sets:
            asking.execute_command("ZRANGE", name, "0", "-1", "WITHSCORES", withscores=True)
        members = dict(zip(sets, await asking.execute(), strict=True))
    return [
        Key(name=name, ttl_ms=None if ttl == -1 else ttl, members=dict(members.get(name, ())))
        for name, ttl in zip(names, ttls, strict=True)
        if ttl != -2
    ]


def living(crowd: Crowd) -> list[Living]:
    """The connections that are open, as their clients know them from welcome and attached."""
    return [
        Living(id=one.connection, user=one.name, node=one.node, sessions=frozenset(one.attached))
        for one in crowd.speakers
        if one.is_connected
    ]


async def until_true(world: World, crowd: Crowd, leases: Leases, *, within: float) -> None:
    """Wait until the indexes are true; AssertionError with what is not."""
    assert world.ground is not None
    url, found = world.ground.redis_url, list[Untrue]()

    async def is_true() -> bool:
        found[:] = check_indexes(await take_snapshot(url, world.prefix), living(crowd), leases)
        return not found

    try:
        await until(is_true, within=within, what="indexes true")
    except AssertionError as failure:
        failure.add_note("\n".join(map(str, [f"{len(found)} entries are wrong", *found[:20]])))
        raise
