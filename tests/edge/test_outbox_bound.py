"""What is never refused is bounded all the same."""

from gateway.edge.counters import Counters
from gateway.edge.handler import EdgeLimits
from gateway.edge.outbox import Flusher, Outbox


class Owner:
    def __init__(self) -> None:
        self.closed: list[int] = []

    def on_lagging(self) -> None:
        """Nothing is read here anyway."""

    def on_flowing(self, was_lagging: bool) -> None:
        raise AssertionError("nothing flows")

    def hasten(self, deadline: float) -> None:
        raise AssertionError("an outbox has no deadlines of its own")

    def close(self, code: int, reason: str) -> None:
        self.closed.append(code)


def test_replies_to_a_peer_that_never_reads_end_in_4001() -> None:
    limits = EdgeLimits(outbox_frames=8, outbox_bytes=1_000)
    for frame in (b"x", b"x" * 400):
        owner = Owner()
        outbox = Outbox(owner, lambda data: None, Flusher(), Counters(), limits)
        outbox.pause()
        count = 0
        while not owner.closed:
            outbox.put(frame)
            count += 1
            assert count < 100
        assert owner.closed == [4001]
        assert outbox.waiting_bytes <= 4 * 1_000 + 400
        assert outbox.waiting_frames <= 4 * 8 + 1
