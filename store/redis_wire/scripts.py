"""Commands, and scripts (`store/lua`) with calls of them that keep Redis for a short while only."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha1
from itertools import accumulate
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

import hiredis
from redis.crc import key_slot

T = TypeVar("T")

Word: TypeAlias = "str | bytes | int | float"

_LUA: Final = Path(__file__).parent.parent / "lua"

# While Redis runs a script it does nothing else. A write of an index takes it about 4 µs, and so a call about
# a millisecond.
CALL_WRITES: Final = 250


class Script:
    """A script, and the name by which Redis knows it once it has seen it.

    Of many subjects in one call each has so many keys and arguments.
    """

    known: Final[dict[str, str]] = {}  # text by name, for a Redis that has not

    def __init__(self, name: str, *, keys: int = 1, arguments: int = 0) -> None:
        self.keys = keys
        self.arguments = arguments
        text = (_LUA / f"{name}.lua").read_text("utf-8")
        self.sha = sha1(text.encode()).hexdigest()  # noqa: S324 (Redis names them so)
        self.known[self.sha] = text
        self.by_name = words("EVALSHA", self.sha)
        self.by_text = words("EVAL", text)

    def call(self, keys: Sequence[str], *arguments: Word) -> "Command":
        """Make the command that runs it. The keys lie in one slot."""
        return Command(keys[0], ("EVALSHA", self.sha, len(keys), *keys, *arguments))


class Command(NamedTuple):
    """What is sent to the server that has `key`."""

    key: str
    words: tuple[Word, ...]

    @property
    def slot(self) -> int:
        """Where it is sent, on a cluster."""
        return key_slot(self.key.encode())

    def packed(self) -> bytes:
        """As it is sent."""
        return bytes(hiredis.pack_command(self.words))  # type: ignore[arg-type]

    def in_full(self) -> "Command":
        """The same call for a server that does not know the script yet, and knows it from then on."""
        _, sha, *rest = self.words
        return Command(self.key, ("EVAL", Script.known[str(sha)], *rest))


class Call(NamedTuple):
    """A call of a script, its words ready as they are sent, for the server that has a slot."""

    slot: int
    script: Script
    length: int  # of the body, in words
    body: bytes  # the number of keys, the keys, the arguments
    is_in_full: bool = False

    def packed(self) -> bytes:
        """As it is sent."""
        script = self.script.by_text if self.is_in_full else self.script.by_name
        return b"*%d\r\n%b%b" % (2 + self.length, script, self.body)

    def in_full(self) -> "Call":
        """The same call for a server that does not know the script yet, and knows it from then on."""
        return self._replace(is_in_full=True)


class Calls(Generic[T]):
    """Calls of one script for many subjects, cut by slot and so that none keeps Redis for long.

    `slot_in` tells the slot of keys as `words` packs them. None: all of them lie on one server.
    """

    def __init__(self, script: Script, slot_in: Callable[[bytes], int] | None, *head: Word) -> None:
        self._script = script
        self._slot_in = slot_in
        self._head = words(*head)
        self._heads = len(head)
        self._lot: _Lot[T] = _Lot([], [], [], [])

    def add(self, subject: T, keys: bytes, arguments: bytes, writes: int) -> None:
        """Have the script run for a subject, which its answer tells by its place.

        `words` of as many keys and arguments as the script takes for each.
        """
        self.extend((subject,), (keys,), (arguments,), (writes,))

    def extend(
        self, subjects: Iterable[T], keys: Iterable[bytes], arguments: Iterable[bytes], writes: Iterable[int]
    ) -> None:
        """As `add`, for each of many."""
        self._lot.subjects.extend(subjects)
        self._lot.keys.extend(keys)
        self._lot.arguments.extend(arguments)
        self._lot.writes.extend(writes)

    def commands(self) -> list[tuple[Call, list[T]]]:
        """The calls, and the subjects of each in the order of their places."""
        if self._slot_in is None:
            return list(self._cut(0, self._lot))
        by_slot: dict[int, list[int]] = {}
        for place, slot in enumerate(map(self._slot_in, self._lot.keys)):
            by_slot.setdefault(slot, []).append(place)
        return [
            call for slot, places in by_slot.items() for call in self._cut(slot, self._lot.those_at(places))
        ]

    def _cut(self, slot: int, lot: "_Lot[T]") -> Iterator[tuple[Call, list[T]]]:
        script = self._script
        begin = written = 0
        for end, total in enumerate(accumulate(lot.writes), 1):
            if total - written < CALL_WRITES and end < len(lot.writes):
                continue
            count = end - begin
            number = word(b"%d" % (count * script.keys))
            body = b"".join((number, *lot.keys[begin:end], self._head, *lot.arguments[begin:end]))
            length = 1 + self._heads + count * (script.keys + script.arguments)
            yield Call(slot, script, length, body), lot.subjects[begin:end]
            begin, written = end, total


class _Lot(NamedTuple, Generic[T]):
    """Subjects; for each its keys and arguments, and how much the script writes."""

    subjects: list[T]
    keys: list[bytes]
    arguments: list[bytes]
    writes: list[int]

    def those_at(self, places: Sequence[int]) -> "_Lot[T]":
        return _Lot(
            [self.subjects[place] for place in places],
            [self.keys[place] for place in places],
            [self.arguments[place] for place in places],
            [self.writes[place] for place in places],
        )


def word(data: bytes) -> bytes:
    """A word as it is sent within a command."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def words(*each: Word) -> bytes:
    """Words as they are sent; they may be kept, and joined to others."""
    packed: bytes = hiredis.pack_command(each)  # type: ignore[arg-type]
    return packed[packed.index(b"\n") + 1 :]


def first_of(packed: bytes) -> bytes:
    """The first of some words."""
    return packed[packed.index(b"\n") + 1 :].partition(b"\r")[0]
