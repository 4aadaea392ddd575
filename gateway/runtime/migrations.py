"""Moves that an operator asked for: tasks, how far each has come, and what came of it.

A task lives on the node that took it, and is written where every node finds it. It ends in bounded time.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

import structlog

from gateway import ids
from gateway.errors import BadRequest, NotFound, RateLimited
from gateway.protocol.replies import rfc3339
from gateway.runtime import targets
from gateway.runtime.escort import GONE_S, Escort, Step
from gateway.runtime.moving import Moving
from gateway.runtime.node_channel import Answer, Move, Pick, Picked, Question, channel_of, decode
from gateway.runtime.rebalance import Rebalance
from gateway.runtime.task_record import KEPT_MS, STORE_S, Kept, fetched, promptly, stored
from store.errors import Unavailable
from store.types import ConnectionEntry, NodeEntry

if TYPE_CHECKING:
    from gateway.runtime.node import Node
    from store.bus import Bus

Kind = Literal["session", "connection", "user"]
Document = dict[str, object]

# Of one node, under way. Above it an operator is told to wait, or to ask another node.
TASKS: Final = 100
# Finished ones that this node remembers itself; above it the oldest is found in the live store alone.
FINISHED: Final = 100
TICK_S: Final = 0.25
# How far a task has come is written when something has changed, and so often at the most.
WRITE_S: Final = 1.0
LISTED: Final = 100

_logger = structlog.get_logger("gateway.runtime")


class Migration:
    """One task."""

    def __init__(self, tenant: str, kind: Kind, subject: str, target: NodeEntry, steps: list[Step]) -> None:
        self.id = ids.new_id()
        self.tenant = tenant
        self.kind = kind
        self.subject = subject
        self.target = target.id
        self.steps = steps
        self.already_there = 0
        self.begun_at = self.ends_by = 0
        self.ended_at: int | None = None
        self.is_cut_short = False

    @property
    def counts(self) -> dict[str, int]:
        """Connections by what became of them."""
        outcomes = Counter(step.outcome or "waiting" for step in self.steps)
        return {outcome: outcomes[outcome] for outcome in ("waiting", "moved", "refused", "timed_out")}

    @property
    def state(self) -> str:
        """running, done, or abandoned by a node that was stopped meanwhile."""
        return "running" if self.ended_at is None else "abandoned" if self.is_cut_short else "done"

    def document(self, node: str) -> Document:
        """As an operator is told."""
        return {
            "id": self.id,
            "kind": self.kind,
            "subject": self.subject,
            "target": self.target,
            "state": self.state,
            "node": node,
            "begun_at": rfc3339(self.begun_at),
            "ends_by": rfc3339(self.ends_by),
            "ended_at": None if self.ended_at is None else rfc3339(self.ended_at),
            "connections": len(self.steps),
            "already_there": self.already_there,
            **self.counts,
            "outcomes": [step.document() for step in self.steps],
        }


class Migrations:
    """The tasks of one node, and its rebalancing. One loop sees to all of them, while there are any."""

    def __init__(self, node: "Node", bus: "Bus") -> None:
        self._node = node
        self._bus = bus
        self._escort = Escort(node, bus)
        self._running: dict[str, Migration] = {}
        self._finished: dict[str, Migration] = {}
        self._unwritten: set[str] = set()
        self._told: dict[str, dict[str, int]] = {}  # the counts that were written last
        self._is_turning = False
        self._nodes: list[NodeEntry] = []
        self.moving = Moving(node)
        self.rebalance = Rebalance(node, self._escort, self._turn)

    # -- the channel of this node

    async def listen(self) -> None:
        """Subscribe to this node's own channel. Where the bus is away it does so when it is back."""
        with suppress(Unavailable):
            await self._bus.subscribe(channel_of(self._node.id))

    def hear(self, payload: bytes) -> None:
        """Take what another node, or this one, has said. Never raises."""
        try:
            message = decode(payload)
        except ValueError:
            _logger.warning("unreadable_message", size=len(payload))
            return
        match message:
            case Move():
                self.moving.ask(message)
            case Question():
                self._escort.say(message.asker, self.moving.answer(message))
            case Pick():
                self._escort.say(message.asker, self.moving.pick(message))
            case Answer():
                self._escort.hear(message)
            case Picked():
                self.rebalance.picked(message)

    # -- for operators

    async def begin(self, tenant: str, kind: Kind, subject: str, target: str | None) -> Document:
        """Begin to move who is meant. NotFound: nobody. BadRequest: not there. RateLimited; Unavailable."""
        self._check_room()
        async with promptly():
            found = await self._connections(tenant, kind, subject)
            nodes = await self._node.live.nodes()
        alive = {node.id for node in nodes}
        here = [entry for entry in found if entry.node in alive]
        if not here:
            raise NotFound(f"There is no {kind} {subject} with a connection.")
        chosen = targets.chosen(nodes, {entry.node for entry in here}, target)
        steps = [
            Step(entry.id, entry.user, entry.node, chosen.id, chosen.url or "")
            for entry in here
            if entry.node != chosen.id
        ]
        if not steps:
            raise BadRequest(f"Whoever is meant is at {chosen.id} already: {len(here)} connections.")
        self._check_room()
        task = Migration(tenant, kind, subject, chosen, steps)
        self._take(task, len(here) - len(steps))
        await self._write_all()
        return task.document(self._node.id)

    async def find(self, tenant: str, task: str) -> Document:
        """How far a task has come, whichever node has it. NotFound; Unavailable."""
        own = self._running.get(task) or self._finished.get(task)
        if own is not None and own.tenant == tenant:
            return own.document(self._node.id)
        async with promptly():
            value = await self._node.live.task(tenant, task) if ids.is_id(task) else None
        if value is None:
            raise NotFound(f"There is no such task: it is remembered for {KEPT_MS // 60_000} minutes.")
        return fetched(value, self._node.clock.now_ms())

    async def all_of(self, tenant: str) -> list[Document]:
        """A tenant's tasks, latest first, without what became of each connection. Unavailable."""
        async with promptly():
            values = await self._node.live.tasks(tenant, limit=LISTED)
        documents = [fetched(value, self._node.clock.now_ms()) for value in values]
        for document in documents:
            del document["outcomes"]
        return documents

    # -- for whoever runs the nodes

    async def nodes(self) -> list[Document]:
        """The register of nodes. Unavailable."""
        async with promptly():
            nodes = await self._node.live.nodes()
        return [
            {
                "id": node.id,
                "url": node.url,
                "connections": node.connections,
                "leaving": node.is_leaving,
                "started_at": rfc3339(node.started_at),
            }
            for node in nodes
        ]

    async def even_out(self) -> Document:
        """Have all nodes share their connections; how far it has come. Unavailable."""
        return await self.rebalance.begin()

    async def evened_out(self) -> Document:
        """How far the latest rebalancing has come. Unavailable."""
        return await self.rebalance.told()

    # -- for this node

    def departed(self, connection: str) -> None:
        """A connection is gone from this node."""
        self.moving.departed(connection)

    async def finish(self) -> None:
        """Say of what is under way that nobody sees to it any more: the node stops."""
        for task in list(self._running.values()):
            task.is_cut_short = True
            self._end(task)
        self.rebalance.abandon()
        await self._write_all()

    # -- how

    def _check_room(self) -> None:
        if len(self._running) >= TASKS:
            wait_ms = int(self._escort.deadline_s * 1000)
            told = f"{TASKS} moves are under way on this node: wait for one to end, or ask another node"
            raise RateLimited(told, retry_after_ms=wait_ms)

    async def _connections(self, tenant: str, kind: Kind, subject: str) -> list[ConnectionEntry]:
        live = self._node.live
        match kind:
            case "session":
                return await live.connections_of_session(tenant, subject)
            case "user":
                return await live.connections_of_user(tenant, subject)
            case "connection":
                entry = await live.connection(tenant, subject)
                return [] if entry is None else [entry]

    def _take(self, task: Migration, already_there: int) -> None:
        last = self._escort.take(task.steps, "operator")
        clock = self._node.clock
        task.already_there = already_there
        task.begun_at = clock.now_ms()
        task.ends_by = task.begun_at + int((last - clock.monotonic() + GONE_S + STORE_S) * 1000)
        self._running[task.id] = task
        self._unwritten.add(task.id)
        count = len(task.steps)
        _logger.info("move_begun", task=task.id, kind=task.kind, target=task.target, connections=count)
        self._turn()

    def _turn(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            self._node.spawn(self._see_to_all())

    async def _see_to_all(self) -> None:
        """Go round until nothing is under way, and others know of it."""
        next_write = 0.0
        try:
            while self._is_under_way or self._unwritten or self.rebalance.is_to_be_told:
                await self._look()
                names = [node.id for node in self._nodes]
                self._escort.tick(names)
                self.rebalance.tick(self._nodes)
                for task in list(self._running.values()):
                    self._note(task)
                now = self._node.clock.monotonic()
                if now >= next_write or not self._is_under_way:
                    next_write = now + WRITE_S
                    await self._write_all()
                await asyncio.sleep(TICK_S if self._is_under_way else WRITE_S)
        finally:
            self._is_turning = False

    @property
    def _is_under_way(self) -> bool:
        return bool(self._running) or self.rebalance.is_running

    async def _look(self) -> None:
        """Which nodes there are; while nobody says, those that were there last."""
        with suppress(Unavailable):
            async with promptly():
                self._nodes = await self._node.live.nodes()

    def _note(self, task: Migration) -> None:
        counts = task.counts
        if self._told.get(task.id) != counts:
            self._told[task.id] = counts
            self._unwritten.add(task.id)
        if not counts["waiting"]:
            self._end(task)

    def _end(self, task: Migration) -> None:
        task.ended_at = self._node.clock.now_ms()
        del self._running[task.id]
        self._told.pop(task.id, None)
        self._finished[task.id] = task
        self._unwritten.add(task.id)
        for name, old in list(self._finished.items()):
            is_old = old.ended_at is not None and old.ended_at < task.ended_at - KEPT_MS
            if not is_old and len(self._finished) <= FINISHED:
                break
            del self._finished[name]
        _logger.info("move_ended", task=task.id, state=task.state, **task.counts)

    async def _write_all(self) -> None:
        with suppress(Unavailable):
            async with promptly():
                await self._write()
                await self.rebalance.write()

    async def _write(self) -> None:
        """Store what has changed, for other nodes. Unavailable: it is tried again."""
        for name in list(self._unwritten):
            task = self._running.get(name) or self._finished.get(name)
            self._unwritten.discard(name)
            if task is None:
                continue
            kept = Kept(task.ends_by, task.ended_at is not None, task.document(self._node.id))
            try:
                await self._node.live.put_task(task.tenant, name, stored(kept), ttl_ms=KEPT_MS)
            except (Unavailable, asyncio.CancelledError):
                self._unwritten.add(name)
                raise
