"""What nodes say to each other about connections that move, each on the other's own channel of the bus.

Any of it may be lost, or come twice: whoever asks asks again, and nothing is done twice.
"""

from typing import Final

import msgspec

from gateway.protocol.replies import MigrateReason


class Move(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """Ask these of your connections to move to `url`: their ids, each with a slot and a deadline in ms."""

    reason: MigrateReason
    url: str
    asks: tuple[tuple[str, int, int], ...]


class Question(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """Which of `yours` have you still, and whose place has somebody taken at your node, of `anybodys`?"""

    asker: str
    yours: tuple[str, ...]
    anybodys: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """To a question: who has been asked to move, who is gone, and who has come in whose place."""

    node: str
    asked: tuple[str, ...]
    gone: tuple[str, ...]
    successors: tuple[str, ...]


class Pick(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """Name so many of your connections that may be asked to move, of those you have `above` this number."""

    asker: str
    count: int
    above: int


class Picked(msgspec.Struct, frozen=True, tag=5, array_like=True):
    """These: connection and user."""

    node: str
    connections: tuple[tuple[str, str], ...]


Message = Move | Question | Answer | Pick | Picked

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Make the payload of a message."""
    return _encoder.encode(message)


def decode(payload: bytes) -> Message:
    """Read a payload. ValueError when it is none of ours."""
    return _decoder.decode(payload)


def is_a_nodes(channel: str) -> bool:
    """Whether this is the channel of a node. A node hears its own only."""
    return channel.startswith("n:")


def channel_of(node: str) -> str:
    """The channel of one node."""
    return f"n:{node}"
