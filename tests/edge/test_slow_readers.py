"""Peers that do not read: they cost little, what they miss is known, and they are cut off in the end."""

import tracemalloc

from gateway.edge.frames import TEXT as TEXT_OPCODE
from gateway.edge.frames import frame
from tests.edge.peer import CLOSE, PING, PONG, TEXT, Peer, client_frame, closing
from tests.edge.serving import Recorder, Served, Start
from tests.waiting import until

# What the kernel keeps for these peers: little, so that tests need not send much.
KEPT = 4096


async def _fill(handler: Recorder, payload: bytes = b"x" * 4000) -> int:
    """Put messages until one is refused; return how many were taken."""
    taken = 0

    def refused() -> bool:
        nonlocal taken
        while handler.outlet.put_message(frame(TEXT_OPCODE, b"%08d" % taken + payload)):
            taken += 1
            if taken % 10 == 0:
                return False
        return True

    await until(refused)
    return taken


async def _receive(peer: Peer, count: int) -> None:
    for n in range(count):
        opcode, payload = await peer.frame()
        assert (opcode, int(payload[:8])) == (TEXT, n)


async def test_a_slow_reader_falls_into_lag_mode_and_gets_everything_it_was_promised(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    taken = await _fill(handler)
    outlet = handler.outlet
    assert outlet.lagging
    assert not outlet.put_message(frame(TEXT_OPCODE, b"refused"))
    assert not outlet.put_ephemeral(frame(TEXT_OPCODE, b"dropped"))
    assert served.edge.counters.lags == 1
    assert served.edge.counters.dropped_ephemerals == 1
    assert handler.drained == 0
    peer.read_again()
    await _receive(peer, taken)
    await until(lambda: handler.drained == 1)
    assert not outlet.lagging
    assert outlet.put_message(frame(TEXT_OPCODE, b"again"))
    assert outlet.put_ephemeral(frame(TEXT_OPCODE, b"ephemeral"))
    assert await peer.frame() == (TEXT, b"again")
    assert await peer.frame() == (TEXT, b"ephemeral")


async def test_lag_mode_begins_at_256_frames(serve: Start) -> None:
    served = await serve(outbox_frames=10)
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    await _fill(handler)
    outbox = next(iter(served.edge.sockets)).outbox
    assert outbox.waiting_frames == 10


async def test_lag_mode_begins_at_one_mebibyte(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    await _fill(handler, b"x" * 50_000)
    outbox = next(iter(served.edge.sockets)).outbox
    assert 1_000_000 - 50_000 < outbox.waiting_bytes <= 1_048_576


async def test_one_turn_can_not_overrun_the_bound(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    big = frame(TEXT_OPCODE, b"x" * 60_000)
    taken = sum(handler.outlet.put_message(big) for _ in range(2000))
    # The kernel takes some megabytes, the outbox one, of 120.
    assert taken * len(big) < 10_000_000
    assert next(iter(served.edge.sockets)).outbox.waiting_bytes <= 1_048_576


async def test_nothing_is_read_from_a_lagging_peer(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    taken = await _fill(handler)
    peer.send(client_frame(TEXT, b"a request"), client_frame(PING, b"ping"))
    await served.settle()
    assert not handler.texts
    # Not its fault that it is not heard: it is not silent, and it moves on.
    served.pass_time(20.0)
    peer.read_again()
    await _receive(peer, taken)
    await until(lambda: handler.texts == [b"a request"])
    assert not handler.closed


async def test_replies_count_towards_the_bound_too(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    answers = 0

    def answer(data: bytes) -> None:
        nonlocal answers
        answers += 1
        handler.outlet.put(frame(TEXT_OPCODE, b"%08d" % (answers - 1) + b"x" * 100_000))

    handler.act = answer
    await peer.pour(client_frame(TEXT, b"history") * 100, until=lambda: handler.outlet.lagging)
    before = answers
    await served.settle()
    assert answers == before, "went on answering"
    peer.read_again()
    await _receive(peer, before)


async def test_a_peer_that_reads_nothing_for_thirty_seconds_is_closed_with_4001(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    await _fill(handler)
    for _ in range(8):
        served.pass_time(5.0)
    assert served.edge.counters.stalls == 1
    assert not handler.closed
    # It does not read the close frame either.
    served.pass_time(1.5)
    await until(lambda: handler.closed == [4001])


async def test_a_peer_that_reads_slowly_is_not_closed(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    taken = await _fill(handler)
    outbox = next(iter(served.edge.sockets)).outbox
    peer.read_again()
    for n in range(5):
        # 80 KB in 20 s.
        for _ in range(20):
            await peer.frame()
        await served.settle()
        assert outbox.blocked, n
        for _ in range(4):
            served.pass_time(5.0)
    assert served.edge.counters.stalls == 0
    assert not handler.closed
    assert taken > 100


async def test_a_slow_reader_that_reads_again_in_time_sees_the_close(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    taken = await _fill(handler)
    handler.outlet.close(4000, "node_leaving")
    peer.read_again()
    await _receive(peer, taken)
    assert (await peer.frame())[0] == CLOSE
    peer.send(closing(4000))
    await until(lambda: handler.closed == [4000])
    assert handler.drained == 0


async def test_a_fault_of_a_slow_reader_is_told_when_it_reads_again(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    # Blocked, but not lagging yet: it is still read from.
    socket = next(iter(served.edge.sockets))
    sent = 0

    def blocked() -> bool:
        nonlocal sent
        handler.outlet.put_message(frame(TEXT_OPCODE, b"%08d" % sent + b"x" * 40_000))
        sent += 1
        return socket.outbox.blocked

    await until(blocked)
    peer.send(client_frame(0x3))
    await until(lambda: served.edge.counters.violations == 1)
    peer.read_again()
    await _receive(peer, sent)
    assert (await peer.frame())[0] == CLOSE
    await peer.ended()


async def test_one_that_never_reads_costs_little_and_slows_nobody(served: Served) -> None:
    slow, slow_handler = await served.pair(KEPT)
    slow.stop_reading()
    quick, quick_handler = await served.pair()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(1000):
            # 50 MB in all, each message other bytes.
            message = frame(TEXT_OPCODE, b"%08d" % n + b"x" * 50_000)
            slow_handler.outlet.put_message(message)
            assert quick_handler.outlet.put_message(message)
            opcode, payload = await quick.frame()
            assert (opcode, int(payload[:8])) == (TEXT, n)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4 * 1024 * 1024
    assert slow_handler.outlet.lagging


# -- floods


async def test_who_pings_too_much_is_closed_with_4029(served: Served) -> None:
    peer, handler = await served.pair()
    peer.send(client_frame(PING, b"x") * 30)
    for _ in range(20):
        assert await peer.frame() == (PONG, b"x")
    assert (await peer.frame()) == (CLOSE, (4029).to_bytes(2) + b"flooding")
    await peer.ended()
    await peer.leave()
    await until(lambda: handler.closed == [4029])
    assert served.edge.counters.floods == 1


async def test_ten_pings_a_second_are_fine(served: Served) -> None:
    peer, handler = await served.pair()
    for _ in range(10):
        peer.send(client_frame(PING, b"x") * 10)
        for _ in range(10):
            assert await peer.frame() == (PONG, b"x")
        served.clock.push(1.0)
    assert not handler.closed


async def test_pongs_nobody_asked_for_are_counted_as_well(served: Served) -> None:
    peer = await served.connect()
    peer.send(client_frame(PONG, b"rtt") * 30)
    assert await peer.closed_with() == 4029


async def test_one_that_pings_and_never_reads_is_owed_one_pong_only(serve: Start) -> None:
    served = await serve(pings_per_s=100_000)
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    socket = next(iter(served.edge.sockets))
    await peer.pour(client_frame(PING, b"x" * 125) * 1000, until=lambda: socket.outbox.blocked)
    peer.send(client_frame(PING, b"last but one"), client_frame(PING, b"last"))
    await served.settle()
    waiting = socket.outbox.waiting_frames
    assert waiting < 300
    peer.read_again()
    payload = b""
    while payload != b"last":
        opcode, payload = await peer.frame()
        assert opcode == PONG
        assert payload != b"last but one"
    assert not handler.closed


async def test_a_flood_without_reading_is_closed_with_4029_and_bounded(served: Served) -> None:
    peer, handler = await served.pair(KEPT)
    peer.stop_reading()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await peer.pour(
            client_frame(PING, b"x" * 125) * 1000, until=lambda: bool(served.edge.counters.floods)
        )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4 * 1024 * 1024
    served.pass_time(1.5)
    await until(lambda: handler.closed == [4029])
