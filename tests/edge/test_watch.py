"""Before anything of a turn leaves the edge asks whether this process may still speak."""

import pytest

from gateway.edge.counters import Counters
from gateway.edge.handler import EdgeLimits
from gateway.edge.outbox import Flusher, Outbox
from tests.edge.test_outbox import Owner, Transport
from tests.waiting import turns


@pytest.mark.parametrize("count", [1, 3])
async def test_what_was_to_be_said_when_the_process_wakes_up_too_late_is_not_said(count: int) -> None:
    flusher, transport = Flusher(), Transport()
    transport.room = 1_000_000
    transport.outbox = outbox = Outbox(Owner(), transport.write, flusher, Counters(), EdgeLimits())
    for n in range(count):
        outbox.put(b"ack %d" % n)

    def late() -> None:
        flusher.watch = lambda: None
        outbox.drop()
        outbox.shut(b"close")

    flusher.watch = late
    await turns(2)
    assert transport.sent == b"close"
    assert outbox.is_empty


async def test_a_process_that_ran_says_what_it_has_to_say() -> None:
    flusher, transport = Flusher(), Transport()
    transport.room = 1_000_000
    transport.outbox = outbox = Outbox(Owner(), transport.write, flusher, Counters(), EdgeLimits())
    asked: list[bool] = []
    flusher.watch = lambda: asked.append(outbox.is_empty)
    outbox.put(b"ack")
    await turns(2)
    assert (transport.sent, asked) == (b"ack", [False])
