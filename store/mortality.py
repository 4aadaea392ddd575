"""Leases of nodes, and what lost ones have left, in the memory of a process: a part of live_memory."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from store.expiring import Expiring
from store.live import LOST_MS, Leave, Remains, Roll, life_of
from store.types import ConnectionEntry, NodeEntry

# More than there are in one process. Above these bounds what would expire first is forgotten early.
NODES: Final = 1_000
REMAINS: Final = 200_000

# What may be taken: a connection (tenant, id), or somebody about to be told to have left.
_Name: TypeAlias = "tuple[str, str] | Leave"


class Mortality:
    """Lives of nodes: running, lost, and done with. As the scripts of live_redis, by one clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._nodes: dict[str, tuple[float, NodeEntry]] = {}  # life → end of its lease
        self._lost: Expiring[str, float] = Expiring(monotonic, NODES)  # life → from when others see to it
        self._done: Expiring[str, bool] = Expiring(monotonic, NODES)
        self._remains: Expiring[tuple[str, _Name], ConnectionEntry | None] = Expiring(monotonic, REMAINS)
        self._claims: Expiring[tuple[str, _Name], bool] = Expiring(monotonic, REMAINS)

    def renew(self, node: NodeEntry, lease_ms: int, *, buries: bool) -> Roll:
        """As `Live.renew_node`."""
        now = self._monotonic()
        life = life_of(node.id, node.incarnation)
        is_lost = self._lost.get(life) is not None or self._done.get(life) is not None
        mine, _ = self._nodes.get(life, (now, node))
        buries = buries and mine - now >= lease_ms / 2000
        if not is_lost:
            self._nodes[life] = (now + lease_ms / 1000, node)
        found = [each for each, (ends, _) in self._nodes.items() if ends <= now] if buries else []
        for each in found:
            del self._nodes[each]
            self._lose(each, now)
        lost = [
            each
            for each in self._lost.names()
            if (since := self._lost.get(each)) is not None and since <= now
        ]
        return Roll(is_lost=is_lost, found=tuple(found), lost=tuple(lost))

    def retire(self, node: NodeEntry, grace_ms: int) -> None:
        """As `Live.retire_node`."""
        life = life_of(node.id, node.incarnation)
        self._nodes.pop(life, None)
        if self._lost.get(life) is None and self._done.get(life) is None:
            self._lose(life, self._monotonic() + grace_ms / 1000)

    def living(self) -> list[NodeEntry]:
        """Those whose lease runs."""
        now = self._monotonic()
        return [node for ends, node in self._nodes.values() if ends > now]

    def note(self, life: str, leave: Leave, lease_ms: int) -> None:
        """Note somebody who is about to be told to have left."""
        self._remains.put((life, leave), None, lease_ms)

    def leave(self, life: str, entry: ConnectionEntry) -> None:
        """Keep what a lost node has left until somebody has seen to it."""
        self._remains.put((life, (entry.tenant, entry.id)), entry, LOST_MS)

    def take(self, life: str, limit: int, claim_ms: int) -> Remains:
        """As `Live.take_lost`, of what was left and noted."""
        taken = [name for name in self._names(life) if self._claims.get((life, name)) is None][:limit]
        leaves: set[Leave] = set()
        connections: list[tuple[str, str]] = []
        noted: list[Leave] = []
        for name in taken:
            self._claims.put((life, name), True, claim_ms)
            entry = self._remains.get((life, name))
            if entry is not None:
                connections.append((entry.tenant, entry.id))
                leaves.update((entry.tenant, session, entry.user) for session in entry.sessions)
            elif len(name) == 3:
                noted.append(name)
        return Remains(
            life=life,
            connections=tuple(connections),
            cleaned=len(connections),
            leaves=tuple(leaves.union(noted)),
            noted=tuple(noted),
        )

    def release(self, life: str, names: Sequence[_Name]) -> None:
        """Somebody has seen to these."""
        for name in names:
            self._remains.pop((life, name))
            self._claims.pop((life, name))

    def finish(self, life: str) -> bool:
        """Whether a lost node has left nothing more, and nobody had said so."""
        if self._names(life) or self._lost.pop(life) is None:
            return False
        self._done.put(life, True, LOST_MS)
        return True

    def _lose(self, life: str, since: float) -> None:
        self._lost.put(life, since, LOST_MS)

    def _names(self, life: str) -> list[_Name]:
        return [name for one, name in self._remains.names() if one == life]
