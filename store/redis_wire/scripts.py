"""Commands, and scripts (`store/lua`) with calls of them that keep Redis for a short while only."""

from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")

Word: TypeAlias = "str | bytes | int | float"

_LUA: Final = Path(__file__).parent.parent / "lua"

# While Redis runs a script it does nothing else. A write of an index takes it about 4 µs, and so a call about
# a millisecond.
CALL_WRITES: Final = 250


class Script:
    """A script, and the name by which Redis knows it once it has seen it."""

    known: Final[dict[str, str]] = {}  # text by name, for a Redis that has not

    def __init__(self, name: str) -> None:
        text = (_LUA / f"{name}.lua").read_text("utf-8")
        self.sha = sha1(text.encode()).hexdigest()  # noqa: S324 (Redis names them so)
        self.known[self.sha] = text

    def call(self, keys: Sequence[str], *arguments: Word) -> "Command":
        """Make the command that runs it. The keys lie in one slot."""
        return Command(keys[0], ("EVALSHA", self.sha, len(keys), *keys, *arguments))


class Command(NamedTuple):
    """What is sent to the server that has `key`."""

    key: str
    words: tuple[Word, ...]

    def in_full(self) -> "Command":
        """The same call for a server that does not know the script yet, and knows it from then on."""
        _, sha, *rest = self.words
        return Command(self.key, ("EVAL", Script.known[str(sha)], *rest))


class Calls(Generic[T]):
    """Calls of one script for many subjects, cut by slot and so that none keeps Redis for long."""

    def __init__(self, script: Script, slot_of: Callable[[str], int], *head: Word) -> None:
        self._script = script
        self._slot_of = slot_of
        self._head = head
        self._open: dict[int, _Call[T]] = {}
        self._full: list[_Call[T]] = []

    def add(self, subject: T, keys: Sequence[str], arguments: Sequence[Word], writes: int) -> None:
        """Have the script run for a subject, which its answer tells by its place."""
        slot = self._slot_of(keys[0])
        call = self._open.get(slot)
        if call is None:
            call = self._open[slot] = _Call(self._head)
        call.subjects.append(subject)
        call.keys.extend(keys)
        call.arguments.extend(arguments)
        call.writes += writes
        if call.writes >= CALL_WRITES:
            self._full.append(self._open.pop(slot))

    def commands(self) -> list[tuple[Command, list[T]]]:
        """The calls, and the subjects of each in the order of their places."""
        calls = [*self._full, *self._open.values()]
        return [(self._script.call(call.keys, *call.arguments), call.subjects) for call in calls]


class _Call(Generic[T]):
    __slots__ = ("arguments", "keys", "subjects", "writes")

    def __init__(self, head: Sequence[Word]) -> None:
        self.subjects: list[T] = []
        self.keys: list[str] = []
        self.arguments: list[Word] = list(head)
        self.writes = 0
