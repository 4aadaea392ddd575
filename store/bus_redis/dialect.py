"""The two ways in which Redis carries pub/sub: to every node of it, or within one shard of a cluster."""

from typing import Final, NamedTuple


class Dialect(NamedTuple):
    """The words of one way, commands as they go over the wire."""

    is_sharded: bool
    publish: bytes
    subscribe: bytes
    unsubscribe: bytes
    message: bytes
    subscribed: bytes
    unsubscribed: bytes


def _dialect(letter: bytes) -> Dialect:
    publish, subscribe, unsubscribe = letter + b"publish", letter + b"subscribe", letter + b"unsubscribe"
    return Dialect(
        is_sharded=bool(letter),
        publish=b"*3\r\n$%d\r\n%b\r\n$" % (len(publish), publish.upper()),
        subscribe=b"*2\r\n$%d\r\n%b\r\n$" % (len(subscribe), subscribe.upper()),
        unsubscribe=b"*2\r\n$%d\r\n%b\r\n$" % (len(unsubscribe), unsubscribe.upper()),
        message=letter + b"message",
        subscribed=subscribe,
        unsubscribed=unsubscribe,
    )


ORDINARY: Final = _dialect(b"")

# Redis 7: a channel lives in the slot of its name, and what is published there stays within that shard.
# Ordinary pub/sub would cross the whole cluster with each payload.
SHARDED: Final = _dialect(b"s")
