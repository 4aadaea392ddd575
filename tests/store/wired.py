"""A way to Redis, and what is put and found by it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

from store.errors import Unavailable
from store.redis_client import TIMEOUT_S
from store.redis_wire.scripts import Command, Script
from store.redis_wire.wire import Wire

TAKE_ONCE: Final = Script("live_take_once")
PUT_ONCE: Final = Script("live_put_once", arguments=1)

# What a call may take when Redis does not answer, and some for a busy machine.
REFUSED_WITHIN_S: Final = TIMEOUT_S + 0.7


@asynccontextmanager
async def wired(url: str) -> AsyncIterator[Wire]:
    wire = Wire(url)
    try:
        yield wire
    finally:
        await wire.close()


def names(count: int) -> list[str]:
    prefix = f"t{uuid4().hex[:8]}"
    return [f"{prefix}:{number}" for number in range(count)]


async def put(wire: Wire, keys: list[str]) -> None:
    await wire.call([Command(key, ("SET", key, f"value of {key}", "PX", 60_000)) for key in keys])


async def got(wire: Wire, *keys: str) -> list[Any]:
    return await wire.call([Command(key, ("GET", key)) for key in keys])


def values(*keys: str) -> list[bytes]:
    return [f"value of {key}".encode() for key in keys]


async def answers(wire: Wire, key: str) -> bool:
    try:
        return await got(wire, key) is not None
    except Unavailable:
        return False
