"""This node's own part in a move: it asks its clients, and says of connections whether they are here.

Who asks for a move, and what becomes of it, is known elsewhere: gateway/runtime/escort.py.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from gateway.protocol.peer import State
from gateway.runtime.node_channel import Answer, Move, Pick, Picked, Question

if TYPE_CHECKING:
    from gateway.runtime.connection import Connection
    from gateway.runtime.node import Node


class Moving:
    """Asks each connection once: its client moves one time, and is closed when the deadline has passed."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._asked: set[str] = set()  # connections that are here; no more than there are

    def departed(self, connection: str) -> None:
        """A connection is gone."""
        self._asked.discard(connection)

    def ask(self, move: Move) -> None:
        """Ask those who are here and may be asked. Others may come to be: who wants it asks again."""
        now = self._node.clock.monotonic()
        for name, slot_ms, deadline_ms in move.asks:
            connection = self._node.connections.get(name)
            if connection is None or name in self._asked or not _is_welcome(connection):
                continue
            self._asked.add(name)
            connection.leave_by(now + deadline_ms / 1000)
            connection.ask_to_move(move.reason, slot_ms, deadline_ms, move.url)

    def answer(self, question: Question) -> Answer:
        """Say what is known here of these connections."""
        connections = self._node.connections
        anybodys = set(question.anybodys)
        return Answer(
            node=self._node.id,
            asked=tuple(name for name in question.yours if name in self._asked),
            gone=tuple(name for name in question.yours if not _is_here(connections.get(name))),
            successors=tuple(
                each.predecessor
                for each in connections.values()
                if each.predecessor is not None and each.predecessor in anybodys and _is_welcome(each)
            ),
        )

    def pick(self, wanted: Pick) -> Picked:
        """Name some that may be asked to move, the same ones until they were."""
        surplus = sum(_is_here(each) for each in self._node.connections.values()) - wanted.above
        # Who was asked is here still, but will not be.
        surplus -= sum(_is_here(self._node.connections.get(name)) for name in self._asked)
        count = max(0, min(wanted.count, surplus))
        picked = tuple((each.id, each.user) for each in islice(self._movable(), count))
        return Picked(self._node.id, picked)

    def _movable(self) -> "Iterator[Connection]":
        for each in self._node.connections.values():
            if each.peer.state is State.OPEN and _is_welcome(each) and each.id not in self._asked:
                yield each


def _is_here(connection: "Connection | None") -> bool:
    return connection is not None and not connection.is_closed and not connection.is_handed_over


def _is_welcome(connection: "Connection") -> bool:
    is_open = connection.peer.state in (State.OPEN, State.DRAINING)
    return is_open and not connection.is_over and not connection.is_handed_over
