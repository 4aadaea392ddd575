"""Which node of a Redis Cluster has which slot, as far as is known, and when to ask anew."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    RedisError,
    ResponseError,
)

from store.redis_client import TIMEOUT_S

# While a node is gone the others are asked who has its slots at most so often.
REFRESH_S: Final = 0.5


class Topology:
    """The map of a cluster. Its nodes and their connections are the client's."""

    def __init__(self, client: RedisCluster) -> None:
        self._nodes = client.nodes_manager
        self._asking = asyncio.Lock()
        self._is_stale = True
        self._ask_at = -math.inf
        self._fault = ""

    async def know(self) -> bool:
        """Ask the cluster for its map where there is none, or the one there is has proved wrong.

        True: asked. A cluster that does not tell is an error of the client's.
        """
        if not self._is_stale:
            return False
        async with self._asking:
            clock = asyncio.get_running_loop().time
            if not self._is_stale:
                return False
            if clock() < self._ask_at:
                if self._nodes.slots_cache:
                    return False
                # Whoever has waited for the answer to another is not to wait for one of its own as well.
                raise ConnectionError(f"the cluster does not tell who has which slots: {self._fault}")
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._nodes.initialize()
            except Exception as error:
                self._fault = str(error) or type(error).__name__
                self._ask_at = clock() + REFRESH_S
                raise
            # Not when the one who asked was cancelled: the next one asks, and is refused by nobody's fault.
            self._ask_at = clock() + REFRESH_S
            self._is_stale = False
        return True

    async def close(self) -> None:
        """Close the connections to all nodes."""
        await self._nodes.aclose()
        await self._nodes.aclose("startup_nodes")

    def node_of(self, slot: int) -> ClusterNode:
        """Who takes writes of this slot."""
        return self._nodes.get_node_from_slot(slot)

    def primaries(self) -> list[ClusterNode]:
        """All who take writes."""
        return self._nodes.get_nodes_by_server_type("primary")

    def names(self) -> set[str]:
        """All nodes there are."""
        return set(self._nodes.nodes_cache)

    async def moved(self, error: MovedError) -> None:
        """Follow a slot that has gone to another node; others may have gone with it."""
        self._is_stale = True
        await self._nodes.move_slot(error)

    def importing(self, error: AskError) -> ClusterNode:
        """The node to which a slot is on its way. ConnectionError when it is not known yet."""
        node = self._nodes.get_node(host=error.host, port=error.port)
        if node is None:
            self._is_stale = True
            raise ConnectionError(f"{error.host}:{error.port} has joined the cluster just now")
        return node

    def learn(self, replies: Iterable[Any]) -> None:
        """Take what came from a node as a sign that the map is old."""
        if any(
            isinstance(reply, ClusterDownError)
            or (isinstance(reply, RedisError | OSError) and not isinstance(reply, ResponseError))
            for reply in replies
        ):
            self._is_stale = True


@asynccontextmanager
async def connection_to(node: ClusterNode) -> AsyncIterator[Any]:
    """One of the node's connections, connected."""
    connection = node.acquire_connection()
    try:
        await node.disconnect_if_needed(connection)
        if connection.is_connected and await connection.can_read():
            # The node was started anew: this is the end of the connection to the old one.
            await connection.disconnect()
        await connection.connect()  # type: ignore[no-untyped-call]
        yield connection
    finally:
        node.release(connection)
