"""Which rooms are settled, and what the log's tallies of them have to be. Pure; knows rooms by their ids.

A settled room was, at one moment, exactly as a reading of the log showed it. It then counts in a batch with
what that reading showed: as long as the log's tally of a batch is the sum over it, none of its sessions has
moved, and nothing can be missing in its rooms. Rooms only go forward, so whatever is heard meanwhile takes
nothing from that; who is settled and who is not is a matter of cost alone.
"""

from typing import Final

from store.log import Tallier
from store.types import Standing, Tally

# Rooms asked for in one query. With more, a hint that is still on its way when the log is asked would have
# more rooms read, and the encoding of their ids would hold up the loop for longer than a millisecond.
BATCH_ROOMS: Final = 2_000


def steps(standing: Standing) -> int:
    """What a session counts with in a tally."""
    return standing.head + standing.version + standing.epoch


class Batch:
    """Settled rooms that are asked for together: the id of each, and what it counts with."""

    __slots__ = ("counts", "steps", "tallier")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.steps = 0
        self.tallier: Tallier | None = None  # of these rooms; none once one has joined or left

    @property
    def tally(self) -> Tally:
        """What the log says of them if none has moved."""
        return Tally(sessions=len(self.counts), steps=self.steps)

    def put(self, room: str, count: int) -> None:
        """Have a room count with this, or a room more."""
        known = self.counts.get(room)
        if known is None:
            self.tallier = None
        self.steps += count - (known or 0)
        self.counts[room] = count

    def remove(self, room: str) -> None:
        """Let a room go."""
        self.steps -= self.counts.pop(room)
        self.tallier = None


class Settled:
    """Every hosted room: settled, or to be compared in full. Bounded by them: some 150 bytes for each room.

    A room may join and leave a batch at any time, also while the log is asked for its tally: whoever asks
    takes note of ids and sum in one turn.
    """

    def __init__(self) -> None:
        self._batches: set[Batch] = set()  # none of them empty
        self._filling = Batch()
        self._batch_of: dict[str, Batch] = {}
        self._unsettled: set[str] = set()

    def __contains__(self, room: str) -> bool:
        return room in self._batch_of

    @property
    def unsettled(self) -> list[str]:
        """The rooms to be compared in full."""
        return list(self._unsettled)

    def settle(self, room: str, count: int) -> None:
        """The room is as a reading showed it by which it counts with `count`."""
        batch = self._batch_of.get(room)
        if batch is None:
            self._unsettled.discard(room)
            batch = self._batch_of[room] = self._with_space()
        batch.put(room, count)

    def unsettle(self, room: str) -> None:
        """The room is new, or something was heard of it, or something is missing."""
        self._take_out(room)
        self._unsettled.add(room)

    def forget(self, room: str) -> None:
        """The room was closed."""
        self._take_out(room)
        self._unsettled.discard(room)

    def pack(self) -> list[Batch]:
        """Put small batches together, so that half of the space at most is empty; return all there are."""
        packed: list[Batch] = []
        for batch in sorted(self._batches, key=_size):
            if packed and _size(packed[-1]) + _size(batch) <= BATCH_ROOMS:
                self._move(batch, packed[-1])
            else:
                packed.append(batch)
        return packed

    def _move(self, batch: Batch, into: Batch) -> None:
        into.counts.update(batch.counts)
        into.steps += batch.steps
        into.tallier = None
        self._batch_of.update(dict.fromkeys(batch.counts, into))
        self._batches.discard(batch)
        batch.counts.clear()
        batch.steps, batch.tallier = 0, None

    def _with_space(self) -> Batch:
        if _size(self._filling) >= BATCH_ROOMS:
            self._filling = Batch()
        self._batches.add(self._filling)
        return self._filling

    def _take_out(self, room: str) -> None:
        batch = self._batch_of.pop(room, None)
        if batch is not None:
            batch.remove(room)
            if not batch.counts:
                self._batches.discard(batch)


def _size(batch: Batch) -> int:
    return len(batch.counts)
