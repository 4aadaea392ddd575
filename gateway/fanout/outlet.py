"""What fan-out and runtime may do with a socket. The edge implements it.

Nothing below the edge knows more of a socket.
"""

from typing import Protocol


class Outlet(Protocol):
    """The way out of one connection. All frames are complete WebSocket frames, shared between sockets and
    never changed.

    Everything put in one turn of the event loop leaves in one write. Nothing here waits; after `close`
    everything put is dropped silently.
    """

    @property
    def lagging(self) -> bool:
        """The peer reads too slowly: messages are refused until the handler's `on_drained` is called."""

    def put(self, frame: bytes) -> None:
        """Send a reply or control frame. Never refused.

        A lagging peer is not read from, so it asks for no more; should they pile up all the same, to
        several times
        the bound of the outlet, the connection is closed and its client resumes.
        """

    def put_message(self, frame: bytes) -> bool:
        """Send a frame that can be had again from the log. False: refused, the peer is lagging.

        Come back after `on_drained`.
        """

    def put_ephemeral(self, frame: bytes) -> bool:
        """Send a frame that nobody misses. False.

        Dropped and counted, as soon as anything is waiting for the peer.
        """

    def hasten(self, deadline: float) -> None:
        """Have the handler's `check` called no later than at this monotonic time."""

    def close(self, code: int, reason: str = "") -> None:
        """Send what is waiting, then a close frame, and end the connection in bounded time. Idempotent.

        The first code stands.
        """
