"""Sees connections to another node: has their node ask them, and finds out where they went.

What becomes of each is observed. Nodes are asked again and again, so a lost word costs a moment; and whatever
dies, each step has a moment at which it is over.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

from gateway.errors import RateLimited
from gateway.runtime.node_channel import Answer, Message, Move, Question, channel_of, encode

if TYPE_CHECKING:
    from gateway.protocol.replies import MigrateReason
    from gateway.runtime.node import Node
    from store.bus import Bus

# moved: it resumed on the target. refused: it came back elsewhere, or not at all. timed_out: neither in time.
Outcome = Literal["moved", "refused", "timed_out"]

# Connections of all tasks of one node, one of two tasks twice. Above it a task is refused: a node is asked of
# all of them, each tick.
STEPS: Final = 2_000
# Of one message: 20 KiB.
PART: Final = 500
# Who has left without having come elsewhere by then has left for good: clients are back within this or so.
GONE_S: Final = 5.0
# Clients are asked at this pace, as when a node leaves (gateway/runtime/drain.py); many within this time.
CALM_PER_S: Final = 10.0
SPREAD_S: Final = 20.0
# The least that a client has for its move, where nodes give nobody time when they leave.
LEAST_S: Final = 1.0


class Step:
    """One connection and what becomes of it."""

    __slots__ = (
        "came_to", "connection", "due", "gone_at", "is_asked", "outcome", "reason", "source", "target", "url",
        "user", "why",
    )  # fmt: skip

    def __init__(self, connection: str, user: str, source: str, target: str, url: str) -> None:
        self.connection = connection
        self.user = user
        self.source = source
        self.target = target
        self.url = url
        self.reason: MigrateReason = "operator"
        self.due = 0.0
        self.is_asked = False
        self.gone_at: float | None = None
        self.outcome: Outcome | None = None
        self.came_to: str | None = None
        self.why = ""

    def over(self, outcome: Outcome, came_to: str | None, why: str = "") -> None:
        """This is what became of it."""
        self.outcome, self.came_to, self.why = outcome, came_to, why

    def document(self) -> dict[str, object]:
        """As an operator is told."""
        return {
            "connection": self.connection,
            "user": self.user,
            "from": self.source,
            "outcome": self.outcome,
            "node": self.came_to,
            "why": self.why,
        }


class Escort:
    """All steps of one node's tasks. `tick` sends and settles; `hear` takes what nodes answer."""

    def __init__(self, node: "Node", bus: "Bus") -> None:
        self._node = node
        self._bus = bus
        self._slots: dict[str, int] = {}  # by connection, ms
        self._steps: dict[str, list[Step]] = {}  # those not over, by connection

    @property
    def room(self) -> int:
        """How many more there may be."""
        return STEPS - sum(map(len, self._steps.values()))

    @property
    def deadline_s(self) -> float:
        """What a client has for its move, from its slot on."""
        return max(LEAST_S, self._node.settings.drain_s)

    def take(self, steps: Sequence[Step], reason: "MigrateReason") -> float:
        """See to these. Returns when they will be over at the latest (monotonic). RateLimited."""
        if len(steps) > self.room:
            told = f"{STEPS} connections may be on their way for one node's tasks, {self.room} more by now"
            raise RateLimited(told, retry_after_ms=int(self.deadline_s * 1000))
        now, last = self._node.clock.monotonic(), 0.0
        for step, slot_ms in zip(steps, slots(len(steps)), strict=True):
            step.reason = reason
            step.due = now + slot_ms / 1000 + self.deadline_s
            last = max(last, step.due)
            self._slots[step.connection] = slot_ms
            self._steps.setdefault(step.connection, []).append(step)
        return last

    def say(self, node: str, message: Message) -> None:
        """Send something to a node. It may be lost."""
        self._bus.offer(channel_of(node), encode(message))

    def tick(self, nodes: Iterable[str]) -> None:
        """End what is over by now; ask and inquire about the rest, at these nodes and those concerned."""
        now = self._node.clock.monotonic()
        for steps in list(self._steps.values()):
            for step in steps:
                self._settle(step, now)
        self._forget()
        if self._steps:
            self._ask(now)
            self._inquire(nodes)

    def hear(self, answer: Answer) -> None:
        """Learn from a node. What comes late is no news: who was closed in the end comes back as well."""
        now = self._node.clock.monotonic()
        for step in self._of(answer.successors, now):
            if answer.node == step.target:
                step.over("moved", answer.node)
            else:
                step.over("refused", answer.node, "it came back, but not to the target")
        for step in self._of(answer.asked, now):
            step.is_asked = True
        for step in self._of(answer.gone, now):
            if step.source == answer.node and step.gone_at is None:
                step.gone_at = now
        self._forget()

    # -- how

    def _of(self, connections: Iterable[str], now: float) -> Iterator[Step]:
        for name in connections:
            for step in self._steps.get(name, ()):
                if step.outcome is None and now < step.due + (GONE_S if step.gone_at is not None else 0):
                    yield step

    def _settle(self, step: Step, now: float) -> None:
        if now >= step.due and step.gone_at is None:
            asked = "it did not move in time, and was closed" if step.is_asked else "its node did not answer"
            step.over("timed_out", None, asked)
        elif step.gone_at is not None and now >= step.gone_at + GONE_S:
            step.over("refused", None, "it left, and was seen nowhere since")

    def _forget(self) -> None:
        for name, steps in list(self._steps.items()):
            if all(step.outcome is not None for step in steps):
                del self._steps[name], self._slots[name]

    def _ask(self, now: float) -> None:
        unasked: dict[tuple[str, str, MigrateReason], list[tuple[str, int, int]]] = defaultdict(list)
        for name, steps in self._steps.items():
            step = steps[-1]
            left_ms = int((step.due - now) * 1000)
            if not step.is_asked and step.gone_at is None and left_ms > 0:
                ask = (name, min(self._slots[name], left_ms), left_ms)
                unasked[step.source, step.url, step.reason].append(ask)
        for (source, url, reason), asks in unasked.items():
            for start in range(0, len(asks), PART):
                self.say(source, Move(reason, url, tuple(asks[start : start + PART])))

    def _inquire(self, nodes: Iterable[str]) -> None:
        concerned = set(nodes)
        for steps in self._steps.values():
            concerned.update(name for step in steps for name in (step.source, step.target))
        everybody = list(self._steps)
        for start in range(0, len(everybody), PART):
            part = tuple(everybody[start : start + PART])
            for node in concerned:
                yours = tuple(name for name in part if self._steps[name][-1].source == node)
                self.say(node, Question(self._node.id, yours, part))


def slots(count: int) -> list[int]:
    """When each is to move (ms): at a calm pace, by chance inside its own share of the time."""
    share_ms = 1000 * min(1 / CALM_PER_S, SPREAD_S / max(1, count))
    return [int((place + random.random()) * share_ms) for place in range(count)]  # noqa: S311 - no secret
