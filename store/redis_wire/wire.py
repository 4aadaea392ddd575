"""Sends commands where their keys are: to the one server, or over the nodes of a Redis Cluster.

Heals by itself what is no failure: a script that a server does not know, a slot that has moved.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoScriptError

from store.errors import Unavailable
from store.redis_client import open_client, translated
from store.redis_wire.lane import Lane
from store.redis_wire.scripts import Call, Command, first_of
from store.redis_wire.topology import Topology, connection_to

# One conversation at a time with each server, and one connection in reserve while another is being closed.
CONNECTIONS: Final = 2
# A slot that moves again and again while it is followed is left to the next call.
HEALED: Final = 3

# What is no failure yet: asked again it succeeds. A MovedError is an AskError.
_CURABLE: Final = (NoScriptError, AskError)

Asked: TypeAlias = "Command | Call"

_PING: Final = Command("", ("PING",))
_ASKING: Final = Command("", ("ASKING",))


class Wire:
    """Commands and their replies. Not connected before the first call; an absent server fails only calls."""

    def __init__(self, url: str) -> None:
        self._client = open_client(url, connections=CONNECTIONS)
        self._topology = Topology(self._client) if isinstance(self._client, RedisCluster) else None
        self._lanes: dict[str, Lane] = {}
        self._trips = 0  # of lanes that are closed

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            self._trips += lane.trips
            await lane.close()
        with translated():
            if self._topology is not None:
                await self._topology.close()
            await self._client.aclose()

    @property
    def round_trips(self) -> int:
        """Pipelines that were sent since the start, to each server its own."""
        return self._trips + sum(lane.trips for lane in self._lanes.values())

    @property
    def is_spread(self) -> bool:
        """Whether keys lie on several servers, each of which answers when it does."""
        return self._topology is not None

    def slot_of(self, key: str) -> int:
        """Keys of one slot may stand in one command."""
        return 0 if self._topology is None else key_slot(key.encode())

    @property
    def slot_in(self) -> "Callable[[bytes], int] | None":
        """As `slot_of`, of the first of some words. None: one server has all slots."""
        return None if self._topology is None else _slot_in

    async def ping(self) -> None:
        """Have every server that takes writes answer. Unavailable."""
        with translated():
            if self._topology is None:
                lanes = [self._lane_of(_PING)]
            else:
                await self._topology.know()
                lanes = [self._lane_to(node) for node in self._topology.primaries()]
            for outcome in [lane.send([_PING]) for lane in lanes]:
                _raise_first(self._learned(await outcome, 1))

    async def call(self, commands: Sequence[Asked]) -> list[Any]:
        """Send commands; return their replies. One round trip, to all servers at the same time. Unavailable.

        Commands on one key take effect in the order in which they are given, those of other calls included.
        """
        with translated():
            if self._topology is not None and await self._topology.know():
                await self._forget_gone()
            commands = list(commands)
            replies = await self._ask(commands)
            for _ in range(HEALED):
                failed = [place for place, reply in enumerate(replies) if isinstance(reply, _CURABLE)]
                if not failed:
                    break
                await self._heal(commands, replies, failed)
            _raise_first(replies)
        return replies

    async def call_each(self, groups: Sequence[Sequence[Asked]]) -> list[list[Any]]:
        """As `call`, one group after the other; one that fails keeps none behind it from being sent."""
        outcomes = [await _outcome(self.call(group)) for group in groups]
        _raise_first(outcomes)
        return [outcome for outcome in outcomes if isinstance(outcome, list)]

    async def _ask(self, commands: Sequence[Asked]) -> list[Any]:
        parts: dict[Lane, list[int]] = {}
        for place, command in enumerate(commands):
            parts.setdefault(self._lane_of(command), []).append(place)
        outcomes = [lane.send([commands[place] for place in places]) for lane, places in parts.items()]
        replies: list[Any] = [None] * len(commands)
        for outcome, places in zip(outcomes, parts.values(), strict=True):
            for place, reply in zip(places, self._learned(await outcome, len(places)), strict=True):
                replies[place] = reply
        return replies

    async def _heal(self, commands: list[Asked], replies: list[Any], failed: list[int]) -> None:
        """Ask again where the failure has a cure."""
        again: list[int] = []
        for place in failed:
            error = replies[place]
            if isinstance(error, NoScriptError):
                commands[place] = commands[place].in_full()
            elif self._topology is not None and isinstance(error, MovedError):
                await self._topology.moved(error)
            elif self._topology is not None:
                # Its keys are on their way: this node answers for those that have arrived.
                lane = self._lane_to(self._topology.importing(error))
                replies[place] = self._learned(await lane.send([_ASKING, commands[place]]), 2)[1]
                continue
            again.append(place)
        for place, reply in zip(again, await self._ask([commands[place] for place in again]), strict=True):
            replies[place] = reply

    async def _forget_gone(self) -> None:
        """Close the lanes to nodes that have left the cluster."""
        if self._topology is not None:
            for name in self._lanes.keys() - self._topology.names():
                lane = self._lanes.pop(name)
                self._trips += lane.trips
                await lane.close()

    def _learned(self, outcome: "list[Any] | Exception", count: int) -> list[Any]:
        replies = [outcome] * count if isinstance(outcome, Exception) else outcome
        if self._topology is not None:
            self._topology.learn(replies)
        return replies

    # -- lanes

    def _lane_of(self, command: Asked) -> Lane:
        if self._topology is not None:
            return self._lane_to(self._topology.node_of(command.slot))
        lane = self._lanes.get("")
        if lane is None:
            pool = cast(Redis, self._client).connection_pool
            lane = self._lanes[""] = Lane(partial(_connection_of, pool))
        return lane

    def _lane_to(self, node: ClusterNode) -> Lane:
        lane = self._lanes.get(node.name)
        if lane is None:
            lane = self._lanes[node.name] = Lane(partial(connection_to, node))
        return lane


def _slot_in(keys: bytes) -> int:
    return key_slot(first_of(keys))


async def _outcome(call: Awaitable[list[Any]]) -> list[Any] | Unavailable:
    try:
        return await call
    except Unavailable as error:
        return error


def _raise_first(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


@asynccontextmanager
async def _connection_of(pool: Any) -> AsyncIterator[Any]:
    """A connection of the pool, connected; one that was closed meanwhile is connected anew."""
    connection = await pool.get_connection()
    try:
        yield connection
    finally:
        await pool.release(connection)
