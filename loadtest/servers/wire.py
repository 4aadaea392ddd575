"""Cuts what Redis and Postgres say to their clients, and hear from them, into whole replies and messages."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, Protocol

Speech = Literal["bytes", "resp", "postgres"]

# More than any reply of the stores. A peer that sends a longer one is cut off: this is no place to keep it.
MAX_UNIT_BYTES: Final = 64 * 2**20

_LENGTH: Final = struct.Struct("!i")
_SSL_REQUEST: Final = 80877103
_GSS_REQUEST: Final = 80877104
_STARTUP_KINDS: Final = {_SSL_REQUEST: "ssl", _GSS_REQUEST: "gss", 80877102: "cancel"}


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


@dataclass(frozen=True, slots=True)
class Unit:
    """A whole message, or, where the speech is unknown, the bytes of one read.

    `kind`: of RESP the first word in small letters (`publish`, `message`, `smessage`) or the first character;
    of Postgres the type's letter (`C`, `Z`, `B`), or startup, ssl, gss, cancel, answer. `detail`: the channel
    of a push, the second word of a command, the tag of a CommandComplete.
    """

    data: bytes
    kind: str = "bytes"
    detail: bytes = b""


class Cutter(Protocol):
    """Takes the bytes of one direction as they come and gives whole units."""

    def feed(self, data: bytes) -> Iterator[Unit]: ...


def cutters(speech: Speech) -> dict[Direction, Cutter]:
    """Make the pair for a new connection."""
    match speech:
        case "bytes":
            return {direction: Bytes() for direction in Direction}
        case "resp":
            return {direction: Resp() for direction in Direction}
        case "postgres":
            client = PostgresClient()
            return {Direction.TO_SERVER: client, Direction.TO_CLIENT: PostgresServer(client)}


class Bytes:
    """Whatever a read gives is a unit."""

    def feed(self, data: bytes) -> Iterator[Unit]:
        yield Unit(data)


class _Gathered:
    """Bytes that are not a whole unit yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Unit]:
        self._buffer += data
        at = 0
        try:
            while at < len(self._buffer) and (end := self._whole(at)) >= 0:
                unit = self._unit(bytes(self._buffer[at:end]))
                at = end
                yield unit
        finally:
            del self._buffer[:at]
        if len(self._buffer) > MAX_UNIT_BYTES:
            raise ConnectionError(f"a message of more than {MAX_UNIT_BYTES} bytes")

    def _whole(self, at: int) -> int:
        try:
            return self._end(at)
        except ValueError as error:
            raise ConnectionError(f"this is not what was to be spoken here: {error}") from error

    def _end(self, at: int) -> int:
        """Find where the unit that begins at `at` ends; -1 when that has not come yet."""
        raise NotImplementedError

    def _unit(self, data: bytes) -> Unit:
        raise NotImplementedError


class Resp(_Gathered):
    """RESP2 and RESP3: a unit is a whole reply, push or command."""

    def _end(self, at: int) -> int:
        return _resp_end(self._buffer, at)

    def _unit(self, data: bytes) -> Unit:
        words = _words(data)
        if not words:
            return Unit(data, chr(data[0]))
        return Unit(data, words[0].decode(errors="replace").lower(), words[1] if len(words) > 1 else b"")


def _resp_end(data: bytearray, at: int) -> int:
    line = data.find(b"\r\n", at)
    if line < 0:
        return -1
    mark, after = chr(data[at]), line + 2
    if mark in "$=!":
        length = int(data[at + 1 : line])
        end = after if length < 0 else after + length + 2
        return end if end <= len(data) else -1
    count = 0
    if mark in "*~>":
        count = int(data[at + 1 : line])
    elif mark in "%|":
        # A map counts pairs; an attribute stands before the reply that it is of.
        count = 2 * int(data[at + 1 : line]) + (mark == "|")
    for _ in range(count):
        if (after := _resp_end(data, after)) < 0:
            return -1
    return after


def _words(data: bytes) -> list[bytes]:
    """Read the first two strings of an array or push; none when it begins otherwise."""
    if data[:1] not in (b"*", b">"):
        return []
    found: list[bytes] = []
    at = data.index(b"\r\n") + 2
    while len(found) < 2 and data[at : at + 1] == b"$":
        line = data.index(b"\r\n", at)
        length = int(data[at + 1 : line])
        found.append(data[line + 2 : line + 2 + length])
        at = line + 4 + length
    return found


class PostgresClient(_Gathered):
    """What a Postgres client says: first packets without a type, then messages with one."""

    def __init__(self) -> None:
        super().__init__()
        self.is_started = False
        # After these two the server answers with one byte, which is no message.
        self.asked_to_encrypt = False
        self.is_encrypted = False

    def _end(self, at: int) -> int:
        if self.is_encrypted:
            return len(self._buffer)
        return _postgres_end(self._buffer, at, typed=self.is_started)

    def _unit(self, data: bytes) -> Unit:
        if self.is_encrypted:
            return Unit(data)
        if self.is_started:
            return Unit(data, chr(data[0]))
        code = _LENGTH.unpack_from(data, 4)[0] if len(data) >= 8 else 0
        kind = _STARTUP_KINDS.get(code, "startup")
        self.asked_to_encrypt = code in (_SSL_REQUEST, _GSS_REQUEST)
        self.is_started = kind == "startup"
        return Unit(data, kind)


class PostgresServer(_Gathered):
    """What a Postgres server says."""

    def __init__(self, client: PostgresClient) -> None:
        super().__init__()
        self._client = client

    def _end(self, at: int) -> int:
        if self._client.is_encrypted:
            return len(self._buffer)
        if self._client.asked_to_encrypt:
            return at + 1
        return _postgres_end(self._buffer, at, typed=True)

    def _unit(self, data: bytes) -> Unit:
        if self._client.is_encrypted:
            return Unit(data)
        if self._client.asked_to_encrypt:
            self._client.asked_to_encrypt = False
            self._client.is_encrypted = data in (b"S", b"G")
            return Unit(data, "answer")
        kind = chr(data[0])
        return Unit(data, kind, data[5:].rstrip(b"\0") if kind == "C" else b"")


def _postgres_end(data: bytearray, at: int, *, typed: bool) -> int:
    head = at + typed
    if len(data) < head + 4:
        return -1
    end = head + int(_LENGTH.unpack_from(data, head)[0])
    if end < head + 4:
        raise ConnectionError("this is not the protocol of Postgres")
    return end if end <= len(data) else -1
