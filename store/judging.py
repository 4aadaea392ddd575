"""What becomes of the drafts of one group, one after the other, by the questions that `Log.append` promises.

Pure: what the database knows of each draft has been looked up, and what is to be stored comes out.
"""

from collections.abc import Mapping
from typing import NamedTuple

from store.documents import are_equal
from store.types import Appended, Draft, EndReason, Refused, Role


class First(NamedTuple):
    """The stored message that has the draft's session, sender and client id; `is_equal`: its payload too."""

    seq: int
    id: str
    created_at: int
    is_equal: bool


class Found(NamedTuple):
    """What the database knows of one draft: its session, its sender's role, and whether its ids are used."""

    head: int
    epoch: int
    end_reason: EndReason | None
    role: Role
    is_id_used: bool
    first: First | None


class Group:
    """The drafts of one call: decides about each in turn, knowing those before it."""

    def __init__(self, found: Mapping[int, Found]) -> None:
        self._found = found
        self._taken: dict[tuple[str, str, str], tuple[int, Draft]] = {}
        self._ids: set[str] = set()
        self.heads: dict[str, tuple[int, int]] = {}  # session → its head, and the time of that message
        self.fresh: list[tuple[int, Draft]] = []  # what is to be stored, with its seq

    def judge(self, place: int, draft: Draft) -> Appended | Refused:
        """Decide about a draft; nothing found for its place: there is no such session, or no such member."""
        found = self._found.get(place)
        if found is None:
            return Refused(code="not_found")
        if (known := self._known(found, draft)) is not None:
            return known
        if found.end_reason is not None:
            return Refused(code="expired" if found.end_reason == "expired" else "closed")
        if found.role == "reader":
            return Refused(code="forbidden")
        if draft.epoch is not None and draft.epoch < found.epoch:
            return Refused(code="superseded")
        return self._take(found.head, draft)

    def _known(self, found: Found, draft: Draft) -> Appended | Refused | None:
        """The outcome of a draft whose ids are used, in the database or by an earlier one of this group."""
        first = found.first or self._taken_before(draft)
        if first is None:
            is_used = found.is_id_used or draft.id in self._ids
            return Refused(code="id_conflict") if is_used else None
        if not first.is_equal:
            return Refused(code="id_conflict")
        return Appended(seq=first.seq, id=first.id, created_at=first.created_at, duplicate=True)

    def _taken_before(self, draft: Draft) -> First | None:
        taken = self._taken.get((draft.session, draft.sender, draft.client_id))
        if taken is None:
            return None
        seq, first = taken
        is_equal = (first.role, first.content) == (draft.role, draft.content)
        return First(seq, first.id, first.created_at, is_equal and are_equal(first.metadata, draft.metadata))

    def _take(self, stored_head: int, draft: Draft) -> Appended:
        head, _ = self.heads.get(draft.session, (stored_head, 0))
        seq = head + 1
        self.heads[draft.session] = (seq, draft.created_at)
        self._ids.add(draft.id)
        self._taken[draft.session, draft.sender, draft.client_id] = (seq, draft)
        self.fresh.append((seq, draft))
        return Appended(seq=seq, id=draft.id, created_at=draft.created_at)
