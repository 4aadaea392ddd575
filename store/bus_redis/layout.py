"""Which servers a bus consists of: one, or the primaries of a Redis Cluster and their slots."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from redis.crc import key_slot

from store.bus_redis.dialect import ORDINARY, SHARDED, Dialect
from store.bus_redis.server import Address, Server, ask
from store.errors import Unavailable

SLOTS: Final = 16_384


class Layout(NamedTuple):
    """How the bus speaks, and for each address which slots are there. `known` are all places to ask again."""

    dialect: Dialect
    slots: dict[Address, list[range]]
    known: list[Address]


def alone(address: Address) -> Layout:
    """One server, whatever the channel."""
    return Layout(ORDINARY, {address: [range(SLOTS)]}, [address])


async def read(server: Server, addresses: Iterable[Address]) -> Layout:
    """Ask the first node of a cluster that answers. Unavailable."""
    reasons: list[str] = []
    for address in dict.fromkeys(addresses):
        try:
            return await _read_at(server, address)
        except Unavailable as error:
            reasons.append(str(error))
    raise Unavailable(f"no node of the Redis Cluster answers: {'; '.join(reasons)}")


async def _read_at(server: Server, address: Address) -> Layout:
    link = await server.connect(address, _unasked)
    try:
        # Without its arguments: Redis says that they are missing, or that it has no such command.
        slots, publish = await ask(link, ("CLUSTER", "SLOTS"), ("SPUBLISH",))
    finally:
        link.abort("asked")
    if isinstance(slots, Exception):
        raise Unavailable(f"Redis at {address} does not say where the slots are: {slots}") from slots
    owners, known = owners_of(slots, address)
    if "unknown command" in str(publish):
        # Before Redis 7 a payload crosses the whole cluster wherever it is published: one node is enough,
        # and it may be the one that answers.
        return Layout(ORDINARY, {address: [range(SLOTS)]}, known)
    return Layout(SHARDED, owners, known)


def owners_of(told: list[Any], asked: Address) -> tuple[dict[Address, list[range]], list[Address]]:
    owners: dict[Address, list[range]] = {}
    known: list[Address] = []
    for first, last, *nodes in told:
        # The first is the primary. An empty host means: the one you have asked.
        places = [Address(_host(host) or asked.host, port) for host, port, *_ in nodes]
        owners.setdefault(places[0], []).append(range(first, last + 1))
        known += places
    return owners, list(dict.fromkeys(known))


def _host(told: bytes | None) -> str:
    return "" if not told or told == b"?" else told.decode()


def probe_channel(stem: bytes, slots: list[range]) -> bytes:
    """Make the name of a channel that lives in one of these slots."""
    number = 0
    while True:
        wire = b"%b%d}" % (stem, number)
        slot = key_slot(wire)
        if any(slot in part for part in slots):
            return wire
        number += 1


def _unasked(reply: Any) -> None:
    """Who takes what nobody asked for."""
