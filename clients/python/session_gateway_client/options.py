"""What a client can be told to do differently. Each bound says what happens at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from ssl import SSLContext
from typing import Literal

from session_gateway_client.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of one client.

    Memory: a client holds at most, per session, `queue_messages` messages or `queue_bytes` (and one message
    more); the outbox; 16 frames that the socket has read ahead; and what the operating system buffers.
    Nothing grows with time.
    """

    name: str = "python"
    # Entering the client fails when there was no welcome by then; later losses are retried for ever.
    open_timeout_s: float = 30.0
    # One attempt: TCP, TLS, upgrade, hello, welcome.
    handshake_timeout_s: float = 10.0
    # A request without an answer by then fails with RequestTimeout.
    request_timeout_s: float = 15.0
    # A message without an ack for so long on a connection that seems alive: the connection is given up and
    # the message sent again on another. Above the gateway's own time limit for a commit.
    ack_timeout_s: float = 30.0
    # Unacked messages. Beyond either, send() raises OutboxFull. 4 MiB: 64 messages of the largest size.
    outbox_messages: int = 1000
    outbox_bytes: int = 4 * 2**20
    # Unacked messages of one session in flight at once. 1 keeps the order of send() calls whatever is refused
    # on the way; more is faster where that does not matter.
    window: int = 1
    # Messages received and not yet read, per session. Beyond either, the socket is not read any more (see
    # README).
    queue_messages: int = 256
    queue_bytes: int = 2**20
    # Events received and not yet read, per stream of them. Signals may fill half; then they are dropped. At
    # the end the oldest event is dropped.
    queue_events: int = 1024
    # Requests without an answer. Beyond it a request is refused, and a signal dropped.
    requests: int = 256
    # The largest frame: a page of 200 messages of 64 KiB.
    frame_bytes: int = 16 * 2**20
    proxy: str | Literal[True] | None = True
    ssl: SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    random: Random = field(default_factory=Random)
    clock: Clock = field(default_factory=SystemClock)
