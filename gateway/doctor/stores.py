"""The stores: the SQLite file, or Postgres and Redis. What is tried in Redis is gone a second later."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.addresses import is_local, is_verified, redacted
from gateway.doctor.finding import Finding
from gateway.places import places_of
from gateway.settings import Settings
from store.errors import SchemaRefused, StoreError, Unavailable
from store.open import Places, Stores, examine_database, examine_log, examine_redis, open_stores

if TYPE_CHECKING:
    from store.open import PostgresCheckup, RedisCheckup

# What the schema and the statements were made and measured on.
OLDEST_POSTGRES: Final = 15
OLDEST_REDIS: Final = (6, 2)
# Expiry is judged by the clocks of the nodes, tokens with 5 s of patience.
CLOCK_NOTE_MS: Final = 1_000
CLOCK_PROBLEM_MS: Final = 5_000
# A rolling restart has one node more than there are.
FEWEST_NODES: Final = 3
# Of a subscriber that is behind: a burst of hints to one node is some MiB.
LEAST_BUFFER_BYTES: Final = 8 << 20
TRIED_MS: Final = 1_000


def stores(settings: Settings) -> Iterator[Finding]:
    """Look at the database, and at Redis where there is one."""
    places = places_of(settings)
    if places.database_url is None:
        yield _file(places.data_dir)
        return
    yield from _postgres(places)
    if places.redis_url is None:
        advice = "set GATEWAY_REDIS_URL before a second node is started on this database"
        yield Finding("redis", "note", "none: this node has to be the only one", advice)
    else:
        yield from _redis(places)


def _file(folder: Path) -> Finding:
    try:
        found = examine_log(folder)
    except (StoreError, OSError) as error:
        return Finding(
            "database", "problem", str(error), "restore it from a backup, or start the right version"
        )
    if found is None:
        return Finding("database", "ok", "none yet, the first start makes it")
    size = f"{found.path.name}, {found.size_bytes / (1 << 20):.1f} MiB"
    if found.fault is not None:
        return Finding(
            "database", "problem", f"{size}: {found.fault}", "stop the gateway and restore a backup"
        )
    if found.journal_mode != "wal":
        advice = "start the gateway once, it changes that by itself"
        return Finding(
            "database", "note", f"{size}, journal mode {found.journal_mode} instead of wal", advice
        )
    if found.pending:
        advice = "run `gateway migrate`, or start the gateway"
        return Finding("database", "note", f"{size}, whole, lacks {', '.join(found.pending)}", advice)
    return Finding("database", "ok", f"{size}, whole, up to date")


# -- Postgres


def _postgres(places: Places) -> Iterator[Finding]:
    try:
        found = examine_database(places)
    except Unavailable as error:
        advice = "start it, or correct GATEWAY_DATABASE_URL; this machine has to reach it"
        yield Finding("database", "problem", str(error), advice)
        return
    except SchemaRefused as error:
        yield Finding("database", "problem", str(error), "start the right version, or restore a backup")
        return
    yield _schema(found)
    if not found.is_safe:
        what = "fsync or full_page_writes is off: what was acked is lost when its machine crashes"
        yield Finding("database safety", "problem", what, "set both on in postgresql.conf, and restart it")
    yield _transport(places.database_url or "")
    yield _room(found, places.database_pool)
    yield _difference(found.clock_ms - time.time_ns() // 1_000_000)


def _schema(found: "PostgresCheckup") -> Finding:
    what = f"{found.place}, Postgres {found.version}, {found.size_bytes / (1 << 20):.1f} MiB"
    if found.pending:
        lacking = f"{what}, lacks {', '.join(found.pending)}"
        return Finding("database", "problem", lacking, "run `gateway migrate`: no node starts before it")
    if int(found.version.split(".")[0].split(" ")[0]) < OLDEST_POSTGRES:
        return Finding(
            "database", "note", what, f"it was made for Postgres {OLDEST_POSTGRES}: plan to upgrade"
        )
    if found.unfinished:
        unfinished = f"{what}, not finished: {', '.join(found.unfinished)}"
        advice = "run `gateway migrate --finish` once no node of the older version runs"
        return Finding("database", "note", unfinished, advice)
    return Finding("database", "ok", f"{what}, up to date")


def _transport(url: str) -> Finding:
    if is_local(url):
        return Finding("database transport", "ok", "does not leave this machine")
    if is_verified(url):
        return Finding("database transport", "ok", "TLS, and it is checked whom it speaks with")
    advice = "add sslmode=verify-full to GATEWAY_DATABASE_URL, with sslrootcert= for an authority of your own"
    return Finding("database transport", "note", "others may read along, or answer in its place", advice)


def _room(found: "PostgresCheckup", pool: int) -> Finding:
    nodes = found.max_connections // pool
    what = f"{pool} for this node, {found.max_connections} for all: room for {nodes} nodes like it"
    if nodes >= FEWEST_NODES:
        return Finding("database connections", "ok", what)
    advice = "raise max_connections of Postgres, or lower GATEWAY_DATABASE_POOL"
    return Finding("database connections", "problem" if nodes < 1 else "note", what, advice)


def _difference(ms: int) -> Finding:
    what = f"{abs(ms) / 1000:.1f} s {'ahead of' if ms > 0 else 'behind'} this machine"
    if abs(ms) < CLOCK_NOTE_MS:
        return Finding("database clock", "ok", what)
    advice = "keep the clocks of all nodes set (NTP): sessions expire and tokens end by them"
    return Finding("database clock", "note" if abs(ms) < CLOCK_PROBLEM_MS else "problem", what, advice)


# -- Redis


def _redis(places: Places) -> Iterator[Finding]:
    url = places.redis_url or ""
    try:
        found = examine_redis(places)
    except Unavailable as error:
        advice = "start it, or correct GATEWAY_REDIS_URL; a node starts without it, degraded"
        yield Finding("redis", "problem", f"{redacted(url)}: {error}", advice)
        return
    yield _server(redacted(url), found)
    if found.hidden:
        what = f"this user may not ask for {' and '.join(found.hidden)}"
        yield Finding("redis settings", "note", what, "compare them with docs/redis.md as its administrator")
    yield from _memory(found)
    if found.is_kept:
        what = "it writes to disk: after a crash it comes back with what was true some time ago"
        advice = 'set `save ""` and `appendonly no`, if nobody else keeps anything there'
        yield Finding("redis persistence", "note", what, advice)
    if found.subscriber_bytes is not None and 0 < found.subscriber_bytes < LEAST_BUFFER_BYTES:
        what = f"a subscriber is cut off when it is {found.subscriber_bytes >> 20} MiB behind"
        advice = "set client-output-buffer-limit pubsub to 32mb 8mb 60"
        yield Finding("redis pub/sub", "note", what, advice)
    yield from asyncio.run(_tried(places))


def _server(place: str, found: "RedisCheckup") -> Finding:
    what = f"{place}, Redis {found.version}"
    if found.is_cluster != place.partition("://")[0].endswith("+cluster"):
        kind, scheme = ("a node of", "redis+cluster://") if found.is_cluster else ("no node of", "redis://")
        advice = (
            f"let GATEWAY_REDIS_URL begin with {scheme}, or with TLS {scheme.replace('redis', 'rediss', 1)}"
        )
        return Finding("redis", "problem", f"{what}, is {kind} a cluster", advice)
    if found.version_number < OLDEST_REDIS:
        return Finding("redis", "problem", what, "upgrade it: 6.2 is the oldest that is served")
    if found.is_replica:
        return Finding("redis", "problem", f"{what}, is a replica", "name the primary in GATEWAY_REDIS_URL")
    if found.cluster_fault is not None:
        return Finding(
            "redis", "problem", f"{what}, {found.cluster_fault}", "repair it: `redis-cli --cluster check`"
        )
    return Finding(
        "redis", "ok", f"{what}, a cluster whose slots are all served" if found.is_cluster else what
    )


def _memory(found: "RedisCheckup") -> Iterator[Finding]:
    if found.eviction is None:
        return
    if found.eviction == "noeviction":
        yield Finding(
            "redis memory", "ok", f"{found.used_bytes / (1 << 20):.1f} MiB in use, nothing is evicted"
        )
        return
    what = f"maxmemory-policy {found.eviction}: when it is full it forgets connections, leases and versions"
    yield Finding("redis memory", "note", what, "set maxmemory-policy to noeviction, and watch its memory")


async def _tried(places: Places) -> list[Finding]:
    """Do there what a node does, and leave nothing behind: missing rights are found in no other way."""
    opened = open_stores(places)
    trials: tuple[tuple[str, Callable[[Stores], Awaitable[None]]], ...] = (
        ("indexes", _try_live),
        ("cache", _try_cache),
        ("pub/sub", _try_bus),
    )
    findings = []
    for name, trial in trials:
        try:
            await trial(opened)
        except Unavailable as error:
            advice = "give its user what docs/redis.md lists"
            findings.append(Finding("redis rights", "problem", f"{name}: {error}", advice))
    return findings or [Finding("redis rights", "ok", "indexes, cache and pub/sub work")]


async def _try_live(opened: Stores) -> None:
    await opened.live.start()
    try:
        digest = hashlib.sha256(secrets.token_bytes(16)).hexdigest()
        await opened.live.put_once("ticket", [(digest, b"")], ttl_ms=TRIED_MS)
        await opened.live.take_once("ticket", digest)
        await opened.live.nodes()
    finally:
        await opened.live.close()


async def _try_cache(opened: Stores) -> None:
    await opened.cache.start()
    try:
        key = f"doctor-{secrets.token_hex(8)}"
        version = await opened.cache.now_ms(key)
        await opened.cache.put(key, b"", version=version, ttl_ms=TRIED_MS)
        await opened.cache.get(key)
        await opened.cache.outdate_many([key], margin_ms=0, ttl_ms=TRIED_MS)
        await opened.cache.drop(key, version=version + TRIED_MS, ttl_ms=TRIED_MS)
    finally:
        await opened.cache.close()


async def _try_bus(opened: Stores) -> None:
    # It has published to itself when it is up.
    await opened.bus.start(lambda channel, payload: None, lambda: None)
    try:
        if opened.bus.state != "up":
            raise Unavailable("what is published does not arrive")
    finally:
        await opened.bus.close()
