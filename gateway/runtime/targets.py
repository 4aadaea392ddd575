"""Where connections are to go: one node that was named or chosen, or all nodes so that each has its share.

Pure: the register of nodes in, a decision out.
"""

from collections.abc import Collection, Sequence

import msgspec

from gateway.errors import BadRequest
from store.types import NodeEntry


class Transfer(msgspec.Struct, frozen=True):
    """So many connections from one node to another; `keep`: what the first has to keep."""

    source: str
    target: str
    count: int
    keep: int


def chosen(nodes: Sequence[NodeEntry], hosts: Collection[str], wanted: str | None) -> NodeEntry:
    """The target that was named, or the least loaded other one, where `hosts` have the connections.

    BadRequest, saying which nodes there are.
    """
    if wanted is not None:
        for node in nodes:
            if node.id == wanted:
                return _fit(node)
        names = ", ".join(node.id for node in nodes) or "none in the register"
        raise BadRequest(f"There is no node {wanted}. The nodes are: {names}.")
    fit = [node for node in nodes if not _unfit(node) and set(hosts) != {node.id}]
    if not fit:
        told = "; ".join(f"{node.id} {_unfit(node) or 'has the connections'}" for node in nodes)
        raise BadRequest(f"There is no other node to move to: {told or 'the register has none'}.")
    return min(fit, key=lambda node: (node.id in hosts, node.connections, node.id))


def _fit(node: NodeEntry) -> NodeEntry:
    if reason := _unfit(node):
        raise BadRequest(f"Nobody can be moved to {node.id}: it {reason}.")
    return node


def _unfit(node: NodeEntry) -> str:
    if node.is_leaving:
        return "is leaving"
    return "" if node.url is not None else "has no GATEWAY_ADVERTISE_URL"


def shares(nodes: Sequence[NodeEntry]) -> dict[str, int]:
    """How many connections each of the nodes that stay is to have, the same ± 1.

    A node that nobody can be sent to keeps what it has, where that is less.
    """
    pool = [node for node in nodes if not node.is_leaving]
    while low := [
        node
        for node in pool
        if node.url is None and node.connections * len(pool) <= sum(each.connections for each in pool)
    ]:
        pool = [node for node in pool if node not in low]
    if not pool:
        return {}
    share, rest = divmod(sum(node.connections for node in pool), len(pool))
    # Who has most keeps one more: that is one move less.
    pool.sort(key=lambda node: (-node.connections, node.id))
    return {node.id: share + (place < rest) for place, node in enumerate(pool)}


def plan(nodes: Sequence[NodeEntry]) -> list[Transfer]:
    """What has to move for each to have its share: no node both gives and takes, so nobody is moved twice."""
    wanted = shares(nodes)
    over = {node.id: node.connections - wanted.get(node.id, node.connections) for node in nodes}
    givers = [(name, surplus) for name, surplus in over.items() if surplus > 0]
    takers = [(name, -surplus) for name, surplus in over.items() if surplus < 0]
    transfers: list[Transfer] = []
    while givers and takers:
        (giver, surplus), (taker, room) = givers.pop(), takers.pop()
        count = min(surplus, room)
        transfers.append(Transfer(giver, taker, count, wanted[giver]))
        if surplus > count:
            givers.append((giver, surplus - count))
        if room > count:
            takers.append((taker, room - count))
    return transfers
