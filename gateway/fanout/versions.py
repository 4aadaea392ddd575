"""Puts the changes of one session back into order by their versions. Pure.

Hints of changes go in; out comes each once, in order, or it is known that one is missing. A change of a
member's right has to take effect after the one before it and before the one behind it, whichever came first.
"""

from typing import Final

from gateway.fanout.hints import ChangedHint, MemberHint

VersionedHint = ChangedHint | MemberHint

# Changes that wait for an earlier one, with documents of up to 128 KiB. More than this is loss, not disorder:
# the session is then read.
HELD: Final = 16


class Versions:
    """The version that the readers of one session have been told, and what waits behind a missing one."""

    __slots__ = ("_held", "known", "told")

    def __init__(self, version: int) -> None:
        self.told = version
        self.known = version  # the highest version heard of, in order or not
        self._held: dict[int, VersionedHint] = {}

    @property
    def has_hole(self) -> bool:
        """Whether a change is known of that the readers have not been told."""
        return self.known > self.told

    def offer(self, hint: VersionedHint) -> list[VersionedHint]:
        """Take the hint of a change; return those now due, ascending. Repeats are dropped."""
        if hint.version <= self.told:
            return []
        self.heard(hint.version)
        if len(self._held) < HELD or hint.version == self.told + 1:
            self._held[hint.version] = hint
        return self._due()

    def heard(self, version: int) -> bool:
        """Note that the session has at least this version; whether that shows a hole."""
        self.known = max(self.known, version)
        return self.has_hole

    def jump(self, version: int) -> list[VersionedHint]:
        """The readers learn of everything up to `version` in another way; return what is due behind it."""
        self.told = max(self.told, version)
        self.known = max(self.known, self.told)
        for old in [each for each in self._held if each <= self.told]:
            del self._held[old]
        return self._due()

    def _due(self) -> list[VersionedHint]:
        due = []
        while (hint := self._held.pop(self.told + 1, None)) is not None:
            self.told += 1
            due.append(hint)
        return due
